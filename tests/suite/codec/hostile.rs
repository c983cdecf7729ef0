//! Payloads and bases that somebody damaged, or made to do damage.
//!
//! Whatever they say, decoding ends soon, in little memory, without a panic, and writes no more than was
//! asked for. Each test does its work in a process of its own that may not have more than `MEMORY_MAX_KIB`.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lfs_delta::codec::{self, Buffer, Effort, Error, Scratch, Work};
use lfs_delta::model::CodecName;

use super::cases::{self, Case};
use super::make::{Packer, changed, crc32, gzip};
use super::{encode, injected, is_injected, work};
use crate::support;
use crate::support::data::{Random, text};
use crate::support::run::{rounds, thread_time};

/// Damaged payloads of each case; in a long run as many as there is time for.
const DAMAGED: u64 = 150;

/// Address space of the process, which is more than its memory.
const MEMORY_MAX_KIB: usize = 1 << 20;
/// Bytes that the scratch gives to all buffers together.
const SCRATCH_MAX_BYTES: usize = 64 << 20;
/// Far above what the largest of these takes, unoptimised, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let started = thread_time();
    let outcome =
        codec::decode(CodecName::DELTA, Some(base), &mut &payload[..], size as u64, &work, &mut sink);
    let took = thread_time() - started;
    assert!(took < PATIENCE, "it took {took:?}");
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

/// Does something with a case and a seed; says which when that fails.
fn with<T>(case: &Case, seed: u64, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        println!("{}, seed {seed}", case.name);
        resume_unwind(panic)
    })
}

#[test]
fn damaged_payloads_are_refused_or_give_as_many_bytes() {
    confined("damaged_payloads_are_refused_or_give_as_many_bytes", || {
        let payloads = payloads();
        let (mut refused, mut all) = (0, 0_u64);
        for seed in rounds(DAMAGED) {
            println!("seed {seed}");
            for (index, (case, payload)) in payloads.iter().enumerate() {
                let other = &payloads[(index + 1) % payloads.len()].1;
                let payload = damaged(payload, other, &mut Random::new(seed));
                let outcome = with(case, seed, || survive(&case.base, &payload, case.target.len()));
                refused += u64::from(outcome.is_err());
                all += 1;
            }
        }
        println!("{refused} of {all} were refused");
        assert!(refused > all / 2 && refused < all, "{refused} of {all} were refused");
    });
}

#[test]
fn damaged_bases_are_refused_or_give_as_many_bytes() {
    confined("damaged_bases_are_refused_or_give_as_many_bytes", || {
        let payloads = payloads();
        for seed in rounds(DAMAGED / 3) {
            println!("seed {seed}");
            for (case, payload) in &payloads {
                let mut random = Random::new(seed);
                let base = if random.below(2) == 0 {
                    changed(&case.base, &mut random)
                } else {
                    let mut base = case.base.clone();
                    let len = base.len().max(1);
                    base.iter_mut().skip(random.below(len)).take(3).for_each(|byte| *byte = !*byte);
                    base
                };
                let _ = with(case, seed, || survive(&base, payload, case.target.len()));
            }
        }
    });
}

/// A payload whose packed parts are unpacked, so that damage comes to what is in them.
#[derive(Clone)]
struct Unpacked {
    /// Version, shape and, of containers, three lengths.
    front: Vec<u8>,
    /// Operations and numbers of the base's recipe and of the target's; none in a flat payload.
    columns: Vec<Vec<u8>>,
    /// The flat delta up to its layout.
    flat: Vec<u8>,
    layout: Vec<u8>,
    /// The flat delta behind its layout.
    residue: Vec<u8>,
    tokens: Vec<u8>,
}

impl Unpacked {
    fn of(payload: &[u8]) -> Unpacked {
        let mut rest = &payload[2..];
        let is_flat = payload[1] == 0;
        let lengths = if is_flat { 0 } else { rest.len() - skip_varints(rest, 3).len() };
        let front = payload[..2 + lengths].to_vec();
        rest = &rest[lengths..];
        let mut columns = Vec::new();
        if is_flat {
            let (flat, layout, residue) = unpack_flat(rest);
            return Unpacked { front, columns, flat, layout, residue, tokens: Vec::new() };
        }
        columns.extend([take_packed(&mut rest), take_packed(&mut rest)]);
        let (flat, layout, residue) = unpack_flat(take_section(&mut rest));
        columns.extend([take_packed(&mut rest), take_packed(&mut rest)]);
        Unpacked { front, columns, flat, layout, residue, tokens: rest.to_vec() }
    }

    /// The parts that are packed in a payload, but for those without a byte.
    fn packed(&mut self) -> Vec<&mut Vec<u8>> {
        self.columns.iter_mut().chain([&mut self.layout]).filter(|part| !part.is_empty()).collect()
    }

    fn payload(&self) -> Vec<u8> {
        let mut flat = self.flat.clone();
        if flat[0] < 2 {
            flat.extend(varint(self.layout.len() as u64));
        }
        if !self.layout.is_empty() {
            flat.extend(section(&zstd::bulk::compress(&self.layout, 1).expect("compresses")));
        }
        flat.extend(&self.residue);
        let raw = |plain: &Vec<u8>| [varint(plain.len() as u64), section(plain)].concat();
        let columns: Vec<_> = self.columns.iter().map(raw).collect();
        if columns.is_empty() {
            return [&self.front[..], &flat].concat();
        }
        let (base, target) = columns.split_at(2);
        let (base, target) = (base.concat(), target.concat());
        [&self.front[..], &base, &section(&flat), &target, &self.tokens].concat()
    }
}

/// A flat delta up to its layout, the layout, and what is behind.
fn unpack_flat(flat: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut rest = skip_varints(&flat[1..], 3);
    take_section(&mut rest);
    let front = flat[..flat.len() - rest.len()].to_vec();
    let has_layout = flat[0] < 2 && take_varint(&mut rest) > 0;
    let layout = if has_layout { unpack(take_section(&mut rest)) } else { Vec::new() };
    (front, layout, rest.to_vec())
}

fn section(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len() as u64), bytes].concat()
}

fn unpack(frame: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(frame).expect("a frame of zstd")
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let len = bytes.iter().position(|byte| *byte < 0x80).expect("an end") + 1;
    let (varint, rest) = bytes.split_at(len);
    *bytes = rest;
    varint.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

fn skip_varints(mut bytes: &[u8], count: usize) -> &[u8] {
    for _ in 0..count {
        take_varint(&mut bytes);
    }
    bytes
}

fn take_section<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let len = take_varint(bytes) as usize;
    let (section, rest) = bytes.split_at(len);
    *bytes = rest;
    section
}

fn take_packed(bytes: &mut &[u8]) -> Vec<u8> {
    let plain = take_varint(bytes) as usize;
    let section = take_section(bytes);
    if section.len() == plain { section.to_vec() } else { unpack(section) }
}

#[test]
fn damaged_recipes_and_layouts_are_refused_or_give_as_many_bytes() {
    confined("damaged_recipes_and_layouts_are_refused_or_give_as_many_bytes", || {
        let payloads = payloads();
        let mut unpacked: Vec<_> =
            payloads.iter().map(|(case, payload)| (case, Unpacked::of(payload))).collect();
        unpacked.retain_mut(|(_, unpacked)| !unpacked.packed().is_empty());
        assert!(unpacked.len() > 5, "only {} have packed parts", unpacked.len());
        for (case, unpacked) in &unpacked {
            survive(&case.base, &unpacked.payload(), case.target.len()).expect("nothing is damaged yet");
        }
        let (mut refused, mut all) = (0, 0_u64);
        for seed in rounds(DAMAGED) {
            println!("seed {seed}");
            for (case, whole) in &unpacked {
                let mut random = Random::new(seed);
                let mut unpacked = whole.clone();
                let mut packed = unpacked.packed();
                let (part, other) = (random.below(packed.len()), random.below(packed.len()));
                let other = packed[other].clone();
                *packed[part] = damaged(packed[part], &other, &mut random);
                let payload = unpacked.payload();
                let outcome = with(case, seed, || survive(&case.base, &payload, case.target.len()));
                refused += u64::from(outcome.is_err());
                all += 1;
            }
        }
        println!("{refused} of {all} were refused");
        assert!(refused > all / 4 && refused < all, "{refused} of {all} were refused");
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
