//! Standard output, where results go, and standard error, where everything else does.

use std::fmt;
use std::io::{self, Write};

/// Writes to standard output. Whoever reads it may have seen enough (`proffer task list | head`): the
/// command ends then, quietly. If it cannot be written otherwise, the command fails.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(i32::from(crate::failure::OK));
        }
        Err(error) => {
            errln!("error: cannot write to standard output: {error}");
            std::process::exit(i32::from(crate::failure::FAILED));
        }
    }
}

/// Writes to standard error. If nobody reads it any more the command goes on, and its status still says
/// how it ended.
pub(crate) fn tell(text: fmt::Arguments<'_>) {
    let _unread = io::stderr().lock().write_fmt(text).is_err();
}
