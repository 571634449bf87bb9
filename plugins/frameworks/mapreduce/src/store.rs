//! Jobs in the framework's state.
//!
//! | key | value |
//! |---|---|
//! | `run` | the run of the last job, decimal |
//! | `j/NAME` | a job's record, JSON |
//! | `i/RUN/CHUNK` | its input files, so many a key, JSON |
//! | `t/RUN/m/INDEX` | a map task's record, JSON, if it was ever launched |
//! | `t/RUN/r/INDEX` | a reduce task's |
//! | `x/ID` | nothing: an attempt to be ended in a later step |

use std::collections::BTreeMap;

use proffer_sdk::framework::State;

use crate::job::{Changed, Job, JobRecord};
use crate::split::{InputFile, Inputs};
use crate::submit::{INPUTS_BYTES_MAX, SubmitError};
use crate::task::{Kind, TaskRecord};

const RUN: &str = "run";
const JOBS: &str = "j/";
const KILLS: &str = "x/";

/// Bytes of JSON in one chunk of inputs: half of what a value may have, so that a single long name
/// never matters.
const CHUNK_BYTES: usize = 128 * 1024;

/// The run of the next job.
///
/// # Errors
/// The state cannot be read.
pub fn next_run(state: &mut State<'_>) -> Result<u32, String> {
    let last: u32 = state.get_json(RUN)?.unwrap_or(0);
    Ok(last.saturating_add(1))
}

/// Reads every job's record, by name.
///
/// # Errors
/// The state cannot be read.
pub fn read_records(state: &mut State<'_>) -> Result<BTreeMap<String, JobRecord>, String> {
    let mut records = BTreeMap::new();
    for (key, value) in state.scan(JOBS) {
        let record: JobRecord = parse(&key, &value)?;
        records.insert(record.name.clone(), record);
    }
    Ok(records)
}

/// Reads the inputs and tasks of a job.
///
/// # Errors
/// The state cannot be read.
pub fn read_job(state: &mut State<'_>, record: JobRecord) -> Result<Job, String> {
    let mut files: Vec<InputFile> = Vec::new();
    for (key, value) in state.scan(&format!("i/{}/", record.run)) {
        let chunk: Vec<InputFile> = parse(&key, &value)?;
        files.extend(chunk);
    }
    let mut job = Job {
        inputs: Inputs::new(files),
        maps: read_tasks(state, record.run, Kind::Map, record.maps)?,
        reduces: read_tasks(state, record.run, Kind::Reduce, record.reducers)?,
        changed: Changed::default(),
        record,
    };
    for lost in job.record.lost.clone() {
        job.apply_lost(lost);
    }
    Ok(job)
}

/// Writes a new job with its inputs.
///
/// # Errors
/// Its list of inputs is too long (the caller's fault, in the first place of the result), or the
/// state cannot be written.
pub fn write_new(state: &mut State<'_>, job: &Job) -> Result<Result<(), SubmitError>, String> {
    let mut chunks: Vec<String> = Vec::new();
    let mut bytes = 0;
    for file in job.inputs.files() {
        let text = serde_json::to_string(file).map_err(|error| error.to_string())?;
        bytes += text.len() + 1;
        if bytes > INPUTS_BYTES_MAX {
            return Ok(Err(SubmitError::TooMany {
                what: "bytes of the list of inputs",
                count: bytes as u64,
                max: INPUTS_BYTES_MAX as u64,
                mend: "name fewer files, or shorter paths",
            }));
        }
        match chunks.last_mut() {
            Some(chunk) if chunk.len() + text.len() < CHUNK_BYTES => {
                chunk.push(',');
                chunk.push_str(&text);
            }
            _ => chunks.push(format!("[{text}")),
        }
    }
    for (index, mut chunk) in chunks.into_iter().enumerate() {
        chunk.push(']');
        let key = format!("i/{}/{index:04}", job.record.run);
        state.set(&key, chunk.as_bytes())?;
    }
    state.set_json(RUN, &job.record.run)?;
    Ok(Ok(()))
}

/// Writes what has changed of a job.
///
/// # Errors
/// The state cannot be written.
pub fn write_changes(state: &mut State<'_>, job: &mut Job) -> Result<(), String> {
    let mut changed = std::mem::take(&mut job.changed);
    if changed.record {
        write_record(state, &job.record)?;
    }
    changed.tasks.sort_unstable();
    changed.tasks.dedup();
    for (kind, index) in changed.tasks {
        if let Some(task) = job.tasks(kind).get(index) {
            state.set_json(&task_key(job.record.run, kind, index), task)?;
        }
    }
    Ok(())
}

/// Writes a job's record alone.
///
/// # Errors
/// The state cannot be written.
pub fn write_record(state: &mut State<'_>, record: &JobRecord) -> Result<(), String> {
    state.set_json(&format!("{JOBS}{}", record.name), record)
}

/// Remembers an attempt that is to be ended later.
///
/// # Errors
/// The state cannot be written.
pub fn put_kill_off(state: &mut State<'_>, id: &str) -> Result<(), String> {
    Ok(state.set(&format!("{KILLS}{id}"), b"")?)
}

/// Takes so many attempts that were to be ended later, and whether there are more.
///
/// # Errors
/// The state cannot be written.
pub fn take_kills(state: &mut State<'_>, limit: usize) -> Result<(Vec<String>, bool), String> {
    let mut ids = Vec::new();
    let mut more = false;
    for (key, _) in state.scan(KILLS) {
        if ids.len() == limit {
            more = true;
            break;
        }
        ids.extend(key.strip_prefix(KILLS).map(str::to_owned));
    }
    for id in &ids {
        state.delete(&format!("{KILLS}{id}"))?;
    }
    Ok((ids, more))
}

/// Forgets a job.
///
/// # Errors
/// The state cannot be written.
pub fn delete(state: &mut State<'_>, record: &JobRecord) -> Result<(), String> {
    state.delete(&format!("{JOBS}{}", record.name))?;
    state.delete_prefix(&format!("i/{}/", record.run))?;
    state.delete_prefix(&format!("t/{}/", record.run))?;
    Ok(())
}

fn read_tasks(
    state: &mut State<'_>,
    run: u32,
    kind: Kind,
    count: u32,
) -> Result<Vec<TaskRecord>, String> {
    let mut tasks = vec![TaskRecord::default(); count as usize];
    let prefix = format!("t/{run}/{}/", kind.letter());
    for (key, value) in state.scan(&prefix) {
        let index = key.strip_prefix(&prefix).map(str::parse::<usize>);
        match index.and_then(Result::ok).and_then(|i| tasks.get_mut(i)) {
            Some(task) => *task = parse(&key, &value)?,
            None => return Err(format!("state has a task that its job has not: '{key}'")),
        }
    }
    Ok(tasks)
}

fn task_key(run: u32, kind: Kind, index: usize) -> String {
    format!("t/{run}/{}/{index:05}", kind.letter())
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value)
        .map_err(|error| format!("state under '{key}' cannot be read: {error}"))
}
