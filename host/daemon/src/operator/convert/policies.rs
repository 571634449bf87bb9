//! Policies as operators see them: the seat's, a canary, a trial, and roles' own.

use proffer_core::{
    CanaryView, Core, PolicyIdentity, RoleCompared, TenantView, Trial, reclaims_in_words,
};
use proffer_model::RoleName;
use proffer_model::fact::PolicyCause;
use proffer_rpc::operator as rpc;

use super::count;

pub(super) fn tenant(core: &Core, view: TenantView) -> rpc::RolePolicy {
    let waits = core.waits_of_tenant(&view.role);
    let TenantView {
        role: _,
        record,
        fallback,
        left_out,
        last_fault,
        tally,
    } = view;
    rpc::RolePolicy {
        name: record.name,
        version: record.version,
        digest: record.digest,
        config: record.config,
        by: record.by,
        at: record.at,
        why: record.why,
        fallback,
        last_fault: left_out.or(last_fault),
        turns: tally.turns,
        native_turns: tally.native_turns,
        granted: tally.granted,
        offers: tally.offers,
        stale: tally.stale,
        failures: tally.failures,
        guards: record.guards.iter().map(ToString::to_string).collect(),
        waiting: count(waits.waiting),
        longest_wait: waits.longest,
        p99_wait: waits.p99,
    }
}

pub(in crate::operator) fn policy(core: &Core) -> rpc::Policy {
    let (view, swaps, waits) = (core.policy(), core.policy_swaps(), core.waits());
    let record = core.policy_record();
    // One that is being loaded again decides as soon as it is.
    let identity = match (&view.loaded, record) {
        (Some(loaded), _) => (**loaded).clone(),
        (None, Some(record)) => PolicyIdentity {
            name: record.name.clone(),
            version: record.version.clone(),
            digest: record.digest.clone(),
            config: record.config.clone(),
        },
        (None, None) => PolicyIdentity::native(),
    };
    let fault = match record.map(|record| &record.cause) {
        Some(PolicyCause::Failed(fault)) => Some(fault.clone()),
        _ => None,
    };
    rpc::Policy {
        fallback: view.fallback && !identity.is_fallback(),
        name: identity.name,
        version: identity.version,
        digest: identity.digest,
        config: identity.config,
        cycles: view.cycles,
        grants: view.grants,
        rejected: view.grants_invalid,
        stale: view.grants_stale,
        failures: view.failed_cycles,
        last_fault: view.left_out.or(view.last_fault).or(fault),
        number: record.map_or(0, |record| record.number),
        swapping: swaps
            .candidate
            .map(|next| format!("{} {}", next.name, next.version))
            .unwrap_or_default(),
        probation: swaps.probation,
        before: core.policy_before().map(|record| record.number),
        swapped: swaps.swapped,
        taken_back: swaps.taken_back,
        guards: record.map_or(Vec::new(), |record| {
            record.guards.iter().map(ToString::to_string).collect()
        }),
        waiting: count(waits.waiting),
        longest_wait: waits.longest,
        p99_wait: waits.p99,
        would_take_back: core.reclaims_of(record.map_or(0, |record| record.number)),
        trial: core.policy_trial().map(trial),
        canary: core.policy_canary().map(canary),
    }
}

fn canary(view: CanaryView) -> rpc::PolicyCanary {
    let CanaryView {
        identity,
        roles,
        since,
        until,
        switch,
        tally,
        waits,
        guards,
    } = view;
    rpc::PolicyCanary {
        name: identity.name.clone(),
        version: identity.version.clone(),
        digest: identity.digest.clone(),
        roles: roles.iter().map(ToString::to_string).collect(),
        since,
        until,
        promotes: switch,
        cycles: tally.cycles,
        grants: tally.grants,
        stale: tally.stale,
        outside: tally.outside,
        left_to_it: tally.left_to_it,
        waiting: count(waits.waiting),
        longest_wait: waits.longest,
        p99_wait: waits.p99,
        guards: guards.iter().map(ToString::to_string).collect(),
    }
}

fn trial(trial: &Trial) -> rpc::PolicyTrial {
    let Trial {
        candidate,
        until,
        compared,
        ended,
        failed,
    } = trial;
    let looks = compared.looks.max(1);
    let mean_milli = |sum: u64| u32::try_from(sum / looks / 1_000).unwrap_or(u32::MAX);
    let role = |(role, row): (&RoleName, &RoleCompared)| rpc::TrialRole {
        share_milli: mean_milli(row.shares.0),
        would_share_milli: mean_milli(row.shares.1),
        role: role.to_string(),
        grants: row.grants.0,
        would_grant: row.grants.1,
        amounts: row.amounts.0.clone(),
        would_amounts: row.amounts.1.clone(),
    };
    rpc::PolicyTrial {
        candidate: format!("{} {}", candidate.name, candidate.version),
        until: *until,
        ended: *ended,
        fault: failed.clone(),
        cycles: compared.cycles,
        alike: compared.alike,
        wanting: compared.wanting,
        served: compared.demands.0,
        would_serve: compared.demands.1,
        reclaims: compared.reclaims.0,
        would_reclaim: compared.reclaims.1,
        invalid: compared.invalid.0,
        would_be_invalid: compared.invalid.1,
        longest_wait: compared.longest_wait.0,
        would_wait: compared.longest_wait.1,
        take_back: reclaims_in_words(&compared.taken.0),
        would_take_back: reclaims_in_words(&compared.taken.1),
        roles: compared.roles.iter().map(role).collect(),
    }
}
