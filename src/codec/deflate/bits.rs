//! Bits in deflate's order: the lowest of each byte first.
//!
//! Reading past the end yields zeros; the caller compares [`BitReader::position`] with the length
//! it has, once per block rather than once per bit.

/// Reads up to 56 bits at a time.
#[derive(Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    buffer: u64,
    held: u32,
}

impl<'a> BitReader<'a> {
    /// Starts at bit `position` of `bytes`.
    pub fn at(bytes: &'a [u8], position: usize) -> Self {
        let mut reader = Self { bytes, next: position / 8, buffer: 0, held: 0 };
        reader.refill();
        reader.drop_bits((position % 8) as u32);
        reader
    }

    /// Makes at least 56 bits available.
    #[inline(always)]
    pub fn refill(&mut self) {
        match self.bytes.get(self.next..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(chunk) => {
                // Bits above `held` are valid bits read early: reading them again changes nothing.
                self.buffer |= u64::from_le_bytes(*chunk) << self.held;
                self.next += ((63 - self.held) >> 3) as usize;
                self.held |= 56;
            }
            None => self.refill_at_end(),
        }
    }

    #[cold]
    fn refill_at_end(&mut self) {
        self.buffer &= (1u64 << self.held) - 1;
        while self.held <= 55 {
            let byte = self.bytes.get(self.next).copied().unwrap_or(0);
            self.buffer |= u64::from(byte) << self.held;
            self.held += 8;
            self.next += 1;
        }
    }

    /// Returns the bits held, the next one lowest; those beyond the last refill's 56 are undefined.
    #[inline(always)]
    pub fn peek(&self) -> u64 {
        self.buffer
    }

    /// Skips `count` bits already held.
    #[inline(always)]
    pub fn drop_bits(&mut self, count: u32) {
        self.buffer >>= count;
        self.held -= count;
    }

    /// Takes `count` bits already held.
    #[inline(always)]
    pub fn take(&mut self, count: u32) -> u32 {
        let value = self.buffer & ((1u64 << count) - 1);
        self.drop_bits(count);
        value as u32
    }

    /// Takes `count` bits, at most 32, refilling first.
    pub fn read(&mut self, count: u32) -> u32 {
        if self.held < count {
            self.refill();
        }
        self.take(count)
    }

    /// Returns the number of bits consumed, which exceeds the input's when it was overrun.
    pub fn position(&self) -> usize {
        self.next * 8 - self.held as usize
    }

    /// Says whether more bits were taken than there are.
    pub fn overrun(&self) -> bool {
        self.position() > self.bytes.len() * 8
    }
}

/// Appends bits to a byte vector.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    filled: usize,
    buffer: u64,
    held: u32,
}

/// Room kept behind the last byte, so that eight bytes can always be stored.
const SLACK: usize = 16;

impl BitWriter {
    /// Expects about `size` bytes.
    pub fn with_capacity(size: usize) -> Self {
        Self { bytes: vec![0; size + SLACK], ..Self::default() }
    }

    /// Appends the low `count` bits of `value`, at most 48; higher bits must be zero.
    #[inline(always)]
    pub fn put(&mut self, value: u64, count: u32) {
        self.buffer |= value << self.held;
        self.held += count;
        if self.held >= 16 {
            self.flush();
        }
    }

    #[inline(always)]
    fn flush(&mut self) {
        if self.filled + SLACK > self.bytes.len() {
            self.grow();
        }
        if let Some(place) = self.bytes.get_mut(self.filled..self.filled + 8) {
            place.copy_from_slice(&self.buffer.to_le_bytes());
        }
        let whole = self.held >> 3;
        self.filled += whole as usize;
        self.buffer = self.buffer.checked_shr(whole * 8).unwrap_or(0);
        self.held &= 7;
    }

    #[cold]
    fn grow(&mut self) {
        let size = self.bytes.len() * 2 + 4096;
        self.bytes.resize(size, 0);
    }

    /// Appends the first `count` bits of `bits`.
    pub fn put_slice(&mut self, bits: &[u8], count: usize) {
        let mut left = count;
        for &byte in bits {
            let now = left.min(8) as u32;
            self.put(u64::from(byte) & ((1 << now) - 1), now);
            left -= now as usize;
        }
    }

    /// Appends whole bytes; the position must be a byte boundary.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.flush();
        debug_assert_eq!(self.held, 0);
        if self.filled + bytes.len() + SLACK > self.bytes.len() {
            self.bytes.resize(self.filled + bytes.len() + self.bytes.len() / 2 + SLACK, 0);
        }
        self.bytes[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Returns the bits written so far.
    pub fn position(&self) -> usize {
        self.filled * 8 + self.held as usize
    }

    /// Returns how many bits are missing to the next byte boundary.
    pub fn padding(&self) -> u32 {
        (self.held & 7).wrapping_neg() & 7
    }

    /// Returns the bytes and the number of bits in them.
    pub fn finish(mut self) -> (Vec<u8>, usize) {
        self.flush();
        let bits = self.position();
        if self.held > 0 {
            self.bytes[self.filled] = self.buffer as u8;
        }
        self.bytes.truncate(bits.div_ceil(8));
        (self.bytes, bits)
    }
}

/// Copies `count` bits starting at bit `from` of `bytes` to the end of `into`, zero-padded.
pub fn copy_bits(bytes: &[u8], from: usize, count: usize, into: &mut Vec<u8>) {
    let mut reader = BitReader::at(bytes, from);
    let mut left = count;
    while left > 0 {
        let now = left.min(8);
        into.push(reader.read(now as u32) as u8);
        left -= now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_written_are_the_bits_read() {
        let mut writer = BitWriter::default();
        for i in 0..2000u64 {
            writer.put(i & ((1 << (i % 23)) - 1), (i % 23) as u32);
        }
        let (bytes, bits) = writer.finish();
        let mut reader = BitReader::at(&bytes, 0);
        for i in 0..2000u64 {
            assert_eq!(u64::from(reader.read((i % 23) as u32)), i & ((1 << (i % 23)) - 1));
        }
        assert_eq!(reader.position(), bits);
        assert!(!reader.overrun());
    }

    #[test]
    fn reading_past_the_end_is_noticed() {
        let mut reader = BitReader::at(&[0xff], 0);
        assert_eq!(reader.read(16), 0xff);
        assert!(reader.overrun());
    }
}
