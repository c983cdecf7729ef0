//! Cancellation: one flag per process that every long loop looks at.
//!
//! git-lfs does not say that it died; a closed stdin does. Whoever loops over bytes calls `check` once a
//! buffer, whoever waits for the network waits for `cancelled` beside it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A flag that is raised once and stays up. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    raised: AtomicBool,
    waiters: Notify,
}

impl Cancel {
    /// Raises the flag and wakes everyone who waits for it.
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::SeqCst);
        self.0.waiters.notify_waiters();
    }

    /// Returns whether the flag is up.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// Fails once the flag is up.
    ///
    /// # Errors
    /// An `io::Error` that `is_cancelled` knows; its kind is not `Interrupted`, which loops would retry.
    pub fn check(&self) -> io::Result<()> {
        if self.is_raised() { Err(cancelled()) } else { Ok(()) }
    }

    /// Waits until the flag is up.
    pub async fn raised(&self) {
        let waiter = self.0.waiters.notified();
        tokio::pin!(waiter);
        waiter.as_mut().enable();
        if !self.is_raised() {
            waiter.await;
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
}
