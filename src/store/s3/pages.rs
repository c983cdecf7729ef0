//! From page to page of a listing.
//!
//! What surprises: a service may send pages for ever without coming to an end, or without showing anything. That is an
//! error, not a wait.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;

use crate::model::KeyPrefix;
use crate::model::limits::EMPTY_PAGES_MAX;
use crate::store::{Error, Result, Verb};

/// How far a listing has come.
#[derive(Debug, Default)]
pub(super) struct Pages {
    token: Option<String>,
    /// Pages in a row that showed nothing.
    empty: usize,
    is_over: bool,
}

impl Pages {
    /// Returns what the next page is asked for with.
    pub(super) fn token(&self) -> Option<String> {
        self.token.clone()
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Turns over a page.
    ///
    /// # Errors
    /// `Unavailable` when the service cannot be followed any further.
    pub(super) fn turn(&mut self, page: &ListObjectsV2Output, prefix: &KeyPrefix) -> Result<()> {
        let failed = |reason: &str| {
            Err(Error::Unavailable { verb: Verb::List, key: prefix.to_string(), reason: reason.into() })
        };
        self.is_over = !page.is_truncated().unwrap_or(false);
        let next = page.next_continuation_token().map(str::to_owned);
        let is_empty = page.contents().is_empty() && page.common_prefixes().is_empty();
        self.empty = if is_empty { self.empty + 1 } else { 0 };
        match next {
            _ if self.is_over => {}
            None => return failed("the listing goes on, but the service does not say where"),
            same if same == self.token => {
                return failed("the listing goes on, but the service sends the same page again");
            }
            _ if self.empty > EMPTY_PAGES_MAX => {
                return failed("the listing goes on, but the service sends one empty page after the other");
            }
            next => self.token = next,
        }
        Ok(())
    }
}
