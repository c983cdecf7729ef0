//! Time: the one place that asks what it is.

use std::time::{Duration, SystemTime};

/// Returns the wall clock's time. Only ever compared with file times of the same machine.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Returns how long ago `then` was; zero for a time in the future.
pub fn age(then: SystemTime) -> Duration {
    now().duration_since(then).unwrap_or_default()
}

/// Returns the time that was `age` ago.
pub fn ago(age: Duration) -> SystemTime {
    now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A stopwatch that runs while the machine sleeps, as rule 6 of the store protocol asks.
///
/// A clock that was set back makes it stand still, never run backwards.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(SystemTime);

impl Stopwatch {
    /// Starts at zero.
    pub fn start() -> Self {
        Self(now())
    }

    /// Continues one that was started at `then`, by this machine's clock.
    pub const fn since(then: SystemTime) -> Self {
        Self(then)
    }

    /// Returns when it was started.
    pub const fn started(&self) -> SystemTime {
        self.0
    }

    /// Returns the time since the start.
    pub fn elapsed(&self) -> Duration {
        age(self.0)
    }
}
