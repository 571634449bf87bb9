//! What machines really run, whatever anybody believes.

use std::collections::BTreeMap;

use proffer_model::{Bundle, LaunchNumber};

use super::{Checked, Invariant, Tally, number};

/// Every start of a task, ever.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    started: BTreeMap<LaunchNumber, usize>,
}

/// A task that begins to run.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// On which machine.
    pub(crate) machine: usize,
    pub(crate) launch: LaunchNumber,
    pub(crate) holds: &'a Bundle,
    /// What the machine has.
    pub(crate) total: &'a Bundle,
    /// What the other tasks that run there hold.
    pub(crate) others: &'a [&'a Bundle],
    /// What the host believes may be wrong: a framework was removed while the agent was away.
    pub(crate) books_may_differ: bool,
}

impl Machines {
    /// A task begins to run.
    pub(crate) fn started(&mut self, start: &Start<'_>, tally: &mut Tally) -> Checked {
        let before = self.started.insert(start.launch, start.machine);
        tally.holds(Invariant::StartedOnce, before.is_none(), || {
            format!(
                "{} was started on machine {:?} and again on {}",
                number(start.launch),
                before,
                start.machine
            )
        })?;
        if start.books_may_differ {
            return Ok(());
        }
        // Taking one after the other: a port that two tasks hold is missing for the second.
        let mut free = start.total.clone();
        let fits = start
            .others
            .iter()
            .copied()
            .chain([start.holds])
            .all(|bundle| {
                let fits = free.contains(bundle);
                free = free.minus_down_to_zero(bundle);
                fits
            });
        tally.holds(Invariant::ResourcesOnce, fits, || {
            let others: Vec<String> = start.others.iter().map(|b| b.to_string()).collect();
            format!(
                "{} starts with {} on machine {} of {}, where others hold {}",
                number(start.launch),
                start.holds,
                start.machine,
                start.total,
                others.join(" + ")
            )
        })
    }

    /// How many tasks were ever started.
    pub(crate) fn count(&self) -> usize {
        self.started.len()
    }
}
