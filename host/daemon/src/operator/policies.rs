//! Policies that operators put in, and take out again.

use std::time::Duration;

use proffer_core::{
    CANARY_LENGTH, CanaryEnd, CanaryOutcome, Core, DemandFindings, DemandQuestion, Event,
    PolicyIdentity, PolicySwap, Reply, RolePolicy, SwapTrial,
};
use proffer_model::code;
use proffer_model::fact::{GuardedWait, PolicyCause, PolicyRecord, WaitGuard};
use proffer_model::policy::Feeds;
use proffer_plugin::{Kind, PluginFault};
use proffer_rpc::operator as rpc;
use proffer_rpc::operator::{Answer, OperatorError, Paged};

use super::{HostOperator, gone, refused, role_names};
use crate::config::parse_span;
use crate::instance::spawn;
use crate::policy_seat::LoadedPolicy;

/// A candidate takes its snapshot in and waits for the cycle under way; the operator's own patience
/// (three minutes) shall not end before.
const SWAP_WITHIN: Duration = Duration::from_secs(150);

/// Waits are looked at once a second: what is to stay below less cannot be seen.
const GUARDED_MIN: proffer_model::Duration = proffer_model::Duration(1_000);
/// Less compares next to nothing.
const SHADOW_MIN: proffer_model::Duration = proffer_model::Duration(100);
/// A candidate keeps an instance and a copy of every change; a day shows what a day can.
const SHADOW_MAX: proffer_model::Duration = proffer_model::Duration::DAY;

/// Who asks, if they do not say.
const OPERATOR: &str = "operator";

/// What is to be put in.
struct Next {
    /// None: the native one, without a configuration.
    policy: Option<LoadedPolicy>,
    by: String,
    why: String,
    rollback_to: Option<u64>,
    guards: Vec<WaitGuard>,
    trial: Option<SwapTrial>,
}

impl HostOperator {
    /// Another policy, checked in full beside the one that runs: world, contract, configuration. Nothing
    /// of the one that runs is touched before the core has the word.
    pub(super) async fn swap(&self, swap: rpc::SwapPolicy) -> Answer<rpc::SwappedPolicy> {
        let rpc::SwapPolicy {
            component,
            config,
            by,
            why,
            guards,
            shadow,
            dry_run,
            canary,
            canary_for,
        } = swap;
        let guards = guards.iter().map(|text| guard(text));
        let guards = guards.collect::<Answer<Vec<WaitGuard>>>()?;
        let trial = match canary.is_empty() {
            true if canary_for.is_some() => {
                let text = "for how long a canary decides, and no roles: say which with --canary";
                return Err(OperatorError::Invalid(text.to_owned()));
            }
            true => shadow_of(shadow, dry_run)?,
            false => Some(canary_of(&canary, canary_for, shadow, dry_run)?),
        };
        // The pin is held until the core refers to it.
        let (policy, _pin) = if component.is_empty() {
            let configured = !config.is_empty();
            (configured.then(|| LoadedPolicy::native(&config)), None)
        } else {
            let plugin = self.plugins.load(component.to_vec(), Kind::Policy).await;
            let plugin = plugin.map_err(|error| OperatorError::Invalid(error.to_string()))?;
            let pin = self.keep(plugin.digest(), component.to_vec()).await?;
            (Some(LoadedPolicy::new(plugin, &config)), Some(pin))
        };
        self.put_in(Next {
            policy,
            by,
            why,
            rollback_to: None,
            guards,
            trial,
        })
        .await
    }

    /// The canary takes the seat.
    pub(super) async fn promote(&self, promote: rpc::PromotePolicy) -> Answer<rpc::SwappedPolicy> {
        let rpc::PromotePolicy { by, why } = promote;
        let before = self.look(first_or_last).await?;
        self.end_canary(CanaryOutcome::Promoted, by, why).await?;
        let record = self.look(first_or_last).await?;
        Ok(rpc::SwappedPolicy {
            from: record_row(&before),
            record: Some(record_row(&record)),
        })
    }

    async fn end_canary(&self, outcome: CanaryOutcome, by: String, why: String) -> Answer<()> {
        let by = named(by);
        let end = Box::new(CanaryEnd { outcome, by, why });
        let event = |ticket| Event::CanaryEndAsked { ticket, end };
        match self.handle.call(event, SWAP_WITHIN).await.map_err(gone)? {
            Reply::Refused(why) => Err(refused(&why)),
            _ => Ok(()),
        }
    }

    /// The canary goes, if there is one; otherwise the policy of the seat does.
    pub(super) async fn roll_back(&self, back: rpc::RollBackPolicy) -> Answer<rpc::SwappedPolicy> {
        if self.look(|core| core.policy_canary().is_some()).await? {
            let rpc::RollBackPolicy { by, why } = back;
            self.end_canary(CanaryOutcome::RolledBack, by, why).await?;
            let (from, record) = self.look(|core| (last(core), first_or_last(core))).await?;
            return Ok(rpc::SwappedPolicy {
                from: record_row(&from),
                record: Some(record_row(&record)),
            });
        }
        let before = self.look(|core| core.policy_before().cloned()).await?;
        let Some(record) = before else {
            return Err(OperatorError::Conflict(
                "there is no policy to go back to; see `proffer policy history`".to_owned(),
            ));
        };
        let policy = if record.is_fallback() {
            None
        } else {
            let loaded = self.loader().load(&record).await;
            let (policy, _) = loaded.map_err(|why| refused(&why))?;
            Some(policy)
        };
        self.put_in(Next {
            policy,
            by: back.by,
            why: back.why,
            rollback_to: Some(record.number),
            guards: record.guards,
            trial: None,
        })
        .await
    }

    async fn put_in(&self, next: Next) -> Answer<rpc::SwappedPolicy> {
        let Next {
            policy,
            by,
            why,
            rollback_to,
            guards,
            trial,
        } = next;
        let tried = trial.as_ref().is_some_and(|trial| trial.canary.is_empty());
        let (candidate, identity, feeds) = match policy {
            None => (0, PolicyIdentity::native().into(), Feeds::default()),
            Some(policy) => {
                let identity = policy.identity.clone();
                let spawned = spawn(&self.plugins, &policy).await;
                let (instance, feeds) = spawned.map_err(|fault| unfit(&identity, &fault))?;
                (self.candidates.keep(policy, instance), identity, feeds)
            }
        };
        let by = named(by);
        let swap = Box::new(PolicySwap {
            candidate,
            identity,
            feeds,
            by,
            why,
            rollback_to,
            guards,
            trial,
        });
        let before = self.look(first_or_last).await?;
        let event = |ticket| Event::PolicySwapAsked { ticket, swap };
        match self.handle.call(event, SWAP_WITHIN).await.map_err(gone)? {
            Reply::Refused(why) => {
                self.candidates.forget(candidate);
                Err(refused(&why))
            }
            _ if tried => Ok(rpc::SwappedPolicy {
                from: record_row(&before),
                record: None,
            }),
            _ => {
                // A canary's, if it is one.
                let record = self.look(last).await?;
                Ok(rpc::SwappedPolicy {
                    from: record_row(&before),
                    record: Some(record_row(&record)),
                })
            }
        }
    }

    /// A role's own policy, checked in full before the core has the word; or none any more.
    pub(super) async fn give_role_policy(&self, set: rpc::SetRolePolicy) -> Answer<()> {
        let rpc::SetRolePolicy {
            name,
            component,
            config,
            by,
            why,
            guards,
        } = set;
        let guards = guards.iter().map(|text| guard(text));
        let guards = guards.collect::<Answer<Vec<WaitGuard>>>()?;
        // The pin is held until the core refers to it.
        let (tenant, identity, _pin) = if component.is_empty() {
            (0, None, None)
        } else {
            let plugin = self.plugins.load(component.to_vec(), Kind::Policy).await;
            let plugin = plugin.map_err(|error| OperatorError::Invalid(error.to_string()))?;
            let pin = self.keep(plugin.digest(), component.to_vec()).await?;
            let policy = LoadedPolicy::new(plugin, &config);
            let identity = policy.identity.clone();
            let spawned = spawn(&self.plugins, &policy).await;
            spawned.map_err(|fault| unfit(&identity, &fault))?;
            (self.tenants.keep(policy), Some(identity), Some(pin))
        };
        let set = Box::new(RolePolicy {
            tenant,
            identity,
            by: named(by),
            why,
            guards,
        });
        let asked = self.done(|ticket| Event::RolePolicyAsked {
            ticket,
            role: name,
            set,
        });
        let asked = asked.await;
        if asked.is_err() {
            self.tenants.forget(tenant);
        }
        asked.map(drop)
    }

    /// What only policies can say of a framework's demands, each what it decides. One that does not answer
    /// is no reason to say nothing.
    pub(super) async fn ask_policies(&self, framework: &str) -> Answer<Vec<DemandFindings>> {
        let name = framework.to_owned();
        let questions = self.look(move |core| core.policy_questions(&name)).await?;
        let mut found = Vec::new();
        let mut silent = Vec::new();
        for asking in questions {
            let DemandQuestion {
                key,
                asked,
                policy,
                question,
            } = asking;
            if silent.contains(&asked) {
                continue;
            }
            match self.asker.explain(asked, question).await {
                Ok(mut findings) => {
                    // One that has not been asked for long does not know everybody.
                    findings.retain(|finding| finding.why.code != code::UNKNOWN);
                    found.push(DemandFindings {
                        key,
                        asked,
                        policy,
                        findings,
                    });
                }
                Err(why) => {
                    tracing::warn!(why = why.text, policy, "a policy does not explain");
                    silent.push(asked);
                }
            }
        }
        Ok(found)
    }

    pub(super) async fn history(
        &self,
        query: rpc::PolicyHistoryQuery,
    ) -> Answer<Paged<rpc::PolicyRecord>> {
        let after = query.page.after::<u64>()?;
        self.look(move |core| {
            let rows = core.policy_history();
            let rows = rows.filter(|record| Some(record.number) > after);
            let rows = rows.map(|record| rpc::PolicyRecord {
                would_take_back: core.reclaims_of(record.number),
                ..record_row(record)
            });
            query.page.take(rows, |row| row.number)
        })
        .await
    }
}

/// The record that was made last.
fn last(core: &Core) -> PolicyRecord {
    let last = core.policy_history().next_back().cloned();
    last.unwrap_or_else(|| first_or_last(core))
}

fn named(by: String) -> String {
    if by.is_empty() {
        OPERATOR.to_owned()
    } else {
        by
    }
}

/// The record of the policy of the seat, as it would be if there is none yet.
fn first_or_last(core: &Core) -> PolicyRecord {
    if let Some(record) = core.policy_record() {
        return record.clone();
    }
    let identity = match core.policy().loaded {
        Some(identity) => (*identity).clone(),
        None => PolicyIdentity::native(),
    };
    PolicyRecord {
        number: 1,
        name: identity.name,
        version: identity.version,
        digest: identity.digest,
        config: identity.config,
        by: "the host".to_owned(),
        at: proffer_model::Timestamp(0),
        cause: PolicyCause::Settings,
        why: String::new(),
        guards: Vec::new(),
        before: None,
    }
}

fn record_row(record: &PolicyRecord) -> rpc::PolicyRecord {
    let PolicyRecord {
        number,
        name,
        version,
        digest,
        config,
        by,
        at,
        cause,
        why,
        guards,
        before,
    } = record.clone();
    let mut roles = Vec::new();
    let (cause, fault) = match cause {
        PolicyCause::Settings => (rpc::PolicyCause::Settings, None),
        PolicyCause::Swapped => (rpc::PolicyCause::Swapped, None),
        PolicyCause::RolledBack => (rpc::PolicyCause::RolledBack, None),
        PolicyCause::Failed(fault) => (rpc::PolicyCause::Failed, Some(fault)),
        PolicyCause::Canary { roles: its } => {
            roles.extend(its.iter().map(ToString::to_string));
            (rpc::PolicyCause::Canary, None)
        }
        PolicyCause::CanaryEnded(why) => (rpc::PolicyCause::CanaryEnded, Some(why)),
    };
    rpc::PolicyRecord {
        number,
        name,
        version,
        digest,
        config,
        by,
        at,
        cause,
        why,
        fault,
        before,
        guards: guards.iter().map(ToString::to_string).collect(),
        roles,
        would_take_back: Vec::new(),
    }
}

/// `max-wait<10s`: which wait stays below what.
fn guard(text: &str) -> Answer<WaitGuard> {
    let wrong = || {
        let text = text.escape_debug();
        OperatorError::Invalid(format!(
            "the guard '{text}': wanted max-wait<SPAN or p99-wait<SPAN with at least {GUARDED_MIN}, as in \
             max-wait<10s"
        ))
    };
    let (wait, below) = text.split_once('<').ok_or_else(wrong)?;
    let wait = match wait.trim() {
        "max-wait" => GuardedWait::Longest,
        "p99-wait" => GuardedWait::P99,
        _ => return Err(wrong()),
    };
    let below = parse_span(below.trim()).map_err(|_| wrong())?;
    if below < GUARDED_MIN {
        return Err(wrong());
    }
    Ok(WaitGuard { wait, below })
}

fn canary_of(
    roles: &[String],
    length: Option<proffer_model::Duration>,
    shadow: Option<proffer_model::Duration>,
    dry_run: bool,
) -> Answer<SwapTrial> {
    let invalid = |text: String| Err(OperatorError::Invalid(text));
    if shadow.is_some() {
        return invalid("a canary decides and a shadow does not: give one of the two".to_owned());
    }
    let (least, most) = (CANARY_LENGTH.start(), CANARY_LENGTH.end());
    match length {
        Some(length) if !CANARY_LENGTH.contains(&length) => {
            return invalid(format!("a canary for {length}: wanted {least} to {most}"));
        }
        None if dry_run => {
            return invalid("a dry run ends by itself: say after how long".to_owned());
        }
        _ => {}
    }
    Ok(SwapTrial {
        length,
        switch: !dry_run,
        canary: role_names(roles)?,
    })
}

fn shadow_of(shadow: Option<proffer_model::Duration>, dry_run: bool) -> Answer<Option<SwapTrial>> {
    match shadow {
        None if dry_run => Err(OperatorError::Invalid(
            "a dry run compares: say for how long with --shadow".to_owned(),
        )),
        None => Ok(None),
        Some(length) if !(SHADOW_MIN..=SHADOW_MAX).contains(&length) => {
            Err(OperatorError::Invalid(format!(
                "a shadow of {length}: wanted {SHADOW_MIN} to {SHADOW_MAX}"
            )))
        }
        Some(length) => Ok(Some(SwapTrial {
            length: Some(length),
            switch: !dry_run,
            canary: Vec::new(),
        })),
    }
}

/// What a policy says to its configuration is for the operator to read.
fn unfit(identity: &PolicyIdentity, fault: &PluginFault) -> OperatorError {
    OperatorError::Invalid(format!("{} {}: {fault}", identity.name, identity.version))
}
