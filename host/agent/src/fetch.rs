//! Making a sandbox: fetching inputs, checking them, sealing them.
//!
//! Every input is copied: what a task sees does not change under it. One that is marked `cache` is copied
//! once, and linked into the sandboxes of later tasks ([`kept`]).
//!
//! Inputs that are lost are all looked for, so that whoever makes them again learns of all at once.

mod bare;
mod http;
mod kept;
mod lost;
mod place;

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use proffer_model::agent::{Launch, Origin, ResolvedInput, SandboxFile};
use proffer_model::{Executor, FrameworkId, Reason, Remedy, code};
use proffer_rpc::data::{DataClient, FetchError, FetchFile, FetchRefused, SandboxStore};
use tokio::sync::Semaphore;

use crate::files::{Files, open_regular};
use crate::logic::Unprepared;
use crate::sandbox::{Sandbox, Sandboxes};

pub(crate) use bare::{Components, Looked};

use kept::{Kept, Key};
use lost::{Lost, name_of};
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
    kept: Kept,
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
    /// Sources are no longer there: made again, they would be.
    #[error("{0}")]
    Lost(Lost),
    /// Anything else about an input.
    #[error("input '{path}': {problem}")]
    Failed { path: String, problem: String },
    /// The sandbox itself.
    #[error("its sandbox cannot be made: {0}")]
    Sandbox(#[from] std::io::Error),
}

impl PrepareError {
    /// As what the task is told.
    pub(crate) fn unprepared(&self) -> Unprepared {
        let (code, remedy) = match self {
            Self::Lost { .. } => (code::INPUT_LOST, Remedy::ChooseAnew),
            Self::Failed { .. } => (code::INPUT_FAILED, Remedy::Retry),
            Self::Sandbox(_) => (code::LAUNCH_FAILED, Remedy::Retry),
        };
        Unprepared {
            why: Reason::new(code, remedy, self.to_string()),
            lost: match self {
                Self::Lost(lost) => lost.names(),
                _ => Vec::new(),
            },
        }
    }
}

/// What went wrong with one input, before its path is known.
#[derive(Debug)]
enum Problem {
    /// Its source has it no more.
    Lost(String),
    /// Its source cannot be reached: nothing else there can be had either.
    Away(String),
    Failed(String),
}

/// An input, and what its framework calls its source.
struct Wanted<'a> {
    framework: FrameworkId,
    input: &'a ResolvedInput,
    name: &'a str,
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
                kept: Kept::default(),
            }),
        }
    }

    /// Makes the sandbox of a launch, with all its inputs in place. Those that are not kept are fetched, once
    /// `fetching` has said so.
    pub(crate) async fn prepare(
        &self,
        launch: &Arc<Launch>,
        fetching: impl Future<Output = ()>,
    ) -> Result<(), PrepareError> {
        let shared = &self.shared;
        let _slot = shared
            .slots
            .acquire()
            .await
            .map_err(std::io::Error::other)?;
        let (framework, number) = (launch.framework, launch.number);
        let is_wasm = matches!(launch.task.template.executor, Executor::Wasm(_));
        let (here, all) = (Arc::clone(shared), Arc::clone(launch));
        let begun = blocking(move || {
            let components = usize::from(is_wasm);
            let has_inputs = all.inputs.len() > components;
            let sandbox = here.sandboxes.create(framework, number, has_inputs)?;
            let left = here.link_kept(&sandbox, &all)?;
            if left.is_empty() {
                complete(&sandbox, is_wasm)?;
            }
            Ok((sandbox, left))
        });
        let (sandbox, left) = begun.await?;
        if left.is_empty() {
            return Ok(());
        }
        fetching.await;
        let mut lost = Lost::default();
        for (index, input) in launch.inputs.iter().enumerate() {
            if !left.contains(&index) {
                continue;
            }
            let to = target(&sandbox, launch, index, input);
            let what = Wanted {
                framework,
                input,
                name: name_of(launch, input),
            };
            match shared.place_and_keep(to, &what, &mut lost).await {
                Ok(()) => {}
                Err(Problem::Lost(text) | Problem::Away(text)) => {
                    lost.add(&input.path, what.name, &text);
                }
                Err(Problem::Failed(problem)) => {
                    return Err(PrepareError::Failed {
                        path: input.path.clone(),
                        problem,
                    });
                }
            }
        }
        if !lost.is_empty() {
            return Err(PrepareError::Lost(lost));
        }
        blocking(move || complete(&sandbox, is_wasm)).await?;
        Ok(())
    }
}

/// All inputs are there: shows them to the task, and takes the right to write.
fn complete(sandbox: &Sandbox, is_wasm: bool) -> std::io::Result<()> {
    if is_wasm {
        sandbox.link_for_component()?;
    } else {
        sandbox.link_for_process()?;
    }
    sandbox.seal()
}

/// Where an input goes. A component is the first of its task's, and lies beside the others.
fn target<'a>(
    sandbox: &'a Sandbox,
    launch: &'a Launch,
    index: usize,
    input: &'a ResolvedInput,
) -> (&'a Dir, &'a str) {
    let is_wasm = matches!(launch.task.template.executor, Executor::Wasm(_));
    match &sandbox.inputs {
        Some(inputs) if index > 0 || !is_wasm => (inputs, input.path.as_str()),
        _ => (&sandbox.dir, COMPONENT),
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
    /// Links what is kept into a new sandbox; which inputs are left to be fetched.
    fn link_kept(&self, sandbox: &Sandbox, launch: &Launch) -> std::io::Result<BTreeSet<usize>> {
        let mut left: BTreeSet<usize> = (0..launch.inputs.len()).collect();
        for (index, input) in launch.inputs.iter().enumerate() {
            let Some(key) = self.key_of(input) else {
                continue;
            };
            let (dir, path) = target(sandbox, launch, index, input);
            let kept = self.sandboxes.kept(launch.framework)?;
            if let Some((parent, _)) = path.rsplit_once('/') {
                dir.create_dir_all(parent)?;
            }
            if self.kept.link(launch.framework, &key, &kept, (dir, path)) {
                left.remove(&index);
            }
        }
        Ok(left)
    }

    /// By what an input is known again; none if it is not to be kept, or cannot be had.
    fn key_of(&self, input: &ResolvedInput) -> Option<Key> {
        if !input.marks.cache {
            return None;
        }
        let Origin::File(source) = &input.from else {
            return Key::of_other(input);
        };
        // Whatever is wrong with it is told when it is fetched.
        let file = self.open_allowed(source).ok()?;
        Key::of_file(input, source, &file).ok()
    }

    /// Puts an input into its place, and keeps it for later tasks if it is to be.
    async fn place_and_keep(
        &self,
        to: (&Dir, &str),
        what: &Wanted<'_>,
        lost: &mut Lost,
    ) -> Result<(), Problem> {
        let key = self.key_of(what.input);
        let lost_before = lost.count();
        self.place(to, what, lost).await?;
        if let Some(key) = key
            && lost.count() == lost_before
        {
            let framework = what.framework;
            if let Err(error) = self.kept.keep(framework, key, &self.sandboxes, to) {
                tracing::debug!(%framework, %error, "an input was not kept");
            }
        }
        Ok(())
    }

    async fn place(
        &self,
        (dir, path): (&Dir, &str),
        what: &Wanted<'_>,
        lost: &mut Lost,
    ) -> Result<(), Problem> {
        let input = what.input;
        let place = |path: &str| {
            let dir = dir.try_clone().map_err(PlaceError::from)?;
            Place::new(dir, path, input, self.bytes_max)
        };
        match &input.from {
            Origin::File(source) => {
                let (file, place) = (self.open_allowed(source)?, place(path)?);
                on_a_thread(move || Ok(place.copy(file)?)).await
            }
            Origin::Http(url) => http::download(url.clone(), place(path)?).await,
            Origin::Sandbox(file) => {
                let wanted = (file, what.name);
                self.fetch_or_lose(wanted, input, place(path)?, lost).await
            }
            Origin::Sandboxes(_) if !input.digest.is_empty() => Err(Problem::Failed(
                "a directory of several files has no digest; leave it out".to_owned(),
            )),
            Origin::Sandboxes(files) => {
                dir.create_dir_all(path).map_err(PlaceError::from)?;
                for (name, file) in files {
                    let place = place(&format!("{path}/{name}"))?;
                    self.fetch_or_lose((file, name), input, place, lost).await?;
                }
                Ok(())
            }
        }
    }

    /// Fetches a file; if it is no more, that is noted, so that the others are looked for as well.
    async fn fetch_or_lose(
        &self,
        (file, name): (&SandboxFile, &str),
        input: &ResolvedInput,
        place: Place,
        lost: &mut Lost,
    ) -> Result<(), Problem> {
        if lost.is_away(&file.address) {
            let text = format!("{} cannot be reached", file.address);
            lost.add(&input.path, name, &text);
            return Ok(());
        }
        match self.fetch(file, place).await {
            Err(Problem::Lost(text)) => lost.add(&input.path, name, &text),
            Err(Problem::Away(text)) => {
                lost.add_away(&file.address);
                lost.add(&input.path, name, &text);
            }
            done => return done,
        }
        Ok(())
    }

    /// Opens a file of this machine, if it is below a directory that was allowed. Links inside of that
    /// directory are followed, links out of it are refused.
    fn open_allowed(&self, source: &str) -> Result<File, Problem> {
        let allowed = self.allowed.iter().find_map(|allowed| {
            let below = std::path::Path::new(source).strip_prefix(allowed).ok()?;
            Some((allowed, below.to_str()?))
        });
        let Some((allowed, below)) = allowed else {
            return Err(Problem::Failed(format!(
                "'{source}' is below no directory that this agent may read inputs from; start it with --files DIR"
            )));
        };
        let opened = Dir::open_ambient_dir(allowed, ambient_authority())
            .and_then(|dir| open_regular(&dir, below));
        match opened {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Problem::Lost(format!("there is no file '{source}'")))
            }
            Err(error) => Err(Problem::Failed(format!("'{source}': {error}"))),
        }
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
            Problem::Away(error.to_string())
        }
        error => Problem::Failed(error.to_string()),
    }
}
