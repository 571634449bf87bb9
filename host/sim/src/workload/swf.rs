//! The Standard Workload Format of the Parallel Workloads Archive: 18 numbers a job, -1 for unknown,
//! comments with `;`, of which `MaxNodes` and `MaxProcs` say what the machine was.
//!
//! A job that takes more processors than a machine has is several units, which start together.

use std::collections::BTreeMap;
use std::path::Path;

use proffer_model::{Amount, Bundle, Duration, Timestamp};

use super::text::{Line, read};
use super::{InvalidTrace, Machine, Owner, Task, TraceProblem, Workload};

/// Fields of a job, in their order.
const COLUMNS: [&str; 18] = [
    "job number",
    "submit time",
    "wait time",
    "run time",
    "allocated processors",
    "average cpu time",
    "used memory",
    "requested processors",
    "requested time",
    "requested memory",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding job",
    "think time",
];
/// Machines, processors and seconds past this are a mistake in the file.
const MOST: u64 = 10_000_000_000;
/// Machines that a header may ask for.
const MACHINES_MAX: u64 = 1_000_000;

/// Reads jobs. Without machines, they are made from the header.
///
/// # Errors
/// File, line and field of what is wrong.
pub fn read_swf(file: &Path, machines: Option<Vec<Machine>>) -> Result<Workload, InvalidTrace> {
    let text = read(file)?;
    let machines = match machines {
        Some(machines) => machines,
        None => machines_of(file, &text)?,
    };
    let processors = machines
        .iter()
        .map(|machine| u64::try_from(machine.total.cpus.milli() / 1_000).unwrap_or(0))
        .max()
        .unwrap_or(0)
        .max(1);
    let memory = machines.iter().any(|machine| !machine.total.mem.is_zero());
    let mut owners = BTreeMap::new();
    let mut tasks = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with(';') {
            continue;
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let found = fields.len();
        let line = Line::of(file, index + 1, &COLUMNS, fields);
        if found != COLUMNS.len() {
            let wanted = COLUMNS.len();
            return Err(line.invalid(TraceProblem::Fields { found, wanted }));
        }
        if let Some(job) = job(&line)? {
            let next = owners.len();
            let owner = *owners.entry(job.group).or_insert(next);
            tasks.push(job.task(owner, processors, memory));
        }
    }
    if tasks.is_empty() {
        return Err(InvalidTrace {
            file: file.to_owned(),
            line: None,
            problem: TraceProblem::Empty("a line for each job"),
        });
    }
    tasks.sort_by_key(|task: &Task| task.asked);
    let mut named: Vec<(usize, Owner)> = owners
        .into_iter()
        .map(|(group, place)| (place, owner_of(group)))
        .collect();
    named.sort_by_key(|(place, _)| *place);
    let end = |task: &Task| task.asked + task.runs.unwrap_or_default();
    Ok(Workload {
        machines,
        owners: named.into_iter().map(|(_, owner)| owner).collect(),
        begin: tasks.first().map_or(Timestamp(0), |task| task.asked),
        end: tasks.iter().map(end).max().unwrap_or_default(),
        tasks,
    })
}

fn owner_of(group: Option<u64>) -> Owner {
    let name = group.map_or_else(|| "group".to_owned(), |group| format!("group-{group}"));
    Owner {
        role: name.clone(),
        name,
        gpus: false,
    }
}

struct Job {
    group: Option<u64>,
    processors: u64,
    /// KiB for each processor.
    memory: u64,
    submitted: u64,
    seconds: u64,
}

/// None: the job never ran, as one that was cancelled while it waited.
fn job(line: &Line<'_>) -> Result<Option<Job>, InvalidTrace> {
    let number = |column| match line.known(column)? {
        Some(number) if number > MOST => Err(line.field(column, "a number of at most 10000000000")),
        number => Ok(number),
    };
    let Some(submitted) = number("submit time")? else {
        return Err(line.field("submit time", "a time"));
    };
    let requested = number("requested processors")?.filter(|count| *count > 0);
    let allocated = number("allocated processors")?.filter(|count| *count > 0);
    let requested_memory = number("requested memory")?;
    let used_memory = number("used memory")?;
    let (Some(processors), Some(seconds)) = (requested.or(allocated), number("run time")?) else {
        return Ok(None);
    };
    Ok(Some(Job {
        group: number("group")?,
        processors,
        memory: requested_memory.or(used_memory).unwrap_or(0),
        submitted,
        seconds,
    }))
}

impl Job {
    fn task(&self, owner: usize, machine: u64, memory: bool) -> Task {
        // As few units as there can be, each as small as it can be.
        let units = self.processors.div_ceil(machine);
        let each = self.processors.div_ceil(units);
        let amount =
            |number: u64| Amount::from_units(i64::try_from(number).unwrap_or(i64::MAX / 1_000));
        let mut shape = Bundle {
            cpus: amount(each),
            ..Bundle::default()
        };
        if memory {
            shape.mem = amount(self.memory.saturating_mul(each).div_ceil(1_024).min(MOST));
        }
        Task {
            owner,
            shape,
            units: u32::try_from(units).unwrap_or(u32::MAX),
            constraints: Vec::new(),
            asked: Timestamp(self.submitted.saturating_mul(1_000)),
            runs: Some(Duration::from_secs(self.seconds)),
        }
    }
}

/// `; MaxNodes: 128` and `; MaxProcs: 256`: so many machines, with so many processors together.
fn machines_of(file: &Path, text: &str) -> Result<Vec<Machine>, InvalidTrace> {
    let header = |name: &str| -> Option<u64> {
        let line = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(';'))
            .find_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let invalid = |problem: String| InvalidTrace {
        file: file.to_owned(),
        line: None,
        problem: TraceProblem::Other(problem),
    };
    let processors = header("MaxProcs");
    let nodes = header("MaxNodes").or(processors);
    let (Some(nodes), Some(processors)) = (nodes.filter(|n| *n > 0), processors.or(nodes)) else {
        let problem =
            "the header says neither MaxNodes nor MaxProcs; give machines with --nodes FILE";
        return Err(invalid(problem.to_owned()));
    };
    if nodes > MACHINES_MAX || processors > MOST {
        return Err(invalid(format!(
            "the header asks for {nodes} machines with {processors} processors"
        )));
    }
    let each = Amount::from_units(i64::try_from((processors / nodes).max(1)).unwrap_or(1));
    let machine = |number| Machine {
        name: format!("node-{number}"),
        total: Bundle {
            cpus: each,
            ..Bundle::default()
        },
        attributes: Vec::new(),
        from: Timestamp(0),
    };
    Ok((0..nodes).map(machine).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Workload, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log.swf");
        std::fs::write(&file, text).unwrap();
        read_swf(&file, None).map_err(|error| {
            let text = error.to_string();
            text.replace(&dir.path().display().to_string(), "DIR")
        })
    }

    const HEADER: &str = "; Version: 2\n; MaxNodes: 4\n; MaxProcs: 32 (of them)\n";

    #[test]
    fn jobs_larger_than_a_machine_are_several_units() {
        let text = "1 10 5 60 20 -1 -1 20 -1 -1 1 3 7 -1 1 -1 -1 -1\n2 5 0 30 -1 -1 -1 4 -1 -1 1 3 8 -1 1 -1 -1 -1\n3 6 0 -1 -1 -1 -1 4 -1 -1 5 3 8 -1 1 -1 -1 -1\n";
        let workload = read_text(&format!("{HEADER}{text}")).unwrap();
        assert_eq!(workload.machines.len(), 4);
        assert_eq!(workload.machines[0].total, "cpus:8".parse().unwrap());
        let [first, second] = &workload.tasks[..] else {
            panic!("two of the jobs ran");
        };
        assert_eq!((first.units, &first.shape), (1, &"cpus:4".parse().unwrap()));
        assert_eq!(
            (second.units, &second.shape),
            (3, &"cpus:7".parse().unwrap())
        );
        assert_eq!(second.runs, Some(Duration::from_secs(60)));
        assert_eq!(workload.owners[second.owner].name, "group-7");
        assert_eq!(workload.begin, Timestamp(5_000));
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_field() {
        for (text, message) in [
            (
                "",
                "DIR/log.swf: the header says neither MaxNodes nor MaxProcs; give machines with --nodes FILE",
            ),
            (HEADER, "DIR/log.swf: empty; wanted a line for each job"),
            (
                &format!("{HEADER}1 2 3\n"),
                "DIR/log.swf, line 4: 3 fields; wanted 18",
            ),
            (
                &format!("{HEADER}1 10 5 60 20 -1 -1 many -1 -1 1 3 7 -1 1 -1 -1 -1\n"),
                "DIR/log.swf, line 4, column requested processors: 'many'; wanted a number, or -1 for unknown",
            ),
            (
                &format!("{HEADER}1 -1 5 60 20 -1 -1 4 -1 -1 1 3 7 -1 1 -1 -1 -1\n"),
                "DIR/log.swf, line 4, column submit time: '-1'; wanted a time",
            ),
        ] {
            assert_eq!(read_text(text).unwrap_err(), message);
        }
    }
}
