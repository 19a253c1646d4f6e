//! The JSON arrays of the exec form, accepted exactly where Go's `encoding/json` accepts them.

use serde_json::value::RawValue;
use std::ops::Range;

/// What a text that may be an array of strings turned out to be.
pub(super) enum Array {
    /// An array of strings: each decoded, with its place in the text.
    Strings(Vec<(String, Range<usize>)>),
    /// An array with something else in it, which is an error; the place of the first.
    Mixed(Range<usize>),
    /// No array: the text is a shell command.
    Other,
}

/// Looks at `text`, which begins with no blanks.
pub(super) fn array(text: &str) -> Array {
    if !text.starts_with('[') {
        return Array::Other;
    }
    let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(text) else { return Array::Other };
    let mut strings = Vec::with_capacity(values.len());
    for value in values {
        let raw = value.get();
        let start = raw.as_ptr().addr() - text.as_ptr().addr();
        let range = start..start + raw.len();
        match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(inner) => strings.push((unescape(inner), range)),
            None => return Array::Mixed(range),
        }
    }
    Array::Strings(strings)
}

/// Decodes the inside of a string whose escapes are known to be well-formed. As in Go half a surrogate pair
/// becomes the replacement character.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let rest = chars.as_str();
                let (decoded, length) = utf16(rest);
                text.push(decoded);
                chars = rest[length..].chars();
            }
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

/// The character that begins with the four digits at the head of `rest`, and how many bytes it takes.
fn utf16(rest: &str) -> (char, usize) {
    let unit = |text: Option<&str>| text.and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let first = unit(rest.get(..4)).unwrap_or(0xfffd);
    let second = rest.get(4..6).filter(|&escape| escape == "\\u").and_then(|_| unit(rest.get(6..10)));
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match pair {
        Some(c) if c as u32 > 0xffff => (c, 10),
        _ => (char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER), 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_told_from_shell_commands() {
        let table: &[(&str, Option<&[&str]>)] = &[
            ("[]", Some(&[])),
            (r#"["a"]"#, Some(&["a"])),
            (r#"[ "a" ,	"b" ]"#, Some(&["a", "b"])),
            (r#"["\"\\\/\b\f\n\r\t"]"#, Some(&["\"\\/\u{8}\u{c}\n\r\t"])),
            (r#"["\u00e9\u4e0aé"]"#, Some(&["é上é"])),
            (r#"["\ud83d\ude00"]"#, Some(&["😀"])),
            (r#"["\ud83d"]"#, Some(&["\u{fffd}"])),
            (r#"["\ud83d\u0041"]"#, Some(&["\u{fffd}A"])),
            (r#"["\ud83d\\"]"#, Some(&["\u{fffd}\\"])),
            ("['a']", None),
            (r#"["a""#, None),
            (r#"["a"] x"#, None),
            (r#"["a",]"#, None),
            (r#"["\x"]"#, None),
            ("[\"\t\"]", None),
            ("a", None),
            ("{}", None),
            ("", None),
        ];
        for &(text, expected) in table {
            let found = match array(text) {
                Array::Strings(strings) => {
                    Some(strings.into_iter().map(|(text, _)| text).collect::<Vec<_>>())
                }
                _ => None,
            };
            assert_eq!(
                found,
                expected.map(|words| words.iter().map(|&word| word.to_owned()).collect()),
                "{text}"
            );
        }
        for text in ["[1]", r#"["a", 1]"#, "[null]", "[{}]", r#"[["a"]]"#, "[true]"] {
            assert!(matches!(array(text), Array::Mixed(_)), "{text}");
        }
    }
}
