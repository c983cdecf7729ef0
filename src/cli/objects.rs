//! What the commands on objects share: which store is meant, and what is logged of it.

use crate::error::{Error, Result};
use crate::git::Operation;
use crate::model::location::SCHEME;
use crate::store::{CallLog, Verb};
use crate::transfer::{ByHand, Session, Transfer};

use super::Context;

/// Takes the store off the arguments, where one of them names it, and opens what is meant.
pub(super) fn open(
    what: &[String],
    store: Option<&str>,
    operation: Operation,
    context: &Context<'_>,
) -> Result<(ByHand, Vec<String>)> {
    let (stores, rest): (Vec<_>, Vec<_>) = what.iter().cloned().partition(|word| word.starts_with(SCHEME));
    let stores: Vec<&str> = stores.iter().map(String::as_str).chain(store).collect();
    if stores.len() > 1 {
        return Err(Error::Usage(format!("one store at a time, not {}", stores.join(" and "))));
    }
    let session = Session {
        operation,
        remote: "origin".into(),
        store: stores.first().map(|&store| store.to_owned()),
        effort: None,
        profile: None,
        repair: false,
    };
    Ok((Transfer::open_by_hand(&context.folder, &session, &context.cancel)?, rest))
}

/// Logs what was asked of the store.
pub(super) fn log_calls(calls: &CallLog) {
    for verb in [Verb::List, Verb::Get, Verb::Put] {
        let (count, bytes) = calls.count(verb);
        if count > 0 {
            tracing::debug!("asked the store {count} times to {verb}: {bytes} bytes");
        }
    }
}
