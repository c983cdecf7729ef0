//! A copy: one stored file of one object, whole or as a delta on one other copy.

use std::fmt;

use super::{Oid, hex};

/// 128 random bits that make the name of one upload unlike any other, ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// Wraps 16 random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses 32 lower-case hexadecimal characters.
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).map(Self)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

/// The name of a codec as it stands in keys and headers: 1 to 8 of `a`–`z` and `0`–`9`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodecName {
    bytes: [u8; 8],
}

impl CodecName {
    /// zstd, and for deltas zstd with the base as prefix.
    pub const ZSTD: Self = Self { bytes: *b"zst\0\0\0\0\0" };

    /// The delta engine: containers opened, aligned bytes, predicted tokens and addresses.
    pub const DELTA: Self = Self { bytes: *b"d1\0\0\0\0\0\0" };

    /// Parses a name of 1 to 8 lower-case letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        // Zero bytes are the padding of the fixed form, and no part of any name.
        if text.contains('\0') {
            return None;
        }
        let mut bytes = [0; 8];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Self::from_bytes(bytes)
    }

    /// Reads the fixed form of headers: the name, then zero bytes up to eight.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(8);
        let (name, rest) = bytes.split_at(length);
        let letters = name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        (length > 0 && letters && rest.iter().all(|&byte| byte == 0)).then_some(Self { bytes })
    }

    /// Returns the fixed form of headers.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.bytes
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.bytes.iter().take_while(|&&byte| byte != 0) {
            write!(f, "{}", char::from(*byte))?;
        }
        Ok(())
    }
}

impl fmt::Debug for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodecName({self})")
    }
}

/// Which copy: its object and the nonce of its upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CopyId {
    /// The object that the copy yields.
    pub oid: Oid,
    /// The upload that made it.
    pub nonce: Nonce,
}

impl fmt::Display for CopyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.oid, self.nonce)
    }
}

/// How a copy holds its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// The whole object; without a codec exactly its bytes.
    Full {
        /// What the payload is packed with.
        codec: Option<CodecName>,
    },
    /// The difference from one other copy.
    Delta {
        /// The copy that it is decoded against.
        base: CopyId,
        /// What the payload is packed with.
        codec: CodecName,
    },
}

/// The name of a copy: everything about it but its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CopyName {
    /// Which copy.
    pub id: CopyId,
    /// How it holds its object.
    pub shape: Shape,
}

impl CopyName {
    /// Returns the base of a delta; a whole copy has none.
    pub const fn base(&self) -> Option<CopyId> {
        match self.shape {
            Shape::Full { .. } => None,
            Shape::Delta { base, .. } => Some(base),
        }
    }

    /// Returns the codec; `None` where the copy is exactly the object's bytes.
    pub const fn codec(&self) -> Option<CodecName> {
        match self.shape {
            Shape::Full { codec } => codec,
            Shape::Delta { codec, .. } => Some(codec),
        }
    }
}

/// A copy as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredCopy {
    /// Its name.
    pub name: CopyName,
    /// Bytes it occupies in the store.
    pub size: u64,
}
