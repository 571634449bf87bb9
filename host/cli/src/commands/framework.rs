//! `framework`: adding (after it was shown what it asks for), listing, showing, removing.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use proffer_model::RoleName;
use proffer_rpc::operator::{
    AddFramework, COMPONENT_BYTES_MAX, Framework as Row, FrameworkDetail, FrameworkName,
    FrameworkQuery, InspectComponent, OperatorClient, Plugin, ResumeFramework, SkipEvent,
    UpgradeFramework,
};
use serde_json::json;

use super::connect;
use super::list::{ROWS_MAX, print_or};
use super::removal;
use crate::args::{Framework, FrameworkRun, FrameworkUpgrade};
use crate::failure::Failure;
use crate::input;
use crate::json::{self, collect};
use crate::settings::Settings;
use crate::show;
use crate::table::{Columns, printable};

/// Loading takes some seconds for a large component (a Python interpreter compiles for 16 s), the first
/// step at most its budget.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) async fn run(
    command: Framework,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    match command {
        Framework::Run(run) => add(run, settings, as_json).await,
        Framework::List => list(&connect(settings).await?, as_json).await,
        Framework::Show { name } => {
            let detail = connect(settings)
                .await?
                .framework(FrameworkName { name })
                .await?;
            if as_json {
                json::print(&json::framework_detail(&detail));
            } else {
                print_detail(&detail);
            }
            Ok(())
        }
        Framework::Upgrade(command) => upgrade(command, settings, as_json).await,
        Framework::Remove(command) => removal::remove(command, settings, as_json).await,
        Framework::SkipEvent { name, event } => {
            let client = connect(settings).await?;
            let said = json!({ "name": name, "skipped": event });
            client.skip_event(SkipEvent { name, event }).await?;
            json::done(as_json, || said);
            Ok(())
        }
        Framework::Resume { name } => {
            let client = connect(settings).await?;
            let said = json!({ "resumed": name });
            client.resume_framework(ResumeFramework { name }).await?;
            json::done(as_json, || said);
            Ok(())
        }
    }
}

async fn add(run: FrameworkRun, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let component = read_component(&run.file)?;
    let config = read_config(run.config.as_deref())?.unwrap_or_default();
    let roles = run
        .role
        .iter()
        .map(|role| RoleName::new(role.as_str()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let client = connect(settings).await?;
    let plugin = approved(&client, &component, &run.file, run.approve).await?;
    let added = client
        .add_framework(AddFramework {
            name: run.name.unwrap_or_default(),
            component,
            roles,
            config,
            approved: plugin.imports.clone(),
        })
        .await?;
    started(&client, &added.name).await?;
    if as_json {
        let id = added.id.to_string();
        json::print(&json!({ "id": id, "name": added.name, "digest": added.digest }));
    } else {
        outln!("{} runs as {}", added.name, added.id);
    }
    Ok(())
}

/// Waits until it has committed its first step. One that fails at it stays, so that it can be looked at.
async fn started(client: &OperatorClient, name: &str) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + STARTED_WITHIN;
    loop {
        let name = name.to_owned();
        let detail = client
            .framework(FrameworkName { name: name.clone() })
            .await?;
        if detail.steps > 0 {
            return Ok(());
        }
        if let Some(fault) = &detail.last_fault {
            anyhow::bail!(
                "{name} was added and fails at its start: {}; `proffer framework show {name}` says more, \
                 `proffer framework upgrade {name} FILE` mends it, `proffer framework remove {name}` takes it away",
                printable(&fault.to_string())
            );
        }
        if tokio::time::Instant::now() > deadline {
            anyhow::bail!(
                "{name} was added and has not started after {}; `proffer framework show {name}` says how it stands",
                show::span(proffer_model::Duration::from_secs(STARTED_WITHIN.as_secs()))
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn upgrade(
    command: FrameworkUpgrade,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    let component = read_component(&command.file)?;
    let config = read_config(command.config.as_deref())?;
    let client = connect(settings).await?;
    let plugin = approved(&client, &component, &command.file, command.approve).await?;
    let upgrade = UpgradeFramework {
        name: command.name.clone(),
        component,
        config,
        approved: plugin.imports.clone(),
    };
    let upgraded = client.upgrade_framework(upgrade).await?;
    if as_json {
        json::print(&json!({
            "name": command.name, "from": upgraded.from, "version": upgraded.version,
            "digest": upgraded.digest,
        }));
    } else {
        outln!(
            "{} runs {}; it was {}",
            command.name,
            upgraded.version,
            upgraded.from
        );
    }
    Ok(())
}

pub(crate) fn read_config(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let text = input::read_text(path)
        .with_context(|| Failure::Usage(format!("cannot read {}", path.display())))?;
    Ok(Some(text))
}

/// Says what a component is and asks for, and has it approved.
async fn approved(
    client: &OperatorClient,
    component: &Bytes,
    file: &Path,
    unasked: bool,
) -> anyhow::Result<Plugin> {
    let inspect = InspectComponent {
        component: component.clone(),
    };
    let plugin = client
        .inspect(inspect)
        .await
        .with_context(|| format!("{} cannot be run", file.display()))?;
    err!("{}", asks_for(&plugin));
    if !unasked && !approved_by_a_person(&plugin)? {
        return Err(Failure::Denied("not approved; nothing was changed".into()).into());
    }
    Ok(plugin)
}

/// A component's bytes, if the file can be one.
pub(crate) fn read_component(path: &Path) -> anyhow::Result<Bytes> {
    let bytes = input::read(path, COMPONENT_BYTES_MAX as u64).with_context(|| {
        let text = format!("cannot read the component {}", path.display());
        match path.exists() {
            true => Failure::Usage(text),
            false => Failure::NotFound(text),
        }
    })?;
    Ok(bytes.into())
}

/// What an operator approves, in words.
pub(crate) fn asks_for(plugin: &Plugin) -> String {
    let mut text = format!(
        "{} {} ({}, contract {}, {}, {})\n",
        printable(&plugin.name),
        printable(&plugin.version),
        printable(&plugin.world),
        printable(&plugin.contract),
        show::bytes(plugin.size),
        show::short_digest(&plugin.digest),
    );
    if !plugin.description.is_empty() {
        text.push_str(&format!("  {}\n", printable(&plugin.description)));
    }
    let list = |items: &[String]| match items.is_empty() {
        true => "nothing".to_owned(),
        false => printable(&items.join(", ")),
    };
    text.push_str(&format!("  asks for   {}\n", list(&plugin.imports)));
    text.push_str(&format!("  roles      {}\n", list(&plugin.roles)));
    let limits: Vec<String> = plugin
        .limits
        .iter()
        .map(|limit| format!("{} {}", limit.name, limit.value))
        .collect();
    text.push_str(&format!("  limits     {}\n", list(&limits)));
    text
}

fn approved_by_a_person(plugin: &Plugin) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        let text = format!(
            "{} has to be approved: nobody can be asked here, so give --approve",
            plugin.name
        );
        return Err(Failure::Denied(text).into());
    }
    err!("Run it? [y/N] ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn list(client: &OperatorClient, as_json: bool) -> anyhow::Result<()> {
    let rows = collect(ROWS_MAX, |page| client.frameworks(FrameworkQuery { page })).await?;
    if as_json {
        json::print(&json::list(&rows, json::framework));
        return Ok(());
    }
    print_or(
        &table(&rows),
        "no frameworks; add one with `proffer framework run FILE`",
    );
    Ok(())
}

fn table(rows: &[Row]) -> Columns {
    let headings = [
        "FRAMEWORK",
        "VERSION",
        "STATE",
        ">TASKS",
        ">SHARE",
        ">OFFERS",
        ">ACCEPTED",
        ">DECLINED",
        "ROLES",
        "DIGEST",
    ];
    let mut columns = Columns::new(&headings);
    for row in rows {
        let roles: Vec<&str> = row.roles.iter().map(RoleName::as_str).collect();
        columns.row([
            row.name.clone(),
            row.version.clone(),
            row.state.name().to_owned(),
            row.tasks_active.to_string(),
            show::share(row.share_milli),
            row.offers.made.to_string(),
            row.offers.accepted.to_string(),
            row.offers.declined.to_string(),
            roles.join(","),
            show::short_digest(&row.digest),
        ]);
    }
    columns
}

fn print_detail(detail: &FrameworkDetail) {
    let framework = &detail.framework;
    out!("{}", table(std::slice::from_ref(framework)));
    outln!("\nid         {}", framework.id);
    outln!("digest     {}", framework.digest);
    outln!("uses       {}", framework.used);
    outln!(
        "steps      {} committed, {} failed",
        detail.steps,
        detail.steps_failed
    );
    if let Some(why) = &framework.why {
        outln!("why        {}", printable(&why.to_string()));
    }
    if let Some(fault) = &detail.last_fault {
        outln!("last fault {}", printable(&fault.to_string()));
    }
    if let Some(event) = &detail.failing {
        let (id, what) = (printable(&event.id), printable(&event.what));
        outln!("fails at   {id} ({what})");
    }
    if !detail.upgrading.is_empty() {
        outln!("upgrading  to {}", printable(&detail.upgrading));
    }
    if let Some(upgrade) = &detail.last_upgrade {
        let (from, to) = (printable(&upgrade.from), printable(&upgrade.version));
        match &upgrade.refused {
            None => outln!("upgraded   from {from} to {to}"),
            Some(why) => {
                let why = printable(&why.to_string());
                outln!("upgrade    to {to} was turned down, {from} goes on: {why}");
            }
        }
    }
    for event in &detail.skipped {
        let (id, what) = (printable(&event.id), printable(&event.what));
        outln!("skipped    {id} ({what})");
    }
    if !detail.suppressed.is_empty() {
        outln!("suppressed {}", detail.suppressed.join(", "));
    }
    if !detail.limits.is_empty() {
        outln!("limits     {}", detail.limits.join(", "));
    }
    if !detail.config.is_empty() {
        outln!("config     {}", printable(&detail.config));
    }
    let mut columns = Columns::new(&["DEMAND", "ROLE", ">COUNT", "EACH"]);
    for demand in &detail.demands {
        columns.row([
            demand.key.clone(),
            demand.role.to_string(),
            demand.count.to_string(),
            demand.shape.to_string(),
        ]);
    }
    if columns.len() > 0 {
        out!("\n{columns}");
    }
}
