//! Asking git: settings, places and names. Everything here costs compression or a clear error, never an object.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::clock::Stopwatch;
use crate::model::limits::GIT_OUTPUT_MAX_BYTES;
use crate::threads;

pub mod attributes;
pub mod blobs;
pub mod config;
pub mod names;
pub mod place;
pub mod pointers;
pub mod relatives;

pub use blobs::Blobs;
pub use config::{Config, Operation, Origin};
pub use names::{Names, Version};
pub use place::Place;
pub use pointers::{Named, Pointers, Use};
pub use relatives::{Families, Kinship, Relative};

/// What asking git can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program cannot be started.
    #[error("cannot run git")]
    Missing {
        /// What the system said.
        source: io::Error,
    },
    /// git refused.
    #[error("git {command}: {message}")]
    Refused {
        /// The command without its options.
        command: String,
        /// The first line of what git said.
        message: String,
    },
    /// git did not end in time.
    #[error("git {command} did not end within {} s", patience.as_secs())]
    Slow {
        /// The command without its options.
        command: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// This is no git repository.
    #[error("{} is in no git repository", folder.display())]
    NoRepository {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A partial clone has not every blob, and this is about all of them.
    #[error("this partial clone lacks files that may be pointers: run this in a full one")]
    Incomplete,
    /// Talking to a running git failed.
    #[error("cannot talk to git")]
    Io(#[from] io::Error),
}

/// The outcome of asking git.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// git, asked from one folder, with the environment that this process was given.
#[derive(Debug, Clone)]
pub struct Git {
    folder: PathBuf,
    patience: Duration,
    cancel: Cancel,
}

impl Git {
    /// Asks from `folder`; a command that takes longer than `patience` is ended.
    pub const fn new(folder: PathBuf, patience: Duration, cancel: Cancel) -> Self {
        Self { folder, patience, cancel }
    }

    /// Returns where git is asked from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Prepares a command: no locks, no pager, no network, messages in English.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("git");
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_PAGER", "cat")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command and returns what it prints, at most `GIT_OUTPUT_MAX_BYTES`.
    ///
    /// # Errors
    /// `Missing`, `Refused`, `Slow`; `Io` where the system has no threads for its pipes.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Vec<u8>> {
        self.finish(self.command(arguments), Vec::new())
    }

    /// Runs a prepared command with `input` and returns what it prints.
    ///
    /// # Errors
    /// `Missing`, `Refused`, `Slow`; `Io` where the system has no threads for its pipes.
    pub fn finish(&self, mut command: Command, input: Vec<u8>) -> Result<Vec<u8>> {
        let name = command.get_args().find_map(plain_word).unwrap_or_default();
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|source| Error::Missing { source })?;
        let (output, messages) = match talk(&mut child, input) {
            Ok(streams) => streams,
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error.into());
            }
        };
        let watch = Stopwatch::start();
        let mut pause = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if watch.elapsed() > self.patience || self.cancel.is_raised() {
                child.kill()?;
                child.wait()?;
                return Err(Error::Slow { command: name, patience: self.patience });
            }
            // The output ends when git does: waiting for it wakes this thread at once.
            match output.recv_timeout(pause) {
                Ok(bytes) => return conclude(&mut child, name, bytes, &messages),
                Err(_) => pause = (pause * 2).min(Duration::from_millis(20)),
            }
        };
        tracing::trace!(command = name, %status, "git ended");
        let bytes = output.recv().unwrap_or_default();
        conclude(&mut child, name, bytes, &messages)
    }
}

fn conclude(child: &mut Child, command: String, output: Vec<u8>, messages: &Gathered) -> Result<Vec<u8>> {
    if child.wait()?.success() {
        return Ok(output);
    }
    let messages = messages.recv().unwrap_or_default();
    let message = String::from_utf8_lossy(&messages).lines().next().unwrap_or_default().to_owned();
    Err(Error::Refused { command, message })
}

/// What a pipe gives until its end.
type Gathered = mpsc::Receiver<Vec<u8>>;

/// Writes git's input, and gathers its output and its messages.
fn talk(child: &mut Child, input: Vec<u8>) -> io::Result<(Gathered, Gathered)> {
    let output = gather(child.stdout.take(), GIT_OUTPUT_MAX_BYTES)?;
    let messages = gather(child.stderr.take(), 64 * 1024)?;
    if let Some(mut pipe) = child.stdin.take() {
        // git may end without reading all: what it says then is the error.
        threads::start(move || drop(io::Write::write_all(&mut pipe, &input)))?;
    }
    Ok((output, messages))
}

/// Reads a pipe on a thread of its own, so that a full one never blocks git.
fn gather(pipe: Option<impl Read + Send + 'static>, limit: u64) -> io::Result<Gathered> {
    let (sender, receiver) = mpsc::channel();
    threads::start(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(limit).read_to_end(&mut bytes);
            let _ = io::copy(&mut pipe, &mut io::sink());
        }
        // Nobody waits any more after a time-out.
        let _ = sender.send(bytes);
    })?;
    Ok(receiver)
}

fn plain_word(argument: &OsStr) -> Option<String> {
    let word = argument.to_str()?;
    (!word.starts_with('-') && !word.contains('=')).then(|| word.to_owned())
}

/// Turns what git prints into a path, whatever its bytes are.
fn path_from(bytes: &[u8]) -> PathBuf {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    #[cfg(unix)]
    return PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes));
    #[cfg(not(unix))]
    return PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::names::BlobId;
    use crate::threads::tests::with_only;

    #[test]
    fn without_threads_for_its_pipes_git_is_an_error() {
        let git = Git::new(".".into(), Duration::from_secs(60), Cancel::default());
        let ask = || git.finish(git.command(["hash-object", "--stdin"]), b"text".to_vec());
        for count in 0..3 {
            assert!(matches!(with_only(count, ask), Err(Error::Io(_))), "with {count}");
        }
        assert_eq!(with_only(3, ask).expect("an id").len(), 41);
        let blob = BlobId::parse(&[b'a'; 40]).expect("an id");
        let asked = with_only(0, || Blobs::new(git.clone()).pointers_among(&[blob]));
        assert!(matches!(asked, Err(Error::Io(_))), "{asked:?}");
    }
}
