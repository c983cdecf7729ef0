//! Runs the program under ptrace: counts its changes of files, and kills, fails or freezes it at the n-th.
//!
//! A change is a system call, whoever makes it: our own code, the standard library, a crate. So none can be
//! forgotten, nothing has to be built into the program, and what is tested is what users get.
//!
//! What surprises: one thread does it all, because the kernel answers only the thread that started the program.
//! Programs that it starts itself (git) are not followed.
#![allow(unsafe_code)] // ptrace is not in any safe library that we use

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use libc::c_long;

/// On which side of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It never happens.
    Before,
    /// It has happened, and the program does not hear of it.
    After,
}

/// What happens at the n-th change, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing: changes are only written down.
    Watch,
    /// The program is killed, as by `kill -9`.
    Kill(usize, When),
    /// The change fails with this error number (x86-64 only); so do all after it that it could happen to.
    Fail(usize, i32),
    /// Files and folders are said to be synced and are not, up to the n-th change (x86-64 only).
    Lie(usize),
    /// The thread stops, and every other one at its next system call, until `Tracee::thaw`.
    Freeze(usize, When),
}

/// One change of a file, or a line that went to a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The system call.
    pub call: &'static str,
    /// The file; of renames the new name.
    pub path: PathBuf,
    /// What was written, its first bytes.
    pub text: String,
    /// Whether it worked.
    pub worked: bool,
}

#[derive(Debug, Default)]
struct State {
    changes: Vec<Change>,
    acted: bool,
    thawed: bool,
    refuses_threads: bool,
    status: Option<ExitStatus>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// A program that runs under ptrace. Clones are of the same one.
#[derive(Clone, Debug)]
pub struct Tracee {
    pid: u32,
    shared: Arc<Shared>,
}

impl Tracee {
    /// Starts a command; returns its pipes in a `Child` that must not be waited for.
    pub fn start(mut command: Command, act: Act) -> (Tracee, Child) {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = sync_channel(1);
        let of_tracer = Arc::clone(&shared);
        std::thread::spawn(move || {
            // SAFETY: the closure makes one system call and allocates nothing.
            unsafe { command.pre_exec(|| check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))) };
            let child = command.spawn().expect("a program to start under ptrace");
            let pid = child.id() as i32;
            sender.send(child).expect("somebody who started it");
            Tracer { pid, act, shared: of_tracer, pending: HashMap::new(), count: 0 }.run();
        });
        let child = receiver.recv().expect("a program under ptrace");
        (Tracee { pid: child.id(), shared }, child)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        self.shared.lock().status
    }

    /// What it changed so far, in order.
    pub fn changes(&self) -> Vec<Change> {
        self.shared.lock().changes.clone()
    }

    /// Whether the n-th change came.
    pub fn has_acted(&self) -> bool {
        self.shared.lock().acted
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.shared.change(|state| state.thawed = true);
    }

    /// Lets it start no thread any more, as on a machine that has too many; or lets it again (x86-64 only).
    pub fn refuse_threads(&self, refuses: bool) {
        self.shared.change(|state| state.refuses_threads = refuses);
    }

    /// Kills it, if it lives.
    pub fn kill(&self) {
        let state = self.shared.lock();
        if state.status.is_none() {
            // SAFETY: a plain system call; the number is still that of our child, which was not waited for.
            unsafe { libc::kill(self.pid as i32, libc::SIGKILL) };
        }
    }
}

fn check(result: c_long) -> std::io::Result<()> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A change that was begun by a thread.
struct Pending {
    change: Change,
    number: usize,
    error: Option<i32>,
}

struct Tracer {
    pid: i32,
    act: Act,
    shared: Arc<Shared>,
    /// By thread; a thread without one is outside of any change. Every known thread has an entry.
    pending: HashMap<i32, Option<Pending>>,
    count: usize,
}

impl Tracer {
    fn run(mut self) {
        const OPTIONS: i32 =
            libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
        let first = wait(self.pid);
        assert!(first.is_some_and(|(_, status)| libc::WIFSTOPPED(status)), "no stop at its start: {first:?}");
        self.pending.insert(self.pid, None);
        ptrace(libc::PTRACE_SETOPTIONS, self.pid, 0, OPTIONS as usize).expect("ptrace is allowed here");
        self.go_on(self.pid, 0);
        // Only children and threads of this very thread: other tests wait for theirs.
        while let Some((thread, status)) = wait(-1) {
            if !libc::WIFSTOPPED(status) {
                if thread == self.pid {
                    self.shared.change(|state| state.status = Some(ExitStatus::from_raw(status)));
                }
                continue;
            }
            let signal = self.stopped(thread, status);
            self.go_on(thread, signal);
        }
        self.shared.change(|state| state.status = state.status.or(Some(ExitStatus::from_raw(libc::SIGKILL))));
    }

    /// Looks at a thread that stopped; returns the signal that it is to be given.
    fn stopped(&mut self, thread: i32, status: i32) -> i32 {
        let is_new = !self.pending.contains_key(&thread);
        let pending = self.pending.entry(thread).or_default().take();
        match libc::WSTOPSIG(status) {
            signal if signal == libc::SIGTRAP | 0x80 => {
                match pending {
                    None => self.begun(thread),
                    Some(pending) => self.done(thread, pending),
                }
                0
            }
            _ if status >> 16 != 0 => 0,
            libc::SIGSTOP if is_new => 0,
            signal => {
                // Not the end of a system call: what was begun is still to be done.
                self.pending.insert(thread, pending);
                signal
            }
        }
    }

    fn begun(&mut self, thread: i32) {
        let Some(call) = Call::begun_by(thread) else { return };
        if call.starts_thread() && self.shared.lock().refuses_threads {
            fail(thread);
            let change = Change { call: "thread", path: PathBuf::new(), text: String::new(), worked: false };
            self.pending.insert(thread, Some(Pending { change, number: 0, error: Some(libc::EAGAIN) }));
            return;
        }
        let Some((change, is_counted)) = call.change() else { return };
        self.count += usize::from(is_counted);
        let number = if is_counted { self.count } else { 0 };
        let mut error = None;
        match self.act {
            Act::Fail(from, number_of_error) if number >= from && may_fail(change.call) => {
                fail(thread);
                error = Some(number_of_error);
                self.shared.change(|state| state.acted = true);
            }
            Act::Lie(until) if number <= until && change.call == "sync" => {
                fail(thread);
                error = Some(0);
                self.shared.change(|state| state.acted = true);
            }
            _ => self.act_on(number, When::Before),
        }
        self.pending.insert(thread, Some(Pending { change, number, error }));
    }

    fn done(&mut self, thread: i32, pending: Pending) {
        if let Some(error) = pending.error {
            set_result(thread, -i64::from(error));
        }
        let worked = pending.error.is_none() && Call::result_of(thread).is_some_and(|result| result >= 0);
        self.shared.change(|state| state.changes.push(Change { worked, ..pending.change }));
        self.act_on(pending.number, When::After);
    }

    fn act_on(&self, number: usize, now: When) {
        match self.act {
            Act::Kill(nth, when) if (nth, when) == (number, now) => {
                self.shared.change(|state| state.acted = true);
                // SAFETY: a plain system call on our own child, which is stopped.
                unsafe { libc::kill(self.pid, libc::SIGKILL) };
            }
            Act::Freeze(nth, when) if (nth, when) == (number, now) => {
                self.shared.change(|state| state.acted = true);
                let state = self.shared.lock();
                drop(self.shared.changed.wait_while(state, |state| !state.thawed));
            }
            _ => {}
        }
    }

    /// Lets a thread run to its next system call. It may have been killed meanwhile.
    fn go_on(&self, thread: i32, signal: i32) {
        let _ = ptrace(libc::PTRACE_SYSCALL, thread, 0, signal as usize);
    }
}

fn wait(pid: i32) -> Option<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: the status is a local variable.
        let thread = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if thread >= 0 {
            return Some((thread, status));
        }
        if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}

fn ptrace(request: libc::c_uint, thread: i32, address: usize, data: usize) -> std::io::Result<()> {
    // SAFETY: the requests made here read or write no memory of ours, but for the buffer of `Call`.
    check(unsafe { libc::ptrace(request, thread, address, data) })
}

#[cfg(target_arch = "x86_64")]
fn fail(thread: i32) {
    let _ = ptrace(libc::PTRACE_POKEUSER, thread, libc::ORIG_RAX as usize * 8, usize::MAX);
}

#[cfg(target_arch = "x86_64")]
fn set_result(thread: i32, result: i64) {
    let _ = ptrace(libc::PTRACE_POKEUSER, thread, libc::RAX as usize * 8, result as usize);
}

#[cfg(not(target_arch = "x86_64"))]
fn fail(_thread: i32) {
    panic!("system calls can be made to fail on x86-64 only");
}

#[cfg(not(target_arch = "x86_64"))]
fn set_result(_thread: i32, _result: i64) {}

/// Whether a full disk can make a call fail.
fn may_fail(call: &str) -> bool {
    matches!(
        call,
        "create"
            | "write"
            | "rename"
            | "link"
            | "mkdir"
            | "fallocate"
            | "truncate"
            | "copy"
            | "sync"
            | "mode"
    )
}

/// A system call at its beginning.
struct Call {
    thread: i32,
    number: c_long,
    arguments: [u64; 6],
}

/// Where `PTRACE_GET_SYSCALL_INFO` writes.
type Info = [u8; 88];

impl Call {
    fn info(thread: i32) -> Option<Info> {
        let mut info: Info = [0; 88];
        ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, info.len(), info.as_mut_ptr() as usize).ok()?;
        Some(info)
    }

    fn begun_by(thread: i32) -> Option<Call> {
        let info = Call::info(thread).filter(|info| info[0] == libc::PTRACE_SYSCALL_INFO_ENTRY)?;
        let word = |at: usize| u64::from_ne_bytes(info[at..at + 8].try_into().expect("eight bytes"));
        let arguments = std::array::from_fn(|index| word(32 + 8 * index));
        Some(Call { thread, number: word(24) as c_long, arguments })
    }

    fn result_of(thread: i32) -> Option<i64> {
        let info = Call::info(thread).filter(|info| info[0] == libc::PTRACE_SYSCALL_INFO_EXIT)?;
        Some(i64::from_ne_bytes(info[24..32].try_into().expect("eight bytes")))
    }

    /// Whether it starts a thread, and not a program.
    fn starts_thread(&self) -> bool {
        let flags = match self.number {
            libc::SYS_clone => self.arguments[0].to_ne_bytes().to_vec(),
            libc::SYS_clone3 => self.memory(self.arguments[0], 8),
            _ => return false,
        };
        flags.try_into().is_ok_and(|flags| u64::from_ne_bytes(flags) & libc::CLONE_THREAD as u64 != 0)
    }

    /// The change that it makes, and whether it counts: lines to a pipe are only written down.
    fn change(&self) -> Option<(Change, bool)> {
        let (call, path) =
            self.legacy_change().or_else(|| self.path_change()).or_else(|| self.file_change())?;
        let text = if call == "write" { self.text() } else { String::new() };
        let is_pipe = path.to_str().is_some_and(|path| path.starts_with("pipe:"));
        let counts = path.is_absolute() && !["/dev", "/proc"].iter().any(|place| path.starts_with(place));
        let change = Change { call, path, text, worked: false };
        (counts || (is_pipe && call == "write")).then_some((change, counts))
    }

    /// Calls that only older architectures have.
    #[cfg(target_arch = "x86_64")]
    fn legacy_change(&self) -> Option<(&'static str, PathBuf)> {
        Some(match self.number {
            libc::SYS_open if creates(self.arguments[1]) => ("create", self.path(0)),
            libc::SYS_creat => ("create", self.path(0)),
            libc::SYS_rename => ("rename", self.path(1)),
            libc::SYS_link => ("link", self.path(1)),
            libc::SYS_symlink => ("link", self.path(1)),
            libc::SYS_unlink | libc::SYS_rmdir => ("remove", self.path(0)),
            libc::SYS_mkdir => ("mkdir", self.path(0)),
            libc::SYS_chmod => ("mode", self.path(0)),
            _ => return None,
        })
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn legacy_change(&self) -> Option<(&'static str, PathBuf)> {
        None
    }

    fn path_change(&self) -> Option<(&'static str, PathBuf)> {
        Some(match self.number {
            libc::SYS_openat if creates(self.arguments[2]) => ("create", self.path(1)),
            libc::SYS_renameat | libc::SYS_renameat2 => ("rename", self.path(3)),
            libc::SYS_linkat => ("link", self.path(3)),
            libc::SYS_symlinkat => ("link", self.path(2)),
            libc::SYS_unlinkat => ("remove", self.path(1)),
            libc::SYS_mkdirat => ("mkdir", self.path(1)),
            libc::SYS_truncate => ("truncate", self.path(0)),
            libc::SYS_fchmodat => ("mode", self.path(1)),
            _ => return None,
        })
    }

    fn file_change(&self) -> Option<(&'static str, PathBuf)> {
        let call = match self.number {
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => "write",
            libc::SYS_fsync | libc::SYS_fdatasync => "sync",
            libc::SYS_ftruncate => "truncate",
            libc::SYS_fallocate => "fallocate",
            libc::SYS_fchmod => "mode",
            libc::SYS_sendfile => "copy",
            libc::SYS_copy_file_range => return Some(("copy", self.file(2))),
            _ => return None,
        };
        Some((call, self.file(0)))
    }

    /// The open file that an argument names.
    fn file(&self, argument: usize) -> PathBuf {
        let link = format!("/proc/{}/fd/{}", self.thread, self.arguments[argument] as i32);
        std::fs::read_link(link).unwrap_or_default()
    }

    /// The path that an argument points to, as absolute as the program has it; relative ones are below its folder.
    fn path(&self, argument: usize) -> PathBuf {
        let bytes = self.memory(self.arguments[argument], 4096);
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let path = Path::new(OsStr::from_bytes(&bytes[..end]));
        match path.is_absolute() {
            true => path.to_owned(),
            false => std::fs::read_link(format!("/proc/{}/cwd", self.thread)).unwrap_or_default().join(path),
        }
    }

    fn text(&self) -> String {
        let is_plain = matches!(self.number, libc::SYS_write | libc::SYS_pwrite64);
        let length = if is_plain { self.arguments[2].min(60) } else { 0 };
        String::from_utf8_lossy(&self.memory(self.arguments[1], length as usize)).into_owned()
    }

    /// Bytes of the program's memory, up to the end of the page where it ends.
    fn memory(&self, address: u64, length: usize) -> Vec<u8> {
        let Ok(memory) = std::fs::File::open(format!("/proc/{}/mem", self.thread)) else { return Vec::new() };
        let mut bytes = vec![0; length];
        let count = memory.read_at(&mut bytes, address).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }
}

fn creates(flags: u64) -> bool {
    flags as i32 & (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) != 0
}
