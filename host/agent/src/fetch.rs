//! Making a sandbox: fetching inputs, checking them, sealing them.
//!
//! Every input is copied, never linked: what a task sees does not change under it. `cache` is not
//! heeded yet, each launch fetches for itself.

mod http;
mod place;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use proffer_model::agent::{Launch, Origin, ResolvedInput, SandboxFile};
use proffer_model::{Executor, Reason, Remedy, code};
use proffer_rpc::data::{DataClient, FetchError, FetchFile, FetchRefused, SandboxStore};
use tokio::sync::Semaphore;

use crate::files::{Files, open_regular};
use crate::sandbox::Sandboxes;

use place::{Place, PlaceError};

/// Sandboxes that are made at once; each holds a few files and a connection.
const PREPARING_MAX: usize = 16;

/// The file's name in a sandbox, beside what the task sees.
pub(crate) const COMPONENT: &str = "component.wasm";

/// Makes sandboxes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Preparer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sandboxes: Arc<Sandboxes>,
    files: Files,
    data: DataClient,
    /// This agent's own data address: its own files are copied, not sent.
    own_address: String,
    /// Directories whose files may be inputs.
    allowed: Vec<PathBuf>,
    bytes_max: u64,
    slots: Semaphore,
}

/// What a preparer needs.
pub(crate) struct PreparerParts {
    pub(crate) sandboxes: Arc<Sandboxes>,
    pub(crate) files: Files,
    pub(crate) data: DataClient,
    pub(crate) own_address: String,
    pub(crate) allowed: Vec<PathBuf>,
    pub(crate) bytes_max: u64,
}

/// Why a sandbox could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// The source is no longer there: made again, it would be.
    #[error("input '{path}': {problem}")]
    Lost { path: String, problem: String },
    /// Anything else about an input.
    #[error("input '{path}': {problem}")]
    Failed { path: String, problem: String },
    /// The sandbox itself.
    #[error("its sandbox cannot be made: {0}")]
    Sandbox(#[from] std::io::Error),
}

impl PrepareError {
    /// As a task's reason.
    pub(crate) fn reason(&self) -> Reason {
        let (code, remedy) = match self {
            Self::Lost { .. } => (code::INPUT_LOST, Remedy::ChooseAnew),
            Self::Failed { .. } => (code::INPUT_FAILED, Remedy::Retry),
            Self::Sandbox(_) => (code::LAUNCH_FAILED, Remedy::Retry),
        };
        Reason::new(code, remedy, self.to_string())
    }
}

/// What went wrong with one input, before its path is known.
#[derive(Debug)]
enum Problem {
    Lost(String),
    Failed(String),
}

impl From<PlaceError> for Problem {
    fn from(error: PlaceError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Preparer {
    pub(crate) fn new(parts: PreparerParts) -> Self {
        let PreparerParts {
            sandboxes,
            files,
            data,
            own_address,
            allowed,
            bytes_max,
        } = parts;
        Self {
            shared: Arc::new(Shared {
                sandboxes,
                files,
                data,
                own_address,
                allowed,
                bytes_max,
                slots: Semaphore::new(PREPARING_MAX),
            }),
        }
    }

    /// Makes the sandbox of a launch, with all its inputs in place.
    pub(crate) async fn prepare(&self, launch: &Launch) -> Result<(), PrepareError> {
        let shared = &self.shared;
        let _slot = shared
            .slots
            .acquire()
            .await
            .map_err(std::io::Error::other)?;
        let sandboxes = Arc::clone(&shared.sandboxes);
        let (framework, number) = (launch.framework, launch.number);
        let sandbox = blocking(move || sandboxes.create(framework, number)).await?;
        let is_wasm = matches!(launch.task.template.executor, Executor::Wasm(_));
        for (index, input) in launch.inputs.iter().enumerate() {
            let is_component = is_wasm && index == 0;
            let (dir, path) = if is_component {
                (&sandbox.dir, COMPONENT)
            } else {
                (&sandbox.inputs, input.path.as_str())
            };
            let placed = shared.place(dir, path, input).await;
            placed.map_err(|problem| match problem {
                Problem::Lost(problem) => PrepareError::Lost {
                    path: input.path.clone(),
                    problem,
                },
                Problem::Failed(problem) => PrepareError::Failed {
                    path: input.path.clone(),
                    problem,
                },
            })?;
        }
        blocking(move || {
            if is_wasm {
                sandbox.link_for_component()?;
            } else {
                sandbox.link_for_process()?;
            }
            sandbox.seal()
        })
        .await?;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)),
    }
}

impl Shared {
    async fn place(&self, dir: &Dir, path: &str, input: &ResolvedInput) -> Result<(), Problem> {
        let place = |path: &str| {
            let dir = dir.try_clone().map_err(PlaceError::from)?;
            Place::new(dir, path, input, self.bytes_max)
        };
        match &input.from {
            Origin::File(source) => self.copy_allowed(source, place(path)?).await,
            Origin::Http(url) => {
                let (url, place) = (url.clone(), place(path)?);
                on_a_thread(move || http::download(&url, place)).await
            }
            Origin::Sandbox(file) => self.fetch(file, place(path)?).await,
            Origin::Sandboxes(_) if !input.digest.is_empty() => Err(Problem::Failed(
                "a directory of several files has no digest; leave it out".to_owned(),
            )),
            Origin::Sandboxes(files) => {
                dir.create_dir_all(path).map_err(PlaceError::from)?;
                for (name, file) in files {
                    self.fetch(file, place(&format!("{path}/{name}"))?).await?;
                }
                Ok(())
            }
        }
    }

    /// Copies a file of this machine, if it is below a directory that was allowed. Links inside of
    /// that directory are followed, links out of it are refused.
    async fn copy_allowed(&self, source: &str, place: Place) -> Result<(), Problem> {
        let allowed = self.allowed.iter().find_map(|allowed| {
            let below = std::path::Path::new(source).strip_prefix(allowed).ok()?;
            Some((allowed.clone(), below.to_str()?.to_owned()))
        });
        let Some((allowed, below)) = allowed else {
            return Err(Problem::Failed(format!(
                "'{source}' is below no directory that this agent may read inputs from; start it with --files DIR"
            )));
        };
        let source = source.to_owned();
        on_a_thread(move || {
            let opened = Dir::open_ambient_dir(&allowed, ambient_authority())
                .and_then(|dir| open_regular(&dir, &below));
            match opened {
                Ok(file) => Ok(place.copy(file)?),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(Problem::Lost(format!("there is no file '{source}'")))
                }
                Err(error) => Err(Problem::Failed(format!("'{source}': {error}"))),
            }
        })
        .await
    }

    async fn fetch(&self, file: &SandboxFile, mut place: Place) -> Result<(), Problem> {
        let wanted = FetchFile {
            launch: file.launch,
            path: file.path.clone(),
            offset: 0,
        };
        if file.address == self.own_address {
            let files = self.files.clone();
            return on_a_thread(move || {
                let opened: File = files.open(&wanted).map_err(refused)?;
                Ok(place.copy(opened)?)
            })
            .await;
        }
        let address = file.address.parse();
        let address = address.map_err(|error| Problem::Failed(format!("{error}")))?;
        let fetched = self.data.fetch(&address, &wanted).await;
        let mut fetched = fetched.map_err(fetch_failed)?;
        place.expect(fetched.size())?;
        while let Some(bytes) = fetched.next().await.map_err(fetch_failed)? {
            // Some 64 KiB into the page cache: shorter than handing them to another thread.
            place.write(&bytes)?;
        }
        Ok(place.finish()?)
    }
}

async fn on_a_thread(
    work: impl FnOnce() -> Result<(), Problem> + Send + 'static,
) -> Result<(), Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Problem::Failed(error.to_string())),
    }
}

fn refused(why: FetchRefused) -> Problem {
    match why {
        FetchRefused::Lost(text) => Problem::Lost(text),
        why => Problem::Failed(why.to_string()),
    }
}

/// An agent that cannot be reached may be gone with its outputs: for a framework that is the same as a
/// lost output, which it knows how to make again.
fn fetch_failed(error: FetchError) -> Problem {
    match error {
        FetchError::Refused { why, .. } => refused(why),
        FetchError::Connect(error @ proffer_rpc::ConnectError::Unreachable { .. }) => {
            Problem::Lost(error.to_string())
        }
        error => Problem::Failed(error.to_string()),
    }
}
