//! PNG: one zlib stream cut into IDAT chunks.

use super::scan::{Kind, Member, be32};
use crate::codec::deflate::checksum::crc32;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const IMAGE_DATA: &[u8] = b"IDAT";
/// Length and type before a chunk's data, CRC behind.
const CHUNK_BYTES: usize = 12;

/// Returns the first run of IDAT chunks of the PNG at the front of `bytes`.
pub fn members(bytes: &[u8]) -> Vec<Member> {
    image_data(bytes).into_iter().collect()
}

fn image_data(bytes: &[u8]) -> Option<Member> {
    bytes.starts_with(SIGNATURE).then_some(())?;
    let mut at = SIGNATURE.len();
    while bytes.get(at + 4..at + 8)? != IMAGE_DATA {
        at = at.checked_add(be32(bytes, at)? as usize)?.checked_add(CHUNK_BYTES)?;
    }
    let (_, len) = chunks(&bytes[at..])?;
    Some(Member { range: at..at + len, kind: Kind::ImageData })
}

/// Returns the data sizes of the IDAT chunks at the front of `bytes`, and how long they are.
///
/// Ends before the first chunk that is something else, is cut off, or has a wrong CRC.
pub fn chunks(bytes: &[u8]) -> Option<(Vec<u32>, usize)> {
    let mut sizes = Vec::new();
    let mut at = 0;
    while let Some(size) = chunk(&bytes[at..]) {
        sizes.push(size);
        at += size as usize + CHUNK_BYTES;
    }
    (!sizes.is_empty()).then_some((sizes, at))
}

/// Bytes of a chunk up to where its name ends.
pub const NAMED_BYTES: usize = 8;

/// Says whether something that calls itself a chunk of image data is at the front of `bytes`.
pub fn is_image_data(bytes: &[u8]) -> bool {
    bytes.get(4..NAMED_BYTES) == Some(IMAGE_DATA)
}

fn chunk(bytes: &[u8]) -> Option<u32> {
    let size = be32(bytes, 0)?;
    let body = bytes.get(4..(size as usize).checked_add(8)?)?;
    let is_sound = body.starts_with(IMAGE_DATA) && be32(bytes, size as usize + 8)? == crc32(&[body]);
    is_sound.then_some(size)
}

/// Returns the data of chunks of these sizes at the front of `bytes`, without their frames.
pub fn unframe(bytes: &[u8], sizes: &[u32]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    let mut at = 0;
    for &size in sizes {
        data.extend_from_slice(bytes.get(at + 8..at + 8 + size as usize)?);
        at += size as usize + CHUNK_BYTES;
    }
    Some(data)
}

/// Returns how long `len` bytes are when they are cut into chunks of these sizes.
pub fn framed_len(len: usize, sizes: &[u32]) -> Option<usize> {
    let data: usize = sizes.iter().map(|&size| size as usize).sum();
    (data == len).then_some(len + sizes.len() * CHUNK_BYTES)
}

/// Cuts `data` into chunks of these sizes.
pub fn frame(data: &[u8], sizes: &[u32]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(data.len() + sizes.len() * CHUNK_BYTES);
    let mut rest = data;
    for &size in sizes {
        let (now, later) = rest.split_at_checked(size as usize)?;
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(IMAGE_DATA);
        out.extend_from_slice(now);
        out.extend_from_slice(&crc32(&[IMAGE_DATA, now]).to_be_bytes());
        rest = later;
    }
    rest.is_empty().then_some(out)
}
