//! Bits on their way into bytes, the first the lowest (RFC 1951, 3.1.1).

/// Bytes, and the bits that do not make one yet.
pub(super) struct Bits {
    out: Vec<u8>,
    /// How many bytes of `out` are written; what is behind them is room.
    written: usize,
    hold: u64,
    count: u32,
}

impl Bits {
    pub(super) fn new() -> Bits {
        Bits { out: Vec::new(), written: 0, hold: 0, count: 0 }
    }

    /// Makes room for so many more bits.
    pub(super) fn reserve(&mut self, bits: u64) {
        let bytes = usize::try_from(bits.div_ceil(8)).expect("a block is small");
        self.out.resize(self.written + bytes + 16, 0);
    }

    /// How many bits were written after the last whole byte.
    pub(super) fn over(&self) -> u32 {
        self.count
    }

    /// Adds bits: no more than 56 of them until the next `spill`.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        debug_assert!(self.count + count < 64 && bits >> count == 0, "bits fit");
        self.hold |= bits << (self.count & 63);
        self.count += count;
    }

    /// Writes the whole bytes; fewer than eight bits are left.
    #[inline(always)]
    pub(super) fn spill(&mut self) {
        self.out[self.written..self.written + 8].copy_from_slice(&self.hold.to_le_bytes());
        self.written += (self.count / 8) as usize;
        self.hold >>= self.count & 56;
        self.count &= 7;
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) {
        self.out.resize(self.out.len().max(self.written + 8), 0);
        self.count = self.count.next_multiple_of(8);
        self.spill();
    }

    /// Adds bytes, at a whole byte.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.count, 0);
        self.out[self.written..self.written + bytes.len()].copy_from_slice(bytes);
        self.written += bytes.len();
    }

    /// What was written, and a new beginning, with as much room: blocks are alike.
    pub(super) fn take(&mut self) -> Vec<u8> {
        debug_assert_eq!(self.count, 0);
        self.out.truncate(self.written);
        self.written = 0;
        self.hold = 0;
        let room = Vec::with_capacity(self.out.capacity());
        std::mem::replace(&mut self.out, room)
    }
}
