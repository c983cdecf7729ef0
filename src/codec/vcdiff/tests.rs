//! Both ways with ourselves and with stock xdelta3, and against damage.
//!
//! xdelta3 must be installed; `tests/run.sh` does so.

use std::cell::Cell;
use std::fs;
use std::process::Command;

use super::*;
use crate::codec::Error;

/// Bytes without a pattern, the same in every run.
pub(super) fn noise(size: usize, mut state: u64) -> Vec<u8> {
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..size).map(next).collect()
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize
    }

    fn noise(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self, size: usize) -> Vec<u8> {
        const WORDS: [&str; 6] = ["reference ", "delta, ", "a ", "copy\n", "of the ", "payload "];
        let mut text = Vec::new();
        while text.len() < size {
            text.extend(WORDS[self.next() % WORDS.len()].bytes());
            text.extend((self.next() % 1000).to_string().bytes());
        }
        text
    }

    /// Changes, inserts, removes and moves some pieces.
    fn edit(&mut self, bytes: &[u8], edits: usize) -> Vec<u8> {
        let mut edited = bytes.to_vec();
        for _ in 0..edits {
            let at = self.next() % edited.len();
            let end = (at + 1 + self.next() % 300).min(edited.len());
            match self.next() % 4 {
                0 => edited[at] ^= 1 + self.next() as u8 % 255,
                1 => drop(edited.splice(at..at, self.noise(end - at))),
                2 if edited.len() > 1000 => drop(edited.drain(at..end)),
                _ => {
                    let moved: Vec<u8> = edited[at..end].to_vec();
                    let to = self.next() % edited.len();
                    drop(edited.splice(to..to, moved));
                }
            }
        }
        edited
    }
}

/// Pairs of base and target with a name.
fn pairs() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut random = Random(0x5EED);
    let (text, noise) = (random.text(300_000), random.noise(200_000));
    let edited_text = random.edit(&text, 200);
    let edited_noise = random.edit(&noise, 50);
    let dense: Vec<u8> = (0..100_000).map(|_| (random.next() % 200) as u8).collect();
    let runs = [vec![0; 70_000], random.noise(100), vec![7; 5_000]].concat();
    vec![
        ("nothing", Vec::new(), Vec::new()),
        ("no base", Vec::new(), text.clone()),
        ("no target", text.clone(), Vec::new()),
        ("the same", text.clone(), text.clone()),
        ("tiny", b"a".to_vec(), b"ab".to_vec()),
        ("text", text.clone(), edited_text),
        ("noise", noise.clone(), edited_noise),
        ("dense", text.clone(), [&text[..50_000], &dense, &text[..9]].concat()),
        ("unrelated", noise, text.clone()),
        ("runs", text, runs),
    ]
}

fn encoded(base: &[u8], target: &[u8], effort: Effort) -> Vec<u8> {
    let mut delta = Vec::new();
    encode(base, target, effort, &mut delta, &|| Ok(())).expect("encodes");
    delta
}

fn decoded(base: &[u8], delta: &[u8], target_max: u64) -> (Result<u64>, Vec<u8>) {
    let mut target = Vec::new();
    let size = decode(base, &mut &delta[..], target_max, &mut target, &|| Ok(()));
    (size, target)
}

/// Decodes what must not be decoded and returns why not.
fn refusal(base: &[u8], delta: &[u8]) -> String {
    match decoded(base, delta, 1 << 20).0 {
        Err(Error::Corrupt { reason }) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

fn assert_decodes(what: &str, base: &[u8], delta: &[u8], target: &[u8]) {
    let (size, written) = decoded(base, delta, target.len() as u64);
    assert_eq!(size.unwrap_or_else(|error| panic!("{what}: {error}")), target.len() as u64, "{what}");
    assert!(written == target, "{what}: other bytes");
}

#[test]
fn what_was_encoded_decodes() {
    for (name, base, target) in pairs() {
        for effort in [Effort::Fast, Effort::Default, Effort::Max] {
            let delta = encoded(&base, &target, effort);
            assert!(delta == encoded(&base, &target, effort), "{name}: not the same bytes again");
            assert_decodes(name, &base, &delta, &target);
        }
    }
}

#[test]
fn windows_share_their_compression() {
    let mut random = Random(3);
    let base = random.text(9 << 20);
    let target = [random.edit(&base, 1000), random.text(9 << 20)].concat();
    assert!(target.len() > 16 << 20, "one window is no test");
    let delta = encoded(&base, &target, Effort::Fast);
    assert!(delta.len() < target.len() / 4);
    assert_decodes("two windows", &base, &delta, &target);
    assert_stock_decodes("two windows", &base, &delta, &target);
}

#[test]
fn windows_of_dense_data_share_their_compression() {
    let mut random = Random(6);
    let dense = |random: &mut Random| (0..300_000).map(|_| (random.next() % 200) as u8).collect::<Vec<u8>>();
    let base = random.noise(16 << 20);
    let target = [&dense(&mut random), &base[..], &dense(&mut random)].concat();
    let delta = encoded(&base, &target, Effort::Default);
    assert!(delta.len() < 600_000 * 99 / 100);
    assert_decodes("two windows", &base, &delta, &target);
    assert_stock_decodes("two windows", &base, &delta, &target);
}

#[test]
fn a_delta_holds_little_of_what_the_base_has() {
    let mut random = Random(4);
    let base = random.noise(1 << 20);
    let mut target = base[500_000..].to_vec();
    target.extend(random.noise(1000));
    target.extend(&base[..500_000]);
    let size = encoded(&base, &target, Effort::Default).len();
    assert!(size < 1100, "{size} bytes for 1000 new ones and two copies");
}

#[test]
fn many_copies_at_one_shift_have_free_addresses() {
    let mut random = Random(5);
    let base = random.noise(3 << 20);
    let mut target = random.noise(77);
    target.extend(&base);
    for at in (1000..target.len()).step_by(1000) {
        target[at] ^= 0x55;
    }
    let (copies, size) = (target.len() / 1000, encoded(&base, &target, Effort::Default).len());
    assert!(size < copies * 3, "{size} bytes for {copies} changed bytes");
}

/// Runs xdelta3 on a base and an input and returns what it made.
fn run_xdelta3(arguments: &[&str], base: &[u8], input: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("base"), base).expect("writes");
    fs::write(folder.path().join("input"), input).expect("writes");
    let mut command = Command::new("xdelta3");
    command.current_dir(folder.path()).args(arguments).args(["-f", "-s", "base", "input", "output"]);
    let output = command.output().expect("xdelta3 runs: install it with `apt-get install xdelta3`");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    fs::read(folder.path().join("output")).expect("reads")
}

fn assert_stock_decodes(what: &str, base: &[u8], delta: &[u8], target: &[u8]) {
    assert!(run_xdelta3(&["-d", "-D"], base, delta) == target, "{what}: stock xdelta3 makes other bytes");
}

#[test]
fn stock_xdelta3_decodes_ours() {
    for (name, base, target) in pairs() {
        for effort in [Effort::Fast, Effort::Default, Effort::Max] {
            assert_stock_decodes(name, &base, &encoded(&base, &target, effort), &target);
        }
    }
}

#[test]
fn ours_decodes_stock_xdelta3() {
    let options: [&[&str]; 9] = [
        &["-9"],
        &["-9", "-S", "djw"],
        &["-9", "-S", "none"],
        &["-9", "-A"],
        &["-9", "-n"],
        &["-9", "-S", "djw", "-A", "-n"],
        &["-1", "-S", "djw", "-W", "16384"],
        &["-3", "-W", "16384"],
        &["-0"],
    ];
    for (name, base, target) in pairs() {
        for options in options {
            let delta = run_xdelta3(&[&["-e", "-D"], options].concat(), &base, &target);
            assert_decodes(&format!("{name}, {options:?}"), &base, &delta, &target);
        }
    }
}

#[test]
fn fgk_is_refused_by_name() {
    let (_, base, target) = pairs().swap_remove(5);
    let delta = run_xdelta3(&["-e", "-9", "-D", "-S", "fgk"], &base, &target);
    assert!(refusal(&base, &delta).contains("FGK"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let delta = |bytes: &[u8]| [&[0xD6, 0xC3, 0xC4, 0][..], bytes].concat();
    let refused = |bytes: &[u8]| refusal(b"base", &delta(bytes));
    assert!(refused(&[2, 5, 4, 3]).contains("code table"));
    assert!(refused(&[1, 16]).contains("FGK"));
    assert!(refused(&[1, 3]).contains("secondary"));
    assert!(refused(&[8]).contains("header"));
    assert!(refused(&[0, 2, 4, 0]).contains("earlier windows"));
    assert!(refused(&[0, 8]).contains("kind"));
    assert!(refused(&[0, 0, 5, 1, 1, 0, 0, 0]).contains("compressed"), "without a secondary compression");
    assert!(refused(&[0, 1, 5, 0]).contains("base"), "a segment of five of four bytes");
    assert!(refused(&[0, 0, 9, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]).contains("more bytes"));
    assert!(refusal(b"", b"PK\x03\x04 no delta").contains("VCDIFF"));
}

/// The delta of one window without checksum that its instructions are given for.
fn by_hand(target_size: u8, data: &[u8], instructions: &[u8], addresses: &[u8]) -> Vec<u8> {
    let sections = [data, instructions, addresses];
    let sizes = sections.map(|section| section.len() as u8);
    let mut delta = vec![0xD6, 0xC3, 0xC4, 0, 0, 1, 4, 0, 5 + sizes.iter().sum::<u8>(), target_size, 0];
    delta.extend(sizes);
    delta.extend(sections.concat());
    delta
}

#[test]
fn instructions_mean_what_the_specification_says() {
    // RUN 3, COPY 2 from the base, COPY 4 that overlaps itself, COPY 4 from the base into the target.
    let delta = by_hand(13, b"x", &[0, 3, 19, 2, 20, 20], &[1, 7, 2]);
    assert_decodes("by hand", b"base", &delta, b"xxxasasassexx");
}

#[test]
fn instructions_that_contradict_the_window_are_refused() {
    for (target_size, data, instructions, addresses) in [
        (3, &b"abcd"[..], &[5][..], &[][..]),
        (5, b"abcd", &[5], &[]),
        (4, b"abc", &[5], &[]),
        (4, b"abcde", &[5], &[]),
        (4, b"", &[20], &[4]),
        (4, b"", &[20], &[]),
        (4, b"", &[20], &[0, 0]),
        (4, b"", &[19], &[0]),
        (4, b"", &[0, 4], &[]),
    ] {
        refusal(b"base", &by_hand(target_size, data, instructions, addresses));
    }
}

#[test]
fn every_damaged_byte_of_the_data_is_noticed() {
    let (_, base, target) = pairs().swap_remove(6);
    let delta = encoded(&base, &target, Effort::Default);
    for at in (0..delta.len()).step_by(97).chain(delta.len() - 20..delta.len()) {
        let mut damaged = delta.clone();
        damaged[at] ^= 0x10;
        let (size, written) = decoded(&base, &damaged, target.len() as u64);
        assert!(size.is_err() || written == target, "byte {at}");
        assert!(decoded(&base, &delta[..at], target.len() as u64).1 != target, "cut at {at}");
    }
    assert!(decoded(&base[1..], &delta, target.len() as u64).0.is_err(), "another base");
}

#[test]
fn mutated_deltas_neither_panic_nor_overflow() {
    let mut random = Random(0xBAD);
    let base = random.text(20_000);
    let target = random.edit(&base, 60);
    let mut deltas = vec![encoded(&base, &target, Effort::Default)];
    for secondary in ["lzma", "djw", "none"] {
        let options = ["-e", "-9", "-D", "-n", "-S", secondary, "-W", "16384"];
        deltas.push(run_xdelta3(&options, &base, &target));
    }
    for round in 0..4000 {
        let mut delta = deltas[round % deltas.len()].clone();
        for _ in 0..1 + random.next() % 3 {
            // Half of them where sizes and instructions are.
            let reach = if random.next().is_multiple_of(2) { delta.len() } else { delta.len().min(80) };
            delta[random.next() % reach] = random.next() as u8;
        }
        let target_max = (random.next() % (2 * target.len())) as u64;
        let (size, written) = decoded(&base, &delta, target_max);
        assert!(written.len() as u64 <= target_max, "round {round}");
        assert!(size.is_err() || size.is_ok_and(|size| size == written.len() as u64), "round {round}");
    }
}

#[test]
fn nothing_is_written_beyond_the_limit() {
    let (_, base, target) = pairs().swap_remove(5);
    let delta = encoded(&base, &target, Effort::Default);
    let (size, written) = decoded(&base, &delta, target.len() as u64 - 1);
    assert!(size.is_err() && written.is_empty());
}

#[test]
fn announced_sizes_take_no_memory_until_they_are_there() {
    // A window of 16 MiB, sections of 32 MiB each, and nothing else.
    let window = [0xD6, 0xC3, 0xC4, 0, 0, 0, 0xB0, 0x80, 0x80, 0x11, 0x88, 0x80, 0x80, 0, 0];
    let section = [0x90, 0x80, 0x80, 0];
    let (size, _) = decoded(b"", &[&window[..], &section, &section, &section].concat(), u64::MAX);
    assert!(size.is_err());
}

#[test]
fn an_error_of_check_ends_the_work() {
    let (_, base, target) = pairs().swap_remove(5);
    let stop = || Err(io::Error::other("stop"));
    let mut sink = Vec::new();
    assert!(matches!(encode(&base, &target, Effort::Default, &mut sink, &stop), Err(Error::Io(_))));
    let delta = encoded(&base, &target, Effort::Default);
    let outcome = decode(&base, &mut &delta[..], u64::MAX, &mut sink, &stop);
    assert!(matches!(outcome, Err(Error::Io(_))) && sink.is_empty());
    let calls = Cell::new(0);
    let count = || {
        calls.set(calls.get() + 1);
        Ok(())
    };
    encode(&base, &target, Effort::Default, &mut sink, &count).expect("encodes");
    assert!(calls.get() > 2);
}

#[test]
fn inspect_tells_what_is_between_decompressed_bytes() {
    let delta = |app_header: &[u8]| {
        let mut delta = vec![0xD6, 0xC3, 0xC4, 0, 5, 2, app_header.len() as u8];
        delta.extend(app_header);
        inspect(&mut &delta[..]).expect("a header")
    };
    let info = delta(b"b.tgz/G/a.tgz/G");
    assert_eq!((info.target_external, info.base_external), (Some(External::Gzip), Some(External::Gzip)));
    assert!(info.is_external());
    assert_eq!(info.secondary, Some(Secondary::Lzma));
    assert_eq!(info.app_header.as_deref(), Some(&b"b.tgz/G/a.tgz/G"[..]));
    assert_eq!(delta(b"b.bz2/B/a//").target_external, Some(External::Bzip2));
    assert_eq!(delta(b"b//a.xz/Y").base_external, Some(External::Xz));
    assert!(!delta(b"b.zip//a.zip/").is_external());
    assert!(!delta(b"G").is_external());
    let ours = inspect(&mut &encoded(b"", b"", Effort::Default)[..]).expect("a header");
    assert_eq!(ours, Info { secondary: None, app_header: None, target_external: None, base_external: None });
}

#[test]
fn inspect_finds_what_stock_xdelta3_noted() {
    let delta = run_xdelta3(&["-e", "-9", "-D", "-S", "djw"], b"base", &Random(8).text(9000));
    let info = inspect(&mut &delta[..]).expect("a header");
    assert_eq!(info.secondary, Some(Secondary::Djw));
    assert_eq!(info.app_header.as_deref(), Some(&b"input//base/"[..]));
    assert!(!info.is_external());
}

#[test]
fn checksums_are_those_of_adler() {
    assert_eq!(checksum(b""), 1);
    assert_eq!(checksum(b"Wikipedia"), 0x11E6_0398);
    assert_eq!(checksum(&[0xFF; 100_000]), {
        let (mut low, mut high) = (1u64, 0u64);
        for _ in 0..100_000 {
            low += 255;
            high += low;
        }
        (((high % 65521) << 16) | (low % 65521)) as u32
    });
}
