//! Which answers are worth another try, beyond those that the SDK tries again by itself.

use std::time::Duration;

use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_smithy_types::retry::ErrorKind;

/// A service that asks for a longer pause is not waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

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
