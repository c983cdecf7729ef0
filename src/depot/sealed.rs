//! Small files in which this machine remembers something: what stands in one is followed by its SHA-256.
//!
//! What surprises: that costs nothing else, and without it a bit that flips on this disk would stand in the header of a
//! new copy for ever. A file that is damaged was never written.

use std::io;
use std::path::Path;

use crate::disk;
use crate::model::Oid;

/// Bytes of a SHA-256.
const DIGEST_BYTES: usize = 32;

/// Writes a file anew in one step.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    disk::replace(path, &[content, Oid::of(content).as_bytes()].concat())
}

/// Reads what was written; `None` where nothing was, or something else stands there.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path).ok()?;
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>()?;
    if Oid::of(content).as_bytes() != digest {
        return None;
    }
    bytes.truncate(bytes.len() - DIGEST_BYTES);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_flipped_bit_was_never_written() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("file");
        assert_eq!(read(&path), None);
        write(&path, b"content").expect("write");
        assert_eq!(read(&path).as_deref(), Some(&b"content"[..]));
        let bytes = std::fs::read(&path).expect("read");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).expect("write");
            assert_eq!(read(&path), None, "bit {bit}");
        }
        std::fs::write(&path, &bytes[..20]).expect("write");
        assert_eq!(read(&path), None);
    }
}
