//! The operators' requests.
//!
//! | request | answer |
//! |---|---|
//! | `GET /jobs` | 200: `{"jobs": [SUMMARY …]}`, newest first |
//! | `POST /jobs` | 201: the job's summary; 400: what is wrong with the body; 409: the name is in use |
//! | `GET /jobs/NAME` | 200: the whole job, `?offset=N&limit=N` of its tasks (at most 1,000); 404 |
//! | `DELETE /jobs/NAME` | 200: its tasks are killed and it is forgotten; 404 |
//!
//! All answers are JSON; errors are `{"error": "…"}`. The body of `POST /jobs`:
//!
//! ```json
//! {
//!   "name": "count",
//!   "inputs": [{"source": "file:/var/log/a.log", "size": 1234}],
//!   "split": 65536,
//!   "reducers": 4,
//!   "map":    {"component": "file:/opt/wordcount.wasm", "cpus": 1, "mem": 128},
//!   "reduce": {"component": "file:/opt/wordcount.wasm", "cpus": 0.5, "mem": 512},
//!   "failures_max": 4,
//!   "speculative": true, "straggler_factor": 3, "straggler_after_ms": 3000
//! }
//! ```
//!
//! `inputs`, `reducers` and the two components must be there. Without a `name` it is `job-RUN`;
//! without `split` (bytes) a task reads a whole file; `role` is the first of the framework's;
//! `failures_max` is how many failures of one task end the job. A component has `mem` MiB of memory.
//! Sources are those of a task's inputs in the contract: they are read by agents, never by the
//! framework, so the submitter says how large the files are.
//!
//! When a job has succeeded, `result` lists the parts by partition: `source` is what another task may
//! take as an input, `task` and `path` where an operator fetches it.

use proffer_sdk::framework::{Request, Response, Step};
use serde_json::json;

use crate::job::Job;
use crate::scheduler::MapReduce;
use crate::submit::{self, Submission, SubmitError};
use crate::view::{self, Window};
use crate::{progress, store};

/// Tasks in one answer: a few hundred KiB of JSON, far from the 8 MiB of a step's responses.
const TASKS_MAX: usize = 1_000;

/// Answers a request.
///
/// # Errors
/// The state cannot be read or written.
pub fn answer(
    framework: &mut MapReduce,
    request: &Request,
    step: &mut Step<'_>,
) -> Result<Response, String> {
    let segments = match request.segments() {
        Ok(segments) => segments,
        Err(wrong) => return Ok(error(request, 400, wrong.to_string())),
    };
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["jobs"]) => Ok(list(framework, request)),
        ("POST", ["jobs"]) => submit(framework, request, step),
        ("GET", ["jobs", name]) => show(framework, request, name, step),
        ("DELETE", ["jobs", name]) => delete(framework, request, name, step),
        (method, ["jobs"] | ["jobs", _]) => Ok(error(
            request,
            405,
            format!(
                "{method} is not for this path; see GET /jobs, POST /jobs, GET and DELETE /jobs/NAME"
            ),
        )),
        _ => Ok(error(
            request,
            404,
            format!("there is no '{}' here; begin with /jobs", request.path),
        )),
    }
}

fn list(framework: &MapReduce, request: &Request) -> Response {
    let running = framework.running.values().map(|job| &job.record);
    let mut records: Vec<_> = running.chain(framework.ended.values()).collect();
    records.sort_by_key(|record| std::cmp::Reverse(record.run));
    let jobs: Vec<_> = records.into_iter().map(view::summary).collect();
    request.json(200, &json!({ "jobs": jobs }))
}

fn submit(
    framework: &mut MapReduce,
    request: &Request,
    step: &mut Step<'_>,
) -> Result<Response, String> {
    let submission = Submission {
        roles: &framework.roles,
        run: store::next_run(&mut step.state())?,
        now: step.now(),
    };
    let job = match submit::read_job(&request.body, submission) {
        Ok(job) => job,
        Err(wrong) => return Ok(refuse(request, &wrong)),
    };
    let name = &job.record.name;
    let in_use = framework.ended.contains_key(name)
        || framework
            .running
            .values()
            .any(|own| own.record.name == *name);
    if in_use {
        let text =
            format!("there is a job '{name}' already; delete it first, or take another name");
        return Ok(error(request, 409, text));
    }
    if let Err(wrong) = store::write_new(&mut step.state(), &job)? {
        return Ok(refuse(request, &wrong));
    }
    proffer_sdk::info!(
        "job {} was submitted by {}: {} maps, {} reducers",
        job.record.prefix(),
        request.principal,
        job.record.maps,
        job.record.reducers
    );
    step.host().count("mapreduce_jobs_submitted", &[], 1);
    let response = request.json(201, &view::summary(&job.record));
    framework.running.insert(job.record.run, job);
    Ok(response)
}

fn show(
    framework: &MapReduce,
    request: &Request,
    name: &str,
    step: &mut Step<'_>,
) -> Result<Response, String> {
    let window = match window(request) {
        Ok(window) => window,
        Err(wrong) => return Ok(error(request, 400, wrong)),
    };
    let now = step.now();
    match find(framework, name, step)? {
        Some(Found::Running(job)) => Ok(request.json(200, &view::whole(job, window, now))),
        Some(Found::Ended(job)) => Ok(request.json(200, &view::whole(&job, window, now))),
        None => Ok(unknown(request, name)),
    }
}

fn delete(
    framework: &mut MapReduce,
    request: &Request,
    name: &str,
    step: &mut Step<'_>,
) -> Result<Response, String> {
    let run = match find(framework, name, step)? {
        Some(Found::Running(job)) => job.record.run,
        Some(Found::Ended(job)) => {
            framework.ended.remove(name);
            store::delete(&mut step.state(), &job.record)?;
            return Ok(request.json(200, &json!({ "deleted": name, "killed": 0 })));
        }
        None => return Ok(unknown(request, name)),
    };
    let Some(job) = framework.running.remove(&run) else {
        return Ok(unknown(request, name));
    };
    let attempts = progress::active_attempts(&job);
    let killed = attempts.len();
    framework.kills.extend(attempts);
    for kind in [crate::task::Kind::Map, crate::task::Kind::Reduce] {
        step.clear_demand(job.record.demand_key(kind));
    }
    store::delete(&mut step.state(), &job.record)?;
    proffer_sdk::info!(
        "job {} was deleted by {}",
        job.record.prefix(),
        request.principal
    );
    Ok(request.json(200, &json!({ "deleted": name, "killed": killed })))
}

/// A job, wherever it is.
enum Found<'a> {
    /// In memory.
    Running(&'a Job),
    /// Read for this request.
    Ended(Box<Job>),
}

fn find<'a>(
    framework: &'a MapReduce,
    name: &str,
    step: &mut Step<'_>,
) -> Result<Option<Found<'a>>, String> {
    let running = framework.running.values();
    if let Some(job) = running.into_iter().find(|job| job.record.name == name) {
        return Ok(Some(Found::Running(job)));
    }
    match framework.ended.get(name) {
        Some(record) => {
            let job = store::read_job(&mut step.state(), record.clone())?;
            Ok(Some(Found::Ended(Box::new(job))))
        }
        None => Ok(None),
    }
}

fn window(request: &Request) -> Result<Window, String> {
    let number = |name: &str, default: usize| match request.query_value(name) {
        Ok(None) => Ok(default),
        Ok(Some(text)) => text
            .parse()
            .map_err(|_| format!("{name}: '{text}' is not a number from 0")),
        Err(wrong) => Err(wrong.to_string()),
    };
    Ok(Window {
        offset: number("offset", 0)?,
        limit: number("limit", TASKS_MAX)?.min(TASKS_MAX),
    })
}

fn refuse(request: &Request, wrong: &SubmitError) -> Response {
    error(request, 400, wrong.to_string())
}

fn unknown(request: &Request, name: &str) -> Response {
    error(
        request,
        404,
        format!("there is no job '{name}'; see GET /jobs"),
    )
}

fn error(request: &Request, status: u16, text: impl Into<String>) -> Response {
    request.json(status, &json!({ "error": text.into() }))
}
