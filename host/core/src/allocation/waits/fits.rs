//! Where a demand fits, were it its turn.

use proffer_model::{AgentId, Bundle, FrameworkId, Quantity, Resources};

use super::{FOLLOWED_MAX, QuotaLeft};
use crate::agents::Agent;
use crate::allocation::judge::units_of;
use crate::explain::missing;
use crate::framework::StandingDemand;
use crate::handles::ClientId;
use crate::machine::Core;

/// What came of looking for a demand's place.
#[derive(Debug)]
pub(super) enum Found {
    /// It fits on these agents: on one, and a gang on several.
    There(Vec<AgentId>),
    /// It does not fit on any that were looked at.
    Nowhere,
    /// There was no time for more.
    Unknown {
        /// Up to here.
        after: Option<AgentId>,
        /// On these part of the gang fits.
        part: Vec<AgentId>,
    },
}

impl Core {
    /// Looks through agents, at most `looks` of them, until as many units fit as are of use.
    pub(super) fn find(
        &self,
        handle: u32,
        agents: impl Iterator<Item = AgentId>,
        looks: &mut usize,
        quota: &QuotaLeft,
    ) -> Found {
        let Some((framework, standing)) = self.demand_of(handle) else {
            return Found::Nowhere;
        };
        let wanted = &standing.demand;
        let client = self.handles.find_client(framework, &wanted.role);
        let (Some(client), Some(fw)) = (client, self.frameworks.get(&framework)) else {
            return Found::Nowhere;
        };
        let elsewhere = !wanted.near.is_empty() && self.now < standing.since + wanted.near_for;
        let gang = wanted.gang.max(1);
        if elsewhere || wanted.count.saturating_sub(standing.offered) < gang {
            return Found::Nowhere;
        }
        let whole = times(&wanted.shape.resources, gang);
        if !wanted.shape.is_anything() && quota.over(self, client, &whole).is_some() {
            return Found::Nowhere;
        }
        let who = (framework, client, fw.record.gpus);
        let (mut after, mut part, mut units) = (None, Vec::new(), 0_u32);
        for id in agents {
            if *looks == 0 {
                return Found::Unknown { after, part };
            }
            *looks -= 1;
            after = after.max(Some(id));
            let fits = self.units_there(standing, who, id, quota);
            if fits == 0 {
                continue;
            }
            part.push(id);
            units = units.saturating_add(fits);
            if units >= gang {
                return Found::There(part);
            }
            if part.len() > FOLLOWED_MAX / 2 {
                // Too many agents to be looked at again each time.
                return Found::Nowhere;
            }
        }
        Found::Nowhere
    }

    /// So many units could be offered there.
    fn units_there(
        &self,
        standing: &StandingDemand,
        (framework, client, takes_gpus): (FrameworkId, ClientId, bool),
        id: AgentId,
        quota: &QuotaLeft,
    ) -> u32 {
        let Some(agent) = self.agents.get(&id) else {
            return 0;
        };
        let free = agent.account.free();
        let wanted = &standing.demand;
        let passes = !free.is_empty()
            && self.is_offered(id, agent)
            && (takes_gpus || !self.config.gpu_guard || !agent.has_gpus())
            && standing.constraints.admit(&agent.record.info)
            && self.out_of_bounds(client, &agent.record.info).is_none()
            && !self.is_refused(id, client, free);
        if !passes {
            return 0;
        }
        if wanted.shape.is_anything() {
            let fits = self.reaches_minimum(client, free)
                && (wanted.per_agent == 0
                    || self.units_on_offer(agent, framework, &wanted.key) == 0)
                && quota.over(self, client, free).is_none();
            return u32::from(fits);
        }
        let may = free.only(|terms| self.may_have(client, terms));
        if !missing(&wanted.shape, &may.total()).is_empty() {
            return 0;
        }
        let most = match (wanted.per_agent, wanted.shape.fixed_ports.is_empty()) {
            (_, false) => 1,
            (0, true) => u32::MAX,
            (most, true) => most,
        };
        let here = match wanted.per_agent {
            0 => 0,
            _ => self.units_on_offer(agent, framework, &wanted.key),
        };
        units_of(&wanted.shape, &may).min(most.saturating_sub(here))
    }

    fn units_on_offer(&self, agent: &Agent, framework: FrameworkId, key: &str) -> u32 {
        let open = agent.offers.iter().filter_map(|id| self.offers.get(id));
        let own = open.filter(|open| open.framework == framework && open.offer.demand == key);
        own.map(|open| open.units).sum()
    }
}

/// What so many units take, of kinds that are not items.
fn times(one: &Resources, count: u32) -> Resources {
    let mut all = Resources::none();
    for (terms, bundle) in one.piles() {
        let mut sum = Bundle {
            cpus: bundle.cpus.times(count),
            mem: bundle.mem.times(count),
            disk: bundle.disk.times(count),
            gpus: bundle.gpus.times(count),
            ..bundle.clone()
        };
        for quantity in sum.other.values_mut() {
            if let Quantity::Scalar(amount) = quantity {
                *amount = amount.times(count);
            }
        }
        all.add_pile(terms, &sum);
    }
    all
}
