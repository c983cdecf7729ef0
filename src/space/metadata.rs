//! What is kept beside the files of a DeltaSpace: all spellings that deltaglider and its proxy have used.
//!
//! Written is the superset that both read; read is whatever says the same (`docs/deltaspace-layout.md`). What
//! surprises: S3 takes ASCII only, and drops spaces at the ends. Other texts are written as encoded words (RFC 2047),
//! which is also how S3 itself hands out what it cannot say.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config;
use crate::model::{FileName, Folder, Oid};
use crate::store::artefacts::Metadata;

/// How a file of a DeltaSpace is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The whole file that deltas are made against.
    Reference,
    /// A delta on the reference.
    Delta,
    /// The file as it is.
    Whole,
}

/// What metadata says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// How the file is stored, where that is told.
    pub kind: Option<Kind>,
    /// The SHA-256 of the file.
    pub sha256: Option<Oid>,
    /// The bytes of the file.
    pub size: Option<u64>,
    /// When it was stored, in a form that can be compared as text.
    pub created_at: Option<String>,
    /// The SHA-256 of the reference.
    pub reference: Option<Oid>,
    /// Where the reference was when the delta was made.
    pub reference_folder: Option<Folder>,
    /// Whether somebody encrypted it with a key that is not ours.
    pub is_encrypted: bool,
}

impl Facts {
    /// Reads metadata. What cannot be understood is as good as not there.
    pub fn read(metadata: &Metadata) -> Self {
        let field = |name: &str| {
            let spellings = [format!("dg-{name}"), format!("dg_{name}").replace('-', "_")];
            let bare = [name.replace('-', "_"), name.to_owned()];
            let found = spellings.iter().chain(&bare).filter_map(|key| metadata.get(key));
            found.map(|text| decode(text)).find(|text| !text.is_empty())
        };
        let hash = |name| field(name).and_then(|text| Oid::parse(&text.to_ascii_lowercase()).ok());
        let reference_key = field("ref-key");
        let mut facts = Self {
            kind: None,
            sha256: hash("file-sha256"),
            size: field("file-size").and_then(|text| text.parse().ok()),
            created_at: field("created-at").map(|text| comparable(&text)),
            reference: hash("ref-sha256"),
            reference_folder: reference_key.as_deref().and_then(folder_of),
            is_encrypted: field("encrypted").is_some(),
        };
        let note = field("note").unwrap_or_default();
        let has_reference =
            reference_key.is_some() || facts.reference.is_some() || field("ref-path").is_some();
        facts.kind = if field("compression").is_some_and(|text| text == "none") || note == "passthrough" {
            Some(Kind::Whole)
        } else if note == "reference" {
            Some(Kind::Reference)
        } else if has_reference || note == "delta" || note.starts_with("zero-diff") {
            Some(Kind::Delta)
        } else {
            None
        };
        facts
    }

    /// Names what is missing that a file of this kind should say.
    pub fn missing(&self, kind: Kind) -> Vec<&'static str> {
        let is_delta = kind == Kind::Delta;
        let wanted = [
            ("dg-file-sha256", self.sha256.is_some()),
            // deltaglider's own references have none.
            ("dg-file-size", self.size.is_some() || kind == Kind::Reference),
            ("dg-created-at", self.created_at.is_some()),
            ("dg-ref-sha256", self.reference.is_some() || !is_delta),
        ];
        wanted.into_iter().filter(|(_, is_there)| !is_there).map(|(name, _)| name).collect()
    }
}

/// Returns the folder that a key is in.
fn folder_of(key: &str) -> Option<Folder> {
    Folder::parse(key.rsplit_once('/').map_or("", |(folder, _)| folder)).ok()
}

/// Brings a time of UTC into the form that `clock::utc_text` writes, without the `Z`.
fn comparable(text: &str) -> String {
    let text = text.trim_end_matches('Z').trim_end_matches("+00:00").replace(' ', "T");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    format!("{whole}.{digits}")
}

/// What is said of every file of a DeltaSpace.
#[derive(Debug, Clone)]
pub struct About<'a> {
    /// The SHA-256 of the file.
    pub sha256: Oid,
    /// Its MD5.
    pub md5: [u8; 16],
    /// Its bytes.
    pub size: u64,
    /// When it is stored.
    pub created_at: &'a str,
}

/// What is said of a delta beyond that.
#[derive(Debug, Clone, Copy)]
pub struct AboutDelta<'a> {
    /// The name of the file.
    pub name: &'a FileName,
    /// Where the reference is.
    pub reference: &'a str,
    /// Its SHA-256.
    pub reference_sha256: Oid,
    /// The bytes of the delta.
    pub size: u64,
    /// Whether the reference is the same file.
    pub is_zero: bool,
}

impl About<'_> {
    fn common(&self, name: &str, note: &str) -> Metadata {
        let pairs = [
            ("dg-tool", config::TOOL.to_owned()),
            ("dg-original-name", encode(name)),
            ("dg-file-sha256", self.sha256.to_string()),
            ("dg-file-size", self.size.to_string()),
            ("dg-md5", crate::model::hex::encode(&self.md5)),
            ("dg-created-at", self.created_at.to_owned()),
            ("dg-note", note.to_owned()),
        ];
        pairs.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
    }

    /// Returns the metadata of a reference that was first stored as `name`.
    pub fn reference(&self, name: &FileName) -> Metadata {
        let mut metadata = self.common("__reference__", "reference");
        metadata.insert("dg-source-name".into(), encode(name.as_str()));
        metadata
    }

    /// Returns the metadata of a whole file.
    pub fn whole(&self, name: &FileName) -> Metadata {
        let mut metadata = self.common(name.as_str(), "passthrough");
        metadata.insert("dg-compression".into(), "none".into());
        metadata
    }

    /// Returns the metadata of a delta.
    pub fn delta(&self, delta: AboutDelta<'_>) -> Metadata {
        let note = if delta.is_zero { "zero-diff (reference identical)" } else { "delta" };
        let mut metadata = self.common(delta.name.as_str(), note);
        for (name, text) in [
            ("dg-ref-key", encode(delta.reference)),
            ("dg-ref-path", crate::model::artefact::REFERENCE.to_owned()),
            ("dg-ref-sha256", delta.reference_sha256.to_string()),
            ("dg-delta-size", delta.size.to_string()),
            ("dg-delta-cmd", "decode: xdelta3 -d -s reference.bin".to_owned()),
        ] {
            metadata.insert(name.to_owned(), text);
        }
        metadata
    }
}

/// Begins an encoded word of RFC 2047.
const WORD: &str = "=?UTF-8?B?";
/// Ends one.
const WORD_END: &str = "?=";

/// Writes a text so that S3 keeps it.
fn encode(text: &str) -> String {
    let is_plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if is_plain && text.trim() == text && !text.contains("=?") {
        return text.to_owned();
    }
    format!("{WORD}{}{WORD_END}", STANDARD.encode(text))
}

/// Reads such a text; whatever is none stays as it is.
fn decode(text: &str) -> Cow<'_, str> {
    let bytes = text
        .get(..WORD.len())
        .filter(|start| start.eq_ignore_ascii_case(WORD))
        .and_then(|_| text[WORD.len()..].strip_suffix(WORD_END))
        .and_then(|word| STANDARD.decode(word).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> Metadata {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    const ABOUT: About<'_> = About {
        sha256: Oid::from_bytes([1; 32]),
        md5: [2; 16],
        size: 5,
        created_at: "2025-09-21T12:34:56.000123Z",
    };

    fn name(text: &str) -> FileName {
        FileName::parse(text).expect("a name")
    }

    #[test]
    fn what_is_written_is_read() {
        let delta = AboutDelta {
            name: &name("a b.zip"),
            reference: "x/y/reference.bin",
            reference_sha256: Oid::from_bytes([3; 32]),
            size: 4,
            is_zero: false,
        };
        let facts = Facts::read(&ABOUT.delta(delta));
        assert_eq!(facts.kind, Some(Kind::Delta));
        assert_eq!((facts.sha256, facts.size), (Some(ABOUT.sha256), Some(5)));
        assert_eq!(facts.reference, Some(Oid::from_bytes([3; 32])));
        assert_eq!(facts.reference_folder.as_ref().map(Folder::as_str), Some("x/y/"));
        assert_eq!(facts.missing(Kind::Delta), Vec::<&str>::new());
        let zero = ABOUT.delta(AboutDelta { is_zero: true, ..delta });
        assert_eq!(Facts::read(&zero).kind, Some(Kind::Delta));
        assert_eq!(Facts::read(&ABOUT.whole(&name("a"))).kind, Some(Kind::Whole));
        assert_eq!(Facts::read(&ABOUT.reference(&name("a"))).kind, Some(Kind::Reference));
    }

    #[test]
    fn every_spelling_says_the_same() {
        let sha = "ab".repeat(32);
        for [hash, size, key] in [
            ["dg-file-sha256", "dg-file-size", "dg-ref-key"],
            ["dg_file_sha256", "dg_file_size", "dg_ref_key"],
            ["file_sha256", "file_size", "ref_key"],
            ["file-sha256", "file-size", "ref-key"],
        ] {
            let facts = Facts::read(&metadata(&[(hash, &sha), (size, "7"), (key, "reference.bin")]));
            assert_eq!((facts.sha256, facts.size), (Some(Oid::from_bytes([0xab; 32])), Some(7)));
            assert_eq!(facts.kind, Some(Kind::Delta));
            assert_eq!(facts.reference_folder, Some(Folder::default()));
        }
    }

    #[test]
    fn the_first_spelling_that_says_something_counts() {
        let (one, two) = ("11".repeat(32), "22".repeat(32));
        let facts = Facts::read(&metadata(&[("file_sha256", &two), ("dg-file-sha256", &one)]));
        assert_eq!(facts.sha256, Some(Oid::from_bytes([0x11; 32])));
        let facts = Facts::read(&metadata(&[("file_sha256", &two), ("dg-file-sha256", "")]));
        assert_eq!(facts.sha256, Some(Oid::from_bytes([0x22; 32])));
    }

    #[test]
    fn what_is_no_hash_and_no_number_is_not_there() {
        let facts = Facts::read(&metadata(&[("dg-file-sha256", "beef"), ("dg-file-size", "-1")]));
        assert_eq!(facts.missing(Kind::Whole), ["dg-file-sha256", "dg-file-size", "dg-created-at"]);
    }

    #[test]
    fn the_kind_is_told_in_several_ways() {
        for (pairs, kind) in [
            (&[("compression", "none")][..], Some(Kind::Whole)),
            (&[("dg-note", "passthrough")], Some(Kind::Whole)),
            (&[("dg-ref-path", "reference.bin")], Some(Kind::Delta)),
            (&[("dg-note", "zero-diff (reference identical)")], Some(Kind::Delta)),
            (&[("note", "reference")], Some(Kind::Reference)),
            (&[("unrelated", "x")], None),
        ] {
            assert_eq!(Facts::read(&metadata(pairs)).kind, kind, "{pairs:?}");
        }
    }

    #[test]
    fn times_compare_as_texts() {
        let texts = ["2025-09-21T12:34:56", "2025-09-21T12:34:56.1Z", "2025-09-21 12:34:56.12+00:00"];
        let times: Vec<_> = texts.iter().map(|text| comparable(text)).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        assert_eq!(comparable(ABOUT.created_at), "2025-09-21T12:34:56.000123");
    }

    #[test]
    fn texts_that_s3_would_change_are_encoded() {
        for text in ["ä.zip", " a", "a ", "=?x", "日本語", "a\u{7f}"] {
            let encoded = encode(text);
            assert!(encoded.is_ascii() && encoded != text, "{encoded}");
            assert_eq!(decode(&encoded), text);
        }
        for text in ["a b.zip", "-rf", "100%", ""] {
            assert_eq!(encode(text), text);
        }
        assert_eq!(decode("=?UTF-8?B?!!?="), "=?UTF-8?B?!!?=");
    }
}
