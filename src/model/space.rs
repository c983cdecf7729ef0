//! DeltaSpaces: which objects are expected to resemble each other, judged by their paths alone.
//!
//! Two paths meet when they differ only in digits that look like a version, a date or a frame's number, wherever
//! those stand. What surprises: the digits of an extension stay (`.mp3` is no version of `.mp4`), unless there
//! are only digits in it (`disk.001`).

use std::fmt;

use super::{Oid, hex};

/// What a run of digits becomes.
const FOLDED: u8 = b'#';

/// Hexadecimal words from this length on, with a digit in them, are names by content: `main.8f3c2a1b.js`.
const HASH_MIN_LETTERS: usize = 7;

/// The name of a DeltaSpace as it stands in keys: the first 128 bits of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space([u8; 16]);

impl Space {
    /// The space of this name: the value of a `deltaspace` attribute, or a folded path.
    pub fn named(name: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Oid::of(name).as_bytes()[..16]);
        Self(bytes)
    }

    /// Parses what stands in keys.
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).map(Self)
    }

    /// The space of objects that have no path. Only sketches tell them apart.
    pub fn nameless() -> Self {
        Self::named(b"")
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Space({self})")
    }
}

/// Folds what looks like a version out of a path: the name of its DeltaSpace where no attribute gives one.
pub fn fold(path: &[u8]) -> Vec<u8> {
    let extension = extension_start(path);
    let mut folded = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let rest = &path[at..];
        let begins_word = at == 0 || !path[at - 1].is_ascii_alphanumeric();
        let taken = match rest[0] {
            _ if at >= extension => 0,
            _ if begins_word && hash_len(rest) > 0 => hash_len(rest),
            b'0'..=b'9' => version_len(&path[at..extension]),
            _ => 0,
        };
        if taken > 0 {
            folded.push(FOLDED);
            at += taken;
        } else {
            folded.push(rest[0]);
            at += 1;
        }
    }
    folded
}

/// Returns where the last extension begins; the path's end where there is none, or one of digits only.
fn extension_start(path: &[u8]) -> usize {
    let name = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    let dot = path[name..].iter().rposition(|&byte| byte == b'.').map(|at| name + at);
    match dot {
        // The last digits of `tool-1.4-beta2` are behind a dot, and no extension.
        Some(dot) if is_extension(&path[dot + 1..]) => dot,
        _ => path.len(),
    }
}

fn is_extension(text: &[u8]) -> bool {
    let has_letter = text.iter().any(u8::is_ascii_alphabetic);
    text.len() <= 8 && has_letter && text.iter().all(u8::is_ascii_alphanumeric)
}

/// Returns the length of the digits that `text` begins with, single separators between digits included.
fn version_len(text: &[u8]) -> usize {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut len = digits(0);
    while text.get(len).is_some_and(|byte| b".-_".contains(byte)) && digits(len + 1) > 0 {
        len += 1 + digits(len + 1);
    }
    len
}

/// Returns the length of the hexadecimal word that `text` begins with, where it looks like a hash; else 0.
fn hash_len(text: &[u8]) -> usize {
    let len = text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let word = &text[..len];
    let is_hash = word.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_alphabetic);
    if is_hash && len >= HASH_MIN_LETTERS { len } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(path: &str) -> String {
        String::from_utf8(fold(path.as_bytes())).expect("text")
    }

    #[test]
    fn versions_dates_and_numbers_meet() {
        for (one, other) in [
            ("art/hero_v2.psd", "art/hero_v13.psd"),
            ("releases/1.4/app.zip", "releases/1.5.2/app.zip"),
            ("frames/shot_0001.exr", "frames/shot_0999.exr"),
            ("dump-2024-01-31.sql", "dump-2025_11_02.sql"),
            ("lib-1.10.0-linux.tar.gz", "lib-1.9-linux.tar.gz"),
            ("disk.001", "disk.002"),
            ("js/main.8f3c2a1b.js", "js/main.0d77aa10.js"),
            ("tool-1.4", "tool-2.0.1"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} and {other}");
        }
    }

    #[test]
    fn others_stay_apart() {
        for (one, other) in [
            ("art/hero_v2.psd", "art/villain_v2.psd"),
            ("a/song1.mp3", "a/song1.mp4"),
            ("a/x.bin", "b/x.bin"),
            ("arm64/app", "amd64/app"),
            ("decade", "facade"),
        ] {
            assert_ne!(folded(one), folded(other), "{one} and {other}");
        }
    }

    #[test]
    fn a_folded_path_can_be_read() {
        assert_eq!(folded("releases/1.4/app-x86_64.zip"), "releases/#/app-x#.zip");
        assert_eq!(folded("a/b.7z"), "a/b.7z");
        assert_eq!(folded("take 12 (final).wav"), "take # (final).wav");
        assert_eq!(folded("deadbeef.bin"), "deadbeef.bin");
        assert_eq!(folded(""), "");
    }

    #[test]
    fn the_key_is_half_of_a_sha_256() {
        let text = "e3b0c44298fc1c149afbf4c8996fb924";
        assert_eq!(
            (Space::nameless().to_string().as_str(), Space::parse(text)),
            (text, Some(Space::nameless()))
        );
    }
}
