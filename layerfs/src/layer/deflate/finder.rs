//! Finds where the bytes at a position have been before: hash chains.
//!
//! A position that was passed is in the chain of its seven bytes, where matches that long are looked for and nothing else
//! is: a few steps there find what would take hundreds in a chain of four bytes. Where there is none, the two latest
//! positions of the same four bytes are tried, then the latest of the same three. Farther ones would be no longer by
//! much, and dearer by their distance.
//!
//! Invariants: positions go up; a chain goes strictly down and ends where matches cannot reach. Tables hold positions as
//! 16 bits above `base`, 0 for none; before one would not fit, all are brought down by 32 KiB, and those that fall off
//! are out of reach. What a hash leads to is compared before it is believed.

use super::low;
use super::parse::Effort;
use super::window::{REACH, Window};

/// A match; none if its length is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) length: usize,
    pub(super) distance: usize,
}

/// How many bytes make the hash of a chain.
const MANY: usize = 7;

/// A match of three bytes pays up to here.
const FAR_FOR_THREE: usize = 8 * 1024;

const HEADS: usize = 1 << 16;
const HEADS_OF_FEW: usize = 1 << 15;
const HEADS_OF_THREE: usize = 1 << 15;

/// The positions of what was passed.
pub(super) struct Finder {
    many: Chains,
    /// By the hash of four bytes, the two latest positions, the latest in the low half.
    few: Box<[u32; HEADS_OF_FEW]>,
    /// By the hash of three bytes, the latest position.
    threes: Box<[u16; HEADS_OF_THREE]>,
    base: usize,
}

/// Where to begin to look.
struct Heads {
    many: u16,
    few: u32,
    three: u16,
}

impl Finder {
    pub(super) fn new() -> Finder {
        Finder { many: Chains::new(), few: table(), threes: table(), base: 0 }
    }

    /// Forgets all positions. Links may stay: only heads lead to them, and these go where links are new.
    pub(super) fn clear(&mut self) {
        self.many.heads.fill(0);
        self.few.fill(0);
        self.threes.fill(0);
        self.base = 0;
    }

    /// Passes a position.
    #[inline(always)]
    pub(super) fn pass(&mut self, window: &Window, at: usize) {
        self.enter(window, at);
    }

    /// Passes a position, and gives the longest match at it that is longer than `than`, and at most `limit` long: the
    /// nearest of these. It looks at a part of the positions that `effort` allows, one in 2^`less`.
    #[inline(always)]
    pub(super) fn longest(
        &mut self,
        window: &Window,
        at: usize,
        (than, limit): (usize, usize),
        effort: Effort,
        less: u32,
    ) -> Match {
        let heads = self.enter(window, at);
        let relative = self.relative(at);
        let out_of_reach = relative.saturating_sub(REACH_16);
        let walk = Walk { window, at, base: self.base, out_of_reach, limit, enough: effort.enough };
        let found = walk.along(&self.many, heads.many, than.max(MANY - 1), effort.steps >> less);
        if found.length > 0 || than + 1 >= MANY {
            return found;
        }
        let found = walk.try_both(heads.few, than.max(3));
        if found.length > 0 || than >= 3 || limit < 3 || heads.three <= out_of_reach {
            return found;
        }
        let other = self.base + usize::from(heads.three);
        let same = (window.four(other) ^ window.four(at)) << 8 == 0;
        if same && at - other <= FAR_FOR_THREE {
            return Match { length: 3, distance: at - other };
        }
        Match::default()
    }

    /// Makes a position the head of its chains; gives what was.
    #[inline(always)]
    fn enter(&mut self, window: &Window, at: usize) -> Heads {
        if at - self.base > usize::from(u16::MAX) {
            self.rebase();
        }
        let relative = self.relative(at);
        let eight = window.eight(at);
        let four = (eight & 0xffff_ffff) as u32;
        let latest = &mut self.few[hash_of_few(four)];
        Heads {
            many: self.many.enter(hash_of_many(eight), at, relative),
            few: std::mem::replace(latest, *latest << 16 | u32::from(relative)),
            three: std::mem::replace(&mut self.threes[hash_of_three(four)], relative),
        }
    }

    #[inline(always)]
    fn relative(&self, at: usize) -> u16 {
        low(at - self.base)
    }

    #[cold]
    #[inline(never)]
    fn rebase(&mut self) {
        let down = |table: &mut [u16]| table.iter_mut().for_each(|at| *at = at.saturating_sub(REACH_16));
        down(&mut self.many.heads[..]);
        down(&mut self.many.links[..]);
        down(&mut self.threes[..]);
        for both in &mut *self.few {
            let [latest, before] = halves(*both).map(|at| at.saturating_sub(REACH_16));
            *both = u32::from(before) << 16 | u32::from(latest);
        }
        self.base += REACH;
    }
}

const REACH_16: u16 = 1 << 15;

/// Positions, 0 for none.
struct Chains {
    /// By hash, the latest.
    heads: Box<[u16; HEADS]>,
    /// By position, modulo the reach: the one before it with the same hash.
    links: Box<[u16; REACH]>,
}

impl Chains {
    fn new() -> Chains {
        Chains { heads: table(), links: table() }
    }

    #[inline(always)]
    fn enter(&mut self, hash: usize, at: usize, relative: u16) -> u16 {
        let next = std::mem::replace(&mut self.heads[hash], relative);
        self.links[at % REACH] = next;
        next
    }
}

/// The low half and the high one.
#[inline(always)]
fn halves(both: u32) -> [u16; 2] {
    [(both & 0xffff) as u16, (both >> 16) as u16]
}

fn table<T: Default + Copy + std::fmt::Debug, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N].into_boxed_slice().try_into().expect("as long as the array")
}

/// The golden ratio's bits: what it multiplies is spread over the highest.
const GOLDEN: u32 = 0x9e37_79b1;
const GOLDEN_64: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn hash_of_many(eight: u64) -> usize {
    ((eight << (64 - 8 * MANY)).wrapping_mul(GOLDEN_64) >> 48) as usize
}

#[inline(always)]
fn hash_of_few(four: u32) -> usize {
    (four.wrapping_mul(GOLDEN) >> 17) as usize
}

#[inline(always)]
fn hash_of_three(four: u32) -> usize {
    ((four << 8).wrapping_mul(GOLDEN) >> 17) as usize
}

/// A search at one position.
struct Walk<'a> {
    window: &'a Window,
    at: usize,
    base: usize,
    out_of_reach: u16,
    limit: usize,
    enough: usize,
}

impl Walk<'_> {
    /// The longest match at the two positions that is longer than `than`, which is three or more.
    #[inline(always)]
    fn try_both(&self, both: u32, than: usize) -> Match {
        let (window, at) = (self.window, self.at);
        let mut best = Match { length: than, distance: 0 };
        let four = window.four(at);
        for next in halves(both) {
            let other = self.base + usize::from(next);
            if next > self.out_of_reach && window.four(other) == four {
                let length = window.common(at, other, self.limit);
                if length > best.length {
                    best = Match { length, distance: at - other };
                }
            }
        }
        if best.distance == 0 { Match::default() } else { best }
    }

    /// The longest match in a chain that is longer than `than`, of which three bytes are sure to be there.
    #[inline(always)]
    fn along(&self, chains: &Chains, head: u16, than: usize, steps: u32) -> Match {
        let (window, at) = (self.window, self.at);
        let mut best = Match { length: than, distance: 0 };
        if than >= self.limit {
            return Match::default();
        }
        // The last three bytes of the best, and one more, must be there for a match to be longer.
        let mut tail = window.four(at + than - 3);
        let (mut next, mut left) = (head, steps);
        while next > self.out_of_reach && left > 0 {
            let other = self.base + usize::from(next);
            left -= 1;
            if window.four(other + best.length - 3) == tail {
                let length = window.common(at, other, self.limit);
                if length > best.length {
                    best = Match { length, distance: at - other };
                    if length >= self.enough || length >= self.limit {
                        break;
                    }
                    tail = window.four(at + length - 3);
                }
            }
            next = chains.links[other % REACH];
        }
        if best.distance == 0 { Match::default() } else { best }
    }
}
