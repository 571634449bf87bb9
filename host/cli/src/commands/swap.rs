//! The policy of a host that runs: `policy show`, `swap`, `rollback` and `history`.

use proffer_model::Timestamp;
use proffer_rpc::operator::{
    CancelPolicySwap, OperatorClient, Policy, PolicyCanary, PolicyCause, PolicyHistoryQuery,
    PolicyQuery, PolicyRecord, PolicyTrial, PromotePolicy, RollBackPolicy, StatusQuery, SwapPolicy,
    SwappedPolicy,
};

use super::framework::read_config;
use super::list::{ROWS_MAX, print_or};
use super::shipped::Named;
use super::{connect, policy, principal};
use crate::args::{self, PolicySwap};
use crate::json::{self, collect};
use crate::settings::Settings;
use crate::show;
use crate::table::{Columns, printable};

/// Between two looks at a trial.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

pub(crate) async fn run(
    command: args::Policy,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    match command {
        args::Policy::Show => show(settings, as_json).await,
        args::Policy::Swap(what) => swap(what, settings, as_json).await,
        args::Policy::Rollback(back) => {
            let client = connect(settings).await?;
            let shown = client.policy(PolicyQuery {}).await?;
            if !shown.swapping.is_empty() && shown.canary.is_none() {
                client.cancel_policy_swap(CancelPolicySwap {}).await?;
                if as_json {
                    json::print(&serde_json::json!({ "cancelled": shown.swapping }));
                } else {
                    outln!("{} is not put in", printable(&shown.swapping));
                }
                return Ok(());
            }
            let back = RollBackPolicy {
                by: principal(),
                why: back.why,
            };
            print_swapped(&client.roll_back_policy(back).await?, as_json);
            Ok(())
        }
        args::Policy::History => history(settings, as_json).await,
        args::Policy::Check(check) => policy::check(&check, as_json),
        args::Policy::Diff(diff) => policy::diff(&diff, as_json),
    }
}

async fn show(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    let policy = client.policy(PolicyQuery {}).await?;
    if as_json {
        json::print(&json::policy(&policy));
    } else {
        let now = client.status(StatusQuery {}).await?.now;
        out!("{}", policy_text(&policy, now));
    }
    Ok(())
}

fn policy_text(policy: &Policy, now: Timestamp) -> String {
    let mut text = format!(
        "policy     {} {} ({})\n\
         cycles     {}, {} failed\n\
         grants     {} made offers, {} rejected, {} stale\n\
         config     {}\n",
        printable(&policy.name),
        printable(&policy.version),
        show::short_digest(&policy.digest),
        policy.cycles,
        policy.failures,
        policy.grants,
        policy.rejected,
        policy.stale,
        printable(&policy.config),
    );
    text.push_str(&format!(
        "waits      {} demands that fit wait; the longest {}, p99 {}\n",
        policy.waiting,
        show::span(policy.longest_wait),
        show::span(policy.p99_wait),
    ));
    for line in &policy.would_take_back {
        text.push_str(&format!("reclaims   would take back {}\n", printable(line)));
    }
    for guard in &policy.guards {
        text.push_str(&format!("guard      {}\n", printable(guard)));
    }
    if policy.number > 0 {
        let before = policy.before.map_or_else(
            || "nothing to roll back to".to_owned(),
            |before| format!("a rollback returns to {before}"),
        );
        text.push_str(&format!("record     {}, {before}\n", policy.number));
    }
    if policy.probation > 0 {
        text.push_str(&format!(
            "probation  taken back at once if it fails in the next {} cycles\n",
            policy.probation
        ));
    }
    let trial = policy.trial.as_ref().filter(|trial| !trial.ended);
    if let Some(canary) = &policy.canary {
        text.push_str(&canary_text(canary, now));
    } else if !policy.swapping.is_empty() {
        text.push_str(&format!(
            "swapping   {} is being {}\n",
            printable(&policy.swapping),
            trial.map_or("put in", |_| "compared")
        ));
    }
    if let Some(trial) = trial {
        text.push_str(&trial_text(trial));
    }
    if policy.fallback {
        text.push_str("fallback   the native reference policy decides instead\n");
    }
    if let Some(fault) = &policy.last_fault {
        text.push_str(&format!("last fault {}\n", printable(&fault.to_string())));
    }
    text
}

/// Who decides for which roles, until when, and what came of it.
fn canary_text(canary: &PolicyCanary, now: Timestamp) -> String {
    let end = match canary.until {
        None => "until `policy swap --promote` or `policy rollback`".to_owned(),
        Some(until) => {
            let then = if canary.promotes {
                "then for all"
            } else {
                "then for nobody"
            };
            format!("for {} more, {then}", show::span(until.since(now)))
        }
    };
    let mut text = format!(
        "canary     {} {} ({}) decides for {} {end}\n\
         \u{20}          {} cycles; {} grants made offers, {} stale, {} to other roles; {} left to it\n\
         \u{20}          {} demands that fit wait; the longest {}, p99 {}\n",
        printable(&canary.name),
        printable(&canary.version),
        show::short_digest(&canary.digest),
        printable(&canary.roles.join(", ")),
        canary.cycles,
        canary.grants,
        canary.stale,
        canary.outside,
        canary.left_to_it,
        canary.waiting,
        show::span(canary.longest_wait),
        show::span(canary.p99_wait),
    );
    for guard in &canary.guards {
        text.push_str(&format!("           guard {}\n", printable(guard)));
    }
    text
}

async fn promote(why: String, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    let by = principal();
    let promoted = client.promote_policy(PromotePolicy { by, why }).await?;
    print_swapped(&promoted, as_json);
    Ok(())
}

async fn swap(what: PolicySwap, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let Some(named) = what.policy else {
        return promote(what.why, settings, as_json).await;
    };
    // Read and built first: what is wrong with it is said before anybody is asked.
    let component = Named::find(&named)?.component()?;
    let config = read_config(what.config.as_deref())?.unwrap_or_default();
    let client = connect(settings).await?;
    let swapped = client.swap_policy(SwapPolicy {
        component,
        config,
        by: principal(),
        why: what.why,
        guards: what.guard,
        shadow: what.shadow,
        dry_run: what.dry_run,
        canary: what.canary,
        canary_for: what.canary_for,
    });
    let swapped = swapped.await?;
    if swapped.record.is_some() {
        print_swapped(&swapped, as_json);
        return Ok(());
    }
    let (policy, trial) = tried(&client).await?;
    if as_json {
        json::print(&json::policy(&policy));
    } else {
        out!("{}", trial_text(&trial));
    }
    match trial.fault {
        Some(fault) => anyhow::bail!("the policy was not put in: {fault}"),
        None if as_json => {}
        None if what.dry_run => outln!("{} {} goes on", policy.name, policy.version),
        None => outln!("{} {} decides", policy.name, policy.version),
    }
    Ok(())
}

/// Waits for the end of a trial; if the command ends before, the trial goes on.
async fn tried(client: &OperatorClient) -> anyhow::Result<(Policy, PolicyTrial)> {
    loop {
        let policy = client.policy(PolicyQuery {}).await?;
        let ended = policy.trial.clone().filter(|trial| trial.ended);
        if let Some(trial) = ended.filter(|_| policy.swapping.is_empty()) {
            return Ok((policy, trial));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What differs, by role; the candidate's behind the slash.
fn trial_text(trial: &PolicyTrial) -> String {
    let mut text = format!(
        "compared   {} cycles, {} with the very same grants\n\
         served     {} of {} demands; {} would have been\n\
         reclaims   {}; {} would have been\n\
         invalid    {} grants; {} would have been\n\
         waits      the longest of demand that fits {}; the other passed some over for {}\n",
        trial.cycles,
        trial.alike,
        trial.served,
        trial.wanting,
        trial.would_serve,
        trial.reclaims,
        trial.would_reclaim,
        trial.invalid,
        trial.would_be_invalid,
        show::span(trial.longest_wait),
        show::span(trial.would_wait),
    );
    for line in &trial.take_back {
        text.push_str(&format!("take back  {}\n", printable(line)));
    }
    for line in &trial.would_take_back {
        text.push_str(&format!("would take {}\n", printable(line)));
    }
    if trial.roles.is_empty() {
        return text;
    }
    let mut columns = Columns::new(&[
        "ROLE", ">GRANTS", ">WOULD", ">SHARE", ">WOULD", "AMOUNTS", "WOULD BE",
    ]);
    for row in &trial.roles {
        columns.row([
            row.role.clone(),
            row.grants.to_string(),
            row.would_grant.to_string(),
            show::share(row.share_milli),
            show::share(row.would_share_milli),
            row.amounts.to_string(),
            row.would_amounts.to_string(),
        ]);
    }
    text.push_str(&columns.to_string());
    text
}

fn print_swapped(swapped: &SwappedPolicy, as_json: bool) {
    let SwappedPolicy { from, record } = swapped;
    if as_json {
        json::print(&serde_json::json!({
            "from": json::policy_record(from), "record": record.as_ref().map(json::policy_record),
        }));
        return;
    }
    let Some(record) = record else { return };
    match (record.cause, from.cause) {
        (PolicyCause::Canary, _) => outln!(
            "{} decides for {}, {} for the rest",
            named(record),
            printable(&record.roles.join(", ")),
            named(from)
        ),
        (_, PolicyCause::CanaryEnded) => {
            outln!(
                "{} decides for all again, without {}",
                named(record),
                named(from)
            );
        }
        _ => outln!("{} decides; it was {}", named(record), named(from)),
    }
}

fn named(record: &PolicyRecord) -> String {
    format!(
        "{} {} ({})",
        printable(&record.name),
        printable(&record.version),
        show::short_digest(&record.digest)
    )
}

async fn history(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    let ask = |page| client.policy_history(PolicyHistoryQuery { page });
    let rows = collect(ROWS_MAX, ask).await?;
    if as_json {
        json::print(&json::list(&rows, json::policy_record));
        return Ok(());
    }
    let now = client.status(StatusQuery {}).await?.now;
    print_or(
        &table(&rows, now),
        "no policy was swapped; `policy show` says which decides",
    );
    for row in &rows {
        for line in &row.would_take_back {
            outln!(
                "record {} would have taken back {}",
                row.number,
                printable(line)
            );
        }
    }
    Ok(())
}

fn table(rows: &[PolicyRecord], now: Timestamp) -> Columns {
    let mut columns = Columns::new(&[
        ">RECORD", "POLICY", "VERSION", "DIGEST", ">AGO", "BY", "CAUSE", "WHY",
    ]);
    for row in rows {
        let fault = row.fault.as_ref().map(ToString::to_string);
        columns.row([
            row.number.to_string(),
            row.name.clone(),
            row.version.clone(),
            show::short_digest(&row.digest),
            show::ago(Some(row.at), now),
            row.by.clone(),
            cause(row),
            match fault {
                Some(fault) if row.why.is_empty() => fault,
                Some(fault) => format!("{}; {fault}", row.why),
                None => row.why.clone(),
            },
        ]);
    }
    columns
}

fn cause(row: &PolicyRecord) -> String {
    if row.roles.is_empty() {
        row.cause.name().to_owned()
    } else {
        format!("{} for {}", row.cause.name(), row.roles.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proffer_model::{Reason, Remedy};

    use super::*;

    #[test]
    fn a_history_says_who_put_in_what_when_and_why() {
        let first = PolicyRecord {
            number: 1,
            name: "drf".into(),
            version: "1".into(),
            digest: String::new(),
            config: String::new(),
            by: "the host".into(),
            at: Timestamp(1_000),
            cause: PolicyCause::Settings,
            why: String::new(),
            fault: None,
            before: None,
            guards: Vec::new(),
            roles: Vec::new(),
            would_take_back: Vec::new(),
        };
        let rows = [
            first.clone(),
            PolicyRecord {
                number: 2,
                name: "binpack".into(),
                digest: format!("sha256:{}", "ab".repeat(32)),
                by: "ann".into(),
                cause: PolicyCause::Swapped,
                why: "fewer machines".into(),
                before: Some(1),
                ..first.clone()
            },
            PolicyRecord {
                number: 3,
                cause: PolicyCause::Failed,
                fault: Some(Reason::new("plugin-fault", Remedy::Mend, "it trapped")),
                at: Timestamp(61_000),
                ..first.clone()
            },
            PolicyRecord {
                number: 4,
                name: "spread".into(),
                cause: PolicyCause::Canary,
                roles: vec!["eng".into(), "ops".into()],
                ..first
            },
        ];
        expect![[r#"
            RECORD  POLICY   VERSION  DIGEST                 AGO  BY        CAUSE                 WHY
                 1  drf      1        native               1m02s  the host  settings
                 2  binpack  1        sha256:abababababab  1m02s  ann       swapped               fewer machines
                 3  drf      1        native                2.0s  the host  its successor failed  it trapped (plugin-fault)
                 4  spread   1        native               1m02s  the host  canary for eng, ops
        "#]]
        .assert_eq(&table(&rows, Timestamp(63_000)).to_string());
    }
}
