//! Words, numbers and tables for people's eyes. A terminal obeys nothing that passes through here.
//!
//! What comes from images, registries and Dockerfiles may hold control sequences; [`printable`] makes them
//! visible and [`plain_line`] takes them out.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The text with every control character replaced by a visible one.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { '\u{fffd}' } else { c }).collect()
}

/// As [`printable`], but lines stay lines and tabs stay tabs.
pub(crate) fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if is_control(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// One line of a program's output as a terminal would show it in the end: what a carriage return overwrites is
/// gone, escape sequences are gone, tabs are blanks.
pub(crate) fn plain_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    let shown = text.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default();
    let mut plain = String::with_capacity(shown.len());
    let mut chars = shown.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_parameters(&mut chars),
            '\t' => plain.push_str("    "),
            c if is_control(c) => {}
            c => plain.push(c),
        }
    }
    plain
}

/// What follows an escape character. (ECMA-48, 5.3, 5.4 and 5.6.)
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => skip_parameters(chars),
        // Strings: operating system command, device control, privacy message, application command.
        Some(']' | 'P' | '^' | '_' | 'X') => {
            while let Some(c) = chars.next() {
                match c {
                    '\u{7}' | '\u{9c}' => return,
                    '\u{1b}' => {
                        chars.next_if_eq(&'\\');
                        return;
                    }
                    _ => {}
                }
            }
        }
        // Intermediate bytes come before the final one.
        Some(' '..='/') => while chars.next().is_some_and(|c| (' '..='/').contains(&c)) {},
        _ => {}
    }
}

fn skip_parameters(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while chars.next().is_some_and(|c| (' '..='?').contains(&c)) {}
}

/// Control characters, and those that change the direction of writing (CVE-2021-42574).
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// A number of bytes with three digits, in powers of 1000 as Docker shows them: `12.3MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes, 0);
    let mut rest = 0;
    while value >= 1000 && unit + 1 < UNITS.len() {
        rest = value % 1000;
        value /= 1000;
        unit += 1;
    }
    let name = UNITS[unit];
    match value {
        _ if unit == 0 => format!("{value}{name}"),
        0..10 => format!("{value}.{:02}{name}", rest / 10),
        10..100 => format!("{value}.{}{name}", rest / 100),
        _ => format!("{value}{name}"),
    }
}

/// A duration in seconds: `1.2s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// A time as RFC 3339 writes it, in UTC; empty before the year 0 and after 9999, where a clock is wrong.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

/// How long ago an RFC 3339 time was: `3 hours ago`; empty where the text is no time.
pub(crate) fn age(created: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(created, &Rfc3339) else { return String::new() };
    let seconds = (now - then).whole_seconds().max(0);
    let steps = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
    ];
    match steps.iter().find(|(length, _)| seconds >= 2 * length || (seconds >= *length && *length < 86_400)) {
        Some((length, name)) => count(seconds / length, name) + " ago",
        None if seconds < 1 => "less than a second ago".to_owned(),
        None => count(seconds, "second") + " ago",
    }
}

/// `1 layer`, `2 layers`.
pub(crate) fn count(number: impl Into<i128>, noun: &str) -> String {
    let number = number.into();
    if number == 1 { format!("{number} {noun}") } else { format!("{number} {noun}s") }
}

/// The first `width` characters; the last of them is `…` if there were more.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some(_) => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// Columns of equal width, three blanks between them; the last one is as wide as it is.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in std::iter::once(&head.map(str::to_owned)).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{:width$}   ", printable(cell));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07text", "text"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b(Bx\x1b[2Jy\x1b", "xy"),
            (b"10%\r50%\r100%\r\n", "100%"),
            (b"a\tb\x08\x07", "a    b"),
            (b"\xff", "\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(plain_line(bytes), expected, "{bytes:?}");
        }
        assert_eq!(printable("a\u{1b}[2J\u{202e}b"), "a\u{fffd}[2J\u{fffd}b");
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (1_234, "1.23kB"),
            (12_345, "12.3kB"),
            (123_456, "123kB"),
            (1_500_000, "1.50MB"),
            (2_000_000_000, "2.00GB"),
            (u64::MAX, "18446PB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn ages_are_rounded_down() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000_000).unwrap();
        for (seconds, expected) in [
            (0, "less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (7200, "2 hours ago"),
            (86_400 + 3600, "25 hours ago"),
            (3 * 86_400, "3 days ago"),
            (15 * 86_400, "2 weeks ago"),
            (70 * 86_400, "2 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            let then = (now - time::Duration::seconds(seconds)).format(&Rfc3339).unwrap();
            assert_eq!(age(&then, now), expected);
        }
        assert_eq!(age("yesterday", now), "");
    }

    #[test]
    fn tables_line_up() {
        let rows = [["debian".to_owned(), "1".to_owned()], ["a".to_owned(), "12\u{1b}".to_owned()]];
        assert_eq!(table(["NAME", "TAG"], &rows), "NAME     TAG\ndebian   1\na        12\u{fffd}\n");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("abcd", 4), "abcd");
    }
}
