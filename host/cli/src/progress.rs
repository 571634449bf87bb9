//! Progress of long work: a line that moves if a person watches, plain lines if not.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the moving line is drawn: as smooth as anybody looks at.
const TICK: Duration = Duration::from_millis(100);

/// Where progress is shown: standard error, so that results can be piped.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// By what standard error is.
    pub(crate) fn new() -> Self {
        let watched = std::io::stderr().is_terminal();
        Self {
            bar: watched.then(spinner),
            last: String::new(),
        }
    }

    /// A step has begun or ended; it stays on the screen.
    pub(crate) fn line(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => errln!("{text}"),
        }
    }

    /// Where the work stands. A person sees the line change; in a log, only what is worth a line of
    /// its own (`milestone` differs from the last one) is written.
    pub(crate) fn at(&mut self, text: &str, milestone: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None if self.last != milestone => {
                errln!("{text}");
                self.last = milestone.to_owned();
            }
            None => {}
        }
    }

    /// The moving line goes.
    pub(crate) fn done(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl proffer_build::Progress for Progress {
    fn line(&mut self, line: &str) {
        Progress::line(self, line);
    }

    fn activity(&mut self, text: &str) {
        // Cargo's doings are for a person; a log has the steps.
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    bar
}
