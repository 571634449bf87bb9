//! Plug-ins propose, the core disposes: every grant is looked at by itself against the ledger.
//!
//! A grant that was wrong by what the policy knew at its last apply is a fault; one that is wrong
//! only now is stale, and harmless.

use std::collections::BTreeSet;

use proffer_model::policy::{Feeds, NONE, Noun, Proposal};
use proffer_model::{
    AgentId, AgentInfo, Duration, Offer, OfferId, Reason, Remedy, Resources, Shape, code,
};

pub(crate) mod limits;
mod pieces;
mod summary;
mod within;

use super::SeenFree;
use crate::handles::ClientId;
use crate::machine::Core;
use limits::QuotaLeft;
use pieces::{has_counted, rows, units_of};
pub(crate) use summary::Summary;
pub(crate) use within::{Stray, Within};

/// What becomes of a grant.
#[derive(Debug)]
pub(crate) enum Verdict {
    Granted,
    /// Wrong only now; on which agent.
    Stale(Option<AgentId>, Reason),
    /// Wrong by what the policy knew.
    Fault(Reason),
}

/// One row of a proposal.
#[derive(Clone, Copy, Debug)]
struct Grant<'a> {
    index: u32,
    agent: AgentId,
    client: ClientId,
    demand: u32,
    gang: u32,
    lease: Duration,
    pieces: Pieces<'a>,
}

#[derive(Clone, Copy, Debug)]
struct Pieces<'a> {
    terms: &'a [u32],
    kind: &'a [u32],
    amount: &'a [i64],
}

/// What changed since the policy's last apply.
#[derive(Debug)]
struct Newer {
    agents: BTreeSet<AgentId>,
    clients: BTreeSet<ClientId>,
    demands: BTreeSet<u32>,
    cells: bool,
    seen: SeenFree,
    feeds: Feeds,
    quota: QuotaLeft,
}

impl Newer {
    /// Whether anything at all is newer.
    fn is_any(&self) -> bool {
        self.cells || !self.agents.is_empty() || !self.clients.is_empty()
    }
}

/// A grant that passed.
#[derive(Debug)]
struct Passed {
    what: Resources,
    units: u32,
}

impl Core {
    /// Looks at each grant in order and makes offers of those that pass. `Err`: the columns do not fit.
    pub(crate) fn judge(
        &mut self,
        proposal: &Proposal,
        feeds: Feeds,
    ) -> Result<Vec<(u32, Verdict)>, Reason> {
        let grants = rows(&proposal.grants)?;
        let mut newer = Newer {
            agents: self.feed.agents.clone(),
            clients: self.feed.clients.clone(),
            demands: self.feed.demands.clone(),
            cells: !self.feed.cells.is_empty(),
            seen: self.feed.take_seen_free(),
            feeds,
            quota: QuotaLeft::of(self),
        };
        let mut verdicts = Vec::with_capacity(grants.len());
        let mut rest = grants.as_slice();
        while let Some(first) = rest.first() {
            // Those of a gang stand together: neighbours with the same number.
            let size = match first.gang {
                0 => 1,
                gang => rest.iter().take_while(|grant| grant.gang == gang).count(),
            };
            let (gang, others) = rest.split_at(size);
            self.judge_gang(gang, &mut newer, &mut verdicts);
            rest = others;
        }
        Ok(verdicts)
    }

    fn judge_gang(
        &mut self,
        gang: &[Grant<'_>],
        newer: &mut Newer,
        verdicts: &mut Vec<(u32, Verdict)>,
    ) {
        let mut made: Vec<OfferId> = Vec::with_capacity(gang.len());
        let number = match gang.first() {
            Some(first) if first.gang != 0 => self.next_gang(),
            _ => 0,
        };
        let missing = self.missing_in_gang(gang);
        for (position, grant) in gang.iter().enumerate() {
            let verdict = match missing.clone() {
                Some(why) => Err(fault(code::INVALID_GRANT, why)),
                None => self.judge_grant(grant, newer),
            };
            match verdict {
                Ok(passed) => made.push(self.grant(grant, passed, number)),
                Err(verdict) => {
                    self.unmake_offers(&made);
                    let why = Reason::new(
                        code::GROUP_FAILED,
                        Remedy::Retry,
                        "another grant of its gang failed",
                    );
                    let others = gang
                        .iter()
                        .enumerate()
                        .filter(|(other, _)| *other != position);
                    for (_, other) in others {
                        verdicts.push((other.index, Verdict::Stale(None, why.clone())));
                    }
                    verdicts.push((grant.index, verdict));
                    return;
                }
            }
        }
        verdicts.extend(gang.iter().map(|grant| (grant.index, Verdict::Granted)));
    }

    /// Numbers that gangs of different cycles do not share; 0 is no gang.
    fn next_gang(&mut self) -> u32 {
        self.allocation.gangs = self.allocation.gangs.checked_add(1).unwrap_or(1);
        self.allocation.gangs
    }

    /// What is wrong with these grants as a whole: a gang is for one demand, and a demand that is
    /// of use only as a gang is granted at least one at once.
    fn missing_in_gang(&self, gang: &[Grant<'_>]) -> Option<String> {
        let first = gang.first()?;
        if gang
            .iter()
            .any(|grant| (grant.client, grant.demand) != (first.client, first.demand))
        {
            return Some("a gang is for one client and one demand".to_owned());
        }
        let demand = &self.standing_demand(first.demand)?.demand;
        if demand.gang <= 1 {
            return None;
        }
        let units: u64 = gang
            .iter()
            .map(|grant| u64::from(self.units_in(grant, &demand.shape)))
            .sum();
        (units < u64::from(demand.gang)).then(|| {
            format!(
                "{units} units at once for a demand that wants {} at least",
                demand.gang
            )
        })
    }

    fn judge_grant(&self, grant: &Grant<'_>, newer: &mut Newer) -> Result<Passed, Verdict> {
        if grant.index >= self.config.grants_max {
            return Err(fault(
                code::LIMIT,
                format!("more than {} grants", self.config.grants_max),
            ));
        }
        let agent_newer = newer.agents.contains(&grant.agent);
        let wrong = |is_newer: bool, code: &'static str, text: String| {
            if is_newer {
                Verdict::Stale(
                    Some(grant.agent),
                    Reason::new(code::STALE_GRANT, Remedy::Retry, text),
                )
            } else {
                fault(code, text)
            }
        };
        let Some(agent) = self.agents.get(&grant.agent) else {
            return Err(fault(code::UNKNOWN, format!("there is no {}", grant.agent)));
        };
        if !self.is_offered(grant.agent, agent) {
            return Err(wrong(
                agent_newer,
                code::AGENT_INACTIVE,
                format!("{} is not offered now", grant.agent),
            ));
        }
        self.judge_client(grant, newer)?;
        let demand = self.judge_demand(grant, newer)?;
        let shape = demand.map(|standing| &standing.demand.shape);
        let client_newer = newer.clients.contains(&grant.client);
        if self.guards_gpus(grant) {
            let text = format!("{} has gpus and the framework takes none", grant.agent);
            return Err(wrong(agent_newer || client_newer, code::GPU_GUARD, text));
        }
        if let Some(text) = self.out_of_bounds(grant.client, &agent.record.info) {
            return Err(wrong(agent_newer || client_newer, code::CONSTRAINT, text));
        }
        let free = agent.account.free();
        let what = match self.materialize(grant, free, shape) {
            Ok(what) if free.contains(&what) => what,
            problem => return Err(self.not_free(grant, shape, newer, problem)),
        };
        if let Some(text) = self.not_to_be_had(grant.client, &what, free) {
            return Err(wrong(
                agent_newer || client_newer,
                code::INVALID_GRANT,
                text,
            ));
        }
        if let Some(text) = newer.quota.over(self, grant.client, &what) {
            // Somebody may have been offered or have given back since the policy looked.
            return Err(wrong(newer.is_any(), code::OVER_LIMIT, text));
        }
        if let Some(filter) = self.filter_against(grant.agent, grant.client, &what) {
            let why = Reason::new(
                code::FILTERED,
                Remedy::Retry,
                format!("{what} of {} was refused", grant.agent),
            );
            // Which items are free is not for a policy to know, and one may not want to be told of
            // filters at all. Nothing of it is worth another cycle: the filter's end is.
            let told = newer.feeds.filters && filter.made < self.feed.generation;
            return Err(if told && (filter.inside || !has_counted(&what)) {
                Verdict::Fault(why)
            } else {
                Verdict::Stale(None, why)
            });
        }
        let units = match demand {
            Some(standing) => {
                let units = units_of(&standing.demand.shape, &what);
                let left = standing.demand.count.saturating_sub(standing.offered);
                if units == 0 || units > left {
                    let text = format!("{units} units for a demand that still wants {left}");
                    return Err(wrong(
                        newer.demands.contains(&grant.demand),
                        code::DEMAND_MET,
                        text,
                    ));
                }
                units
            }
            None if !self.reaches_minimum(grant.client, &what) => {
                return Err(fault(
                    code::BELOW_MINIMUM,
                    format!("{what} is less than the smallest offer"),
                ));
            }
            None => 1,
        };
        if let Some(seen) = newer.seen.get_mut(&grant.agent) {
            *seen = seen.minus_down_to_zero(&what);
        }
        newer.quota.take(self, grant.client, &what);
        Ok(Passed { what, units })
    }

    fn judge_client(&self, grant: &Grant<'_>, newer: &Newer) -> Result<(), Verdict> {
        let Some((framework, role)) = self.handles.owner(grant.client) else {
            let gone = self
                .feed
                .removed
                .iter()
                .any(|r| r.what == Noun::Client && r.handle == grant.client.0);
            let why = format!("there is no client {}", grant.client.0);
            return Err(if gone {
                stale(grant.agent, why)
            } else {
                fault(code::UNKNOWN, why)
            });
        };
        let takes_part = self.frameworks.get(framework).is_some_and(|fw| {
            fw.takes_offers() && !fw.suppressed.contains(role) && fw.clients.contains_key(role)
        });
        if takes_part {
            return Ok(());
        }
        let why = format!("{framework} under {role} takes no offers");
        let is_newer = newer.clients.contains(&grant.client);
        Err(if is_newer {
            stale(grant.agent, why)
        } else {
            fault(code::FRAMEWORK_INACTIVE, why)
        })
    }

    fn judge_demand(
        &self,
        grant: &Grant<'_>,
        newer: &Newer,
    ) -> Result<Option<&crate::framework::StandingDemand>, Verdict> {
        if grant.demand == NONE {
            return Ok(None);
        }
        let is_newer = newer.demands.contains(&grant.demand);
        let Some(standing) = self.standing_demand(grant.demand) else {
            let gone = self
                .feed
                .removed
                .iter()
                .any(|r| r.what == Noun::Demand && r.handle == grant.demand);
            let why = format!("there is no demand {}", grant.demand);
            return Err(if gone {
                stale(grant.agent, why)
            } else {
                fault(code::UNKNOWN, why)
            });
        };
        let owner = self.feed.demand_owners.get(&grant.demand);
        let owned = owner.is_some_and(|(framework, _)| {
            self.handles.find_client(*framework, &standing.demand.role) == Some(grant.client)
        });
        if !owned {
            return Err(fault(
                code::INVALID_GRANT,
                "the demand is another client's".to_owned(),
            ));
        }
        let admitted = self
            .agents
            .get(&grant.agent)
            .is_some_and(|agent| standing.constraints.admit(&agent.record.info));
        if !admitted {
            let why = format!("{} does not meet the demand's constraints", grant.agent);
            let is_newer = is_newer || newer.agents.contains(&grant.agent);
            return Err(if is_newer {
                stale(grant.agent, why)
            } else {
                fault(code::CONSTRAINT, why)
            });
        }
        Ok(Some(standing))
    }

    fn guards_gpus(&self, grant: &Grant<'_>) -> bool {
        let has_gpus = self
            .agents
            .get(&grant.agent)
            .is_some_and(|agent| agent.has_gpus());
        let takes = self
            .handles
            .owner(grant.client)
            .and_then(|(framework, _)| self.frameworks.get(framework))
            .is_some_and(|fw| fw.record.gpus);
        self.config.gpu_guard && has_gpus && !takes
    }

    /// The grant asks for more than is free: did the policy have to know?
    fn not_free(
        &self,
        grant: &Grant<'_>,
        shape: Option<&Shape>,
        newer: &mut Newer,
        problem: Result<Resources, String>,
    ) -> Verdict {
        let text = match &problem {
            Ok(what) => format!("{what} is not free on {}", grant.agent),
            Err(text) => text.clone(),
        };
        if shape.is_some_and(|shape| !shape.fixed_ports.is_empty()) {
            // Which ports an earlier grant of this proposal took is not for a policy to know. No
            // cycle can help: the agent is looked at again when ports come free.
            return Verdict::Stale(None, Reason::new(code::STALE_GRANT, Remedy::Retry, text));
        }
        let Some(seen) = newer.seen.get_mut(&grant.agent) else {
            return fault(code::INVALID_GRANT, text);
        };
        match self.materialize(grant, seen, shape) {
            Ok(what) if seen.contains(&what) => {
                *seen = seen.minus_down_to_zero(&what);
                stale(grant.agent, text)
            }
            Ok(_) | Err(_) => fault(code::INVALID_GRANT, text),
        }
    }

    /// Why a client may not be on an agent at all.
    pub(super) fn out_of_bounds(&self, client: ClientId, info: &AgentInfo) -> Option<String> {
        let (framework, role) = self.handles.owner(client)?;
        let fw = self.frameworks.get(framework)?;
        let admitted = fw
            .constraints
            .get(role)
            .is_none_or(|constraints| constraints.admit(info));
        if !admitted {
            return Some("the agent does not meet the framework's constraints".to_owned());
        }
        let home = &self.config.region;
        let foreign = !home.is_empty() && !info.region.is_empty() && *info.region != **home;
        (foreign && !fw.options.region_aware).then(|| {
            format!(
                "the agent is in {}, and the framework stays at home",
                info.region
            )
        })
    }

    /// What of it a client may not have, or not in part.
    fn not_to_be_had(
        &self,
        client: ClientId,
        what: &Resources,
        free: &Resources,
    ) -> Option<String> {
        for (terms, bundle) in what.piles() {
            if terms.is_plain() {
                continue;
            }
            let pile = || Resources::pile(terms.clone(), bundle.clone());
            if !self.may_have(client, terms) {
                return Some(format!("the client may not have {}", pile()));
            }
            if terms.is_whole() && free.get(terms) != Some(bundle) {
                return Some(format!("{} is granted whole or not at all", pile()));
            }
        }
        None
    }

    fn grant(&mut self, grant: &Grant<'_>, passed: Passed, gang: u32) -> OfferId {
        let id = OfferId(self.next_id());
        let owner = self.handles.owner(grant.client).cloned();
        let lease = match grant.lease {
            Duration::ZERO => self.config.lease,
            lease => lease.min(self.config.lease),
        };
        let demand = self
            .feed
            .demand_owners
            .get(&grant.demand)
            .map(|(_, key)| key.clone())
            .unwrap_or_default();
        if let Some((framework, role)) = owner {
            let offer = Offer {
                id,
                agent: grant.agent,
                role,
                resources: passed.what,
                expires: self.now + lease,
                demand,
                gang,
                down: self.agents.get(&grant.agent).and_then(|agent| agent.down),
            };
            self.make_offer(offer, framework, grant.client, passed.units);
            self.demand_served(grant.demand);
        }
        id
    }
}

fn stale(agent: AgentId, text: String) -> Verdict {
    Verdict::Stale(
        Some(agent),
        Reason::new(code::STALE_GRANT, Remedy::Retry, text),
    )
}

fn fault(code: &'static str, text: String) -> Verdict {
    Verdict::Fault(Reason::new(code, Remedy::Mend, text))
}
