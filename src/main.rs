//! Starts a command, and turns its error into a message and an exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::Parser;
use lfs_delta::agent::{self, Serving};
use lfs_delta::cancel::Cancel;
use lfs_delta::cli::{self, Arguments, Command, Context, Messages};
use lfs_delta::config;
use lfs_delta::error::Error;
use lfs_delta::logging;
use lfs_delta::model::limits::CANCEL_PATIENCE;
use lfs_delta::threads;
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cancel = Cancel::default();
    let mut output = Output { writer: io::stdout(), is_closed: false };
    match run(arguments.command, &cancel, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if output.is_closed => end_by_broken_pipe(),
        Err(error) => {
            // Nobody may be listening, which changes nothing.
            let _ = writeln!(io::stderr(), "error: {}", error.report());
            ExitCode::from(error.kind().entry().exit)
        }
    }
}

/// What a command prints to, and whether its reader has gone away.
struct Output {
    writer: io::Stdout,
    is_closed: bool,
}

impl Output {
    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        self.is_closed |= outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        outcome
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.writer.flush();
        self.note(flushed)
    }
}

/// Ends as `cat` does when `head` has read enough: without a word, by SIGPIPE, so that nobody takes what was read for
/// all there is.
fn end_by_broken_pipe() -> ExitCode {
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
    // What a shell makes of that signal.
    ExitCode::from(141)
}

fn run(command: Command, cancel: &Cancel, output: &mut Output) -> Result<(), Error> {
    watch_signals(cancel)?;
    let folder =
        std::env::current_dir().map_err(|source| Error::disk("find the working directory", source))?;
    let cancel = cancel.clone();
    if let Command::Agent { store, effort, profile } = command {
        start_logging("agent", None);
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
        let output = take_stdout()?;
        agent::serve(Serving { folder, store, effort, profile, cancel }, io::stdin(), output);
        return Ok(());
    }
    start_logging("lfs-delta", command.is_verbose().then_some(io::stderr as logging::Terminal));
    end_when_cancelled(cancel.clone());
    let messages = Messages { write: Arc::new(say_aside), is_terminal: io::stderr().is_terminal() };
    let output_is_terminal = io::stdout().is_terminal();
    cli::run(command, &mut Context { folder, output, output_is_terminal, messages, cancel })
}

/// Says what is not the result.
fn say_aside(line: &str) {
    // Nobody may be listening, which changes nothing.
    let _ = writeln!(io::stderr(), "{line}");
}

fn start_logging(command: &str, terminal: Option<logging::Terminal>) {
    logging::start(command, config::log_folder().as_deref(), &config::log_filter(), terminal);
}

/// Raises the flag on the signals that ask a process to end. Where the system has no thread for that, they end it as they
/// would any other.
fn watch_signals(cancel: &Cancel) -> Result<(), Error> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let cancel = cancel.clone();
    let (sender, receiver) = mpsc::channel::<Signals>();
    let watch = move || {
        if let Ok(mut signals) = receiver.recv() {
            signals.forever().for_each(|_| cancel.raise());
        }
    };
    if threads::start(watch).is_err() {
        return Ok(());
    }
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
    let signals = signals.map_err(|source| Error::disk("watch signals", source))?;
    // The thread lives for as long as it waits for them.
    let _ = sender.send(signals);
    Ok(())
}

/// Ends a command that waits for something that cannot be interrupted; not where the system has no thread for that.
fn end_when_cancelled(cancel: Cancel) {
    let _ = threads::start(move || {
        while !cancel.is_raised() {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(CANCEL_PATIENCE);
        std::process::exit(i32::from(Error::Cancelled.kind().entry().exit));
    });
}

/// Takes stdout for the protocol alone: whatever prints there later, a library even, goes to stderr.
fn take_stdout() -> Result<std::fs::File, Error> {
    use std::os::fd::AsFd;
    let failed = |source| Error::disk("take stdout", source);
    let taken = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    rustix::stdio::dup2_stdout(io::stderr()).map_err(|error| failed(error.into()))?;
    Ok(taken.into())
}
