//! Deflate (RFC 1951), the compressing half: what layers are made smaller by.
//!
//! A block of bytes, and the 32 KiB before it that matches may reach into, become whole bytes that can be joined: a long
//! stream is compressed in pieces, on any number of threads. Order: `window` holds the bytes, `finder` finds where they
//! have been before, `parse` chooses between literals and matches, `tokens` are what it chose, `split` decides where one
//! Huffman code ends and the next begins, `encode` writes each in the shortest form, by `huffman` and `symbols` into
//! `bits`.
//!
//! What does not live here: the frame around it (gzip), threads, and decompression, which is `flate2`'s.
//!
//! Invariants: the bytes depend on the block, what is before it and the level, never on what was compressed earlier, on
//! the processor or on chance. No input can make an index leave its table: positions in the window are masked, hashes
//! are as wide as their tables, and room for a block is made by its exact size. No block is larger than stored ones are.

mod bits;
mod encode;
mod finder;
mod huffman;
mod parse;
mod split;
mod symbols;
mod tokens;
mod window;

use bits::Bits;
use encode::Part;
use finder::Finder;
use parse::Effort;
use tokens::Tokens;
use window::Window;

pub use window::{MOST, REACH};

/// The low 16 bits of a number that has no others.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "what is stored is small: lengths, distances, symbols")]
const fn low(number: usize) -> u16 {
    debug_assert!(number <= 0xffff, "16 bits tell it");
    number as u16
}

/// A compressor and its memory, a megabyte; one block after the other.
pub struct Deflate {
    window: Window,
    finder: Finder,
    tokens: Tokens,
    bits: Bits,
    effort: Effort,
}

impl Deflate {
    /// For a level of 1, the fastest, to 9, the smallest; others are brought into range.
    pub fn new(level: u32) -> Deflate {
        Deflate {
            window: Window::new(),
            finder: Finder::new(),
            tokens: Tokens::new(),
            bits: Bits::new(),
            effort: Effort::of(level),
        }
    }

    /// Compresses a block of at most [`MOST`] bytes; the decoder has just read `before`, of which the last [`REACH`] bytes
    /// count. If it is not the `last` of the stream it ends at a whole byte, so that another can follow.
    ///
    /// # Panics
    ///
    /// If the block is longer than [`MOST`].
    pub fn block(&mut self, before: &[u8], block: &[u8], last: bool) -> Vec<u8> {
        if self.is_dense(block) {
            encode::store(&mut self.bits, block, last);
            return self.bits.take();
        }
        self.compress(before, block, last, self.effort)
    }

    fn compress(&mut self, before: &[u8], block: &[u8], last: bool, effort: Effort) -> Vec<u8> {
        self.window.fill(before, block);
        self.finder.clear();
        self.tokens.clear();
        (self.window.first()..self.window.begin()).for_each(|at| self.finder.pass(&self.window, at));
        parse::parse(&self.window, &mut self.finder, &mut self.tokens, effort);
        split::join(&mut self.tokens.chunks);
        let (mut bytes, mut runs) = (block, &self.tokens.runs[..]);
        for (nth, chunk) in self.tokens.chunks.iter().enumerate() {
            let is_last = last && nth + 1 == self.tokens.chunks.len();
            let (part_bytes, bytes_behind) = bytes.split_at(chunk.bytes);
            let (part_runs, runs_behind) = runs.split_at(chunk.runs);
            let part = Part { bytes: part_bytes, runs: part_runs, counts: &chunk.counts };
            encode::write(&mut self.bits, &part, is_last);
            (bytes, runs) = (bytes_behind, runs_behind);
        }
        match last {
            // A stream has a last block, were it empty; an empty stored one goes up to a whole byte.
            true if block.is_empty() => encode::store(&mut self.bits, &[], true),
            false if self.bits.over() > 0 => encode::store(&mut self.bits, &[], false),
            _ => self.bits.align(),
        }
        self.bits.take()
    }

    /// Whether a block would not get smaller, as what is compressed already: all bytes are about as frequent, and its
    /// beginning repeats nothing. Decided by whole numbers from the bytes alone, so that it is the same everywhere.
    fn is_dense(&mut self, block: &[u8]) -> bool {
        const SAMPLE: usize = 32 * 1024;
        if block.len() < SAMPLE {
            return false;
        }
        let mut counts = [0u64; 256];
        block.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        let squares: u64 = counts.iter().map(|count| count * count).sum();
        let length = block.len() as u64;
        // Were all equally frequent, this would be 1; with text it is above 10.
        if squares * 256 > length * length / 50 * 51 {
            return false;
        }
        let sample = self.compress(&[], &block[..SAMPLE], true, Effort::of(1));
        sample.len() > SAMPLE / 100 * 99
    }
}
