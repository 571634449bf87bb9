//! The job, from its submission to its end, through the framework's own interface.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proffer_model::Timestamp;
use proffer_rpc::operator::{FrameworkRequest, FrameworkResponse, OperatorClient, Subject};
use serde_json::{Value, json};

use super::inputs::Inputs;
use crate::commands::principal;
use crate::failure::Failure;
use crate::progress::Progress;

/// Between two looks at the job: often enough for a line that moves.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A job of which no task has ended for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(180);

/// What a framework takes as a request's body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What to count, and how.
pub(super) struct Submission<'a> {
    pub(super) name: &'a str,
    pub(super) inputs: &'a Inputs,
    pub(super) split: Option<u64>,
    pub(super) reducers: u32,
    pub(super) component: &'a Path,
}

/// A job that was submitted.
pub(super) struct Job<'a> {
    client: &'a OperatorClient,
    framework: &'a str,
    path: String,
}

/// A job that has succeeded.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) submitted: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) parts: Vec<Part>,
}

/// A part of the result: which file of which task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) task: String,
    pub(super) path: String,
}

impl Submission<'_> {
    fn body(&self) -> anyhow::Result<Vec<u8>> {
        let component = self
            .component
            .to_str()
            .with_context(|| format!("{} is not UTF-8", self.component.display()))?;
        let function = json!({ "component": format!("file:{component}") });
        let inputs: Vec<Value> = self
            .inputs
            .files
            .iter()
            .map(|(path, size)| json!({ "source": format!("file:{path}"), "size": size }))
            .collect();
        let body = json!({
            "name": self.name, "inputs": inputs, "split": self.split, "reducers": self.reducers,
            "map": function, "reduce": function,
        });
        let body = body.to_string().into_bytes();
        if body.len() > BODY_BYTES_MAX {
            let text = format!(
                "{} files are too many for one job: their names are over 1 MiB; count a part of the directory",
                self.inputs.files.len()
            );
            return Err(Failure::Usage(text).into());
        }
        Ok(body)
    }
}

impl<'a> Job<'a> {
    /// Submits it.
    pub(super) async fn submit(
        client: &'a OperatorClient,
        framework: &'a str,
        submission: &Submission<'_>,
    ) -> anyhow::Result<Self> {
        let job = Self {
            client,
            framework,
            path: format!("/jobs/{}", submission.name),
        };
        let response = job.request("POST", "/jobs", "", submission.body()?).await?;
        if response.status != 201 {
            let why = error_of(&response);
            return Err(Failure::Usage(format!("the framework refused the job: {why}")).into());
        }
        Ok(job)
    }

    /// Waits for its end, and shows how it gets there.
    pub(super) async fn follow(&self, progress: &mut Progress) -> anyhow::Result<Ended> {
        let mut last = (String::new(), Instant::now());
        loop {
            let job = self.look("limit=0").await?;
            let (text, milestone) = describe(&job);
            progress.at(&text, &milestone);
            match job["state"].as_str() {
                Some("succeeded") => return ended(&job),
                Some("failed") => {
                    let why = job["reason"].as_str().unwrap_or("it does not say why");
                    bail!("the job failed: {why}");
                }
                _ => {}
            }
            let steps = format!("{}{}", job["map"], job["reduce"]);
            if steps != last.0 {
                last = (steps, Instant::now());
            } else if last.1.elapsed() > STUCK_AFTER {
                return Err(self.stuck(&text).await);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, query: &str) -> anyhow::Result<Value> {
        let response = self.request("GET", &self.path, query, Vec::new()).await?;
        if response.status != 200 {
            bail!("the framework lost the job: {}", error_of(&response));
        }
        serde_json::from_slice(&response.body).context("the framework's answer is not JSON")
    }

    async fn stuck(&self, text: &str) -> anyhow::Error {
        let subject = Subject::Framework(self.framework.to_owned());
        let why = match self.client.explain(subject).await {
            Ok(explanation) => explanation.sentences.join(" "),
            Err(error) => error.to_string(),
        };
        let seconds = STUCK_AFTER.as_secs();
        anyhow::anyhow!("the job is stuck ({text}): nothing has moved for {seconds} s. {why}")
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<FrameworkResponse> {
        let request = FrameworkRequest {
            framework: self.framework.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.into(),
            principal: principal(),
        };
        let answered = self.client.request(request).await;
        answered.with_context(|| format!("the framework does not answer {method} {path}"))
    }
}

/// The framework's own words, or its status.
fn error_of(response: &FrameworkResponse) -> String {
    let body: Option<Value> = serde_json::from_slice(&response.body).ok();
    let text = body.as_ref().and_then(|body| body["error"].as_str());
    text.map_or_else(|| format!("status {}", response.status), str::to_owned)
}

/// A line for a person, and what of it is worth a line in a log: tenths of the work.
fn describe(job: &Value) -> (String, String) {
    let number = |phase: &str, field: &str| job[phase][field].as_u64().unwrap_or(0);
    let phase = |name: &str| {
        format!(
            "{name} {}/{} done, {} running",
            number(name, "done"),
            number(name, "tasks"),
            number(name, "running")
        )
    };
    let all = number("map", "tasks") + number("reduce", "tasks");
    let done = number("map", "done") + number("reduce", "done");
    let tenths = (done * 10).checked_div(all).unwrap_or(0);
    (
        format!("{}; {}", phase("map"), phase("reduce")),
        tenths.to_string(),
    )
}

fn ended(job: &Value) -> anyhow::Result<Ended> {
    let time = |field: &str| {
        let time = job[field].as_u64();
        time.map(Timestamp)
            .with_context(|| format!("the framework's answer has no '{field}'"))
    };
    let parts = job["result"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let parts = parts
        .iter()
        .map(|part| {
            let text = |field: &str| part[field].as_str().map(str::to_owned);
            match (text("task"), text("path")) {
                (Some(task), Some(path)) => Ok(Part { task, path }),
                _ => bail!("a part of the result was lost with its agent; run the demo again"),
            }
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Ended {
        submitted: time("submitted")?,
        ended: time("ended")?,
        parts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Value {
        json!({
            "state": "succeeded", "submitted": 1_000, "ended": 4_000,
            "map": { "tasks": 8, "done": 8, "running": 0 },
            "reduce": { "tasks": 2, "done": 1, "running": 1 },
            "result": [{ "partition": 0, "task": "w.1.r0.a0", "path": "part", "agent": "demo-1" }],
        })
    }

    #[test]
    fn progress_is_one_line_and_a_log_has_tenths() {
        let (text, milestone) = describe(&job());
        assert_eq!(text, "map 8/8 done, 0 running; reduce 1/2 done, 1 running");
        assert_eq!(milestone, "9");
        assert_eq!(describe(&json!({})).1, "0");
    }

    #[test]
    fn the_end_names_the_parts_of_the_result() {
        let end = ended(&job()).unwrap();
        assert_eq!(
            (end.submitted, end.ended),
            (Timestamp(1_000), Timestamp(4_000))
        );
        let part = Part {
            task: "w.1.r0.a0".into(),
            path: "part".into(),
        };
        assert_eq!(end.parts, [part]);
        let mut lost = job();
        lost["result"][0]["task"] = Value::Null;
        assert!(ended(&lost).unwrap_err().to_string().contains("was lost"));
    }

    #[test]
    fn more_files_than_a_request_holds_are_refused_before_it_is_sent() {
        let files = (0..20_000).map(|n| (format!("/a/directory/of/logs/number-{n}"), 1));
        let inputs = Inputs {
            root: "/a".into(),
            files: files.collect(),
        };
        let submission = Submission {
            name: "w",
            inputs: &inputs,
            split: None,
            reducers: 1,
            component: Path::new("/w.wasm"),
        };
        let error = submission.body().unwrap_err().to_string();
        assert!(error.contains("20000 files are too many"), "{error}");
    }
}
