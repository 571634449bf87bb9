//! `kill -9`, again and again.

use std::time::{Duration, Instant};

use proffer_tests::cluster::{Cluster, Guests, JobSize, Setup};

use crate::PROGRAM;
use crate::moments::Moments;

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Host,
    Agent(usize),
    /// A runner of this agent's, with the tasks in it.
    Runner(usize),
}

/// Some 350 maps; one at a time on each agent, so that the job lasts.
const JOB: JobSize = JobSize {
    split: 256,
    reducers: 3,
    map_cpus: 2.0,
};

/// The longest wait between two kills, after some task has ended.
const PAUSE_MS_MAX: u64 = 80;

#[test]
fn a_job_counts_right_with_its_host_killed_ten_times_and_each_agent_twice() {
    let Some(guests) = Guests::build() else {
        return;
    };
    let mut moments = Moments::new();
    let mut victims = vec![Victim::Host; 10];
    victims.extend((0..3).flat_map(|agent| [Victim::Agent(agent); 2]));
    victims.push(Victim::Runner(0));
    moments.shuffle(&mut victims);
    let mut cluster = Cluster::start(Setup::new(PROGRAM, guests));
    cluster.run_framework();
    cluster.submit(JOB);
    let begun = Instant::now();
    let mut done = 0;
    for victim in &victims {
        // Each kill comes after some progress, and a random moment later.
        cluster.wait_for("more tasks are done", |cluster| {
            cluster.progress().is_some_and(|(now, ended)| {
                assert!(!ended, "the job ended before all kills: make it longer");
                let more = now > done;
                done = now.max(done);
                more
            })
        });
        let moment = Instant::now() + Duration::from_millis(moments.below(PAUSE_MS_MAX));
        cluster.wait_for("the moment has come", |_| Instant::now() >= moment);
        pull(&mut cluster, *victim);
    }
    println!(
        "{} kills in {:.1?}, {done} tasks done by then",
        victims.len(),
        begun.elapsed()
    );
    cluster.assert_result();
    let evidence = cluster.assert_nothing_lost_or_doubled();
    println!("{evidence:?} after {:.1?}", begun.elapsed());
}

fn pull(cluster: &mut Cluster, victim: Victim) {
    match victim {
        Victim::Host => {
            cluster.host().kill_9();
            cluster.start_host();
        }
        Victim::Agent(number) => {
            cluster.agent(number).kill_9();
            cluster.start_agent(number);
        }
        // An agent that has not had a task yet has none.
        Victim::Runner(number) => {
            cluster.wait_for("the agent has a runner", |cluster| {
                cluster.kill_runner(number)
            });
        }
    }
}
