//! What is durable, read from the facts as they are committed.

use std::collections::{BTreeMap, BTreeSet};

use proffer_core::Core;
use proffer_model::agent::ToAgent;
use proffer_model::fact::{Effect, Fact};
use proffer_model::{AgentId, FrameworkId, LaunchNumber, RoleName, TaskId, TaskState};

use crate::broken::BROKEN;

use super::{Checked, Invariant, Tally, number};

/// Durable facts, as far as anything can be checked by them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durable {
    launches: BTreeMap<LaunchNumber, Known>,
    /// Launches that have not ended, of frameworks that are there.
    live: BTreeSet<LaunchNumber>,
    tasks: BTreeMap<(FrameworkId, TaskId), LaunchNumber>,
    agents: BTreeSet<AgentId>,
    frameworks: BTreeSet<FrameworkId>,
    /// Components that frameworks were ever of.
    versions: BTreeSet<(FrameworkId, String)>,
    /// The number of the record of the policy of the seat.
    seat: Option<u64>,
    /// Policies that were ever put in, also for some roles.
    put_in: BTreeSet<String>,
    /// Roles' own policies.
    role_policies: BTreeMap<RoleName, String>,
    /// All that a role's policy ever was, and whether it had none.
    role_policies_ever: BTreeSet<(RoleName, Option<String>)>,
}

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    framework: FrameworkId,
    task: TaskId,
    acknowledged: u64,
    state: TaskState,
    kill: bool,
    forgotten: bool,
}

/// Whether numbers may jump: a snapshot says where things stand, not how they came there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Journal,
    Snapshot,
}

/// Who says where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    ByAgent,
    ByHost,
}

impl Durable {
    /// These facts have become durable.
    pub(crate) fn commit(&mut self, facts: &[Fact], tally: &mut Tally) -> Checked {
        for fact in facts {
            self.take(fact, Source::Journal, tally)?;
        }
        Ok(())
    }

    /// A snapshot replaces the journal: it says no less.
    pub(crate) fn compare_snapshot(&self, facts: &[Fact], tally: &mut Tally) -> Checked {
        let mut own = Self::default();
        for fact in facts {
            own.take(fact, Source::Snapshot, tally)?;
        }
        tally.holds(Invariant::LaunchesKnown, own.live == self.live, || {
            format!(
                "a snapshot has the launches {:?}, the facts {:?}",
                own.live, self.live
            )
        })?;
        for launch in &self.live {
            let same = own.launches.get(launch) == self.launches.get(launch);
            tally.holds(Invariant::RecoveryTrue, same, || {
                let (snapshot, facts) = (own.launches.get(launch), self.launches.get(launch));
                format!("a snapshot says {snapshot:?}, the facts {facts:?}")
            })?;
        }
        let same = own.seat == self.seat && own.role_policies == self.role_policies;
        tally.holds(Invariant::RecoveryTrue, same, || {
            format!(
                "a snapshot has the policies {:?} and {:?}, the facts {:?} and {:?}",
                own.seat, own.role_policies, self.seat, self.role_policies
            )
        })?;
        let same = own.agents == self.agents && own.frameworks == self.frameworks;
        tally.holds(Invariant::RecoveryTrue, same, || {
            "a snapshot has other agents or frameworks than the facts".to_owned()
        })
    }

    /// Launches that have not ended, in order.
    pub(crate) fn live(&self) -> impl Iterator<Item = LaunchNumber> {
        self.live.iter().copied()
    }

    /// All launches ever, with framework, task, and whether the framework is there and knows it.
    pub(crate) fn all(
        &self,
    ) -> impl Iterator<Item = (LaunchNumber, FrameworkId, &TaskId, TaskState, bool)> {
        self.launches.iter().map(|(launch, known)| {
            let there = self.frameworks.contains(&known.framework);
            (*launch, known.framework, &known.task, known.state, there)
        })
    }

    /// Whose a launch is.
    pub(crate) fn owner(&self, launch: LaunchNumber) -> FrameworkId {
        self.launches
            .get(&launch)
            .map_or(FrameworkId(0), |known| known.framework)
    }

    /// Whether one of these facts forgets the task of a launch.
    pub(crate) fn is_forgotten_by<'f>(
        &self,
        launch: LaunchNumber,
        facts: impl Iterator<Item = &'f Fact>,
    ) -> bool {
        let Some(known) = self.launches.get(&launch) else {
            return false;
        };
        let forgets = |effect: &Effect| matches!(effect, Effect::TaskForgotten { task } if *task == known.task);
        let mut facts = facts;
        facts.any(|fact| match fact {
            Fact::StepCommitted(step) => {
                step.framework == known.framework && step.effects.iter().any(forgets)
            }
            Fact::Changed { framework, effect } => *framework == known.framework && forgets(effect),
            _ => false,
        })
    }

    pub(crate) fn has_framework(&self, framework: FrameworkId) -> bool {
        self.frameworks.contains(&framework)
    }

    /// Whether a framework was ever of this component.
    pub(crate) fn has_version(&self, framework: FrameworkId, digest: &str) -> bool {
        self.versions.contains(&(framework, digest.to_owned()))
    }

    /// A host that goes on has the policies that the facts say decide, and no canary.
    pub(crate) fn compare_policies(&self, core: &Core, tally: &mut Tally) -> Checked {
        let seat = core.policy_record().map(|record| record.number);
        let own = core.tenants().map(|own| (own.role, own.record.digest));
        let own: BTreeMap<RoleName, String> = own.collect();
        let same = seat == self.seat && own == self.role_policies;
        tally.holds(Invariant::RecoveryTrue, same, || {
            format!(
                "a host goes on with the policies {seat:?} and {own:?}, the facts say {:?} and {:?}",
                self.seat, self.role_policies
            )
        })?;
        let swaps = core.policy_swaps();
        let half = core.policy_canary().is_some() || swaps.candidate.is_some() || swaps.waking;
        tally.holds(Invariant::RecoveryTrue, !half, || {
            "a host goes on with a policy that is half put in".to_owned()
        })
    }

    /// Whether a policy was ever put in.
    pub(crate) fn was_put_in(&self, digest: &str) -> bool {
        self.put_in.contains(digest)
    }

    /// Whether a role ever had this policy, or none.
    pub(crate) fn had_policy(&self, role: &RoleName, digest: Option<&str>) -> bool {
        let ever = (role.clone(), digest.map(str::to_owned));
        self.role_policies_ever.contains(&ever)
    }

    /// A message leaves the host: what it says follows from durable facts.
    pub(crate) fn sent(&self, message: &ToAgent, tally: &mut Tally) -> Checked {
        let mut check = |holds, text: &dyn Fn() -> String| {
            tally.holds(Invariant::EffectsAfterFacts, holds, text)
        };
        match message {
            ToAgent::Registered { agent, .. } => check(self.agents.contains(agent), &|| {
                format!("{agent} was told its id, which is not durable")
            }),
            ToAgent::Launch(launches) => {
                for launch in launches {
                    let known = self.launches.contains_key(&launch.number);
                    check(known, &|| {
                        format!("{} was sent and is not durable", number(launch.number))
                    })?;
                }
                Ok(())
            }
            ToAgent::Kill { launch, .. } => {
                let asked = self
                    .launches
                    .get(launch)
                    .is_none_or(|known| known.kill || known.state.is_final() || known.forgotten);
                check(asked, &|| {
                    format!("a kill of {} was sent and is not durable", number(*launch))
                })
            }
            ToAgent::Acknowledge { launch, sequence } => {
                let taken = self.launches.get(launch).is_none_or(|known| {
                    known.acknowledged >= *sequence || known.state.is_final() || known.forgotten
                });
                check(taken, &|| {
                    format!(
                        "update {sequence} of {} was acknowledged, and no durable step took it",
                        number(*launch)
                    )
                })
            }
            ToAgent::RemoveFramework { framework } => {
                check(!self.frameworks.contains(framework), &|| {
                    format!("an agent was told that {framework} is gone, which is not durable")
                })
            }
            ToAgent::Refused { .. } | ToAgent::Heartbeat => Ok(()),
        }
    }

    fn take(&mut self, fact: &Fact, source: Source, tally: &mut Tally) -> Checked {
        match fact {
            Fact::AgentSet(record) => {
                self.agents.insert(record.agent);
            }
            Fact::AgentGone(record) => {
                self.agents.remove(&record.agent);
            }
            Fact::FrameworkSet(record) => {
                self.frameworks.insert(record.framework);
                let starts = record.digest != BROKEN;
                let version = (record.framework, record.digest.clone());
                self.versions.insert(version);
                let name = &record.name;
                tally.holds(Invariant::VersionsStart, starts, || {
                    format!("{name} is durably of a version that does not start")
                })?;
            }
            Fact::PolicySet(record) => {
                if !record.cause.is_beside() {
                    self.seat = Some(record.number);
                }
                self.put_in.insert(record.digest.clone());
            }
            Fact::RolePolicySet { role, policy } => {
                let digest = policy.as_ref().map(|record| record.digest.clone());
                self.role_policies_ever
                    .insert((role.clone(), digest.clone()));
                match digest {
                    Some(digest) => self.role_policies.insert(role.clone(), digest),
                    None => self.role_policies.remove(role),
                };
            }
            Fact::FrameworkRemoved { framework } => self.remove_framework(*framework),
            Fact::StepCommitted(step) => {
                for effect in &step.effects {
                    self.effect(step.framework, effect, source, tally)?;
                }
            }
            Fact::Changed { framework, effect } => {
                self.effect(*framework, effect, source, tally)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn remove_framework(&mut self, framework: FrameworkId) {
        self.frameworks.remove(&framework);
        self.tasks.retain(|(owner, _), _| *owner != framework);
        for (launch, known) in &mut self.launches {
            if known.framework == framework {
                known.forgotten = true;
                self.live.remove(launch);
            }
        }
    }

    fn effect(
        &mut self,
        framework: FrameworkId,
        effect: &Effect,
        source: Source,
        tally: &mut Tally,
    ) -> Checked {
        match effect {
            Effect::TaskLaunched(record) => {
                let id = record.task.id.clone();
                let known = Known {
                    framework,
                    task: id.clone(),
                    acknowledged: 0,
                    state: TaskState::Staging,
                    kill: false,
                    forgotten: false,
                };
                let fresh = self.launches.insert(record.launch, known).is_none()
                    & self.tasks.insert((framework, id), record.launch).is_none();
                self.live.insert(record.launch);
                tally.holds(Invariant::StartedOnce, fresh, || {
                    format!(
                        "{} or its task's id was launched before",
                        number(record.launch)
                    )
                })
            }
            Effect::TaskAcknowledged {
                task,
                sequence,
                state,
                ..
            } => {
                let Some((launch, known)) = self.task(framework, task) else {
                    return Ok(());
                };
                let next = *sequence == known.acknowledged + 1 || source == Source::Snapshot;
                let before = known.acknowledged;
                known.acknowledged = known.acknowledged.max(*sequence);
                self.tell(launch, *state, Told::ByAgent);
                tally.holds(Invariant::UpdatesInOrder, next, || {
                    format!(
                        "update {sequence} of {} was taken after {before}",
                        number(launch)
                    )
                })
            }
            Effect::TaskDecided { task, state, .. } => {
                if let Some((launch, _)) = self.task(framework, task) {
                    self.tell(launch, *state, Told::ByHost);
                }
                Ok(())
            }
            Effect::TaskKillAsked { task, .. } => {
                if let Some((_, known)) = self.task(framework, task) {
                    known.kill = true;
                }
                Ok(())
            }
            Effect::TaskForgotten { task } => {
                let Some((launch, known)) = self.task(framework, task) else {
                    return Ok(());
                };
                known.forgotten = true;
                let ended = known.state.is_final();
                self.tasks.remove(&(framework, task.clone()));
                tally.holds(Invariant::LaunchesKnown, ended, || {
                    format!(
                        "{} was forgotten before its end was delivered",
                        number(launch)
                    )
                })
            }
            _ => Ok(()),
        }
    }

    fn task(
        &mut self,
        framework: FrameworkId,
        task: &TaskId,
    ) -> Option<(LaunchNumber, &mut Known)> {
        let launch = *self.tasks.get(&(framework, task.clone()))?;
        Some((launch, self.launches.get_mut(&launch)?))
    }

    fn tell(&mut self, launch: LaunchNumber, state: TaskState, source: Told) {
        let Some(known) = self.launches.get_mut(&launch) else {
            return;
        };
        // An update that was under way when its agent went away says nothing newer.
        let late = known.state == TaskState::Unreachable && source == Told::ByAgent;
        if !known.state.is_final() && (!late || state.is_final()) {
            known.state = state;
        }
        if known.state.is_final() {
            self.live.remove(&launch);
        }
    }
}
