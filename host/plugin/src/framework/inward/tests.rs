//! What the guests of the integration tests do not send.

use proffer_model::framework::Act;

use super::*;
use crate::bindings::framework::proffer::framework::model as wit;

fn template(env: usize) -> wit::Template {
    wit::Template {
        name: "t".to_owned(),
        executor: wit::Executor::Shell("true".to_owned()),
        env: vec![("name".to_owned(), "x".repeat(env))],
        inputs: Vec::new(),
        checks: Vec::new(),
        grace: 0,
        longest: None,
        group: String::new(),
        labels: Vec::new(),
        options: Vec::new(),
    }
}

fn task(id: &str) -> wit::Task {
    wit::Task {
        id: id.to_owned(),
        template: 0,
        piles: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        inputs: Vec::new(),
        mounts: Vec::new(),
        output: String::new(),
        priority: 0,
    }
}

fn accept(act: wit::Act) -> wit::Command {
    wit::Command::Accept(wit::Accept {
        parts: vec![wit::Part {
            agent: None,
            offers: vec![1],
            operations: vec![wit::Operation {
                token: "token".to_owned(),
                act,
            }],
        }],
        whole: false,
        refuse: None,
    })
}

fn read_one(command: wit::Command) -> Command {
    let answered = answer(
        wit::Answer {
            templates: vec![template(0)],
            commands: vec![command],
        },
        0,
    );
    answered.unwrap().commands.remove(0)
}

#[test]
fn a_group_with_one_malformed_task_is_malformed_as_a_whole() {
    let group = wit::Act::LaunchGroup(vec![task("good"), task("bad/")]);
    let Command::Accept(accept) = read_one(accept(group)) else {
        panic!();
    };
    let [operation] = &accept.parts[0].operations[..] else {
        panic!("{accept:?}");
    };
    let Act::Malformed(tasks, _) = &operation.act else {
        panic!("{operation:?}");
    };
    let codes: Vec<_> = tasks
        .iter()
        .map(|task| (task.id.as_str(), task.why.code.as_ref()))
        .collect();
    assert_eq!(
        codes,
        [("good", code::GROUP_FAILED), ("bad/", code::INVALID)]
    );
}

#[test]
fn few_bytes_cannot_become_many_by_templates() {
    let tasks = (0..2_000).map(|n| task(&n.to_string())).collect();
    let bomb = wit::Answer {
        templates: vec![template(100_000)],
        commands: vec![accept(wit::Act::Launch(tasks))],
    };
    let problem = answer(bomb, 0).unwrap_err();
    assert!(
        problem.contains("bytes of tasks with their templates"),
        "{problem}"
    );
}

#[test]
fn too_many_commands_are_refused_as_a_whole() {
    let commands = vec![wit::Command::Keep(Vec::new()); COMMANDS_MAX + 1];
    let answered = answer(
        wit::Answer {
            templates: Vec::new(),
            commands,
        },
        0,
    );
    assert_eq!(answered.unwrap_err(), "4097 commands, more than 4096");
}

#[test]
fn empty_rows_are_not_free() {
    let keep = wit::Command::Keep(vec![0; 140_000]);
    let problem = answer(
        wit::Answer {
            templates: Vec::new(),
            commands: vec![keep],
        },
        0,
    )
    .unwrap_err();
    assert!(problem.contains("bytes of commands"), "{problem}");
}

#[test]
fn state_and_commands_share_one_record() {
    let finish = || wit::Answer {
        templates: Vec::new(),
        commands: vec![wit::Command::CancelTimer("x".to_owned())],
    };
    assert!(answer(finish(), STATE_STEP_BYTES_MAX - 100).is_ok());
    assert!(answer(finish(), STATE_STEP_BYTES_MAX).is_err());
}

#[test]
fn piles_of_one_kind_as_scalar_and_set_do_not_add_up() {
    let pile = |value| wit::Pile {
        terms: None,
        cpus: 0,
        mem: 0,
        disk: 0,
        gpus: 0,
        ports: Vec::new(),
        other: vec![wit::Other {
            kind: "slots".to_owned(),
            value,
        }],
    };
    let piles = vec![
        pile(wit::Quantity::Scalar(1_000)),
        pile(wit::Quantity::Items(vec!["a".to_owned()])),
    ];
    assert!(resources::resources(piles).is_err());
    let twice = vec![
        pile(wit::Quantity::Scalar(1_000)),
        pile(wit::Quantity::Scalar(500)),
    ];
    let sum = resources::resources(twice).map_err(|_| ()).unwrap();
    assert_eq!(sum.to_string(), "slots:1.5");
}
