//! Chains: what comes out is what decoding link by link gives, whatever happens to the members on the way.

use super::*;
use crate::codec::deflate::bits::BitWriter;
use crate::codec::deflate::checksum::{adler32, crc32};
use crate::codec::deflate::emit::{Coded, Output, Stored};
use crate::codec::deflate::ledger::{BlockKind, Match};
use crate::codec::deflate::symbols::{LENGTH_SYMBOL, distance_symbol};
use crate::codec::deflate::trees::{Histogram, zlib_header};

const WORK: Work<'static> =
    Work { effort: Effort::Default, threads: 2, memory: 0, scratch: &Memory, watch: &|_| Ok(()) };

pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Lines of words, told apart by `seed`.
pub(super) fn text(seed: u64, lines: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut line = || (0..9).map(|_| format!("{:x} ", random.below(700))).collect::<String>() + "\n";
    (0..lines).flat_map(|_| line().into_bytes()).collect()
}

/// The same text with some lines of its own.
fn edited(mut text: Vec<u8>, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    for number in 0..6 {
        let at = random.below(text.len());
        text.splice(at..at, format!("edit {number} of {seed}\n").into_bytes());
    }
    text
}

/// Deflates greedily, in dynamic blocks of `block` bytes; each third one is stored.
pub(super) fn deflated(plain: &[u8], block: usize) -> Vec<u8> {
    let mut out = BitWriter::default();
    let mut seen = std::collections::HashMap::new();
    let mut at = 0;
    for number in 0.. {
        let (start, end) = (at, (at + block).min(plain.len()));
        let last = end == plain.len();
        if number % 3 == 2 {
            out.stored(plain, Stored { last, padding: 5, span: start..end }).expect("memory");
            at = end;
        } else {
            let (mut matches, mut histogram) = (Vec::new(), Histogram::new());
            while at < end {
                let (length, distance) = longest(plain, at, end, &mut seen);
                if length < 4 {
                    histogram.literals[usize::from(plain[at])] += 1;
                    at += 1;
                } else {
                    histogram.literals[257 + usize::from(LENGTH_SYMBOL[length])] += 1;
                    histogram.distances[distance_symbol(distance as u32)] += 1;
                    matches.push(Match::new(at, length, distance));
                    at += length;
                }
            }
            let (literals, distances) = histogram.zlib_lengths();
            let header = zlib_header(literals.used(), distances.used());
            let kind = BlockKind::Dynamic;
            let coded = Coded { kind, last, span: start..end, matches: &matches, header };
            out.coded(plain, coded, &histogram).expect("a block");
        }
        if last {
            break;
        }
    }
    Output::finish(out, 0)
}

fn longest(
    plain: &[u8],
    at: usize,
    end: usize,
    seen: &mut std::collections::HashMap<[u8; 4], usize>,
) -> (usize, usize) {
    let Some(key) = plain[at..end].first_chunk::<4>() else { return (0, 0) };
    let Some(from) = seen.insert(*key, at).filter(|from| at - from <= 32768) else { return (0, 0) };
    let same = plain[from..].iter().zip(&plain[at..end]).take(258).take_while(|(a, b)| a == b).count();
    (same, at - from)
}

pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let tail = [crc32(&[plain]).to_le_bytes(), (plain.len() as u32).to_le_bytes()].concat();
    [&head[..], &deflated(plain, 9000), &tail].concat()
}

fn png(plain: &[u8], chunk: usize) -> Vec<u8> {
    let data = [&[0x78, 0x9c][..], &deflated(plain, 20_000), &adler32(plain).to_be_bytes()].concat();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let head = [0, 0, 0, 9, 0, 0, 0, 9, 8, 0, 0, 0, 0];
    let chunks = data.chunks(chunk).map(|data| (b"IDAT", data));
    for (name, data) in [(b"IHDR", &head[..])].into_iter().chain(chunks).chain([(b"IEND", &[][..])]) {
        out.extend((data.len() as u32).to_be_bytes());
        out.extend(name);
        out.extend(data);
        out.extend(crc32(&[name, data]).to_be_bytes());
    }
    out
}

/// How a ZIP holds a member.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Method {
    Stored,
    Deflated,
    /// With a data descriptor behind it.
    Described,
}

pub(super) fn zip(members: &[(Method, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (index, (method, plain)) in members.iter().enumerate() {
        let bytes = if *method == Method::Stored { plain.clone() } else { deflated(plain, 9000) };
        let described = *method == Method::Described;
        let sizes = [crc32(&[plain]), bytes.len() as u32, plain.len() as u32].map(u32::to_le_bytes).concat();
        let name = format!("member{index:03}");
        let code = if *method == Method::Stored { 0 } else { 8 };
        let head = [20, 0, if described { 8 } else { 0 }, 0, code, 0, 0, 0, 0, 0];
        let offset = out.len() as u32;
        out.extend([&b"PK\x03\x04"[..], &head].concat());
        out.extend(if described { &[0; 12][..] } else { &sizes[..] });
        out.extend([&[9, 0, 0, 0][..], name.as_bytes(), &bytes].concat());
        if described {
            out.extend([&b"PK\x07\x08"[..], &sizes].concat());
        }
        directory.extend([&b"PK\x01\x02\x14\0"[..], &head, &sizes, &[9, 0], &[0; 12]].concat());
        directory.extend([&offset.to_le_bytes()[..], name.as_bytes()].concat());
    }
    let (count, start) = (members.len() as u16, out.len() as u32);
    out.extend(&directory);
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &count.to_le_bytes(), &count.to_le_bytes()].concat());
    out.extend([&(directory.len() as u32).to_le_bytes()[..], &start.to_le_bytes(), &[0, 0]].concat());
    out
}

/// The text of a member in a version: it changes in the steps whose bits are set in its number.
fn member(number: u64, version: u64) -> Vec<u8> {
    let steps = (1..=version).filter(|step| number >> (step - 1) & 1 == 1);
    steps.fold(text(number + 1, 300), |text, step| edited(text, number * 100 + step))
}

/// Versions of one file, in which members of every kind change in every pattern of four steps.
fn histories() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    use Method::{Deflated, Described, Stored};
    let versions = |make: &dyn Fn(u64) -> Vec<u8>| (0..5).map(make).collect();
    let all =
        |version: u64, method| (0..16).map(|number| (method, member(number, version))).collect::<Vec<_>>();
    let mixed = |version: u64| {
        let mut members: Vec<_> = all(version, Deflated);
        for number in 0..16 {
            let plain = member(number, version);
            let (method, content) = match number % 4 {
                0 => (Deflated, gzip(&plain)),
                1 => (Stored, png(&plain, 700)),
                2 => (Deflated, zip(&[(Deflated, plain.clone()), (Stored, plain)])),
                _ => (Stored, zip(&[(Deflated, plain)])),
            };
            members.push((method, content));
        }
        if version % 2 == 1 {
            members.swap(3, 21);
            members.insert(5, (Deflated, text(version + 500, 40)));
        }
        members
    };
    vec![
        ("zip", versions(&|version| zip(&all(version, Deflated)))),
        ("zip with descriptors", versions(&|version| zip(&all(version, Described)))),
        ("zip of all kinds", versions(&|version| zip(&mixed(version)))),
        ("gzip of a zip", versions(&|version| gzip(&zip(&all(version, Stored))))),
        ("gzip", versions(&|version| gzip(&member(15, version)))),
        ("png", versions(&|version| png(&member(15, version), 1000 + version as usize))),
        (
            "members beside each other",
            versions(&|version| (0..16).flat_map(|n| gzip(&member(n, version))).collect()),
        ),
        (
            "a container that comes and goes",
            versions(&|version| match version {
                2 => member(7, version),
                _ => zip(&all(version, Deflated)),
            }),
        ),
    ]
}

fn payloads(versions: &[Vec<u8>]) -> Vec<(Vec<u8>, Encoded)> {
    let encode = |pair: &[Vec<u8>]| {
        let mut payload = Vec::new();
        let pair = Pair { base: &pair[0], target: &pair[1] };
        let encoded = encode_delta(pair, &WORK, &mut payload).expect("memory");
        (payload, encoded)
    };
    versions.windows(2).map(encode).collect()
}

fn links<'a>(versions: &[Vec<u8>], payloads: &'a [(Vec<u8>, Encoded)]) -> Vec<Link<'a>> {
    let link = |(payload, encoded): &'a (Vec<u8>, Encoded), version: &Vec<u8>| Link {
        codec: encoded.codec,
        payload,
        size: version.len() as u64,
    };
    payloads.iter().zip(&versions[1..]).map(|(payload, version)| link(payload, version)).collect()
}

fn at_once(base: &[u8], links: &[Link<'_>]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    decode_chain(Some(base), links, &WORK, &mut out)?;
    Ok(out)
}

fn one_by_one(base: &[u8], links: &[Link<'_>]) -> Result<Vec<u8>> {
    let mut object = base.to_vec();
    for link in links {
        let mut out = Vec::new();
        decode(link.codec, Some(&object), &mut &*link.payload, link.size, &WORK, &mut out)?;
        object = out;
    }
    Ok(object)
}

#[test]
fn a_chain_decodes_to_what_its_links_decode_to() {
    for (name, versions) in histories() {
        let payloads = payloads(&versions);
        let links = links(&versions, &payloads);
        for start in 0..links.len() {
            for end in start + 1..=links.len() {
                let found = at_once(&versions[start], &links[start..end]);
                assert!(found.is_ok_and(|found| found == versions[end]), "{name}, {start} to {end}");
            }
        }
    }
}

#[test]
fn a_chain_may_start_with_a_whole_copy() {
    let (_, versions) = histories().remove(2);
    let mut whole = Vec::new();
    let opened = encode_whole_opened(&versions[0], &WORK, &mut whole).expect("memory").expect("members");
    let payloads = payloads(&versions);
    let first = Link { codec: opened.codec, payload: &whole, size: versions[0].len() as u64 };
    let links = [vec![first], links(&versions, &payloads)].concat();
    assert_eq!(at_once(&[], &links).expect("a chain"), versions[4]);
}

#[test]
fn a_damaged_chain_gives_what_its_links_give_and_never_more_than_declared() {
    let mut random = Random(20_261_125);
    for (name, versions) in histories() {
        let payloads = payloads(&versions);
        for round in 0..15 {
            let mut damaged = payloads.clone();
            let payload = &mut damaged[random.below(3)].0;
            // The seal would refuse all of it: it is made anew.
            payload.truncate(payload.len() - 4);
            match random.below(4) {
                0 => payload.truncate(random.below(payload.len())),
                1 => payload.rotate_left(1),
                _ => {
                    let at = random.below(payload.len());
                    payload[at] ^= 1 << random.below(8);
                }
            }
            let mut sum = deflate::checksum::Crc32::default();
            sum.update(payload);
            payload.extend(sum.finish().to_le_bytes());
            let links = links(&versions, &damaged);
            let (chain, single) = (at_once(&versions[0], &links), one_by_one(&versions[0], &links));
            assert!(chain.as_ref().is_ok_and(|bytes| bytes.len() <= versions[4].len()) || chain.is_err());
            assert_eq!(chain.ok(), single.ok(), "{name}, round {round}");
        }
    }
}
