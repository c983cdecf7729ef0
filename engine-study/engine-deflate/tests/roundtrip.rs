//! What is encoded comes back; what is damaged fails without harm.

mod make;

use engine_deflate::scratch::Memory;
use engine_deflate::simple::Simple;
use engine_deflate::{Options, Summary, decode, encode};
use make::{Entry, Packer, Random, Style, edited, gzip, png, text, zip, zlib};

const TARGET_MAX: u64 = 64 << 20;

fn options() -> Options {
    let mut options = Options::default();
    options.limits.plain_max_bytes = 64 << 20;
    options.limits.recipe_max_bytes = 1 << 20;
    options
}

fn plain() -> Simple {
    Simple { level: 1 }
}

fn delta(base: &[u8], target: &[u8]) -> (Vec<u8>, Summary) {
    let mut out = Vec::new();
    let summary = encode(base, target, &options(), &plain(), &Memory, &mut out).expect("encodes");
    (out, summary)
}

fn rebuilt(base: &[u8], delta: &[u8]) -> engine_deflate::Result<Vec<u8>> {
    let mut out = Vec::new();
    decode(base, delta, TARGET_MAX, &options(), &plain(), &Memory, &mut out)?;
    Ok(out)
}

#[track_caller]
fn round_trip(base: &[u8], target: &[u8]) -> (usize, Summary) {
    let (delta, summary) = delta(base, target);
    assert!(rebuilt(base, &delta).expect("decodes") == target, "another target came back");
    (delta.len(), summary)
}

fn two_texts(random: &mut Random, len: usize) -> (Vec<u8>, Vec<u8>) {
    let old = text(random, len);
    let new = edited(&old, random);
    (old, new)
}

#[test]
fn a_gzip_of_any_preset_comes_back_small() {
    let mut random = Random::new(1);
    for preset in 0..36 {
        let (old, new) = two_texts(&mut random, 60_000);
        let packer = Packer { preset, ..Packer::ZLIB };
        let base = gzip(&old, packer, &mut random);
        let target = gzip(&new, packer, &mut random);
        let (size, summary) = round_trip(&base, &target);
        assert_eq!(summary.opened, 1);
        assert!(size < 2500, "preset {preset}: {size}");
        let greedy = preset % 9 < 3; // an edit changes what these levels enter into their tables
        assert!(
            summary.token_bytes < if greedy { 1000 } else { 120 },
            "preset {preset}: {} of tokens",
            summary.token_bytes
        );
    }
}

#[test]
fn streams_of_any_packer_come_back() {
    let mut random = Random::new(2);
    for _ in 0..60 {
        let len = 1 + random.below(50_000);
        let (old, new) = two_texts(&mut random, len);
        let packer = Packer::some(&mut random);
        let base = gzip(&old, packer, &mut random);
        let target = gzip(&new, packer, &mut random);
        round_trip(&base, &target);
    }
}

#[test]
fn zips_of_all_styles_come_back() {
    let mut random = Random::new(3);
    for style in [Style::Usual, Style::Descriptors, Style::Zip64] {
        let mut versions = [Vec::new(), Vec::new()];
        for index in 0..12 {
            let (old, new) = two_texts(&mut random, 5000);
            let packed = Entry::deflated(&format!("{index}"), &old, Packer::ZLIB, &mut random);
            let new = if index % 4 == 0 { new } else { old };
            versions[0].push(packed);
            versions[1].push(Entry::deflated(&format!("{index}"), &new, Packer::ZLIB, &mut random));
        }
        let (size, summary) = round_trip(&zip(&versions[0], style), &zip(&versions[1], style));
        assert_eq!((summary.opened, summary.closed), (3, 9));
        assert!(size < 2000, "{size}");
    }
}

#[test]
fn unchanged_members_are_not_opened_and_take_no_recipe() {
    let mut random = Random::new(4);
    for style in [Style::Usual, Style::Descriptors] {
        let entries: Vec<Entry> = (0..500)
            .map(|index| {
                let plain = text(&mut random, 300);
                Entry::deflated(&format!("member {index}"), &plain, Packer::ZLIB, &mut random)
            })
            .collect();
        let file = zip(&entries, style);
        let (size, summary) = round_trip(&file, &file);
        assert_eq!((summary.opened, summary.closed), (0, 500));
        assert!(size < 300, "{size}");
    }
}

#[test]
fn encrypted_members_stay_closed() {
    let mut random = Random::new(5);
    let (old, new) = two_texts(&mut random, 5000);
    let entry = |plain: &[u8], random: &mut Random| {
        let mut entry = Entry::deflated("secret", plain, Packer::ZLIB, random);
        entry.flags |= 1;
        entry.packed.iter_mut().for_each(|byte| *byte ^= random.next() as u8);
        entry
    };
    let base = zip(&[entry(&old, &mut random)], Style::Usual);
    let target = zip(&[entry(&new, &mut random)], Style::Usual);
    assert_eq!(round_trip(&base, &target).1.opened, 0);
}

#[test]
fn what_is_inside_members_is_opened() {
    let mut random = Random::new(6);
    let (old, new) = two_texts(&mut random, 20_000);
    let wrap = |plain: &[u8], random: &mut Random| {
        let inner = zip(&[Entry::deflated("deep", plain, Packer::ZLIB, random)], Style::Usual);
        let image = png(plain, 1000, Packer::ZLIB, random);
        let tar = gzip(plain, Packer::ZLIB, random);
        let entries = [
            Entry::deflated("zip in zip", &inner, Packer::ZLIB, random),
            Entry::stored("stored zip", &inner),
            Entry::deflated("image", &image, Packer::ZLIB, random),
            Entry::deflated("gzip", &tar, Packer::ZLIB, random),
        ];
        zip(&entries, Style::Usual)
    };
    let (base, target) = (wrap(&old, &mut random), wrap(&new, &mut random));
    let (size, summary) = round_trip(&base, &target);
    assert_eq!(summary.opened, 7);
    assert!(size < 4000, "{size}");
}

#[test]
fn gzips_of_many_members_are_opened_member_by_member() {
    let mut random = Random::new(7);
    let members: Vec<Vec<u8>> = (0..5).map(|_| text(&mut random, 4000)).collect();
    let mut changed = members.clone();
    changed[2] = edited(&members[2], &mut random);
    let pack = |members: &[Vec<u8>]| {
        let mut random = Random::new(70);
        members.iter().flat_map(|plain| gzip(plain, Packer::ZLIB, &mut random)).collect::<Vec<u8>>()
    };
    let summary = round_trip(&pack(&members), &pack(&changed)).1;
    assert_eq!((summary.opened, summary.closed), (1, 4));
}

#[test]
fn images_of_many_chunks_come_back() {
    let mut random = Random::new(8);
    for chunk in [1, 7, 8192, 1 << 20] {
        let (old, new) = two_texts(&mut random, 30_000);
        let base = png(&old, chunk, Packer { preset: 23, ..Packer::ZLIB }, &mut random);
        let target = png(&new, chunk, Packer { preset: 23, ..Packer::ZLIB }, &mut random);
        assert_eq!(round_trip(&base, &target).1.opened, 1);
    }
}

#[test]
fn loose_zlib_streams_are_found() {
    let mut random = Random::new(9);
    let (old, new) = two_texts(&mut random, 10_000);
    let wrap = |plain: &[u8], random: &mut Random| {
        let mut file = b"%PDF-1.7 \x78\x9c not a stream \x78\xda".to_vec();
        file.extend(zlib(plain, Packer::ZLIB, random));
        file.extend_from_slice(b"endstream x\x9c 1 0 obj");
        file.extend(zlib(&plain[..5000], Packer::ZLIB, random));
        file
    };
    let (base, target) = (wrap(&old, &mut random), wrap(&new, &mut random));
    assert!(round_trip(&base, &target).1.opened >= 1);
}

#[test]
fn damaged_containers_come_back_as_damaged() {
    let mut random = Random::new(10);
    let plain = text(&mut random, 8000);
    let sound = [
        gzip(&plain, Packer::ZLIB, &mut random),
        png(&plain, 500, Packer::ZLIB, &mut random),
        zip(&[Entry::deflated("a", &plain, Packer::ZLIB, &mut random)], Style::Usual),
        zlib(&plain, Packer::ZLIB, &mut random),
    ];
    for _ in 0..150 {
        let base = &sound[random.below(sound.len())];
        let target = edited(&sound[random.below(sound.len())], &mut random);
        round_trip(base, &target);
        round_trip(&target, base);
    }
}

#[test]
fn nothing_and_anything_come_back() {
    let mut random = Random::new(11);
    let noise: Vec<u8> = (0..5000).map(|_| random.next() as u8).collect();
    let packed = gzip(&text(&mut random, 3000), Packer::ZLIB, &mut random);
    let all: [&[u8]; 5] = [&[], b"x", &noise, &packed, &packed[..100]];
    for base in all {
        for target in all {
            round_trip(base, target);
        }
    }
}

#[test]
fn a_stream_whose_tokens_cost_more_than_itself_stays_closed() {
    let mut random = Random::new(12);
    let letters: Vec<u8> = (0..60_000).map(|_| b'a' + random.below(2) as u8).collect();
    let packer = Packer { preset: 8, odd_tokens: 2, ..Packer::ZLIB };
    let target = gzip(&letters, packer, &mut random);
    let (size, _) = round_trip(&[], &target);
    assert!(size < target.len() * 2);
}

#[test]
fn threads_do_not_change_the_delta() {
    let mut random = Random::new(13);
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for index in 0..6 {
        let (a, b) = two_texts(&mut random, 400_000);
        old.push(Entry::deflated(&format!("{index}"), &a, Packer::ZLIB, &mut random));
        new.push(Entry::deflated(&format!("{index}"), &b, Packer::ZLIB, &mut random));
    }
    let (base, target) = (zip(&old, Style::Usual), zip(&new, Style::Usual));
    let threaded = Options { threads: 3, ..options() };
    let mut out = Vec::new();
    encode(&base, &target, &threaded, &plain(), &Memory, &mut out).expect("encodes");
    assert!(out == delta(&base, &target).0);
    let mut back = Vec::new();
    decode(&base, &out, TARGET_MAX, &threaded, &plain(), &Memory, &mut back).expect("decodes");
    assert!(back == target);
}

#[test]
fn mutated_deltas_fail_or_give_something_else_but_never_panic() {
    let mut random = Random::new(14);
    let (old, new) = two_texts(&mut random, 20_000);
    let wrap = |plain: &[u8], random: &mut Random| {
        let image = png(plain, 1000, Packer::ZLIB, random);
        let packer = Packer { odd_tokens: 20, stored: 3, block: 1000, ..Packer::ZLIB };
        let entries = [
            Entry::deflated("image", &image, Packer::ZLIB, random),
            Entry::deflated("text", plain, packer, random),
            Entry::stored("same", b"the same bytes in both versions, and enough of them to matter"),
        ];
        zip(&entries, Style::Descriptors)
    };
    let (base, target) = (wrap(&old, &mut random), wrap(&new, &mut random));
    let (delta, _) = delta(&base, &target);
    for _ in 0..3000 {
        let mut damaged = delta.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(damaged.len());
            match random.below(4) {
                0 => damaged[at] ^= 1 << random.below(8),
                1 => damaged[at] = random.next() as u8,
                2 => drop(damaged.remove(at)),
                _ => damaged.truncate(at.max(1)),
            }
        }
        let _ = rebuilt(&base, &damaged);
    }
}

#[test]
fn other_bases_fail_or_give_something_else_but_never_panic() {
    let mut random = Random::new(15);
    let (old, new) = two_texts(&mut random, 20_000);
    let base = gzip(&old, Packer::ZLIB, &mut random);
    let target = gzip(&new, Packer::ZLIB, &mut random);
    let (delta, _) = delta(&base, &target);
    for _ in 0..300 {
        let _ = rebuilt(&edited(&base, &mut random), &delta);
    }
}

#[test]
fn streams_beyond_the_limits_stay_closed() {
    let mut random = Random::new(17);
    let pack = |random: &mut Random| {
        let entries: Vec<Entry> = (0..10)
            .map(|index| {
                let plain = text(random, 20_000);
                Entry::deflated(&format!("{index}"), &plain, Packer::ZLIB, random)
            })
            .collect();
        zip(&entries, Style::Usual)
    };
    let (base, target) = (pack(&mut random), pack(&mut random));
    let mut small = options();
    small.limits.plain_max_bytes = 50_000;
    let mut out = Vec::new();
    let summary = encode(&base, &target, &small, &plain(), &Memory, &mut out).expect("encodes");
    assert_eq!(summary.opened, 2);
    let mut back = Vec::new();
    decode(&base, &out, TARGET_MAX, &small, &plain(), &Memory, &mut back).expect("decodes");
    assert!(back == target);
}

#[test]
fn nothing_beyond_the_limit_is_written() {
    let mut random = Random::new(16);
    let target = gzip(&text(&mut random, 3000), Packer::ZLIB, &mut random);
    let (delta, _) = delta(&[], &target);
    let mut out = Vec::new();
    let limit = target.len() as u64 - 1;
    assert!(decode(&[], &delta, limit, &options(), &plain(), &Memory, &mut out).is_err());
    assert!(out.len() < target.len());
}
