//! Which inputs of a launch are no more: all of them, by the names that their framework knows.

use std::collections::BTreeSet;
use std::fmt;

use proffer_model::Source;
use proffer_model::agent::{Launch, ResolvedInput};

/// Inputs that could not be found while a sandbox was made.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// The first, for people.
    first: Option<String>,
    count: usize,
    names: BTreeSet<String>,
    /// Addresses that were tried in vain: each costs a time-out only once.
    away: BTreeSet<String>,
}

impl Lost {
    /// Adds an input, and its name if it is an output's or a task's.
    pub(super) fn add(&mut self, path: &str, name: &str, problem: &str) {
        self.first
            .get_or_insert_with(|| format!("input '{path}': {problem}"));
        self.count += 1;
        if !name.is_empty() {
            self.names.insert(name.to_owned());
        }
    }

    /// Nothing there can be had.
    pub(super) fn add_away(&mut self, address: &str) {
        self.away.insert(address.to_owned());
    }

    pub(super) fn is_away(&self, address: &str) -> bool {
        self.away.contains(address)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Output names and task ids, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.first.as_deref().unwrap_or("nothing is lost"))?;
        match self.count {
            0 | 1 => Ok(()),
            count => write!(f, " (and {} more)", count - 1),
        }
    }
}

/// What the framework calls the source of an input that is a single file: an output's name or a
/// task's id; empty if it is neither.
pub(super) fn name_of<'a>(launch: &'a Launch, input: &ResolvedInput) -> &'a str {
    let task = &launch.task;
    let mut inputs = task.template.inputs.iter().chain(&task.inputs);
    let source = inputs.find(|asked| asked.path == input.path);
    match source.map(|asked| Source::parse(&asked.source)) {
        Some(Ok(Source::Output(name, _) | Source::Task(name, _))) => name,
        _ => "",
    }
}
