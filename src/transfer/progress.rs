//! Progress: monotone, in bytes of the object, the first byte at once.
//!
//! git-lfs lets one worker begin and holds the others back until it hears of a first byte. So that byte is
//! reported before anything is tried.

use std::sync::{Mutex, PoisonError};

/// Turns the work of the stages of one transfer into bytes of its object.
///
/// A transfer announces each stage with the share of the whole that it will have reached at its end.
pub struct Meter {
    size: u64,
    state: Mutex<State>,
    report: Box<dyn Fn(u64) + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    reported: u64,
    /// Share at the beginning and the end of the stage, in percent of the whole.
    from: u64,
    to: u64,
    work_done: u64,
    work_total: u64,
}

impl Meter {
    /// Starts at one byte; `report` gets the bytes done so far, never less than before.
    pub fn start(size: u64, report: Box<dyn Fn(u64) + Send + Sync>) -> Self {
        let meter = Self { size, state: Mutex::default(), report };
        meter.advance(&mut meter.lock(), 1);
        meter
    }

    /// Measures nothing, for work that nobody watches.
    pub fn silent() -> Self {
        Self { size: 0, state: Mutex::default(), report: Box::new(|_| ()) }
    }

    /// Begins a stage of `work` bytes that ends at `percent` of the whole.
    pub fn stage(&self, percent: u64, work: u64) {
        let mut state = self.lock();
        let from = state.to;
        *state = State { from, to: percent.max(from), work_done: 0, work_total: work, ..*state };
    }

    /// Adds work of the current stage.
    pub fn add(&self, work: u64) {
        let mut state = self.lock();
        state.work_done = state.work_done.saturating_add(work).min(state.work_total);
        let part = u128::from(state.to - state.from) * u128::from(state.work_done);
        let percent_of_size = u128::from(state.from) * u128::from(state.work_total.max(1)) + part;
        let done = u128::from(self.size) * percent_of_size / (100 * u128::from(state.work_total.max(1)));
        self.advance(&mut state, u64::try_from(done).unwrap_or(u64::MAX));
    }

    /// Reports that all is done.
    pub fn finish(&self) {
        self.advance(&mut self.lock(), self.size);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, state: &mut State, done: u64) {
        let done = done.min(self.size);
        if done > state.reported {
            state.reported = done;
            (self.report)(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn recorded(size: u64, work: impl FnOnce(&Meter)) -> Vec<u64> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let meter = Meter::start(size, Box::new(move |done| sink.lock().expect("lock").push(done)));
        work(&meter);
        drop(meter);
        Arc::into_inner(seen).expect("sole owner").into_inner().expect("lock")
    }

    #[test]
    fn the_first_byte_is_reported_before_any_work() {
        assert_eq!(recorded(1000, |_| ()), [1]);
    }

    #[test]
    fn stages_add_up_to_the_size_and_never_go_back() {
        let seen = recorded(1000, |meter| {
            meter.stage(50, 10);
            meter.add(5);
            meter.add(5);
            meter.stage(100, 4);
            meter.add(2);
            meter.add(100);
            meter.finish();
        });
        assert_eq!(seen, [1, 250, 500, 750, 1000]);
    }

    #[test]
    fn an_object_of_one_byte_is_reported_once() {
        assert_eq!(recorded(1, Meter::finish), [1]);
    }
}
