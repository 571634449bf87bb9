//! What must hold after every event, recounted from the records.

use std::collections::BTreeMap;
use std::fmt;

use proffer_model::{AgentId, LaunchNumber, Resources};

use crate::handles::ClientId;
use crate::machine::Core;
use crate::swap::{Candidate, Stage};

/// An invariant that does not hold: a bug of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvariantBroken {
    /// Where.
    pub place: String,
    /// What.
    pub problem: String,
}

impl fmt::Display for InvariantBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for InvariantBroken {}

/// What offers and tasks say that clients hold.
type Sums = BTreeMap<(AgentId, ClientId), (Resources, Resources)>;

impl Core {
    /// Recounts everything.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check_invariants(&self) -> Result<(), InvariantBroken> {
        let mut sums = Sums::new();
        for open in self.offers.values() {
            sums.entry((open.offer.agent, open.client))
                .or_default()
                .0
                .add(&open.offer.resources);
        }
        for fw in self.frameworks.values() {
            for task in fw.tasks.values().filter(|task| task.holds) {
                sums.entry((task.agent, task.client))
                    .or_default()
                    .1
                    .add(&task.spec.resources);
            }
        }
        for (id, agent) in self.agents.iter() {
            for (client, reported) in &agent.reported {
                sums.entry((*id, *client)).or_default().1.add(reported);
            }
        }
        for (id, agent) in self.agents.iter() {
            agent
                .account
                .check()
                .map_err(|problem| broken(*id, problem))?;
            for (client, held) in agent.account.held() {
                let (offered, used) = sums.remove(&(*id, client)).unwrap_or_default();
                if held.offered != offered || held.used != used {
                    let problem = format!(
                        "the ledger says that client {} holds {} and uses {}, its offers and tasks {offered} and {used}",
                        client.0, held.offered, held.used
                    );
                    return Err(broken(*id, problem));
                }
            }
        }
        if let Some(((agent, client), _)) = sums.iter().next() {
            return Err(broken(
                *agent,
                format!("the ledger knows nothing of client {}", client.0),
            ));
        }
        self.check_connections()?;
        self.check_offers()?;
        self.check_tasks()?;
        self.check_demands()?;
        self.check_candidate()?;
        self.check_tenants()
    }

    /// Connections that have an agent, and agents that have a connection, are the same.
    fn check_connections(&self) -> Result<(), InvariantBroken> {
        let connected = self.agents.values().filter(|agent| agent.is_active());
        let (agents, connections) = (connected.count(), self.connections.len());
        if agents != connections {
            let problem = format!("{agents} agents are connected, on {connections} connections");
            return Err(broken("connections", problem));
        }
        for (connection, id) in &self.connections {
            let agent = self.agents.get(id);
            if agent.is_none_or(|agent| agent.connection != Some(*connection)) {
                let problem = format!("connection {} is not the agent's", connection.0);
                return Err(broken(*id, problem));
            }
        }
        Ok(())
    }

    /// If policies are told of tasks at all, it is of those that hold resources.
    fn check_fed_tasks(&self) -> Result<(), InvariantBroken> {
        let Some(fed) = self.feed.fed_tasks() else {
            return Ok(());
        };
        let tasks = self.frameworks.values().flat_map(|fw| fw.tasks.values());
        let holding = tasks.filter(|task| task.holds).map(|task| task.launch);
        let mut holding: Vec<LaunchNumber> = holding.collect();
        holding.sort_unstable();
        if !fed.eq(holding) {
            let problem = "they are not those that hold resources".to_owned();
            return Err(broken("tasks that policies are told of", problem));
        }
        Ok(())
    }

    fn check_offers(&self) -> Result<(), InvariantBroken> {
        for (id, open) in self.offers.iter() {
            let fw = self.frameworks.get(&open.framework);
            let known = fw.is_some_and(|fw| fw.offers.contains(id) && fw.is_active());
            let on_agent = self
                .agents
                .get(&open.offer.agent)
                .is_some_and(|a| a.offers.contains(id) && a.is_active());
            if !known || !on_agent {
                return Err(broken(
                    *id,
                    "an open offer's framework and agent are active and know it".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn check_tasks(&self) -> Result<(), InvariantBroken> {
        self.check_fed_tasks()?;
        for (launch, (framework, id)) in &self.launches {
            let Some(task) = self.task(*framework, id) else {
                return Err(broken(*launch, "a launch without a task".to_owned()));
            };
            if task.latest.is_final() && task.holds {
                return Err(broken(
                    id,
                    "a task that has ended still holds resources".to_owned(),
                ));
            }
            if task.state.is_final() && !task.latest.is_final() {
                return Err(broken(
                    id,
                    "a task ended for its framework and not for the host".to_owned(),
                ));
            }
            if task.acknowledged > task.queued {
                return Err(broken(
                    id,
                    "an update was acknowledged that was never queued".to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// A canary is a candidate that decides, and no cycle waits for one that is not there.
    fn check_candidate(&self) -> Result<(), InvariantBroken> {
        let swaps = &self.allocation.swaps;
        let candidate = swaps.candidate.as_ref();
        let decides = candidate.filter(|candidate| candidate.stage == Stage::Canary);
        let stands = swaps.canary.as_ref().map(|canary| canary.candidate);
        let promoted = candidate.filter(|candidate| candidate.stage == Stage::Ready);
        let number = |candidate: &Candidate| candidate.swap.candidate;
        let both = decides.or(promoted.filter(|_| stands.is_some()));
        if both.map(number) != stands {
            let problem = format!("the canary is {stands:?}, and the candidate {candidate:?}");
            return Err(broken("the seat", problem));
        }
        if let Some(waits) = self.waits_for_candidate()
            && candidate.map(number) != Some(waits)
        {
            let problem = format!("a cycle waits for the candidate {waits}, which is not there");
            return Err(broken("the seat", problem));
        }
        Ok(())
    }

    fn check_demands(&self) -> Result<(), InvariantBroken> {
        for (framework, fw) in &self.frameworks {
            for (key, standing) in &fw.demands {
                let on_offer: u32 = fw
                    .offers
                    .iter()
                    .filter_map(|id| self.offers.get(id))
                    .filter(|open| open.offer.demand == *key)
                    .map(|open| open.units)
                    .sum();
                if on_offer != standing.offered {
                    let problem = format!(
                        "demand {key} counts {} units on offer, its offers {on_offer}",
                        standing.offered
                    );
                    return Err(broken(*framework, problem));
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn broken(place: impl fmt::Display, problem: String) -> InvariantBroken {
    InvariantBroken {
        place: place.to_string(),
        problem,
    }
}
