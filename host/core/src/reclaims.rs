//! What a policy would take back, in words: from whom, where, for whom, how much and why. Nothing is
//! taken back yet; an operator reads here what will be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use proffer_codec::codec_struct;
use proffer_model::policy::{Proposal, Reclaim};
use proffer_model::{
    AgentId, Amount, Amounts, Duration, FrameworkId, Reason, Remedy, RoleName, TaskId, Timestamp,
    code,
};

use crate::allocation::Scope;
use crate::handles::ClientId;
use crate::machine::Core;

/// Proposals that are remembered: several pages for people.
const CURRENT_MAX: usize = 256;
/// A policy is asked about what changed; what it said of other agents stands for so long, a few sweeps.
const STANDS_FOR: Duration = Duration::from_secs(60);
/// Tasks of one that are named, and that are looked at.
const TASKS_MAX: usize = 4;
const TASKS_LOOKED_AT_MAX: usize = 1_000;
/// Pieces of one, and characters of its reason: a line for people, of a plug-in's text.
const PIECES_MAX: usize = 8;
const WHY_CHARS_MAX: usize = 200;
/// Pairs of roles that are summed up for one policy, and policies that are.
const PAIRS_MAX: usize = 64;
const POLICIES_MAX: usize = 100;
/// Lines about one framework or role.
const LINES_MAX: usize = 8;

/// What a policy would take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WouldTake {
    /// When it said so last.
    pub at: Timestamp,
    /// Where.
    pub agent: AgentId,
    /// From which framework, by name, and under which role.
    pub from: (Arc<str>, RoleName),
    /// For which framework, by name, and under which role.
    pub beneficiary: (Arc<str>, RoleName),
    /// How much, by kind.
    pub what: Amounts,
    /// Which tasks it would end for that, if it said so; the first of them.
    pub tasks: Vec<TaskId>,
    /// And how many more.
    pub more_tasks: u32,
    /// The policy's words.
    pub why: String,
}

codec_struct!(WouldTake {
    at,
    agent,
    from,
    beneficiary,
    what,
    tasks,
    more_tasks,
    why
});

/// What a policy would have taken back from one role for another, each proposal counted once while it
/// stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReclaimSum {
    /// How often.
    pub count: u64,
    /// How much in all, by kind.
    pub what: Amounts,
}

codec_struct!(ReclaimSum { count, what });

/// Sums by the role that would be taken from and the one that would get it.
pub type ReclaimSums = BTreeMap<(RoleName, RoleName), ReclaimSum>;

/// Where and from whom, for whom and for which demand.
pub(crate) type Key = ((AgentId, ClientId), (ClientId, u32));

/// What policies would take back.
#[derive(Debug, Default)]
pub(crate) struct Reclaims {
    /// What the policy of the seat would take back now.
    current: BTreeMap<Key, WouldTake>,
    /// By the number of the policy's record; 0: before there was one.
    sums: BTreeMap<u64, ReclaimSums>,
}

codec_struct!(Reclaims { current, sums });

impl fmt::Display for WouldTake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} under {} on {} for {} under {}",
            in_words(&self.what),
            self.from.0,
            self.from.1,
            self.agent,
            self.beneficiary.0,
            self.beneficiary.1
        )?;
        if !self.tasks.is_empty() {
            let tasks: Vec<&str> = self.tasks.iter().map(TaskId::as_str).collect();
            write!(f, ", ending {}", tasks.join(", "))?;
        }
        if self.more_tasks > 0 {
            write!(f, " and {} more", self.more_tasks)?;
        }
        if self.why.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.why)
    }
}

impl Core {
    /// What the policy would take back now.
    pub fn would_take_back(&self) -> impl Iterator<Item = &WouldTake> {
        let current = self.allocation.reclaims.current.values();
        current.filter(|take| self.now.since(take.at) <= STANDS_FOR)
    }

    /// What the policy of a record would have taken back, a line for each pair of roles; since the host
    /// started.
    #[must_use]
    pub fn reclaims_of(&self, record: u64) -> Vec<String> {
        let sums = self.allocation.reclaims.sums.get(&record);
        sums.map_or_else(Vec::new, reclaims_in_words)
    }

    /// What is proposed to be taken back is written down, and not done.
    pub(crate) fn note_reclaims(&mut self, scope: &Scope, proposal: &Proposal) {
        self.allocation.tally.reclaims_refused += proposal.reclaims.len() as u64;
        let now = self.now;
        let stands = |key: &Key, take: &mut WouldTake| {
            let asked = match scope {
                Scope::Nothing => false,
                Scope::Agents(agents) => agents.contains(&key.0.0),
                Scope::Everything => true,
            };
            !asked && now.since(take.at) <= STANDS_FOR
        };
        let mut before = std::mem::take(&mut self.allocation.reclaims.current);
        let known: BTreeSet<Key> = before.keys().copied().collect();
        before.retain(stands);
        let mut new = Vec::new();
        for (key, take) in self.reclaims_in(proposal) {
            if !known.contains(&key) {
                new.push(take.clone());
            }
            if before.len() < CURRENT_MAX || before.contains_key(&key) {
                before.insert(key, take);
            }
        }
        self.allocation.reclaims.current = before;
        let Some(first) = new.first() else { return };
        let more = match new.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let text =
            format!("the policy would take back {first}{more}; this host does not take back yet");
        let record = self.policy_record().map_or(0, |record| record.number);
        let sums = &mut self.allocation.reclaims.sums;
        sum_up(sums.entry(record).or_default(), &new);
        if sums.len() > POLICIES_MAX {
            sums.pop_first();
        }
        self.note(
            None,
            Reason::new(code::UNSUPPORTED, Remedy::Unsupported, text),
        );
    }

    /// Another policy says its own.
    pub(crate) fn forget_reclaims(&mut self) {
        self.allocation.reclaims.current.clear();
    }

    /// What a framework would lose, or get of others.
    pub(crate) fn reclaims_about(&self, framework: FrameworkId) -> Vec<Reason> {
        let current = self.allocation.reclaims.current.iter();
        let concerns = |client: ClientId| {
            let owner = self.handles.owner(client);
            owner.is_some_and(|(own, _)| *own == framework)
        };
        let own = current.filter(|(((_, from), (beneficiary, _)), take)| {
            self.now.since(take.at) <= STANDS_FOR && (concerns(*from) || concerns(*beneficiary))
        });
        let own = own.take(LINES_MAX).map(|(_, take)| {
            let text = format!("the policy would take back {take}");
            Reason::new(code::RECLAIM, Remedy::Unsupported, text)
        });
        own.collect()
    }

    /// The proposals that are about what there is, as far as they are looked at.
    pub(crate) fn reclaims_in(&self, proposal: &Proposal) -> BTreeMap<Key, WouldTake> {
        let mut found: BTreeMap<Key, WouldTake> = BTreeMap::new();
        for reclaim in proposal
            .reclaims
            .iter()
            .take(self.config.grants_max as usize)
        {
            if found.len() == CURRENT_MAX {
                break;
            }
            let key = (
                (AgentId(reclaim.agent), ClientId(reclaim.client)),
                (ClientId(reclaim.beneficiary), reclaim.demand),
            );
            let Some(take) = self.would_take(reclaim) else {
                continue;
            };
            match found.get_mut(&key) {
                Some(before) => {
                    add_up(&mut before.what, &take.what);
                    before.name_tasks(&take.tasks, take.more_tasks);
                }
                None => {
                    found.insert(key, take);
                }
            }
        }
        found
    }

    fn would_take(&self, reclaim: &Reclaim) -> Option<WouldTake> {
        let named = |client: u32| {
            let (framework, role) = self.handles.owner(ClientId(client))?;
            Some((self.framework_name(*framework)?, role.clone()))
        };
        let agent = AgentId(reclaim.agent);
        self.agents.get(&agent)?;
        let mut what = Amounts::new();
        for piece in reclaim.pieces.iter().take(PIECES_MAX) {
            let kind = self.handles.kinds.name(piece.kind)?;
            if piece.amount <= Amount::ZERO {
                return None;
            }
            add_up(&mut what, &Amounts::from([(kind.to_owned(), piece.amount)]));
        }
        let mut take = WouldTake {
            at: self.now,
            agent,
            from: named(reclaim.client)?,
            beneficiary: named(reclaim.beneficiary)?,
            what,
            tasks: Vec::new(),
            more_tasks: 0,
            why: reclaim.why.chars().take(WHY_CHARS_MAX).collect(),
        };
        for handle in reclaim.tasks.iter().take(TASKS_LOOKED_AT_MAX) {
            // One that has ended meanwhile is no harm, and one that it does not concern is not believed.
            let Some((framework, id)) = self.task_of_handle(*handle) else {
                continue;
            };
            let task = self.task(*framework, id);
            if task.is_some_and(|task| (task.client.0, task.agent) == (reclaim.client, agent)) {
                take.name_tasks(std::slice::from_ref(id), 0);
            }
        }
        Some(take)
    }
}

impl WouldTake {
    /// These would end, too.
    fn name_tasks(&mut self, tasks: &[TaskId], more: u32) {
        for task in tasks {
            if self.tasks.len() < TASKS_MAX {
                self.tasks.push(task.clone());
            } else {
                self.more_tasks += 1;
            }
        }
        self.more_tasks += more;
    }
}

pub(crate) fn sum_up(sums: &mut ReclaimSums, new: &[WouldTake]) {
    for take in new {
        let pair = (take.from.1.clone(), take.beneficiary.1.clone());
        if sums.len() >= PAIRS_MAX && !sums.contains_key(&pair) {
            continue;
        }
        let sum = sums.entry(pair).or_default();
        sum.count += 1;
        add_up(&mut sum.what, &take.what);
    }
}

/// A line for each pair of roles.
#[must_use]
pub fn reclaims_in_words(sums: &ReclaimSums) -> Vec<String> {
    let line = |((from, beneficiary), sum): (&(RoleName, RoleName), &ReclaimSum)| {
        let what = in_words(&sum.what);
        format!(
            "{what} from {from} for {beneficiary}, in {} proposals",
            sum.count
        )
    };
    sums.iter().map(line).collect()
}

fn add_up(sum: &mut Amounts, more: &Amounts) {
    for (kind, amount) in more {
        // What a policy names is anything; a sum past all bounds is as good as the bound.
        let sum = sum.entry(kind.clone()).or_default();
        *sum = Amount::from_milli(sum.milli().saturating_add(amount.milli()));
    }
}

fn in_words(what: &Amounts) -> String {
    let texts: Vec<String> = what
        .iter()
        .map(|(kind, amount)| format!("{kind}:{amount}"))
        .collect();
    texts.join(";")
}
