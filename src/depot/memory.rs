//! What the machine remembers of settled copies: records, one after the other in a file for each shard.
//!
//! Everything here may vanish or be damaged at any time: it saves requests and decides nothing but what a new copy says
//! of its chain, and so each record has a checksum. Of an object the last record counts.
//!
//! What surprises: there is no file for each object. To make one takes a file system as long as all else that is done
//! for a small object, and longer while others remove files. What a process that was killed left half written is
//! passed over.

use std::fs;
use std::path::PathBuf;

use memchr::memmem;

use super::Settled;
use crate::codec::Header;
use crate::disk;
use crate::model::limits::MEMORY_FILE_MAX_BYTES;
use crate::model::sketch::Sketch;
use crate::model::{Chain, CodecName, Key, Link, Oid};

/// The file that says that the store is of format 1. A later format adds a `needs` file to the store, which is
/// looked at by every process.
const FORMAT_MARK: &str = "format-1";

/// What a record begins with; length and CRC-32 of what follows stand behind it, four bytes each.
const RECORD_MARK: [u8; 4] = *b"\xfflfs";
const RECORD_HEAD_BYTES: usize = 12;
const OID_BYTES: usize = 32;

/// The memory of one store on this machine.
#[derive(Debug)]
pub(super) struct Memory {
    folder: Option<PathBuf>,
}

/// What is remembered of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) settled: Settled,
    /// What it looks like, where that was asked when it was stored.
    pub(super) sketch: Option<Sketch>,
}

impl Memory {
    pub(super) const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Returns the settled copy of an object that was last remembered.
    pub(super) fn get(&self, oid: &Oid) -> Option<Settled> {
        Some(self.find(oid)?.settled)
    }

    /// Returns all that was last remembered of an object.
    pub(super) fn find(&self, oid: &Oid) -> Option<Remembered> {
        let bytes = fs::read(self.path(oid)?).ok()?;
        let last = last_record(&bytes, oid)?;
        parse(oid, &last[OID_BYTES..])
    }

    pub(super) fn remember(&self, oid: &Oid, settled: &Settled, sketch: Option<Sketch>) {
        let Some((own, below)) = settled.chain.links.split_first() else { return };
        // The same bytes as a copy's own header: nothing else has to be parsed and checked.
        let header = Header {
            id: own.id,
            object_size: own.object_size,
            written_size: own.written_size,
            chain: Chain { links: below.to_vec() },
        };
        let mut content = header.to_bytes();
        content.extend(own.stored_size.to_le_bytes());
        content.extend(own.codec.map_or([0; 8], |codec| *codec.as_bytes()));
        content.extend(sketch.iter().flat_map(Sketch::to_bytes));
        self.add(oid, &content);
    }

    pub(super) fn forget(&self, oid: &Oid) {
        if self.find(oid).is_some() {
            self.add(oid, &[]);
        }
    }

    fn add(&self, oid: &Oid, content: &[u8]) {
        let Some(path) = self.path(oid) else { return };
        let body = [oid.as_bytes(), content].concat();
        let record = [
            &RECORD_MARK[..],
            &(body.len() as u32).to_le_bytes(),
            &crc32fast::hash(&body).to_le_bytes(),
            &body,
        ];
        if let Err(error) = disk::append(&path, &record.concat(), MEMORY_FILE_MAX_BYTES) {
            tracing::debug!(%error, "cannot remember a copy");
        }
    }

    pub(super) fn knows_repository(&self, key: &Key) -> bool {
        self.is_marked(key.as_str())
    }

    pub(super) fn remember_repository(&self, key: &Key) {
        self.mark(key.as_str());
    }

    /// Returns whether `lfs-delta.json` was read once and found to be of the format that this program knows.
    pub(super) fn knows_format(&self) -> bool {
        self.is_marked(FORMAT_MARK)
    }

    pub(super) fn remember_format(&self) {
        self.mark(FORMAT_MARK);
    }

    fn is_marked(&self, name: &str) -> bool {
        self.folder.as_ref().is_some_and(|folder| folder.join(name).exists())
    }

    fn mark(&self, name: &str) {
        if let Some(folder) = &self.folder
            && let Err(error) = disk::replace(&folder.join(name), b"")
        {
            tracing::debug!(%error, name, "cannot remember");
        }
    }

    fn path(&self, oid: &Oid) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("settled").join(oid.shard()))
    }
}

/// Returns the last whole record of an object among bytes, without its head.
fn last_record<'a>(bytes: &'a [u8], oid: &Oid) -> Option<&'a [u8]> {
    let whole = |at: usize| {
        let record = bytes.get(at.checked_sub(RECORD_HEAD_BYTES)?..)?;
        record.starts_with(&RECORD_MARK).then(|| whole_record(record))?
    };
    // Records name their object twice, and their bases.
    memmem::rfind_iter(bytes, oid.as_bytes()).find_map(whole)
}

fn whole_record(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<RECORD_HEAD_BYTES>()?;
    let number = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let body = rest.get(..number(4)? as usize)?;
    (body.len() >= OID_BYTES && crc32fast::hash(body) == number(8)?).then_some(body)
}

fn parse(oid: &Oid, content: &[u8]) -> Option<Remembered> {
    let header = Header::read(&mut &content[..]).ok()?;
    let rest = content.get(Header::size(header.chain.depth())..)?;
    let (stored_size, rest) = rest.split_first_chunk()?;
    let (codec, rest) = rest.split_first_chunk()?;
    let own = Link {
        id: header.id,
        codec: CodecName::from_bytes(*codec),
        object_size: header.object_size,
        stored_size: u64::from_le_bytes(*stored_size),
        written_size: header.written_size,
    };
    let links = std::iter::once(own).chain(header.chain.links).collect();
    let settled = Settled { chain: Chain { links } };
    let sketch = rest.try_into().ok().map(Sketch::from_bytes);
    (header.id.oid == *oid).then_some(Remembered { settled, sketch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CopyId, Nonce};

    fn oid(seed: u8) -> Oid {
        // All in one file.
        let mut bytes = [0; 32];
        bytes[31] = seed;
        Oid::from_bytes(bytes)
    }

    fn settled(seed: u8, depth: u8) -> Settled {
        let link = |nonce| Link {
            id: CopyId { oid: oid(seed), nonce: Nonce::from_bytes([nonce; 16]) },
            codec: None,
            object_size: 1000,
            stored_size: 10,
            written_size: 1000,
        };
        Settled { chain: Chain { links: (0..depth).map(link).collect() } }
    }

    fn memory() -> (tempfile::TempDir, Memory) {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory::new(Some(folder.path().to_owned()));
        (folder, memory)
    }

    #[test]
    fn the_last_that_was_said_of_an_object_counts() {
        let (_folder, memory) = memory();
        let sketch = Sketch::new(&[Some(7); crate::model::sketch::SKETCH_BUCKETS], 1000);
        memory.remember(&oid(1), &settled(1, 1), Some(sketch));
        memory.remember(&oid(2), &settled(2, 3), None);
        let first = Remembered { settled: settled(1, 1), sketch: Some(sketch) };
        assert_eq!(memory.find(&oid(1)), Some(first));
        memory.remember(&oid(1), &settled(1, 2), None);
        assert_eq!(memory.find(&oid(1)), Some(Remembered { settled: settled(1, 2), sketch: None }));
        memory.forget(&oid(1));
        assert_eq!(memory.get(&oid(1)), None);
        assert_eq!(memory.get(&oid(2)), Some(settled(2, 3)));
    }

    #[test]
    fn half_a_record_and_a_damaged_one_are_passed_over() {
        let (_folder, memory) = memory();
        memory.remember(&oid(1), &settled(1, 1), None);
        let path = memory.path(&oid(1)).expect("a folder");
        let whole = fs::read(&path).expect("a file");
        memory.remember(&oid(2), &settled(2, 1), None);
        let both = fs::read(&path).expect("a file");
        for cut in 1..whole.len() {
            fs::write(&path, [&whole[..cut], &both].concat()).expect("written");
            assert_eq!(memory.get(&oid(1)), Some(settled(1, 1)), "behind {cut} bytes");
            assert_eq!(memory.get(&oid(2)), Some(settled(2, 1)), "behind {cut} bytes");
        }
        for at in 0..whole.len() {
            let mut damaged = both.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).expect("written");
            assert_eq!(memory.get(&oid(1)), None, "byte {at}");
            assert_eq!(memory.get(&oid(2)), Some(settled(2, 1)), "byte {at}");
        }
    }

    #[test]
    fn a_file_that_is_full_begins_anew() {
        let (_folder, memory) = memory();
        memory.remember(&oid(1), &settled(1, 1), None);
        let path = memory.path(&oid(1)).expect("a folder");
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("a file")
            .set_len(MEMORY_FILE_MAX_BYTES)
            .expect("longer");
        memory.remember(&oid(2), &settled(2, 1), None);
        assert_eq!((memory.get(&oid(1)), memory.get(&oid(2))), (None, Some(settled(2, 1))));
    }
}
