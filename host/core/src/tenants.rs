//! A role's own policy: a *tenant's*, which shares among the clients within the role's subtree what the
//! subtree was granted.
//!
//! The policy of the seat grants to clients within the subtree as to any others, by their shares and
//! demands; but what it grants there is the subtree's, not theirs: the offer is kept ([`crate::book`]),
//! and nobody is told. Soon after, the tenant's policy has its *turn*: it is shown its own roles, clients,
//! demands, and of agents what its clients hold and what was granted, and nothing else. Its grants are
//! judged against what was granted and then as all others are, and become offers. What it leaves goes to
//! others at once, and to the clients for whom it was meant no sooner than a declined offer would.
//!
//! Each turn is an instance's whole life: a snapshot, what the instance before it carried, one decision.
//! A policy that traps, overruns or proposes what it was not given loses the turn to the native policy,
//! within the same subtree; it is tried again with rising intervals, and in the end left out until it is
//! set anew, as is one that lets demand wait for longer than its guard says ([`crate::allocation`]). Nobody outside waits for a turn: what is kept for one is held in the ledger meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use proffer_codec::codec_struct;
use proffer_model::fact::{Fact, PolicyCause, PolicyRecord, WaitGuard};
use proffer_model::policy::{Cycle, Proposal};
use proffer_model::{AgentId, OfferId, Reason, Remedy, RoleName, Timestamp, code};

mod check;
mod picture;
mod settle;

use crate::action::{Action, Reply};
use crate::allocation::mix;
use crate::book::Ending;
use crate::config::backoff;
use crate::event::{RolePolicy, Ticket};
use crate::machine::Core;
use crate::swap::GUARDS_MAX;

/// Roles with a policy of their own: each keeps a compiled component and a turn's instance at a time.
const TENANTS_MAX: usize = 64;

/// Roles with a policy of their own.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    all: BTreeMap<RoleName, Tenant>,
    turns: u64,
    /// A tenant's grants are being made offers: these are for their clients.
    settling: bool,
}

codec_struct!(Tenants {
    all,
    turns,
    settling
});

impl Tenants {
    /// Of the components that decide for subtrees.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &str> {
        self.all
            .values()
            .map(|tenant| tenant.record.digest.as_str())
    }
}

#[derive(Debug)]
struct Tenant {
    record: PolicyRecord,
    /// What the shell calls the configured policy; none: it is being loaded, or cannot be.
    loaded: Option<u64>,
    /// Consecutive failed turns.
    failures: u32,
    retry_at: Option<Timestamp>,
    left_out: Option<Reason>,
    last_fault: Option<Reason>,
    /// What was granted to the subtree since the last turn began.
    waiting: Vec<OfferId>,
    turn: Option<Turn>,
    tally: TenantTally,
}

codec_struct!(Tenant {
    record,
    loaded,
    failures,
    retry_at,
    left_out,
    last_fault,
    waiting,
    turn,
    tally
});

/// What a policy is deciding.
#[derive(Debug)]
struct Turn {
    number: u64,
    /// The native policy has it.
    native: bool,
    offers: Vec<(OfferId, AgentId)>,
    told: Told,
}

codec_struct!(Turn {
    number,
    native,
    offers,
    told
});

/// Handles that the policy was told in a turn, demands with their clients.
#[derive(Debug, Default)]
struct Told {
    agents: BTreeSet<u32>,
    clients: BTreeSet<u32>,
    demands: BTreeMap<u32, u32>,
}

codec_struct!(Told {
    agents,
    clients,
    demands
});

/// What came of a tenant's turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantTally {
    /// Turns that were settled.
    pub turns: u64,
    /// Of those by the native policy, in place of one that failed or was not there.
    pub native_turns: u64,
    /// Grants of the seat's policy to the subtree.
    pub granted: u64,
    /// Grants within that became offers.
    pub offers: u64,
    /// Grants within that were overtaken by events.
    pub stale: u64,
    /// Turns in which the policy failed.
    pub failures: u64,
}

codec_struct!(TenantTally {
    turns,
    native_turns,
    granted,
    offers,
    stale,
    failures
});

/// A role's own policy, for those who look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantView {
    /// The role.
    pub role: RoleName,
    /// Which policy, who set it and when.
    pub record: PolicyRecord,
    /// The native policy decides within instead.
    pub fallback: bool,
    /// Why it does not decide any more.
    pub left_out: Option<Reason>,
    /// How it failed last.
    pub last_fault: Option<Reason>,
    /// What came of it.
    pub tally: TenantTally,
}

impl Core {
    /// Roles with a policy of their own.
    pub fn tenants(&self) -> impl Iterator<Item = TenantView> {
        let all = self.allocation.tenants.all.iter();
        all.map(|(role, tenant)| TenantView {
            role: role.clone(),
            record: tenant.record.clone(),
            fallback: !self.may_decide(tenant),
            left_out: tenant.left_out.clone(),
            last_fault: tenant.last_fault.clone(),
            tally: tenant.tally,
        })
    }

    pub(crate) fn roles_with_policies(&self) -> impl Iterator<Item = &RoleName> {
        self.allocation.tenants.all.keys()
    }

    /// Those that decide, and what takes them out.
    pub(crate) fn tenants_guarded(&self) -> impl Iterator<Item = (&RoleName, &[WaitGuard])> {
        let all = self.allocation.tenants.all.iter();
        all.filter(|(_, tenant)| self.may_decide(tenant))
            .map(|(role, tenant)| (role, tenant.record.guards.as_slice()))
    }

    /// Whether the role's own policy decides within, and not the native one.
    pub(crate) fn own_decides(&self, role: &RoleName) -> bool {
        let tenant = self.allocation.tenants.all.get(role);
        tenant.is_some_and(|tenant| self.may_decide(tenant))
    }

    /// The policy of the subtree in which a role is, if it decides there: its number, name and version.
    pub(crate) fn tenant_to_ask(&self, role: &RoleName) -> Option<(u64, String)> {
        let own = self.tenant_of(role)?;
        let tenant = self.allocation.tenants.all.get(own)?;
        let number = tenant.loaded.filter(|_| self.may_decide(tenant))?;
        let PolicyRecord { name, version, .. } = &tenant.record;
        Some((number, format!("{name} {version}")))
    }

    /// Roles' own policies that decide for any of these roles.
    pub(crate) fn tenants_in_words(&self, roles: &[RoleName]) -> Vec<String> {
        let all = self.allocation.tenants.all.iter();
        let decides = |own: &RoleName| roles.iter().any(|role| self.tenant_of(role) == Some(own));
        let words = all.filter(|(own, _)| decides(own)).map(|(own, tenant)| {
            let PolicyRecord { name, version, .. } = &tenant.record;
            let instead = match self.may_decide(tenant) {
                true => "",
                false => "native fallback for ",
            };
            format!("{instead}{name} {version} within {own}")
        });
        words.collect()
    }

    /// What was granted to subtrees whose policies have not given it on yet.
    pub(crate) fn offers_with_tenants(&self) -> impl Iterator<Item = OfferId> {
        self.allocation.tenants.all.values().flat_map(|tenant| {
            let turn = tenant.turn.iter().flat_map(|turn| &turn.offers);
            let turn = turn.map(|(offer, _)| *offer);
            turn.chain(tenant.waiting.iter().copied())
        })
    }

    /// The native policy decides within until the role's is set anew.
    pub(crate) fn leave_tenant_out(&mut self, role: &RoleName, why: Reason) {
        if let Some(tenant) = self.allocation.tenants.all.get_mut(role) {
            tenant.left_out = Some(why.clone());
        }
        self.begin_tenant_waits_anew(role);
        self.everything_wanted();
        self.note_of_tenant(role, why);
    }

    fn note_of_tenant(&mut self, role: &RoleName, why: Reason) {
        let text = format!("the policy of {role}: {}", why.text);
        self.note(None, Reason { text, ..why });
    }

    /// Whether the role of this name has a policy of its own.
    pub(crate) fn is_delegated(&self, name: &str) -> bool {
        let mut roles = self.allocation.tenants.all.keys();
        roles.any(|role| role.as_str() == name)
    }

    /// The role with a policy of its own in whose subtree this one is.
    pub(crate) fn tenant_of(&self, role: &RoleName) -> Option<&RoleName> {
        let mut roles = self.allocation.tenants.all.keys();
        roles.find(|own| *own == role || role.is_strictly_below(own))
    }

    /// Whether an offer under this role is for the subtree, and not yet for a client.
    pub(crate) fn is_for_tenant(&self, role: &RoleName) -> bool {
        !self.allocation.tenants.settling && self.tenant_of(role).is_some()
    }

    /// Something was granted to a subtree.
    pub(crate) fn granted_to_tenant(&mut self, role: &RoleName, offer: OfferId) {
        let own = self.tenant_of(role).cloned();
        let tenant = own.and_then(|own| self.allocation.tenants.all.get_mut(&own));
        if let Some(tenant) = tenant {
            tenant.waiting.push(offer);
            tenant.tally.granted += 1;
        }
    }

    pub(crate) fn role_policy_asked(&mut self, ticket: Ticket, role: &RoleName, set: RolePolicy) {
        if let Err(why) = self.check_role_policy(role, &set) {
            return self.reply(ticket, Reply::Refused(why));
        }
        let RolePolicy {
            tenant,
            identity,
            by,
            why,
            guards,
        } = set;
        let record = identity.map(|identity| {
            Box::new(PolicyRecord {
                by,
                why,
                guards,
                ..self.record(&identity, PolicyCause::Swapped, None)
            })
        });
        self.facts.push(Fact::RolePolicySet {
            role: role.clone(),
            policy: record.clone(),
        });
        self.put_role_policy(role, record.map(|record| *record));
        if let Some(set) = self.allocation.tenants.all.get_mut(role) {
            set.loaded = Some(tenant);
        }
        self.everything_wanted();
        self.reply(ticket, Reply::Done);
    }

    fn check_role_policy(&self, role: &RoleName, set: &RolePolicy) -> Result<(), Reason> {
        let refuse = |code, remedy, text: String| Err(Reason::new(code, remedy, text));
        let all = &self.allocation.tenants.all;
        let Some(identity) = &set.identity else {
            if all.contains_key(role) {
                return Ok(());
            }
            let text = format!("{role} has no policy of its own");
            return refuse(code::INVALID, Remedy::ChooseAnew, text);
        };
        if identity.is_native() {
            let text = "the native policy stands in where a role's own fails: give a component";
            return refuse(code::INVALID, Remedy::Mend, text.to_owned());
        }
        let nested =
            |other: &&RoleName| other.is_strictly_below(role) || role.is_strictly_below(other);
        if let Some(other) = all.keys().find(nested) {
            let text = format!(
                "{other} has a policy of its own, and a policy within another's subtree is not offered: \
                 give one to roles side by side, or take that one away first with \
                 `role set {other} --policy none`"
            );
            return refuse(code::UNSUPPORTED, Remedy::Unsupported, text);
        }
        if !all.contains_key(role) && all.len() >= TENANTS_MAX {
            let text =
                format!("{TENANTS_MAX} roles have policies of their own, as many as are room");
            return refuse(code::LIMIT, Remedy::Mend, text);
        }
        if set.guards.len() > GUARDS_MAX {
            let text = format!("{} guards, and {GUARDS_MAX} are room", set.guards.len());
            return refuse(code::LIMIT, Remedy::Mend, text);
        }
        for (what, text, max) in [
            (
                "configuration",
                &identity.config,
                crate::swap::CONFIG_BYTES_MAX,
            ),
            ("reason", &set.why, crate::swap::WORDS_BYTES_MAX),
            ("name of who asks", &set.by, crate::swap::WORDS_BYTES_MAX),
        ] {
            if text.len() > max {
                let text = format!("the {what} has {} bytes, and {max} are room", text.len());
                return refuse(code::LIMIT, Remedy::Mend, text);
            }
        }
        Ok(())
    }

    /// Puts a role's policy in place, live and in recovery alike; none: it has none any more.
    pub(crate) fn put_role_policy(&mut self, role: &RoleName, record: Option<PolicyRecord>) {
        self.begin_tenant_waits_anew(role);
        let before = self.allocation.tenants.all.remove(role);
        if let Some(before) = before {
            if let Some(tenant) = before.loaded {
                self.emit_durable(Action::DropTenant { tenant });
            }
            let turn = before.turn.into_iter().flat_map(|turn| turn.offers);
            let offers = turn.map(|(offer, _)| offer).chain(before.waiting);
            self.end_kept(&offers.collect::<Vec<_>>());
        }
        let handle = self.handles.roles.handle(role);
        self.feed.roles.insert(handle);
        if let Some(record) = record {
            let tenant = Tenant {
                record,
                loaded: None,
                failures: 0,
                retry_at: None,
                left_out: None,
                last_fault: None,
                waiting: Vec::new(),
                turn: None,
                tally: TenantTally::default(),
            };
            self.allocation.tenants.all.insert(role.clone(), tenant);
        }
    }

    /// What of it a snapshot needs.
    pub(crate) fn role_policy_facts(&self) -> impl Iterator<Item = Fact> {
        let all = self.allocation.tenants.all.iter();
        all.map(|(role, tenant)| Fact::RolePolicySet {
            role: role.clone(),
            policy: Some(Box::new(tenant.record.clone())),
        })
    }

    /// The shell of a host that goes on has loaded it.
    pub(crate) fn tenant_loaded(&mut self, role: &RoleName, number: u64) {
        match self.allocation.tenants.all.get_mut(role) {
            Some(tenant) if tenant.loaded.is_none() => tenant.loaded = Some(number),
            // Another one was set meanwhile, or none.
            _ => self.emit(Action::DropTenant { tenant: number }),
        }
    }

    pub(crate) fn tenant_unavailable(&mut self, role: &RoleName, fault: Reason) {
        self.note(None, fault.clone());
        if let Some(tenant) = self.allocation.tenants.all.get_mut(role)
            && tenant.loaded.is_none()
        {
            tenant.left_out = Some(fault);
        }
    }

    fn may_decide(&self, tenant: &Tenant) -> bool {
        tenant.loaded.is_some()
            && tenant.left_out.is_none()
            && tenant.retry_at.is_none_or(|at| at <= self.now)
    }

    /// Whoever was granted something since has a turn.
    pub(crate) fn run_tenants(&mut self) {
        let idle = |(role, tenant): (&RoleName, &Tenant)| {
            (tenant.turn.is_none() && !tenant.waiting.is_empty()).then(|| role.clone())
        };
        let due: Vec<RoleName> = self
            .allocation
            .tenants
            .all
            .iter()
            .filter_map(idle)
            .collect();
        for role in due {
            let Some(tenant) = self.allocation.tenants.all.get_mut(&role) else {
                continue;
            };
            let waiting = std::mem::take(&mut tenant.waiting);
            let open = |id: OfferId| Some((id, self.offers.get(&id)?.offer.agent));
            let offers: Vec<(OfferId, AgentId)> = waiting.into_iter().filter_map(open).collect();
            if !offers.is_empty() {
                self.begin_turn(&role, offers, Who::ItsOwn);
            }
        }
    }

    fn begin_turn(&mut self, role: &RoleName, offers: Vec<(OfferId, AgentId)>, who: Who) {
        let (changes, told) = self.picture_of(role, &offers);
        let agents: BTreeSet<u32> = offers.iter().map(|(_, agent)| agent.0).collect();
        self.allocation.tenants.turns += 1;
        let number = self.allocation.tenants.turns;
        let Some(tenant) = self.allocation.tenants.all.get(role) else {
            return;
        };
        let own = tenant
            .loaded
            .filter(|_| who == Who::ItsOwn && self.may_decide(tenant));
        let turn = Turn {
            number,
            native: own.is_none(),
            offers,
            told,
        };
        if let Some(tenant) = self.allocation.tenants.all.get_mut(role) {
            tenant.turn = Some(turn);
        }
        let cycle = Cycle {
            number,
            now: self.now,
            seed: mix(self.config.seed ^ number.rotate_left(32)),
            agents: Some(agents.into_iter().collect()),
            grants_max: self.config.grants_max,
        };
        self.emit(Action::RunTenant {
            tenant: own,
            turn: number,
            changes,
            cycle,
        });
    }

    pub(crate) fn tenant_proposed(&mut self, number: u64, proposal: &Proposal) {
        let Some((role, turn)) = self.take_turn(number) else {
            return;
        };
        let native = turn.native;
        let settled = self.settle(&role, &turn, proposal);
        let now = self.now;
        let Some(tenant) = self.allocation.tenants.all.get_mut(&role) else {
            return;
        };
        tenant.tally.turns += 1;
        tenant.tally.native_turns += u64::from(native);
        match settled {
            Ok(()) if native => {}
            Ok(()) => {
                tenant.failures = 0;
                tenant.retry_at = None;
            }
            Err(fault) => self.tenant_failed_by(&role, fault, now),
        }
    }

    /// The same turn is the native policy's then.
    pub(crate) fn tenant_failed(&mut self, number: u64, fault: Reason) {
        let Some((role, turn)) = self.take_turn(number) else {
            return;
        };
        let now = self.now;
        let still = |(id, _): &(OfferId, AgentId)| self.offers.contains_key(id);
        let offers: Vec<(OfferId, AgentId)> = turn.offers.into_iter().filter(still).collect();
        self.tenant_failed_by(&role, fault, now);
        if turn.native {
            // It has nobody to stand in for it: what was granted goes back.
            let offers: Vec<OfferId> = offers.into_iter().map(|(id, _)| id).collect();
            return self.end_kept(&offers);
        }
        if !offers.is_empty() {
            self.begin_turn(&role, offers, Who::Native);
        }
    }

    fn tenant_failed_by(&mut self, role: &RoleName, fault: Reason, now: Timestamp) {
        let failures_max = self.config.policy_failures_max;
        let Some(tenant) = self.allocation.tenants.all.get_mut(role) else {
            return;
        };
        tenant.tally.failures += 1;
        tenant.failures += 1;
        tenant.last_fault = Some(fault.clone());
        if tenant.failures >= failures_max {
            tenant.left_out = Some(fault.clone());
        } else {
            tenant.retry_at = Some(now + backoff(tenant.failures));
        }
        self.note_of_tenant(role, fault);
    }

    fn take_turn(&mut self, number: u64) -> Option<(RoleName, Turn)> {
        let mut all = self.allocation.tenants.all.iter_mut();
        all.find_map(|(role, tenant)| {
            let turn = tenant.turn.take_if(|turn| turn.number == number)?;
            Some((role.clone(), turn))
        })
    }

    /// What was kept for a subtree is free again.
    fn end_kept(&mut self, offers: &[OfferId]) {
        let why = Reason::new(
            code::STALE_GRANT,
            Remedy::Retry,
            "the role's policy changed",
        );
        for offer in offers {
            self.end_offer(*offer, &Ending::Rescinded(why.clone()));
        }
    }
}

/// Who has a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    ItsOwn,
    Native,
}
