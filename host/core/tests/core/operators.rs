//! What operators of a random run do beside the rest: policies put in, tried, let decide for some roles and
//! taken out again, roles given policies of their own, reservations. And what a shell does for policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use proffer_core::{
    CanaryEnd, CanaryOutcome, Core, Event, PolicyIdentity, PolicySwap, Reply, ReservationChange,
    RolePolicy, SwapTrial,
};
use proffer_model::fact::{Fact, PolicyCause, PolicyRecord};
use proffer_model::{Duration, Marks, Reason, Remedy, Resources, RoleName, Terms};

use super::cluster::{ALL_FEEDS, Decider};
use super::random::{AGENTS, Dice, Run, nonsense};
use super::swaps::{drf, identity, swap_to};

/// Roles that frameworks come under, and one around two of them.
pub(crate) const ROLES: [&str; 5] = ["r1", "r1/a", "r1/b", "r2", "*"];
/// Roles whose subtrees are given to canaries and to policies of their own.
const SUBTREES: [&str; 5] = ["r1", "r1/a", "r2", "*", "r9"];
/// What is reserved at once.
const RESERVED: [&str; 3] = ["cpus:0.5;mem:1", "cpus:1", "mem:20"];

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

fn said(cause: &str) -> Reason {
    Reason::new("gone", Remedy::Mend, cause)
}

impl Run {
    /// One of these.
    pub(crate) fn operate(&mut self) {
        match self.dice.below(12) {
            0 | 1 => self.put_in(true),
            2 => self.put_in(false),
            3 => self.end_canary(),
            4 => {
                let ticket = self.cluster.ticket();
                self.cluster.event(Event::SwapCancelAsked { ticket });
            }
            5 | 6 => self.set_role_policy(),
            7 => self.candidate_breaks(),
            _ => self.reserve(),
        }
    }

    /// A policy is put in: as a canary, as a shadow, at once, or back to the one before.
    fn put_in(&mut self, as_canary: bool) {
        self.policies += 1;
        let length = self.dice.pick(&[None, Some(100), Some(5_000)]).unwrap();
        let mut canary = Vec::new();
        if as_canary {
            for _ in 0..=self.dice.below(2) {
                canary.push(role(self.dice.pick(&SUBTREES).unwrap()));
            }
        }
        let trial = SwapTrial {
            length: length.map(Duration),
            switch: self.dice.one_in(2),
            canary,
        };
        let back = self.cluster.core.policy_before().cloned();
        let back = back.filter(|_| !as_canary && self.dice.one_in(3));
        let is_tried = as_canary || (back.is_none() && self.dice.one_in(2));
        let swap = PolicySwap {
            candidate: self.policies,
            identity: back.as_ref().map_or_else(|| identity("bird"), identity_of),
            rollback_to: back.map(|record| record.number),
            trial: is_tried.then_some(trial),
            ..swap_to("bird")
        };
        let stands = self.cluster.core.policy_swaps().candidate.is_some();
        let ticket = self.cluster.ticket();
        if !stands {
            self.cluster.candidate = self.some_policy();
        }
        let swap = Box::new(swap);
        self.cluster.event(Event::PolicySwapAsked { ticket, swap });
        // No answer yet: facts wait for the store.
        if stands && let Some(reply) = self.cluster.replies.get(&ticket) {
            assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
        }
    }

    /// A right one, or in hostile runs now and then one that proposes nonsense or fails.
    fn some_policy(&mut self) -> Decider {
        if !self.hostile || self.dice.one_in(2) {
            return drf();
        }
        let mut own = Dice(self.dice.next());
        Decider::Script(Box::new(move |_, _| match own.one_in(4) {
            true => Err(said("it trapped")),
            false => Ok(nonsense(&mut own)),
        }))
    }

    fn end_canary(&mut self) {
        let outcomes = [CanaryOutcome::Promoted, CanaryOutcome::RolledBack];
        let ticket = self.cluster.ticket();
        let end = Box::new(CanaryEnd {
            outcome: self.dice.pick(&outcomes).unwrap(),
            by: "bob".to_owned(),
            why: String::new(),
        });
        self.cluster.event(Event::CanaryEndAsked { ticket, end });
    }

    fn set_role_policy(&mut self) {
        self.policies += 1;
        let policy = (!self.dice.one_in(4)).then(|| identity("ours"));
        if policy.is_some() {
            self.cluster.tenant = self.some_policy();
        }
        let set = Box::new(RolePolicy {
            tenant: self.policies,
            identity: policy,
            by: "ann".to_owned(),
            why: String::new(),
            guards: Vec::new(),
        });
        let role = role(self.dice.pick(&SUBTREES).unwrap());
        let ticket = self.cluster.ticket();
        self.cluster
            .event(Event::RolePolicyAsked { ticket, role, set });
    }

    fn candidate_breaks(&mut self) {
        if self.hostile {
            let fault = said("it broke");
            let candidate = self.policies;
            self.cluster
                .event(Event::CandidateFailed { candidate, fault });
        }
    }

    fn reserve(&mut self) {
        let name = format!("a{}", self.dice.below(AGENTS));
        let known = self.cluster.core.agent_named(&name);
        let Some(agent) = known.map(|agent| agent.id) else {
            return;
        };
        let terms = Terms {
            reserved: vec![role(self.dice.pick(&["r1", "r1/a", "r2"]).unwrap())],
            marks: Marks {
                dynamic: true,
                ..Marks::default()
            },
            ..Terms::default()
        };
        let bundle = self.dice.pick(&RESERVED).unwrap().parse().unwrap();
        let changes = [ReservationChange::Reserve, ReservationChange::Unreserve];
        let (ticket, change) = (self.cluster.ticket(), self.dice.pick(&changes).unwrap());
        self.cluster.event(Event::ReservationAsked {
            ticket,
            agent,
            resources: Resources::pile(terms, bundle),
            change,
        });
    }

    // ---- The shell ------------------------------------------------------------------------------

    /// Policies that have answered are heard, or not yet; those of before are loaded, or cannot be.
    pub(crate) fn policies_speak(&mut self) {
        for record in std::mem::take(&mut self.cluster.to_load) {
            let event = if self.dice.one_in(4) {
                let fault = said("its file is gone");
                Event::PolicyUnavailable { fault }
            } else {
                self.cluster.loaded = drf();
                Event::PolicyLoaded {
                    identity: identity_of(&record),
                    feeds: ALL_FEEDS,
                }
            };
            self.cluster.event(event);
        }
        for who in 0..2 {
            while !self.dice.one_in(3) && self.hear_one(who) {}
        }
    }

    fn hear_one(&mut self, who: usize) -> bool {
        let late = self.cluster.late.as_mut();
        let Some(event) = late.and_then(|late| late[who].pop_front()) else {
            return false;
        };
        self.cluster.event(event);
        true
    }

    /// A host that goes on loads what the facts say decides.
    pub(crate) fn host_begins(&mut self) {
        let seat = self.cluster.core.policy_record().cloned();
        self.cluster
            .to_load
            .extend(seat.filter(|record| !record.digest.is_empty()));
        let roles: Vec<RoleName> = self.cluster.core.tenants().map(|one| one.role).collect();
        self.cluster.tenant = drf();
        for role in roles {
            self.policies += 1;
            let tenant = self.policies;
            let event = if self.dice.one_in(4) {
                let fault = said("its file is gone");
                Event::TenantUnavailable { role, fault }
            } else {
                Event::TenantLoaded { role, tenant }
            };
            self.cluster.event(event);
        }
    }

    /// All is answered and time passes: no policy is left half put in.
    pub(crate) fn come_to_rest(&mut self) {
        self.cluster.prompt_store = true;
        self.cluster.persist_all();
        for _ in 0..20 {
            self.policies_speak();
            while self.hear_one(0) || self.hear_one(1) {}
            self.cluster.advance(1_000);
        }
        let swaps = self.cluster.core.policy_swaps();
        let canary = self.cluster.core.policy_canary();
        let open = canary.is_some_and(|canary| canary.until.is_none());
        assert!(
            open || swaps.candidate.is_none(),
            "{:?} is half put in",
            swaps.candidate
        );
        assert!(!swaps.waking, "nobody loads the policy of the seat");
    }
}

fn identity_of(record: &PolicyRecord) -> Arc<PolicyIdentity> {
    Arc::new(PolicyIdentity {
        name: record.name.clone(),
        version: record.version.clone(),
        digest: record.digest.clone(),
        config: record.config.clone(),
    })
}

/// After the host's death: no canary decides, and roles have the policies that the facts say they have.
#[track_caller]
pub(crate) fn check_policies(facts: &[Fact], core: &Core) {
    assert_eq!(core.policy_canary(), None);
    assert_eq!(core.policy_swaps().candidate, None);
    let causes = core.policy_history().rev().map(|record| &record.cause);
    let mut causes = causes.filter(|cause| !matches!(cause, PolicyCause::Failed(_)));
    let last = causes.next();
    assert!(
        !matches!(last, Some(PolicyCause::Canary { .. })),
        "a canary is on record as if it decided"
    );
    let (mut seat, mut roles) = (None, BTreeMap::new());
    for fact in facts {
        match fact {
            Fact::PolicySet(record) if !record.cause.is_beside() => seat = Some(record.number),
            Fact::RolePolicySet { role, policy } => {
                roles.insert(role.clone(), policy.as_ref().map(|own| own.number));
            }
            _ => {}
        }
    }
    let decides = core.policy_record().map(|record| record.number);
    assert_eq!(decides, seat);
    roles.retain(|_, policy| policy.is_some());
    let own = core
        .tenants()
        .map(|own| (own.role, Some(own.record.number)));
    assert_eq!(own.collect::<BTreeMap<_, _>>(), roles);
}
