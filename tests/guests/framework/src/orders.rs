//! What each word answers.

use crate::bindings::proffer::framework::model::{
    Accept, Act, Answer, Batch, Command, Decline, Demand, Due, Event, Executor, Kill, Offer,
    Operation, Part, Pile, Publication, Quantity, Response, RevocableUse, Shape, Task, Template,
    Timer,
};
use crate::bindings::proffer::framework::{metrics, random, state};
use crate::bindings::proffer::types::values::Range;
use crate::guest::{KEPT, write};

/// An offer that nobody has ever made.
const NO_OFFER: u64 = 987_654_321;

pub(crate) fn answer(word: &str, batch: Batch) -> Answer {
    let offers: Vec<&Offer> = batch
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Offers(offers) => Some(offers),
            _ => None,
        })
        .flatten()
        .collect();
    let commands = match word {
        "good" => good(&offers),
        "count" => return count(batch.step),
        "million" => (0..1_000_000).map(|n| Command::Keep(vec![n])).collect(),
        "huge" => vec![Command::Publish(Publication {
            topics: vec!["t".to_owned()],
            data: vec![7; 64 << 20],
            close: false,
        })],
        "body" => vec![Command::Publish(Publication {
            topics: vec!["t".to_owned()],
            data: vec![7; 9 << 20],
            close: false,
        })],
        "long" => vec![Command::Finish(
            crate::bindings::proffer::framework::model::Finish {
                text: "x".repeat(2 << 20),
                kill_tasks: false,
                release: false,
            },
        )],
        "unknown" => unknown(),
        "over" => over(&offers),
        "stale" => stale(&offers),
        "malformed" => malformed(&offers),
        "store" => fill(),
        "ranges" => ranges(),
        "draw" => draw(),
        "metrics" => meter(),
        "decline" => vec![Command::Decline(Decline {
            offers: offers.iter().map(|offer| offer.id).collect(),
            refuse: Some(0),
            why: "never anything".to_owned(),
        })],
        _ => Vec::new(),
    };
    Answer {
        templates: vec![template()],
        commands,
    }
}

fn template() -> Template {
    Template {
        name: "t".to_owned(),
        executor: Executor::Shell("true".to_owned()),
        env: Vec::new(),
        inputs: Vec::new(),
        checks: Vec::new(),
        grace: 1_000,
        longest: None,
        group: String::new(),
        labels: Vec::new(),
        options: Vec::new(),
    }
}

fn pile(cpus: i64) -> Pile {
    Pile {
        terms: None,
        cpus,
        mem: 32_000,
        disk: 0,
        gpus: 0,
        ports: Vec::new(),
        other: Vec::new(),
    }
}

fn task(id: String, piles: Vec<Pile>) -> Task {
    Task {
        id,
        template: 0,
        piles,
        args: Vec::new(),
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: String::new(),
        priority: 0,
    }
}

fn launch(offer: u64, tasks: Vec<Task>) -> Command {
    Command::Accept(Accept {
        parts: vec![Part {
            agent: None,
            offers: vec![offer],
            operations: vec![Operation {
                token: "op".to_owned(),
                act: Act::Launch(tasks),
            }],
        }],
        whole: false,
        refuse: None,
    })
}

fn good(offers: &[&Offer]) -> Vec<Command> {
    write("offers", &offers.len().to_string());
    offers
        .iter()
        .map(|offer| {
            launch(
                offer.id,
                vec![task(format!("task-{}", offer.id), vec![pile(100)])],
            )
        })
        .collect()
}

/// Counts its steps in the state; every third one fails after it has written.
fn count(step: u64) -> Answer {
    let read = state::get("count").unwrap_or_default();
    let count: u64 = String::from_utf8_lossy(&read).parse().unwrap_or(0);
    write("count", &(count + 1).to_string());
    Answer {
        templates: Vec::new(),
        commands: vec![Command::SetTimer(Timer {
            id: format!("{step}:{count}"),
            due: Due::After(1),
        })],
    }
}

fn unknown() -> Vec<Command> {
    vec![
        launch(NO_OFFER, vec![task("lost".to_owned(), vec![pile(100)])]),
        Command::Decline(Decline {
            offers: vec![NO_OFFER],
            refuse: None,
            why: String::new(),
        }),
        Command::Kill(Kill {
            task: "never-launched".to_owned(),
            grace: None,
            why: String::new(),
        }),
    ]
}

/// Ten times what is offered.
fn over(offers: &[&Offer]) -> Vec<Command> {
    let ten = |offer: &Offer| {
        let cpus: i64 = offer.piles.iter().map(|pile| pile.cpus).sum();
        launch(
            offer.id,
            vec![task(format!("over-{}", offer.id), vec![pile(cpus * 10)])],
        )
    };
    offers.iter().map(|offer| ten(offer)).collect()
}

/// Accepts every offer that it has ever had, again and again.
fn stale(offers: &[&Offer]) -> Vec<Command> {
    let all = KEPT.with_borrow_mut(|kept| {
        kept.extend(offers.iter().map(|offer| offer.id));
        kept.clone()
    });
    all.into_iter()
        .map(|id| launch(id, vec![task(format!("stale-{id}"), vec![pile(100)])]))
        .collect()
}

fn malformed(offers: &[&Offer]) -> Vec<Command> {
    let offer = offers.first().map_or(NO_OFFER, |offer| offer.id);
    let mut backwards = pile(100);
    backwards.ports = vec![Range { begin: 9, end: 3 }];
    let mut named = pile(100);
    named.other = vec![crate::bindings::proffer::framework::model::Other {
        kind: "cpus".to_owned(),
        value: Quantity::Scalar(5),
    }];
    let mut far = task("template".to_owned(), vec![pile(100)]);
    far.template = 17;
    let tasks = vec![
        task("fine".to_owned(), vec![pile(100)]),
        task("negative".to_owned(), vec![pile(-1)]),
        task("enormous".to_owned(), vec![pile(i64::MAX)]),
        task("backwards".to_owned(), vec![backwards]),
        task("named".to_owned(), vec![named]),
        task("a/b".to_owned(), vec![pile(100)]),
        far,
    ];
    vec![
        launch(offer, tasks),
        Command::SetDemand(demand("bad role//")),
        Command::SetTimer(Timer {
            id: String::new(),
            due: Due::After(1),
        }),
        Command::Respond(Response {
            request: 1,
            status: 99,
            headers: Vec::new(),
            body: Vec::new(),
            topics: Vec::new(),
        }),
        Command::Suppress(vec!["../x".to_owned()]),
        Command::SetDemand(demand("good")),
    ]
}

fn demand(role: &str) -> Demand {
    Demand {
        key: "key".to_owned(),
        role: role.to_owned(),
        shape: Shape {
            cpus: 100,
            mem: 0,
            disk: 0,
            gpus: 0,
            ports: 0,
            fixed_ports: Vec::new(),
            other: Vec::new(),
            label: String::new(),
            volume: String::new(),
            revocable: RevocableUse::Never,
        },
        count: 1,
        gang: 0,
        per_agent: 0,
        priority: 0,
        until: None,
        constraints: Vec::new(),
        near: Vec::new(),
        near_for: 0,
    }
}

/// Writes until it is refused, and says how far it came.
fn fill() -> Vec<Command> {
    let value = vec![1; 200 * 1024];
    let mut count = 0;
    let refused = loop {
        match state::set(&format!("fill-{count}"), &value) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    vec![Command::CancelTimer(format!("{count} {refused:?}"))]
}

/// Deletes thousands of ranges that do not touch, then everything.
fn ranges() -> Vec<Command> {
    for n in 0..5_000 {
        let (begin, end) = (format!("{:06}", 2 * n), format!("{:06}", 2 * n + 1));
        let _deleted = state::delete_range(&begin, &end);
    }
    let deleted = state::delete_range("", "");
    vec![Command::CancelTimer(format!("{deleted:?}"))]
}

fn draw() -> Vec<Command> {
    vec![Command::CancelTimer(format!(
        "{} {:?} {}",
        random::next(),
        random::bytes(3),
        random::bytes(u32::MAX).len()
    ))]
}

fn meter() -> Vec<Command> {
    metrics::count("good", &[("label".to_owned(), "value".to_owned())], 2);
    metrics::gauge("bad name", &[], 1.0);
    metrics::observe("nan", &[], f64::NAN);
    let label = |name: &str| (name.to_owned(), "x".to_owned());
    metrics::count("reserved", &[label("framework")], 1);
    metrics::count("reserved", &[label("metric")], 1);
    metrics::count("reserved", &[label("__name__")], 1);
    metrics::count("twice", &[label("a"), label("a")], 1);
    Vec::new()
}
