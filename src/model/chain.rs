//! The chain record: what a delta's header says of the copies below it.
//!
//! It is advice: it lets a reader fetch a chain at once and a pusher bound its cost, and proves nothing.

use super::{CodecName, CopyId, CopyName, Shape};

/// One copy of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Which copy.
    pub id: CopyId,
    /// Its codec; `None` only for a whole copy that is exactly the object's bytes.
    pub codec: Option<CodecName>,
    /// Bytes of the object.
    pub object_size: u64,
    /// Bytes of the copy in the store, header included.
    pub stored_size: u64,
    /// Bytes that decoding this copy writes.
    pub written_size: u64,
}

/// The copies from one down to its reference, nearest first; the last one is whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// The copies, each decoded against the next.
    pub links: Vec<Link>,
}

impl Chain {
    /// Returns the number of copies.
    pub fn depth(&self) -> usize {
        self.links.len()
    }

    /// Returns the bytes a reader with an empty disk fetches for all of them.
    pub fn stored_size(&self) -> u64 {
        self.links.iter().fold(0, |sum, link| sum.saturating_add(link.stored_size))
    }

    /// Returns the bytes that decoding all of them writes.
    pub fn written_size(&self) -> u64 {
        self.links.iter().fold(0, |sum, link| sum.saturating_add(link.written_size))
    }

    /// Returns the whole copy at the end.
    pub fn reference(&self) -> Option<&Link> {
        self.links.last()
    }

    /// Returns the part from link `start` down to the reference.
    pub fn below(&self, start: usize) -> Self {
        Self { links: self.links.get(start..).unwrap_or_default().to_vec() }
    }

    /// Returns the name of link `index`: a delta on the next one, or whole at the end.
    ///
    /// `None` past the end, and for a record that names no codec in the middle.
    pub fn name(&self, index: usize) -> Option<CopyName> {
        let link = self.links.get(index)?;
        let shape = match self.links.get(index + 1) {
            Some(base) => Shape::Delta { base: base.id, codec: link.codec? },
            None => Shape::Full { codec: link.codec },
        };
        Some(CopyName { id: link.id, shape })
    }
}
