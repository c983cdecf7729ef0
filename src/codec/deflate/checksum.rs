//! CRC-32 and Adler-32.

/// Slicing tables: eight bytes per step.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut level = 1;
    while level < 8 {
        let mut byte = 0;
        while byte < 256 {
            let below = tables[level - 1][byte];
            tables[level][byte] = below >> 8 ^ tables[0][(below & 0xff) as usize];
            byte += 1;
        }
        level += 1;
    }
    tables
}

/// A CRC-32 on its way, of all bytes so far.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(u32);

impl Default for Crc32 {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32 {
    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = update(self.0, bytes);
    }

    /// Returns the checksum.
    pub fn finish(self) -> u32 {
        !self.0
    }
}

/// Returns the CRC-32 of `parts`, one after the other.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut sum = Crc32::default();
    parts.iter().for_each(|part| sum.update(part));
    sum.finish()
}

fn update(mut crc: u32, bytes: &[u8]) -> u32 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk) ^ u64::from(crc);
        crc = 0;
        for (level, byte) in word.to_le_bytes().into_iter().enumerate() {
            crc ^= TABLES[7 - level][usize::from(byte)];
        }
    }
    rest.iter().fold(crc, |crc, &byte| crc >> 8 ^ TABLES[0][((crc ^ u32::from(byte)) & 0xff) as usize])
}

/// Returns the Adler-32 of `bytes`.
pub fn adler32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1u32, 0u32);
    for run in bytes.chunks(5552) {
        for &byte in run {
            low += u32::from(byte);
            high += low;
        }
        low %= 65521;
        high %= 65521;
    }
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_agree_with_the_published_ones() {
        assert_eq!(crc32(&[b"123456789"]), 0xcbf4_3926);
        assert_eq!(crc32(&[b"1234567", b"89"]), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }
}
