//! The job: files whose words are known, how it is submitted and followed, and its result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use proffer_rpc::operator::{FetchOutput, FrameworkRequest};
use serde_json::{Value, json};

use super::Cluster;

/// The framework's and the job's names.
const FRAMEWORK: &str = "mapreduce";
const JOB: &str = "count";

/// Largest part of a result; the inputs are much smaller.
const PART_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a job is cut.
#[derive(Clone, Copy, Debug)]
pub struct JobSize {
    /// Bytes of a map task's input.
    pub split: u64,
    /// Parts of the result.
    pub reducers: u32,
    /// Processors that a map task holds.
    pub map_cpus: f64,
}

impl Cluster {
    /// Adds the framework.
    ///
    /// # Panics
    /// If it is refused.
    pub fn run_framework(&self) {
        let run = self.try_run_framework();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }

    fn try_run_framework(&self) -> Output {
        let mut command = self.command(&self.host_data());
        command
            .args(["framework", "run", "--approve"])
            .arg(&self.setup.guests.mapreduce)
            .output()
            .expect("the command runs")
    }

    /// A framework's answer, or none if the host does not answer now.
    fn request(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: Vec<u8>,
    ) -> Option<(u16, Value)> {
        let request = FrameworkRequest {
            framework: FRAMEWORK.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: body.into(),
            principal: String::new(),
        };
        let client = self.client()?;
        let response = self.runtime.block_on(client.request(request)).ok()?;
        let answer = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        Some((response.status, answer))
    }

    /// Submits the job.
    ///
    /// # Panics
    /// If it is refused.
    pub fn submit(&self, size: JobSize) {
        let mut inputs = Vec::new();
        for path in files(&self.dir.path().join("input")) {
            let size = std::fs::metadata(&path).expect("an input").len();
            inputs.push(json!({ "source": format!("file:{}", path.display()), "size": size }));
        }
        let component = format!("file:{}", self.setup.guests.wordcount.display());
        let job = json!({
            "name": JOB, "inputs": inputs, "split": size.split, "reducers": size.reducers,
            "map": { "component": component, "cpus": size.map_cpus },
            "reduce": { "component": component },
        });
        let (status, answer) = self
            .request("POST", "/jobs", "", job.to_string().into_bytes())
            .expect("the host answers");
        assert_eq!(status, 201, "{answer}");
    }

    /// The job, with so many of its tasks; none while nobody answers.
    pub fn job(&self, tasks: usize) -> Option<Value> {
        let (path, query) = (format!("/jobs/{JOB}"), format!("limit={tasks}"));
        let (status, job) = self.request("GET", &path, &query, Vec::new())?;
        (status == 200).then_some(job)
    }

    /// How many of its tasks are done, and whether it has ended; none while nobody answers.
    pub fn progress(&self) -> Option<(u64, bool)> {
        let job = self.job(0)?;
        let done = |phase: &str| job[phase]["done"].as_u64().unwrap_or(0);
        Some((done("map") + done("reduce"), job["state"] != "running"))
    }

    /// Waits until so many of its maps are done.
    #[track_caller]
    pub fn wait_for_maps(&self, count: u64) {
        self.wait_for(&format!("{count} maps are done"), |cluster| {
            cluster.job(0).is_some_and(|job| {
                assert_ne!(job["state"], "failed", "{job:#}");
                job["map"]["done"].as_u64() >= Some(count)
            })
        });
    }

    /// Waits for the job's end, which must be a good one, and looks at its result.
    ///
    /// # Panics
    /// If the counts are others than a script's.
    #[track_caller]
    pub fn assert_result(&self) {
        let mut job = Value::Null;
        self.wait_for("the job ends", |cluster| {
            job = cluster.job(0).unwrap_or(Value::Null);
            job["state"] == "succeeded" || job["state"] == "failed"
        });
        assert_eq!(job["state"], "succeeded", "{job:#}\n{}", self.logs());
        let mut counts = BTreeMap::new();
        for part in job["result"].as_array().expect("parts") {
            for line in self.part(part).split(|byte| *byte == b'\n') {
                let Some(tab) = line.iter().rposition(|byte| *byte == b'\t') else {
                    assert!(line.is_empty(), "{}", line.escape_ascii());
                    continue;
                };
                let count = std::str::from_utf8(&line[tab + 1..]).expect("digits");
                let count: u64 = count.parse().expect("a number");
                *counts.entry(line[..tab].to_vec()).or_default() += count;
            }
        }
        assert!(as_tsv(&counts) == self.expected, "another count");
    }

    fn part(&self, part: &Value) -> Vec<u8> {
        let fetch = FetchOutput {
            framework: FRAMEWORK.to_owned(),
            task: part["task"].as_str().expect("a task").to_owned(),
            path: part["path"].as_str().expect("a path").to_owned(),
        };
        let client = self.client().expect("the host answers");
        self.runtime.block_on(async {
            let fetched = client.fetch_output(fetch).await.expect("it is there");
            fetched.all(PART_BYTES_MAX).await.expect("all of it")
        })
    }
}

/// Writes files whose words are known: some are not UTF-8, one is empty, one is in a directory. The
/// counts of their words.
///
/// # Panics
/// If the disk fails.
pub fn write_inputs(dir: &Path) -> BTreeMap<Vec<u8>, u64> {
    std::fs::create_dir_all(dir.join("deep/er")).expect("a directory");
    let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for file in 0..12_u32 {
        let mut text = Vec::new();
        for word in 0..1_500_u32 {
            let mut one = format!("w{}", (word * word + file * 7) % 611).into_bytes();
            if word % 97 == 0 {
                one.extend([0xff, 0xfe, b'x']);
            }
            *counts.entry(one.clone()).or_default() += 1;
            text.extend(one);
            text.extend_from_slice(if word % 5 == 0 { b" \t\r\n" } else { b" " });
        }
        let name = if file == 3 {
            "deep/er/three".to_owned()
        } else {
            format!("f{file}")
        };
        std::fs::write(dir.join(name), text).expect("a file");
    }
    std::fs::write(dir.join("empty"), b"").expect("a file");
    counts
}

/// The counts as `counts.tsv` has them.
pub fn as_tsv(counts: &BTreeMap<Vec<u8>, u64>) -> Vec<u8> {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let row = |(word, count): (&Vec<u8>, &u64)| [word, format!("\t{count}\n").as_bytes()].concat();
    rows.into_iter().flat_map(row).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all.sort();
    all
}
