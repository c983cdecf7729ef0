//! A limit on bytes per second that all processes of the machine share.
//!
//! One small file says until when the line is taken. Whoever wants to send takes the next free time on it, under the
//! file's lock, and waits until that begins. Nobody is asked and nothing is given back: a process that
//! dies leaves at most the time of one slice unused. Where the file cannot be used, each process keeps to the limit
//! by itself.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::{clock, disk};

/// Time that went by unused up to this may be made up for: timers are late now and then.
const CREDIT: Duration = Duration::from_millis(100);

/// A line that seems to be taken for longer is not: the clock was set back.
const TAKEN_MAX: Duration = Duration::from_secs(60);

/// How often the lock of the file is tried, a millisecond apart, before a process goes by its own account.
const LOCK_TRIES_MAX: u32 = 1000;

/// Slices per second: few enough to cost nothing, many enough that no connection seems dead.
const SLICES_PER_SECOND: u64 = 8;
const SLICE_MIN_BYTES: u64 = 1024;
const SLICE_MAX_BYTES: u64 = 64 * 1024;

/// A limit, and where the machine keeps its account. Clones share it.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_second: u64,
    file: Option<PathBuf>,
    /// Until when the line is taken, in nanoseconds since 1970, by this process' own account.
    own: Arc<Mutex<u64>>,
}

impl Pace {
    /// Limits to `kib_per_second`, which is not zero; `file` is the same for all processes that share the limit.
    pub fn new(kib_per_second: u64, file: Option<PathBuf>) -> Self {
        Self { bytes_per_second: kib_per_second.saturating_mul(1024).max(1), file, own: Arc::default() }
    }

    /// Returns how many bytes are best passed at once.
    pub(super) fn slice(&self) -> usize {
        let bytes = (self.bytes_per_second / SLICES_PER_SECOND).clamp(SLICE_MIN_BYTES, SLICE_MAX_BYTES);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Waits until `bytes` more may pass.
    pub(super) async fn pass(self, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let slice = left.min(self.slice());
            tokio::time::sleep(self.take(slice as u64).await).await;
            left -= slice;
        }
    }

    /// Takes the next free time and returns how far away it is.
    async fn take(&self, bytes: u64) -> Duration {
        for _ in 0..LOCK_TRIES_MAX {
            match self.attempt(bytes) {
                Ok(Some(wait)) => return wait,
                Ok(None) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(error) => {
                    tracing::debug!(%error, "the limit is not shared");
                    break;
                }
            }
        }
        let mut taken = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let wait;
        (*taken, wait) = reserve(*taken, nanoseconds(clock::now()), bytes, self.bytes_per_second);
        wait
    }

    fn attempt(&self, bytes: u64) -> io::Result<Option<Duration>> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let mut wait = Duration::ZERO;
        let mut change = |content: &str| {
            let taken = content.trim().parse().unwrap_or_default();
            let next;
            (next, wait) = reserve(taken, nanoseconds(clock::now()), bytes, self.bytes_per_second);
            // Always as long, so that no old digits are left behind.
            format!("{next:020}\n")
        };
        Ok(disk::attempt_update(file, &mut change)?.then_some(wait))
    }
}

/// Decides when `bytes` may go: returns until when the line is taken then, and how long to wait before.
fn reserve(taken_until: u64, now: u64, bytes: u64, bytes_per_second: u64) -> (u64, Duration) {
    let whole = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second);
    let time = u64::try_from(whole).unwrap_or(u64::MAX);
    let is_believable = taken_until <= now.saturating_add(whole_nanoseconds(TAKEN_MAX));
    let begin =
        if is_believable { taken_until } else { now }.max(now.saturating_sub(whole_nanoseconds(CREDIT)));
    (begin.saturating_add(time), Duration::from_nanos(begin.saturating_sub(now)))
}

fn whole_nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn nanoseconds(time: SystemTime) -> u64 {
    whole_nanoseconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1000 * SECOND;

    #[test]
    fn who_comes_later_waits_for_those_before() {
        let (taken, first) = reserve(NOW, NOW, 500, 1000);
        assert_eq!((taken, first), (NOW + SECOND / 2, Duration::ZERO));
        let (taken, second) = reserve(taken, NOW, 1000, 1000);
        assert_eq!((taken, second), (NOW + SECOND / 2 + SECOND, Duration::from_millis(500)));
    }

    #[test]
    fn an_idle_line_saves_up_a_tenth_of_a_second_and_no_more() {
        let (taken, wait) = reserve(0, NOW, 1000, 1000);
        assert_eq!((taken, wait), (NOW + SECOND - SECOND / 10, Duration::ZERO));
    }

    #[test]
    fn a_clock_that_was_set_back_blocks_nobody() {
        let (_, wait) = reserve(NOW + 3600 * SECOND, NOW, 1000, 1000);
        assert_eq!(wait, Duration::ZERO);
    }

    #[test]
    fn two_accounts_on_one_file_are_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("limits/upload");
        let [first, second] = [0, 1].map(|_| Pace::new(1, Some(file.clone())));
        let take = |pace: &Pace| pace.attempt(4096).expect("a file").expect("nobody holds it");
        assert!(take(&first) <= Duration::ZERO);
        assert!(take(&second) > Duration::from_secs(3));
        assert!(take(&first) > Duration::from_secs(7));
    }
}
