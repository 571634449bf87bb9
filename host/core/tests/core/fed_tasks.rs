//! What policies are told of tasks, and say of them.

use std::cell::RefCell;
use std::rc::Rc;

use proffer_model::policy::{
    Changes, Cycle, Feeds, NONE, Noun, Piece, Proposal, Reclaim, TERMS_PLAIN, kind,
};
use proffer_model::{Amount, Duration, TaskState};

use super::cluster::{ALL_FEEDS, Cluster, Decider};
use super::words::{task, want_anything};

/// What policies were told of tasks: `handle client agent priority: pieces`, and the handles that are gone.
#[derive(Default)]
struct ToldOfTasks(Vec<String>);

impl ToldOfTasks {
    fn hear(&mut self, changes: &[Changes]) {
        for part in changes {
            let gone = part.removed.iter().filter(|gone| gone.what == Noun::Task);
            self.0.extend(gone.map(|gone| format!("-{}", gone.handle)));
            let (rows, mut next) = (&part.tasks, 0);
            for row in 0..rows.handle.len() {
                let end = next + rows.pieces[row] as usize;
                let pieces = (next..end)
                    .map(|at| format!("{}:{}:{}", rows.terms[at], rows.kind[at], rows.amount[at]));
                let pieces: Vec<String> = pieces.collect();
                next = end;
                self.0.push(format!(
                    "+{} {} {} {}: {}",
                    rows.handle[row],
                    rows.client[row],
                    rows.agent[row],
                    rows.priority[row],
                    pieces.join(" ")
                ));
            }
        }
    }

    fn take(told: &Rc<RefCell<Self>>) -> Vec<String> {
        std::mem::take(&mut told.borrow_mut().0)
    }
}

/// Loads a policy that proposes nothing and notes what it is told of tasks.
fn listener(cluster: &mut Cluster, feeds: Feeds) -> Rc<RefCell<ToldOfTasks>> {
    let told: Rc<RefCell<ToldOfTasks>> = Rc::default();
    let hears = Rc::clone(&told);
    let script = move |changes: &[Changes], _: &Cycle| {
        hears.borrow_mut().hear(changes);
        Ok(Proposal::default())
    };
    cluster.load_policy_fed(Decider::Script(Box::new(script)), feeds);
    told
}

#[test]
fn a_policy_that_asks_is_told_of_the_tasks_that_hold_something() {
    let mut one = task("one", "cpus:1;mem:10");
    one.priority = -3;
    let two = task("two", "cpus:2;mem:10");
    let mut cluster = Cluster::running("cpus:4;mem:100", vec![one, two]);
    let told = listener(&mut cluster, ALL_FEEDS);
    // Demand that nobody meets: it is asked whenever something changes.
    cluster.command("f", vec![want_anything(1)]);
    let all = [
        "+0 0 0 -3: 0:0:1000 0:1:10000",
        "+1 0 0 0: 0:0:2000 0:1:10000",
    ];
    assert_eq!(ToldOfTasks::take(&told), all);
    cluster.update("a1", "one", 2, TaskState::Failed);
    assert_eq!(ToldOfTasks::take(&told), ["-0"]);
    // Another one that asks begins with those that are left, under handles that are theirs.
    let told = listener(&mut cluster, ALL_FEEDS);
    cluster.advance(60_000);
    assert_eq!(ToldOfTasks::take(&told), ["+1 0 0 0: 0:0:2000 0:1:10000"]);
    // One that does not ask hears nothing of them.
    let feeds = Feeds {
        tasks: false,
        ..ALL_FEEDS
    };
    let told = listener(&mut cluster, feeds);
    cluster.advance(60_000);
    cluster.update("a1", "two", 2, TaskState::Failed);
    assert_eq!(ToldOfTasks::take(&told), Vec::<String>::new());
}

#[test]
fn the_tasks_that_would_end_are_named() {
    let tasks = ["a", "b", "c", "d", "e", "f"];
    let tasks = tasks.map(|name| task(name, "cpus:0.5;mem:1"));
    let mut cluster = Cluster::running("cpus:4;mem:100", tasks.to_vec());
    cluster.framework("high", "prod");
    let reclaim = Reclaim {
        client: 0,
        agent: 0,
        pieces: vec![Piece {
            terms: TERMS_PLAIN,
            kind: kind::CPUS,
            amount: Amount::from_units(3),
        }],
        // One is nobody's.
        tasks: vec![4, 77, 0, 1, 2, 3, 5],
        beneficiary: 1,
        demand: NONE,
        gang: 0,
        priority: 0,
        notice: Duration::ZERO,
        why: String::new(),
    };
    let script = Decider::Script(Box::new(move |_, _| {
        Ok(Proposal {
            reclaims: vec![reclaim.clone()],
            ..Proposal::default()
        })
    }));
    cluster.load_policy(script);
    cluster.command("f", vec![want_anything(1)]);
    let takes = cluster.core.would_take_back().map(ToString::to_string);
    assert_eq!(
        takes.collect::<Vec<_>>(),
        ["cpus:3 of f under * on agent-0 for high under prod, ending e, a, b, c and 2 more"]
    );
}
