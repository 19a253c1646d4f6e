//! What can be asked about a Dockerfile instead of building it: `--call check`, `outline`, `targets`. (`ast` is
//! [`crate::dockerfile::ast`].)
//!
//! Each answer is a value with two faces: [`serde::Serialize`] gives the JSON of BuildKit's subrequests
//! (frontend/subrequests, 1.0.0), `text` gives what buildx prints. Nothing is executed; only `check` asks for images.

pub mod check;
pub mod outline;
pub mod targets;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::dockerfile::{Instruction, Span};

/// Lines of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Location {
    /// One range a line, as BuildKit has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
}

/// A stretch of the Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Where it begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
}

/// A place in the Dockerfile. BuildKit names no characters in what is of interest here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
}

impl Location {
    /// All lines from the first to the last, which counts.
    fn lines(first: u32, last: u32) -> Location {
        let line = |line| Range { start: Position { line }, end: Position { line } };
        Location { ranges: (first..=last).map(line).collect() }
    }

    fn of(span: Span) -> Location {
        Location::lines(span.start.line, span.end.line)
    }

    /// The first line and the last.
    fn ends(&self) -> Option<(u32, u32)> {
        Some((self.ranges.first()?.start.line, self.ranges.last()?.end.line))
    }
}

/// What the comments above an instruction say about `name`: the rest of the line that begins with it.
fn description(instruction: &Instruction, name: &str) -> String {
    let about = |comment: &String| comment.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
    instruction.comments.iter().find_map(about).unwrap_or_default()
}

/// A text as Go's JSON has bytes: in base64.
pub fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

/// Rows with their columns aligned, `gap` blanks between them.
fn table(rows: &[Vec<String>], gap: usize) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or_default() + gap).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A terminal must not obey what a Dockerfile contains.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
