//! Policies that operators put in while a cluster runs, as a host's shell runs them: candidates that are fed
//! beside the policy of the seat, canaries, roles' own policies, and those of before that are loaded again.
//!
//! All of them decide as the reference policy does, or as the component that a run was given; some fail
//! and propose nonsense. What they grant is marked ([`By`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_core::{
    Action, CanaryEnd, CanaryOutcome, Event, PolicyIdentity, PolicySwap, RolePolicy, SwapTrial,
};
use proffer_model::fact::PolicyRecord;
use proffer_model::policy::{Changes, ChangesPart, Cycle, Proposal, Section};
use proffer_model::{Duration, RoleName};

use crate::check::{By, Invariant, Violation};
use crate::workload::Decide;

use super::client::Errand;
use super::plugins::{FEEDS, fault, nonsense, policy_loaded};
use super::{Checked, Occurrence, World, delay};

/// What stands for components. The last one is often wrong.
const POLICIES: [&str; 3] = ["policy:steady", "policy:other", ODD];
const ODD: &str = "policy:odd";
/// Of a thousand answers of that one, so many.
const ODD_FAILS: u64 = 150;

/// Roles whose subtrees are given to canaries, and to policies of their own; one of them nobody is in.
const SUBTREES: [&str; 5] = ["service", "service/web", "batch", "*", "nobody"];

/// What a shell keeps of policies, by the numbers that the core knows them by.
#[derive(Default)]
pub(super) struct Shell {
    numbers: u64,
    candidates: BTreeMap<u64, Candidate>,
    tenants: BTreeMap<u64, String>,
}

/// A policy that is about to be put in.
struct Candidate {
    digest: String,
    decide: Box<dyn Decide>,
    /// What it was fed and has not been asked with.
    fed: Vec<Changes>,
    /// It failed: nothing comes of it any more.
    broken: bool,
    /// It answers in the order in which it is asked.
    answers_at: u64,
}

/// One that took the seat, with what it was fed before.
struct Seated {
    decide: Box<dyn Decide>,
    fed: Vec<Changes>,
    broken: bool,
}

impl Decide for Seated {
    fn name(&self) -> String {
        self.decide.name()
    }

    fn feeds(&self) -> proffer_model::policy::Feeds {
        self.decide.feeds()
    }

    fn decide(&mut self, changes: &[Changes], cycle: &Cycle) -> Result<Proposal, String> {
        if changes
            .first()
            .is_some_and(|first| first.part != ChangesPart::Delta)
        {
            // An instance of its own begins with the snapshot.
            self.fed.clear();
            self.broken = false;
        }
        if self.broken {
            return Err("it broke before it took the seat".to_owned());
        }
        let mut all = std::mem::take(&mut self.fed);
        all.extend_from_slice(changes);
        self.decide.decide(&all, cycle)
    }
}

impl Shell {
    fn next(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl World {
    // ---- What a shell does ----------------------------------------------------------------------

    /// A host that goes on loads what the facts say decides.
    pub(super) fn load_policies(&mut self, host: usize, life: u64) -> Checked {
        let Self { check, hosts, .. } = self;
        let Some(term) = hosts[host].term() else {
            return Ok(());
        };
        check
            .durable
            .compare_policies(&term.core, &mut check.tally)?;
        let seat = term.core.policy_record().cloned();
        let roles: Vec<(RoleName, PolicyRecord)> =
            (term.core.tenants().map(|own| (own.role, own.record))).collect();
        match seat {
            None if self.scenario.loaded_policy => self.host_hears(life, policy_loaded())?,
            None => {}
            Some(record) if record.digest.is_empty() => {}
            Some(record) => self.load_policy(life, &record),
        }
        for (role, record) in roles {
            let wait = delay(&mut self.dice.policies, 2_000);
            let event = if self.is_unreadable() {
                let fault = fault("its component cannot be read".to_owned());
                Event::TenantUnavailable { role, fault }
            } else {
                let Some(term) = self.term_mut(life) else {
                    return Ok(());
                };
                let tenant = term.policies.next();
                term.policies.tenants.insert(tenant, record.digest);
                Event::TenantLoaded { role, tenant }
            };
            let event = Box::new(event);
            self.after(wait, Occurrence::HostHears { life, event });
        }
        Ok(())
    }

    fn is_unreadable(&mut self) -> bool {
        !self.calm && self.dice.policies.one_in(8)
    }

    fn load_policy(&mut self, life: u64, record: &PolicyRecord) {
        let wait = delay(&mut self.dice.policies, 2_000);
        let event = if self.is_unreadable() {
            let fault = fault("its component cannot be read".to_owned());
            Event::PolicyUnavailable { fault }
        } else {
            let policy = self.new_policy();
            if let Some(term) = self.term_mut(life) {
                term.loaded = policy;
            }
            Event::PolicyLoaded {
                identity: identity(&record.digest),
                feeds: FEEDS,
            }
        };
        let event = Box::new(event);
        self.after(wait, Occurrence::HostHears { life, event });
    }

    /// What the core asks of policies, but for cycles.
    pub(super) fn perform_for_policies(&mut self, life: u64, action: Action) -> Checked {
        match action {
            Action::FeedCandidate {
                candidate,
                changes,
                cycle,
            } => self.feed_candidate(life, candidate, changes, cycle.as_ref()),
            Action::SwitchPolicy { candidate } => self.switch_policy(life, candidate),
            Action::DropCandidate { candidate } => {
                if let Some(term) = self.term_mut(life) {
                    term.policies.candidates.remove(&candidate);
                }
            }
            Action::LoadPolicy(record) => self.load_policy(life, &record),
            Action::RunTenant {
                tenant,
                turn,
                changes,
                cycle,
            } => return self.run_tenant(life, tenant, turn, &changes, &cycle),
            Action::DropTenant { tenant } => {
                if let Some(term) = self.term_mut(life) {
                    term.policies.tenants.remove(&tenant);
                }
            }
            Action::CarryPolicy => self.carry(life),
            _ => {}
        }
        Ok(())
    }

    /// Whether an answer of this policy is wrong, and how.
    fn goes_wrong(&mut self, digest: &str) -> Option<Wrong> {
        let odd = if digest == ODD { ODD_FAILS } else { 0 };
        let often = self.scenario.faults.cycles_fail.max(odd);
        let dice = &mut self.dice.policies;
        if self.calm || dice.below(1_000) >= often {
            return None;
        }
        Some(match dice.one_in(2) {
            true => Wrong::Traps,
            false => Wrong::Proposes(Box::new(nonsense(dice))),
        })
    }

    fn feed_candidate(
        &mut self,
        life: u64,
        number: u64,
        changes: Vec<Changes>,
        cycle: Option<&Cycle>,
    ) {
        let wait = 1 + delay(&mut self.dice.policies, self.scenario.delays.cycle);
        let lease = self.scenario.core.lease;
        let at = self.now + wait;
        let known = self.term_mut(life);
        let known = known.and_then(|term| term.policies.candidates.get(&number));
        let Some(digest) = known.map(|candidate| candidate.digest.clone()) else {
            return;
        };
        let wrong = self.goes_wrong(&digest);
        let Self { check, hosts, .. } = self;
        let terms = hosts.iter_mut().filter_map(|host| host.term_mut());
        let Some(term) = terms.into_iter().find(|term| term.life == life) else {
            return;
        };
        if let Some(cycle) = cycle {
            check.policies.candidate_asked(cycle.number, &term.core);
        }
        let Some(candidate) = term.policies.candidates.get_mut(&number) else {
            return;
        };
        if candidate.broken {
            return;
        }
        let whole = |part: &Changes| part.part == ChangesPart::SnapshotLast;
        let whole = changes.iter().any(whole);
        candidate.fed.extend(changes);
        let event = match (cycle, wrong) {
            (_, Some(Wrong::Traps)) => {
                candidate.broken = true;
                candidate_failed(number, "it trapped".to_owned())
            }
            (Some(cycle), wrong) => {
                let fed = std::mem::take(&mut candidate.fed);
                let decided = candidate.decide.decide(&fed, cycle);
                let decided = match wrong {
                    Some(Wrong::Proposes(proposal)) => Ok(*proposal),
                    _ => decided,
                };
                match decided {
                    Ok(mut proposal) => {
                        By::Canary.mark(&mut proposal, lease);
                        Event::CandidateProposed {
                            candidate: number,
                            cycle: cycle.number,
                            proposal: Box::new(proposal),
                        }
                    }
                    Err(text) => {
                        candidate.broken = true;
                        candidate_failed(number, text)
                    }
                }
            }
            (None, _) if whole => Event::CandidateReady { candidate: number },
            (None, _) => return,
        };
        candidate.answers_at = candidate.answers_at.max(at);
        let at = candidate.answers_at;
        let event = Box::new(event);
        self.at(at, Occurrence::HostHears { life, event });
    }

    fn switch_policy(&mut self, life: u64, number: u64) {
        self.carry(life);
        if let Some(term) = self.term_mut(life)
            && let Some(candidate) = term.policies.candidates.remove(&number)
        {
            term.loaded = Box::new(Seated {
                decide: candidate.decide,
                fed: candidate.fed,
                broken: candidate.broken,
            });
        }
    }

    /// Some memory of a policy, for its successor.
    fn carry(&mut self, life: u64) {
        let wait = delay(&mut self.dice.policies, self.scenario.delays.cycle);
        let sections = vec![Section {
            name: "usage".to_owned(),
            version: 1,
            data: vec![0; self.dice.policies.index(4)],
        }];
        let event = Box::new(Event::PolicyCarried { sections });
        self.after(wait, Occurrence::HostHears { life, event });
    }

    fn run_tenant(
        &mut self,
        life: u64,
        tenant: Option<u64>,
        turn: u64,
        changes: &[Changes],
        cycle: &Cycle,
    ) -> Checked {
        let wait = delay(&mut self.dice.policies, self.scenario.delays.cycle);
        let lease = self.scenario.core.lease;
        let Self { check, hosts, .. } = self;
        let terms = hosts.iter_mut().filter_map(|host| host.term_mut());
        let Some(term) = terms.into_iter().find(|term| term.life == life) else {
            return Ok(());
        };
        let (core, tally) = (&term.core, &mut check.tally);
        check.policies.turn_began(turn, changes, core, tally)?;
        let digest = tenant.map(|number| term.policies.tenants.get(&number).cloned());
        let decided = match digest {
            Some(None) => Err("the policy is not there any more".to_owned()),
            None => super::plugins::NativeDrf::default().decide(changes, cycle),
            Some(Some(digest)) => match self.goes_wrong(&digest) {
                Some(Wrong::Traps) => Err("it trapped".to_owned()),
                Some(Wrong::Proposes(proposal)) => Ok(*proposal),
                // Native also where components are simulated: one that grants nothing would be right to starve
                // its subtree, and whoever is in it would never come to rest.
                None => super::plugins::NativeDrf::default().decide(changes, cycle),
            },
        };
        let event = match decided {
            Ok(mut proposal) => {
                By::Turn.mark(&mut proposal, lease);
                Event::TenantProposed {
                    turn,
                    proposal: Box::new(proposal),
                }
            }
            Err(text) => Event::TenantFailed {
                turn,
                fault: fault(text),
            },
        };
        let event = Box::new(event);
        self.after(wait, Occurrence::HostHears { life, event });
        Ok(())
    }

    // ---- What operators do ----------------------------------------------------------------------

    /// One of these, now and then.
    pub(super) fn operate_policies(&mut self) -> Checked {
        match self.dice.policies.below(10) {
            0..=2 => self.put_in(true),
            3 | 4 => self.put_in(false),
            5 => self.end_canary(),
            6 => self.ask(Errand::Other, |ticket| Event::SwapCancelAsked { ticket }),
            _ => self.set_role_policy(),
        }
    }

    fn some_policy(&mut self) -> &'static str {
        let index = self.dice.policies.index(POLICIES.len());
        POLICIES[index]
    }

    /// As a canary for some roles; or in a shadow, at once, or back to the one before.
    fn put_in(&mut self, as_canary: bool) -> Checked {
        let Some(term) = self.acting() else {
            return Ok(());
        };
        let (life, before) = (term.life, term.core.policy_before().cloned());
        let policy = self.new_policy();
        let mut digest = self.some_policy().to_owned();
        let dice = &mut self.dice.policies;
        let back =
            before.filter(|record| !as_canary && !record.digest.is_empty() && dice.one_in(3));
        if let Some(record) = &back {
            digest.clone_from(&record.digest);
        }
        let lengths = [None, Some(Duration(2_000)), Some(Duration(20_000))];
        let roles = (0..=dice.below(2)).filter_map(|_| dice.pick(&SUBTREES).copied());
        let roles = roles.filter_map(|name| RoleName::new(name).ok());
        let canary: Vec<RoleName> = roles.collect();
        let trial = SwapTrial {
            length: lengths[dice.index(lengths.len())],
            switch: dice.one_in(2),
            canary: if as_canary { canary } else { Vec::new() },
        };
        let tried = as_canary || (back.is_none() && dice.one_in(2));
        let Some(term) = self.term_mut(life) else {
            return Ok(());
        };
        let number = term.policies.next();
        let candidate = Candidate {
            digest: digest.clone(),
            decide: policy,
            fed: Vec::new(),
            broken: false,
            answers_at: 0,
        };
        term.policies.candidates.insert(number, candidate);
        let swap = Box::new(PolicySwap {
            candidate: number,
            identity: identity(&digest),
            feeds: FEEDS,
            by: "ann".to_owned(),
            why: String::new(),
            rollback_to: back.map(|record| record.number),
            guards: Vec::new(),
            trial: tried.then_some(trial),
        });
        let errand = if tried && !as_canary {
            Errand::Other
        } else {
            Errand::Swap(digest)
        };
        self.ask_term(life, errand, |ticket| Event::PolicySwapAsked {
            ticket,
            swap,
        })
    }

    fn end_canary(&mut self) -> Checked {
        let outcome = match self.dice.policies.one_in(2) {
            true => CanaryOutcome::Promoted,
            false => CanaryOutcome::RolledBack,
        };
        self.ask(Errand::Other, |ticket| Event::CanaryEndAsked {
            ticket,
            end: Box::new(CanaryEnd {
                outcome,
                by: "bob".to_owned(),
                why: String::new(),
            }),
        })
    }

    fn set_role_policy(&mut self) -> Checked {
        let Some(life) = self.acting().map(|term| term.life) else {
            return Ok(());
        };
        let digest = self.some_policy();
        let dice = &mut self.dice.policies;
        let digest = (!dice.one_in(4)).then(|| digest.to_owned());
        let role = dice.pick(&SUBTREES).copied().unwrap_or("*");
        let Ok(role) = RoleName::new(role) else {
            return Ok(());
        };
        let Some(term) = self.term_mut(life) else {
            return Ok(());
        };
        let tenant = term.policies.next();
        if let Some(digest) = &digest {
            term.policies.tenants.insert(tenant, digest.clone());
        }
        let set = Box::new(RolePolicy {
            tenant,
            identity: digest.as_deref().map(identity),
            by: "ann".to_owned(),
            why: String::new(),
            guards: Vec::new(),
        });
        let errand = Errand::RolePolicy(role.clone(), digest);
        self.ask_term(life, errand, |ticket| Event::RolePolicyAsked {
            ticket,
            role,
            set,
        })
    }

    /// What is left of policies that are being put in: nobody leaves them half way.
    pub(super) fn undo_policies(&mut self) -> Result<Option<String>, Violation> {
        let Some(core) = self.core() else {
            return Ok(Some("no host leads".to_owned()));
        };
        let swaps = core.policy_swaps();
        if core
            .policy_canary()
            .is_some_and(|canary| canary.until.is_none())
        {
            self.end_canary()?;
            return Ok(Some("a canary decides".to_owned()));
        }
        let left = swaps
            .candidate
            .map(|one| format!("{} is half put in", one.digest));
        Ok(left.or(swaps.waking.then(|| "no policy is loaded".to_owned())))
    }

    // ---- What operators were told ---------------------------------------------------------------

    pub(super) fn was_put_in(&mut self, digest: &str) -> Checked {
        let check = &mut self.check;
        let durable = check.durable.was_put_in(digest);
        check.tally.holds(Invariant::RepliesLast, durable, || {
            format!("{digest} was said to be put in, which is not durable")
        })
    }

    pub(super) fn role_has_policy(&mut self, role: &RoleName, digest: Option<&str>) -> Checked {
        let check = &mut self.check;
        let durable = check.durable.had_policy(role, digest);
        check.tally.holds(Invariant::RepliesLast, durable, || {
            format!("{role} was said to have the policy {digest:?}, which is not durable")
        })
    }
}

/// How a policy goes wrong.
enum Wrong {
    Traps,
    Proposes(Box<Proposal>),
}

fn candidate_failed(candidate: u64, text: String) -> Event {
    Event::CandidateFailed {
        candidate,
        fault: fault(text),
    }
}

fn identity(digest: &str) -> Arc<PolicyIdentity> {
    Arc::new(PolicyIdentity {
        name: digest.trim_start_matches("policy:").to_owned(),
        version: "1".to_owned(),
        digest: digest.to_owned(),
        config: String::new(),
    })
}
