//! The openb traces of Alibaba's cluster trace program (`cluster-trace-gpu-v2023`): pods with
//! arrival and end, in seconds. An owner is a class of service.

use std::collections::BTreeMap;
use std::path::Path;

use proffer_model::{Amount, Bundle, Constraint, ConstraintTest, Duration, Timestamp};

use super::nodes::{MODEL, set_gpu};
use super::text::{Line, Table, read};
use super::{InvalidTrace, Machine, Owner, Task, TraceProblem, Workload};

/// Columns that are used.
pub const COLUMNS: [&str; 9] = [
    "name",
    "cpu_milli",
    "memory_mib",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "qos",
    "creation_time",
    "deletion_time",
];
/// More of anything is a mistake in the file.
const MOST: u64 = 1_000_000_000;

/// Reads pods, to be run on these machines.
///
/// # Errors
/// File, line and column of what is wrong.
pub fn read_openb(file: &Path, machines: Vec<Machine>) -> Result<Workload, InvalidTrace> {
    let text = read(file)?;
    let mut table = Table::new(file, &text, &COLUMNS)?;
    let mut owners = BTreeMap::new();
    let mut tasks = Vec::new();
    let mut end = Timestamp(0);
    while let Some(line) = table.next_line() {
        let line = line?;
        let next = owners.len();
        let owner = *owners.entry(line.text("qos").to_owned()).or_insert(next);
        let task = task(&line, owner)?;
        end = end.max(task.asked + task.runs.unwrap_or_default());
        tasks.push(task);
    }
    if tasks.is_empty() {
        return Err(InvalidTrace {
            file: file.to_owned(),
            line: None,
            problem: TraceProblem::Empty("a line for each pod"),
        });
    }
    tasks.sort_by_key(|task: &Task| task.asked);
    let mut named: Vec<(usize, Owner)> = owners
        .into_iter()
        .map(|(name, place)| (place, owner_named(&name)))
        .collect();
    named.sort_by_key(|(place, _)| *place);
    Ok(Workload {
        machines,
        owners: named.into_iter().map(|(_, owner)| owner).collect(),
        begin: tasks.first().map_or(Timestamp(0), |task| task.asked),
        tasks,
        end,
    })
}

fn owner_named(class: &str) -> Owner {
    let name: String = class
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = format!("qos-{name}");
    Owner {
        role: name.clone(),
        name,
        gpus: true,
    }
}

fn task(line: &Line<'_>, owner: usize) -> Result<Task, InvalidTrace> {
    let amount = |column| {
        let number = line.number(column)?;
        match i64::try_from(number) {
            Ok(amount) if number <= MOST => Ok(amount),
            _ => Err(line.field(column, "a number of at most 1000000000")),
        }
    };
    let mut shape = Bundle {
        cpus: Amount::from_milli(amount("cpu_milli")?),
        mem: Amount::from_units(amount("memory_mib")?),
        ..Bundle::default()
    };
    let share = amount("gpu_milli")?;
    if share > 1_000 {
        return Err(line.field("gpu_milli", "at most 1000, a whole gpu"));
    }
    set_gpu(
        &mut shape,
        Amount::from_milli(amount("num_gpu")?.saturating_mul(share)),
    );
    if shape.is_empty() {
        return Err(line.field("cpu_milli", "a pod that asks for something"));
    }
    let created = line.number("creation_time")?;
    let deleted = line.number("deletion_time")?;
    let Some(seconds) = deleted.checked_sub(created) else {
        return Err(line.field("deletion_time", "a time that is not before creation_time"));
    };
    Ok(Task {
        owner,
        shape,
        units: 1,
        constraints: models(line.text("gpu_spec")),
        asked: Timestamp(created.saturating_mul(1_000)),
        runs: Some(Duration::from_secs(seconds)),
    })
}

/// `V100M16|V100M32`: any of them.
fn models(spec: &str) -> Vec<Vec<Constraint>> {
    if spec.is_empty() {
        return Vec::new();
    }
    vec![vec![Constraint {
        attribute: MODEL.to_owned(),
        test: ConstraintTest::Equals,
        values: spec.split('|').map(str::to_owned).collect(),
    }]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time";

    fn read_text(rows: &str) -> Result<Workload, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pods.csv");
        std::fs::write(&file, format!("{HEADER}\n{rows}")).unwrap();
        read_openb(&file, Vec::new()).map_err(|error| {
            let text = error.to_string();
            text.replace(&dir.path().display().to_string(), "DIR")
        })
    }

    #[test]
    fn pods_are_tasks_of_their_class_in_the_order_of_arrival() {
        let workload = read_text(
            "b,6000,12288,1,460,,LS,Running,200,260,\na,12000,1,2,1000,T4|P100,BE,Failed,100,100,100\n",
        )
        .unwrap();
        assert_eq!(workload.owners.len(), 2);
        let [first, second] = &workload.tasks[..] else {
            panic!("two tasks");
        };
        assert_eq!(workload.owners[first.owner].name, "qos-be");
        assert_eq!(first.shape, "cpus:12;mem:1;gpu:2".parse().unwrap());
        assert_eq!(first.constraints[0][0].values, ["T4", "P100"]);
        assert_eq!(first.runs, Some(Duration(0)));
        assert_eq!(second.shape, "cpus:6;mem:12288;gpu:0.46".parse().unwrap());
        assert_eq!(second.asked, Timestamp(200_000));
        assert_eq!(second.runs, Some(Duration(60_000)));
        assert_eq!(
            (workload.begin, workload.end),
            (Timestamp(100_000), Timestamp(260_000))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        for (rows, message) in [
            ("", "DIR/pods.csv: empty; wanted a line for each pod"),
            ("a,1\n", "DIR/pods.csv, line 2: 2 fields; wanted 11"),
            (
                "a,1,1,0,0,,LS,R,5,9,\nb,1,x,0,0,,LS,R,5,9,\n",
                "DIR/pods.csv, line 3, column memory_mib: 'x'; wanted a whole number of at least 0",
            ),
            (
                "a,1,1,1,2000,,LS,R,5,9,\n",
                "DIR/pods.csv, line 2, column gpu_milli: '2000'; wanted at most 1000, a whole gpu",
            ),
            (
                "a,1,1,0,0,,LS,R,9,5,\n",
                "DIR/pods.csv, line 2, column deletion_time: '5'; wanted a time that is not before creation_time",
            ),
        ] {
            assert_eq!(read_text(rows).unwrap_err(), message);
        }
    }
}
