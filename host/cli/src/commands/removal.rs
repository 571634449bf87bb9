//! `framework remove`: what would end and what would be left, and the removal itself.

use proffer_model::Resources;
use proffer_rpc::operator::{
    Left, LeftBehind, PlanRemoval, RemovalPlan, RemoveFramework, ReservationFate, StatusQuery,
};
use serde_json::{Value, json};

use super::list::print_or;
use super::{connect, task};
use crate::args::{FrameworkRemove, Reservations};
use crate::failure::Failure;
use crate::json;
use crate::settings::Settings;
use crate::table::Columns;

pub(crate) async fn remove(
    command: FrameworkRemove,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    let FrameworkRemove {
        name,
        dry_run,
        reservations,
    } = command;
    let reservations = match reservations {
        Reservations::Keep => ReservationFate::Keep,
        Reservations::Release => ReservationFate::Release,
        Reservations::Wipe => ReservationFate::Wipe,
    };
    let client = connect(settings).await?;
    if !dry_run {
        let said = json!({ "removed": name });
        let remove = RemoveFramework { name, reservations };
        client.remove_framework(remove).await?;
        json::done(as_json, || said);
        return Ok(());
    }
    let plan = PlanRemoval { name, reservations };
    let plan = client.plan_removal(plan).await?;
    if as_json {
        json::print(&in_json(&plan));
    } else {
        let now = client.status(StatusQuery {}).await?.now;
        print_or(&task::table(&plan.tasks, now), "no task of it runs");
        if !plan.left.is_empty() {
            print_or(&table(&plan.left), "");
        }
        outln!("{}", in_words(&plan));
    }
    // A script that asks first is told as the removal itself would tell it.
    match plan.refused.is_empty() {
        true => Ok(()),
        false => Err(Failure::Conflict(plan.refused).into()),
    }
}

fn in_words(plan: &RemovalPlan) -> String {
    format!(
        "{} tasks would be killed; {} of them on agents that are away, presumed to end\n\
         {} reservations and volumes would stay; {} reservations would be released, {} volumes wiped",
        plan.tasks_active, plan.tasks_away, plan.kept, plan.released, plan.wiped
    )
}

fn in_json(plan: &RemovalPlan) -> Value {
    let RemovalPlan {
        tasks_active,
        tasks_away,
        tasks,
        kept,
        released,
        wiped,
        left,
        refused,
    } = plan;
    let refused = (!refused.is_empty()).then_some(refused);
    json!({
        "tasks_active": tasks_active, "tasks_away": tasks_away,
        "tasks": json::list(tasks, json::task),
        "kept": kept, "released": released, "wiped": wiped,
        "left": json::list(left, left_in_json), "refused": refused,
    })
}

fn left_in_json(left: &LeftBehind) -> Value {
    json!({
        "agent": left.agent.to_string(), "hostname": left.hostname,
        "role": role_of(&left.resources), "label": label_of(&left.resources),
        "volume": volume_of(&left.resources), "resources": json::resources(&left.resources),
        "shared_role": left.shared_role, "becomes": becomes(left.becomes),
    })
}

fn becomes(left: Left) -> &'static str {
    match left {
        Left::Kept => "kept",
        Left::Released => "released",
        Left::Wiped => "wiped",
    }
}

fn table(left: &[LeftBehind]) -> Columns {
    let mut columns = Columns::new(&["AGENT", "ROLE", "RESERVED", "VOLUME", "BECOMES"]);
    for left in left {
        let why = match left.shared_role {
            true => ": others are in the role",
            false => "",
        };
        let amounts: Vec<String> = (left.resources.piles())
            .map(|(_, bundle)| bundle.to_string())
            .collect();
        columns.row([
            left.hostname.clone(),
            role_of(&left.resources).to_owned(),
            amounts.join(", "),
            volume_of(&left.resources).unwrap_or("-").to_owned(),
            format!("{}{why}", becomes(left.becomes)),
        ]);
    }
    columns
}

fn role_of(resources: &Resources) -> &str {
    let role = resources
        .piles()
        .find_map(|(terms, _)| terms.reserved.last());
    role.map_or("", |role| role.as_str())
}

fn label_of(resources: &Resources) -> Option<&str> {
    let mut labels = resources.piles().map(|(terms, _)| terms.label.as_str());
    labels.find(|label| !label.is_empty())
}

fn volume_of(resources: &Resources) -> Option<&str> {
    let mut volumes = resources.piles().map(|(terms, _)| terms.volume.as_str());
    volumes.find(|volume| !volume.is_empty())
}
