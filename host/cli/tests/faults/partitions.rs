//! The way between agents and their host is cut, stalled, and healed.

use proffer_rpc::operator::AgentState;
use proffer_tests::cluster::{Cluster, Guests, JobSize, Setup};

use crate::PROGRAM;

#[test]
fn a_job_counts_right_though_agents_are_cut_off_and_come_back() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let cluster = Cluster::start(Setup {
        proxies: true,
        ..Setup::new(PROGRAM, guests)
    });
    cluster.run_framework();
    cluster.submit(JobSize {
        split: 1_024,
        reducers: 3,
        map_cpus: 1.0,
    });
    cluster.wait_for_maps(3);
    // One is cut off, which both ends learn at once; of the other nothing is heard any more.
    cluster.proxy(0).cut();
    cluster.proxy(1).stall();
    cluster.wait_for("the host counts on one agent", |cluster| {
        cluster.agents_in(AgentState::Active) == 1
    });
    // Two seconds without a word, and two more: then its tasks are somebody else's.
    cluster.wait_for("two agents are unreachable", |cluster| {
        cluster.agents_in(AgentState::Unreachable) == 2
    });
    cluster.proxy(0).heal();
    cluster.proxy(1).heal();
    cluster.wait_for("both are back", |cluster| {
        cluster.agents_in(AgentState::Active) == 3
    });
    let ids: Vec<u32> = cluster.agents().iter().map(|agent| agent.id.0).collect();
    assert_eq!(ids.len(), 3, "they came back as who they were: {ids:?}");
    cluster.assert_result();
    println!("{:?}", cluster.assert_nothing_lost_or_doubled());
}

#[test]
fn a_host_that_restarts_behind_a_partition_has_its_agents_back_when_it_heals() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut cluster = Cluster::start(Setup {
        proxies: true,
        ..Setup::new(PROGRAM, guests)
    });
    cluster.run_framework();
    cluster.submit(JobSize {
        split: 2_048,
        reducers: 2,
        map_cpus: 1.0,
    });
    cluster.wait_for_maps(3);
    for agent in 0..3 {
        cluster.proxy(agent).cut();
    }
    cluster.host().kill_9();
    cluster.start_host();
    cluster.wait_for(
        "the host knows of three agents and counts on none",
        |cluster| {
            let agents = cluster.agents();
            agents.len() == 3 && agents.iter().all(|agent| agent.state != AgentState::Active)
        },
    );
    for agent in 0..3 {
        cluster.proxy(agent).heal();
    }
    cluster.assert_result();
    cluster.assert_nothing_lost_or_doubled();
}
