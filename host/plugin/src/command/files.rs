//! What a task reaches of the file system. All of it is opened when the task first wants it: most small
//! tasks never do, and what nobody looks at costs nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use rustix::fs::OFlags;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Bytes that a task may write at once without asking again, as wasmtime's own files have it.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// What a task can reach of the file system.
#[derive(Clone, Debug, Default)]
pub struct TaskFiles {
    /// A directory that is made, for its owner only, before anything here is opened; none: all is there.
    pub made_first: Option<PathBuf>,
    /// Its directories.
    pub directories: Vec<OpenedDirectory>,
    /// Where its standard output goes, appended: a file that is made with the first bytes. None: nowhere.
    pub stdout: Option<PathBuf>,
    /// The same for its standard error.
    pub stderr: Option<PathBuf>,
}

/// A directory that a task can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedDirectory {
    /// On this machine.
    pub host: PathBuf,
    /// As the task knows it: `.`, or an absolute path such as `/in`.
    pub guest: String,
    /// What it may do there.
    pub access: DirectoryAccess,
}

/// What a task may do in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryAccess {
    /// List and read.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// The files of one task, and what of them is open.
pub(super) struct Opening {
    files: TaskFiles,
    /// Whether `made_first` is made.
    is_made: Mutex<bool>,
}

impl Opening {
    pub(super) fn new(files: TaskFiles) -> Arc<Self> {
        Arc::new(Self {
            files,
            is_made: Mutex::default(),
        })
    }

    pub(super) fn stdout(self: &Arc<Self>) -> Option<LateFile> {
        self.files.stdout.clone().map(|path| self.late(path))
    }

    pub(super) fn stderr(self: &Arc<Self>) -> Option<LateFile> {
        self.files.stderr.clone().map(|path| self.late(path))
    }

    fn late(self: &Arc<Self>, path: PathBuf) -> LateFile {
        LateFile(Arc::new(Late {
            opening: Arc::clone(self),
            path,
            file: OnceLock::new(),
        }))
    }

    /// The directories, open. Blocks.
    pub(super) fn directories(&self) -> wasmtime::Result<WasiFilesystemCtx> {
        self.make()
            .map_err(|error| wasmtime::format_err!("its directory cannot be made: {error}"))?;
        let mut builder = WasiCtxBuilder::new();
        // The task has the thread to itself.
        builder.allow_blocking_current_thread(true);
        for directory in &self.files.directories {
            let permissions = match directory.access {
                DirectoryAccess::ReadOnly => FsPerms::ReadOnly,
                DirectoryAccess::ReadWrite => FsPerms::ReadWrite,
            };
            builder
                .preopened_dir(&directory.host, &directory.guest, permissions)
                .map_err(|error| {
                    let path = directory.host.display();
                    wasmtime::format_err!("cannot open {path} for the task: {error:#}")
                })?;
        }
        Ok(builder.build().filesystem().clone())
    }

    fn make(&self) -> io::Result<()> {
        let Some(path) = &self.files.made_first else {
            return Ok(());
        };
        // A panic while it was held cannot have left it half changed.
        let mut is_made = self.is_made.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_made {
            // What is there already is not this task's, and not to be used.
            DirBuilder::new().mode(0o700).create(path)?;
            *is_made = true;
        }
        Ok(())
    }

    /// Whatever the task has put in the file's place by now is its own or is refused: a link there would lead
    /// out of its directory.
    fn open_to_append(&self, path: &Path) -> io::Result<File> {
        self.make()?;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o644);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options.open(path)
    }
}

/// A stream into a file that is made with its first bytes. Clones are of one file.
#[derive(Clone)]
pub(super) struct LateFile(Arc<Late>);

struct Late {
    opening: Arc<Opening>,
    path: PathBuf,
    file: OnceLock<File>,
}

impl LateFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Late {
            opening,
            path,
            file,
        } = &*self.0;
        let mut file = match file.get() {
            Some(file) => file,
            // Two that come here at once have the same file open twice: each appends.
            None => {
                let opened = opening.open_to_append(path)?;
                file.get_or_init(|| opened)
            }
        };
        file.write_all(bytes)
    }
}

impl IsTerminal for LateFile {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LateFile {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LateFile {
    async fn ready(&mut self) {}
}

impl OutputStream for LateFile {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.append(&bytes)
            .map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    /// Nothing is held back here.
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for LateFile {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.append(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
