//! A word of an instruction and the way from its text back to the source.
//!
//! The text of a word is not always one stretch of the source: continuations are joined, the quotes of a flag
//! and of a JSON string are taken away. [`Seam`]s remember where it goes on elsewhere, so that a message can
//! point at the very character that it is about.

use std::ops::Range;

use super::diagnostic::{Pos, Span};

/// A piece of an instruction, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The text, unexpanded, continuations already joined.
    pub text: String,
    /// Where it stands in the source.
    pub span: Span,
    /// Ascending; none for a word that is one stretch of the source.
    seams: Box<[Seam]>,
}

/// From here on the text stands at another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seam {
    /// Where in the text, in bytes.
    pub(super) at: usize,
    /// Where in the source.
    pub(super) place: Pos,
}

impl Word {
    pub(super) fn new(text: String, span: Span, seams: Vec<Seam>) -> Self {
        Self { text, span, seams: seams.into() }
    }

    /// The same word in a wider place: with its quotes.
    pub(super) fn outside(mut self, span: Span) -> Self {
        let first = Seam { at: 0, place: self.span.start };
        self.seams = std::iter::once(first).chain(self.seams).collect();
        self.span = span;
        self
    }

    /// The place of the character at the byte `offset` of the text; behind the last one it is an empty stretch.
    pub fn at(&self, offset: usize) -> Span {
        let length = self.text.get(offset..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        self.place(offset..offset + length)
    }

    /// The place of a stretch of the text; the whole word if it cannot be told, as in a JSON string with
    /// escapes.
    pub(super) fn place(&self, range: Range<usize>) -> Span {
        let length = self.span.end.offset - self.span.start.offset;
        let (Some(before), Some(inside)) = (self.text.get(..range.start), self.text.get(range)) else {
            return self.span;
        };
        if self.seams.is_empty() && length as usize != self.text.len() {
            return self.span;
        }
        let start = self.pos(before.len());
        let end = match inside.chars().next_back() {
            None => start,
            Some(last) => {
                let last_at = self.pos(before.len() + inside.len() - last.len_utf8());
                advance(last_at, 1, last.len_utf8())
            }
        };
        Span { start, end }
    }

    /// A stretch of the word as a word of its own.
    pub(super) fn part(&self, range: Range<usize>) -> Word {
        let inner = self.seams.iter().filter(|seam| range.start < seam.at && seam.at < range.end);
        let seams = inner.map(|seam| Seam { at: seam.at - range.start, ..*seam }).collect();
        Word { span: self.place(range.clone()), text: self.text[range].to_owned(), seams }
    }

    /// The place of the byte at `offset`, which begins a character or ends the text.
    fn pos(&self, offset: usize) -> Pos {
        let passed = self.seams.partition_point(|seam| seam.at <= offset);
        let (at, place) = match passed.checked_sub(1) {
            Some(last) => (self.seams[last].at, self.seams[last].place),
            None => (0, self.span.start),
        };
        let between = &self.text[at..offset];
        advance(place, between.chars().count(), between.len())
    }
}

/// The place `characters` further on in the same line.
fn advance(from: Pos, characters: usize, bytes: usize) -> Pos {
    let add = |number: u32, more: usize| number.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    Pos { offset: add(from.offset, bytes), line: from.line, column: add(from.column, characters) }
}
