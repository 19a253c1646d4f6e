//! Heredocs: which words of a line begin one, and the bodies on the lines below.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::expand::{raw_words, unquoted_words};
use super::instruction::Heredoc;
use super::lines::{Line, Reader};
use super::source::Source;

/// The heredocs that `line` begins, in order, their bodies still empty, each with its place in the line.
fn in_line(line: &str) -> Vec<(Heredoc, Range<usize>)> {
    let mut pairs = line.bytes().zip(line.bytes().skip(1));
    if !pairs.any(|pair| pair == (b'<', b'<')) {
        return Vec::new();
    }
    // A line that the shell's rules cannot split (an odd quote) has no heredocs.
    let words = raw_words(line).unwrap_or_default();
    let mut heredocs = Vec::new();
    let mut end = 0;
    for word in words {
        // A word is a stretch of the line as it stands, so it is found where the one before ended.
        let start = line[end..].find(&word).map_or(end, |at| end + at);
        end = line.len().min(start + word.len());
        heredocs.extend(in_word(&word).map(|heredoc| (heredoc, start..end)));
    }
    heredocs
}

/// The heredoc that `word` begins: digits, `<<`, perhaps `-`, and one name without `<`.
pub(super) fn in_word(word: &str) -> Option<Heredoc> {
    let (number, rest) = word.split_at(word.find('<')?);
    let rest = rest.strip_prefix("<<")?;
    let file_descriptor = match number {
        "" => 0,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let name = rest.trim_start_matches([' ', '\t', '\n', '\x0c', '\r']);
    if name.is_empty() || name.contains('<') {
        return None;
    }
    let (name, expand) = unquoted(name)?;
    Some(Heredoc {
        name,
        expand,
        strip_tabs,
        file_descriptor,
        content: String::new(),
        span: Default::default(),
    })
}

/// The one word that `name` is without its quotes, and whether it had none.
fn unquoted(name: &str) -> Option<(String, bool)> {
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Some((name.to_owned(), true));
    }
    let mut plain = unquoted_words(name).ok()?;
    let quoted = raw_words(name).ok()?;
    if plain.len() != 1 || quoted.len() != 1 {
        return None;
    }
    let expand = plain == quoted;
    Some((plain.remove(0), expand))
}

/// Reads the bodies of all heredocs that `line` begins.
pub(super) fn read<'s>(
    reader: &mut Reader<'s>,
    source: &Source<'s>,
    line: &mut Line<'s>,
) -> Result<Vec<Heredoc>, Diagnostic> {
    let mut heredocs = Vec::new();
    for (mut heredoc, place) in in_line(&line.text) {
        let terminated = read_body(reader, source, &mut heredoc);
        line.last_line = reader.line;
        if !terminated {
            let name = &heredoc.name;
            let message = format!("the heredoc `{name}` is never closed");
            return Err(Diagnostic::error(line.span(&place), message)
                .hint(format!("a line with `{name}` alone must follow its text")));
        }
        heredocs.push(heredoc);
    }
    Ok(heredocs)
}

/// Whether the terminator was found.
fn read_body<'s>(reader: &mut Reader<'s>, source: &Source<'s>, heredoc: &mut Heredoc) -> bool {
    let mut start = None;
    while let Some((at, text)) = reader.body_line() {
        let first = *start.get_or_insert(at);
        let trimmed = text.trim_end_matches(['\r', '\n']);
        let candidate = if heredoc.strip_tabs { trimmed.trim_start_matches('\t') } else { trimmed };
        if candidate == heredoc.name {
            heredoc.span = source.span(first, at);
            return true;
        }
        heredoc.content.push_str(text);
    }
    false
}
