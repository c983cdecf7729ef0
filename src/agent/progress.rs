//! The lines that tell git-lfs how far a transfer is: not too many, none with too large a step, and never a silence.
//!
//! What surprises: where nothing could be counted for a while, the last count is told again, as a step of 0 bytes. Many
//! things take longer than people wait without a sign and count nothing: git's answers, locks, a store that is busy, a
//! search for streams. git-lfs gives an agent all the time in the world, so this keeps nothing alive that hangs: requests
//! and git have patiences of their own.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::message;
use crate::cancel::Cancel;
use crate::model::limits::{PROGRESS_PER_SECOND_MAX, PROGRESS_SILENCE_MAX};
use crate::threads;

/// git-lfs reads a step into a signed integer that may have 32 bits.
const STEP_MAX_BYTES: u64 = i32::MAX as u64;

/// The output, and what was told there of the transfer that runs.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

struct Shared {
    lines: Mutex<Box<dyn Write + Send>>,
    cancel: Cancel,
    /// None between two transfers: then nothing is told.
    telling: Mutex<Option<Telling>>,
}

/// How far a transfer is, and how far git-lfs knows it to be.
struct Telling {
    oid: String,
    size: u64,
    counted: u64,
    told: u64,
    when: Instant,
}

impl Output {
    pub(super) fn new(lines: impl Write + Send + 'static, cancel: Cancel) -> Self {
        let output =
            Self(Arc::new(Shared { lines: Mutex::new(Box::new(lines)), cancel, telling: Mutex::new(None) }));
        let shared = Arc::downgrade(&output.0);
        if let Err(error) = threads::start(move || break_silences(&shared)) {
            tracing::warn!(%error, "what counts nothing will tell no progress");
        }
        output
    }

    /// Writes a line; when nobody reads it, everything is cancelled.
    pub(super) fn write(&self, line: &Value) {
        self.0.write(line);
    }

    /// Tells the first byte of a transfer.
    pub(super) fn begin(&self, oid: &str, size: u64) {
        let telling = Telling { oid: oid.to_owned(), size, counted: 1, told: 0, when: Instant::now() };
        self.0.tell(self.0.lock().insert(telling));
    }

    /// Counts the bytes that are done, and tells them unless it is too early for another line.
    pub(super) fn count(&self, done: u64) {
        let mut telling = self.0.lock();
        let Some(telling) = &mut *telling else { return };
        telling.counted = telling.counted.max(done);
        let is_time = telling.when.elapsed() >= Duration::from_secs(1) / PROGRESS_PER_SECOND_MAX;
        if telling.counted > telling.told && (is_time || done >= telling.size) {
            self.0.tell(telling);
        }
    }

    /// Ends the lines of a transfer: its answer follows.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Telling>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, line: &Value) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let written = lines.write_all(format!("{line}\n").as_bytes()).and_then(|()| lines.flush());
        if let Err(error) = written {
            // Nobody listens any more: the same as a closed input.
            tracing::info!(%error, "git-lfs is gone");
            self.cancel.raise();
        }
    }

    /// Tells what was counted and not told; a step of nothing where that is all.
    fn tell(&self, telling: &mut Telling) {
        loop {
            let step = (telling.counted - telling.told).min(STEP_MAX_BYTES);
            telling.told += step;
            telling.when = Instant::now();
            self.write(&message::progress(&telling.oid, telling.told, step));
            if telling.told == telling.counted {
                return;
            }
        }
    }
}

/// Tells how far the transfer is whenever nothing was told for a while, as long as there is an output.
fn break_silences(shared: &Weak<Shared>) {
    loop {
        std::thread::sleep(PROGRESS_SILENCE_MAX / 4);
        let Some(shared) = shared.upgrade() else { return };
        let mut telling = shared.lock();
        if let Some(telling) =
            telling.as_mut().filter(|telling| telling.when.elapsed() >= PROGRESS_SILENCE_MAX)
        {
            shared.tell(telling);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What is written to one end and read at the other.
    #[derive(Clone, Default)]
    pub(in crate::agent) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        pub(in crate::agent) fn lines(&self) -> Vec<Value> {
            let text = String::from_utf8(self.0.lock().expect("lock").clone()).expect("UTF-8");
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        }

        /// `bytesSoFar` and `bytesSinceLast` of each line.
        fn counts(&self) -> Vec<(u64, u64)> {
            let count = |line: &Value, name: &str| line[name].as_u64().expect("a count");
            let counts = |line: Value| (count(&line, "bytesSoFar"), count(&line, "bytesSinceLast"));
            self.lines().into_iter().map(counts).collect()
        }
    }

    #[test]
    fn a_step_that_git_lfs_cannot_read_is_told_in_several() {
        let written = Written::default();
        let output = Output::new(written.clone(), Cancel::default());
        output.begin("ab", 5 << 30);
        output.count(5 << 30);
        output.end();
        let counts = written.counts();
        assert_eq!((counts[0], counts.last().map(|count| count.0)), ((1, 1), Some(5 << 30)));
        assert_eq!(counts.iter().map(|count| count.1).sum::<u64>(), 5 << 30);
        assert!(counts.iter().all(|count| count.1 <= STEP_MAX_BYTES));
    }

    #[test]
    fn what_was_counted_too_early_for_a_line_is_told_after_a_while_and_told_again_until_the_end() {
        let written = Written::default();
        let output = Output::new(written.clone(), Cancel::default());
        output.begin("ab", 1000);
        output.count(400);
        let begun = Instant::now();
        while written.counts().len() < 3 && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(10));
        }
        output.end();
        let counts = written.counts();
        assert!(counts.starts_with(&[(1, 1), (400, 399), (400, 0)]), "{counts:?}");
        output.count(500);
        std::thread::sleep(PROGRESS_SILENCE_MAX * 2);
        assert_eq!(written.counts(), counts);
    }
}
