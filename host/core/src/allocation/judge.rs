//! Plug-ins propose, the core disposes: every grant is looked at by itself against the ledger.
//!
//! A grant that was wrong by what the policy knew at its last apply is a fault; one that is wrong
//! only now is stale, and harmless.

use std::collections::BTreeSet;

use proffer_model::policy::{Feeds, NONE, Noun, Proposal};
use proffer_model::{
    AgentId, AgentInfo, Duration, Offer, OfferId, Reason, Remedy, Resources, Shape, Window, code,
};

pub(crate) mod limits;
mod pieces;
mod standing;
mod summary;
mod within;

use super::SeenFree;
use crate::agents::Agent;
use crate::book::{NewOffer, OpenOffer};
use crate::framework::StandingDemand;
use crate::handles::ClientId;
use crate::machine::Core;
use crate::options::reaches_any;
use limits::QuotaLeft;
pub(super) use pieces::units_of;
use pieces::{has_counted, rows};
use standing::{Standing, Standings};
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

    /// Whether an agent is other than it was told, or has other things free.
    fn has_changed(&self, agent: AgentId) -> bool {
        self.agents.contains(&agent) || self.seen.contains_key(&agent)
    }
}

/// A grant that passed.
#[derive(Debug)]
struct Passed {
    what: Resources,
    units: u32,
    standing: Standing,
    /// When its agent is planned to be down.
    down: Option<Window>,
}

/// All grants of a proposal, one after the other.
#[derive(Debug)]
struct Judgement {
    newer: Newer,
    standings: Standings,
    /// Offers that were made and of which their frameworks do not know yet.
    made: Vec<NewOffer>,
    verdicts: Vec<(u32, Verdict)>,
}

impl Core {
    /// Looks at each grant in order and makes offers of those that pass. `Err`: the columns do not fit.
    pub(crate) fn judge(
        &mut self,
        proposal: &Proposal,
        feeds: Feeds,
    ) -> Result<Vec<(u32, Verdict)>, Reason> {
        let grants = rows(&proposal.grants)?;
        let newer = Newer {
            agents: self.feed.agents.clone(),
            clients: self.feed.clients.clone(),
            demands: self.feed.demands.clone(),
            cells: !self.feed.cells.is_empty(),
            seen: self.feed.take_seen_free(),
            feeds,
            quota: QuotaLeft::of(self),
        };
        let mut judgement = Judgement {
            newer,
            standings: Standings::default(),
            made: Vec::with_capacity(grants.len()),
            verdicts: Vec::with_capacity(grants.len()),
        };
        let mut rest = grants.as_slice();
        while let Some(first) = rest.first() {
            // Those of a gang stand together: neighbours with the same number.
            let size = match first.gang {
                0 => 1,
                gang => rest.iter().take_while(|grant| grant.gang == gang).count(),
            };
            let (gang, others) = rest.split_at(size);
            self.judge_gang(gang, &mut judgement);
            rest = others;
        }
        self.hand_over(judgement.made);
        Ok(judgement.verdicts)
    }

    fn judge_gang(&mut self, gang: &[Grant<'_>], judgement: &mut Judgement) {
        let number = match gang.first() {
            Some(first) if first.gang != 0 => self.next_gang(),
            _ => 0,
        };
        let mut missing = self.missing_in_gang(gang, &judgement.newer);
        for (position, grant) in gang.iter().enumerate() {
            let verdict = match missing.take() {
                Some(verdict) => Err(verdict),
                None => self.judge_grant(grant, judgement),
            };
            match verdict {
                Ok(passed) => {
                    let made = self.grant(grant, passed, (number, &judgement.standings));
                    judgement.made.extend(made);
                }
                Err(verdict) => {
                    self.unmake_offers(std::mem::take(&mut judgement.made), position);
                    let why = Reason::new(
                        code::GROUP_FAILED,
                        Remedy::Retry,
                        "another grant of its gang failed",
                    );
                    let others = gang
                        .iter()
                        .enumerate()
                        .filter(|(other, _)| *other != position);
                    let verdicts = &mut judgement.verdicts;
                    for (_, other) in others {
                        verdicts.push((other.index, Verdict::Stale(None, why.clone())));
                    }
                    verdicts.push((grant.index, verdict));
                    return;
                }
            }
        }
        let granted = gang.iter().map(|grant| (grant.index, Verdict::Granted));
        judgement.verdicts.extend(granted);
    }

    /// Numbers that gangs of different cycles do not share; 0 is no gang.
    fn next_gang(&mut self) -> u32 {
        self.allocation.gangs = self.allocation.gangs.checked_add(1).unwrap_or(1);
        self.allocation.gangs
    }

    /// What is wrong with these grants as a whole: a gang is for one demand, and a demand that is
    /// of use only as a gang is granted at least one at once.
    fn missing_in_gang(&self, gang: &[Grant<'_>], newer: &Newer) -> Option<Verdict> {
        let first = gang.first()?;
        if gang.len() == 1 && first.demand == NONE {
            return None;
        }
        if gang
            .iter()
            .any(|grant| (grant.client, grant.demand) != (first.client, first.demand))
        {
            let text = "a gang is for one client and one demand".to_owned();
            return Some(fault(code::INVALID_GRANT, text));
        }
        let demand = &self.standing_demand(first.demand)?.demand;
        if demand.gang <= 1 {
            return None;
        }
        let units: u64 = gang
            .iter()
            .map(|grant| u64::from(self.units_in(grant, &demand.shape)))
            .sum();
        if units >= u64::from(demand.gang) {
            return None;
        }
        let text = format!(
            "{units} units at once for a demand that wants {} at least",
            demand.gang
        );
        // It may have wanted fewer when the policy looked, and there may have been more.
        let is_newer = newer.demands.contains(&first.demand)
            || gang.iter().any(|grant| newer.has_changed(grant.agent));
        Some(match is_newer {
            true => stale(first.agent, text),
            false => fault(code::INVALID_GRANT, text),
        })
    }

    fn judge_grant(&self, grant: &Grant<'_>, judgement: &mut Judgement) -> Result<Passed, Verdict> {
        let newer = &mut judgement.newer;
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
        let standing = judgement.standings.of(self, grant.client);
        let standing = self.judge_client(grant, standing, newer)?;
        let demand = self.judge_demand(grant, agent, newer)?;
        let shape = demand.map(|standing| &standing.demand.shape);
        let client_newer = newer.clients.contains(&grant.client);
        if self.config.gpu_guard && !standing.takes_gpus && agent.has_gpus() {
            let text = format!("{} has gpus and the framework takes none", grant.agent);
            return Err(wrong(agent_newer || client_newer, code::GPU_GUARD, text));
        }
        if !standing.goes_anywhere
            && let Some(text) = self.out_of_bounds(grant.client, &agent.record.info)
        {
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
        self.judge_filters(grant, &what, newer)?;
        let units = match demand {
            Some(demand) => judge_units(grant, demand, &what, newer)?,
            None if !self.is_worth_an_offer(grant.client, standing, &what) => {
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
        Ok(Passed {
            what,
            units,
            standing,
            down: agent.down,
        })
    }

    fn judge_filters(
        &self,
        grant: &Grant<'_>,
        what: &Resources,
        newer: &Newer,
    ) -> Result<(), Verdict> {
        let Some(filter) = self.filter_against(grant.agent, grant.client, what) else {
            return Ok(());
        };
        let why = Reason::new(
            code::FILTERED,
            Remedy::Retry,
            format!("{what} of {} was refused", grant.agent),
        );
        // Which items are free is not for a policy to know, and one may not want to be told of
        // filters at all. Nothing of it is worth another cycle: the filter's end is.
        let told = newer.feeds.filters && filter.made < self.feed.generation;
        Err(if told && (filter.inside || !has_counted(what)) {
            Verdict::Fault(why)
        } else {
            Verdict::Stale(None, why)
        })
    }

    fn is_worth_an_offer(&self, client: ClientId, standing: Standing, what: &Resources) -> bool {
        match standing.has_minimum {
            true => self.reaches_minimum(client, what),
            false => reaches_any(what, &self.config.min_offer),
        }
    }

    fn judge_client(
        &self,
        grant: &Grant<'_>,
        standing: Option<Standing>,
        newer: &Newer,
    ) -> Result<Standing, Verdict> {
        let (Some(standing), Some((framework, role))) =
            (standing, self.handles.owner(grant.client))
        else {
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
        if standing.takes_part {
            return Ok(standing);
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
        agent: &Agent,
        newer: &Newer,
    ) -> Result<Option<&StandingDemand>, Verdict> {
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
        if !standing.constraints.admit(&agent.record.info) {
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

    /// Makes an offer. `gang` is its number, and how clients stand.
    fn grant(
        &mut self,
        grant: &Grant<'_>,
        passed: Passed,
        (gang, standings): (u32, &Standings),
    ) -> Option<NewOffer> {
        let id = OfferId(self.next_id());
        let lease = match grant.lease {
            Duration::ZERO => self.config.lease,
            lease => lease.min(self.config.lease),
        };
        let demand = match grant.demand {
            NONE => String::new(),
            handle => {
                let owner = self.feed.demand_owners.get(&handle);
                owner.map(|(_, key)| key.clone()).unwrap_or_default()
            }
        };
        let standing = passed.standing;
        let open = OpenOffer {
            offer: Offer {
                id,
                agent: grant.agent,
                role: standings.role(grant.client)?.clone(),
                resources: passed.what,
                expires: self.now + lease,
                demand,
                gang,
                down: passed.down,
            },
            framework: standing.framework,
            client: grant.client,
            units: passed.units,
            delivered: false,
            kept: standing.for_tenant,
        };
        let made = self.make_offer(open);
        if grant.demand != NONE {
            self.demand_served(grant.demand);
        }
        Some(made)
    }
}

/// How many units of its demand a grant comes to.
fn judge_units(
    grant: &Grant<'_>,
    standing: &StandingDemand,
    what: &Resources,
    newer: &Newer,
) -> Result<u32, Verdict> {
    let units = units_of(&standing.demand.shape, what);
    let left = standing.demand.count.saturating_sub(standing.offered);
    if units > 0 && units <= left {
        return Ok(units);
    }
    let text = format!("{units} units for a demand that still wants {left}");
    Err(if newer.demands.contains(&grant.demand) {
        stale(grant.agent, text)
    } else {
        fault(code::DEMAND_MET, text)
    })
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
