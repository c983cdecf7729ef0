//! Threads, which a busy system may refuse. They are started here alone: whoever wants one says what happens without it.

use std::io;
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Starts a thread that nobody waits for.
///
/// # Errors
/// What the system says; `work` is dropped then.
pub fn start(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    check()?;
    Builder::new().spawn(work).map(drop)
}

/// Starts a thread of a scope.
///
/// # Errors
/// What the system says; `work` is dropped then.
pub fn start_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    check()?;
    Builder::new().spawn_scoped(scope, work)
}

/// Fails where a test wants the system to refuse.
#[allow(clippy::unnecessary_wraps, reason = "it is for tests")]
fn check() -> io::Result<()> {
    #[cfg(test)]
    tests::check()?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// Does something while the system lets this thread start no more than `count` others.
    pub(crate) fn with_only<T>(count: usize, act: impl FnOnce() -> T) -> T {
        LEFT.set(count);
        let outcome = act();
        LEFT.set(usize::MAX);
        outcome
    }

    pub(super) fn check() -> io::Result<()> {
        let left = LEFT.get().checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        LEFT.set(left);
        Ok(())
    }

    #[test]
    fn a_thread_that_is_refused_is_an_error() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let start = || {
            let sender = sender.clone();
            super::start(move || sender.send(()).unwrap_or_default())
        };
        let started = with_only(1, || [start(), start()].map(|started| started.is_ok()));
        assert_eq!(started, [true, false]);
        drop(sender);
        assert_eq!(receiver.iter().count(), 1);
    }
}
