//! Which answers are worth another try, beyond those that the SDK tries again by itself.

use std::time::Duration;

use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_smithy_types::retry::ErrorKind;

/// A service that asks for a longer pause is not waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// A pause between two tries is never longer.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Returns how long to wait before the try after `failures` in a row: it doubles, and from a half of it to all of
/// it is waited, so that machines that failed together do not come back together.
pub(super) fn pause(backoff: Duration, failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let longest = backoff.saturating_mul(doubled).min(PAUSE_MAX);
    let mut byte = [0];
    // Without randomness all wait for the whole time, which is only less kind.
    let share = getrandom::fill(&mut byte).map_or(255, |()| u32::from(byte[0]));
    longest / 2 + longest / 2 * share / 255
}

/// Tries again after 429 (too many requests) and 409 (two conditional writes at once: look again).
#[derive(Debug)]
pub(super) struct AlsoRetry;

impl ClassifyRetry for AlsoRetry {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(answer) = context.response() else { return RetryAction::NoActionIndicated };
        match answer.status().as_u16() {
            429 => match answer.headers().get("retry-after").and_then(|text| text.parse().ok()) {
                Some(seconds) => {
                    let pause = Duration::from_secs(seconds).min(RETRY_AFTER_MAX);
                    RetryAction::retryable_error_with_explicit_delay(ErrorKind::ThrottlingError, pause)
                }
                None => RetryAction::throttling_error(),
            },
            409 => RetryAction::transient_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "lfs-delta"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_differ() {
        let backoff = Duration::from_millis(100);
        for (failures, longest) in [(1, 100), (2, 200), (4, 800), (20, 20_000), (99, 20_000)] {
            let longest = Duration::from_millis(longest);
            let pauses: std::collections::HashSet<_> = (0..50).map(|_| pause(backoff, failures)).collect();
            assert!(pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{pauses:?}");
            assert!(pauses.len() > 1, "all wait for the same time");
        }
    }
}
