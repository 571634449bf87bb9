//! Inputs marked `cache`: a file that is fetched once and linked into later sandboxes.
//!
//! Each framework has its own, so that one's tasks cannot reach another's. What is kept is the agent's
//! and read-only, like every input; a link to it costs no copy, and a runner knows a component that it
//! has compiled by its name, which is never given to another.
//!
//! A file goes when newer ones have taken its place *and* no launch is to run from it any more.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::Dir;
use proffer_model::agent::{Origin, ResolvedInput};
use proffer_model::{FrameworkId, LaunchNumber};

use crate::sandbox::{KEPT_DIR, Sandboxes};

/// Files kept per framework. A job has one or two kinds of task, and a few files that all of them read.
const KEPT_MAX: usize = 64;

/// What is kept, by framework. Clones of its owner share it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    frameworks: Mutex<BTreeMap<FrameworkId, Files>>,
}

/// One framework's.
#[derive(Debug, Default)]
struct Files {
    by_key: BTreeMap<Key, Arc<KeptFile>>,
    /// The number of the next one; the smallest is the oldest.
    next: u64,
}

/// A file that is kept. It is there as long as this is held.
#[derive(Debug)]
pub(crate) struct KeptFile {
    sandboxes: Arc<Sandboxes>,
    framework: FrameworkId,
    number: u64,
    /// It goes with its last holder.
    is_replaced: AtomicBool,
}

impl KeptFile {
    /// Its path, relative to the runner's directory.
    pub(crate) fn path(&self) -> String {
        format!("{KEPT_DIR}/{}", self.name())
    }

    fn name(&self) -> String {
        self.sandboxes.kept_name(self.number)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        if *self.is_replaced.get_mut() {
            let kept = self.sandboxes.kept(self.framework);
            // Sandboxes have links of their own. What stays is swept by the next agent process.
            let _best_effort = kept.is_ok_and(|kept| kept.remove_file(self.name()).is_ok());
        }
    }
}

/// Two inputs with equal keys are one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    from: Place,
    digest: String,
    executable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A file of this machine, as it was when it was looked at.
    File {
        path: String,
        device: u64,
        inode: u64,
        bytes: u64,
        changed: (i64, i64),
    },
    /// Whatever the URL gives: its digest says what.
    Http(String),
    /// Of a task that has finished: nobody writes there any more.
    Sandbox(LaunchNumber, String, String),
}

impl Key {
    /// Of a file of this machine that was opened.
    pub(super) fn of_file(
        input: &ResolvedInput,
        path: &str,
        file: &std::fs::File,
    ) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let from = Place::File {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        Ok(Self::new(input, from))
    }

    /// Of anything else; none if it cannot be told whether it is the same the next time.
    pub(super) fn of_other(input: &ResolvedInput) -> Option<Self> {
        let from = match &input.from {
            Origin::Http(url) if !input.digest.is_empty() => Place::Http(url.clone()),
            Origin::Sandbox(file) => {
                Place::Sandbox(file.launch, file.path.clone(), file.address.clone())
            }
            Origin::File(_) | Origin::Http(_) | Origin::Sandboxes(_) => return None,
        };
        Some(Self::new(input, from))
    }

    fn new(input: &ResolvedInput, from: Place) -> Self {
        Self {
            from,
            digest: input.digest.clone(),
            executable: input.marks.executable,
        }
    }
}

impl Kept {
    /// Links a kept file to this path; says whether there was one. `dir` is where the framework's are.
    pub(super) fn link(
        &self,
        framework: FrameworkId,
        key: &Key,
        dir: &Dir,
        to: (&Dir, &str),
    ) -> bool {
        let Some(file) = self.find(framework, key) else {
            return false;
        };
        match dir.hard_link(file.name(), to.0, to.1) {
            Ok(()) => true,
            Err(error) => {
                // It was taken away, or it has as many links as a file may have: a new one is kept.
                tracing::debug!(%framework, %error, "a kept input was not linked");
                if let Some(files) = self.frameworks().get_mut(&framework) {
                    files.replace(key);
                }
                false
            }
        }
    }

    /// A kept file, to run from.
    pub(super) fn find(&self, framework: FrameworkId, key: &Key) -> Option<Arc<KeptFile>> {
        let frameworks = self.frameworks();
        let files = frameworks.get(&framework)?;
        files.by_key.get(key).map(Arc::clone)
    }

    /// Keeps a file that is in its place in a sandbox. What cannot be kept is fetched again.
    pub(super) fn keep(
        &self,
        framework: FrameworkId,
        key: Key,
        sandboxes: &Arc<Sandboxes>,
        from: (&Dir, &str),
    ) -> io::Result<()> {
        let dir = sandboxes.kept(framework)?;
        let mut frameworks = self.frameworks();
        let files = frameworks.entry(framework).or_default();
        // Tasks that began together fetch together; one of them is enough.
        if files.by_key.contains_key(&key) {
            return Ok(());
        }
        let file = KeptFile {
            sandboxes: Arc::clone(sandboxes),
            framework,
            number: files.next,
            is_replaced: AtomicBool::new(false),
        };
        files.next += 1;
        from.0.hard_link(from.1, &dir, file.name())?;
        files.by_key.insert(key, Arc::new(file));
        if files.by_key.len() > KEPT_MAX {
            let oldest = files.by_key.iter().min_by_key(|(_, file)| file.number);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                files.replace(&key);
            }
        }
        Ok(())
    }

    /// A panic while it was held cannot have left it half changed.
    fn frameworks(&self) -> MutexGuard<'_, BTreeMap<FrameworkId, Files>> {
        self.frameworks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// Another takes the place of the one under this key.
    fn replace(&mut self, key: &Key) {
        if let Some(file) = self.by_key.remove(key) {
            file.is_replaced.store(true, Ordering::Relaxed);
        }
    }
}
