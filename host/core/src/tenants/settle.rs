//! From a tenant's answer to offers: first against what the subtree was granted, then against the ledger.

use std::collections::{BTreeMap, BTreeSet};

use proffer_model::policy::{Feeds, NONE, Proposal};
use proffer_model::{AgentId, OfferId, Reason, Remedy, RoleName, code};

use super::Turn;
use crate::allocation::judge::Verdict;
use crate::handles::ClientId;
use crate::machine::Core;

/// Agent, terms and kind.
type Pile = (u32, u32, u32);
/// What the subtree was granted and its policy has not given on, in thousandths.
type Pot = BTreeMap<Pile, i64>;
/// What a grant takes of it.
type Take = Vec<(Pile, i64)>;
/// Terms, kind and thousandths.
type Pieces = Vec<(u32, u32, i64)>;

const FEEDS: Feeds = Feeds {
    tasks: false,
    filters: true,
    demands: true,
};

/// The rows of an answer that are within what was granted.
#[derive(Debug, Default)]
struct Fitting {
    proposal: Proposal,
    /// What each row takes of the pot.
    takes: Vec<Take>,
    fault: Option<Reason>,
}

impl Core {
    /// Makes offers of what a policy proposes within a subtree; the rest of what was granted is free again.
    ///
    /// # Errors
    /// It proposed what it was not given: what else it proposed stands.
    pub(super) fn settle(
        &mut self,
        role: &RoleName,
        turn: &Turn,
        proposal: &Proposal,
    ) -> Result<(), Reason> {
        let (mut pot, mut meant, mut lost) = (Pot::new(), BTreeSet::new(), BTreeSet::new());
        for (id, agent) in &turn.offers {
            match self.release_kept(*id) {
                Some((client, pieces)) => {
                    meant.insert((*agent, client));
                    for (terms, kind, amount) in pieces {
                        *pot.entry((agent.0, terms, kind)).or_default() += amount;
                    }
                }
                None => {
                    lost.insert(agent.0);
                }
            }
        }
        let fitting = self.fitting(role, turn, proposal, (&pot, &lost));
        let Fitting {
            proposal,
            takes,
            fault,
        } = fitting;
        let seen = self.feed.seen_free_all();
        self.allocation.tenants.settling = true;
        let verdicts = self.judge(&proposal, FEEDS);
        self.allocation.tenants.settling = false;
        self.feed.see_as_before(seen);
        let (mut offers, mut stale) = (0, 0);
        // The rows fit together: they were put so.
        for (index, verdict) in verdicts.unwrap_or_default() {
            match verdict {
                Verdict::Granted => {
                    offers += 1;
                    for (what, amount) in takes.get(index as usize).into_iter().flatten() {
                        *pot.entry(*what).or_default() -= amount;
                    }
                }
                // It was told what it may give; that a grant is wrong beyond that may be news to it.
                Verdict::Stale(..) | Verdict::Fault(_) => stale += 1,
            }
        }
        if let Some(tenant) = self.allocation.tenants.all.get_mut(role) {
            tenant.tally.offers += offers;
            tenant.tally.stale += stale;
        }
        self.give_back_left(&pot, &meant, fault.is_none());
        fault.map_or(Ok(()), Err)
    }

    /// An offer to the subtree ends, and what it held is free; none: it ended before.
    fn release_kept(&mut self, id: OfferId) -> Option<(ClientId, Pieces)> {
        let open = self.close_offer(id)?;
        let what = open.offer.resources;
        self.with_account(open.offer.agent, open.client, |account| {
            account.withdraw(open.client, &what)
        });
        let pieces = self.handles.pieces(&what).into_iter();
        let pieces = pieces.map(|piece| (piece.terms, piece.kind, piece.amount.milli()));
        Some((open.client, pieces.collect()))
    }

    /// What is left goes to others at once, and to those for whom it was meant as if they had declined it.
    fn give_back_left(
        &mut self,
        pot: &Pot,
        meant: &BTreeSet<(AgentId, ClientId)>,
        it_decided: bool,
    ) {
        let left = pot.iter().filter(|(_, amount)| **amount > 0);
        let left: BTreeSet<u32> = left.map(|((agent, ..), _)| *agent).collect();
        for (agent, client) in meant.iter().filter(|(agent, _)| left.contains(&agent.0)) {
            self.agent_has_more(*agent);
            let free = self.agents.get(agent).map(|agent| agent.account.free());
            let free = free.map(|free| free.only(|terms| self.may_have(*client, terms)));
            if let Some(free) = free.filter(|_| it_decided) {
                self.pass_over(*agent, *client, free);
            }
        }
    }

    /// The rows that are about what the policy was told, and within what the subtree was granted.
    fn fitting(
        &mut self,
        role: &RoleName,
        turn: &Turn,
        proposal: &Proposal,
        (pot, lost): (&Pot, &BTreeSet<u32>),
    ) -> Fitting {
        let mut fitting = Fitting::default();
        let whole = match self.within(proposal, |_| true) {
            Ok(whole) => whole.proposal.grants,
            Err(fault) => {
                fitting.fault = Some(fault);
                return fitting;
            }
        };
        let mut left = pot.clone();
        let mut start = 0;
        for row in 0..whole.len() {
            let end = start + whole.pieces[row] as usize;
            let named = (start..end).map(|at| (whole.terms[at], whole.kind[at], whole.amount[at]));
            let mut pieces: Pieces = named.collect();
            start = end;
            let (agent, client, demand) = (whole.agent[row], whole.client[row], whole.demand[row]);
            if let Some(text) = is_strange(turn, agent, client, demand) {
                fitting.blame(role, text);
                continue;
            }
            if pieces.is_empty() {
                pieces = self.all_of(&left, agent, ClientId(client));
            }
            let takes: Take = pieces
                .iter()
                .map(|(terms, kind, amount)| ((agent, *terms, *kind), (*amount).max(0)))
                .collect();
            if pieces.is_empty() || !take_all(&mut left, &takes) {
                // What went away meanwhile is nobody's fault.
                if !lost.contains(&agent) {
                    fitting.blame(role, format!("more of agent {agent} than was granted"));
                }
                continue;
            }
            fitting.takes.push(takes);
            let grants = &mut fitting.proposal.grants;
            grants.agent.push(agent);
            grants.client.push(client);
            grants.demand.push(demand);
            grants.gang.push(whole.gang[row]);
            grants.lease.push(whole.lease[row]);
            grants
                .pieces
                .push(u32::try_from(pieces.len()).unwrap_or(u32::MAX));
            for (terms, kind, amount) in pieces {
                grants.terms.push(terms);
                grants.kind.push(kind);
                grants.amount.push(amount);
            }
        }
        fitting
    }

    /// All that is left on an agent and the client may have.
    fn all_of(&self, left: &Pot, agent: u32, client: ClientId) -> Pieces {
        let there = left.range((agent, 0, 0)..=(agent, u32::MAX, u32::MAX));
        let there = there.filter(|((_, terms, _), amount)| {
            let terms = self.handles.terms.get(*terms);
            **amount > 0 && terms.is_some_and(|terms| self.may_have(client, terms))
        });
        there
            .map(|((_, terms, kind), amount)| (*terms, *kind, *amount))
            .collect()
    }
}

impl Fitting {
    fn blame(&mut self, role: &RoleName, text: String) {
        self.fault.get_or_insert_with(|| {
            let text = format!("within {role} it granted {text}");
            Reason::new(code::INVALID_GRANT, Remedy::Mend, text)
        });
    }
}

/// Takes all of it, or nothing if it is not there.
fn take_all(left: &mut Pot, takes: &[(Pile, i64)]) -> bool {
    for (done, (what, amount)) in takes.iter().enumerate() {
        match left.get_mut(what).filter(|rest| **rest >= *amount) {
            Some(rest) => *rest -= amount,
            None => {
                for (what, amount) in &takes[..done] {
                    *left.entry(*what).or_default() += amount;
                }
                return false;
            }
        }
    }
    true
}

/// What of a grant the policy was not told.
fn is_strange(turn: &Turn, agent: u32, client: u32, demand: u32) -> Option<String> {
    let told = &turn.told;
    if !told.clients.contains(&client) {
        return Some(format!("something to client {client}, which is not within"));
    }
    if !told.agents.contains(&agent) {
        return Some(format!("of agent {agent}, which it was not told of"));
    }
    if demand != NONE && told.demands.get(&demand) != Some(&client) {
        return Some(format!(
            "for demand {demand}, which is not client {client}'s"
        ));
    }
    None
}
