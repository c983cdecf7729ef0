//! A scripted git-lfs: speaks the custom transfer protocol to the agent, and can misbehave.
//!
//! Answers are read one at a time. As long as a test asks for none, the agent writes into a pipe
//! that nobody empties (beyond some 8 KiB), as with a git-lfs that is stuck.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::data::oid;
use super::run::{signal, wait_until};
use super::sandbox::Sandbox;
use super::trace::{Act, Tracee};

/// How long an answer may take. A hung agent fails its test after this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What came for one upload or download.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The progress events, in order.
    pub progress: Vec<Value>,
    /// The `complete` event.
    pub complete: Value,
    pub took: Duration,
}

impl Transfer {
    /// The error's message, if it failed.
    pub fn error(&self) -> Option<&str> {
        self.complete.get("error").map(|error| error["message"].as_str().expect("a message"))
    }

    /// The error's code, if it failed.
    pub fn code(&self) -> Option<i64> {
        self.complete.get("error").map(|error| error["code"].as_i64().expect("an integer code"))
    }

    /// Fails the test unless the transfer succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Transfer {
        assert_eq!(self.error(), None, "the transfer failed");
        self
    }

    /// Fails the test unless the transfer failed; returns the message.
    #[track_caller]
    pub fn failed(self) -> String {
        self.error().unwrap_or_else(|| panic!("should have failed: {self:?}")).to_owned()
    }

    /// Where a download was put.
    #[track_caller]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.complete["path"].as_str().unwrap_or_else(|| panic!("no path: {self:?}")))
    }

    /// Sum of `bytesSinceLast`.
    pub fn bytes_reported(&self) -> u64 {
        self.progress.iter().map(|event| event["bytesSinceLast"].as_u64().expect("a count")).sum()
    }
}

/// The process behind an agent.
enum Process {
    Plain(Child),
    Traced(Tracee),
}

impl Process {
    fn pid(&self) -> u32 {
        match self {
            Process::Plain(child) => child.id(),
            Process::Traced(tracee) => tracee.pid(),
        }
    }

    /// How it ended, if it has.
    fn status(&mut self) -> Option<ExitStatus> {
        match self {
            Process::Plain(child) => child.try_wait().expect("a child to ask"),
            Process::Traced(tracee) => tracee.status(),
        }
    }

    fn kill(&mut self) {
        match self {
            Process::Plain(child) => drop(child.kill()), // it has ended already in most tests
            Process::Traced(tracee) => tracee.kill(),
        }
    }
}

/// A running agent, seen from git-lfs' side.
pub struct FakeLfs {
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Option<Receiver<Vec<u8>>>,
    stderr: Option<JoinHandle<String>>,
}

impl FakeLfs {
    /// Starts `lfs-delta agent` in `dir`; the store is what git's config there says.
    pub fn start(sandbox: &Sandbox, dir: impl AsRef<Path>) -> FakeLfs {
        FakeLfs::start_with(sandbox, dir, &["agent"], &[])
    }

    /// Starts `lfs-delta agent --store URL` in `dir`.
    pub fn start_on(sandbox: &Sandbox, dir: impl AsRef<Path>, store: &str) -> FakeLfs {
        FakeLfs::start_with(sandbox, dir, &["agent", "--store", store], &[])
    }

    /// Starts the program with these arguments and these variables on top of the sandbox's.
    #[track_caller]
    pub fn start_with(
        sandbox: &Sandbox,
        dir: impl AsRef<Path>,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> FakeLfs {
        let mut command = sandbox.command(sandbox.agent_path(), dir);
        command.args(args).envs(environment.iter().copied());
        FakeLfs::spawn(command)
    }

    /// Starts any command that speaks the protocol.
    #[track_caller]
    pub fn spawn(mut command: std::process::Command) -> FakeLfs {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("an agent to start");
        FakeLfs {
            stdin: child.stdin.take(),
            lines: child.stdout.take().map(read_lines),
            stderr: child.stderr.take().map(read_all),
            process: Process::Plain(child),
        }
    }

    /// Starts any command that speaks the protocol under ptrace.
    #[track_caller]
    pub fn traced(mut command: std::process::Command, act: Act) -> FakeLfs {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (tracee, mut child) = Tracee::start(command, act);
        FakeLfs {
            stdin: child.stdin.take(),
            lines: child.stdout.take().map(read_lines),
            stderr: child.stderr.take().map(read_all),
            process: Process::Traced(tracee),
        }
    }

    /// The trace of a traced agent.
    pub fn tracee(&self) -> &Tracee {
        match &self.process {
            Process::Traced(tracee) => tracee,
            Process::Plain(_) => panic!("an agent that is not traced"),
        }
    }

    // ---- lines

    /// Sends an event, in one line.
    #[track_caller]
    pub fn send(&mut self, event: &Value) {
        self.send_raw(format!("{event}\n").as_bytes());
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).expect("an agent that reads");
    }

    /// Sends bytes to an agent that may be gone.
    pub fn try_send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let stdin = self.stdin.as_mut().expect("stdin was not closed yet");
        stdin.write_all(bytes)?;
        stdin.flush()
    }

    /// The next answer.
    ///
    /// # Panics
    /// After 60 seconds, at the end of its output, and if the line is not one JSON object.
    #[track_caller]
    pub fn answer(&mut self) -> Value {
        self.answer_within(PATIENCE).unwrap_or_else(|| panic!("no answer came"))
    }

    /// The next answer, or `None` if its output ended or nothing came in time.
    #[track_caller]
    pub fn answer_within(&mut self, patience: Duration) -> Option<Value> {
        let lines = self.lines.as_ref().expect("stdout was not closed yet");
        let line = match lines.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        let text = String::from_utf8_lossy(&line);
        let event: Value = serde_json::from_slice(&line)
            .unwrap_or_else(|error| panic!("not a line of the protocol: {text:?}: {error}"));
        assert!(event.is_object() && line.ends_with(b"\n"), "not one object in one line: {text:?}");
        Some(event)
    }

    // ---- the protocol as git-lfs speaks it

    /// Sends `init` and returns the answer.
    #[track_caller]
    pub fn init(&mut self, operation: &str) -> Value {
        self.send(&json!({
            "event": "init", "operation": operation, "remote": "origin",
            "concurrent": true, "concurrenttransfers": 8,
        }));
        self.answer()
    }

    /// Sends `init` and checks that it was accepted.
    #[track_caller]
    pub fn accepted(mut self, operation: &str) -> FakeLfs {
        assert_eq!(self.init(operation), json!({}), "init was not accepted");
        self
    }

    /// Asks for an upload and waits for its end.
    #[track_caller]
    pub fn upload(&mut self, oid: &str, size: u64, path: &Path) -> Transfer {
        self.send(&upload_event(oid, size, path));
        self.transfer(oid)
    }

    /// Asks for the upload of a file as it is, and waits for its end.
    #[track_caller]
    pub fn upload_file(&mut self, path: &Path) -> Transfer {
        let bytes = std::fs::read(path).expect("a file to upload");
        self.upload(&oid(&bytes), bytes.len() as u64, path)
    }

    /// Asks for a download and waits for its end.
    #[track_caller]
    pub fn download(&mut self, oid: &str, size: u64) -> Transfer {
        self.send(&download_event(oid, size));
        self.transfer(oid)
    }

    /// Collects the answers for `oid` up to its `complete`, and checks that they are for it.
    #[track_caller]
    pub fn transfer(&mut self, oid: &str) -> Transfer {
        let started = Instant::now();
        let mut progress = Vec::new();
        loop {
            let event = self.answer();
            assert_eq!(event["oid"], oid, "an answer for another object: {event}");
            match event["event"].as_str() {
                Some("progress") => progress.push(event),
                Some("complete") => {
                    return Transfer { progress, complete: event, took: started.elapsed() };
                }
                _ => panic!("git-lfs would not understand {event}"),
            }
        }
    }

    /// Sends `init` and one request to an agent that may die of it; `None` if it did so before its answer.
    pub fn attempt(&mut self, operation: &str, request: &Value) -> Option<Transfer> {
        let started = Instant::now();
        let init = json!({"event": "init", "operation": operation, "remote": "origin"});
        self.try_send_raw(format!("{init}\n{request}\n").as_bytes()).ok()?;
        assert_eq!(self.answer_within(PATIENCE)?, json!({}), "init was not accepted");
        let mut progress = Vec::new();
        loop {
            let event = self.answer_within(PATIENCE)?;
            if event["event"] == "complete" {
                return Some(Transfer { progress, complete: event, took: started.elapsed() });
            }
            progress.push(event);
        }
    }

    /// Sends `terminate`, closes both pipes as git-lfs does, and waits for a clean end.
    #[track_caller]
    pub fn terminate(mut self) -> String {
        self.send(&json!({"event": "terminate"}));
        self.close_stdin();
        let status = self.wait(PATIENCE).expect("an agent that ends on terminate");
        let stderr = self.stderr();
        assert!(status.success(), "{status} after terminate; stderr:\n{stderr}");
        stderr
    }

    // ---- misbehaviour

    /// Closes the agent's standard input: git-lfs is gone.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Stops reading. The pipe breaks when the agent has written one more line.
    pub fn close_stdout(&mut self) {
        self.lines = None;
    }

    /// Sends a signal by name: `KILL`, `TERM`, `INT`, `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        signal(name, &self.pid().to_string());
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(mut self) {
        self.process.kill();
        self.wait(PATIENCE).expect("an agent that was killed to end");
    }

    // ---- the process

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for its end; `None` if it did not come in time.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(patience, || {
            status = self.process.status();
            status.is_some()
        });
        status
    }

    /// All it wrote to standard error. Call it after its end.
    pub fn stderr(&mut self) -> String {
        self.stderr.take().map_or_else(String::new, |reader| reader.join().expect("a reader thread"))
    }

    /// Memory it has in use now, in KiB (`VmRSS`; Linux only).
    pub fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for FakeLfs {
    fn drop(&mut self) {
        self.process.kill();
        self.wait(PATIENCE);
    }
}

/// The `upload` event as git-lfs writes it.
pub fn upload_event(oid: &str, size: u64, path: &Path) -> Value {
    json!({"event": "upload", "oid": oid, "size": size, "path": path, "action": null})
}

/// The `download` event as git-lfs writes it.
pub fn download_event(oid: &str, size: u64) -> Value {
    json!({"event": "download", "oid": oid, "size": size, "action": null})
}

/// Reads lines ahead by one, so that an unread agent meets a full pipe.
fn read_lines(stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(0);
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = Vec::new();
        while stdout.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn read_all(mut stderr: ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text); // what came before an error is what the test gets
        String::from_utf8_lossy(&text).into_owned()
    })
}
