//! `status`.

use proffer_rpc::operator::{Status, StatusQuery};

use super::connect;
use crate::json;
use crate::settings::Settings;
use crate::show;

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
