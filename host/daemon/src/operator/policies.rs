//! Policies that operators put in, and take out again.

use std::time::Duration;

use proffer_core::{Core, Event, PolicyIdentity, PolicySwap, Reply};
use proffer_model::fact::{PolicyCause, PolicyRecord};
use proffer_model::policy::Feeds;
use proffer_plugin::{Kind, PluginFault};
use proffer_rpc::operator as rpc;
use proffer_rpc::operator::{Answer, OperatorError, Paged};

use super::{HostOperator, gone, refused};
use crate::policy_seat::{LoadedPolicy, spawn};

/// A candidate takes its snapshot in and waits for the cycle under way; the operator's own patience
/// (three minutes) shall not end before.
const SWAP_WITHIN: Duration = Duration::from_secs(150);

/// Who asks, if they do not say.
const OPERATOR: &str = "operator";

/// What is to be put in.
struct Next {
    /// None: the native one.
    policy: Option<LoadedPolicy>,
    by: String,
    why: String,
    rollback_to: Option<u64>,
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
        } = swap;
        let policy = if component.is_empty() {
            if !config.is_empty() {
                let text = "the native policy takes no configuration: swap to its component";
                return Err(OperatorError::Invalid(text.to_owned()));
            }
            None
        } else {
            let plugin = self.plugins.load(component.to_vec(), Kind::Policy).await;
            let plugin = plugin.map_err(|error| OperatorError::Invalid(error.to_string()))?;
            self.keep(plugin.digest(), component.to_vec()).await?;
            Some(LoadedPolicy::new(plugin, &config))
        };
        self.put_in(Next {
            policy,
            by,
            why,
            rollback_to: None,
        })
        .await
    }

    pub(super) async fn roll_back(&self, back: rpc::RollBackPolicy) -> Answer<rpc::SwappedPolicy> {
        let before = self.look(|core| core.policy_before().cloned()).await?;
        let Some(record) = before else {
            return Err(OperatorError::Conflict(
                "there is no policy to go back to; see `proffer policy history`".to_owned(),
            ));
        };
        let policy = if record.digest.is_empty() {
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
        })
        .await
    }

    async fn put_in(&self, next: Next) -> Answer<rpc::SwappedPolicy> {
        let Next {
            policy,
            by,
            why,
            rollback_to,
        } = next;
        let (candidate, identity, feeds) = match policy {
            None => (0, PolicyIdentity::native().into(), Feeds::default()),
            Some(policy) => {
                let identity = policy.identity.clone();
                let spawned = spawn(&self.plugins, &policy).await;
                let (instance, feeds) = spawned.map_err(|fault| unfit(&identity, &fault))?;
                (self.candidates.keep(policy, instance), identity, feeds)
            }
        };
        let by = if by.is_empty() {
            OPERATOR.to_owned()
        } else {
            by
        };
        let swap = Box::new(PolicySwap {
            candidate,
            identity,
            feeds,
            by,
            why,
            rollback_to,
        });
        let before = self.look(first_or_last).await?;
        let event = |ticket| Event::PolicySwapAsked { ticket, swap };
        match self.handle.call(event, SWAP_WITHIN).await.map_err(gone)? {
            Reply::Refused(why) => {
                self.candidates.forget(candidate);
                Err(refused(&why))
            }
            _ => {
                let record = self.look(|core| core.policy_history().next_back().cloned());
                let record = record.await?.ok_or_else(|| {
                    OperatorError::Internal("a policy was put in without a record".to_owned())
                })?;
                Ok(rpc::SwappedPolicy {
                    from: record_row(&before),
                    record: record_row(&record),
                })
            }
        }
    }

    pub(super) async fn history(
        &self,
        query: rpc::PolicyHistoryQuery,
    ) -> Answer<Paged<rpc::PolicyRecord>> {
        let after = query.page.after::<u64>()?;
        self.look(move |core| {
            let rows = core.policy_history();
            let rows = rows.filter(|record| Some(record.number) > after);
            query.page.take(rows.map(record_row), |row| row.number)
        })
        .await
    }
}

/// The record of the policy that decides, as it would be if there is none yet.
fn first_or_last(core: &Core) -> PolicyRecord {
    if let Some(record) = core.policy_history().next_back() {
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
        before,
    } = record.clone();
    let (cause, fault) = match cause {
        PolicyCause::Settings => (rpc::PolicyCause::Settings, None),
        PolicyCause::Swapped => (rpc::PolicyCause::Swapped, None),
        PolicyCause::RolledBack => (rpc::PolicyCause::RolledBack, None),
        PolicyCause::Failed(fault) => (rpc::PolicyCause::Failed, Some(fault)),
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
    }
}

/// What a policy says to its configuration is for the operator to read.
fn unfit(identity: &PolicyIdentity, fault: &PluginFault) -> OperatorError {
    OperatorError::Invalid(format!("{} {}: {fault}", identity.name, identity.version))
}
