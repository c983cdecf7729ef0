//! A plain stage of few lines, to develop and test the container stage with.
//!
//! Approximate matches seeded by hashes of 16 bytes, and zstd for what they leave.

mod matcher;

use crate::error::{Result, corrupt};
use crate::plain::{Plain, Segment, are_sound};
use crate::tokens::base::common_prefix;
use crate::wire::{Reader, fold, put_number, put_section, unfold};

/// See the module.
#[derive(Clone, Debug)]
pub struct Simple {
    /// zstd's level for all columns.
    pub level: i32,
}

impl Default for Simple {
    fn default() -> Self {
        Self { level: 9 }
    }
}

const BY_SEGMENTS: u8 = 0;
const BY_PREFIX: u8 = 1;
/// Segments shorter than this do not pay for themselves when they are only told for prediction.
const HINT_MIN: usize = 48;
/// Largest sides for zstd's own prefix mode.
const PREFIX_MAX: usize = 1 << 30;
/// A column can't be longer than this times the plain text.
const COLUMN_FACTOR: usize = 12;

impl Plain for Simple {
    fn encode(&self, base: &[u8], target: &[u8], out: &mut Vec<u8>) -> Result<Vec<Segment>> {
        let segments = matcher::segments(base, target);
        let delta = self.by_segments(base, target, &segments)?;
        let small = delta.len() * 400 < target.len();
        if !small && base.len().saturating_add(target.len()) < PREFIX_MAX {
            let hints: Vec<Segment> =
                segments.iter().copied().filter(|segment| segment.len >= HINT_MIN).collect();
            let other = self.by_prefix(base, target, &hints)?;
            if other.len() < delta.len() {
                out.push(BY_PREFIX);
                out.extend(other);
                return Ok(hints);
            }
        }
        out.push(BY_SEGMENTS);
        out.extend(delta);
        Ok(segments)
    }

    fn decode(&self, base: &[u8], delta: &[u8], target: &mut [u8]) -> Result<Vec<Segment>> {
        let mut reader = Reader::new(delta);
        let how = reader.byte()?;
        let max = target.len().saturating_mul(COLUMN_FACTOR).saturating_add(1 << 16);
        let control = [column(&mut reader, max)?, column(&mut reader, max)?, column(&mut reader, max)?];
        let segments = read_segments(&control)?;
        if !are_sound(&segments, base.len(), target.len()) {
            return Err(corrupt("segments beyond their sides"));
        }
        if how == BY_PREFIX {
            unprefix(base, reader.section()?, target)?;
            return Ok(segments);
        }
        let (gaps, values) = (column(&mut reader, max)?, column(&mut reader, max)?);
        let prefixed = reader.byte()? == 1;
        let mut literals = vec![0; target.len() - segments.iter().map(|s| s.len).sum::<usize>()];
        unprefix(if prefixed { base } else { &[] }, reader.section()?, &mut literals)?;
        fill(base, target, &segments, &literals)?;
        correct(target, &segments, &gaps, &values)?;
        Ok(segments)
    }
}

impl Simple {
    fn by_segments(&self, base: &[u8], target: &[u8], segments: &[Segment]) -> Result<Vec<u8>> {
        let (gaps, values) = differences(base, target, segments);
        let mut literals = Vec::new();
        let mut at = 0;
        for segment in segments {
            literals.extend_from_slice(&target[at..segment.target]);
            at = segment.target_end();
        }
        literals.extend_from_slice(&target[at..]);
        let mut out = Vec::new();
        self.put_control(&mut out, segments)?;
        self.put_column(&mut out, &gaps)?;
        self.put_column(&mut out, &values)?;
        let prefixed = literals.len() > 64
            && literals.len() > base.len() / 2000
            && base.len() + literals.len() < PREFIX_MAX;
        out.push(prefixed.into());
        let prefix = if prefixed { base } else { &[] };
        put_section(&mut out, &compress(prefix, &literals, self.level)?);
        Ok(out)
    }

    fn by_prefix(&self, base: &[u8], target: &[u8], hints: &[Segment]) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.put_control(&mut out, hints)?;
        put_section(&mut out, &compress(base, target, self.level)?);
        Ok(out)
    }

    /// Jumps in the base, lengths, and the literals between.
    fn put_control(&self, out: &mut Vec<u8>, segments: &[Segment]) -> Result<()> {
        let mut columns = [Vec::new(), Vec::new(), Vec::new()];
        let (mut base, mut target) = (0, 0);
        for segment in segments {
            put_number(&mut columns[0], fold(segment.base as i64 - base as i64));
            put_number(&mut columns[1], segment.len as u64);
            put_number(&mut columns[2], (segment.target - target) as u64);
            (base, target) = (segment.base + segment.len, segment.target_end());
        }
        columns.iter().try_for_each(|column| self.put_column(out, column))
    }

    fn put_column(&self, out: &mut Vec<u8>, column: &[u8]) -> Result<()> {
        put_number(out, column.len() as u64);
        put_section(out, &compress(&[], column, self.level.max(9))?);
        Ok(())
    }
}

fn column(reader: &mut Reader, max: usize) -> Result<Vec<u8>> {
    let size = reader.size()?;
    let packed = reader.section()?;
    if size > max {
        return Err(corrupt("a column that is too long"));
    }
    let mut column = vec![0; size];
    unprefix(&[], packed, &mut column)?;
    Ok(column)
}

fn compress(prefix: &[u8], bytes: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut encoder = if prefix.is_empty() {
        zstd::stream::Encoder::new(Vec::new(), level)?
    } else {
        let mut encoder = zstd::stream::Encoder::with_ref_prefix(Vec::new(), level.min(9), prefix)?;
        encoder.long_distance_matching(true)?;
        encoder
    };
    let window = usize::BITS - (prefix.len() + bytes.len()).max(1024).leading_zeros();
    encoder.window_log(window.clamp(10, 30))?;
    encoder.include_contentsize(false)?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    std::io::Write::write_all(&mut encoder, bytes)?;
    Ok(encoder.finish()?)
}

fn unprefix(prefix: &[u8], packed: &[u8], out: &mut [u8]) -> Result<()> {
    let mut decoder = zstd::stream::Decoder::with_ref_prefix(packed, prefix)?;
    decoder.window_log_max(30)?;
    std::io::Read::read_exact(&mut decoder, out).map_err(|_| corrupt("a column"))
}

fn read_segments(columns: &[Vec<u8>; 3]) -> Result<Vec<Segment>> {
    let [mut jumps, mut lengths, mut literals] =
        [&columns[0], &columns[1], &columns[2]].map(|column| Reader::new(column));
    let mut segments = Vec::new();
    let (mut base, mut target) = (0i64, 0usize);
    while !jumps.is_empty() {
        base = base.checked_add(unfold(jumps.number()?)).ok_or(corrupt("a jump"))?;
        let (len, skip) = (lengths.size()?, literals.size()?);
        target = target.checked_add(skip).ok_or(corrupt("a segment"))?;
        let start = usize::try_from(base).map_err(|_| corrupt("a jump before the base"))?;
        segments.push(Segment { target, base: start, len });
        target = target.checked_add(len).ok_or(corrupt("a segment"))?;
        base = start.checked_add(len).and_then(|end| i64::try_from(end).ok()).ok_or(corrupt("a segment"))?;
    }
    Ok(segments)
}

/// Copies segments and literals into place.
fn fill(base: &[u8], target: &mut [u8], segments: &[Segment], literals: &[u8]) -> Result<()> {
    let (mut at, mut rest) = (0, literals);
    for segment in segments {
        let (now, later) = rest.split_at(segment.target - at);
        target[at..segment.target].copy_from_slice(now);
        let copied = &base[segment.base..segment.base + segment.len];
        target[segment.target..segment.target_end()].copy_from_slice(copied);
        (at, rest) = (segment.target_end(), later);
    }
    target[at..].copy_from_slice(rest);
    Ok(())
}

/// Where the segments differ from the base: equal bytes skipped, bytes changed; and the changes.
fn differences(base: &[u8], target: &[u8], segments: &[Segment]) -> (Vec<u8>, Vec<u8>) {
    let (mut gaps, mut values) = (Vec::new(), Vec::new());
    let mut equal = 0;
    for segment in segments {
        let old = &base[segment.base..segment.base + segment.len];
        let new = &target[segment.target..segment.target_end()];
        let mut at = 0;
        while at < new.len() {
            let same = common_prefix(&old[at..], &new[at..]);
            equal += same;
            at += same;
            let changed = changed_len(&old[at..], &new[at..]);
            if changed > 0 {
                put_number(&mut gaps, equal as u64);
                put_number(&mut gaps, changed as u64);
                let pairs = old[at..at + changed].iter().zip(&new[at..]);
                values.extend(pairs.map(|(old, new)| new.wrapping_sub(*old)));
                equal = 0;
                at += changed;
            }
        }
    }
    (gaps, values)
}

/// Length of a run of changes; three equal bytes do not end it.
fn changed_len(old: &[u8], new: &[u8]) -> usize {
    let mut end = 0;
    let mut same = 0;
    for (at, (a, b)) in old.iter().zip(new).enumerate() {
        if a == b {
            same += 1;
            if same == 4 {
                break;
            }
        } else {
            same = 0;
            end = at + 1;
        }
    }
    end
}

/// Adds the differences to the copied segments.
fn correct(target: &mut [u8], segments: &[Segment], gaps: &[u8], values: &[u8]) -> Result<()> {
    let (mut gaps, mut values) = (Reader::new(gaps), Reader::new(values));
    let mut segments = segments.iter();
    let mut left: &mut [u8] = &mut [];
    let mut rest = target;
    let mut start = 0;
    while !gaps.is_empty() {
        let (mut skip, mut changed) = (gaps.size()?, gaps.size()?);
        while skip > 0 || changed > 0 {
            if left.is_empty() {
                let segment = segments.next().ok_or(corrupt("differences beyond the segments"))?;
                let (_, from) = rest.split_at_mut(segment.target - start);
                let (now, later) = from.split_at_mut(segment.len);
                (left, rest, start) = (now, later, segment.target_end());
            }
            let skipped = skip.min(left.len());
            let now = changed.min(left.len() - skipped);
            let (done, later) = left.split_at_mut(skipped + now);
            for (byte, change) in done[skipped..].iter_mut().zip(values.bytes(now)?) {
                *byte = byte.wrapping_add(*change);
            }
            skip -= skipped;
            changed -= now;
            left = later;
        }
    }
    Ok(())
}
