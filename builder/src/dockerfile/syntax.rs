//! The rarer ways in which the first line of a file names its frontend: `//syntax=NAME` and
//! `{"syntax": "NAME"}`. The usual one, `# syntax=NAME`, is a directive and belongs to `lines.rs`.
//!
//! BuildKit would hand the file to that frontend. lbuild reads every file with its own parser, so the name is
//! only remembered.

use super::instruction::Word;
use super::lines::Line;
use super::words::trim;

/// The frontend that `line`, the first one that is no comment, names.
pub(super) fn in_line(line: &Line<'_>) -> Option<Word> {
    let text = &line.text;
    if let Some(comment) = text.strip_prefix("//") {
        let (key, value) = comment.split_once('=')?;
        let value = trim(text, text.len() - value.len()..text.len());
        return (key.trim().eq_ignore_ascii_case("syntax") && !value.is_empty()).then(|| line.word(value));
    }
    if text.starts_with('{') {
        let object: serde_json::Value = serde_json::from_str(text).ok()?;
        let name = object.get("syntax")?.as_str()?;
        return Some(Word::new(name.to_owned(), line.span(&trim(text, 0..text.len())), Vec::new()));
    }
    None
}
