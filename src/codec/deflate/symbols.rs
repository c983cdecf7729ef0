//! The alphabet of RFC 1951: which symbol stands for which length or distance.

/// Shortest match deflate can express.
pub const LENGTH_MIN: usize = 3;
/// Longest match deflate can express.
pub const LENGTH_MAX: usize = 258;
/// How far back a match may reach.
pub const DISTANCE_MAX: usize = 32768;
/// The literal/length symbol that ends a block.
pub const END_OF_BLOCK: usize = 256;
/// Literal/length symbols in use.
pub const LITERALS: usize = 286;
/// Distance symbols in use.
pub const DISTANCES: usize = 30;

/// Smallest length of each length symbol, starting with symbol 257.
pub const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
/// Extra bits of each length symbol.
pub const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// Smallest distance of each distance symbol.
pub const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];
/// Extra bits of each distance symbol.
pub const DISTANCE_EXTRA: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
/// The order in which a dynamic header lists the lengths of its code-length code.
pub const CODE_LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Length symbol (0 stands for 257) of every match length.
pub const LENGTH_SYMBOL: [u8; LENGTH_MAX + 1] = length_symbols();

const fn length_symbols() -> [u8; LENGTH_MAX + 1] {
    let mut table = [0u8; LENGTH_MAX + 1];
    let mut symbol = 0;
    while symbol < 28 {
        let mut length = LENGTH_BASE[symbol] as usize;
        while length < LENGTH_BASE[symbol + 1] as usize {
            table[length] = symbol as u8;
            length += 1;
        }
        symbol += 1;
    }
    table[LENGTH_MAX] = 28; // 258 has a symbol of its own
    table
}

/// Returns the distance symbol of `distance`, which must be 1 or more.
#[inline(always)]
pub fn distance_symbol(distance: u32) -> usize {
    if distance <= 4 {
        return (distance as usize).wrapping_sub(1) & 3;
    }
    let less = distance - 1;
    let top = 31 - less.leading_zeros();
    (2 * top + ((less >> (top - 1)) & 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distance_lies_in_the_range_of_its_symbol() {
        for distance in 1..=DISTANCE_MAX as u32 {
            let symbol = distance_symbol(distance);
            let first = u32::from(DISTANCE_BASE[symbol]);
            assert!(distance >= first && distance - first < 1 << DISTANCE_EXTRA[symbol]);
        }
    }

    #[test]
    fn every_length_lies_in_the_range_of_its_symbol() {
        for (length, &symbol) in LENGTH_SYMBOL.iter().enumerate().skip(LENGTH_MIN) {
            let symbol = usize::from(symbol);
            let first = usize::from(LENGTH_BASE[symbol]);
            assert!(length >= first && length - first < 1 << LENGTH_EXTRA[symbol]);
        }
    }
}
