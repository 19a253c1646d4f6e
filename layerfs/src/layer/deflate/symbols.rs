//! The alphabets of RFC 1951, 3.2.5: which symbol a length and a distance have, and how many bits follow it.

use super::low;

/// Literals, the end of a block, lengths. Two more have codes in the static code and no meaning.
pub(super) const LITLENS: usize = 286;
/// Distances.
pub(super) const DISTANCES: usize = 30;
/// The symbol that ends a block.
pub(super) const END: usize = 256;

/// The lowest length of each symbol from 257 on, and how many bits follow the symbol.
const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_BITS: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// The symbol of a length, less 257, by the length less 3.
const LENGTH_SLOT: [u8; 256] = {
    let mut slots = [0; 256];
    let mut slot = 0;
    let mut length = 3;
    while length <= 258 {
        while slot + 1 < 29 && LENGTH_BASE[slot + 1] as usize <= length {
            slot += 1;
        }
        slots[length - 3] = (low(slot) & 0xff) as u8;
        length += 1;
    }
    slots
};

/// The slot of a length of 3 to 258: its symbol is 257 more.
#[inline(always)]
pub(super) fn length_slot(length: u16) -> usize {
    usize::from(LENGTH_SLOT[usize::from(length.wrapping_sub(3) & 0xff)])
}

/// The lowest length of a slot, and how many bits follow its symbol.
pub(super) fn length_extra(slot: usize) -> (u16, u8) {
    (LENGTH_BASE[slot], LENGTH_BITS[slot])
}

/// The symbol of a distance of 1 to 32768: two for each power of two.
#[inline(always)]
pub(super) fn distance_symbol(distance: u16) -> usize {
    let less = u32::from(distance.wrapping_sub(1));
    if less < 2 {
        return less as usize;
    }
    let power = less.ilog2();
    (2 * power + (less >> (power - 1) & 1)) as usize
}

/// How many bits follow the symbol of a distance.
pub(super) const fn distance_bits(symbol: usize) -> u8 {
    (low(symbol.saturating_sub(2) / 2) & 0xf) as u8
}

/// The lowest distance of a symbol.
pub(super) const fn distance_base(symbol: usize) -> u16 {
    let lowest = if symbol < 2 { symbol } else { (2 + symbol % 2) << distance_bits(symbol) };
    low(lowest) + 1
}
