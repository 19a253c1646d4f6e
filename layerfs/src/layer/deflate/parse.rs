//! Chooses, position for position, between a literal and a match.
//!
//! A match is taken only when none that begins a byte later is better (lazy matching, as zlib has it); what it is long by
//! counts most, then how near it is, since a near distance takes fewer bits.

use super::finder::{Finder, Match};
use super::low;
use super::tokens::Tokens;
use super::window::{LONGEST, Window};

/// How hard to look for matches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// How many positions of a chain to look at.
    pub(super) steps: u32,
    /// A match of this length is not improved on.
    pub(super) enough: usize,
    /// From this length on, only a quarter as many positions are looked at for a better match a byte later.
    pub(super) good: usize,
    /// From this length on, none is looked for.
    pub(super) lazy: usize,
    /// What is inside of longer matches is not looked for later.
    pub(super) seen: usize,
}

impl Effort {
    /// For a level of 1, the fastest, to 9; others are brought into range.
    pub(super) fn of(level: u32) -> Effort {
        let (steps, enough, good, lazy, seen) = match level {
            0 | 1 => (1, 16, 0, 0, 8),
            2 => (2, 32, 0, 0, 32),
            3 => (4, 32, 0, 0, LONGEST),
            4 => (6, 64, 8, 16, LONGEST),
            5 => (16, 64, 8, 32, LONGEST),
            6 => (32, 64, 8, 32, LONGEST),
            7 => (96, LONGEST, 32, LONGEST, LONGEST),
            8 => (384, LONGEST, 64, LONGEST, LONGEST),
            _ => (2048, LONGEST, LONGEST, LONGEST, LONGEST),
        };
        Effort { steps, enough, good, lazy, seen }
    }
}

/// Tokens are counted by stretches of about so many bytes.
const CHUNK: usize = 8192;

/// Parses the block that is in the window.
pub(super) fn parse(window: &Window, finder: &mut Finder, tokens: &mut Tokens, effort: Effort) {
    let (mut at, end) = (window.begin(), window.end());
    let mut cut = at + CHUNK;
    while at < end {
        if at >= cut {
            tokens.cut();
            cut = at + CHUNK;
        }
        let mut found = finder.longest(window, at, (2, LONGEST.min(end - at)), effort, 0);
        if found.length == 0 {
            tokens.literal(window.byte(at));
            at += 1;
            continue;
        }
        // The first position that was not passed.
        let mut ahead = at + 1;
        while found.length < effort.lazy && ahead < end {
            let less = if found.length >= effort.good { 2 } else { 1 };
            let room = (found.length - 1, LONGEST.min(end - ahead));
            let next = finder.longest(window, ahead, room, effort, less);
            ahead += 1;
            if !is_better(next, found) {
                break;
            }
            tokens.literal(window.byte(at));
            at += 1;
            found = next;
        }
        tokens.found(found);
        at += found.length;
        if found.length <= effort.seen {
            (ahead..at).for_each(|at| finder.pass(window, at));
        }
    }
    tokens.cut();
}

/// Whether a match is worth a literal before it; it is no shorter, or none.
#[inline(always)]
fn is_better(next: Match, found: Match) -> bool {
    if next.length < found.length {
        return false;
    }
    let nearer = found.distance.ilog2().cast_signed() - next.distance.ilog2().cast_signed();
    4 * i32::from(low(next.length - found.length)) + nearer > 2
}
