//! The delta engine through its seam: what is encoded comes back, what is damaged does no harm.
//!
//! Sizes are small because the engine is not optimised in tests; with the feature `soak` there are ten times
//! as many, and real packers pack them. Every test that draws lots prints its seed before it uses it.

use std::io;

use lfs_delta::codec::{self, Effort, Encoded, Memory, Pair, Work};

mod cases;
mod frozen;
mod hostile;
mod make;
#[cfg(feature = "soak")]
pub mod packers;
mod round_trips;
mod steady;
mod vcdiff;

/// All of them, the fastest first.
const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Default, Effort::Max];

/// Work in memory that nobody watches.
fn work(effort: Effort, threads: usize) -> Work<'static> {
    Work { effort, threads, memory: 0, scratch: &Memory, watch: &|_| Ok(()) }
}

/// What a payload is, and the payload.
type Coded = (Encoded, Vec<u8>);

fn encode(base: &[u8], target: &[u8], work: &Work<'_>) -> codec::Result<Coded> {
    let mut payload = Vec::new();
    let encoded = codec::encode_delta(Pair { base, target }, work, &mut payload)?;
    Ok((encoded, payload))
}

fn decode(base: &[u8], coded: &Coded, size: usize, work: &Work<'_>) -> codec::Result<Vec<u8>> {
    let (encoded, payload) = coded;
    let mut object = Vec::new();
    let base = Some(base).filter(|base| !base.is_empty());
    codec::decode(encoded.codec, base, &mut payload.as_slice(), size as u64, work, &mut object)?;
    Ok(object)
}

/// Checks that a payload gives the target, and returns the payload's size.
#[track_caller]
fn assert_gives(base: &[u8], coded: &Coded, target: &[u8], work: &Work<'_>) -> usize {
    let object = decode(base, coded, target.len(), work).expect("decodes");
    assert!(object == target, "another object came back");
    assert!(coded.0.written_size >= target.len() as u64, "decoding writes more than {:?}", coded.0);
    coded.1.len()
}

/// Encodes, decodes, compares; returns the payload's size.
#[track_caller]
fn assert_comes_back(base: &[u8], target: &[u8], work: &Work<'_>) -> usize {
    assert_gives(base, &encode(base, target, work).expect("encodes"), target, work)
}

/// Packs the whole target, opened where there is something to open, and compares what comes back.
#[track_caller]
fn assert_whole_comes_back(target: &[u8], work: &Work<'_>) {
    let mut payload = Vec::new();
    let whole = codec::encode_whole(&mut &target[..], target.len() as u64, work, &mut payload);
    assert_gives(&[], &(whole.expect("encodes"), payload), target, work);
    let mut payload = Vec::new();
    if let Some(opened) = codec::encode_whole_opened(target, work, &mut payload).expect("encodes") {
        assert_gives(&[], &(opened, payload), target, work);
    }
}

/// The error that tests inject.
fn injected() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "injected by the test")
}

fn is_injected(error: &codec::Error) -> bool {
    matches!(error, codec::Error::Io(error) if error.to_string() == injected().to_string())
}
