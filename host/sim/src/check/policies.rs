//! Who granted what: each policy within its own domain, and a subtree no more than it was granted.
//!
//! The shell marks grants by a lease of their own, so that an offer tells whose answer it came of: a canary's
//! are a millisecond shorter than those of the policy of the seat, a turn's two.

use std::collections::{BTreeMap, BTreeSet};

use proffer_core::{Core, Event};
use proffer_model::policy::{Changes, Proposal, kind};
use proffer_model::{AgentId, Amount, Duration, OfferId, RoleName};

use super::{Checked, Invariant, Tally};

/// By whose answer an offer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Seat,
    Canary,
    Turn,
}

impl By {
    fn lease(self, config: Duration) -> Duration {
        match self {
            Self::Seat => config,
            Self::Canary => Duration(config.0.saturating_sub(1)),
            Self::Turn => Duration(config.0.saturating_sub(2)),
        }
    }

    /// All grants of a proposal say whose they are.
    pub(crate) fn mark(self, proposal: &mut Proposal, config: Duration) {
        let lease = u32::try_from(self.lease(config).0).unwrap_or(u32::MAX);
        proposal.grants.lease.fill(lease);
    }

    fn of(lease: Duration, config: Duration) -> Option<Self> {
        let all = [Self::Seat, Self::Canary, Self::Turn];
        all.into_iter().find(|by| by.lease(config) == lease)
    }
}

/// What is known of policies' answers.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    seen: Option<OfferId>,
    /// The last cycle that a canary was asked too.
    joint: Option<u64>,
    turns: BTreeMap<u64, Turn>,
}

/// What the policy of a role was shown.
#[derive(Debug)]
struct Turn {
    role: RoleName,
    /// What is free, which is what was granted: thousandths by agent and kind.
    granted: BTreeMap<(AgentId, u32), i64>,
}

/// An event, before it is handled.
#[derive(Debug)]
pub(crate) struct Before {
    cycle: Option<u64>,
    turn: Option<u64>,
    /// The roles of the canary that decides.
    canary: Option<Vec<RoleName>>,
    /// It was asked in this cycle.
    asked: bool,
}

impl Policies {
    /// A host begins anew: it asks anew.
    pub(crate) fn host_began(&mut self) {
        *self = Self::default();
    }

    /// Looks at an event before it is handled: with it the next cycle may begin.
    pub(crate) fn before(&self, event: &Event, core: &Core) -> Before {
        let (mut cycle, mut turn) = (None, None);
        match event {
            Event::PolicyProposed { cycle: number, .. }
            | Event::CandidateProposed { cycle: number, .. } => cycle = Some(*number),
            Event::TenantProposed { turn: number, .. } => turn = Some(*number),
            _ => {}
        }
        Before {
            cycle,
            turn,
            canary: core.policy_canary().map(|canary| canary.roles),
            asked: cycle.is_some() && cycle == self.joint,
        }
    }

    /// A candidate is asked too.
    pub(crate) fn candidate_asked(&mut self, cycle: u64, core: &Core) {
        if core.policy_canary().is_some() {
            // One cycle is under way at a time.
            self.joint = Some(cycle);
        }
    }

    /// The policy of a role is shown its subtree, and nothing beside it.
    pub(crate) fn turn_began(
        &mut self,
        number: u64,
        changes: &[Changes],
        core: &Core,
        tally: &mut Tally,
    ) -> Checked {
        let [picture] = changes else {
            return tally.holds(Invariant::DomainsKept, false, || {
                format!("turn {number} has {} pictures", changes.len())
            });
        };
        let roles = picture.roles.iter().map(|row| (row.handle, &row.name));
        let names: BTreeMap<u32, &String> = roles.collect();
        let clients = picture
            .clients
            .iter()
            .filter_map(|row| names.get(&row.role));
        let clients: BTreeSet<RoleName> = clients
            .filter_map(|name| RoleName::new(name.as_str()).ok())
            .collect();
        let whose = |role: &RoleName| clients.iter().all(|own| is_within(own, role));
        let role = core.tenants().map(|own| own.role).find(whose);
        let known = !clients.is_empty()
            && picture
                .clients
                .iter()
                .all(|row| names.contains_key(&row.role));
        let shown = role.filter(|_| known);
        tally.holds(Invariant::DomainsKept, shown.is_some(), || {
            format!("turn {number} shows clients of {clients:?}, which is nobody's subtree")
        })?;
        let Some(role) = shown else { return Ok(()) };
        let mut granted: BTreeMap<(AgentId, u32), i64> = BTreeMap::new();
        let totals = &picture.totals;
        for (row, agent) in totals.agent.iter().enumerate() {
            let free = granted
                .entry((AgentId(*agent), totals.kind[row]))
                .or_default();
            *free += totals.total[row];
        }
        let cells = &picture.cells;
        for (row, agent) in cells.agent.iter().enumerate() {
            let free = granted
                .entry((AgentId(*agent), cells.kind[row]))
                .or_default();
            *free -= cells.offered[row] + cells.used[row];
        }
        let least = granted.values().min().copied().unwrap_or(0);
        tally.holds(Invariant::DomainsKept, least >= 0, || {
            format!("turn {number} within {role} shows more held than there is: {granted:?}")
        })?;
        self.turns.insert(number, Turn { role, granted });
        Ok(())
    }

    /// Looks at the offers that an event has made.
    pub(crate) fn look(
        &mut self,
        before: &Before,
        core: &Core,
        lease: Duration,
        tally: &mut Tally,
    ) -> Checked {
        let now = core.now();
        let offers: Vec<_> = core.offers(self.seen).collect();
        let mut turn = before.turn.and_then(|number| self.turns.remove(&number));
        for offer in offers {
            self.seen = Some(offer.id);
            let by = By::of(offer.expires.since(now), lease);
            let told = || {
                format!(
                    "{} of {} under {} was made by {by:?} on {before:?}",
                    offer.id, offer.agent, offer.role
                )
            };
            let holds = match &turn {
                Some(turn) => by == Some(By::Turn) && is_within(&offer.role, &turn.role),
                None => may_grant(before, core, &offer.role, by),
            };
            tally.holds(Invariant::DomainsKept, holds, told)?;
            if let Some(turn) = &mut turn {
                let total = offer.resources.total();
                let scalars = [
                    (kind::CPUS, total.cpus),
                    (kind::MEM, total.mem),
                    (kind::DISK, total.disk),
                    (kind::GPUS, total.gpus),
                ];
                let fits = scalars
                    .into_iter()
                    .filter(|(_, amount)| *amount > Amount::ZERO)
                    .all(|(kind, amount)| turn.take(offer.agent, kind, amount));
                tally.holds(Invariant::DomainsKept, fits, || {
                    format!(
                        "more was given of {} than {} was granted",
                        offer.agent, turn.role
                    )
                })?;
            }
        }
        Ok(())
    }
}

impl Turn {
    /// Takes of what was granted; false: there is not so much.
    fn take(&mut self, agent: AgentId, kind: u32, amount: Amount) -> bool {
        match self.granted.get_mut(&(agent, kind)) {
            Some(left) if *left >= amount.milli() => {
                *left -= amount.milli();
                true
            }
            _ => false,
        }
    }
}

fn is_within(role: &RoleName, outer: &RoleName) -> bool {
    role == outer || role.is_strictly_below(outer)
}

/// Whether whose answer it was may grant to a role, outside of turns.
fn may_grant(before: &Before, core: &Core, role: &RoleName, by: Option<By>) -> bool {
    // What is granted to a subtree is kept for its turn, and no offer yet.
    if core.tenants().any(|own| is_within(role, &own.role)) {
        return false;
    }
    let domain = before.canary.as_ref();
    let canarys = domain.is_some_and(|roles| roles.iter().any(|own| is_within(role, own)));
    if !canarys || (before.cycle.is_some() && !before.asked) {
        return by == Some(By::Seat);
    }
    // One that ends with this event has granted, or the policy of the seat decides for all.
    let ended = core.policy_canary().is_none();
    by == Some(By::Canary) || (ended && by == Some(By::Seat))
}
