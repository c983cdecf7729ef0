//! A copy that is being made: its header, then its payload.
//!
//! What surprises: that of a small object never touches the disk. A push of ten thousand of them would make, read and
//! remove as many files, each for longer than its encoding takes.

use std::io::{self, BufWriter, Read, Write};

use tempfile::NamedTempFile;

use crate::codec::{self, Encoded, Header};
use crate::disk::{self, Workspace};
use crate::model::limits::{BUFFER_BYTES, SMALL_OBJECT_MAX_BYTES};
use crate::model::{Chain, CopyId, Oid};
use crate::store::Source;

/// A copy that waits to be stored. Not proven.
pub(super) struct Draft {
    place: Place,
    pub(super) encoded: Encoded,
    pub(super) stored_size: u64,
}

/// Where it waits.
enum Place {
    Memory(Vec<u8>),
    File(NamedTempFile),
}

/// What a header says of a copy before its payload is known.
pub(super) struct Begun<'a> {
    pub(super) id: CopyId,
    pub(super) object_size: u64,
    pub(super) chain: &'a Chain,
}

impl Draft {
    /// Writes header and payload of a copy; `None` where `encode` makes none.
    ///
    /// # Errors
    /// Those of `encode`, and `Io` where a temporary file cannot be written.
    pub(super) fn write(
        begun: &Begun<'_>,
        workspace: &Workspace,
        encode: impl FnOnce(&mut dyn Write) -> codec::Result<Option<Encoded>>,
    ) -> codec::Result<Option<Self>> {
        // The header says what encoding found: its place is kept free.
        let room = vec![0; Header::size(begun.chain.depth())];
        let (mut place, encoded) = if begun.object_size <= SMALL_OBJECT_MAX_BYTES {
            let mut bytes = room;
            let encoded = encode(&mut bytes)?;
            (Place::Memory(bytes), encoded)
        } else {
            let mut file = workspace.file()?;
            let mut sink = BufWriter::with_capacity(BUFFER_BYTES, file.as_file_mut());
            sink.write_all(&room)?;
            let encoded = encode(&mut sink)?;
            sink.flush()?;
            drop(sink);
            (Place::File(file), encoded)
        };
        let Some(encoded) = encoded else { return Ok(None) };
        place.fill_room(&begun.header(encoded.written_size).to_bytes())?;
        let stored_size = place.size()?;
        Ok(Some(Self { place, encoded, stored_size }))
    }

    /// Returns a reader from its first byte on.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.place {
            Place::Memory(bytes) => Box::new(&bytes[..]),
            Place::File(file) => Box::new(file.reopen()?),
        })
    }

    /// Hashes all of it, telling `step` of the bytes.
    ///
    /// # Errors
    /// What the file system or `step` says.
    pub(super) fn hash(&self, step: &dyn Fn(u64) -> io::Result<()>) -> io::Result<Oid> {
        match &self.place {
            Place::Memory(bytes) => Ok(Oid::of(bytes)),
            Place::File(file) => disk::hash(&mut file.reopen()?, step),
        }
    }

    /// Returns it as something to be stored.
    pub(super) fn source(&self) -> Source<'_> {
        match &self.place {
            Place::Memory(bytes) => Source::Bytes(bytes),
            Place::File(file) => Source::File { path: file.path(), size: self.stored_size },
        }
    }
}

impl Place {
    fn fill_room(&mut self, header: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => bytes[..header.len()].copy_from_slice(header),
            Self::File(file) => {
                disk::rewind(file.as_file_mut())?;
                file.write_all(header)?;
            }
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => file.as_file().metadata().map(|data| data.len()),
        }
    }
}

impl Begun<'_> {
    fn header(&self, written_size: u64) -> Header {
        let Self { id, object_size, chain } = *self;
        Header { id, object_size, written_size, chain: chain.clone() }
    }
}
