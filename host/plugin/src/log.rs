//! What plug-ins write to their log: rate-limited, into `tracing` and a bounded ring.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Lines kept for `handle.logs()`.
const LINES_MAX: usize = 256;
/// Longest line, in characters; more is cut.
const LINE_CHARACTERS_MAX: usize = 2_000;
/// Lines per second that are kept in the long run.
const LINES_PER_SECOND: f64 = 100.0;
/// Lines that may come at once.
const BURST: f64 = 200.0;

/// How bad it is, in the author's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the author.
    Debug,
    /// For operators who look.
    Info,
    /// For operators.
    Warn,
    /// For operators, soon.
    Error,
}

/// A line that a plug-in wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Counts the plug-in's lines, dropped ones included, from 1.
    pub number: u64,
    /// How bad.
    pub level: LogLevel,
    /// Without control characters.
    pub text: String,
}

/// A plug-in's last lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTail {
    /// The oldest first.
    pub lines: Vec<LogLine>,
    /// How many lines were dropped because they came too fast, since the beginning.
    pub dropped: u64,
}

/// One plug-in's log. Outlives its instances.
#[derive(Debug)]
pub(crate) struct PluginLog {
    plugin: String,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    lines: VecDeque<LogLine>,
    written: u64,
    dropped: u64,
    /// A bucket of lines that may still come at once.
    tokens: f64,
    filled: Instant,
    /// Whether the last line was dropped: the loss is told once per flood.
    flooded: bool,
}

impl PluginLog {
    pub(crate) fn new(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            kept: Mutex::new(Kept {
                lines: VecDeque::new(),
                written: 0,
                dropped: 0,
                tokens: BURST,
                filled: Instant::now(),
                flooded: false,
            }),
        }
    }

    pub(crate) fn write(&self, level: LogLevel, text: &str) {
        let plugin = self.plugin.as_str();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.written += 1;
        let now = Instant::now();
        let gained = now.duration_since(kept.filled).as_secs_f64() * LINES_PER_SECOND;
        kept.tokens = (kept.tokens + gained).min(BURST);
        kept.filled = now;
        if kept.tokens < 1.0 {
            kept.dropped += 1;
            if !kept.flooded {
                kept.flooded = true;
                tracing::warn!(
                    plugin,
                    "a plug-in writes its log too fast; lines are dropped"
                );
            }
            return;
        }
        kept.tokens -= 1.0;
        kept.flooded = false;
        // A line of the host's own log is one line.
        let text = printable(text, LINE_CHARACTERS_MAX).replace('\n', "\\n");
        match level {
            LogLevel::Debug => tracing::debug!(plugin, "{text}"),
            LogLevel::Info => tracing::info!(plugin, "{text}"),
            LogLevel::Warn => tracing::warn!(plugin, "{text}"),
            LogLevel::Error => tracing::error!(plugin, "{text}"),
        }
        if kept.lines.len() >= LINES_MAX {
            kept.lines.pop_front();
        }
        let number = kept.written;
        kept.lines.push_back(LogLine {
            number,
            level,
            text,
        });
    }

    pub(crate) fn tail(&self) -> LogTail {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        LogTail {
            lines: kept.lines.iter().cloned().collect(),
            dropped: kept.dropped,
        }
    }
}

/// A guest's text as it may be shown: no control characters but newlines and tabs, cut.
#[must_use]
pub fn printable(text: &str, characters_max: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(characters_max)
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect();
    if text.chars().nth(characters_max).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_the_newest_lines_and_counts_the_rest() {
        let log = PluginLog::new("x");
        for n in 0..10_000 {
            log.write(LogLevel::Debug, &format!("line {n}\u{7}"));
        }
        let tail = log.tail();
        assert!(tail.dropped > 9_000, "{}", tail.dropped);
        assert!(tail.lines.len() <= LINES_MAX);
        assert_eq!(tail.lines[0].text, "line 0\u{fffd}");
    }

    #[test]
    fn long_lines_are_cut() {
        assert_eq!(printable("abc", 2), "ab…");
        assert_eq!(printable("abc", 3), "abc");
    }
}
