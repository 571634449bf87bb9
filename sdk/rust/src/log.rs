//! Lines for people: [`debug!`](crate::debug), [`info!`](crate::info), [`warn!`](crate::warn) and
//! [`error!`](crate::error).
//!
//! In a component they go to the host, which limits their length and rate. Natively they go to the
//! test kit of this thread, and to nobody if there is none.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever debugs the plug-in.
    Debug,
    /// A decision.
    Info,
    /// Something to look at some time.
    Warn,
    /// Something to look at now.
    Error,
}

/// Writes one line. The macros are shorter.
#[cfg(target_arch = "wasm32")]
pub fn write(level: Level, text: &str) {
    use crate::framework::bindings::proffer::types::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, text);
}

/// Writes one line. The macros are shorter.
#[cfg(not(target_arch = "wasm32"))]
pub fn write(level: Level, text: &str) {
    native::write(level, text);
}

/// Where lines go natively.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native {
    use std::cell::RefCell;

    use super::Level;

    /// A test that logs more has a loop in it; older lines go.
    const LINES_MAX: usize = 10_000;

    thread_local! {
        static LINES: RefCell<Option<Vec<(Level, String)>>> = const { RefCell::new(None) };
    }

    pub(super) fn write(level: Level, text: &str) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                if lines.len() == LINES_MAX {
                    lines.drain(..LINES_MAX / 2);
                }
                lines.push((level, text.to_owned()));
            }
        });
    }

    /// Runs `call` and returns what this thread logged in it.
    pub(crate) fn collect<T>(call: impl FnOnce() -> T) -> (T, Vec<(Level, String)>) {
        let outer = LINES.replace(Some(Vec::new()));
        let result = call();
        let lines = LINES.replace(outer).unwrap_or_default();
        (result, lines)
    }
}

/// Logs a line at the level `debug`, formatted as by `format!`.
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => {
        $crate::log::write($crate::log::Level::Debug, &::std::format!($($text)+))
    };
}

/// Logs a line at the level `info`, formatted as by `format!`.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => {
        $crate::log::write($crate::log::Level::Info, &::std::format!($($text)+))
    };
}

/// Logs a line at the level `warn`, formatted as by `format!`.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => {
        $crate::log::write($crate::log::Level::Warn, &::std::format!($($text)+))
    };
}

/// Logs a line at the level `error`, formatted as by `format!`.
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => {
        $crate::log::write($crate::log::Level::Error, &::std::format!($($text)+))
    };
}
