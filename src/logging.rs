//! Log files: one per process, in a private folder, old ones swept. Nothing is ever logged to a terminal.
//!
//! Secrets cannot get here: the SDK's own lines are off, and no credential is ever in a variable of ours.

use std::path::Path;

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;

use crate::model::limits::LOG_AGE;
use crate::{clock, disk};

/// What the names of log files end with.
const SUFFIX: &str = "log";

/// Starts logging for a command; a failure leaves the program without logs and changes nothing else.
pub fn start(command: &str, folder: &Path, filter: &str) {
    if disk::private_folder(folder).is_err() {
        return;
    }
    disk::sweep_files(folder, "", clock::ago(LOG_AGE));
    if let Some(writer) = writer(folder, command) {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(filter))
            .with_ansi(false)
            .with_writer(writer);
        // Fails only when a test has set one before.
        let _ = subscriber.try_init();
    }
}

fn writer(folder: &Path, command: &str) -> Option<RollingFileAppender> {
    let started = clock::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = format!("{command}-{started}-{}", std::process::id());
    let builder = RollingFileAppender::builder().rotation(Rotation::NEVER).filename_prefix(name);
    builder.filename_suffix(SUFFIX).build(folder).ok()
}
