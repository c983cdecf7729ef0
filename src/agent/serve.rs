//! The loop: a line in, its answer out, one after the other, until git-lfs says so or is gone.

use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::message::{self, Event, Request};
use super::parent;
use super::progress::Output;
use crate::cancel::Cancel;
use crate::codec::Effort;
use crate::error::{Error, Kind, Result};
use crate::git::{Operation, Version};
use crate::model::Oid;
use crate::model::limits::{CANCEL_PATIENCE, LINE_MAX_BYTES};
use crate::threads;
use crate::transfer::{Meter, Session, Transfer};

/// Twice as much stays with the process when it is freed.
const USUAL_BYTES: usize = 4 << 20;

/// What one agent is started with.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Where git-lfs runs it.
    pub folder: PathBuf,
    /// The store, where the command line names it.
    pub store: Option<String>,
    /// How much time a smaller result is worth, where the command line says so.
    pub effort: Option<Effort>,
    /// The AWS profile, where the command line says so.
    pub profile: Option<String>,
    /// Raised from outside when a signal says so.
    pub cancel: Cancel,
}

/// Answers git-lfs until it terminates or closes its end.
pub fn serve(serving: Serving, input: impl Read + Send + 'static, output: impl Write + Send + 'static) {
    keep_freed_memory();
    let open = Arc::new(AtomicUsize::new(0));
    let lines = read_lines(input, serving.cancel.clone(), Arc::clone(&open));
    let workspace = Arc::new(Mutex::new(None));
    end_when_cancelled(serving.cancel.clone(), Arc::clone(&workspace), Arc::clone(&open));
    let mut agent = Agent {
        workspace,
        output: Output::new(output, serving.cancel.clone()),
        session: Session {
            operation: Operation::Download,
            remote: "origin".into(),
            store: serving.store.clone(),
            effort: serving.effort,
            profile: serving.profile.clone(),
            repair: false,
        },
        serving,
        transfer: None,
        open: Arc::clone(&open),
    };
    for line in lines {
        match Event::parse(&line) {
            Event::Init { operation, remote } => agent.init(operation, remote),
            Event::Transfer(request) => agent.answer(&request),
            Event::Terminate => return,
            Event::Unknown => {
                tracing::warn!(bytes = line.len(), "a line that needs no answer");
                open.fetch_sub(1, Ordering::SeqCst);
            }
        }
        if agent.serving.cancel.is_raised() {
            return;
        }
    }
}

/// Makes the allocator keep a few MiB that are freed, for the next object.
///
/// Tables for an object of some kilobytes take megabytes, which the system would otherwise give and clear page by page
/// each time. glibc takes the size of what was freed last for what is usual; others lose nothing.
fn keep_freed_memory() {
    drop(std::hint::black_box(vec![0_u8; USUAL_BYTES]));
}

/// Reads lines on a thread of its own: the end of the input must be noticed while a transfer runs. Where the system
/// refuses it, each line is read when it is wanted, and that end is noticed when the transfer is done.
fn read_lines(
    input: impl Read + Send + 'static,
    cancel: Cancel,
    open: Arc<AtomicUsize>,
) -> Box<dyn Iterator<Item = Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    let lines = Arc::new(Mutex::new(Lines { input: BufReader::new(input), open }));
    let next = |lines: &Mutex<Lines<_>>| lines.lock().unwrap_or_else(PoisonError::into_inner).next();
    let forwarded = Arc::clone(&lines);
    let forward = move || {
        let _ = std::iter::from_fn(|| next(&forwarded)).try_for_each(|line| sender.send(line));
        cancel.raise();
    };
    match threads::start(forward) {
        Ok(()) => Box::new(receiver.into_iter()),
        Err(error) => {
            tracing::warn!(%error, "git-lfs is listened to between transfers only");
            Box::new(std::iter::from_fn(move || next(&lines)))
        }
    }
}

/// The lines of an input. Counts in `open` those that ask for something.
struct Lines<R> {
    input: R,
    open: Arc<AtomicUsize>,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        match self.input.by_ref().take(LINE_MAX_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        if !matches!(Event::parse(&line), Event::Terminate) {
            self.open.fetch_add(1, Ordering::SeqCst);
        }
        Some(line)
    }
}

struct Agent {
    serving: Serving,
    session: Session,
    output: Output,
    transfer: Option<Transfer>,
    /// Where the temporary files are, for whoever ends the process by force.
    workspace: Arc<Mutex<Option<PathBuf>>>,
    /// Lines that ask for something and have no answer yet.
    open: Arc<AtomicUsize>,
}

impl Agent {
    /// Answers what a line asked for. Nothing is open from then on: who gets the answer may end the input at once, on
    /// a busy machine long before this thread goes on.
    fn say(&self, answer: &Value) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.output.write(answer);
    }

    fn init(&mut self, operation: Operation, remote: String) {
        if operation == Operation::Download && parent::is_prune() {
            let error = Error::PruneRefused;
            self.say(&message::not_ready(error.kind().entry().code, &error.report()));
            return;
        }
        let repair = operation == Operation::Upload && parent::is_repair();
        self.session = Session { operation, remote, repair, ..self.session.clone() };
        self.say(&message::ready());
    }

    /// Answers one request with exactly one `complete`, whatever happens.
    fn answer(&mut self, request: &Request) {
        // Opens the gate for the other workers, before anything can fail.
        self.output.begin(&request.oid, request.size);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.perform(request)));
        let outcome = outcome.unwrap_or_else(|panic| Err(Error::Internal(panic_text(&*panic))));
        self.output.end();
        let answer = outcome.map(|path| message::complete(&request.oid, path.as_deref()));
        let answer = answer.unwrap_or_else(|error| {
            let report = error.report();
            tracing::error!(oid = request.oid, report, "failed");
            message::failed(&request.oid, error.kind().entry().code, &report)
        });
        self.say(&answer);
    }

    fn perform(&mut self, request: &Request) -> Result<Option<String>> {
        if self.serving.cancel.is_raised() {
            return Err(Error::Cancelled);
        }
        let oid = Oid::parse(&request.oid).map_err(|error| Error::Usage(error.to_string()))?;
        let version = Version { oid, size: request.size };
        let output = self.output.clone();
        let meter = Meter::start(request.size, Box::new(move |done| output.count(done)));
        let transfer = self.transfer()?;
        match &request.path {
            Some(path) => transfer.upload(version, path, &meter).map(|_| None),
            None => transfer.download(version, &meter).map(|path| Some(path_text(&path))),
        }
    }

    fn transfer(&mut self) -> Result<&Transfer> {
        if let Some(ref transfer) = self.transfer {
            return Ok(transfer);
        }
        let transfer = Transfer::open(&self.serving.folder, &self.session, &self.serving.cancel)?;
        *self.workspace.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(transfer.workspace().to_path_buf());
        Ok(self.transfer.insert(transfer))
    }
}

/// Ends the process when it does not end by itself after it was cancelled, and leaves no temporary file.
///
/// One that has answered everything has done its work, however long a busy machine takes to end it: the end of the input
/// follows a `terminate` that it may not even have looked at yet.
fn end_when_cancelled(cancel: Cancel, workspace: Arc<Mutex<Option<PathBuf>>>, open: Arc<AtomicUsize>) {
    let end = move || {
        while !cancel.is_raised() {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(CANCEL_PATIENCE);
        // Something waits that cannot be interrupted. Nothing is half published: a copy shows only when it is
        // whole.
        if let Some(folder) = &*workspace.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = std::fs::remove_dir_all(folder);
        }
        let is_done = open.load(Ordering::SeqCst) == 0;
        std::process::exit(if is_done { 0 } else { i32::from(Kind::Cancelled.entry().exit) });
    };
    if let Err(error) = threads::start(end) {
        tracing::warn!(%error, "what cannot be interrupted will not be ended");
    }
}

/// Returns a path as JSON can carry it; git-lfs mangles others in the same way.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".into())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::agent::progress::tests::Written;
    use crate::threads::tests::with_only;

    fn serving(folder: &Path) -> Serving {
        let store = Some("file:///nowhere".into());
        Serving { folder: folder.into(), store, effort: None, profile: None, cancel: Cancel::default() }
    }

    #[test]
    fn without_threads_each_request_is_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let serving = serving(folder.path());
        let oid = Oid::of(b"x");
        let input = format!(
            "{{\"event\":\"init\",\"operation\":\"download\",\"remote\":\"origin\"}}\n\
             {{\"event\":\"download\",\"oid\":\"{oid}\",\"size\":1}}\n{{\"event\":\"terminate\"}}\n"
        );
        let written = Written::default();
        with_only(0, || serve(serving, io::Cursor::new(input), written.clone()));
        let lines = written.lines();
        assert_eq!((lines.len(), lines[0].to_string().as_str()), (3, "{}"), "{lines:?}");
        assert_eq!((&lines[2]["event"], &lines[2]["oid"]), (&"complete".into(), &oid.to_string().into()));
        assert!(lines[2]["error"]["message"].as_str().is_some_and(|text| text.contains("git")), "{lines:?}");
    }

    /// Notes how many lines are open whenever something is written.
    struct Noting(Arc<AtomicUsize>, Arc<Mutex<Vec<(String, usize)>>>);

    impl Write for Noting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.1.lock().expect("lock").push((text, self.0.load(Ordering::SeqCst)));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_open_any_more_when_the_last_answer_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let (open, noted) = (Arc::new(AtomicUsize::new(2)), Arc::default());
        let output = Output::new(Noting(Arc::clone(&open), Arc::clone(&noted)), Cancel::default());
        let session = Session {
            operation: Operation::Download,
            remote: "origin".into(),
            store: None,
            effort: None,
            profile: None,
            repair: false,
        };
        let mut agent = Agent {
            serving: serving(folder.path()),
            session,
            output,
            transfer: None,
            workspace: Arc::default(),
            open: Arc::clone(&open),
        };
        agent.init(Operation::Download, "origin".into());
        agent.answer(&Request { oid: "no oid".into(), size: 1, path: None });
        let noted = noted.lock().expect("lock");
        let [(ready, 1), .., (answer, 0)] = &noted[..] else { panic!("{noted:?}") };
        assert!(ready == "{}\n" && answer.contains("complete"), "{noted:?}");
    }
}
