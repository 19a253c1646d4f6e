//! Splitting the text of a line: blanks, quotes, flags. Everything here answers with stretches of the text.

use std::ops::Range;

/// The blanks that separate a keyword from its arguments, and the arguments of most instructions.
pub(super) const BLANKS: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

/// The blanks between flags; others of Unicode's are letters there.
const FLAG_BLANKS: [char; 6] = ['\t', '\n', '\x0b', '\x0c', '\r', ' '];

/// `range` without blanks of any script at its ends.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + part.len() - part.trim_start().len();
    start..(start + part.trim().len())
}

/// The first word and what follows the blanks behind it.
pub(super) fn split_first(text: &str, range: Range<usize>) -> (Range<usize>, Option<Range<usize>>) {
    let part = &text[range.clone()];
    match part.find(BLANKS) {
        None => (range, None),
        Some(at) => {
            let rest = part[at..].trim_start_matches(BLANKS);
            (range.start..range.start + at, Some(range.end - rest.len()..range.end))
        }
    }
}

/// The words between blanks; quotes mean nothing.
pub(super) fn split_blanks(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut rest = (!range.is_empty()).then_some(range);
    while let Some(range) = rest {
        let (word, after) = split_first(text, range);
        words.push(word);
        rest = after;
    }
    words
}

/// The words between blanks, quoted blanks apart; quotes and escapes stay. An escape at the very end is
/// dropped.
pub(super) fn split_quoted(text: &str, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text[range.clone()].char_indices().map(|(at, c)| (range.start + at, c));
    let mut end = range.end;
    while let Some((at, c)) = chars.next() {
        if start.is_none() {
            if c.is_whitespace() {
                continue;
            }
            start = Some(at);
        }
        match quote {
            None if c.is_whitespace() => words.extend(start.take().map(|start| start..at)),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape && quote != Some('\'') && chars.next().is_none() => end = at,
            _ => {}
        }
    }
    words.extend(start.map(|start| start..end).filter(|word| !word.is_empty()));
    words
}

/// A flag: its text with quotes and escapes taken away, and for each byte of it its place in the line.
#[derive(Debug, Clone)]
pub(super) struct FlagText {
    pub(super) text: String,
    pub(super) origins: Vec<usize>,
    /// Where the flag stands, quotes included.
    pub(super) range: Range<usize>,
}

impl FlagText {
    fn push(&mut self, at: usize, c: char) {
        self.text.push(c);
        self.origins.extend(at..at + c.len_utf8());
    }
}

/// The flags at the head of the arguments, and the rest. A bare `--` ends them and is dropped. Quotes group,
/// and `\` escapes inside both kinds of them and outside.
pub(super) fn split_flags(text: &str, range: Range<usize>) -> (Vec<FlagText>, Range<usize>) {
    let mut flags = Vec::new();
    let mut rest = range;
    loop {
        rest.start += text[rest.clone()].len() - text[rest.clone()].trim_start_matches(FLAG_BLANKS).len();
        if !text[rest.clone()].starts_with("--") {
            return (flags, trim(text, rest));
        }
        let flag = flag(text, rest.clone());
        rest.start = flag.range.end;
        if flag.text == "--" {
            return (flags, trim(text, rest));
        }
        flags.push(flag);
    }
}

fn flag(text: &str, range: Range<usize>) -> FlagText {
    let mut flag = FlagText { text: String::new(), origins: Vec::new(), range: range.clone() };
    let mut quote = None;
    let mut chars = text[range.clone()].char_indices().map(|(at, c)| (range.start + at, c));
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, c) if FLAG_BLANKS.contains(&c) => {
                flag.range.end = at;
                break;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (_, '\\') => {
                if let Some((at, c)) = chars.next() {
                    flag.push(at, c);
                }
            }
            (_, c) => flag.push(at, c),
        }
    }
    flag
}
