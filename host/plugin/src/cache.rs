//! Compiled code on disk: wasmtime's own cache, in a directory that only we can write.
//!
//! What is in it is *run*: whoever can write there can run code as this process. So the directory is
//! made for its owner alone, and one that others may write is refused. Entries are keyed by
//! wasmtime by the component's bytes, its own version and every setting that changes code.

use std::path::{Path, PathBuf};

use wasmtime::{Cache, CacheConfig};

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenCacheError {
    /// It cannot be made.
    #[error("cannot make the directory for compiled code, {}", path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others may write to it.
    #[error(
        "{} may be written by others, and compiled code in it would be run: chmod 700 it, or name another directory",
        path.display()
    )]
    Exposed {
        /// Where.
        path: PathBuf,
    },
    /// wasmtime refuses it.
    #[error("cannot use {} for compiled code: {problem}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

/// The files are compressed machine code; this is some hundred large guests.
const TOTAL_BYTES_SOFT_MAX: u64 = 2 * 1024 * 1024 * 1024;

pub(crate) fn open(path: &Path) -> Result<Cache, OpenCacheError> {
    make_private(path)?;
    let refused = |problem: String| OpenCacheError::Refused {
        path: path.to_owned(),
        problem,
    };
    // wasmtime wants an absolute path without links.
    let canonical = path.canonicalize().map_err(|e| refused(e.to_string()))?;
    let mut config = CacheConfig::new();
    config
        .with_directory(canonical)
        .with_files_total_size_soft_limit(TOTAL_BYTES_SOFT_MAX);
    Cache::new(config).map_err(|e| refused(format!("{e:#}")))
}

fn make_private(path: &Path) -> Result<(), OpenCacheError> {
    let failed = |source| OpenCacheError::Make {
        path: path.to_owned(),
        source,
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let mode = std::fs::metadata(path)
            .map_err(failed)?
            .permissions()
            .mode();
        if mode & 0o022 != 0 {
            return Err(OpenCacheError::Exposed {
                path: path.to_owned(),
            });
        }
    }
    Ok(())
}
