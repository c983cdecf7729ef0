//! What is encoded comes back, bit for bit: edits of everything, at every effort, against everything.

use lfs_delta::codec::Effort;

use super::cases::filled_zip;
use super::make::{Packer, Style, between, changed, gzip, png, tar, zip};
use super::{EFFORTS, assert_comes_back, assert_whole_comes_back, work};
use crate::support::data::{Random, noise, text};

const PAIRS: u64 = if cfg!(feature = "soak") { 2_000 } else { 200 };

/// Each kind in turn, by the seed.
type Maker = fn(&[u8], &mut Random) -> Vec<u8>;

const KINDS: [(&str, Maker); 10] = [
    ("plain", |plain, _| plain.to_vec()),
    ("gzip", |plain, random| gzip(plain, Packer::any(random))),
    ("gzip of many members", |plain, random| {
        let packer = Packer::any(random);
        plain.chunks(700).flat_map(|part| gzip(part, packer)).collect()
    }),
    ("PNG of many chunks", |plain, random| {
        let chunk = [1, 50, 8192][random.below(3)];
        png(plain, chunk, Packer::any(random))
    }),
    ("ZIP", |plain, random| {
        let parts: Vec<_> = plain.chunks(900).collect();
        let names: Vec<_> = (0..parts.len()).map(|index| format!("member {index}")).collect();
        let files: Vec<_> = names.iter().map(String::as_str).zip(parts).collect();
        zip(&files, Style::ALL[random.below(4)], Packer::any(random))
    }),
    ("ZIP of everything", |plain, _| filled_zip(&plain[..plain.len().min(1_500)])),
    ("streams between bytes", |plain, random| between(plain, Packer::any(random))),
    ("tar.gz", |plain, random| {
        let (first, second) = plain.split_at(plain.len() / 2);
        gzip(&tar(&[("first", first), ("second", second)]), Packer::any(random))
    }),
    ("tar of containers", |plain, random| {
        let packer = Packer::any(random);
        tar(&[("gzip", &gzip(plain, packer)), ("zip", &zip(&[("a", plain)], Style::Usual, packer))])
    }),
    ("containers in a container", |plain, random| {
        let packer = Packer::any(random);
        let inner = zip(&[("deep", plain), ("stored", plain)], Style::Descriptors, packer);
        let middle = zip(&[("inner", &inner), ("stored inner", &inner)], Style::Zip64, packer);
        gzip(&zip(&[("middle", &middle)], Style::Usual, packer), packer)
    }),
];

/// Plain bytes of one of three sorts.
pub fn plain(random: &mut Random) -> Vec<u8> {
    let len = random.below(if cfg!(feature = "soak") { 40_000 } else { 5_000 });
    match random.below(4) {
        0 => noise(random.next(), len),
        1 => random.bytes(len).iter().map(|byte| byte & 1).collect(),
        _ => text(random.next(), len),
    }
}

/// Two versions of something. One in four is damaged, in the base, the target or both.
fn pair(seed: u64) -> (&'static str, Vec<u8>, Vec<u8>) {
    let mut random = Random::new(seed);
    let (name, make) = KINDS[seed as usize % KINDS.len()];
    let old = plain(&mut random);
    let new = changed(&old, &mut random);
    let packer = random.clone();
    let (mut base, mut target) = (make(&old, &mut packer.clone()), make(&new, &mut packer.clone()));
    if random.below(4) == 0 {
        let sides = 1 + random.below(3);
        base = if sides & 1 == 1 { changed(&base, &mut random) } else { base };
        target = if sides & 2 == 2 { changed(&target, &mut random) } else { target };
    }
    (name, base, target)
}

#[test]
fn generated_edits_come_back() {
    for seed in 0..PAIRS {
        let (name, base, target) = pair(seed);
        println!("seed {seed}: {name}, {} and {} bytes", base.len(), target.len());
        for (number, effort) in (0..).zip(EFFORTS) {
            if cfg!(feature = "soak") || seed / 10 % 3 == number {
                let work = work(effort, 1 + seed as usize % 3);
                assert_comes_back(&base, &target, &work);
            }
        }
    }
}

#[test]
fn generated_objects_come_back_against_themselves_and_nothing_and_whole() {
    for seed in 0..PAIRS / 2 {
        let (name, base, target) = pair(seed);
        println!("seed {seed}: {name}, {} and {} bytes", base.len(), target.len());
        let work = work(EFFORTS[seed as usize / 10 % 3], 1);
        let size = assert_comes_back(&target, &target, &work);
        assert!(size < 600, "{size} bytes for no change");
        assert_comes_back(&[], &target, &work);
        assert_comes_back(&base, &[], &work);
        assert_whole_comes_back(&target, &work);
    }
}

#[test]
fn nothing_and_anything_come_back() {
    let packed = gzip(&text(1, 1_000), Packer::Usual(6));
    let all: [&[u8]; 6] = [&[], b"x", b"the same text", &noise(2, 1_000), &packed, &packed[..100]];
    for effort in EFFORTS {
        for base in all {
            for target in all {
                assert_comes_back(base, target, &work(effort, 2));
            }
        }
    }
}

#[test]
fn members_that_are_longer_than_the_whole_object_come_back() {
    let zeros = gzip(&[0; 100_000], Packer::Odd);
    let object = gzip(&gzip(&zeros, Packer::Usual(9)), Packer::Usual(9));
    assert!(object.len() < zeros.len() / 10, "{} of {}", object.len(), zeros.len());
    for effort in EFFORTS {
        assert_comes_back(b"a base", &object, &work(effort, 1));
        assert_whole_comes_back(&object, &work(effort, 1));
    }
}

#[test]
fn a_member_that_ends_later_than_it_seems_hides_none_that_is_the_same() {
    // A stored block that holds what looks like the next member, the same in both.
    let mut stored = gzip(&noise(7, 600), Packer::Usual(6));
    stored.resize(700, 0);
    let last = gzip(&text(9, 900), Packer::Usual(6));
    let object =
        |seed| [gzip(&[text(seed, 700), stored.clone()].concat(), Packer::Odd), last.clone()].concat();
    for effort in EFFORTS {
        assert_comes_back(&object(1), &object(2), &work(effort, 1));
    }
}

#[test]
fn an_insertion_costs_its_bytes_and_little_more() {
    let base = noise(4, 60_000);
    let target = [&base[..30_000], &noise(5, 500), &base[30_000..]].concat();
    for effort in EFFORTS {
        let size = assert_comes_back(&base, &target, &work(effort, 1));
        assert!(size < 640, "{size} bytes at {effort:?}");
    }
}

#[test]
fn a_changed_word_costs_little_more_in_a_container_than_outside() {
    let old = text(6, 12_000);
    let new = [&old[..5_000], b" another word ", &old[5_000..]].concat();
    let outside = assert_comes_back(&old, &new, &work(Effort::Default, 1));
    let [base, target] = [old, new].map(|plain| gzip(&plain, Packer::Usual(6)));
    let inside = assert_comes_back(&base, &target, &work(Effort::Default, 1));
    assert!(inside < outside + 200, "{inside} bytes inside, {outside} outside");
}
