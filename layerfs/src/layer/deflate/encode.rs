//! Writes chunks: each as a block that is stored, of the static code or of its own, whichever is shortest.

use super::bits::Bits;
use super::huffman::Code;
use super::low;
use super::symbols::{
    DISTANCES, END, LITLENS, distance_base, distance_bits, distance_symbol, length_extra, length_slot,
};
use super::tokens::{Counts, Run};

/// The two kinds of words of a block.
pub(super) struct Codes {
    litlens: Code<LITLENS>,
    distances: Code<DISTANCES>,
}

/// RFC 1951, 3.2.6.
pub(super) static STATIC: Codes = {
    // Two more symbols have words in it, the last ones, and are never written.
    let mut lengths = [8; LITLENS + 2];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    let whole = Code::of_lengths(lengths);
    let mut litlens = Code { lengths: [0; LITLENS], words: [0; LITLENS] };
    symbol = 0;
    while symbol < LITLENS {
        litlens.lengths[symbol] = whole.lengths[symbol];
        litlens.words[symbol] = whole.words[symbol];
        symbol += 1;
    }
    Codes { litlens, distances: Code::of_lengths([5; DISTANCES]) }
};

impl Codes {
    fn of(counts: &Counts) -> Codes {
        Codes { litlens: Code::of(&counts.litlens, 15), distances: Code::of(&counts.distances, 15) }
    }

    fn bits(&self, counts: &Counts) -> u64 {
        self.litlens.bits(&counts.litlens) + self.distances.bits(&counts.distances)
    }
}

/// The bits that follow symbols.
fn extra_bits(counts: &Counts) -> u64 {
    let lengths = (0..LITLENS - END - 1).map(|slot| (counts.litlens[END + 1 + slot], length_extra(slot).1));
    let distances = (0..DISTANCES).map(|symbol| (counts.distances[symbol], distance_bits(symbol)));
    lengths.chain(distances).map(|(count, bits)| u64::from(count) * u64::from(bits)).sum()
}

/// A chunk: its bytes, its tokens and their counts.
pub(super) struct Part<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) runs: &'a [Run],
    pub(super) counts: &'a Counts,
}

/// Writes a chunk.
pub(super) fn write(out: &mut Bits, part: &Part<'_>, last: bool) {
    let mut counts = part.counts.clone();
    counts.litlens[END] = 1;
    let codes = Codes::of(&counts);
    let head = Head::of(&codes);
    let extra = extra_bits(&counts);
    let own = 3 + head.bits() + codes.bits(&counts) + extra;
    let fixed = 3 + STATIC.bits(&counts) + extra;
    let stored = stored_bits(out, part.bytes.len());
    out.reserve(own.min(fixed).min(stored));
    if stored <= own.min(fixed) {
        return store(out, part.bytes, last);
    }
    out.put(u64::from(last), 1);
    if fixed <= own {
        out.put(1, 2);
        out.spill();
        tokens(out, part, &STATIC);
    } else {
        out.put(2, 2);
        out.spill();
        head.write(out);
        tokens(out, part, &codes);
    }
}

/// The longest stored block, in bytes: as long as 16 bits can tell.
const PIECE: usize = 65_535;

fn stored_bits(out: &Bits, bytes: usize) -> u64 {
    let pieces = bytes.div_ceil(PIECE).max(1) as u64;
    // Three bits, then up to a whole byte; all but the first begin at one.
    let first = u64::from((out.over() + 3).next_multiple_of(8) - out.over());
    first + (pieces - 1) * 8 + pieces * 32 + bytes as u64 * 8
}

/// Stored blocks (RFC 1951, 3.2.4), which end at a whole byte.
pub(super) fn store(out: &mut Bits, bytes: &[u8], last: bool) {
    out.reserve(stored_bits(out, bytes.len()));
    let mut rest = bytes;
    loop {
        let (piece, behind) = rest.split_at(rest.len().min(PIECE));
        out.put(u64::from(last && behind.is_empty()), 3);
        out.spill();
        out.align();
        let length = piece.len() as u64;
        out.put(length | (length ^ 0xffff) << 16, 32);
        out.spill();
        out.bytes(piece);
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

/// The words of lengths with the bits that follow them, and their bits, by the length less 3.
fn length_words(codes: &Codes) -> [(u32, u8); 256] {
    let mut words = [(0, 0); 256];
    for (index, entry) in words.iter_mut().enumerate() {
        let length = low(index) + 3;
        let slot = length_slot(length);
        let (base, extra) = length_extra(slot);
        let (word, bits) = (codes.litlens.words[END + 1 + slot], codes.litlens.lengths[END + 1 + slot]);
        *entry = (u32::from(word) | u32::from(length - base) << bits, bits + extra);
    }
    words
}

fn tokens(out: &mut Bits, part: &Part<'_>, codes: &Codes) {
    let mut literals = [(0u16, 0u8); 256];
    for (byte, entry) in literals.iter_mut().enumerate() {
        *entry = (codes.litlens.words[byte], codes.litlens.lengths[byte]);
    }
    let lengths = length_words(codes);
    let mut distances = [(0u16, 0u8, 0u8, 0u16); 32];
    for (symbol, entry) in distances[..DISTANCES].iter_mut().enumerate() {
        *entry = (
            codes.distances.words[symbol],
            codes.distances.lengths[symbol],
            distance_bits(symbol),
            distance_base(symbol),
        );
    }
    let mut rest = part.bytes;
    for run in part.runs {
        let (run_literals, behind) = rest.split_at(run.literals as usize);
        // Three words of at most 15 bits go beside what is left of a byte, and 48 bits of a match as well.
        for three in run_literals.chunks(3) {
            for byte in three {
                let (word, bits) = literals[usize::from(*byte)];
                out.put(u64::from(word), u32::from(bits));
            }
            out.spill();
        }
        rest = behind;
        if run.length > 0 {
            let (word, bits) = lengths[usize::from(run.length.wrapping_sub(3) & 0xff)];
            out.put(u64::from(word), u32::from(bits));
            let (word, bits, extra, base) = distances[distance_symbol(run.distance) & 31];
            out.put(u64::from(word), u32::from(bits));
            out.put(u64::from(run.distance - base), u32::from(extra));
            out.spill();
            rest = &rest[usize::from(run.length)..];
        }
    }
    out.put(u64::from(codes.litlens.words[END]), u32::from(codes.litlens.lengths[END]));
    out.spill();
}

/// How a block says what its codes are (RFC 1951, 3.2.7).
struct Head {
    litlens: usize,
    distances: usize,
    /// Symbols of the code of lengths, and what follows each.
    items: Vec<(u8, u8)>,
    code: Code<19>,
    /// How many lengths of that code are written.
    sent: usize,
}

/// In which order they are.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// How many bits follow a symbol of the code of lengths.
fn item_bits(symbol: u8) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

impl Head {
    fn of(codes: &Codes) -> Head {
        let up_to = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|length| *length > 0).map_or(least, |last| least.max(last + 1))
        };
        let litlens = up_to(&codes.litlens.lengths, 257);
        let distances = up_to(&codes.distances.lengths, 1);
        let mut lengths = [0; LITLENS + DISTANCES];
        lengths[..litlens].copy_from_slice(&codes.litlens.lengths[..litlens]);
        lengths[litlens..litlens + distances].copy_from_slice(&codes.distances.lengths[..distances]);
        let items = items(&lengths[..litlens + distances]);
        let mut counts = [0; 19];
        items.iter().for_each(|(symbol, _)| counts[usize::from(*symbol)] += 1);
        let code = Code::of(&counts, 7);
        let sent =
            ORDER.iter().rposition(|symbol| code.lengths[*symbol] > 0).map_or(4, |last| (last + 1).max(4));
        Head { litlens, distances, items, code, sent }
    }

    fn bits(&self) -> u64 {
        let items = self.items.iter().map(|(symbol, _)| {
            u64::from(self.code.lengths[usize::from(*symbol)]) + u64::from(item_bits(*symbol))
        });
        14 + 3 * self.sent as u64 + items.sum::<u64>()
    }

    fn write(&self, out: &mut Bits) {
        out.put((self.litlens - 257) as u64, 5);
        out.put((self.distances - 1) as u64, 5);
        out.put((self.sent - 4) as u64, 4);
        for symbol in &ORDER[..self.sent] {
            out.put(u64::from(self.code.lengths[*symbol]), 3);
            out.spill();
        }
        for (symbol, extra) in &self.items {
            let index = usize::from(*symbol);
            out.put(u64::from(self.code.words[index]), u32::from(self.code.lengths[index]));
            out.put(u64::from(*extra), item_bits(*symbol));
            out.spill();
        }
    }
}

/// Lengths with their repetitions told: 16 repeats the one before 3 to 6 times, 17 and 18 are 3 to 10 and 11 to 138 zeros.
fn items(lengths: &[u8]) -> Vec<(u8, u8)> {
    let mut items = Vec::with_capacity(lengths.len());
    for run in lengths.chunk_by(|one, other| one == other) {
        let (length, mut left) = (run[0], run.len());
        if length > 0 {
            items.push((length, 0));
            left -= 1;
        }
        while left >= 3 {
            let (symbol, most, least) = match (length, left) {
                (0, 11..) => (18, 138, 11),
                (0, _) => (17, 10, 3),
                _ => (16, 6, 3),
            };
            let count = left.min(most);
            items.push((symbol, (low(count - least) & 0x7f) as u8));
            left -= count;
        }
        items.extend(std::iter::repeat_n((length, 0), left));
    }
    items
}
