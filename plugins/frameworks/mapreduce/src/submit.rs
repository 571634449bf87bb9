//! From a request's body to a job, or to what is wrong with it.

use proffer_model::{Amount, Source};
use proffer_sdk::framework::Timestamp;
use serde::Deserialize;

use crate::job::{Changed, Counters, Function, Job, JobRecord, JobState, Straggler};
use crate::split::{InputFile, Inputs};
use crate::task::TaskRecord;

/// Map tasks of one job: what an instance reads of it when it is made stays below 10 MiB and takes some
/// tens of milliseconds. Larger inputs take larger splits.
pub const MAPS_MAX: u64 = 10_000;

/// Partitions of one job. Every map writes a file for each, and every reducer opens one of every map.
pub const REDUCERS_MAX: u32 = 1_000;

/// Bytes of the list of inputs: it is written in the step that takes the job, and the rest of that
/// step needs some of the contract's 1 MiB.
pub const INPUTS_BYTES_MAX: usize = 768 * 1024;

/// A job's name, so that task ids stay below 255 bytes and state keys short.
const NAME_BYTES_MAX: usize = 63;

/// Failures of one task before the job is given up, unless it says otherwise. Hadoop's number.
const FAILURES_MAX_DEFAULT: u32 = 4;
const FAILURES_MAX_MAX: u32 = 100;

/// A task that takes three times as long as most is seldom just unlucky.
const STRAGGLER_FACTOR_DEFAULT: u32 = 3;

/// Below this a backup costs more than it saves: its start and the transfer of its inputs.
const STRAGGLER_AFTER_MS_DEFAULT: u64 = 3_000;

/// Why a job is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The body is not JSON of the right form.
    #[error("{0}")]
    Body(String),
    /// A field's value is wrong.
    #[error("{field}: {problem}")]
    Field {
        /// Its name in the body.
        field: &'static str,
        /// What is wrong, and what is wanted.
        problem: String,
    },
    /// More than a job may have.
    #[error("{what}: {count} are more than {max}; {mend}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many may be.
        max: u64,
        /// What to do.
        mend: &'static str,
    },
}

/// The body of `POST /jobs`, as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    name: Option<String>,
    role: Option<String>,
    inputs: Vec<InputFile>,
    split: Option<u64>,
    reducers: u32,
    map: FunctionDraft,
    reduce: FunctionDraft,
    failures_max: Option<u32>,
    #[serde(default = "yes")]
    speculative: bool,
    straggler_factor: Option<u32>,
    straggler_after_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionDraft {
    component: String,
    cpus: Option<Number>,
    mem: Option<Number>,
    disk: Option<Number>,
}

/// `0.5` or `"0.5"`: a number of JSON is read as it is written, not by way of a float.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(serde_json::Number),
    Text(String),
}

/// What the framework knows that the body does not say.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// The framework's roles.
    pub roles: &'a [String],
    /// The new job's run.
    pub run: u32,
    /// Now.
    pub now: Timestamp,
}

/// Reads a job.
///
/// # Errors
/// What is wrong with the body, by field.
pub fn read_job(body: &[u8], submission: Submission<'_>) -> Result<Job, SubmitError> {
    let draft: Draft =
        serde_json::from_slice(body).map_err(|error| SubmitError::Body(error.to_string()))?;
    let name = match draft.name {
        Some(name) => checked_name(name)?,
        None => format!("job-{}", submission.run),
    };
    let role = checked_role(draft.role, submission.roles)?;
    let reducers = checked_reducers(draft.reducers)?;
    let failures_max = draft.failures_max.unwrap_or(FAILURES_MAX_DEFAULT);
    if !(1..=FAILURES_MAX_MAX).contains(&failures_max) {
        return Err(field("failures_max", "wanted 1 to 100"));
    }
    if draft.split == Some(0) {
        return Err(field("split", "wanted a number of bytes above 0, or null"));
    }
    let factor = draft.straggler_factor.unwrap_or(STRAGGLER_FACTOR_DEFAULT);
    if factor == 0 {
        return Err(field("straggler_factor", "wanted 1 or more"));
    }
    let inputs = checked_inputs(draft.inputs)?;
    let maps = checked_maps(&inputs, draft.split)?;
    let map = checked_function("map.component", draft.map, ("1", "128"))?;
    let reduce = checked_function("reduce.component", draft.reduce, ("0.5", "512"))?;
    let record = JobRecord {
        name,
        run: submission.run,
        role,
        split: draft.split,
        maps,
        reducers,
        map,
        reduce,
        failures_max,
        straggler: draft.speculative.then_some(Straggler {
            factor,
            after_ms: draft
                .straggler_after_ms
                .unwrap_or(STRAGGLER_AFTER_MS_DEFAULT),
        }),
        submitted: submission.now,
        first_launch: None,
        ended: None,
        state: JobState::Running,
        reason: String::new(),
        lost: Vec::new(),
        counters: Counters::default(),
        demand: [0, 0],
    };
    Ok(Job {
        maps: vec![TaskRecord::default(); maps as usize],
        reduces: vec![TaskRecord::default(); reducers as usize],
        changed: Changed {
            record: true,
            ..Changed::default()
        },
        inputs,
        record,
    })
}

fn checked_name(name: String) -> Result<String, SubmitError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if fits && name.bytes().all(word) && !name.starts_with('-') {
        return Ok(name);
    }
    Err(field(
        "name",
        "wanted 1 to 63 lower-case letters, digits and dashes, not beginning with a dash",
    ))
}

fn checked_role(role: Option<String>, roles: &[String]) -> Result<String, SubmitError> {
    let of_mine = format!("wanted one of this framework's: {}", roles.join(", "));
    match role {
        Some(role) if roles.contains(&role) => Ok(role),
        Some(role) => Err(field("role", format!("'{role}' is not mine; {of_mine}"))),
        None => roles.first().cloned().ok_or_else(|| field("role", of_mine)),
    }
}

fn checked_reducers(reducers: u32) -> Result<u32, SubmitError> {
    match reducers {
        0 => Err(field("reducers", "wanted 1 or more")),
        1..=REDUCERS_MAX => Ok(reducers),
        _ => Err(SubmitError::TooMany {
            what: "reducers",
            count: u64::from(reducers),
            max: u64::from(REDUCERS_MAX),
            mend: "ask for fewer",
        }),
    }
}

fn checked_inputs(files: Vec<InputFile>) -> Result<Inputs, SubmitError> {
    if files.is_empty() {
        return Err(field("inputs", "there is none; name at least one file"));
    }
    for (index, file) in files.iter().enumerate() {
        if let Err(problem) = Source::parse(&file.source) {
            return Err(field(
                "inputs",
                format!("number {index}, '{}': {problem}", file.source),
            ));
        }
        if file.source.starts_with("output:") && file.source.contains(['*', '?', '[']) {
            return Err(field(
                "inputs",
                format!("number {index}: a pattern is no file; name each output"),
            ));
        }
    }
    Ok(Inputs::new(files))
}

fn checked_maps(inputs: &Inputs, split: Option<u64>) -> Result<u32, SubmitError> {
    let maps = inputs.maps(split);
    match u32::try_from(maps) {
        Ok(count) if maps <= MAPS_MAX => Ok(count),
        _ => Err(SubmitError::TooMany {
            what: "map tasks",
            count: maps,
            max: MAPS_MAX,
            mend: "take a larger split, or fewer files",
        }),
    }
}

fn checked_function(
    name: &'static str,
    draft: FunctionDraft,
    (cpus, mem): (&str, &str),
) -> Result<Function, SubmitError> {
    let component = draft.component;
    match Source::parse(&component) {
        Err(problem) => return Err(field(name, format!("'{component}': {problem}"))),
        Ok(Source::Output(..)) if component.contains(['*', '?', '[']) => {
            return Err(field(name, "a pattern is no file"));
        }
        Ok(_) => {}
    }
    let cpus = amount("cpus", draft.cpus, cpus)?;
    let mem = amount("mem", draft.mem, mem)?;
    if mem == 0 {
        return Err(field(
            "mem",
            "wanted MiB above 0: it is what the task may use",
        ));
    }
    Ok(Function {
        component,
        cpus,
        mem,
        disk: amount("disk", draft.disk, "0")?,
    })
}

fn amount(name: &'static str, number: Option<Number>, default: &str) -> Result<i64, SubmitError> {
    let text = match number {
        Some(Number::Number(number)) => number.to_string(),
        Some(Number::Text(text)) => text,
        None => default.to_owned(),
    };
    let parsed: Result<Amount, _> = text.parse();
    match parsed {
        Ok(amount) => Ok(amount.milli()),
        Err(error) => Err(field(name, error.to_string())),
    }
}

fn field(field: &'static str, problem: impl Into<String>) -> SubmitError {
    SubmitError::Field {
        field,
        problem: problem.into(),
    }
}

fn yes() -> bool {
    true
}
