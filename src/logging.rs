//! Log files: one per process, in a private folder, old ones swept. A terminal sees them only where `-v` asks.
//!
//! Secrets cannot get here: the SDK's own lines are off, and no credential is ever in a variable of ours.

use std::io;
use std::path::Path;

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::model::limits::LOG_AGE;
use crate::{clock, disk};

/// What the names of log files end with.
const SUFFIX: &str = "log";

/// Where somebody sees what happens, step by step.
pub type Terminal = fn() -> io::Stderr;

/// Starts logging for a command: to a file of the folder, and to a terminal where one is given. A failure leaves the
/// program without logs and changes nothing else.
pub fn start(command: &str, folder: Option<&Path>, filter: &str, terminal: Option<Terminal>) {
    let file = folder.and_then(|folder| writer(folder, command)).map(|writer| {
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
        layer.with_filter(EnvFilter::new(filter))
    });
    let shown = terminal.map(|terminal| {
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(terminal);
        // What people want to follow is what happens, not when and in which file of the source.
        let layer = layer.without_time().with_target(false).with_level(false);
        layer.with_filter(EnvFilter::new("off,lfs_delta=debug"))
    });
    // Fails only when a test has set one before.
    let _ = tracing_subscriber::registry().with(file).with(shown).try_init();
}

fn writer(folder: &Path, command: &str) -> Option<RollingFileAppender> {
    disk::private_folder(folder).ok()?;
    disk::sweep_files(folder, "", clock::ago(LOG_AGE));
    let started = clock::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = format!("{command}-{started}-{}", std::process::id());
    let builder = RollingFileAppender::builder().rotation(Rotation::NEVER).filename_prefix(name);
    builder.filename_suffix(SUFFIX).build(folder).ok()
}
