//! What does not depend on luck: threads change nothing, and whoever watches or keeps bytes may fail at any
//! time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lfs_delta::codec::{self, Buffer, Effort, Scratch, Work};

use super::cases::{self, Case};
use super::make::{Packer, Style, zip};
use super::{Coded, assert_gives, decode, encode, injected, is_injected, work};

/// Enough plain text for several groups of streams, and few tokens in them.
fn large_zips() -> (Vec<u8>, Vec<u8>) {
    let plain =
        |letter: &[u8]| [letter, b" is what this text repeats again and again. "].concat().repeat(24_000);
    let pack = |letters: [&[u8]; 3]| {
        let files = letters.map(plain);
        let names = ["first", "second", "third"].into_iter();
        let files: Vec<_> = names.zip(files.iter().map(Vec::as_slice)).collect();
        zip(&files, Style::Usual, Packer::Usual(6))
    };
    (pack([b"a", b"b", b"c"]), pack([b"d", b"e", b"f"]))
}

/// More than one group of flat bytes, which takes too long unoptimised.
#[cfg(feature = "soak")]
fn large_files() -> (Vec<u8>, Vec<u8>) {
    let base = crate::support::data::noise(1, 70 << 20);
    let target = crate::support::data::edited(&base, 2, 300);
    (base, target)
}

#[test]
fn threads_change_no_byte_of_payload_or_object() {
    let mut pairs: Vec<_> = cases::all().into_iter().map(|it| (it.base, it.target, it.effort)).collect();
    let (base, target) = large_zips();
    pairs.push((base, target, Effort::Default));
    #[cfg(feature = "soak")]
    for effort in super::EFFORTS {
        let (base, target) = large_files();
        pairs.push((base, target, effort));
    }
    for (base, target, effort) in pairs {
        let payload = encode(&base, &target, &work(effort, 1)).expect("encodes");
        for threads in 1..=3 {
            let again = encode(&base, &target, &work(effort, threads)).expect("encodes");
            assert!(again == payload, "another payload with {threads} threads");
            assert_gives(&base, &payload, &target, &work(effort, threads));
        }
    }
}

/// Counts calls and fails one of them, and all after it.
struct Fault {
    calls: AtomicUsize,
    fail_at: usize,
}

impl Fault {
    fn at(fail_at: usize) -> Fault {
        Fault { calls: AtomicUsize::new(0), fail_at }
    }

    fn call(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call < self.fail_at { Ok(()) } else { Err(injected()) }
    }

    /// Whether it failed a call.
    fn fired(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > self.fail_at
    }
}

/// Buffers in memory that cannot be made or grown when the fault says so, as on a full disk.
struct FullDisk(Arc<Fault>);

struct Growing {
    bytes: Vec<u8>,
    fault: Arc<Fault>,
}

impl Scratch for FullDisk {
    fn buffer(&self) -> io::Result<Box<dyn Buffer>> {
        self.0.call()?;
        Ok(Box::new(Growing { bytes: Vec::new(), fault: Arc::clone(&self.0) }))
    }
}

impl Buffer for Growing {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn resize(&mut self, len: usize) -> io::Result<()> {
        self.fault.call()?;
        Buffer::resize(&mut self.bytes, len)
    }
}

/// Fails each call in turn until the work has fewer; checks that each failure ends the work.
fn fail_every_call<T>(what: &str, attempt: impl Fn(&Arc<Fault>) -> codec::Result<T>) {
    for fail_at in 0.. {
        let fault = Arc::new(Fault::at(fail_at));
        match attempt(&fault) {
            Ok(_) => {
                assert!(!fault.fired(), "{what}: call {fail_at} failed and nobody minded");
                return; // every call has had its turn
            }
            Err(error) => assert!(fault.fired() && is_injected(&error), "{what}: call {fail_at}: {error:?}"),
        }
    }
}

/// All cases, and one that zstd encodes alone.
fn cases_of_all_codecs() -> Vec<Case> {
    let mut cases = cases::all();
    let (base, target) = (cases[0].base.clone(), cases[0].target.clone());
    cases.push(Case { name: "zstd", base, target, effort: Effort::Fast });
    cases
}

fn coded(case: &Case) -> Coded {
    encode(&case.base, &case.target, &work(case.effort, 1)).expect("encodes")
}

#[test]
fn a_failing_watch_ends_encoding_and_decoding_at_any_call() {
    for case in cases_of_all_codecs() {
        let coded = coded(&case);
        fail_every_call(&format!("encoding {}", case.name), |fault| {
            let watch = |_| fault.call();
            encode(&case.base, &case.target, &Work { watch: &watch, ..work(case.effort, 2) })
        });
        fail_every_call(&format!("decoding {}", case.name), |fault| {
            let watch = |_| fault.call();
            decode(&case.base, &coded, case.target.len(), &Work { watch: &watch, ..work(case.effort, 2) })
        });
    }
}

#[test]
fn a_full_disk_ends_encoding_and_decoding_at_any_growth() {
    for case in cases_of_all_codecs() {
        let coded = coded(&case);
        fail_every_call(&format!("encoding {}", case.name), |fault| {
            let scratch = FullDisk(Arc::clone(fault));
            encode(&case.base, &case.target, &Work { scratch: &scratch, ..work(case.effort, 2) })
        });
        fail_every_call(&format!("decoding {}", case.name), |fault| {
            let scratch = FullDisk(Arc::clone(fault));
            let work = Work { scratch: &scratch, ..work(case.effort, 2) };
            decode(&case.base, &coded, case.target.len(), &work)
        });
    }
}
