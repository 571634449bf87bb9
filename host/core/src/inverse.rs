//! Inverse offers: what is asked back, of whom, and what they said. For planned downtime; one is
//! open per agent and framework.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::codec_struct;
use proffer_model::framework::{
    Consequence, Event as Told, InverseAnswer, InverseOffer, Rescinded,
};
use proffer_model::{
    AgentId, Duration, FrameworkId, Reason, Remedy, Resources, TaskId, Timestamp, Window, code,
};

use crate::allocation::Scope;
use crate::config::{Allocation, REFUSE_DEFAULT, REFUSE_MAX};
use crate::framework::Item;
use crate::machine::Core;

/// All that is asked back.
#[derive(Debug, Default)]
pub(crate) struct Inverses {
    all: BTreeMap<(AgentId, FrameworkId), Inverse>,
    /// Agents with planned downtime.
    pub(crate) down: BTreeSet<AgentId>,
}

#[derive(Debug, Default)]
struct Inverse {
    open: Option<u64>,
    /// What it said last.
    accepted: Option<bool>,
    /// Not to be asked before this; true: the cycle of that instant still honours it.
    refused: Option<(Timestamp, bool)>,
}

codec_struct!(Inverses { all, down });
codec_struct!(Inverse {
    open,
    accepted,
    refused
});

/// What a framework was asked to give back on an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InverseView {
    /// Where.
    pub agent: AgentId,
    /// Of whom.
    pub framework: FrameworkId,
    /// The open inverse offer.
    pub open: Option<u64>,
    /// What it said last.
    pub accepted: Option<bool>,
}

impl Core {
    /// What was asked back, by agent and framework.
    pub fn inverse_offers(&self) -> impl Iterator<Item = InverseView> {
        self.inverses
            .all
            .iter()
            .map(|((agent, framework), inverse)| InverseView {
                agent: *agent,
                framework: *framework,
                open: inverse.open,
                accepted: inverse.accepted,
            })
    }

    /// After a cycle: those who hold something where it looked are asked, unless they are already
    /// or do not want to be.
    pub(crate) fn ask_back(&mut self, scope: &Scope) {
        if self.inverses.down.is_empty() {
            return;
        }
        let concerned: Vec<AgentId> = match scope {
            Scope::Nothing => Vec::new(),
            Scope::Everything => self.inverses.down.iter().copied().collect(),
            Scope::Agents(agents) => self.inverses.down.intersection(agents).copied().collect(),
        };
        for id in concerned {
            let frameworks: BTreeMap<FrameworkId, Resources> = self.holders_of(id);
            for (framework, held) in frameworks {
                self.ask_one(id, framework, held);
            }
        }
    }

    /// Who takes part and holds what on an agent.
    fn holders_of(&self, id: AgentId) -> BTreeMap<FrameworkId, Resources> {
        let mut holders: BTreeMap<FrameworkId, Resources> = BTreeMap::new();
        let Some(agent) = self.agents.get(&id) else {
            return holders;
        };
        for (client, held) in agent.account.held() {
            let owner = self.handles.owner(client).map(|(framework, _)| *framework);
            let takes_part = |framework: &FrameworkId| {
                self.frameworks
                    .get(framework)
                    .is_some_and(|fw| fw.takes_offers())
            };
            if let Some(framework) = owner.filter(takes_part) {
                let all = holders.entry(framework).or_default();
                all.add(&held.offered);
                all.add(&held.used);
            }
        }
        holders
    }

    fn ask_one(&mut self, id: AgentId, framework: FrameworkId, held: Resources) {
        let now = self.now;
        let entry = self.inverses.all.entry((id, framework)).or_default();
        let refused = entry
            .refused
            .is_some_and(|(until, this_too)| now < until || (this_too && now == until));
        if entry.open.is_some() || refused {
            return;
        }
        entry.refused = None;
        let number = self.next_id();
        if let Some(entry) = self.inverses.all.get_mut(&(id, framework)) {
            entry.open = Some(number);
        }
        let Some(down) = self.agents.get(&id).and_then(|agent| agent.down) else {
            return;
        };
        let tasks: Vec<TaskId> = self
            .tasks_on(id)
            .into_iter()
            .filter(|(_, owner, _)| *owner == framework)
            .map(|(_, _, task)| task)
            .collect();
        let offer = InverseOffer {
            id: number,
            agent: id,
            resources: held,
            tasks,
            why: Reason::new(
                code::AGENT_DRAINING,
                Remedy::ChooseAnew,
                "the agent is planned to be down",
            ),
            priority: 0,
            by: down.start,
            then: Consequence::Nothing,
            down: Some(down),
        };
        let told = Item::Told(Box::new(Told::InverseOffers(vec![offer])));
        self.enqueue(framework, told);
    }

    /// A framework's answer; false: there is no such inverse offer of its own.
    pub(crate) fn answer_inverse(
        &mut self,
        framework: FrameworkId,
        answer: &InverseAnswer,
    ) -> bool {
        let found = self
            .inverses
            .all
            .iter()
            .find(|((_, owner), inverse)| *owner == framework && inverse.open == Some(answer.id))
            .map(|((agent, _), _)| *agent);
        let Some(agent) = found else {
            return false;
        };
        self.settle_inverse(agent, framework, answer.accept, Some(answer.refuse))
    }

    /// The same, by agent.
    pub(crate) fn settle_inverse(
        &mut self,
        agent: AgentId,
        framework: FrameworkId,
        accept: bool,
        refuse: Option<Duration>,
    ) -> bool {
        let interval = match self.config.allocation {
            Allocation::Interval(interval) => Some(interval),
            Allocation::Events { .. } => None,
        };
        let now = self.now;
        let Some(entry) = self.inverses.all.get_mut(&(agent, framework)) else {
            return false;
        };
        if entry.open.take().is_none() {
            return false;
        }
        entry.accepted = Some(accept);
        let asked = refuse.unwrap_or(REFUSE_DEFAULT).min(REFUSE_MAX);
        entry.refused = (asked > Duration::ZERO).then(|| {
            let length = interval.map_or(asked, |interval| asked.max(interval));
            (now + length, interval == Some(length))
        });
        true
    }

    /// Downtime is planned, moved or cancelled: what was said about the old plan is forgotten.
    pub(crate) fn plan_downtime(&mut self, id: AgentId, down: Option<Window>) {
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        agent.down = down;
        match down {
            Some(_) => self.inverses.down.insert(id),
            None => self.inverses.down.remove(&id),
        };
        self.feed.agents.insert(id);
        self.forget_inverses(|(agent, _)| *agent == id);
    }

    /// A framework revives: it may be asked again.
    pub(crate) fn drop_inverse_refusals(&mut self, framework: FrameworkId) {
        for ((_, owner), inverse) in &mut self.inverses.all {
            if *owner == framework {
                inverse.refused = None;
            }
        }
    }

    pub(crate) fn forget_inverses(&mut self, which: impl Fn(&(AgentId, FrameworkId)) -> bool) {
        let keys: Vec<(AgentId, FrameworkId)> = self
            .inverses
            .all
            .keys()
            .filter(|key| which(key))
            .copied()
            .collect();
        for key in keys {
            let open = self
                .inverses
                .all
                .remove(&key)
                .and_then(|inverse| inverse.open);
            if let Some(id) = open {
                let why = Reason::new(
                    code::OPERATOR,
                    Remedy::ChooseAnew,
                    "the agent's downtime was planned anew",
                );
                let gone = Told::InverseRescinded(vec![Rescinded { id, why }]);
                self.enqueue(key.1, Item::Told(Box::new(gone)));
            }
        }
    }
}
