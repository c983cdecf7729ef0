//! How many requests for pieces of one file are under way at once: fewer while the service is busy.
//!
//! A service that answers 503 or 429 gets half as many, down to one. Only a long run of good answers brings one more
//! back. What was asked at once and refused at once counts as one refusal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use tokio::sync::Notify;

/// Good answers in a row, for each request that is allowed now, after which one more is.
const GOOD_FOR_ONE_MORE: u32 = 16;

/// The width of the way to a service. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Flow(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    width: usize,
    used: usize,
    good: u32,
    /// Counts the times that the width was cut. A refusal of what was asked before the last of them is an echo.
    cuts: u64,
}

/// Leave for one request. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Pass(Arc<Shared>);

impl Flow {
    /// Allows `most` requests at once, until it is told better.
    pub(super) fn new(most: usize) -> Self {
        let state = State { width: most, used: 0, good: 0, cuts: 0 };
        Self(Arc::new(Shared { most, state: Mutex::new(state), freed: Notify::new() }))
    }

    /// Returns how many requests may be under way now.
    pub(super) fn width(&self) -> usize {
        self.0.lock().width
    }

    /// Waits until fewer than `most` requests are under way, and fewer than are allowed.
    pub(super) async fn enter(&self, most: usize) -> Pass {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            {
                let mut state = self.0.lock();
                if state.used < state.width.min(most) {
                    state.used += 1;
                    return Pass(Arc::clone(&self.0));
                }
            }
            freed.await;
        }
    }

    fn cuts(&self) -> u64 {
        self.0.lock().cuts
    }

    /// Takes the answer to a request that was made after so many cuts.
    fn answered(&self, is_busy: bool, cuts: u64) {
        let mut state = self.0.lock();
        if is_busy && cuts < state.cuts {
            return;
        }
        if is_busy {
            state.width = (state.width / 2).max(1);
            state.cuts += 1;
            state.good = 0;
            tracing::debug!(width = state.width, "the service is busy: fewer requests at once");
            return;
        }
        state.good += 1;
        if state.width < self.0.most && state.good >= GOOD_FOR_ONE_MORE * state.width as u32 {
            state.width += 1;
            state.good = 0;
            drop(state);
            self.0.freed.notify_waiters();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.lock().used -= 1;
        self.0.freed.notify_waiters();
    }
}

/// How often the width had been cut when a request was made.
#[derive(Debug)]
struct Cuts(u64);

impl Storable for Cuts {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Flow {
    fn name(&self) -> &'static str {
        "lfs-delta flow"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Cuts(self.cuts()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(answer), Some(cuts)) = (context.response(), config.load::<Cuts>()) {
            self.answered(matches!(answer.status().as_u16(), 429 | 503), cuts.0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_halve_the_width_once_for_all_that_was_asked_at_once() {
        let flow = Flow::new(8);
        for _ in 0..5 {
            flow.answered(true, 0);
        }
        assert_eq!(flow.width(), 4);
        for cuts in 1..9 {
            flow.answered(true, cuts);
        }
        assert_eq!(flow.width(), 1, "one request is always allowed");
    }

    #[test]
    fn a_long_run_of_good_answers_brings_one_more_back() {
        let flow = Flow::new(3);
        flow.answered(true, 0);
        assert_eq!(flow.width(), 1);
        for (answers, width) in [(GOOD_FOR_ONE_MORE, 2), (2 * GOOD_FOR_ONE_MORE, 3), (1000, 3)] {
            (0..answers - 1).for_each(|_| flow.answered(false, 1));
            assert!(flow.width() <= width);
            flow.answered(false, 1);
            assert_eq!(flow.width(), width);
        }
    }

    #[test]
    fn whoever_does_not_fit_waits_until_a_pass_is_given_back() {
        let flow = Flow::new(4);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let first = flow.enter(2).await;
            let _second = flow.enter(2).await;
            let mut third = Box::pin(flow.enter(2));
            assert!(futures_util::poll!(third.as_mut()).is_pending(), "a third went in");
            drop(first);
            third.await;
        });
    }
}
