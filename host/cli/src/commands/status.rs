//! `status` and `policy show`.

use proffer_rpc::operator::{Policy, PolicyQuery, Status, StatusQuery};

use super::connect;
use crate::json;
use crate::settings::Settings;
use crate::show;
use crate::table::printable;

pub(crate) async fn status(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let status = connect(settings).await?.status(StatusQuery {}).await?;
    if as_json {
        json::print(&json::status(&status));
    } else {
        out!("{}", status_text(&status));
    }
    Ok(())
}

fn status_text(status: &Status) -> String {
    let Status {
        version,
        contract,
        cluster,
        offers,
        ..
    } = status;
    let uptime = show::span(status.now.since(status.started));
    format!(
        "proffer {version} (contract {contract}), cluster {cluster}, up {uptime}\n\
         agents     {} ({} active)\n\
         frameworks {}\n\
         tasks      {} active, {} ended\n\
         pool       {}\n\
         offers     {} made, {} accepted, {} declined, {} expired, {} rescinded, in {} cycles\n",
        status.agents,
        status.agents_active,
        status.frameworks,
        status.tasks_active,
        status.tasks_ended,
        show::used_of(&status.used, &status.pool),
        offers.made,
        offers.accepted,
        offers.declined,
        offers.expired,
        offers.rescinded,
        status.cycles,
    )
}

pub(crate) async fn policy(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let policy = connect(settings).await?.policy(PolicyQuery {}).await?;
    if as_json {
        json::print(&json::policy(&policy));
    } else {
        out!("{}", policy_text(&policy));
    }
    Ok(())
}

fn policy_text(policy: &Policy) -> String {
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
    if policy.fallback {
        text.push_str("fallback   the native reference policy decides instead\n");
    }
    if let Some(fault) = &policy.last_fault {
        text.push_str(&format!("last fault {}\n", printable(&fault.to_string())));
    }
    text
}
