//! What a block was parsed into: literals and matches, and how often each symbol is among them.
//!
//! Tokens are kept by chunks of the block, each with its own counts, so that it can be decided afterwards which chunks share
//! a code.

use super::finder::Match;
use super::low;
use super::symbols::{DISTANCES, END, LITLENS, distance_symbol, length_slot};

/// Literals, then a match unless `length` is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) literals: u32,
    pub(super) length: u16,
    pub(super) distance: u16,
}

/// How often each symbol is used.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) litlens: [u32; LITLENS],
    pub(super) distances: [u32; DISTANCES],
}

impl Counts {
    pub(super) const NONE: Counts = Counts { litlens: [0; LITLENS], distances: [0; DISTANCES] };

    pub(super) fn add(&mut self, other: &Counts) {
        self.litlens.iter_mut().zip(&other.litlens).for_each(|(sum, count)| *sum += count);
        self.distances.iter_mut().zip(&other.distances).for_each(|(sum, count)| *sum += count);
    }
}

/// A stretch of the block.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// How many bytes and runs it has.
    pub(super) bytes: usize,
    pub(super) runs: usize,
    pub(super) counts: Counts,
}

/// The tokens of a block, in order.
pub(super) struct Tokens {
    pub(super) runs: Vec<Run>,
    pub(super) chunks: Vec<Chunk>,
    counts: Counts,
    literals: u32,
    bytes: usize,
    first_run: usize,
}

impl Tokens {
    pub(super) fn new() -> Tokens {
        Tokens {
            runs: Vec::new(),
            chunks: Vec::new(),
            counts: Counts::NONE,
            literals: 0,
            bytes: 0,
            first_run: 0,
        }
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.chunks.clear();
        self.first_run = 0;
    }

    /// Adds a literal.
    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) {
        self.counts.litlens[usize::from(byte)] += 1;
        self.literals += 1;
        self.bytes += 1;
    }

    /// Adds a match.
    #[inline(always)]
    pub(super) fn found(&mut self, found: Match) {
        let (length, distance) = (low(found.length), low(found.distance));
        self.counts.litlens[END + 1 + length_slot(length)] += 1;
        self.counts.distances[distance_symbol(distance)] += 1;
        self.runs.push(Run { literals: self.literals, length, distance });
        self.literals = 0;
        self.bytes += found.length;
    }

    /// Ends a chunk.
    pub(super) fn cut(&mut self) {
        if self.bytes == 0 {
            return;
        }
        if self.literals > 0 {
            self.runs.push(Run { literals: self.literals, length: 0, distance: 0 });
        }
        let counts = std::mem::replace(&mut self.counts, Counts::NONE);
        self.chunks.push(Chunk { bytes: self.bytes, runs: self.runs.len() - self.first_run, counts });
        self.first_run = self.runs.len();
        self.literals = 0;
        self.bytes = 0;
    }
}
