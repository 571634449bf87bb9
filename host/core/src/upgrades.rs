//! Another version of a framework's component, tried while its tasks run.
//!
//! The call that is under way ends first. Then the new version is given the life-cycle event, alone;
//! only when that step is committed does the framework's record change, in the same fact. Whatever
//! else happens (a trap, an error, an overrun, a host that dies) leaves the version before, with its
//! state as it was: a step that fails leaves no trace.

use proffer_codec::codec_struct;
use proffer_model::fact::{Effect, Fact, FrameworkRecord, FrameworkStanding, UpgradeRecord};
use proffer_model::framework::Cause;
use proffer_model::{FrameworkId, Reason, Remedy, code};

use crate::action::{Action, Reply};
use crate::event::{FrameworkUpgrade, Ticket};
use crate::framework::{Framework, Item, Supervision};
use crate::machine::Core;

/// A version that is to be tried, or is being tried.
#[derive(Debug)]
pub(crate) struct Upgrade {
    ticket: Ticket,
    to: Component,
    /// None: a call of the version before is under way.
    trial: Option<Trial>,
}

codec_struct!(Upgrade { ticket, to, trial });

/// What an upgrade changes of a framework's record.
#[derive(Debug)]
struct Component {
    version: String,
    digest: String,
    config: String,
}

codec_struct!(Component {
    version,
    digest,
    config
});

/// What comes back if the trial fails.
#[derive(Debug)]
struct Trial {
    supervision: Supervision,
    /// A life-cycle event that the version before had not taken.
    displaced: Option<Cause>,
}

codec_struct!(Trial {
    supervision,
    displaced
});

impl Upgrade {
    /// The version that is tried.
    pub(crate) fn version(&self) -> &str {
        &self.to.version
    }

    /// Its component's digest.
    pub(crate) fn digest(&self) -> &str {
        &self.to.digest
    }
}

impl Framework {
    /// Whether it may be called: it is active, or a version of it is being tried.
    pub(crate) fn may_step(&self) -> bool {
        self.is_active() || self.is_on_trial()
    }

    pub(crate) fn is_on_trial(&self) -> bool {
        self.upgrade
            .as_ref()
            .is_some_and(|upgrade| upgrade.trial.is_some())
    }

    fn record_with(&self, to: &Component) -> FrameworkRecord {
        FrameworkRecord {
            version: to.version.clone(),
            digest: to.digest.clone(),
            config: to.config.clone(),
            ..self.record.clone()
        }
    }
}

impl Core {
    pub(crate) fn framework_upgrade_asked(&mut self, ticket: Ticket, asked: FrameworkUpgrade) {
        let framework = match self.find_framework(&asked.name) {
            Ok(framework) => framework,
            Err(why) => return self.reply(ticket, Reply::Refused(why)),
        };
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let to = Component {
            version: asked.version,
            digest: asked.digest,
            config: asked.config.unwrap_or_else(|| fw.record.config.clone()),
        };
        let name = &asked.name;
        let in_the_way = if matches!(fw.record.standing, FrameworkStanding::Removing(_)) {
            Some(format!("{name} is being removed"))
        } else if let Some(other) = &fw.upgrade {
            Some(format!(
                "{name} is being upgraded to {} already",
                other.version()
            ))
        } else if to.digest == fw.record.digest && to.config == fw.record.config {
            Some(format!(
                "{name} runs this component with this configuration already"
            ))
        } else {
            None
        };
        if let Some(text) = in_the_way {
            let why = Reason::new(code::INVALID, Remedy::ChooseAnew, text);
            return self.reply(ticket, Reply::Refused(why));
        }
        fw.upgrade = Some(Upgrade {
            ticket,
            to,
            trial: None,
        });
        self.begin_trial(framework);
    }

    /// Begins the trial of an upgrade that waits, if no call is under way any more.
    pub(crate) fn begin_trial(&mut self, framework: FrameworkId) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        if fw.in_flight.is_some() || fw.is_on_trial() {
            return;
        }
        let Some(mut upgrade) = fw.upgrade.take() else {
            return;
        };
        let mut displaced = None;
        fw.queue.retain(|item| match item {
            Item::Started(cause) => {
                displaced = Some(cause.clone());
                false
            }
            _ => true,
        });
        let cause = if fw.started {
            Cause::Upgraded(fw.record.version.clone())
        } else {
            Cause::First
        };
        fw.queue.push_front(Item::Started(cause));
        let attempt = fw.supervision.attempt;
        let supervision = std::mem::take(&mut fw.supervision);
        fw.supervision.attempt = attempt;
        let record = fw.record_with(&upgrade.to);
        upgrade.trial = Some(Trial {
            supervision,
            displaced,
        });
        fw.upgrade = Some(upgrade);
        self.ready.insert(framework);
        self.emit(Action::StartFramework(Box::new(record)));
    }

    /// The new version's first step is being committed: from here on it is the framework.
    pub(crate) fn trial_succeeded(&mut self, framework: FrameworkId) {
        let now = self.now;
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let Some(upgrade) = fw.upgrade.take_if(|upgrade| upgrade.trial.is_some()) else {
            return;
        };
        let outcome = UpgradeRecord {
            from: fw.record.version.clone(),
            version: upgrade.to.version.clone(),
            digest: upgrade.to.digest.clone(),
            at: now,
            refused: None,
        };
        fw.record = fw.record_with(&upgrade.to);
        if matches!(fw.record.standing, FrameworkStanding::Quarantined(_)) {
            // It goes on at the event that the version before failed at.
            self.leave_quarantine(framework);
        } else {
            let record = Box::new(fw.record.clone());
            self.facts.push(Fact::FrameworkSet(record));
        }
        self.remember_upgrade(framework, outcome);
        self.reply(upgrade.ticket, Reply::Done);
    }

    /// The new version failed in its first step: the one before goes on.
    pub(crate) fn trial_failed(&mut self, framework: FrameworkId, fault: &Reason) {
        let now = self.now;
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let Some(upgrade) = fw.upgrade.take() else {
            return;
        };
        let Some(trial) = upgrade.trial else {
            return;
        };
        let attempt = fw.supervision.attempt;
        fw.supervision = trial.supervision;
        fw.supervision.attempt = attempt;
        if let Some(cause) = trial.displaced {
            fw.queue.push_front(Item::Started(cause));
        }
        let text = format!(
            "{} {} did not start, so {} goes on: {}",
            fw.record.name, upgrade.to.version, fw.record.version, fault.text
        );
        let why = Reason {
            text,
            remedy: Remedy::Mend,
            ..fault.clone()
        };
        let outcome = UpgradeRecord {
            from: fw.record.version.clone(),
            version: upgrade.to.version,
            digest: upgrade.to.digest,
            at: now,
            refused: Some(fault.clone()),
        };
        let action = if fw.is_active() {
            Action::StartFramework(Box::new(fw.record.clone()))
        } else {
            Action::StopFramework { framework }
        };
        self.emit(action);
        self.ready.insert(framework);
        self.remember_upgrade(framework, outcome);
        self.note(Some(framework), why.clone());
        self.reply(upgrade.ticket, Reply::Refused(why));
    }

    fn remember_upgrade(&mut self, framework: FrameworkId, outcome: UpgradeRecord) {
        let effect = Effect::UpgradeTried(Box::new(outcome));
        self.apply_effect(framework, &effect);
        self.facts.push(Fact::Changed { framework, effect });
    }

    /// The framework is being removed: nothing of it is tried any more.
    pub(crate) fn give_up_upgrade(&mut self, framework: FrameworkId) {
        let upgrade = self
            .frameworks
            .get_mut(&framework)
            .and_then(|fw| fw.upgrade.take());
        if let Some(upgrade) = upgrade {
            let text = "the framework is being removed";
            let why = Reason::new(code::FRAMEWORK_REMOVED, Remedy::ChooseAnew, text);
            self.reply(upgrade.ticket, Reply::Refused(why));
        }
    }
}
