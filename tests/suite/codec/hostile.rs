//! Payloads and bases that somebody damaged, or made to do damage.
//!
//! Whatever they say, decoding ends soon, in little memory, without a panic, and writes no more than was
//! asked for. Each test does its work in a process of its own that may not have more than `MEMORY_MAX_KIB`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lfs_delta::codec::{self, Buffer, Effort, Error, Scratch, Work};
use lfs_delta::model::CodecName;

use super::cases::{self, Case};
use super::make::{Packer, changed, crc32, gzip};
use super::{encode, injected, is_injected, work};
use crate::support;
use crate::support::data::{Random, text};

/// Damaged payloads of each case.
const DAMAGED: u64 = if cfg!(feature = "soak") { 5_000 } else { 150 };

/// Address space of the process, which is more than its memory.
const MEMORY_MAX_KIB: usize = 1 << 20;
/// Bytes that the scratch gives to all buffers together.
const SCRATCH_MAX_BYTES: usize = 64 << 20;
/// Far above what the largest of these takes, unoptimised, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Runs the test of this name in a process of its own, and there does its work.
fn confined(name: &str, work: impl FnOnce()) {
    support::confined::confined(&format!("{}::{name}", module_path!()), MEMORY_MAX_KIB, work);
}

/// Buffers in memory, until all of them together are too large.
struct Bounded {
    held: Arc<AtomicUsize>,
}

struct Held {
    bytes: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl Scratch for Bounded {
    fn buffer(&self) -> io::Result<Box<dyn Buffer>> {
        Ok(Box::new(Held { bytes: Vec::new(), held: Arc::clone(&self.held) }))
    }
}

impl Buffer for Held {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn resize(&mut self, len: usize) -> io::Result<()> {
        let held = self.held.load(Ordering::Relaxed) - self.bytes.len() + len;
        if held > SCRATCH_MAX_BYTES {
            return Err(injected());
        }
        self.held.store(held, Ordering::Relaxed);
        Buffer::resize(&mut self.bytes, len)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Counts what is written, and fails the test when it is too much.
struct Counted {
    written: u64,
    max: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len() as u64;
        assert!(self.written <= self.max, "{} bytes were written instead of {}", self.written, self.max);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seals and decodes a payload and checks all that must hold whatever its bytes are; returns what became of it.
///
/// An attacker can compute a checksum: without a sound one, nothing behind it would be tested.
fn survive(base: &[u8], payload: &[u8], size: usize) -> codec::Result<()> {
    let payload = [payload, &crc32(payload).to_le_bytes()].concat();
    let scratch = Bounded { held: Arc::default() };
    let work = Work { scratch: &scratch, ..work(Effort::Default, 1) };
    let mut sink = Counted { written: 0, max: size as u64 };
    let started = Instant::now();
    let outcome = codec::decode(CodecName::DELTA, Some(base), &mut &payload[..], sink.max, &work, &mut sink);
    assert!(started.elapsed() < PATIENCE, "it took {:?}", started.elapsed());
    match &outcome {
        Ok(()) => assert_eq!(sink.written, sink.max, "fewer bytes than it should be, and no error"),
        Err(Error::Corrupt { .. }) => {}
        Err(error) => assert!(is_injected(error), "a corrupt payload is not {error:?}"),
    }
    outcome
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A payload with one to three things wrong, most of them near its front, where lengths are.
fn damaged(payload: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = payload.to_vec();
    for _ in 0..1 + random.below(3) {
        let near = if random.below(2) == 0 { out.len().min(60) } else { out.len() };
        let at = random.below(near.max(1)).min(out.len().saturating_sub(1));
        let end = (at + 1 + random.below(40)).min(out.len());
        match random.below(8) {
            0 => out[at] ^= 1 << random.below(8),
            1 => out[at] = random.next() as u8,
            2 => out.truncate(at.max(1)),
            3 => drop(out.drain(at..end.max(1).min(out.len() - 1).max(at))),
            4 => {
                let twice = out[at..end].to_vec();
                out.splice(at..at, twice);
            }
            5 => {
                let from = random.below(other.len());
                out.truncate(at.max(1));
                out.extend_from_slice(&other[from..]);
            }
            6 => drop(out.splice(at..end.min(at + 3), varint(1 << random.below(64)))),
            _ => drop(out.splice(at..end, random.bytes(end - at))),
        }
    }
    out
}

/// Every case and its payload, without the seal.
fn payloads() -> Vec<(Case, Vec<u8>)> {
    let coded = |case: Case| {
        let (_, mut payload) = encode(&case.base, &case.target, &work(case.effort, 1)).expect("encodes");
        payload.truncate(payload.len() - 4);
        (case, payload)
    };
    cases::all().into_iter().map(coded).collect()
}

#[test]
fn damaged_payloads_are_refused_or_give_as_many_bytes() {
    confined("damaged_payloads_are_refused_or_give_as_many_bytes", || {
        let payloads = payloads();
        let mut refused = 0;
        for (index, (case, payload)) in payloads.iter().enumerate() {
            let other = &payloads[(index + 1) % payloads.len()].1;
            for seed in 0..DAMAGED {
                println!("{}, seed {seed}", case.name);
                let payload = damaged(payload, other, &mut Random::new(seed));
                refused += u64::from(survive(&case.base, &payload, case.target.len()).is_err());
            }
        }
        let all = payloads.len() as u64 * DAMAGED;
        assert!(refused > all / 2 && refused < all, "{refused} of {all} were refused");
    });
}

#[test]
fn damaged_bases_are_refused_or_give_as_many_bytes() {
    confined("damaged_bases_are_refused_or_give_as_many_bytes", || {
        for (case, payload) in payloads() {
            for seed in 0..DAMAGED / 3 {
                println!("{}, seed {seed}", case.name);
                let mut random = Random::new(seed);
                let base = if random.below(2) == 0 {
                    changed(&case.base, &mut random)
                } else {
                    let mut base = case.base.clone();
                    let len = base.len().max(1);
                    base.iter_mut().skip(random.below(len)).take(3).for_each(|byte| *byte = !*byte);
                    base
                };
                let _ = survive(&base, &payload, case.target.len());
            }
        }
    });
}

#[test]
fn a_payload_cut_anywhere_is_refused() {
    confined("a_payload_cut_anywhere_is_refused", || {
        for (case, payload) in payloads() {
            for end in (0..60.min(payload.len())).chain((60..payload.len()).step_by(payload.len() / 40 + 1)) {
                let outcome = survive(&case.base, &payload[..end], case.target.len());
                assert!(outcome.is_err(), "{} cut at {end} of {}", case.name, payload.len());
            }
        }
    });
}

#[test]
fn another_size_is_refused() {
    confined("another_size_is_refused", || {
        for (case, payload) in payloads() {
            let size = case.target.len();
            for size in [0, 1, size - 1, size + 1, size * 2, usize::MAX] {
                assert!(survive(&case.base, &payload, size).is_err(), "{} as {size} bytes", case.name);
            }
        }
    });
}

/// A delta of containers with these lengths (target, expanded base, expanded target) and recipes.
fn forged(lengths: [u64; 3], base_recipe: [&[u8]; 2], flat: &[u8], target_recipe: [&[u8]; 2]) -> Vec<u8> {
    let section = |bytes: &[u8]| [&varint(bytes.len() as u64), bytes].concat();
    let packed = |plain: &[u8]| {
        let frame = zstd::bulk::compress(plain, 1).expect("compresses");
        [varint(plain.len() as u64), section(&frame)].concat()
    };
    let recipe = |columns: [&[u8]; 2]| columns.map(packed).concat();
    let lengths = lengths.map(varint).concat();
    [&[1, 1], &lengths[..], &recipe(base_recipe), &section(flat), &recipe(target_recipe), &[0]].concat()
}

/// A flat delta of this method and these lengths with nothing in it.
fn empty_flat(method: u8, base: u64, target: u64) -> Vec<u8> {
    [&[method], &varint(base)[..], &varint(target), &[0, 0, 0]].concat()
}

/// The base's recipe that leaves it as it is; the operation is an end.
const AS_IT_IS: [&[u8]; 2] = [&[0], &[]];

#[test]
fn a_payload_that_claims_to_expand_to_gigabytes_is_given_nothing() {
    confined("a_payload_that_claims_to_expand_to_gigabytes_is_given_nothing", || {
        for method in 0..3 {
            let flat = empty_flat(method, 10, 8 << 30);
            let payload = forged([10, 10, 8 << 30], AS_IT_IS, &flat, AS_IT_IS);
            let outcome = survive(b"0123456789", &payload, 10);
            assert!(matches!(outcome, Err(Error::Corrupt { .. })), "method {method}: {outcome:?}");
        }
    });
}

#[test]
fn a_recipe_of_endless_members_is_refused() {
    confined("a_recipe_of_endless_members_is_refused", || {
        let (many_closed, no_lengths) = (vec![1; 30 << 20], vec![0; 60 << 20]);
        let flat = empty_flat(2, 10, 10);
        let payload = forged([10, 10, 10], [&many_closed, &no_lengths], &flat, AS_IT_IS);
        assert!(matches!(survive(b"0123456789", &payload, 10), Err(Error::Corrupt { .. })));
        let payload = forged([10, 10, 10], AS_IT_IS, &flat, [&many_closed, &no_lengths]);
        assert!(matches!(survive(b"0123456789", &payload, 10), Err(Error::Corrupt { .. })));
    });
}

#[test]
fn the_worst_text_takes_a_bounded_number_of_steps() {
    confined("the_worst_text_takes_a_bounded_number_of_steps", || {
        let letters: Vec<u8> = Random::new(12).bytes(100_000).iter().map(|byte| b'a' + (byte & 1)).collect();
        let target = gzip(&letters, Packer::Usual(9));
        for effort in super::EFFORTS {
            let (_, payload) = encode(&[], &target, &work(effort, 1)).expect("encodes");
            survive(&[], &payload, target.len()).expect("decodes");
        }
    });
}

#[test]
fn a_bomb_writes_no_more_than_was_asked_for() {
    confined("a_bomb_writes_no_more_than_was_asked_for", || {
        let zeros = vec![0; 4 << 20];
        let packed = gzip(&zeros, Packer::Usual(9));
        for (target, size) in [(&zeros, 1_000), (&packed, 1_000), (&gzip(&packed, Packer::Usual(9)), 100)] {
            let (_, payload) = encode(&text(1, 100), target, &work(Effort::Default, 1)).expect("encodes");
            let (real, lie) = (varint(target.len() as u64), varint(size as u64));
            let lies = |from: usize| payload[from..].starts_with(&real).then_some(from);
            let at = (0..payload.len()).find_map(lies).expect("the payload says its size");
            let payload = [&payload[..at], &lie, &payload[at + real.len()..]].concat();
            assert!(survive(&text(1, 100), &payload, size).is_err());
        }
    });
}
