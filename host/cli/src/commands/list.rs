//! Lists of agents, offers and roles.

use proffer_rpc::operator::{AgentQuery, OfferQuery, StatusQuery};

use super::connect;
use crate::json::{self, collect};
use crate::settings::Settings;
use crate::show;
use crate::table::Columns;

/// Rows of a list that has no limit of its own: more than anybody reads, less than memory holds.
pub(super) const ROWS_MAX: usize = 100_000;

pub(crate) async fn agents(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    let rows = collect(ROWS_MAX, |page| client.agents(AgentQuery { page })).await?;
    if as_json {
        json::print(&json::list(&rows, json::agent));
        return Ok(());
    }
    let now = client.status(StatusQuery {}).await?.now;
    let mut columns = Columns::new(&[
        "AGENT",
        "HOSTNAME",
        "STATE",
        ">FOR",
        ">GONE IN",
        ">TASKS",
        "USED OF TOTAL",
    ]);
    for agent in &rows {
        columns.row([
            agent.id.to_string(),
            agent.info.hostname.to_string(),
            agent.state.name().to_owned(),
            show::ago(agent.since, now),
            agent
                .gone_at
                .map_or_else(|| "-".to_owned(), |at| show::span(at.since(now))),
            agent.tasks.to_string(),
            show::used_of(&agent.used, &agent.total),
        ]);
    }
    print_or(
        &columns,
        "no agents; start one with `proffer agent --join HOST:PORT`",
    );
    Ok(())
}

pub(crate) async fn offers(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    let query = |page| {
        let framework = String::new();
        client.offers(OfferQuery { page, framework })
    };
    let rows = collect(ROWS_MAX, query).await?;
    if as_json {
        json::print(&json::list(&rows, json::offer));
        return Ok(());
    }
    let now = client.status(StatusQuery {}).await?.now;
    let mut columns = Columns::new(&[
        "OFFER",
        "FRAMEWORK",
        "ROLE",
        "AGENT",
        ">EXPIRES IN",
        "DEMAND",
        "RESOURCES",
    ]);
    for offer in &rows {
        columns.row([
            offer.id.to_string(),
            offer.framework.clone(),
            offer.role.to_string(),
            offer.hostname.clone(),
            show::span(offer.expires.since(now)),
            offer.demand.clone(),
            offer.resources.to_string(),
        ]);
    }
    print_or(
        &columns,
        "no offers are outstanding; `proffer explain framework NAME` says why",
    );
    Ok(())
}

/// A table on standard output; if there is nothing in it, why, on standard error.
pub(super) fn print_or(columns: &Columns, empty: &str) {
    if columns.len() == 0 {
        errln!("{empty}");
    } else {
        out!("{columns}");
    }
}
