//! The lines of the protocol (`docs/protocol.md` section 1).

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::git::Operation;

/// A line from git-lfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Init {
        operation: Operation,
        remote: String,
    },
    Transfer(Request),
    Terminate,
    /// Nothing that needs an answer: from a later git-lfs, or from nobody who can read one.
    Unknown,
}

/// One object that is to be transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// As it was sent, because the answer must carry the same.
    pub(super) oid: String,
    pub(super) size: u64,
    /// Where the object is, of an upload.
    pub(super) path: Option<PathBuf>,
}

impl Event {
    /// Reads a line. Unknown fields are passed over, missing ones that have a sensible default too.
    pub(super) fn parse(line: &[u8]) -> Self {
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else { return Self::Unknown };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let request = |path| match text("oid") {
            Some(oid) => {
                let size = fields.get("size").and_then(Value::as_u64).unwrap_or(0);
                Self::Transfer(Request { oid, size, path })
            }
            None => Self::Unknown,
        };
        match text("event").as_deref() {
            Some("init") => {
                let upload = text("operation").as_deref() == Some("upload");
                let operation = if upload { Operation::Upload } else { Operation::Download };
                Self::Init { operation, remote: text("remote").unwrap_or_else(|| "origin".into()) }
            }
            Some("upload") => request(text("path").map(PathBuf::from).or_else(|| Some(PathBuf::new()))),
            Some("download") => request(None),
            Some("terminate") => Self::Terminate,
            _ => Self::Unknown,
        }
    }
}

/// Returns the answer to `init`.
pub(super) fn ready() -> Value {
    json!({})
}

/// Returns the answer to `init` that makes git-lfs give up. Must be the same from every worker.
pub(super) fn not_ready(code: u32, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

/// Returns a line that says how far a transfer is.
pub(super) fn progress(oid: &str, so_far: u64, since_last: u64) -> Value {
    json!({ "event": "progress", "oid": oid, "bytesSoFar": so_far, "bytesSinceLast": since_last })
}

/// Returns the answer to a request that worked; `path` is that of a download.
pub(super) fn complete(oid: &str, path: Option<&str>) -> Value {
    match path {
        Some(path) => json!({ "event": "complete", "oid": oid, "path": path }),
        None => json!({ "event": "complete", "oid": oid }),
    }
}

/// Returns the answer to a request that failed.
pub(super) fn failed(oid: &str, code: u32, message: &str) -> Value {
    json!({ "event": "complete", "oid": oid, "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_git_lfs_sends_them() {
        let line = br#"{"event":"upload","oid":"ab","size":5,"path":"/a\u003cb","action":null}"#;
        let expected = Request { oid: "ab".into(), size: 5, path: Some("/a<b".into()) };
        assert_eq!(Event::parse(line), Event::Transfer(expected));
        let line = b"{\"event\":\"download\",\"oid\":\"ab\",\"size\":7}\r";
        assert_eq!(Event::parse(line), Event::Transfer(Request { oid: "ab".into(), size: 7, path: None }));
    }

    #[test]
    fn an_init_needs_nothing_but_its_name() {
        let expected = Event::Init { operation: Operation::Download, remote: "origin".into() };
        assert_eq!(Event::parse(br#"{"event":"init","new":[1]}"#), expected);
    }

    #[test]
    fn what_cannot_be_answered_is_unknown() {
        for line in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            r#"{"event":"upload"}"#,
            r#"{"event":"later","oid":"x"}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(Event::parse(line.as_bytes()), Event::Unknown, "{line}");
        }
    }
}
