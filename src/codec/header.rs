//! The header of every copy that has a codec (`docs/format.md` section 3).
//!
//! It is a skippable frame of zstd, so that zstd's own tool unpacks a copy as it lies in the store. Its last
//! 32 bytes are the SHA-256 of what stands before: a damaged header is refused, not interpreted.

use std::io::Read;

use super::{Error, Result};
use crate::model::limits::{CHAIN_DEPTH_MAX, HEADER_MAX_BYTES};
use crate::model::{Chain, CodecName, CopyId, Link, Nonce, Oid};

const FRAME_MAGIC: u32 = 0x184D_2A5D;
const MAGIC: &[u8; 8] = b"LFSDELTA";
const VERSION: u8 = 1;
const FIXED_BYTES: usize = 80;
const LINK_BYTES: usize = 80;
const DIGEST_BYTES: usize = 32;

/// What a copy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Which copy.
    pub id: CopyId,
    /// Bytes of the object.
    pub object_size: u64,
    /// Bytes that decoding the payload writes.
    pub written_size: u64,
    /// The copies below, base first; empty for a whole copy.
    pub chain: Chain,
}

impl Header {
    /// Returns how many bytes a header over `links` copies takes.
    pub const fn size(links: usize) -> usize {
        8 + FIXED_BYTES + links * LINK_BYTES + DIGEST_BYTES
    }

    /// Returns the bytes of the header, frame included.
    pub fn to_bytes(&self) -> Vec<u8> {
        let links = &self.chain.links;
        let mut bytes = Vec::with_capacity(Self::size(links.len()));
        bytes.extend(FRAME_MAGIC.to_le_bytes());
        bytes.extend(((Self::size(links.len()) - 8) as u32).to_le_bytes());
        bytes.extend(MAGIC);
        bytes.extend([VERSION, if links.is_empty() { 1 } else { 2 }, links.len() as u8, 0, 0, 0, 0, 0]);
        bytes.extend(self.object_size.to_le_bytes());
        bytes.extend(self.written_size.to_le_bytes());
        put_id(&mut bytes, &self.id);
        for link in links {
            put_id(&mut bytes, &link.id);
            bytes.extend(link.codec.map_or([0; 8], |codec| *codec.as_bytes()));
            bytes.extend(link.object_size.to_le_bytes());
            bytes.extend(link.stored_size.to_le_bytes());
            bytes.extend(link.written_size.to_le_bytes());
        }
        let digest = Oid::of(&bytes[8..]);
        bytes.extend(digest.as_bytes());
        bytes
    }

    /// Reads a header from where a copy begins, and nothing of the payload.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged, cut, or of a version that is not known; `Io` from the reader.
    pub fn read(reader: &mut dyn Read) -> Result<Self> {
        let mut frame = [0; 8];
        fill(reader, &mut frame)?;
        let mut fields = Fields(&frame);
        let (magic, size) = (fields.u32()?, fields.u32()? as usize);
        let fits = (FIXED_BYTES + DIGEST_BYTES..=HEADER_MAX_BYTES).contains(&size);
        if magic != FRAME_MAGIC || !fits {
            return Err(corrupt("this is no copy of lfs-delta"));
        }
        let mut content = vec![0; size];
        fill(reader, &mut content)?;
        let (content, digest) = content.split_at(size - DIGEST_BYTES);
        if &content[..8] != MAGIC {
            return Err(corrupt("this is no copy of lfs-delta"));
        }
        if Oid::of(content).as_bytes() != digest {
            return Err(corrupt("the header is damaged"));
        }
        parse(Fields(&content[8..]))
    }
}

fn parse(mut fields: Fields<'_>) -> Result<Header> {
    let (version, kind, links) = (fields.u8()?, fields.u8()?, usize::from(fields.u8()?));
    if version != VERSION {
        return Err(corrupt("the header is of a later version of this program"));
    }
    if fields.array::<5>()? != [0; 5] || kind != if links == 0 { 1 } else { 2 } || links >= CHAIN_DEPTH_MAX {
        return Err(corrupt("the header contradicts itself"));
    }
    let (object_size, written_size) = (fields.u64()?, fields.u64()?);
    let id = fields.id()?;
    let links = (0..links).map(|_| fields.link()).collect::<Result<_>>()?;
    if !fields.0.is_empty() {
        return Err(corrupt("the header contradicts itself"));
    }
    Ok(Header { id, object_size, written_size, chain: Chain { links } })
}

fn put_id(bytes: &mut Vec<u8>, id: &CopyId) {
    bytes.extend(id.oid.as_bytes());
    bytes.extend(id.nonce.as_bytes());
}

fn fill(reader: &mut dyn Read, bytes: &mut [u8]) -> Result<()> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => corrupt("the copy ends within its header"),
        _ => Error::Io(error),
    })
}

fn corrupt(reason: &str) -> Error {
    Error::Corrupt { reason: reason.to_owned().into() }
}

/// Bytes that are taken off field by field.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk().ok_or_else(|| corrupt("the header is cut"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn id(&mut self) -> Result<CopyId> {
        Ok(CopyId { oid: Oid::from_bytes(self.array()?), nonce: Nonce::from_bytes(self.array()?) })
    }

    fn link(&mut self) -> Result<Link> {
        let id = self.id()?;
        let codec = match self.array()? {
            [0, 0, 0, 0, 0, 0, 0, 0] => None,
            name => Some(CodecName::from_bytes(name).ok_or_else(|| corrupt("the header names no codec"))?),
        };
        Ok(Link { id, codec, object_size: self.u64()?, stored_size: self.u64()?, written_size: self.u64()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: u8) -> CopyId {
        CopyId { oid: Oid::of(&[seed]), nonce: Nonce::from_bytes([seed; 16]) }
    }

    fn header(links: u8) -> Header {
        let link = |seed| Link {
            id: id(seed),
            codec: (seed % 2 == 0).then_some(CodecName::ZSTD),
            object_size: 1000 + u64::from(seed),
            stored_size: u64::MAX,
            written_size: 7,
        };
        let chain = Chain { links: (1..=links).map(link).collect() };
        Header { id: id(0), object_size: 5_000_000_000, written_size: 1, chain }
    }

    #[test]
    fn a_header_reads_as_it_was_written_and_leaves_the_payload() {
        for links in [0, 1, 15] {
            let mut bytes = header(links).to_bytes();
            assert_eq!(bytes.len(), Header::size(usize::from(links)));
            bytes.extend(b"payload");
            let mut reader = &bytes[..];
            assert_eq!(Header::read(&mut reader).expect("valid"), header(links));
            assert_eq!(reader, b"payload");
        }
    }

    #[test]
    fn any_damaged_byte_and_any_cut_is_refused() {
        let bytes = header(3).to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Header::read(&mut &damaged[..]).is_err(), "byte {at}");
            assert!(Header::read(&mut &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_chain_over_the_bound_is_refused() {
        assert!(Header::read(&mut &header(16).to_bytes()[..]).is_err());
    }

    #[test]
    fn the_stated_size_is_never_believed_beyond_the_bound() {
        let mut bytes = header(0).to_bytes();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Header::read(&mut &bytes[..]).is_err());
    }
}
