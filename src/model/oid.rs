//! The oid: SHA-256 of an object's bytes, which is how git-lfs names it.

use std::fmt;

use sha2::{Digest, Sha256};

use super::hex;

/// The SHA-256 of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid([u8; 32]);

/// The text was not 64 lower-case hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an oid (64 lower-case hexadecimal characters): {0:?}")]
pub struct InvalidOid(pub String);

impl Oid {
    /// Parses 64 lower-case hexadecimal characters.
    ///
    /// # Errors
    /// `InvalidOid` with the text, cut to 80 characters.
    pub fn parse(text: &str) -> Result<Self, InvalidOid> {
        let bytes = hex::decode(text).ok_or_else(|| InvalidOid(text.chars().take(80).collect()))?;
        Ok(Self(bytes))
    }

    /// Wraps the 32 bytes of a SHA-256.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the oid of bytes that are at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first two characters: the shard that the object's copies are kept in.
    pub fn shard(&self) -> String {
        hex::encode(&self.0[..1])
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

/// Computes an oid from bytes that arrive piece by piece.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the oid of all bytes added.
    pub fn finish(self) -> Oid {
        Oid(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_oid_prints_as_it_parses() {
        let oid = Oid::parse(EMPTY).expect("valid");
        assert_eq!(oid.to_string(), EMPTY);
        assert_eq!(oid, Oid::of(b""));
        assert_eq!(oid.shard(), "e3");
    }

    #[test]
    fn a_hasher_gives_the_oid_of_the_joined_bytes() {
        let mut hasher = Hasher::default();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), Oid::of(b"abc"));
    }

    #[test]
    fn upper_case_and_short_texts_are_no_oids() {
        assert!(Oid::parse(&EMPTY.to_uppercase()).is_err());
        assert!(Oid::parse(&EMPTY[1..]).is_err());
        assert!(Oid::parse("../../../etc/passwd").is_err());
    }
}
