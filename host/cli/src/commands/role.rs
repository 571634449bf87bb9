//! Roles: their weights, their quotas, and what is reserved to them.

use std::collections::BTreeMap;

use bytes::Bytes;
use proffer_model::{Amount, Bundle, KindQuota, Marks, Resources, RoleName, Terms};
use proffer_rpc::operator::{
    AgentQuery, Reserve, Role, RolePolicy, RoleQuery, SetQuota, SetRole, SetRolePolicy,
};
use serde_json::json;

use super::framework::read_config;
use super::list::{ROWS_MAX, print_or};
use super::shipped::Named;
use super::{connect, principal};
use crate::args::{self, Reservation, RoleSet};
use crate::failure::Failure;
use crate::json::{self, collect};
use crate::settings::Settings;
use crate::show;
use crate::table::{Columns, printable};

/// A role without a policy of its own, on the command line.
const NONE: &str = "none";

pub(crate) async fn run(
    command: args::Role,
    settings: &Settings,
    as_json: bool,
) -> anyhow::Result<()> {
    match command {
        args::Role::List => list(settings, as_json).await,
        args::Role::Show { role } => show_one(&role, settings, as_json).await,
        args::Role::Weight { role, weight } => {
            let name = role_name(&role)?;
            let client = connect(settings).await?;
            client.set_role(SetRole { name, weight }).await?;
            json::done(as_json, || json!({ "set": role }));
            Ok(())
        }
        args::Role::Set(set) => {
            self::set(&set, settings).await?;
            json::done(as_json, || json!({ "set": set.role }));
            Ok(())
        }
    }
}

async fn list(settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let client = connect(settings).await?;
    let rows = collect(ROWS_MAX, |page| client.roles(RoleQuery { page })).await?;
    if as_json {
        json::print(&json::list(&rows, json::role));
        return Ok(());
    }
    let mut columns = Columns::new(&[
        "ROLE",
        ">WEIGHT",
        ">SHARE",
        "USED",
        "GUARANTEE",
        "LIMIT",
        "FRAMEWORKS",
    ]);
    for role in &rows {
        columns.row([
            role.name.to_string(),
            role.weight.to_string(),
            show::share(role.share_milli),
            role.used.to_string(),
            amounts(&role.quotas, |quota| {
                (!quota.guarantee.is_zero()).then_some(quota.guarantee)
            }),
            amounts(&role.quotas, |quota| quota.limit),
            role.frameworks.join(","),
        ]);
    }
    print_or(&columns, "no roles are in use");
    Ok(())
}

async fn show_one(name: &str, settings: &Settings, as_json: bool) -> anyhow::Result<()> {
    let role = find(name, settings).await?;
    let role = role.ok_or_else(|| Failure::NotFound(format!("no role '{name}' is in use")))?;
    if as_json {
        json::print(&json::role(&role));
        return Ok(());
    }
    out!(
        "role       {}\nweight     {}\nshare      {}\nused       {}\nreserved   {}\nguarantee  {}\nlimit      {}\nframeworks {}\n",
        role.name,
        role.weight,
        show::share(role.share_milli),
        role.used,
        role.reserved,
        amounts(&role.quotas, |quota| {
            (!quota.guarantee.is_zero()).then_some(quota.guarantee)
        }),
        amounts(&role.quotas, |quota| quota.limit),
        role.frameworks.join(", "),
    );
    if let Some(policy) = &role.policy {
        out!("{}", policy_text(policy));
    }
    Ok(())
}

/// Which policy shares within, and how it does.
fn policy_text(policy: &RolePolicy) -> String {
    let why = match policy.why.as_str() {
        "" => String::new(),
        why => format!(": {}", printable(why)),
    };
    let mut text = format!(
        "policy     {} {} ({}), set by {}{why}\n\
         \u{20}          granted {} times; {} offers in {} turns; {} failed, {} were the native policy's\n",
        printable(&policy.name),
        printable(&policy.version),
        show::short_digest(&policy.digest),
        printable(&policy.by),
        policy.granted,
        policy.offers,
        policy.turns,
        policy.failures,
        policy.native_turns,
    );
    text.push_str(&format!(
        "           {} demands wait that it could serve; the longest {}, p99 {}\n",
        policy.waiting,
        show::span(policy.longest_wait),
        show::span(policy.p99_wait),
    ));
    for guard in &policy.guards {
        text.push_str(&format!("           guard {}\n", printable(guard)));
    }
    if policy.fallback {
        text.push_str("           the native policy decides within instead\n");
    }
    if let Some(fault) = &policy.last_fault {
        let fault = fault.to_string();
        text.push_str(&format!("           last fault {}\n", printable(&fault)));
    }
    text
}

async fn find(name: &str, settings: &Settings) -> anyhow::Result<Option<Role>> {
    let name = role_name(name)?;
    let client = connect(settings).await?;
    let rows = collect(ROWS_MAX, |page| client.roles(RoleQuery { page })).await?;
    Ok(rows.into_iter().find(|role| role.name == name))
}

async fn set(set: &RoleSet, settings: &Settings) -> anyhow::Result<()> {
    let name = role_name(&set.role)?;
    if let Some(policy) = &set.policy {
        return give_policy(name, policy, set, settings).await;
    }
    if set.weight.is_none() && set.guarantee.is_none() && set.limit.is_none() {
        let text = "nothing is set: give --weight, --guarantee, --limit or --policy";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let guarantee = set.guarantee.as_deref().map(parse).transpose()?;
    let limit = set.limit.as_deref().map(parse).transpose()?;
    let client = connect(settings).await?;
    if guarantee.is_some() || limit.is_some() {
        let before = find(&set.role, settings).await?;
        let before = before.map(|role| role.quotas).unwrap_or_default();
        let quota = SetQuota {
            name,
            quotas: merged(&before, guarantee, limit),
            force: set.force,
            // In one request: what is refused changes nothing.
            weight: set.weight,
        };
        return Ok(client.set_quota(quota).await?);
    }
    if let Some(weight) = set.weight {
        client.set_role(SetRole { name, weight }).await?;
    }
    Ok(())
}

/// A role's own policy, or none any more.
async fn give_policy(
    name: RoleName,
    policy: &str,
    set: &RoleSet,
    settings: &Settings,
) -> anyhow::Result<()> {
    // Read and built first: what is wrong with it is said before anybody is asked.
    let component = match policy {
        NONE => Bytes::new(),
        named => Named::find(named)?.component()?,
    };
    if component.is_empty() && policy != NONE {
        let text =
            "the native policy stands in where a role's own fails: give a component, or none";
        return Err(Failure::Usage(text.to_owned()).into());
    }
    let config = read_config(set.config.as_deref())?.unwrap_or_default();
    let client = connect(settings).await?;
    let set = SetRolePolicy {
        name,
        component,
        config,
        by: principal(),
        why: set.why.clone().unwrap_or_default(),
        guards: set.guard.clone(),
    };
    Ok(client.set_role_policy(set).await?)
}

/// What is given replaces, what is not stays.
fn merged(
    before: &[KindQuota],
    guarantee: Option<BTreeMap<String, Amount>>,
    limit: Option<BTreeMap<String, Amount>>,
) -> Vec<KindQuota> {
    let guarantee = guarantee.unwrap_or_else(|| {
        let rows = before.iter().filter(|quota| !quota.guarantee.is_zero());
        rows.map(|quota| (quota.kind.clone(), quota.guarantee))
            .collect()
    });
    let limit = limit.unwrap_or_else(|| {
        let rows = before.iter();
        rows.filter_map(|quota| Some((quota.kind.clone(), quota.limit?)))
            .collect()
    });
    let mut kinds: Vec<&String> = guarantee.keys().chain(limit.keys()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
        .into_iter()
        .map(|kind| KindQuota {
            kind: kind.clone(),
            guarantee: guarantee.get(kind).copied().unwrap_or_default(),
            limit: limit.get(kind).copied(),
        })
        .collect()
}

/// Amounts by kind; zero is an amount here, for a limit of nothing at all.
fn parse(text: &str) -> anyhow::Result<BTreeMap<String, Amount>> {
    let mut all = BTreeMap::new();
    if text == "none" {
        return Ok(all);
    }
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        let wrong = || Failure::Usage(format!("'{part}': wanted KIND:AMOUNT, as in cpus:4"));
        let (kind, amount) = part.split_once(':').ok_or_else(wrong)?;
        let amount: Amount = amount.trim().parse().map_err(|_| wrong())?;
        if all.insert(kind.trim().to_owned(), amount).is_some() {
            return Err(Failure::Usage(format!("'{}' is given twice", kind.trim())).into());
        }
    }
    Ok(all)
}

/// Some amounts of a quota, in words.
fn amounts(quotas: &[KindQuota], which: impl Fn(&KindQuota) -> Option<Amount>) -> String {
    let rows = quotas.iter();
    let texts: Vec<String> = rows
        .filter_map(|quota| Some(format!("{}:{}", quota.kind, which(quota)?)))
        .collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(";")
    }
}

/// `proffer reserve` and `proffer unreserve`.
pub(crate) async fn reserve(
    what: &Reservation,
    settings: &Settings,
    unreserve: bool,
) -> anyhow::Result<()> {
    let role = role_name(&what.role)?;
    let bundle: Bundle = what
        .resources
        .parse()
        .map_err(|error| Failure::Usage(format!("{}: {error}", what.resources)))?;
    let client = connect(settings).await?;
    let agents = collect(ROWS_MAX, |page| client.agents(AgentQuery { page })).await?;
    let named = |agent: &&proffer_rpc::operator::Agent| {
        agent.id.to_string() == what.agent || *agent.info.hostname == *what.agent
    };
    let mut found = agents.iter().filter(named);
    let (Some(agent), None) = (found.next(), found.next()) else {
        let text = format!("there is no agent '{}', or not only one", what.agent);
        return Err(Failure::NotFound(text).into());
    };
    let terms = Terms {
        reserved: vec![role],
        marks: Marks {
            dynamic: true,
            ..Marks::default()
        },
        ..Terms::default()
    };
    let reserve = Reserve {
        agent: agent.id,
        resources: Resources::pile(terms, bundle),
        unreserve,
    };
    Ok(client.reserve(reserve).await?)
}

/// What was reserved or let go, for scripts.
pub(crate) fn reservation(what: &Reservation) -> serde_json::Value {
    let Reservation {
        agent,
        role,
        resources,
    } = what;
    json!({ "agent": agent, "role": role, "resources": resources })
}

fn role_name(text: &str) -> anyhow::Result<RoleName> {
    RoleName::new(text).map_err(|error| Failure::Usage(error.to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_of_a_quota_stays() {
        let quota = |kind: &str, guarantee, limit: Option<i64>| KindQuota {
            kind: kind.to_owned(),
            guarantee: Amount::from_units(guarantee),
            limit: limit.map(Amount::from_units),
        };
        let before = [quota("cpus", 2, Some(4)), quota("mem", 0, Some(100))];
        let limit = parse("cpus:9; gpus:0").unwrap();
        assert_eq!(
            merged(&before, None, Some(limit)),
            [quota("cpus", 2, Some(9)), quota("gpus", 0, Some(0))]
        );
        let nothing = parse("none").unwrap();
        assert_eq!(
            merged(&before, Some(nothing), None),
            [quota("cpus", 0, Some(4)), quota("mem", 0, Some(100))]
        );
        for bad in ["cpus", "cpus:x", "cpus:1;cpus:2"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
