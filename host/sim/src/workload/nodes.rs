//! Machines from a file: `sn,cpu_milli,memory_mib,gpu,model`, as the openb traces have them.

use std::path::Path;
use std::sync::Arc;

use proffer_model::{Amount, Bundle, Quantity, Timestamp};

use super::text::{Table, read};
use super::{InvalidTrace, Machine, TraceProblem};

/// Accelerators of traces in which several tasks may share one: a kind of its own, because the
/// host's own kind `gpus` is whole. All of a machine's are one divisible amount; which device a
/// part is of is not modelled.
pub const GPU: &str = "gpu";
/// The attribute with the accelerators' model.
pub const MODEL: &str = "gpu-model";
/// More of anything is a mistake in the file.
const MOST: u64 = 1_000_000_000;

/// Reads machines.
///
/// # Errors
/// File, line and column of what is wrong.
pub fn read_nodes(file: &Path) -> Result<Vec<Machine>, InvalidTrace> {
    let text = read(file)?;
    let columns = ["sn", "cpu_milli", "memory_mib", "gpu", "model"];
    let mut table = Table::new(file, &text, &columns)?;
    let mut machines = Vec::new();
    while let Some(line) = table.next_line() {
        let line = line?;
        let amount = |column| {
            let number = line.number(column)?;
            match i64::try_from(number) {
                Ok(number_ok) if number <= MOST => Ok(number_ok),
                _ => Err(line.field(column, "a number of at most 1000000000")),
            }
        };
        let mut total = Bundle {
            cpus: Amount::from_milli(amount("cpu_milli")?),
            mem: Amount::from_units(amount("memory_mib")?),
            ..Bundle::default()
        };
        set_gpu(&mut total, Amount::from_units(amount("gpu")?));
        let model = line.text("model");
        let attributes = match model {
            "" => Vec::new(),
            model => vec![(MODEL.to_owned(), model.to_owned())],
        };
        machines.push(Machine {
            name: line.text("sn").to_owned(),
            total,
            attributes,
            from: Timestamp(0),
        });
    }
    if machines.is_empty() {
        return Err(InvalidTrace {
            file: file.to_owned(),
            line: None,
            problem: TraceProblem::Empty("a line for each machine"),
        });
    }
    Ok(machines)
}

/// So much of an accelerator.
pub(super) fn set_gpu(bundle: &mut Bundle, amount: Amount) {
    if !amount.is_zero() {
        bundle
            .other
            .insert(Arc::from(GPU), Quantity::Scalar(amount));
    }
}
