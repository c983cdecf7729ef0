//! Progress: monotone, in bytes of the object, the first byte at once.
//!
//! git-lfs lets one worker begin and holds the others back until it hears of a first byte. So that byte is
//! reported before anything is tried.

use std::sync::{Mutex, PoisonError};

/// Turns the work of the stages of one transfer into bytes of its object.
///
/// A transfer announces each stage with the share of the whole that it will have reached at its end. What has stages of
/// its own gets a part of the whole for them; and what is tried once more has what is left for the whole.
pub struct Meter {
    size: u64,
    state: Mutex<State>,
    report: Box<dyn Fn(u64) + Send + Sync>,
}

/// The whole, in the unit of shares: fine enough for parts of parts.
const WHOLE: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
struct State {
    reported: u64,
    /// The part of the whole that stages are shares of.
    low: u64,
    high: u64,
    /// Share of the whole at the beginning and the end of the stage.
    from: u64,
    to: u64,
    work_done: u64,
    work_total: u64,
}

impl State {
    const START: Self =
        Self { reported: 0, low: 0, high: WHOLE, from: 0, to: 0, work_done: 0, work_total: 0 };

    /// Returns the share of the whole that is done.
    fn reached(&self) -> u64 {
        let part = u128::from(self.to - self.from) * u128::from(self.work_done);
        self.from + (part / u128::from(self.work_total.max(1))) as u64
    }

    /// Returns the share of the whole that a share of the part is, never less than what is done.
    fn share(&self, percent: u64) -> u64 {
        let share = self.low + (self.high - self.low) * percent.min(100) / 100;
        share.max(self.reached())
    }

    /// Begins a stage. What the one before did not need is its own.
    fn begin(&mut self, to: u64, work: u64) {
        *self = Self { from: self.reached(), to, work_done: 0, work_total: work, ..*self };
    }
}

impl Meter {
    /// Starts at one byte; `report` gets the bytes done so far, never less than before.
    pub fn start(size: u64, report: Box<dyn Fn(u64) + Send + Sync>) -> Self {
        let meter = Self { size, state: Mutex::new(State::START), report };
        meter.advance(&mut meter.lock(), 1);
        meter
    }

    /// Measures nothing, for work that nobody watches.
    pub fn silent() -> Self {
        Self { size: 0, state: Mutex::new(State::START), report: Box::new(|_| ()) }
    }

    /// Begins a stage of `work` bytes that ends at `percent` of the whole, or of the part.
    pub fn stage(&self, percent: u64, work: u64) {
        let mut state = self.lock();
        let to = state.share(percent);
        state.begin(to, work);
    }

    /// Gives `work` the part up to `percent` for stages of its own.
    pub fn part<T>(&self, percent: u64, work: impl FnOnce() -> T) -> T {
        let outer = {
            let mut state = self.lock();
            let outer = (state.low, state.high);
            (state.low, state.high) = (state.reached(), state.share(percent));
            outer
        };
        let outcome = work();
        let mut state = self.lock();
        let end = state.high;
        (state.low, state.high) = outer;
        state.begin(end, 0);
        outcome
    }

    /// Begins anew: stages are shares of what is left from here.
    pub fn again(&self) {
        let mut state = self.lock();
        state.low = state.reached();
    }

    /// Adds work of the current stage.
    pub fn add(&self, work: u64) {
        let mut state = self.lock();
        state.work_done = state.work_done.saturating_add(work).min(state.work_total);
        let total = u128::from(state.work_total.max(1));
        let share =
            u128::from(state.from) * total + u128::from(state.to - state.from) * u128::from(state.work_done);
        let done = u128::from(self.size).saturating_mul(share) / (u128::from(WHOLE) * total);
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
    fn a_part_has_stages_of_its_own_and_ends_where_it_was_to() {
        let seen = recorded(1000, |meter| {
            meter.part(40, || {
                meter.stage(50, 2);
                meter.add(1);
                meter.part(100, || {
                    meter.stage(50, 1);
                    meter.add(1);
                });
            });
            meter.stage(100, 6);
            meter.add(3);
        });
        assert_eq!(seen, [1, 100, 250, 625]);
    }

    #[test]
    fn what_a_stage_did_not_need_is_left_to_the_next() {
        let seen = recorded(1000, |meter| {
            meter.stage(50, 10);
            meter.add(2);
            meter.stage(100, 2);
            meter.add(1);
            meter.part(100, || ());
            meter.stage(100, 1);
            meter.add(1);
        });
        assert_eq!(seen, [1, 100, 550, 1000]);
    }

    #[test]
    fn what_is_tried_again_shares_what_is_left() {
        let seen = recorded(1000, |meter| {
            for _ in 0..3 {
                meter.again();
                meter.stage(50, 1);
                meter.add(1);
            }
        });
        assert_eq!(seen, [1, 500, 750, 875]);
    }

    #[test]
    fn an_object_of_one_byte_is_reported_once() {
        assert_eq!(recorded(1, Meter::finish), [1]);
    }
}
