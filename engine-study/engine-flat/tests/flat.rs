//! What the engine promises: targets come back, damaged deltas are refused or stay bounded.

use engine_flat::{Effort, Options, decode, decode_into, encode};

/// A generator whose seed a failing test prints.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound.max(1)
    }

    fn bytes(&mut self, len: usize, alphabet: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(alphabet) as u8).collect()
    }
}

const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Default, Effort::Max];

fn delta_of(base: &[u8], target: &[u8], effort: Effort) -> Vec<u8> {
    let mut delta = Vec::new();
    let options = Options { effort, seed_table_bytes_max: 1 << 20, ..Options::default() };
    let summary = encode(base, target, &options, &mut delta).expect("a sink in memory");
    assert_eq!(summary.delta_len, delta.len() as u64);
    delta
}

fn assert_comes_back(base: &[u8], target: &[u8], what: &str) {
    for effort in EFFORTS {
        let delta = delta_of(base, target, effort);
        let back = decode(base, &delta, target.len() as u64).expect(what);
        assert!(back == target, "{what} differs at {effort:?}");
    }
}

/// One random edit.
fn edit(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let len_max = if random.below(4) == 0 { 20_000 } else { 300 };
    let len = random.below(len_max);
    let end = (at + len).min(bytes.len());
    match random.below(6) {
        0 => drop(bytes.splice(at..at, random.clone().bytes(len, 256))),
        1 => drop(bytes.drain(at..end)),
        2 => bytes[at..end].fill(random.next() as u8),
        3 => {
            let moved: Vec<u8> = bytes.drain(at..end).collect();
            let to = random.below(bytes.len() + 1);
            drop(bytes.splice(to..to, moved));
        }
        4 => bytes[at..end].iter_mut().step_by(7).for_each(|byte| *byte = byte.wrapping_add(3)),
        _ => bytes.truncate(at.max(bytes.len() / 2)),
    }
}

#[test]
fn randomly_edited_targets_come_back() {
    for seed in 1..=60u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let len = random.below(200_000);
        let alphabet = [2, 20, 256][random.below(3)];
        let base = random.bytes(len, alphabet);
        let mut target = base.clone();
        for _ in 0..random.below(12) {
            edit(&mut random, &mut target);
        }
        assert_comes_back(&base, &target, &format!("seed {seed}"));
    }
}

#[test]
fn empty_and_tiny_inputs_come_back() {
    let some = Random(5).bytes(100, 256);
    for (base, target) in [(0, 0), (0, 1), (1, 0), (0, 100), (100, 0), (15, 17), (100, 100)] {
        assert_comes_back(&some[..base], &some[..target], &format!("{base} to {target} bytes"));
    }
}

#[test]
fn one_insertion_costs_little_more_than_its_bytes() {
    let mut random = Random(11);
    let base = random.bytes(500_000, 256);
    let mut target = base.clone();
    let inserted = random.bytes(1000, 256);
    drop(target.splice(250_000..250_000, inserted));
    let delta = delta_of(&base, &target, Effort::Default);
    assert!(delta.len() < 1150, "{} bytes", delta.len());
}

#[test]
fn long_repeats_are_not_quadratic() {
    let mut base = vec![0u8; 8 << 20];
    let mut random = Random(3);
    for _ in 0..400 {
        let at = random.below(base.len() - 8);
        base[at] = 1;
    }
    let mut target = base.clone();
    for _ in 0..400 {
        let at = random.below(target.len() - 8);
        target[at..at + 8].fill(2);
    }
    target.drain(77..1234);
    let clock = std::time::Instant::now();
    assert_comes_back(&base, &target, "zeros");
    assert!(clock.elapsed().as_secs() < 60, "{:?}", clock.elapsed());
}

/// A 64-bit ELF image whose code calls `calls` targets, after `inserted` bytes at half way.
fn image_with_calls(machine: u8, calls: usize, inserted: usize) -> Vec<u8> {
    const CODE_AT: usize = 4096;
    let mut random = Random(99);
    let function = 64;
    let half = calls / 2;
    let place = |index: usize| index * function + if index >= half { inserted } else { 0 };
    let mut code = vec![0x90u8; calls * function + inserted];
    for index in 0..calls {
        let at = place(index);
        for (offset, byte) in random.bytes(function - 8, 64).into_iter().enumerate() {
            code[at + offset] = byte | 0x90;
        }
        let target = place(random.below(calls)) as i64;
        let from = at + function - 8;
        if machine == 62 {
            code[from] = 0xE8;
            let relative = (target - (from as i64 + 5)) as i32;
            code[from + 1..from + 5].copy_from_slice(&relative.to_le_bytes());
        } else {
            let words = ((target - from as i64) >> 2) as u32 & 0x03FF_FFFF;
            code[from..from + 4].copy_from_slice(&(0x9400_0000 | words).to_le_bytes());
        }
    }
    let mut image = vec![0u8; CODE_AT];
    image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    image[16] = 3;
    image[18] = machine;
    image[32] = 64;
    image[54] = 56;
    image[56] = 1;
    image[64] = 1;
    image[68] = 5;
    let numbers = [(72, CODE_AT), (80, 0x40_0000), (96, code.len()), (104, code.len())];
    for (at, number) in numbers {
        image[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
    }
    image.extend(code);
    image
}

#[test]
fn calls_over_an_insertion_are_predicted() {
    for machine in [62, 183] {
        let (base, target) =
            (image_with_calls(machine, 4000, 0), image_with_calls(machine, 4000, 4096));
        assert_comes_back(&base, &target, "an image");
        let delta = delta_of(&base, &target, Effort::Default);
        assert!(delta.len() < 1000, "machine {machine}: {} bytes", delta.len());
    }
}

#[test]
fn nudged_floats_cost_less_than_half() {
    let floats = |nudge: f32| -> Vec<u8> {
        let value = |at: u32| (at as f32 * 0.37).sin() * (1.0 + nudge * (at as f32 * 0.11).cos());
        (0..1 << 18).flat_map(|at| value(at).to_le_bytes()).collect()
    };
    let (base, target) = (floats(0.0), floats(1e-4));
    assert_comes_back(&base, &target, "floats");
    let delta = delta_of(&base, &target, Effort::Default);
    assert!(delta.len() < target.len() / 2, "{} of {}", delta.len(), target.len());
}

#[test]
fn threads_change_nothing() {
    let mut random = Random(21);
    let base = random.bytes(70 << 20, 4);
    let mut target = base.clone();
    for _ in 0..20 {
        edit(&mut random, &mut target);
    }
    let encoded = |threads: usize| {
        let mut delta = Vec::new();
        let options = Options { threads, ..Options::default() };
        encode(&base, &target, &options, &mut delta).expect("a sink in memory");
        delta
    };
    let delta = encoded(1);
    assert!(delta == encoded(3), "encodings differ");
    let mut back = Vec::new();
    decode_into(&base, &delta, target.len() as u64, 3, &mut back).expect("undamaged");
    assert!(back == target);
}

/// Whatever a changed delta gives has the declared size.
fn assert_refused_or_bounded(base: &[u8], delta: &[u8], target_len: usize) -> bool {
    match decode(base, delta, target_len as u64) {
        Ok(bytes) => {
            assert_eq!(bytes.len(), target_len);
            false
        }
        Err(_) => true,
    }
}

#[test]
fn changed_deltas_are_refused_or_bounded() {
    let mut random = Random(77);
    let mut text = random.bytes(60_000, 20);
    let base = text.clone();
    for _ in 0..10 {
        edit(&mut random, &mut text);
    }
    let image = (image_with_calls(62, 600, 0), image_with_calls(62, 600, 512));
    let floats: Vec<u8> = (0..30_000u32).flat_map(|at| (at as f32).sin().to_le_bytes()).collect();
    let nudged: Vec<u8> =
        (0..30_000u32).flat_map(|at| ((at as f32).sin() * 1.0001).to_le_bytes()).collect();
    let pairs = [(base, text), image, (floats, nudged)];
    let mut refused = 0;
    for (base, target) in &pairs {
        for effort in [Effort::Default, Effort::Max] {
            let delta = delta_of(base, target, effort);
            for turn in 0..700 {
                let mut changed = delta.clone();
                let near = if turn % 2 == 0 { 60.min(delta.len()) } else { delta.len() };
                for _ in 0..1 + random.below(3) {
                    let at = random.below(near);
                    changed[at] = random.next() as u8;
                }
                if turn % 9 == 0 {
                    changed.truncate(random.below(delta.len()));
                }
                refused += usize::from(assert_refused_or_bounded(base, &changed, target.len()));
            }
        }
    }
    assert!(refused > 500, "only {refused} refused");
}

#[test]
fn text_comes_back_with_and_without_alignment() {
    let mut random = Random(31);
    let words = b"delta base target copy chain object hint ".repeat(3000);
    let mut target = words.clone();
    for _ in 0..300 {
        let at = random.below(target.len());
        target[at] = b'x';
    }
    for needs_alignment in [false, true] {
        let mut delta = Vec::new();
        let options = Options { needs_alignment, ..Options::default() };
        let summary = encode(&words, &target, &options, &mut delta).expect("a sink in memory");
        assert!(!needs_alignment || !summary.segments.is_empty());
        let mut back = Vec::new();
        let segments = decode_into(&words, &delta, target.len() as u64, 1, &mut back);
        assert_eq!(segments.expect("undamaged"), summary.segments);
        assert!(back == target);
    }
}

#[test]
fn another_base_or_size_is_refused() {
    let base = Random(8).bytes(10_000, 256);
    let delta = delta_of(&base, &base[100..], Effort::Default);
    assert!(decode(&base[1..], &delta, 9_900).is_err());
    assert!(decode(&base, &delta, 9_901).is_err());
    assert!(decode(&base, &[], 9_900).is_err());
    assert!(decode(&base, &[9, 0, 0], 9_900).is_err());
}
