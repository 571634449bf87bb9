//! Components that were compiled lately, so that the thousandth task of a kind starts at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::command::{CommandComponent, RunCommandError, compile};

/// How many components are kept ready: a job has one or two kinds of task, a runner one framework.
const KEPT_MAX: usize = 32;

/// The largest component of a task: several times a Python interpreter.
const COMPONENT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Compiled components by content; files also by what tells that they have not changed.
#[derive(Default)]
pub(crate) struct CompiledCommands {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_digest: BTreeMap<[u8; 32], Component>,
    by_file: BTreeMap<FileIdentity, [u8; 32]>,
}

/// A file that agrees in all of these has the same content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: Option<SystemTime>,
}

impl CompiledCommands {
    /// The compiled component. Blocks while it is read and compiled.
    pub(crate) fn get(
        &self,
        engine: &Engine,
        component: &CommandComponent,
    ) -> Result<Component, RunCommandError> {
        match component {
            CommandComponent::Bytes(bytes) => self.by_content(engine, bytes).map(|(_, c)| c),
            CommandComponent::File(path) => self.by_file(engine, path),
        }
    }

    fn by_file(&self, engine: &Engine, path: &Path) -> Result<Component, RunCommandError> {
        let failed = |source| RunCommandError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let identity = identity_of(&file).map_err(failed)?;
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(component) = kept
                .by_file
                .get(&identity)
                .and_then(|digest| kept.by_digest.get(digest))
            {
                return Ok(component.clone());
            }
        }
        let mut bytes = Vec::new();
        // One byte more than allowed tells that there is more.
        file.take(COMPONENT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let (digest, component) = self.by_content(engine, &bytes)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_file.len() >= KEPT_MAX {
            kept.by_file.clear();
        }
        kept.by_file.insert(identity, digest);
        Ok(component)
    }

    fn by_content(
        &self,
        engine: &Engine,
        bytes: &[u8],
    ) -> Result<([u8; 32], Component), RunCommandError> {
        if bytes.len() as u64 > COMPONENT_BYTES_MAX {
            return Err(RunCommandError::TooLarge {
                bytes: bytes.len() as u64,
                max: COMPONENT_BYTES_MAX,
            });
        }
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(component) = kept.by_digest.get(&digest) {
                return Ok((digest, component.clone()));
            }
        }
        // Not under the lock: two that come at once compile twice, and nobody waits for another's.
        let component = compile(engine, bytes)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.by_digest.len() >= KEPT_MAX {
            kept.by_digest.clear();
        }
        kept.by_digest.insert(digest, component.clone());
        Ok((digest, component))
    }
}

#[cfg(unix)]
fn identity_of(file: &File) -> std::io::Result<FileIdentity> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata()?;
    Ok(FileIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        changed: metadata.modified().ok(),
    })
}
