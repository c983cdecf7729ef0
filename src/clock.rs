//! Time: the one place that asks what it is.

use std::time::{Duration, SystemTime};

/// Returns the wall clock's time. Only ever compared with file times of the same machine.
pub fn now() -> SystemTime {
    #[cfg(test)]
    return SystemTime::now() + tests::ahead();
    #[cfg(not(test))]
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

/// Writes a time of UTC as `2025-09-21T12:34:56.000123Z`.
pub fn utc_text(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Turns days since 1970 into a date. A year begins in March here, so that leap days come last.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + (month <= 2) as u64, month, day)
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

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(super) fn ahead() -> Duration {
        AHEAD.get()
    }

    /// Sets this thread's clock ahead, for tests in which weeks pass.
    pub(crate) fn set_ahead(ahead: Duration) {
        AHEAD.set(ahead);
    }

    #[test]
    fn times_are_written_as_calendars_have_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000123Z"),
            (951_782_399, "2000-02-28T23:59:59.000123Z"),
            (951_782_400, "2000-02-29T00:00:00.000123Z"),
            (1_758_458_096, "2025-09-21T12:34:56.000123Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000123Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456);
            assert_eq!(utc_text(time), text);
        }
    }
}
