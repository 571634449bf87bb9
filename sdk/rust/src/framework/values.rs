//! Constructors for the contract's values: WIT has no defaults, so they are here.

use std::str::FromStr;

use proffer_model as model;

use crate::framework::{
    Amount, Constraint, Demand, Executor, Input, InputMarks, Marks, Near, Offer, Other, Pile,
    Quantity, Range, Reason, RevocableUse, Room, Shape, Task, TaskState, Template, TemplateIndex,
    Terms, Test,
};

/// Whole units as an [`Amount`]: cpus, gpus, MiB.
#[must_use]
pub const fn units(units: i64) -> Amount {
    units.saturating_mul(1_000)
}

/// MiB as an [`Amount`].
#[must_use]
pub const fn mebibytes(mebibytes: i64) -> Amount {
    units(mebibytes)
}

/// Whether nothing comes after this state.
#[must_use]
pub const fn is_final(state: TaskState) -> bool {
    match state {
        TaskState::Staging
        | TaskState::Starting
        | TaskState::Running
        | TaskState::Killing
        | TaskState::Unreachable
        | TaskState::Unknown => false,
        TaskState::Finished
        | TaskState::Failed
        | TaskState::Killed
        | TaskState::Error
        | TaskState::Dropped
        | TaskState::Gone
        | TaskState::GoneByOperator => true,
    }
}

/// Why a text is not resources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidShape(model::ParseResourcesError);

/// So that `?` works in the methods of a framework.
impl From<InvalidShape> for String {
    fn from(error: InvalidShape) -> Self {
        error.to_string()
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            reserved: Vec::new(),
            label: String::new(),
            volume: String::new(),
            disk: String::new(),
            marks: Marks::empty(),
        }
    }
}

#[expect(
    clippy::derivable_impls,
    reason = "the type is generated, and a derive would be for all types"
)]
impl Default for Pile {
    fn default() -> Self {
        Self {
            terms: None,
            cpus: 0,
            mem: 0,
            disk: 0,
            gpus: 0,
            ports: Vec::new(),
            other: Vec::new(),
        }
    }
}

impl Pile {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            terms: _,
            cpus,
            mem,
            disk,
            gpus,
            ports,
            other,
        } = self;
        [cpus, mem, disk, gpus].iter().all(|amount| **amount == 0)
            && ports.is_empty()
            && other.is_empty()
    }
}

/// Unreserved resources in the operators' text form: `cpus:4;mem:8192;ports:[31000-32000]`.
impl FromStr for Pile {
    type Err = InvalidShape;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bundle: model::Bundle = text.parse().map_err(InvalidShape)?;
        Ok(Self {
            terms: None,
            cpus: bundle.cpus.milli(),
            mem: bundle.mem.milli(),
            disk: bundle.disk.milli(),
            gpus: bundle.gpus.milli(),
            ports: ranges(&bundle.ports),
            other: others(&bundle),
        })
    }
}

impl Default for Shape {
    /// Anything: whole agents.
    fn default() -> Self {
        Self {
            cpus: 0,
            mem: 0,
            disk: 0,
            gpus: 0,
            ports: 0,
            fixed_ports: Vec::new(),
            other: Vec::new(),
            label: String::new(),
            volume: String::new(),
            revocable: RevocableUse::Never,
        }
    }
}

impl Shape {
    /// With so many ports, whichever.
    #[must_use]
    pub fn ports(mut self, ports: u32) -> Self {
        self.ports = ports;
        self
    }

    /// Of what is reserved under this label.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With revocable resources too, or only with them.
    #[must_use]
    pub fn revocable(mut self, revocable: RevocableUse) -> Self {
        self.revocable = revocable;
        self
    }
}

/// In the operators' text form: `cpus:0.5;mem:128`. Ports in it are fixed ports.
impl FromStr for Shape {
    type Err = InvalidShape;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pile: Pile = text.parse()?;
        Ok(Self {
            cpus: pile.cpus,
            mem: pile.mem,
            disk: pile.disk,
            gpus: pile.gpus,
            fixed_ports: pile.ports,
            other: pile.other,
            ..Self::default()
        })
    }
}

impl Offer {
    /// What can be taken of it, task by task.
    #[must_use]
    pub fn room(&self) -> Room {
        Room::new(self.piles.clone())
    }
}

impl Demand {
    /// So many units of a shape, anywhere.
    #[must_use]
    pub fn new(key: impl Into<String>, role: impl Into<String>, shape: Shape, count: u32) -> Self {
        Self {
            key: key.into(),
            role: role.into(),
            shape,
            count,
            gang: 0,
            per_agent: 0,
            priority: 0,
            until: None,
            constraints: Vec::new(),
            near: Vec::new(),
            near_for: 0,
        }
    }

    /// Fewer at once are of no use.
    #[must_use]
    pub fn gang(mut self, gang: u32) -> Self {
        self.gang = gang;
        self
    }

    /// At most so many on one agent.
    #[must_use]
    pub fn per_agent(mut self, per_agent: u32) -> Self {
        self.per_agent = per_agent;
        self
    }

    /// Higher is served first, among the framework's demands.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Only on agents for which all of these hold; called again, it adds an alternative.
    #[must_use]
    pub fn only_where(mut self, constraints: impl IntoIterator<Item = Constraint>) -> Self {
        self.constraints.push(constraints.into_iter().collect());
        self
    }

    /// Rather where the attribute has this value, and only there for the first while.
    #[must_use]
    pub fn near(mut self, near: Near, only_for: u64) -> Self {
        self.near.push(near);
        self.near_for = only_for;
        self
    }
}

impl Constraint {
    /// Any test.
    #[must_use]
    pub fn new(
        attribute: impl Into<String>,
        test: Test,
        values: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            attribute: attribute.into(),
            test,
            values: values.into_iter().collect(),
        }
    }
}

impl Template {
    /// With an executor and nothing else.
    #[must_use]
    pub fn new(name: impl Into<String>, executor: Executor) -> Self {
        Self {
            name: name.into(),
            executor,
            env: Vec::new(),
            inputs: Vec::new(),
            checks: Vec::new(),
            grace: GRACE_MS,
            longest: None,
            group: String::new(),
            labels: Vec::new(),
            options: Vec::new(),
        }
    }

    /// A line for `/bin/sh -c`.
    #[must_use]
    pub fn shell(name: impl Into<String>, line: impl Into<String>) -> Self {
        Self::new(name, Executor::Shell(line.into()))
    }

    /// A program and its arguments.
    #[must_use]
    pub fn process<S: Into<String>>(
        name: impl Into<String>,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self::new(name, Executor::Process(argv))
    }

    /// A `wasi:cli/command` component from this source, kept by agents for later tasks.
    #[must_use]
    pub fn wasm(name: impl Into<String>, source: impl Into<String>) -> Self {
        let component = Input {
            marks: InputMarks::CACHE,
            ..Input::new(source, "")
        };
        Self::new(name, Executor::Wasm(component))
    }

    /// With this variable in the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With this input in every task.
    #[must_use]
    pub fn input(mut self, source: impl Into<String>, path: impl Into<String>) -> Self {
        self.inputs.push(Input::new(source, path));
        self
    }

    /// Killed after running so long.
    #[must_use]
    pub fn longest(mut self, longest: u64) -> Self {
        self.longest = Some(longest);
        self
    }

    /// With this label, for people.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }
}

/// Between TERM and KILL unless said otherwise: enough to flush files, short enough that nobody
/// waits for a task that ignores TERM.
const GRACE_MS: u64 = 5_000;

impl Input {
    /// This source at this path of the sandbox.
    #[must_use]
    pub fn new(source: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            path: path.into(),
            digest: String::new(),
            marks: InputMarks::empty(),
        }
    }
}

impl TemplateIndex {
    /// A task of this template that will hold these piles.
    #[must_use]
    pub fn task(self, id: impl Into<String>, piles: Vec<Pile>) -> Task {
        Task {
            id: id.into(),
            template: self.0,
            piles,
            args: Vec::new(),
            env: Vec::new(),
            inputs: Vec::new(),
            mounts: Vec::new(),
            output: String::new(),
            priority: 0,
        }
    }
}

impl Task {
    /// With these arguments more.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With this variable in the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With this input.
    #[must_use]
    pub fn input(mut self, source: impl Into<String>, path: impl Into<String>) -> Self {
        self.inputs.push(Input::new(source, path));
        self
    }

    /// Known by this name to `output:` sources when it has finished.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>) -> Self {
        self.output = name.into();
        self
    }

    /// Lower is ended first, if the host must choose.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }
}

fn ranges(ranges: &model::Ranges) -> Vec<Range> {
    ranges
        .as_slice()
        .iter()
        .map(|range| Range {
            begin: range.begin(),
            end: range.end(),
        })
        .collect()
}

fn others(bundle: &model::Bundle) -> Vec<Other> {
    bundle
        .other
        .iter()
        .map(|(kind, quantity)| Other {
            kind: kind.to_string(),
            value: match quantity {
                model::Quantity::Scalar(amount) => Quantity::Scalar(amount.milli()),
                model::Quantity::Ranges(own) => Quantity::Ranges(ranges(own)),
                model::Quantity::Items(items) => {
                    Quantity::Items(items.iter().map(ToString::to_string).collect())
                }
            },
        })
        .collect()
}
