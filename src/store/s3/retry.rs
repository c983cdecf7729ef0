//! Which answers are worth another try, beyond those that the SDK tries again by itself.

use std::time::Duration;

use aws_sdk_s3::config::interceptors::{BeforeDeserializationInterceptorContextMut, InterceptorContext};
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents, http::HttpResponse};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::retries::classifiers::RetryClassifierPriority;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use aws_smithy_types::retry::ErrorKind;
use aws_smithy_types::{DateTime, date_time::Format};

use crate::clock;

/// A service that asks for a longer pause is not waited for; the SDK itself stops at 20 seconds.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The header by which the interceptor tells the classifier, which knows an answer only, the number of the try.
const TRY: &str = "x-lfs-delta-try";

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

/// Returns the error code in an answer that is at hand.
pub(super) fn code_of(answer: &HttpResponse) -> Option<&str> {
    let text = std::str::from_utf8(answer.body().bytes()?).ok()?;
    text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}

/// Returns whether credentials were good once and may be renewed.
pub(super) fn is_expired(code: &str) -> bool {
    matches!(code, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired")
}

/// Tries again after 429 (too many requests), 409 (two conditional writes at once: look again), expired
/// credentials (`credentials` renews them, or ends it), once after a wrong clock, and when `Retry-After` says.
#[derive(Debug)]
pub(super) struct AlsoRetry;

impl ClassifyRetry for AlsoRetry {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(answer) = context.response() else { return RetryAction::NoActionIndicated };
        let pause = answer.headers().get("retry-after").and_then(parse_pause);
        match (answer.status().as_u16(), code_of(answer), pause) {
            (429 | 503, _, Some(pause)) => {
                RetryAction::retryable_error_with_explicit_delay(ErrorKind::ThrottlingError, pause)
            }
            (429, _, None) => RetryAction::throttling_error(),
            (409, _, _) => RetryAction::transient_error(),
            (_, Some(code), _) if is_expired(code) => at_once(),
            // Signed too long ago, or by a clock that was just set: a second date helps, or nothing does.
            (_, Some("RequestTimeTooSkewed"), _) if answer.headers().get(TRY) == Some("1") => at_once(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    // The SDK's own, asked before, would have the last word otherwise: it knows nothing of `Retry-After`.
    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }

    fn name(&self) -> &'static str {
        "lfs-delta"
    }
}

fn at_once() -> RetryAction {
    RetryAction::retryable_error_with_explicit_delay(ErrorKind::TransientError, Duration::ZERO)
}

/// Reads `Retry-After`: seconds, or a date.
fn parse_pause(text: &str) -> Option<Duration> {
    let pause = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = DateTime::from_str(text.trim(), Format::HttpDate).ok()?;
            std::time::SystemTime::try_from(date).ok()?.duration_since(clock::now()).unwrap_or_default()
        }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

/// Counts the tries of a request.
#[derive(Debug)]
pub(super) struct CountTries;

#[derive(Debug)]
struct Tries(u32);

impl Storable for Tries {
    type Storer = StoreReplace<Self>;
}

impl Intercept for CountTries {
    fn name(&self) -> &'static str {
        "lfs-delta tries"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let tries = config.load::<Tries>().map_or(0, |tries| tries.0) + 1;
        config.interceptor_state().store_put(Tries(tries));
        // What a service sends under this name is overwritten.
        context.response_mut().headers_mut().insert(TRY, tries.to_string());
        Ok(())
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

    #[test]
    fn a_pause_is_seconds_or_a_date_and_never_long() {
        assert_eq!(parse_pause("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse_pause("86400"), Some(RETRY_AFTER_MAX));
        assert_eq!(parse_pause("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_pause("Fri, 31 Dec 9999 23:59:59 GMT"), Some(RETRY_AFTER_MAX));
        assert_eq!(parse_pause("soon"), None);
    }
}
