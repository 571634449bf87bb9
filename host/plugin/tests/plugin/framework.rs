//! A framework that misbehaves hurts only itself, and a step that fails leaves no trace.

use std::sync::Arc;
use std::time::Duration;

use proffer_model::framework::{Act, Batch, Cause, Command, Context, Event, StateWrite};
use proffer_model::state::StateEntries;
use proffer_model::{
    AgentId, AgentInfo, FrameworkId, Offer, OfferId, Resources, RoleName, StepNumber, Timestamp,
};
use proffer_plugin::{
    Blame, Call, CallBudget, CommittedStep, FrameworkHandle, FrameworkInit, FrameworkLimits, Kind,
    Metering, PluginFault, PluginHost, PluginHostConfig, StepOutcome, TimeBudget,
};

use crate::guests;

/// One framework, ordered to do something.
struct Case {
    handle: FrameworkHandle,
    step: u64,
}

impl Case {
    fn new(order: &str) -> Option<Self> {
        Self::with(order, FrameworkLimits::default())
    }

    fn with(order: &str, limits: FrameworkLimits) -> Option<Self> {
        Self::over(StateEntries::new(), order, limits)
    }

    fn over(state: StateEntries, order: &str, limits: FrameworkLimits) -> Option<Self> {
        let loaded = guests::loaded(Kind::Framework)?;
        let handle = guests::host()
            .spawn_framework(FrameworkInit {
                loaded,
                context: context(order),
                framework: FrameworkId(7),
                state,
                limits,
                seed: 42,
            })
            .unwrap();
        Some(Self { handle, step: 0 })
    }

    async fn outcome(&mut self, events: Vec<Event>) -> StepOutcome {
        self.step += 1;
        self.handle.step(batch(self.step, events)).await
    }

    async fn good(&mut self, events: Vec<Event>) -> CommittedStep {
        self.outcome(events).await.result.unwrap()
    }

    async fn fault(&mut self) -> PluginFault {
        self.outcome(started()).await.result.unwrap_err()
    }
}

fn context(order: &str) -> Context {
    Context {
        name: format!("test-{}", order.replace(' ', "-")),
        id: "framework-7".to_owned(),
        cluster: "test".to_owned(),
        region: String::new(),
        version: "0".to_owned(),
        roles: vec![RoleName::star()],
        config: order.to_owned(),
        limits: Vec::new(),
    }
}

fn started() -> Vec<Event> {
    vec![Event::Started(Cause::First)]
}

fn offers(count: u64) -> Vec<Event> {
    let offer = |id| Offer {
        id: OfferId(id),
        agent: AgentId(1),
        role: RoleName::star(),
        resources: Resources::plain("cpus:4;mem:1024;ports:[1-9]".parse().unwrap()),
        expires: Timestamp(99),
        demand: String::new(),
        gang: 0,
        down: None,
    };
    vec![Event::Offers((1..=count).map(offer).collect())]
}

fn batch(step: u64, events: Vec<Event>) -> Batch {
    Batch {
        step: StepNumber(step),
        now: Timestamp(1),
        agents: vec![(
            AgentId(1),
            Arc::new(AgentInfo {
                hostname: "h".into(),
                region: "".into(),
                zone: "".into(),
                attributes: Vec::new(),
            }),
        )],
        events,
    }
}

fn launched(command: &Command) -> Vec<&str> {
    let Command::Accept(accept) = command else {
        panic!("{command:?}");
    };
    let operations = accept.parts.iter().flat_map(|part| &part.operations);
    let tasks = operations.flat_map(|operation| match &operation.act {
        Act::Launch(tasks) => tasks.as_slice(),
        _ => &[],
    });
    tasks.map(|task| task.id.as_str()).collect()
}

#[tokio::test]
async fn a_good_step_answers_with_commands_and_writes() {
    let Some(mut case) = Case::new("good") else {
        return;
    };
    let outcome = case.outcome(offers(2)).await;
    assert!(outcome.new_instance);
    assert!(outcome.memory_bytes > 0);
    let step = outcome.result.unwrap();
    let tasks: Vec<_> = step.answer.commands.iter().flat_map(launched).collect();
    assert_eq!(tasks, ["task-1", "task-2"]);
    assert_eq!(
        step.writes,
        [StateWrite::Set("offers".to_owned(), Arc::from(*b"2"))]
    );
    let again = case.outcome(offers(1)).await;
    assert!(!again.new_instance);
    again.result.unwrap();
    assert_eq!(case.handle.state_size(), Some((1, 7)));
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_budget_of_processor_time() {
    for (order, call, budget) in [
        ("spin", Call::Step, FrameworkLimits::default().step),
        ("start-spin", Call::Start, FrameworkLimits::default().start),
    ] {
        let Some(mut case) = Case::new(order) else {
            return;
        };
        let outcome = case.outcome(started()).await;
        let fault = outcome.result.unwrap_err();
        assert_eq!(
            fault,
            PluginFault::OutOfTime {
                call,
                budget: TimeBudget::Cpu(budget.cpu)
            }
        );
        assert!(fault.is_the_plugins());
        // Up to four budgets where the clock thread starves, and what a halted machine counts.
        assert!(
            outcome.cpu < budget.cpu * 4 + Duration::from_millis(500),
            "{:?}",
            outcome.cpu
        );
    }
}

#[tokio::test]
async fn a_memory_bomb_ends_at_its_limit() {
    let limits = FrameworkLimits {
        memory_bytes: 16 << 20,
        ..FrameworkLimits::default()
    };
    let Some(mut case) = Case::with("memory", limits) else {
        return;
    };
    let outcome = case.outcome(started()).await;
    assert_eq!(
        outcome.result.unwrap_err(),
        PluginFault::OutOfMemory {
            call: Call::Step,
            bytes_max: 16 << 20
        }
    );
    assert!(outcome.memory_bytes <= 16 << 20);
}

#[tokio::test]
async fn unbounded_recursion_ends_at_the_stack() {
    let Some(mut case) = Case::new("stack") else {
        return;
    };
    let fault = case.fault().await;
    assert_eq!(fault, PluginFault::StackOverflow { call: Call::Step });
}

#[tokio::test]
async fn a_trap_at_the_nth_call_costs_the_instance_and_no_more() {
    let Some(mut case) = Case::new("trap 3") else {
        return;
    };
    for round in 0..2 {
        case.good(started()).await;
        case.good(started()).await;
        let fault = case.fault().await;
        assert!(
            matches!(&fault, PluginFault::Trapped { call: Call::Step, message } if message.contains("unreachable")),
            "{fault}"
        );
        assert_eq!(fault.code(), "trapped", "round {round}");
    }
    assert!(case.outcome(started()).await.new_instance);
}

#[tokio::test]
async fn start_that_fails_is_told_in_its_own_words() {
    let Some(mut case) = Case::new("start-refuse") else {
        return;
    };
    assert_eq!(
        case.fault().await.to_string(),
        "start returned an error: I do not like this configuration"
    );
    let Some(mut case) = Case::new("start-trap") else {
        return;
    };
    assert!(matches!(
        case.fault().await,
        PluginFault::Trapped {
            call: Call::Start,
            ..
        }
    ));
    let Some(mut case) = Case::new("error") else {
        return;
    };
    assert_eq!(
        case.fault().await.to_string(),
        "step returned an error: I would rather not"
    );
}

#[tokio::test]
async fn start_may_not_write() {
    let Some(mut case) = Case::new("start-write") else {
        return;
    };
    case.good(started()).await;
    assert_eq!(case.handle.state_size(), Some((0, 0)));
    let lines = case.handle.logs().lines;
    assert!(
        lines[0].text.contains("read-only") || lines[0].text.contains("ReadOnly"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_failed_step_leaves_no_trace() {
    let Some(mut case) = Case::new("write-and-trap") else {
        return;
    };
    case.fault().await;
    assert_eq!(case.handle.state(), Some(StateEntries::new()));
}

#[tokio::test]
async fn a_framework_does_not_notice_that_its_instance_was_dropped() {
    let Some(mut kept) = Case::new("count") else {
        return;
    };
    let Some(mut dropped) = Case::new("count") else {
        return;
    };
    for _ in 0..5 {
        let expected = kept.good(started()).await;
        assert!(dropped.handle.drop_instance());
        let step = dropped.good(started()).await;
        assert_eq!(step.answer, expected.answer);
        assert_eq!(step.writes, expected.writes);
    }
    let state = dropped.handle.take_state().unwrap();
    assert_eq!(&*state["count"], b"5");
}

#[tokio::test]
async fn a_repeated_step_draws_the_same() {
    let Some(case) = Case::new("draw") else {
        return;
    };
    let draw = async |step| {
        let outcome = case.handle.step(batch(step, started())).await;
        outcome.result.unwrap().answer
    };
    let first = draw(1).await;
    assert_eq!(draw(1).await, first);
    assert_ne!(draw(2).await, first);
}

/// What a call costs is what it names: thousands of deleted ranges do not make the next one long.
#[tokio::test]
async fn no_call_into_the_state_takes_a_plugin_thread_away() {
    let entries = (0..200_000).map(|n| (format!("{n:06}"), Arc::from([])));
    let limits = FrameworkLimits {
        step: CallBudget {
            cpu: Duration::from_secs(5),
            ..FrameworkLimits::default().step
        },
        ..FrameworkLimits::default()
    };
    let Some(mut case) = Case::over(entries.collect(), "ranges", limits) else {
        return;
    };
    let outcome = case.outcome(started()).await;
    let writes = outcome.result.unwrap().writes;
    let all = StateWrite::DeleteRange(String::new(), String::new());
    assert_eq!(writes, [all]);
    assert_eq!(case.handle.state_size(), Some((0, 0)));
    // Walking each range for each key would be minutes.
    assert!(outcome.cpu < Duration::from_secs(3), "{:?}", outcome.cpu);
}

#[tokio::test]
async fn answers_that_are_too_large_are_refused_as_a_whole() {
    for (order, problem) in [
        ("million", "answered too much"),
        ("huge", "answered too much"),
        (
            "body",
            "bytes of responses and publications, more than 8388608",
        ),
        (
            "long",
            "bytes of commands and 0 of state, together more than 1048576",
        ),
    ] {
        let mut limits = FrameworkLimits::default();
        // Long enough to make the answer, on any machine.
        limits.step.cpu = Duration::from_secs(10);
        let Some(mut case) = Case::with(order, limits) else {
            return;
        };
        let fault = case.fault().await;
        // A million commands cost it its memory before they are all there.
        let sooner = order == "million" && fault.code() == "out-of-memory";
        assert!(
            sooner || fault.to_string().contains(problem),
            "{order}: {fault}"
        );
        assert_eq!(fault.blame(), Blame::Plugin);
    }
}

#[tokio::test]
async fn state_ends_at_the_steps_limit() {
    let Some(mut case) = Case::new("store") else {
        return;
    };
    // Five values of 200 KiB are within 1 MiB, the sixth is not; with its command it just fits.
    let step = case.good(started()).await;
    assert_eq!(step.writes.len(), 5);
    assert!(
        matches!(&step.answer.commands[..], [Command::CancelTimer(text)] if text.starts_with("5 ")),
        "{:?}",
        step.answer
    );
}

#[tokio::test]
async fn a_flooded_log_is_bounded_and_counted() {
    let Some(mut case) = Case::new("flood") else {
        return;
    };
    // A hundred thousand lines may or may not be within the budget; the log is bounded either way.
    let outcome = case.outcome(started()).await;
    let tail = case.handle.logs();
    assert!(tail.lines.len() <= 256, "{}", tail.lines.len());
    assert!(tail.dropped > 0, "{:?}", outcome.result.err());
}

#[tokio::test]
async fn malformed_commands_are_told_back_and_the_rest_happens() {
    let Some(mut case) = Case::new("malformed") else {
        return;
    };
    let step = case.good(offers(1)).await;
    let [accept, role, timer, answered, response, suppress, demand] = &step.answer.commands[..]
    else {
        panic!("{:?}", step.answer);
    };
    assert_eq!(launched(accept), ["fine"]);
    // Whoever asked need not wait for what is no response.
    assert!(
        matches!(answered, Command::Respond(response) if response.status == 500),
        "{answered:?}"
    );
    let Command::Accept(accept) = accept else {
        panic!()
    };
    let Act::Malformed(tasks, _) = &accept.parts[0].operations[1].act else {
        panic!("{accept:?}");
    };
    let told: Vec<_> = tasks
        .iter()
        .map(|task| format!("{}: {}", task.id, task.why.text))
        .collect();
    assert_eq!(
        told,
        [
            "negative: -0.001 is not an amount of cpus: wanted 0 to 10000000000",
            "enormous: 9223372036854775.807 is not an amount of cpus: wanted 0 to 10000000000",
            "backwards: 9-3 is not a range: wanted begin <= end and end at most 1000000000",
            "named: 'cpus' is not another kind: wanted letters, digits, '-', '_' and '.', and none of cpus, mem, disk, gpus, ports",
            "a/b: 'a/b' is not a task id: it contains a slash",
            "template: template 17 of 1 (they count from 0)",
        ]
    );
    for (command, name) in [
        (role, "set-demand"),
        (timer, "set-timer"),
        (response, "respond"),
        (suppress, "suppress"),
    ] {
        assert!(
            matches!(command, Command::Malformed(rejection) if rejection.command == name),
            "{command:?}"
        );
    }
    assert!(matches!(
        demand,
        Command::Malformed(_) | Command::SetDemand(_)
    ));
}

#[tokio::test]
async fn unknown_ids_and_too_much_are_the_cores_to_judge() {
    // What can only be judged with the ledger passes through as it is.
    let Some(mut case) = Case::new("unknown") else {
        return;
    };
    assert_eq!(case.good(started()).await.answer.commands.len(), 3);
    let Some(mut case) = Case::new("over") else {
        return;
    };
    assert_eq!(
        launched(&case.good(offers(1)).await.answer.commands[0]),
        ["over-1"]
    );
    let Some(mut case) = Case::new("stale") else {
        return;
    };
    case.good(offers(3)).await;
    assert_eq!(case.good(started()).await.answer.commands.len(), 3);
    let Some(mut case) = Case::new("decline") else {
        return;
    };
    assert!(matches!(
        &case.good(offers(3)).await.answer.commands[..],
        [Command::Decline(decline)] if decline.offers.len() == 3
    ));
}

#[tokio::test]
async fn metrics_are_part_of_the_step_and_bad_ones_are_counted() {
    let Some(mut case) = Case::new("metrics") else {
        return;
    };
    let step = case.good(started()).await;
    assert_eq!(step.metrics.len(), 1);
    assert_eq!(step.metrics[0].name, "good");
    assert_eq!(step.metrics_dropped, 6);
}

#[tokio::test]
async fn two_steps_at_once_are_the_callers_fault() {
    let Some(case) = Case::new("spin") else {
        return;
    };
    let (one, two) = tokio::join!(
        case.handle.step(batch(1, started())),
        case.handle.step(batch(2, started())),
    );
    let faults = [one.result.unwrap_err(), two.result.unwrap_err()];
    assert!(
        faults.contains(&PluginFault::Busy { call: Call::Step }),
        "{faults:?}"
    );
}

#[tokio::test]
async fn with_fuel_a_run_takes_the_same_each_time() {
    let Some(bytes) = guests::framework() else {
        return;
    };
    let mut burnt = Vec::new();
    for _ in 0..2 {
        let host = PluginHost::new(PluginHostConfig {
            metering: Metering::Fuel,
            instances_max: 4,
            ..PluginHostConfig::default()
        })
        .unwrap();
        let loaded = host.load_blocking(&bytes, Kind::Framework).unwrap();
        let spawn = |order: &str| {
            host.spawn_framework(FrameworkInit {
                loaded: loaded.clone(),
                context: context(order),
                framework: FrameworkId(1),
                state: StateEntries::new(),
                limits: FrameworkLimits::default(),
                seed: 1,
            })
            .unwrap()
        };
        let outcome = spawn("good").step(batch(1, offers(10))).await;
        outcome.result.unwrap();
        burnt.push(outcome.fuel.unwrap());
        let spun = spawn("spin").step(batch(1, started())).await;
        assert!(
            matches!(
                spun.result,
                Err(PluginFault::OutOfTime {
                    budget: TimeBudget::Fuel(_),
                    ..
                })
            ),
            "{spun:?}"
        );
    }
    assert_eq!(burnt[0], burnt[1]);
}
