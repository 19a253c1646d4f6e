//! What the parser has to say to the author of a Dockerfile: a message, a place, a hint.
//!
//! Positions, spans, the renderer and the did-you-mean search live here; which diagnostics exist does not:
//! each is made where it is found. The rendered text follows the shape of rustc's:
//!
//! ```text
//! error: unknown instruction `RUNN`
//!  --> Dockerfile:7:1
//!   |
//! 7 | RUNN apt-get update
//!   | ^^^^
//! hint: did you mean `RUN`?
//! ```

use std::fmt::Write as _;

/// A place in a source text; sources are shorter than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Pos {
    /// Bytes before it.
    pub offset: u32,
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
}

/// A half-open stretch of a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first character.
    pub start: Pos,
    /// The place after the last character.
    pub end: Pos,
}

impl Span {
    /// From the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { start: self.start, end: last.end }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be built.
    Error,
    /// The file can be built; it may not do what its author meant.
    Warning,
}

/// One message about one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What was expected and what was found; lower case, no full stop.
    pub message: String,
    /// The place, if the message is about one.
    pub span: Option<Span>,
    /// A few words beside the carets.
    pub label: Option<String>,
    /// What the author may do about it.
    pub hint: Option<String>,
    /// The lint rule that it belongs to, by BuildKit's name.
    pub rule: Option<&'static str>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: Some(span),
            label: None,
            hint: None,
            rule: None,
        }
    }

    /// An error that no place can be named for.
    pub fn error_without_place(message: impl Into<String>) -> Self {
        Self { span: None, ..Self::error(Span::default(), message) }
    }

    /// A warning of `rule` at `span`.
    pub fn warning(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, rule: Some(rule), ..Self::error(span, message) }
    }

    /// The same with words beside the carets.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the hint "did you mean …?" if one of `candidates` is near to `word`.
    #[must_use]
    pub fn did_you_mean<'a>(self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match suggest(word, candidates) {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    /// The diagnostic as text, with the line it is about and carets below; ends with a line end.
    ///
    /// `source` is the text that the span points into.
    pub fn render(&self, file_name: &str, source: &str) -> String {
        let mut out = String::new();
        let head = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let rule = self.rule.map(|rule| format!(" ({rule})")).unwrap_or_default();
        let _ = writeln!(out, "{head}: {}{rule}", one_line(&self.message));
        match self.span {
            Some(span) => render_place(&mut out, span, self.label.as_deref(), file_name, source),
            None => {
                let _ = writeln!(out, " --> {file_name}");
            }
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "hint: {}", one_line(hint));
        }
        out
    }
}

/// Characters of a line that are shown at most; a longer one is cut round the carets.
const SHOWN: usize = 160;

fn render_place(out: &mut String, span: Span, label: Option<&str>, file_name: &str, source: &str) {
    let Span { start, end } = span;
    let (from, to) = (start.offset as usize, end.offset as usize);
    let line_start = source.get(..from).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = source[line_start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
    let margin = " ".repeat(start.line.to_string().len());
    let before = line.get(..from - line_start).unwrap_or(line);
    let end_in_line = if end.line == start.line { to - line_start } else { line.len() };
    let marked = line.get(before.len()..end_in_line).unwrap_or_default();

    let skipped = before.chars().count().saturating_sub(SHOWN / 2);
    let cut = if skipped > 0 { "…" } else { "" };
    let shown: String = line.chars().skip(skipped).take(SHOWN).map(printable).collect();
    let pad: String = before.chars().skip(skipped).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let room = SHOWN - pad.chars().count().min(SHOWN - 1);
    let carets = "^".repeat(marked.chars().count().clamp(1, room));
    let label = label.map(|label| format!(" {label}")).unwrap_or_default();
    let cut_pad = if skipped > 0 { " " } else { "" };
    let _ = writeln!(out, "{margin}--> {file_name}:{}:{}", start.line, start.column);
    let _ = writeln!(out, "{margin} |");
    let text_line = format!("{} | {cut}{}", start.line, shown);
    let _ = writeln!(out, "{}", text_line.trim_end());
    let _ = writeln!(out, "{margin} | {cut_pad}{pad}{carets}{label}");
}

fn one_line(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// A terminal must not obey what a Dockerfile contains.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

/// The candidate nearest to `word`, if it is near enough to be meant: letters' case apart, at most a third of
/// the letters differ.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let lower: Vec<char> = word.to_lowercase().chars().collect();
    if lower.is_empty() || lower.len() > LONGEST {
        return None;
    }
    let near = |candidate: &str| (lower.len().max(candidate.chars().count()) / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(lower.len()) <= near(candidate))
        .map(|candidate| (distance(&lower, candidate), candidate))
        .filter(|&(distance, candidate)| {
            distance <= near(candidate) && distance < lower.len() && candidate != word
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance with swapped neighbours counted once, case apart.
fn distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(x != y);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_or_absent() {
        let names = ["FROM", "RUN", "COPY", "ENTRYPOINT", "ENV"];
        for (word, expected) in [
            ("RUNN", Some("RUN")),
            ("rnu", Some("RUN")),
            ("FORM", Some("FROM")),
            ("ENTRYPIONT", Some("ENTRYPOINT")),
            ("CPY", Some("COPY")),
            ("", None),
            ("BANANA", None),
            ("X", None),
        ] {
            assert_eq!(suggest(word, names), expected, "{word}");
        }
    }

    #[test]
    fn a_span_may_end_on_a_later_line_and_lines_may_be_long() {
        let source = format!("FROM a\n{}\u{1b}[31mRUN\nxy", "é".repeat(300));
        let start = Pos { offset: 607, line: 2, column: 301 };
        let end = Pos { offset: 620, line: 3, column: 2 };
        let text = Diagnostic::error(Span { start, end }, "odd").label("here").render("D", &source);
        assert!(text.starts_with("error: odd\n --> D:2:301\n  |\n2 | …é"), "{text}");
        assert!(text.ends_with("^^^^^^^^ here\n"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
