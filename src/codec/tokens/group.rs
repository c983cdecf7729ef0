//! Groups of streams: the unit of coding in parallel.
//!
//! A group has a model of its own and needs nothing but the reference and its own plain text.

use super::base::Reference;
use super::coder::{Coder, Decoder, Encoder};
use super::plan::{Care, Planner, RunCounter};
use super::stream::{StreamCoder, Text, Truth};
use crate::codec::deflate::bits::BitWriter;
use crate::codec::deflate::ledger::{Ledger, Stream};
use crate::codec::deflate::record::{Recorded, Recorder};
use crate::codec::{Error, Result, Watch};

/// A stream to be encoded.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Its plain text.
    pub text: Text<'a>,
    /// Where its matches and blocks are.
    pub ledger: &'a Ledger,
    /// Which they are.
    pub stream: &'a Stream,
}

/// A group's bytes, or the streams that had better stay closed.
pub enum Encoded {
    /// The coded group.
    Bytes(Vec<u8>),
    /// Indices of jobs that can't be coded, or that cost more than they are long.
    Refused(Vec<usize>),
}

/// Encodes a group.
///
/// Nothing is proven here: whoever stores the payload decodes all of it.
///
/// # Errors
/// `Io` of the watch.
pub fn encode(reference: &Reference, jobs: &[Job], care: Care, watch: Watch<'_>) -> Result<Encoded> {
    let mut planner = Planner::new(reference, care);
    let mut counter = RunCounter::default();
    let mut truths = Vec::with_capacity(jobs.len());
    for job in jobs {
        watch(0)?;
        let plan = planner.plan(job.text, job.ledger, job.stream);
        let truth = Truth { ledger: job.ledger, stream: job.stream, plan };
        counter.add(reference, job.text, truth, watch)?;
        truths.push(truth);
    }
    let mut coder = StreamCoder::new(Encoder::new(), reference, counter.finish(), watch);
    let mut refused = Vec::new();
    for (index, (job, truth)) in jobs.iter().zip(truths).enumerate() {
        let before = coder.coder.position();
        let coded = coder.stream(job.text, usize::MAX, Some(truth), BitWriter::default());
        let cost = coder.coder.position() - before;
        if unless_ended(coded)?.is_none() || cost > job.stream.packed + COST_SLACK {
            refused.push(index);
        }
    }
    if !refused.is_empty() {
        return Ok(Encoded::Refused(refused));
    }
    Ok(Encoded::Bytes(coder.coder.finish()))
}

/// What the coder may owe to the streams before.
const COST_SLACK: usize = 16;

/// Tells a stream that can't be coded, `None`, from work that somebody ended.
fn unless_ended<T>(coded: Result<T>) -> Result<Option<T>> {
    match coded {
        Ok(done) => Ok(Some(done)),
        Err(Error::Io(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

/// Decodes a group's streams in order.
pub struct GroupDecoder<'r> {
    coder: StreamCoder<'r, Decoder<'r>>,
}

impl<'r> GroupDecoder<'r> {
    /// Starts at the group's first stream.
    pub fn new(reference: &'r Reference<'r>, bytes: &'r [u8], watch: Watch<'r>) -> Self {
        Self { coder: StreamCoder::new(Decoder::new(bytes), reference, Default::default(), watch) }
    }

    /// Returns the packed bytes of the stream whose plain text is `text`.
    ///
    /// # Errors
    /// `Corrupt` when the group's bytes are not a stream of this text of at most `packed_max` bytes; `Io` of
    /// the watch.
    pub fn stream(&mut self, text: Text, packed_max: usize) -> Result<Vec<u8>> {
        let size = (text.plain.len() / 3).min(packed_max);
        self.coder.stream(text, packed_max, None, BitWriter::with_capacity(size))
    }

    /// Appends the stream whose plain text is `text` to `ledger` instead of packing it.
    ///
    /// # Errors
    /// As [`Self::stream`]; `Io` from the scratch memory, too.
    pub fn record(&mut self, text: Text, packed_max: usize, ledger: &mut Ledger) -> Result<Recorded> {
        let recorder = Recorder::new(ledger, text.origin.unwrap_or(0));
        self.coder.stream(text, packed_max, None, recorder)
    }
}
