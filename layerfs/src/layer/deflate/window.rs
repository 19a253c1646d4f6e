//! The bytes that are being compressed, with those before them that matches may reach into.
//!
//! What does not live here: what is looked for in them.
//!
//! Invariants: every read is in bounds by construction, since a position is taken modulo the length of the buffer and the
//! buffer goes on behind that for as long as the longest read. What a read sees depends on what was laid in last and on
//! nothing before: a margin of zeros follows the end.

/// How far back a match may reach, in bytes (RFC 1951, 3.2.5).
pub const REACH: usize = 32 * 1024;

/// The longest match, in bytes.
pub(super) const LONGEST: usize = 258;

/// The most bytes that are compressed at once.
pub const MOST: usize = SIZE - BEGIN - MARGIN;

/// Where the block begins. What is before it ends here, and position 0 is never one of them.
const BEGIN: usize = REACH + 1;
const SIZE: usize = 1 << 18;
/// As many zeros as a comparison may run past the end.
const MARGIN: usize = LONGEST + 8;

/// Up to 32 KiB of dictionary, then the block.
pub(super) struct Window {
    bytes: Box<[u8; SIZE + 8]>,
    first: usize,
    end: usize,
}

impl Window {
    pub(super) fn new() -> Window {
        let bytes = vec![0; SIZE + 8].into_boxed_slice().try_into().expect("as long as the array");
        Window { bytes, first: BEGIN, end: BEGIN }
    }

    /// Lays in a block, which is at most `MOST` long, and the last of what is before it.
    pub(super) fn fill(&mut self, before: &[u8], block: &[u8]) {
        assert!(block.len() <= MOST, "a block fits");
        let before = &before[before.len().saturating_sub(REACH)..];
        self.first = BEGIN - before.len();
        self.end = BEGIN + block.len();
        self.bytes[self.first..BEGIN].copy_from_slice(before);
        self.bytes[BEGIN..self.end].copy_from_slice(block);
        self.bytes[self.end..self.end + MARGIN].fill(0);
    }

    /// Where the dictionary begins; the block itself if there is none.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn begin(&self) -> usize {
        BEGIN
    }

    /// Just behind the block.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    #[inline(always)]
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes[at & (SIZE - 1)]
    }

    /// Four bytes, the first the lowest.
    #[inline(always)]
    pub(super) fn four(&self, at: usize) -> u32 {
        let at = at & (SIZE - 1);
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    #[inline(always)]
    pub(super) fn eight(&self, at: usize) -> u64 {
        let at = at & (SIZE - 1);
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// How many bytes are the same at two positions, at most `limit`.
    #[inline(always)]
    pub(super) fn common(&self, one: usize, other: usize, limit: usize) -> usize {
        let mut length = 0;
        while length < limit {
            let difference = self.eight(one + length) ^ self.eight(other + length);
            if difference != 0 {
                return limit.min(length + (difference.trailing_zeros() / 8) as usize);
            }
            length += 8;
        }
        limit
    }
}
