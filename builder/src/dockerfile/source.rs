//! A source text with its lines counted, so that a byte offset becomes a line and a column.

use std::cell::Cell;

use super::diagnostic::{Pos, Span};

/// The text of a Dockerfile.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    line_starts: Vec<usize>,
    /// The place asked for last: columns are counted from there, back or on, or a long line would be counted
    /// once a word.
    last: Cell<Pos>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(ends).collect();
        Self { text, line_starts, last: Cell::new(Pos { offset: 0, line: 1, column: 1 }) }
    }

    /// The place of the byte at `offset`.
    pub(super) fn pos(&self, offset: usize) -> Pos {
        let last = self.last.get();
        let starts = &self.line_starts;
        let same = last.line as usize;
        let line = match starts[same - 1] <= offset && starts.get(same).is_none_or(|&next| offset < next) {
            true => same,
            false => starts.partition_point(|&start| start <= offset),
        };
        let start = starts[line - 1];
        let known = last.offset as usize;
        let count = |part: &str| part.chars().count();
        let column = match last.column as usize {
            at if last.line as usize == line && known <= offset => at + count(&self.text[known..offset]),
            at if last.line as usize == line && known - offset < offset - start => {
                at - count(&self.text[offset..known])
            }
            _ => 1 + count(&self.text[start..offset]),
        };
        let pos = Pos { offset: narrow(offset), line: narrow(line), column: narrow(column) };
        self.last.set(pos);
        pos
    }

    /// The stretch from `start` to `end`.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        Span { start: self.pos(start), end: self.pos(end.max(start)) }
    }
}

/// `parse` refuses texts that do not fit.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
