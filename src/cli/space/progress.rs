//! Tells people how far the work is: a bar on terminals, nothing elsewhere. Steps are logged, and `-v` shows the log.
//!
//! All of it goes to the standard error, so that what is piped stays clean.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{Messages, text};
use crate::error::{Error, printable};
use crate::space::Observer;

/// How often the bar moves while nothing happens.
const TICK: Duration = Duration::from_millis(200);

/// How far the work is.
pub(super) struct Progress {
    bar: ProgressBar,
    moved: AtomicU64,
    messages: Messages,
}

impl Progress {
    /// Shows a bar where messages go to a terminal, unless steps are told: below what scrolls it would only flicker.
    pub(super) fn new(messages: Messages, tells_steps: bool) -> Self {
        let target = match messages.is_terminal && !tells_steps {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        Self { bar, moved: AtomicU64::new(0), messages }
    }

    /// Begins with one of `total` files.
    pub(super) fn begin(&self, total: usize) {
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} {prefix} {wide_msg} {elapsed}");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_length(total as u64);
        // It takes a thread, for nothing where nobody looks.
        if !self.bar.is_hidden() {
            self.bar.enable_steady_tick(TICK);
        }
    }

    /// Names the file that is next.
    pub(super) fn next(&self, url: &str) {
        let url = printable(url);
        tracing::debug!("{url}");
        self.bar.set_message(url);
    }

    /// Counts a file as done.
    pub(super) fn done(&self) {
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Does something that prints without tearing the bar.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Says something without tearing the bar.
    pub(super) fn tell(&self, text: &str) {
        self.bar.suspend(|| (self.messages.write)(text));
    }

    /// Says how one of several went wrong.
    pub(super) fn tell_error(&self, error: &Error) {
        self.tell(&format!("error: {}", error.report()));
    }

    /// Says what the user should know of a file.
    pub(super) fn warn(&self, url: &str, warnings: &[String]) {
        for warning in warnings {
            self.tell(&format!("Warning: {}: {}", printable(url), printable(warning)));
        }
    }
}

impl Observer for Progress {
    fn step(&self, text: &str) {
        tracing::debug!("{}", printable(text));
    }

    fn moved(&self, bytes: u64) {
        let moved = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bar.set_prefix(text::size(moved));
    }
}
