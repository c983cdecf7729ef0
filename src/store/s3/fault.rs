//! Sorts what the SDK failed with into what callers can tell apart.
//!
//! Unknown is not absent: only a 404 in the service's own words means that a file is not there. A proxy's
//! 404 page is a fault like any other.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::model::{Key, Oid};
use crate::store::{Error, Verb};

/// What the reason of a range that cannot be satisfied begins with.
pub(super) const RANGE: &str = "InvalidRange";
/// What the reason begins with when another version of a file has its name.
pub(super) const CHANGED: &str = "PreconditionFailed";
/// What the reason of a header that the service does not know begins with.
pub(super) const NOT_IMPLEMENTED: &str = "NotImplemented";

/// What the reason begins with where a service knows no uploads in parts.
pub(super) const NO_PARTS: &str = "uploads in parts do not work";

/// What the reason begins with where a service wants the bucket in another part of its address.
pub(super) const OTHER_STYLE: &str = "this service wants the bucket elsewhere in its address";

/// The reason where an answer says that all went well, and not with what.
const UNTAGGED: &str = "the answer has no tag of what was stored, so it may not be the service's";

/// Longest text of a service that is passed on.
const REASON_MAX_CHARS: usize = 300;

/// A failed call, free of the SDK's types.
#[derive(Debug)]
pub(super) struct Fault {
    status: Option<u16>,
    code: Option<String>,
    reason: String,
}

type Response = aws_sdk_s3::config::http::HttpResponse;

impl<E> From<SdkError<E, Response>> for Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, Response>) -> Self {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        let (code, message) = match error.as_service_error() {
            Some(service) => (service.code().map(str::to_owned), service.message().map(str::to_owned)),
            None => (None, None),
        };
        let reason = match (&code, message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.clone(),
            (None, _) => match status {
                Some(status) => format!("HTTP status {status}"),
                None => causes(&error),
            },
        };
        Self { status, code, reason: readable(&reason) }
    }
}

impl Fault {
    pub(super) const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns whether the service refused a PUT for good, so that nothing can have been stored.
    ///
    /// An upload in parts that is not there any more may be one whose completion was answered and lost.
    pub(super) fn says_nothing_was_stored(&self) -> bool {
        self.code.as_deref() != Some("NoSuchUpload")
            && matches!(self.status, Some(300..=408 | 410 | 411 | 413..=428 | 430..=499 | 501))
    }

    /// Takes only what names a stored file for the answer of the service: a proxy says 200, too, and shows a page.
    pub(super) fn unless_tagged(etag: Option<&str>) -> Result<(), Self> {
        match etag {
            Some(tag) if !tag.is_empty() => Ok(()),
            _ => Err(Self { status: None, code: None, reason: UNTAGGED.into() }),
        }
    }

    /// Returns whether the answer to the beginning of an upload in parts shows that the service knows none: it is
    /// refused as such, or cannot be read.
    pub(super) const fn knows_no_parts(&self) -> bool {
        matches!(self.status, Some(200..=299 | 405 | 501))
    }

    /// Returns whether asking again, later or with other credentials, would change nothing.
    pub(super) fn is_final(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        matches!(self.status, Some(200..=407 | 410..=428 | 430..=499 | 501)) && !is_about_credentials(code)
    }

    /// Returns what the service said.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Turns it into the error of a call on `key`; `put` carries the whole key where one file is meant.
    pub(super) fn into_error(self, verb: Verb, key: &str, file: Option<(&Key, Oid)>) -> Error {
        let code = self.code.as_deref().unwrap_or_default();
        let (key, reason) = (key.to_owned(), self.reason);
        match (self.status, code, file) {
            (_, "NoSuchKey", Some((key, _))) => Error::NotFound { key: key.clone() },
            (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch", Some((key, expected))) => {
                Error::Digest { key: key.clone(), expected }
            }
            (_, "PreconditionFailed", Some((key, _))) if verb == Verb::Put => {
                Error::AlreadyExists { key: key.clone() }
            }
            (_, "NoSuchBucket", _) => Error::Missing { verb, key, reason },
            (_, code, _) if is_about_credentials(code) => Error::Credentials { verb, key, reason },
            (None, _, _) if reason.contains("credential") => Error::Credentials { verb, key, reason },
            (_, "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull", _) | (Some(507), _, _) => {
                Error::Full { verb, key }
            }
            (Some(301 | 307 | 308), _, _)
            | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _) => {
                Error::Settings {
                    reason: format!("the bucket is in another region or at another address ({reason})"),
                }
            }
            (_, "EntityTooSmall", _) => Error::Settings {
                reason: format!("the service wants larger parts than lfs-delta.partSize says ({reason})"),
            },
            (_, code, _) if is_about_style(code) => Error::Settings {
                reason: format!(
                    "{OTHER_STYLE}: add path-style=false to the store URL, or path-style=true where it has that ({reason})"
                ),
            },
            (Some(401 | 403), _, _) => Error::Denied { verb, key, reason },
            (Some(412), "", _) => Error::Unavailable { verb, key, reason: format!("{CHANGED}: {reason}") },
            (Some(416), "", _) => Error::Unavailable { verb, key, reason: format!("{RANGE}: {reason}") },
            (Some(501), "", _) => {
                Error::Unavailable { verb, key, reason: format!("{NOT_IMPLEMENTED}: {reason}") }
            }
            _ => Error::Unavailable { verb, key, reason },
        }
    }
}

/// Returns whether a service refuses the style of an address, in the words of those that do.
fn is_about_style(code: &str) -> bool {
    matches!(
        code,
        "SecondLevelDomainForbidden"
            | "PathStyleDomainForbidden"
            | "InvalidPathAccess"
            | "VirtualHostDomainRequired"
    )
}

fn is_about_credentials(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "TokenRefreshRequired"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "RequestTimeTooSkewed"
            | "UnrecognizedClientException"
    )
}

/// Joins what an error and its causes say.
fn causes(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(next) = cause {
        texts.push(next.to_string());
        cause = next.source();
    }
    texts.dedup();
    texts.join(": ")
}

/// Cuts a text to one line of printable characters: it comes from a stranger and goes to a terminal.
fn readable(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let line: String = text.chars().map(printable).collect();
    let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(REASON_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, code: &str) -> Fault {
        let code = (!code.is_empty()).then(|| code.to_owned());
        Fault { status: Some(status), reason: code.clone().unwrap_or_default(), code }
    }

    fn error(status: u16, code: &str) -> Error {
        let key = Key::manifest();
        fault(status, code).into_error(Verb::Get, key.as_str(), Some((&key, Oid::of(b""))))
    }

    #[test]
    fn only_the_services_own_word_means_absent() {
        assert!(matches!(error(404, "NoSuchKey"), Error::NotFound { .. }));
        assert!(matches!(error(404, ""), Error::Unavailable { .. }));
        assert!(matches!(error(404, "NoSuchBucket"), Error::Missing { .. }));
        assert!(matches!(error(403, ""), Error::Denied { .. }));
        assert!(matches!(error(500, "InternalError"), Error::Unavailable { .. }));
    }

    #[test]
    fn expired_credentials_are_not_a_lack_of_rights() {
        assert!(matches!(error(403, "ExpiredToken"), Error::Credentials { .. }));
        assert!(matches!(error(403, "AccessDenied"), Error::Denied { .. }));
    }

    #[test]
    fn a_service_that_wants_another_style_of_address_is_understood() {
        for (status, code) in [(403, "SecondLevelDomainForbidden"), (400, "PathStyleDomainForbidden")] {
            assert!(
                matches!(error(status, code), Error::Settings { reason } if reason.contains("path-style=false"))
            );
        }
    }

    #[test]
    fn a_fault_after_the_upload_is_unclear_and_a_refusal_is_not() {
        for status in [500, 503, 412, 409, 429] {
            assert!(!fault(status, "").says_nothing_was_stored(), "{status}");
        }
        for status in [400, 401, 403, 404, 501] {
            assert!(fault(status, "").says_nothing_was_stored(), "{status}");
        }
    }

    #[test]
    fn what_a_service_says_reaches_the_terminal_as_one_plain_line() {
        assert_eq!(readable("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(readable(&"x".repeat(1000)).len(), REASON_MAX_CHARS);
    }
}
