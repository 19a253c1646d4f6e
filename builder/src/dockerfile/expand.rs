//! Replacing `$variables`, quotes and escapes in a word, by the rules of BuildKit's shell lexer.
//!
//! The forms: `$n`, `${n}`, `${n:-w}`, `${n-w}`, `${n:+w}`, `${n+w}`, `${n:?w}`, `${n?w}`, `${n#p}`,
//! `${n##p}`, `${n%p}`, `${n%%p}`, `${n/p/r}`, `${n//p/r}`; the word `w` and the pattern `p` are expanded in
//! turn. Matching the patterns is `pattern.rs`; which texts are expanded at all, and with which variables, is
//! the lowering's business.
//!
//! One departure from BuildKit, on purpose: in `${n//p/r}` the replacement is inserted as it is. There, a
//! `$1` in its value is taken for a group of a regular expression.
//!
//! Invariants: the work is linear in the text and the values; nesting and the size of the result are bounded.

use std::collections::HashSet;

use super::diagnostic::Diagnostic;
use super::instruction::Word;
use super::pattern::{self, Pattern};

/// The longest result, in bytes: a chain of `ENV a=$a$a` doubles each time.
const MAX_EXPANDED: usize = 16 << 20;
/// The most that a pattern's length times its value's may be: matching costs that many steps.
const MAX_MATCHING: usize = 1 << 30;
/// How deep `${a:-${b:-…}}` may nest.
const MAX_DEPTH: usize = 128;

/// Looks a variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What became of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded<T = String> {
    /// The text or the words.
    pub value: T,
    /// The variables that were used and are not set, each once, in order. A form that says what to do without
    /// the variable (`${n:-w}`, `${n:+w}`, `${n:?w}`) does not count.
    pub unset: Vec<String>,
}

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandError {
    /// Where in the text, in bytes.
    pub offset: usize,
    /// What was expected; lower case, no full stop.
    pub message: String,
}

impl ExpandError {
    /// The error as a message about the place in `word`, the text of which was expanded.
    pub fn in_word(self, word: &Word) -> Diagnostic {
        Diagnostic::error(word.at(self.offset), self.message)
    }
}

impl std::fmt::Display for ExpandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ExpandError {}

/// Expands `text` to one string; blanks stay.
///
/// # Errors
/// Unbalanced quotes or braces, an unknown modifier, a bad pattern, or what `${n:?w}` demands.
pub fn expand_word(text: &str, escape: char, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    Lexer { escape, ..Lexer::new(text, lookup) }.text()
}

/// Expands `text` and splits it at blanks, those that came out of variables included. Quoted blanks do not
/// split.
///
/// # Errors
/// As [`expand_word`].
pub fn expand_words(
    text: &str,
    escape: char,
    lookup: Lookup<'_>,
) -> Result<Expanded<Vec<String>>, ExpandError> {
    Lexer { escape, ..Lexer::new(text, lookup) }.words()
}

/// Expands the body of a heredoc: quotes stay, and `\` is the escape whatever the file's directive says.
///
/// # Errors
/// As [`expand_word`], quotes apart.
pub fn expand_heredoc(text: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    Lexer { quotes: Quotes::Ordinary, ..Lexer::new(text, lookup) }.text()
}

/// The words of `text` with nothing expanded and quotes and escapes kept: how a heredoc is found in a line.
pub(super) fn raw_words(text: &str) -> Result<Vec<String>, ExpandError> {
    let none = Lexer::new(text, &|_| None);
    let lexer = Lexer { quotes: Quotes::Keep, raw_escapes: true, keep_unset: true, ..none };
    lexer.words().map(|words| words.value)
}

/// The words of `text` with quotes and escapes taken away, variables left as they are.
pub(super) fn unquoted_words(text: &str) -> Result<Vec<String>, ExpandError> {
    Lexer { keep_unset: true, ..Lexer::new(text, &|_| None) }.words().map(|words| words.value)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They group and vanish.
    Remove,
    /// They group and stay.
    Keep,
    /// They are letters like others.
    Ordinary,
}

struct Lexer<'a> {
    text: &'a str,
    /// Bytes read.
    at: usize,
    escape: char,
    lookup: Lookup<'a>,
    quotes: Quotes,
    /// Escapes stay, for a later reader.
    raw_escapes: bool,
    /// A variable that is not set stays as written.
    keep_unset: bool,
    unset: Vec<String>,
    /// What is in `unset`.
    known_unset: HashSet<String>,
    depth: usize,
}

/// What has been expanded so far, as one text or as words.
enum Output {
    Text(String),
    /// Complete words, then one that may grow; an empty one is never kept.
    Words(Vec<String>, String),
}

impl Output {
    /// Adds letters that split where they are blank.
    fn push(&mut self, part: &str) {
        let (done, word) = match self {
            Self::Text(text) => return text.push_str(part),
            Self::Words(done, word) => (done, word),
        };
        for (number, piece) in part.split(char::is_whitespace).enumerate() {
            if number > 0 && !word.is_empty() {
                done.push(std::mem::take(word));
            }
            word.push_str(piece);
        }
    }

    /// Adds letters that were quoted or escaped.
    fn push_quoted(&mut self, part: &str) {
        match self {
            Self::Text(text) => text.push_str(part),
            Self::Words(_, word) => word.push_str(part),
        }
    }

    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Words(done, word) => done.concat() + &word,
        }
    }

    fn into_words(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::Words(mut done, word) => {
                done.extend(Some(word).filter(|word| !word.is_empty()));
                done
            }
        }
    }
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, lookup: Lookup<'a>) -> Self {
        Self {
            text,
            at: 0,
            escape: '\\',
            lookup,
            quotes: Quotes::Remove,
            raw_escapes: false,
            keep_unset: false,
            unset: Vec::new(),
            known_unset: HashSet::new(),
            depth: 0,
        }
    }

    /// The whole text as one.
    fn text(mut self) -> Result<Expanded, ExpandError> {
        let value = self.until(None, Output::Text(String::new()))?.into_text();
        Ok(Expanded { value, unset: self.unset })
    }

    /// The whole text in words.
    fn words(mut self) -> Result<Expanded<Vec<String>>, ExpandError> {
        let value = self.until(None, Output::Words(Vec::new(), String::new()))?.into_words();
        Ok(Expanded { value, unset: self.unset })
    }

    /// The word of a substitution, up to `stop`; with its escapes if it is to be read as a pattern.
    fn inner(&mut self, stop: char, raw_escapes: bool) -> Result<String, ExpandError> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let word = self.until(Some(stop), Output::Text(String::new()))?.into_text();
        self.raw_escapes = before;
        Ok(word)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn fail<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, ExpandError> {
        Err(ExpandError { offset, message: message.into() })
    }

    /// Reads up to `stop`, which is eaten, or to the end of the text.
    fn until(&mut self, stop: Option<char>, mut output: Output) -> Result<Output, ExpandError> {
        let mut bytes = 0;
        loop {
            let plain = self.plain_run(stop);
            output.push(plain);
            let start = self.at;
            let Some(c) = self.next() else {
                return match stop {
                    Some(stop) => self.fail(start, format!("missing `{stop}`")),
                    None => Ok(output),
                };
            };
            if Some(c) == stop {
                return Ok(output);
            }
            bytes += plain.len();
            match c {
                '$' => {
                    let value = self.dollar(start)?;
                    output.push(&value);
                    bytes += value.len();
                }
                '\'' | '"' if self.quotes != Quotes::Ordinary => {
                    let part = if c == '"' { self.double_quoted(start)? } else { self.single_quoted(start)? };
                    output.push_quoted(&part);
                    bytes += part.len();
                }
                // The escape, and what it protects.
                _ => {
                    self.next();
                    let skipped = if self.raw_escapes { 0 } else { c.len_utf8() };
                    output.push_quoted(&self.text[start + skipped..self.at]);
                }
            }
            self.bounded(bytes, start)?;
        }
    }

    /// The letters up to the next one that means something.
    fn plain_run(&mut self, stop: Option<char>) -> &'a str {
        let text: &'a str = self.text;
        let rest = &text[self.at..];
        let quotes = self.quotes != Quotes::Ordinary;
        let special =
            |c: char| c == '$' || c == self.escape || Some(c) == stop || (quotes && (c == '\'' || c == '"'));
        let run = &rest[..rest.find(special).unwrap_or(rest.len())];
        self.at += run.len();
        run
    }

    fn bounded(&self, bytes: usize, start: usize) -> Result<(), ExpandError> {
        match bytes > MAX_EXPANDED {
            true => self.fail(start, format!("expands to more than {MAX_EXPANDED} bytes")),
            false => Ok(()),
        }
    }

    /// The rest of `'…'`: no escapes, no variables.
    fn single_quoted(&mut self, start: usize) -> Result<String, ExpandError> {
        let Some(length) = self.text[self.at..].find('\'') else {
            return self.fail(start, "this single quote is never closed");
        };
        let inner = &self.text[self.at..self.at + length];
        self.at += length + 1;
        Ok(if self.quotes == Quotes::Keep { format!("'{inner}'") } else { inner.to_owned() })
    }

    /// The rest of `"…"`: variables count, and the escape only before `"`, `$` and itself.
    fn double_quoted(&mut self, start: usize) -> Result<String, ExpandError> {
        let mut text = String::new();
        let quote = (self.quotes == Quotes::Keep).then_some('"');
        text.extend(quote);
        loop {
            let at = self.at;
            match self.next() {
                None => return self.fail(start, "this double quote is never closed"),
                Some('"') => break,
                Some('$') => text.push_str(&self.dollar(at)?),
                Some(c) if c == self.escape => {
                    if self.raw_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => {
                            text.extend(self.next());
                        }
                        Some(_) => text.push(c),
                    }
                }
                Some(c) => text.push(c),
            }
            self.bounded(text.len(), start)?;
        }
        text.extend(quote);
        Ok(text)
    }

    /// What stands after a `$` at `start`.
    fn dollar(&mut self, start: usize) -> Result<String, ExpandError> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.plain(name, start) });
        }
        self.next();
        match self.peek() {
            None => return self.fail(start, "missing `}`"),
            Some('{' | '}' | ':') => return self.fail(start, "bad substitution"),
            Some(_) => {}
        }
        let name = self.name();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(start, format!("more than {MAX_DEPTH} substitutions inside each other"));
        }
        let value = match self.next() {
            Some('}') => self.plain(name, start),
            None => return self.fail(start, "missing `}`"),
            Some(modifier) => self.modified(name, modifier, start)?,
        };
        self.depth -= 1;
        Ok(value)
    }

    /// A name: letters, digits and `_`; or a run of digits; or one of the shell's special parameters.
    fn name(&mut self) -> &'a str {
        let text: &'a str = self.text;
        let rest = &text[self.at..];
        let length = match rest.chars().next() {
            Some('0'..='9') => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len()),
        };
        self.at += length;
        &rest[..length]
    }

    /// The value of a variable, absent noted as unset.
    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        if value.is_none() && !self.known_unset.contains(name) {
            self.known_unset.insert(name.to_owned());
            self.unset.push(name.to_owned());
        }
        value
    }

    /// `$n` or `${n}`, begun at `start`.
    fn plain(&mut self, name: &str, start: usize) -> String {
        match self.get(name) {
            Some(value) => value,
            None if self.keep_unset => self.text[start..self.at].to_owned(),
            None => String::new(),
        }
    }

    /// `${n<modifier>…}`; the modifier has been read.
    fn modified(&mut self, name: &str, modifier: char, start: usize) -> Result<String, ExpandError> {
        if modifier == '/' {
            return self.replaced(name, start);
        }
        let colon = modifier == ':';
        let operator = if colon { self.next() } else { Some(modifier) };
        let Some(operator) = operator else { return self.fail(start, "missing `}`") };
        let shown = if colon { format!(":{operator}") } else { operator.to_string() };
        let is_pattern = matches!(operator, '#' | '%');
        if !matches!(operator, '-' | '+' | '?' | '#' | '%') || (colon && is_pattern) {
            return self.fail(start, format!("unsupported modifier `{shown}` in substitution"));
        }
        let word = self.inner('}', is_pattern).map_err(|error| self.unclosed(error, start, '}'))?;
        if is_pattern {
            let Some(value) = self.get(name) else { return Ok(self.without_value(start)) };
            return self.trimmed(&value, operator, &word, start);
        }
        let value = (self.lookup)(name);
        if self.keep_unset && value.is_none() {
            return Ok(self.without_value(start));
        }
        let why = if value.is_none() { "unset" } else { "empty" };
        let present = value.filter(|value| !(colon && value.is_empty()));
        match (operator, present) {
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => self.fail(start, format!("{name}: is not allowed to be {why}")),
            (_, None) => self.fail(start, format!("{name}: {word}")),
        }
    }

    fn without_value(&self, start: usize) -> String {
        if self.keep_unset { self.text[start..self.at].to_owned() } else { String::new() }
    }

    /// A part that ended with the text is reported at the `${`.
    fn unclosed(&self, error: ExpandError, start: usize, closing: char) -> ExpandError {
        if error.offset < self.text.len() {
            return error;
        }
        ExpandError { offset: start, message: format!("missing `{closing}`") }
    }

    /// `${n#p}`, `${n##p}`, `${n%p}`, `${n%%p}`.
    fn trimmed(&self, value: &str, operator: char, word: &str, start: usize) -> Result<String, ExpandError> {
        let (word, longest) = match word.strip_prefix(operator) {
            Some(rest) => (rest, true),
            None => (word, false),
        };
        let pattern = self.pattern(word, value, start)?;
        let rest = match operator {
            '#' => pattern.trim_prefix(value, longest),
            _ => pattern.trim_suffix(value, longest),
        };
        Ok(rest.to_owned())
    }

    /// `${n/p/r}`, `${n//p/r}`.
    fn replaced(&mut self, name: &str, start: usize) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let word = self.inner('/', true).map_err(|error| self.unclosed(error, start, '/'))?;
        let replacement = self.inner('}', true).map_err(|error| self.unclosed(error, start, '}'))?;
        let Some(value) = self.get(name) else { return Ok(self.without_value(start)) };
        let pattern = self.pattern(&word, &value, start)?;
        let replaced = pattern.replace(&value, &replacement, all, MAX_EXPANDED);
        replaced.map_or_else(|| self.fail(start, format!("expands to more than {MAX_EXPANDED} bytes")), Ok)
    }

    /// The pattern `word`, to be compared with `value`.
    fn pattern(&self, word: &str, value: &str, start: usize) -> Result<Pattern, ExpandError> {
        if word.len().saturating_mul(value.len()) > MAX_MATCHING {
            let message =
                format!("a pattern of {} bytes is too long for a value of {}", word.len(), value.len());
            return self.fail(start, message);
        }
        Pattern::new(word).map_err(|pattern::BadEscape(c)| ExpandError {
            offset: start,
            message: format!(
                "bad escape `\\{}` in the pattern `{word}`",
                c.map(String::from).unwrap_or_default()
            ),
        })
    }
}

#[cfg(test)]
mod tests;
