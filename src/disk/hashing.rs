//! Hashing on the way, beside other work once there is much of it.

use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use crate::model::{Hasher, Oid};

/// Bytes after which a thread of its own hashes the rest: for fewer it would not pay.
const BESIDE_FROM_BYTES: u64 = 16 << 20;
/// Bytes that are handed over at a time, and how many such pieces may wait.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_MAX: usize = 4;

/// Hashes what it is given; much of it in a thread of its own, so that a large object is read, decoded or written
/// meanwhile.
#[derive(Default)]
pub struct LongHasher {
    here: Hasher,
    count: u64,
    beside: Option<Beside>,
}

/// The other thread.
struct Beside {
    piece: Vec<u8>,
    pieces: SyncSender<Vec<u8>>,
    /// Pieces that were hashed, to be filled again.
    empty: Receiver<Vec<u8>>,
    worker: JoinHandle<Hasher>,
}

impl LongHasher {
    /// Hashes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        if self.beside.is_none() && self.count > BESIDE_FROM_BYTES {
            self.beside = Beside::start(&mut self.here);
            self.count = 0; // where there was none, it is tried again as much later
        }
        match &mut self.beside {
            Some(beside) => beside.update(bytes),
            None => self.here.update(bytes),
        }
    }

    /// Returns the oid of all bytes.
    pub fn finish(self) -> Oid {
        self.beside.map_or(self.here, Beside::end).finish()
    }
}

impl Beside {
    /// Goes on with a hasher in a thread; `None` where the system has none to give.
    fn start(hasher: &mut Hasher) -> Option<Self> {
        let (pieces, received) = sync_channel::<Vec<u8>>(PIECES_MAX);
        let (hashed, empty) = channel();
        let mut begun = mem::take(hasher);
        let started = begun.clone();
        let work = move || {
            for mut piece in received {
                begun.update(&piece);
                piece.clear();
                // Nobody takes it any more when the last ones are hashed.
                let _ = hashed.send(piece);
            }
            begun
        };
        match thread::Builder::new().name("hash".into()).spawn(work) {
            Ok(worker) => Some(Self { piece: Vec::new(), pieces, empty, worker }),
            Err(_) => {
                *hasher = started;
                None
            }
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.piece.capacity() == 0 {
                self.piece = self.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES {
                self.hand_over();
            }
        }
    }

    fn hand_over(&mut self) {
        // It fails only if the thread has panicked, which `end` passes on.
        let _ = self.pieces.send(mem::take(&mut self.piece));
    }

    fn end(mut self) -> Hasher {
        self.hand_over();
        drop(self.pieces);
        self.worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// A writer that hashes what passes through it.
pub struct Hashing<W> {
    inner: W,
    hasher: LongHasher,
}

impl<W: Write> Hashing<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: LongHasher::default() }
    }

    /// Returns the writer, which may still hold bytes back, and the oid of all that was written.
    pub fn into_parts(self) -> (W, Oid) {
        (self.inner, self.hasher.finish())
    }

    /// Lets the writer pass on what it holds back, and returns as [`Self::into_parts`].
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> io::Result<(W, Oid)> {
        self.inner.flush()?;
        Ok(self.into_parts())
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_hash_to_the_oid_of_all() {
        let all: Vec<u8> = (0..BESIDE_FROM_BYTES as u32 / 2).flat_map(u32::to_le_bytes).collect();
        let ends = [0, 1, PIECE_BYTES, BESIDE_FROM_BYTES as usize, BESIDE_FROM_BYTES as usize + 1, all.len()];
        for end in ends {
            for step in [1000, PIECE_BYTES, 3 * PIECE_BYTES + 1] {
                let mut sink = Hashing::new(Vec::new());
                for piece in all[..end].chunks(step) {
                    sink.write_all(piece).expect("memory");
                }
                let is_beside = sink.hasher.beside.is_some();
                let (written, oid) = sink.finish().expect("memory");
                assert_eq!(oid, Oid::of(&all[..end]), "{end} by {step}");
                assert!(written == all[..end]);
                assert_eq!(is_beside, end as u64 > BESIDE_FROM_BYTES);
            }
        }
    }
}
