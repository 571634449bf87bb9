//! The pool over time: what is in use, where what is free lies.

use std::collections::BTreeMap;

use proffer_model::{Bundle, Constraint, ConstraintTest, Duration, Timestamp};

use super::nodes::GPU;
use super::outcome::{Row, part};
use super::{Machine, Workload};

/// Rows of the table over time: as many as fit on a screen.
const ROWS: u64 = 12;

/// What is in use, and what was.
pub(super) struct Measure<'w> {
    workload: &'w Workload,
    /// Of each machine, if it has come.
    free: Vec<Option<Bundle>>,
    total: BTreeMap<String, i64>,
    used: BTreeMap<String, i64>,
    /// Amounts times milliseconds, of the pool and in use.
    areas: BTreeMap<String, (i128, i128)>,
    now: Timestamp,
    pub(super) running: usize,
    rows: Vec<Row>,
    /// Shapes that want what fragmentation is of, where they may be, and how many tasks have each.
    shapes: Vec<(Bundle, Vec<Vec<Constraint>>, i128)>,
    fragmented: String,
}

impl<'w> Measure<'w> {
    pub(super) fn new(workload: &'w Workload) -> Self {
        let has = |machine: &Machine| machine.total.other.contains_key(GPU);
        let fragmented = match workload.machines.iter().any(has) {
            true => GPU,
            false => "cpus",
        };
        let mut counts: BTreeMap<String, (Bundle, Vec<Vec<Constraint>>, i128)> = BTreeMap::new();
        for task in &workload.tasks {
            if amount_of(&task.shape, fragmented) > 0 {
                let key = format!("{:?} {:?}", task.shape, task.constraints);
                let fresh = || (task.shape.clone(), task.constraints.clone(), 0);
                counts.entry(key).or_insert_with(fresh).2 += 1;
            }
        }
        Self {
            workload,
            free: vec![None; workload.machines.len()],
            total: BTreeMap::new(),
            used: BTreeMap::new(),
            areas: BTreeMap::new(),
            now: workload.begin,
            running: 0,
            rows: Vec::new(),
            shapes: counts.into_values().collect(),
            fragmented: fragmented.to_owned(),
        }
    }

    /// Time passes; what is in use stays as it is until then.
    pub(super) fn advance(&mut self, to: Timestamp) {
        let Workload { begin, end, .. } = self.workload;
        let span = end.since(*begin).0;
        while (self.rows.len() as u64) < ROWS {
            let at = *begin + Duration(span * (self.rows.len() as u64 + 1) / ROWS);
            if at >= to {
                break;
            }
            let row = self.row(at);
            self.rows.push(row);
        }
        let until = to.min(*end);
        let passed = i128::from(until.since(self.now.min(until)).0);
        if passed > 0 {
            for (kind, total) in &self.total {
                let area = self.areas.entry(kind.clone()).or_default();
                area.0 += i128::from(*total) * passed;
                area.1 += i128::from(self.used.get(kind).copied().unwrap_or(0)) * passed;
            }
        }
        self.now = self.now.max(to);
    }

    pub(super) fn machine_comes(&mut self, machine: usize) {
        let total = self.workload.machines[machine].total.clone();
        add(&mut self.total, &total, 1);
        self.free[machine] = Some(total);
    }

    pub(super) fn starts(&mut self, machine: usize, shape: &Bundle) {
        add(&mut self.used, shape, 1);
        if let Some(free) = &mut self.free[machine] {
            *free = free.minus_down_to_zero(shape);
        }
    }

    pub(super) fn ends(&mut self, machine: usize, shape: &Bundle) {
        add(&mut self.used, shape, -1);
        if let Some(free) = &mut self.free[machine] {
            free.add(shape);
        }
    }

    /// Of each kind the part in use over all the time, and the rows.
    pub(super) fn finish(mut self) -> (Vec<(String, u64)>, Vec<Row>, String) {
        let past = self.workload.end + Duration(1);
        self.advance(past);
        let utilisation = self.areas.into_iter();
        let utilisation = utilisation.map(|(kind, (total, used))| (kind, part(used, total)));
        (utilisation.collect(), self.rows, self.fragmented)
    }

    fn row(&self, at: Timestamp) -> Row {
        let used = self.total.iter().map(|(kind, total)| {
            let used = self.used.get(kind).copied().unwrap_or(0);
            (kind.clone(), part(i128::from(used), i128::from(*total)))
        });
        Row {
            at,
            used: used.collect(),
            fragmentation: self.fragmentation(),
            running: self.running,
            // Counted at the end, from when each was placed.
            waiting: 0,
        }
    }

    /// The measure of the fragmentation gradient descent paper (USENIX ATC '23), for amounts: what is
    /// free on a machine counts with the part of the workload's tasks that do not fit there.
    fn fragmentation(&self) -> u64 {
        let tasks: i128 = self.shapes.iter().map(|(_, _, count)| count).sum();
        let (mut lost, mut all) = (0, 0);
        for (machine, free) in self.workload.machines.iter().zip(&self.free) {
            let Some(free) = free else { continue };
            let amount = i128::from(amount_of(free, &self.fragmented));
            if amount == 0 {
                continue;
            }
            let unfit: i128 = self
                .shapes
                .iter()
                .filter(|(shape, constraints, _)| {
                    !free.contains(shape) || !admits(constraints, machine)
                })
                .map(|(_, _, count)| count)
                .sum();
            lost += amount * unfit;
            all += amount * tasks;
        }
        part(lost, all)
    }
}

fn add(sums: &mut BTreeMap<String, i64>, bundle: &Bundle, sign: i64) {
    for (kind, amount) in bundle.amounts() {
        match sums.get_mut(kind) {
            Some(sum) => *sum += sign * amount.milli(),
            None => {
                sums.insert(kind.to_owned(), sign * amount.milli());
            }
        }
    }
}

fn amount_of(bundle: &Bundle, kind: &str) -> i64 {
    let found = bundle.amounts().find(|(name, _)| *name == kind);
    found.map_or(0, |(_, amount)| amount.milli())
}

/// Whether a machine meets constraints of the tests that workloads have.
pub(super) fn admits(groups: &[Vec<Constraint>], machine: &Machine) -> bool {
    let holds = |constraint: &Constraint| {
        let mut attributes = machine.attributes.iter();
        let text = attributes.find(|(name, _)| *name == constraint.attribute);
        let text = text.map(|(_, text)| text);
        match constraint.test {
            ConstraintTest::Exists => text.is_some(),
            ConstraintTest::NotExists => text.is_none(),
            ConstraintTest::Equals => text.is_some_and(|text| constraint.values.contains(text)),
            ConstraintTest::NotEquals => !text.is_some_and(|text| constraint.values.contains(text)),
            // Patterns are the core's to judge; here they only count in fragmentation.
            ConstraintTest::Matches | ConstraintTest::NotMatches => true,
        }
    };
    groups.is_empty() || groups.iter().any(|group| group.iter().all(holds))
}
