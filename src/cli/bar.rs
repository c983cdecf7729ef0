//! A bar for what takes long: on stderr, and only where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

use crate::verify::Progress;

/// A bar of bytes; it vanishes when this is dropped.
pub(super) struct Bar(ProgressBar);

const SHAPE: &str = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes}, {eta} left";

impl Bar {
    /// Makes one; `doing` says what the bytes are for.
    pub(super) fn new(doing: &'static str) -> Self {
        // Draws nothing where stderr is no terminal.
        let bar = ProgressBar::new(0).with_message(doing);
        if let Ok(style) = ProgressStyle::with_template(SHAPE) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows how far it is.
    pub(super) fn show(&self, progress: Progress) {
        match progress {
            Progress::Total(bytes) => self.0.set_length(bytes),
            Progress::Read(bytes) => self.0.inc(bytes),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
