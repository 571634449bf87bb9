//! Published sandboxes: names that are bound, kept and lost.

use proffer_core::CoreConfig;
use proffer_model::framework::Command;
use proffer_model::{Reason, Remedy, TaskState, code};

use super::cluster::Cluster;
use super::words::{accept, input, task, want_anything};

fn cluster(config: CoreConfig) -> Cluster {
    let mut cluster = Cluster::with(config);
    cluster.agent("a1", "cpus:9;mem:100");
    cluster.agent("a2", "cpus:9;mem:100");
    cluster.framework("f", "*");
    cluster
}

/// Launches a task there; what the agent is told to launch.
fn run(cluster: &mut Cluster, agent: &str, id: &str, output: &str, inputs: &[&str]) -> Vec<String> {
    cluster.command("f", vec![want_anything(2), Command::Revive(vec![])]);
    cluster.advance(1_100);
    while !cluster
        .told("f")
        .iter()
        .any(|told| told.starts_with("offer"))
    {
        cluster.command("f", vec![]);
    }
    let wanted = cluster.agent_id(agent);
    let offer = cluster
        .core
        .offers(None)
        .find(|offer| offer.agent == wanted);
    let mut spec = task(id, "cpus:0.1;mem:1");
    spec.output = output.to_owned();
    spec.inputs = inputs.iter().map(|source| input(source)).collect();
    let offer = offer.expect("both agents are offered").id.0;
    let clear = Command::ClearDemand(vec!["d".to_owned()]);
    cluster.answer("f", vec![accept(&[offer], vec![spec], 0), clear]);
    let sent = cluster.inbox(agent);
    sent.into_iter()
        .filter(|sent| sent.starts_with("launch"))
        .collect::<Vec<_>>()
}

/// Runs a task to its end, the framework told.
fn finish(cluster: &mut Cluster, agent: &str, id: &str, output: &str) {
    run(cluster, agent, id, output, &[]);
    cluster.update(agent, id, 1, TaskState::Finished);
    cluster.command("f", vec![]);
}

/// Which launches a reader of these inputs on the second agent is sent to, or what it is told.
fn read(cluster: &mut Cluster, id: &str, source: &str) -> String {
    let sent = run(cluster, "a2", id, "", &[source]);
    let sent = sent.last().cloned().unwrap_or_default();
    if cluster.state("f", id) == TaskState::Dropped {
        return "dropped".to_owned();
    }
    sent.split_once('<')
        .map(|(_, from)| from.to_owned())
        .unwrap_or(sent)
}

#[test]
fn outputs_are_bound_by_the_first_and_anew_when_lost() {
    let mut cluster = cluster(CoreConfig::default());
    run(&mut cluster, "a1", "m1", "m", &[]);
    run(&mut cluster, "a2", "m2", "m", &[]);
    cluster.update("a1", "m1", 1, TaskState::Finished);
    cluster.update("a2", "m2", 1, TaskState::Finished);
    let (m1, m2) = (cluster.launch_of("f", "m1"), cluster.launch_of("f", "m2"));
    // The first keeps it.
    assert_eq!(
        read(&mut cluster, "r1", "output:m/part"),
        format!("part@{m1}")
    );
    // A fetch failed: the next that finishes under the name takes its place.
    cluster.update_with("a2", "r1", 1, TaskState::Failed, |update| {
        update.update.why = Reason::new(code::INPUT_LOST, Remedy::Retry, "gone");
        update.update.data = b"m\n".to_vec();
    });
    run(&mut cluster, "a2", "m3", "m", &[]);
    cluster.update("a2", "m3", 1, TaskState::Finished);
    let m3 = cluster.launch_of("f", "m3");
    assert_ne!(m2, m3);
    assert_eq!(
        read(&mut cluster, "r2", "output:m/part"),
        format!("part@{m3}")
    );
    // No such output: the launch is dropped, and says why.
    assert_eq!(read(&mut cluster, "r3", "output:none*/part"), "dropped");
}

#[test]
fn outputs_outlive_the_records_of_their_tasks() {
    let mut cluster = cluster(CoreConfig {
        ended_tasks_max: 1,
        ..CoreConfig::default()
    });
    let mut launches = Vec::new();
    for (id, name) in [
        ("m1", "m-1"),
        ("m2", "m-2"),
        ("again", "m-1"),
        ("m3", "m-3"),
    ] {
        finish(&mut cluster, "a1", id, name);
        launches.push(cluster.launch_of("f", id));
    }
    let known: Vec<_> = cluster.core.tasks(None, None).map(|task| task.id).collect();
    assert_eq!(known.len(), 1, "{known:?}");
    let [m1, m2, _, m3] = launches[..] else {
        panic!("{launches:?}")
    };
    let all = format!("m-1:part@{m1} <m-2:part@{m2} <m-3:part@{m3}");
    assert_eq!(read(&mut cluster, "r1", "output:m-*/part"), all);
    cluster.restart();
    cluster.reconnect("a1", &[]);
    cluster.reconnect("a2", &[]);
    cluster.drain("f");
    assert_eq!(read(&mut cluster, "r2", "output:m-*/part"), all);
}

#[test]
fn a_restart_keeps_who_finished_first_and_what_could_not_be_fetched() {
    let mut cluster = cluster(CoreConfig::default());
    // The younger launch finishes first.
    run(&mut cluster, "a1", "slow", "m", &[]);
    finish(&mut cluster, "a1", "quick", "m");
    cluster.update("a1", "slow", 1, TaskState::Finished);
    cluster.command("f", vec![]);
    let quick = cluster.launch_of("f", "quick");
    assert_eq!(
        read(&mut cluster, "r1", "output:m/part"),
        format!("part@{quick}")
    );
    cluster.update_with("a2", "r1", 1, TaskState::Failed, |update| {
        update.update.why = Reason::new(code::INPUT_LOST, Remedy::Retry, "gone");
    });
    cluster.command("f", vec![]);
    cluster.restart();
    cluster.reconnect("a1", &[]);
    cluster.reconnect("a2", &[]);
    cluster.drain("f");
    assert_eq!(
        read(&mut cluster, "r2", "output:m/part"),
        format!("part@{quick}")
    );
    // What was suspect still is: the next to finish takes the name.
    finish(&mut cluster, "a1", "anew", "m");
    let anew = cluster.launch_of("f", "anew");
    assert_eq!(
        read(&mut cluster, "r3", "output:m/part"),
        format!("part@{anew}")
    );
}

#[test]
fn a_reader_never_gets_fewer_parts_because_an_agent_is_gone() {
    let mut cluster = cluster(CoreConfig::default());
    finish(&mut cluster, "a1", "m1", "m-1");
    finish(&mut cluster, "a2", "m2", "m-2");
    cluster.disconnect("a1");
    cluster.declare_gone("agent-0");
    cluster.drain("f");
    assert_eq!(read(&mut cluster, "r1", "output:m-*/part"), "dropped");
    finish(&mut cluster, "a2", "again", "m-1");
    let (again, m2) = (
        cluster.launch_of("f", "again"),
        cluster.launch_of("f", "m2"),
    );
    let parts = format!("m-1:part@{again} <m-2:part@{m2}");
    assert_eq!(read(&mut cluster, "r2", "output:m-*/part"), parts);
}

#[test]
fn the_oldest_names_are_dropped_and_counted() {
    let mut cluster = cluster(CoreConfig {
        outputs_max: 2,
        ..CoreConfig::default()
    });
    for id in ["m1", "m2", "m3"] {
        finish(&mut cluster, "a1", id, id);
    }
    assert_eq!(read(&mut cluster, "r1", "output:m1/part"), "dropped");
    let dropped = |cluster: &Cluster| {
        let view = cluster.core.framework_named("f").unwrap();
        view.counters.outputs_dropped
    };
    assert_eq!(dropped(&cluster), 1);
}
