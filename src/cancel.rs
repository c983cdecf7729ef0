//! Cancellation: one flag per process that every long loop looks at.
//!
//! git-lfs does not say that it died; a closed stdin does. Whoever loops over bytes calls `check` once a
//! buffer, whoever waits for the network waits for `raised` beside it.
//!
//! What surprises: a transfer that takes longer than it may stops in the same way, without the flag. Only whoever set
//! the deadline can tell (`is_late`), and says so.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A flag that is raised once and stays up. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Arc<State>,
    deadline: Arc<Mutex<Option<Instant>>>,
}

#[derive(Debug, Default)]
struct State {
    raised: AtomicBool,
    waiters: Notify,
}

impl Cancel {
    /// Raises the flag and wakes everyone who waits for it.
    pub fn raise(&self) {
        self.flag.raised.store(true, Ordering::SeqCst);
        self.flag.waiters.notify_waiters();
    }

    /// Returns whether the flag is up, or the deadline over.
    pub fn is_raised(&self) -> bool {
        self.flag.raised.load(Ordering::SeqCst) || self.is_late()
    }

    /// Returns a flag that goes up with this one, and has a deadline of its own.
    pub fn with_own_deadline(&self) -> Self {
        Self { flag: Arc::clone(&self.flag), deadline: Arc::default() }
    }

    /// Allows so much time from now, or as much as it takes.
    pub fn set_deadline(&self, patience: Option<Duration>) {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the deadline is over and the flag is not up.
    pub fn is_late(&self) -> bool {
        let is_over = self.deadline().is_some_and(|deadline| deadline <= Instant::now());
        is_over && !self.flag.raised.load(Ordering::SeqCst)
    }

    /// Fails once the flag is up, or the deadline over.
    ///
    /// # Errors
    /// An `io::Error` that `is_cancelled` knows; its kind is not `Interrupted`, which loops would retry.
    pub fn check(&self) -> io::Result<()> {
        if self.is_raised() { Err(cancelled()) } else { Ok(()) }
    }

    /// Waits until the flag is up, or the deadline that is set now is over.
    pub async fn raised(&self) {
        let waiter = self.flag.waiters.notified();
        tokio::pin!(waiter);
        waiter.as_mut().enable();
        if self.is_raised() {
            return;
        }
        match self.deadline() {
            None => waiter.await,
            Some(deadline) => tokio::select! {
                () = waiter => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            },
        }
    }
}

/// Returns the error that a cancelled operation fails with.
pub fn cancelled() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, Cancelled)
}

/// Returns whether an error came from `cancelled`.
pub fn is_cancelled(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Cancelled>())
}

#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
struct Cancelled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_fails_every_check_of_every_clone() {
        let cancel = Cancel::default();
        let clone = cancel.clone();
        assert!(clone.check().is_ok());
        cancel.raise();
        assert!(is_cancelled(&clone.check().expect_err("raised")));
        assert!(!is_cancelled(&io::Error::other("something else")));
    }

    #[test]
    fn a_deadline_that_is_over_stops_its_own_flag_only() {
        let process = Cancel::default();
        let transfer = process.with_own_deadline();
        transfer.set_deadline(Some(Duration::ZERO));
        assert!(transfer.is_raised() && transfer.is_late() && !process.is_raised());
        transfer.set_deadline(None);
        assert!(!transfer.is_raised());
        transfer.set_deadline(Some(Duration::ZERO));
        process.raise();
        assert!(transfer.is_raised() && !transfer.is_late(), "cancelled, not late");
    }
}
