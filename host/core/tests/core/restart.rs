//! The host dies and comes back: what a cluster is made again from, and what must be the same.

use proffer_core::{Core, FrameworkView};
use proffer_model::fact::{Effect, Fact, PolicyCause};
use proffer_model::framework::Command;
use proffer_model::{Amount, StepNumber, TaskState, Timestamp};

use super::cluster::Cluster;
use super::words::{accept, task, want, want_anything};

impl Cluster {
    /// Facts that a crash now leaves.
    pub(crate) fn durable_facts(&self) -> Vec<Fact> {
        let since = self.facts[..self.persisted].iter().flatten();
        self.base.iter().chain(since).cloned().collect()
    }

    /// The host is killed and started again from what was persisted; agents are to reconnect.
    pub(crate) fn restart(&mut self) {
        let facts = self.durable_facts();
        self.restart_from(facts);
    }

    pub(crate) fn restart_from(&mut self, facts: Vec<Fact>) {
        let core = Core::recover(self.config.clone(), facts.clone(), Timestamp(self.now)).unwrap();
        let mut fresh = Self::around(core, self.config.clone(), self.now);
        fresh.prompt_store = self.prompt_store;
        for (name, machine) in std::mem::take(&mut self.machines) {
            fresh.machines.insert(name, machine);
        }
        for machine in fresh.machines.values_mut() {
            machine.inbox.clear();
        }
        fresh.late = self.late.as_ref().map(|_| Default::default());
        fresh.carry(self);
        fresh.base = facts;
        *self = fresh;
        self.check();
        self.event(proffer_core::Event::Ticked);
    }
}

/// What must survive: everything durable that can be looked at, in words.
pub(crate) fn durable_view(core: &Core) -> Vec<String> {
    let mut lines = Vec::new();
    for agent in core.agents(None) {
        lines.push(format!("{} {:?} {}", agent.id, agent.info, agent.total));
    }
    for (role, weight) in core.roles().filter(|(_, weight)| *weight != Amount::ONE) {
        lines.push(format!("role {role} {weight}"));
    }
    lines.sort();
    for fw in core.frameworks(None, &core.sums()) {
        lines.push(framework_line(&fw));
        for task in core.tasks(Some(fw.id), None) {
            lines.push(format!(
                "{} {} {} {} {} {} {:?}",
                task.id,
                task.launch,
                task.agent,
                task.role,
                task.resources,
                task.output,
                task.launched_at,
            ));
        }
    }
    lines
}

fn framework_line(fw: &FrameworkView) -> String {
    let demands: Vec<_> = fw
        .demands
        .iter()
        .map(|demand| (&demand.0.key, demand.0.count))
        .collect();
    format!(
        "{} {} {:?} {:?} {:?} ended {}",
        fw.id, fw.name, fw.roles, fw.standing, demands, fw.tasks.1
    )
}

/// A core made again from these facts, and one made again from that one's snapshot, look alike.
#[track_caller]
pub(crate) fn check_recovery(cluster: &Cluster, facts: Vec<Fact>) -> Core {
    let now = Timestamp(cluster.now);
    let first = Core::recover(cluster.config.clone(), facts, now).unwrap();
    first.check_invariants().unwrap();
    let second = Core::recover(cluster.config.clone(), first.snapshot().into_facts(), now).unwrap();
    second.check_invariants().unwrap();
    assert_eq!(
        durable_view(&first),
        durable_view(&second),
        "snapshot and facts differ"
    );
    assert_same(
        &comparable(second.snapshot().into_facts()),
        &comparable(first.snapshot().into_facts()),
    );
    first
}

/// A snapshot without what no fact tells: empty steps, when a task was first heard to run, when
/// the host was last alive, and ids, of which a host that goes on leaves some out.
pub(crate) fn comparable(snapshot: Vec<Fact>) -> Vec<String> {
    let told = |fact: &Fact| {
        !matches!(
            fact,
            Fact::HostAlive { .. }
                | Fact::IdsReserved { .. }
                | Fact::Changed {
                    effect: Effect::TaskAcknowledged {
                        state: TaskState::Running,
                        ..
                    },
                    ..
                }
        )
    };
    // A host that goes on puts on record that the canary of before decides no more.
    let restarted = |fact: &Fact| match fact {
        Fact::PolicySet(record) => {
            matches!(&record.cause, PolicyCause::CanaryEnded(why) if why.code == "host-restarted")
        }
        _ => false,
    };
    let plain = |fact: Fact| match fact {
        Fact::FrameworkSet(mut record) => {
            record.step = StepNumber(0);
            Fact::FrameworkSet(record)
        }
        fact => fact,
    };
    let facts = snapshot
        .into_iter()
        .filter(told)
        .filter(|fact| !restarted(fact));
    let facts = facts.map(plain);
    facts.map(|fact| format!("{fact:?}")).collect()
}

/// What was persisted makes the core that was there when it was issued.
#[track_caller]
pub(crate) fn check_against_live(cluster: &Cluster) {
    let Some(live) = cluster
        .persisted
        .checked_sub(1)
        .map(|last| &cluster.snapshots[last])
    else {
        return;
    };
    let facts = cluster.durable_facts();
    // At the last time that is on record: no time has passed that no host ran.
    let said = facts.iter().rev().find_map(|fact| match fact {
        Fact::HostAlive { at } | Fact::HostResumed { at, .. } => Some(*at),
        _ => None,
    });
    let now = said.unwrap_or(Timestamp(cluster.now));
    let recovered = Core::recover(cluster.config.clone(), facts, now).unwrap();
    let recovered = comparable(recovered.snapshot().into_facts());
    assert_same(live, &recovered);
}

#[track_caller]
fn assert_same(one: &[String], other: &[String]) {
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one, other);
    }
    assert_eq!(one.len(), other.len());
}

/// Found by random runs: that a task's end was heard is in no fact until its framework takes it, and
/// a later task may hold its ports by then.
#[test]
fn ports_of_a_task_that_ended_unacknowledged_belong_to_the_later_one() {
    let mut cluster = Cluster::running(
        "cpus:4;mem:100;ports:[1-4]",
        vec![task("old", "cpus:1;mem:1;ports:[1-2]")],
    );
    cluster.request("f", "/busy");
    cluster.update("a1", "old", 2, TaskState::Finished);
    cluster.add("g", "*");
    cluster.answer("g", vec![want_anything(1)]);
    let ids = cluster.offer_ids();
    let later = task("new", "cpus:1;mem:1;ports:[1-2]");
    let clear = Command::ClearDemand(vec!["d".to_owned()]);
    cluster.answer("g", vec![accept(&ids, vec![later], 0), clear]);
    let launch = cluster.launch_of("g", "new");
    cluster.restart();
    cluster.reconnect(
        "a1",
        &[
            (2, "f", "old", TaskState::Finished),
            (launch, "g", "new", TaskState::Running),
        ],
    );
    assert_eq!(cluster.free("a1"), "cpus:3;mem:99;ports:[3-4]");
    cluster.update("a1", "new", 1, TaskState::Finished);
    assert_eq!(cluster.free("a1"), "cpus:4;mem:100;ports:[1-4]");
}

/// Found by the simulator: what is wanted was read from the facts before the role was revived, and
/// nothing was offered to the framework after a restart.
#[test]
fn demand_that_was_set_while_its_role_was_suppressed_is_served_after_a_restart() {
    let mut cluster = Cluster::new();
    cluster.framework("f", "*");
    cluster.command("f", vec![Command::Suppress(Vec::new())]);
    cluster.command(
        "f",
        vec![want("cpus:1;mem:64", 1), Command::Revive(Vec::new())],
    );
    cluster.restart();
    cluster.answer("f", vec![]);
    cluster.agent("a1", "cpus:4;mem:128");
    assert_eq!(cluster.offers(), ["f a1 cpus:1;mem:64"]);
}
