//! Launches for which nothing is made before they start: [`Launch::is_bare`]. All that is looked for is their
//! component, among what is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proffer_model::LaunchNumber;
use proffer_model::agent::Launch;

use super::Preparer;
use super::kept::KeptFile;

/// What bare launches run from. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Components {
    by_launch: Arc<Mutex<BTreeMap<LaunchNumber, Arc<KeptFile>>>>,
}

/// What became of a look at bare launches.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// These can start.
    pub(crate) ready: Vec<(LaunchNumber, Arc<KeptFile>)>,
    /// The components of these have to be fetched, as if they were not bare.
    pub(crate) left: Vec<Arc<Launch>>,
}

impl Components {
    /// A launch runs from this file, which stays until it has ended.
    pub(crate) fn set(&self, launch: LaunchNumber, file: Arc<KeptFile>) {
        self.by_launch().insert(launch, file);
    }

    /// The path of a launch's file, relative to the runner's directory; none: it has a sandbox.
    pub(crate) fn path_of(&self, launch: LaunchNumber) -> Option<String> {
        self.by_launch().get(&launch).map(|file| file.path())
    }

    pub(crate) fn remove(&self, launch: LaunchNumber) {
        // Not under the lock: this may remove the file.
        let _file = self.by_launch().remove(&launch);
    }

    /// A panic while it was held cannot have left it half changed.
    fn by_launch(&self) -> MutexGuard<'_, BTreeMap<LaunchNumber, Arc<KeptFile>>> {
        self.by_launch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Preparer {
    /// Looks for what bare launches run from. Blocks while it looks whether a source has changed.
    pub(crate) fn look(&self, launches: &[Arc<Launch>]) -> Looked {
        let mut looked = Looked::default();
        // Most launches that come together have one component, which is looked at once for all of them.
        let mut last = None;
        for launch in launches {
            let wanted = (launch.framework, launch.inputs.first());
            let file = match &last {
                Some((before, file)) if *before == wanted => Option::clone(file),
                _ => {
                    let key = wanted.1.and_then(|component| self.shared.key_of(component));
                    let file = key.and_then(|key| self.shared.kept.find(launch.framework, &key));
                    last = Some((wanted, file.clone()));
                    file
                }
            };
            match file {
                Some(file) => looked.ready.push((launch.number, file)),
                None => looked.left.push(Arc::clone(launch)),
            }
        }
        looked
    }
}
