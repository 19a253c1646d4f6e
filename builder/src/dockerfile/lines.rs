//! Physical lines become logical ones: comments dropped, continuations joined, directives taken from the
//! head.
//!
//! The order for each line: line end and byte order mark off, blanks before an instruction off, comment or
//! directive, then continuations. Bodies of heredocs are read through [`Reader::body_line`], where none of
//! this applies.
//!
//! Invariants: every byte of a logical line can be found again in the source; a logical line is never blank.

use super::diagnostic::{Diagnostic, Span};
use super::instruction::{Directives, Word};
use super::source::Source;
use super::word::Seam;
use super::words::FlagText;
use std::ops::Range;

/// The longest physical line, in bytes, its `\n` not counted; BuildKit's scanner takes no longer one.
const MAX_LINE: usize = 65_535;

/// One instruction's line.
pub(super) struct Line<'s> {
    source: &'s Source<'s>,
    /// The joined text.
    pub(super) text: String,
    /// Where pieces of the text come from: (offset in the text, offset in the source), ascending.
    pieces: Vec<(usize, usize)>,
    /// Number of the first physical line.
    pub(super) first_line: usize,
    /// Number of the last physical line.
    pub(super) last_line: usize,
    /// Comment lines directly above.
    pub(super) comments: Vec<String>,
}

impl Line<'_> {
    /// Where a stretch of the text stands.
    pub(super) fn span(&self, range: &Range<usize>) -> Span {
        let start = self.origin(range.start);
        let end = if range.is_empty() { start } else { self.origin(range.end - 1) + 1 };
        self.source.span(start, end)
    }

    /// A stretch of the text as a word.
    pub(super) fn word(&self, range: Range<usize>) -> Word {
        let span = self.span(&range);
        if let [_] = self.pieces[..] {
            return Word::new(self.text[range].to_owned(), span, Vec::new());
        }
        let first = self.pieces.partition_point(|&(start, _)| start <= range.start);
        let inside = self.pieces[first..].iter().take_while(|&&(start, _)| start < range.end);
        let seam = |&(start, origin)| Seam { at: start - range.start, place: self.source.pos(origin) };
        let seams = inside.map(seam).collect();
        Word::new(self.text[range].to_owned(), span, seams)
    }

    /// A flag as a word: what of it was quoted or escaped stands at the places that `flag` names.
    pub(super) fn flag(&self, flag: &FlagText) -> Word {
        let mut seams = Vec::new();
        let mut expected = None;
        for (at, &offset) in flag.origins.iter().enumerate() {
            let origin = self.origin(offset);
            if expected.is_some_and(|expected| expected != origin) && flag.text.is_char_boundary(at) {
                seams.push(Seam { at, place: self.source.pos(origin) });
            }
            expected = Some(origin + 1);
        }
        Word::new(flag.text.clone(), self.span(&flag.range), seams)
    }

    /// The string of a JSON array that stands at `range`, its quotes included.
    pub(super) fn string(&self, text: String, range: &Range<usize>) -> Word {
        let word = self.word(range.start + 1..range.end - 1);
        // Decoded escapes make it another text, whose parts have no places of their own.
        if word.text == text {
            word.outside(self.span(range))
        } else {
            Word::new(text, self.span(range), vec![])
        }
    }

    fn origin(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|&(start, _)| start <= offset).saturating_sub(1);
        let (start, origin) = self.pieces[piece];
        origin + (offset - start)
    }
}

/// Reads a source from its first line to its last.
pub(super) struct Reader<'s> {
    source: &'s Source<'s>,
    at: usize,
    /// Physical lines read.
    pub(super) line: usize,
    pub(super) directives: Directives,
    /// Whether a directive may still come.
    directives_open: bool,
    /// Whether the file begins with a `#!` line. BuildKit looks past it for `syntax` and `check` only.
    shebang: bool,
    seen: Vec<String>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// A physical line.
#[derive(Clone, Copy)]
struct Physical<'s> {
    start: usize,
    /// Without its end.
    text: &'s str,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source<'s>) -> Self {
        Self {
            source,
            at: if source.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 },
            line: 0,
            directives: Directives::default(),
            directives_open: true,
            shebang: false,
            seen: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// The next instruction's line.
    pub(super) fn next(&mut self) -> Option<Line<'s>> {
        let mut comments = Vec::new();
        loop {
            let physical = self.physical()?;
            let text = physical.text.trim_start();
            let start = physical.start + physical.text.len() - text.len();
            if let Some(comment) = text.strip_prefix('#') {
                self.comment(start, comment, &mut comments);
                continue;
            }
            self.directives_open = false;
            if !text.is_empty() {
                return Some(self.join(Physical { start, text }, comments));
            }
        }
    }

    /// The next line as it stands, with its end: (offset, text).
    pub(super) fn body_line(&mut self) -> Option<(usize, &'s str)> {
        let start = self.at;
        let physical = self.physical()?;
        Some((physical.start, &self.source.text[start..self.at]))
    }

    fn physical(&mut self) -> Option<Physical<'s>> {
        let start = self.at;
        let rest = self.source.text.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.at += length;
        self.line += 1;
        let bytes = rest[..length].trim_end_matches('\n').len();
        if bytes > MAX_LINE {
            let message = format!("this line has {bytes} bytes; at most {MAX_LINE} are allowed");
            let error = Diagnostic::error(self.source.span(start, start), message);
            self.diagnostics.push(error.hint("break it with a continuation, or copy long text from a file"));
        }
        Some(Physical { start, text: rest[..length].trim_end_matches(['\r', '\n']) })
    }

    /// A comment line, `#` already off.
    fn comment(&mut self, start: usize, comment: &str, comments: &mut Vec<String>) {
        if self.line == 1 && comment.starts_with('!') {
            self.shebang = true;
            return;
        }
        if self.directives_open && self.directive(start + 1, comment) {
            return;
        }
        self.directives_open = false;
        match comment.trim() {
            "" => comments.clear(),
            text => comments.push(text.to_owned()),
        }
    }

    /// Takes the comment as a directive, if it is one.
    fn directive(&mut self, start: usize, comment: &str) -> bool {
        let Some((key, value)) = comment.split_once('=') else { return false };
        let name = key.trim().to_ascii_lowercase();
        let text = value.trim();
        if !matches!(name.as_str(), "syntax" | "escape" | "check") || text.is_empty() {
            return false;
        }
        let value_start = start + key.len() + 1 + (value.len() - value.trim_start().len());
        let span = self.source.span(value_start, value_start + text.len());
        if self.seen.contains(&name) {
            if self.shebang {
                return true;
            }
            let message = format!("the directive `{name}` is given a second time");
            self.diagnostics.push(Diagnostic::error(span, message));
            return true;
        }
        let word = Word::new(text.to_owned(), span, Vec::new());
        match (name.as_str(), text) {
            ("syntax", _) => self.directives.syntax = Some(word),
            ("check", _) => self.directives.check = Some(word),
            _ if self.shebang => {}
            (_, "\\") => self.directives.escape = '\\',
            (_, "`") => self.directives.escape = '`',
            _ => {
                let message = format!("the escape character is `\\` or a backtick, not `{text}`");
                self.diagnostics.push(Diagnostic::error(span, message));
            }
        }
        self.seen.push(name);
        true
    }

    /// Joins the continuations of an instruction that begins with `first`.
    fn join(&mut self, first: Physical<'s>, comments: Vec<String>) -> Line<'s> {
        let mut line = Line {
            source: self.source,
            text: String::with_capacity(first.text.len()),
            pieces: Vec::with_capacity(1),
            first_line: self.line,
            last_line: self.line,
            comments,
        };
        let mut continued = self.push(&mut line, first);
        let mut empty: Option<Physical<'s>> = None;
        while continued && let Some(next) = self.physical() {
            match next.text.trim_start() {
                "" => empty = Some(next),
                text if text.starts_with('#') => {}
                _ => continued = self.push(&mut line, next),
            }
        }
        line.last_line = self.line;
        if let Some(empty) = empty {
            let span = self.source.span(empty.start, empty.start);
            let warning = Diagnostic::warning("NoEmptyContinuation", span, "empty continuation line");
            self.diagnostics.push(warning.hint("remove it, or make it a comment"));
        }
        line
    }

    /// Appends a physical line; whether it is continued.
    fn push(&self, line: &mut Line<'s>, physical: Physical<'s>) -> bool {
        let continuation = without_continuation(physical.text, self.directives.escape);
        line.pieces.push((line.text.len(), physical.start));
        line.text.push_str(continuation.unwrap_or(physical.text));
        continuation.is_some()
    }
}

/// The text before an escape at the end of a line; blanks may follow it. A doubled escape continues nothing.
fn without_continuation(text: &str, escape: char) -> Option<&str> {
    let rest = text.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!rest.ends_with(escape)).then_some(rest)
}
