//! No-op tasks per second, end to end: a framework component launches tasks that do nothing on what it
//! is offered, agents run them, and every update is told to the framework and acknowledged.
//!
//! The host is in this process; each agent is a process of its own, with its runner; all of it over
//! gRPC. Printed are tasks per second from the first launch to the last end, and where the processor's
//! time went, per task: in the host, the agents, the runners, and the tasks' own processes.
//!
//!     cargo bench --bench noop_tasks [-- [wasm|process] [--tasks N] [--agents N]]

/// As the `proffer` command has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

mod machine;
mod stage;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use proffer_tests::guests;

use machine::{Cpu, Usage};
use stage::{Kind, Stage};

/// Enough for a steady state of a few seconds in a release build.
const TASKS: [(Kind, u64); 2] = [(Kind::Wasm, 30_000), (Kind::Process, 5_000)];

/// As many as the demo has.
const AGENTS: usize = 3;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next().unwrap_or_default();
    // Before anything that may start a thread.
    let ended = if first == stage::RUNNER {
        proffer_agent::runner::main(args).map_err(Into::into)
    } else if first == stage::AGENT {
        stage::agent(args.map(|arg| arg.to_string_lossy().into_owned()).collect())
    } else {
        bench()
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for on the command line.
struct Wanted {
    kind: Option<Kind>,
    tasks: Option<u64>,
    agents: usize,
}

impl Wanted {
    fn parse() -> anyhow::Result<Self> {
        let mut wanted = Self {
            kind: None,
            tasks: None,
            agents: AGENTS,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || -> anyhow::Result<u64> {
                let value = args.next().context("a number is missing")?;
                value.parse().with_context(|| format!("'{value}'"))
            };
            match arg.as_str() {
                // Cargo says so to every benchmark.
                "--bench" => {}
                "wasm" => wanted.kind = Some(Kind::Wasm),
                "process" => wanted.kind = Some(Kind::Process),
                "--tasks" => wanted.tasks = Some(number()?),
                "--agents" => wanted.agents = number()?.try_into()?,
                other => bail!("'{other}' is not known"),
            }
        }
        Ok(wanted)
    }
}

fn bench() -> anyhow::Result<()> {
    let wanted = Wanted::parse()?;
    let (Some(framework), Some(task)) = (
        guests::component("tests/guests/noop"),
        guests::component("tests/guests/task"),
    ) else {
        return Ok(());
    };
    println!(
        "{:8} {:>8} {:>7} {:>9}   {:>8} {:>8} {:>8} {:>8} {:>8}",
        "executor", "tasks", "seconds", "tasks/s", "host", "agents", "runners", "tasks", "of all"
    );
    for (kind, tasks) in TASKS {
        if wanted.kind.is_some_and(|wanted| wanted != kind) {
            continue;
        }
        let tasks = wanted.tasks.unwrap_or(tasks);
        let stage = Stage::start(kind, &framework, &task, wanted.agents)?;
        // What compiles, compiles now.
        stage.run("warm", 50)?;
        let before = Usage::of(&stage.processes());
        let begun = Instant::now();
        stage.run("measured", tasks)?;
        let seconds = begun.elapsed().as_secs_f64();
        let used = Usage::of(&stage.processes()).since(&before);
        let micros = |cpu: Cpu| format!("{:.0} us", cpu.seconds() * 1e6 / tasks as f64);
        let all = used.total().seconds() / seconds;
        println!(
            "{:8} {tasks:>8} {seconds:>7.2} {:>9.0}   {:>8} {:>8} {:>8} {:>8} {:>7.2}x",
            kind.name(),
            tasks as f64 / seconds,
            micros(used.host),
            micros(used.agents),
            micros(used.runners),
            micros(used.tasks),
            all
        );
    }
    println!(
        "\nus: processor time per task in each; of all: processors busy on average, of {}",
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    Ok(())
}
