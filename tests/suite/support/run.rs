//! Runs a program to its end, with a deadline, and keeps what it printed.

use std::fmt;
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A hung git-lfs hangs for ever; a test does not. Far above what any case takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Whether the tests run by `tests/run.sh --soak`: then they try all of what they try a part of otherwise.
pub fn is_soak() -> bool {
    std::env::var_os("LFS_DELTA_SOAK").is_some()
}

/// How long each of the long tests runs.
pub fn soak_time() -> Duration {
    let seconds = std::env::var("LFS_DELTA_SOAK_SECONDS").map_or(60, |n| n.parse().expect("a number"));
    Duration::from_secs(seconds)
}

/// The numbers of rounds: as many as said, or in a long run as many as there is time for.
pub fn rounds(count: u64) -> impl Iterator<Item = u64> {
    let begun = Instant::now();
    let first = soak_seed().unwrap_or_default();
    let goes_on = move |round: u64| if is_soak() { begun.elapsed() < soak_time() } else { round < count };
    (0..).take_while(move |&round| goes_on(round)).map(move |round| first.wrapping_add(round))
}

/// Processor time that this thread has had: on a machine with much else to do, clocks tell nothing.
pub fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel's account");
    let nanoseconds = stat.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// The seed that a long run is to begin with, if one was given.
pub fn soak_seed() -> Option<u64> {
    std::env::var("LFS_DELTA_SOAK_SEED").ok().map(|seed| seed.parse().expect("a seed"))
}

/// What a program did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    pub status: ExitStatus,
    /// Standard output, exactly.
    pub out: Vec<u8>,
    /// Standard error, exactly.
    pub err: Vec<u8>,
    pub took: Duration,
}

impl Ran {
    /// Standard output as text, without white space at its end.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.out).trim_end().to_owned()
    }

    /// Standard error as text, without white space at its end.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err).trim_end().to_owned()
    }

    /// Exit code; -1 if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Fails the test, showing both streams, unless the program succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Ran {
        assert!(self.status.success(), "this failed: {self}");
        self
    }

    /// Fails the test, showing both streams, if the program succeeded.
    #[track_caller]
    pub fn failed(self) -> Ran {
        assert!(!self.status.success(), "this should have failed: {self}");
        self
    }

    /// Fails the test unless standard error contains `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(self.stderr().contains(text), "no {text:?} in: {self}");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran { line, status, took, .. } = self;
        write!(f, "{line}\n{status} after {took:?}\n")?;
        write!(f, "--- stdout\n{}\n--- stderr\n{}\n---", self.stdout(), self.stderr())
    }
}

/// Runs `command` to its end with nothing on its standard input.
///
/// # Panics
/// If it cannot be started, or has not ended within `DEADLINE`; then it and its children are killed.
#[track_caller]
pub fn run(mut command: Command) -> Ran {
    command.stdin(Stdio::null());
    Running::start(command).finish(DEADLINE)
}

/// A program in the background, in a process group of its own.
pub struct Running {
    line: String,
    child: Child,
    started: Instant,
    out: Option<JoinHandle<Vec<u8>>>,
    err: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts `command` and collects what it prints.
    #[track_caller]
    pub fn start(mut command: Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let line = shown(&command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        let out = child.stdout.take().map(collect);
        let err = child.stderr.take().map(collect);
        Running { line, child, started: Instant::now(), out, err }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child to ask").is_none()
    }

    /// Sends a signal by name (`KILL`, `INT`, `TERM`) to it alone.
    pub fn signal(&self, name: &str) {
        signal(name, &self.pid().to_string());
    }

    /// Sends a signal to it and all its children that stayed in its group, as Ctrl-C does.
    pub fn signal_group(&self, name: &str) {
        signal(name, &format!("-{}", self.pid()));
    }

    /// Waits for its end and for the end of its output.
    ///
    /// # Panics
    /// After `patience`; then its whole process group is killed, so that nothing is left over.
    #[track_caller]
    pub fn finish(mut self, patience: Duration) -> Ran {
        let in_time = wait_until(patience, || !self.is_running() && self.streams_closed());
        if !in_time {
            self.signal_group("KILL");
        }
        let status = self.child.wait().expect("a child to wait for");
        let ran = Ran {
            line: self.line.clone(),
            status,
            out: joined(self.out.take()),
            err: joined(self.err.take()),
            took: self.started.elapsed(),
        };
        assert!(in_time, "still running after {patience:?}, killed: {ran}");
        ran
    }

    fn streams_closed(&self) -> bool {
        let closed = |reader: &Option<JoinHandle<_>>| reader.as_ref().is_none_or(JoinHandle::is_finished);
        closed(&self.out) && closed(&self.err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.out.is_some() && self.is_running() {
            self.signal_group("KILL");
            let _ = self.child.wait();
        }
    }
}

/// Asks `done` until it says yes or `patience` is over; says which. Asks often at first.
pub fn wait_until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    true
}

/// Sends a signal by name. Nobody there is fine: it has ended by itself.
pub fn signal(name: &str, target: &str) {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), "--", target]).stderr(Stdio::null());
    kill.status().expect("the kill program");
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all); // what came before an error is what the test gets
        all
    })
}

fn joined(reader: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader.map_or_else(Vec::new, |reader| reader.join().expect("a reader thread"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let dir = command.get_current_dir().map(|dir| format!("(in {}) ", dir.display()));
    dir.unwrap_or_default() + &line.join(" ")
}
