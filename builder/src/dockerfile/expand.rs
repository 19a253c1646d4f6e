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
    Lexer { escape, ..Lexer::new(text, lookup) }.run().map(Output::into_text)
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
    Lexer { escape, ..Lexer::new(text, lookup) }.run().map(Output::into_words)
}

/// Expands the body of a heredoc: quotes stay, and `\` is the escape whatever the file's directive says.
///
/// # Errors
/// As [`expand_word`], quotes apart.
pub fn expand_heredoc(text: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
    Lexer { quotes: Quotes::Ordinary, ..Lexer::new(text, lookup) }.run().map(Output::into_text)
}

/// The words of `text` with nothing expanded and quotes and escapes kept: how a heredoc is found in a line.
pub(super) fn raw_words(text: &str) -> Result<Vec<String>, ExpandError> {
    Lexer { quotes: Quotes::Keep, raw_escapes: true, keep_unset: true, ..Lexer::new(text, &|_| None) }
        .run()
        .map(|output| output.into_words().value)
}

/// The words of `text` with quotes and escapes taken away, variables left as they are.
pub(super) fn unquoted_words(text: &str) -> Result<Vec<String>, ExpandError> {
    Lexer { keep_unset: true, ..Lexer::new(text, &|_| None) }.run().map(|output| output.into_words().value)
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

struct Output {
    text: String,
    words: Words,
    unset: Vec<String>,
}

impl Output {
    fn into_text(self) -> Expanded {
        Expanded { value: self.text, unset: self.unset }
    }

    fn into_words(self) -> Expanded<Vec<String>> {
        Expanded { value: self.words.finish(), unset: self.unset }
    }
}

/// Words as they grow; an empty one is never kept.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    /// A letter that splits if it is blank.
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.word.push(c);
        } else if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
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

    fn run(mut self) -> Result<Output, ExpandError> {
        let (text, words) = self.until(None, self.raw_escapes)?;
        Ok(Output { text, words, unset: self.unset })
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
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Words), ExpandError> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let mut text = String::new();
        let mut words = Words::default();
        loop {
            let start = self.at;
            let Some(c) = self.next() else {
                if let Some(stop) = stop {
                    return self.fail(start, format!("missing `{stop}`"));
                }
                break;
            };
            if Some(c) == stop {
                break;
            }
            match c {
                '$' => {
                    let value = self.dollar(start)?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '\'' | '"' if self.quotes != Quotes::Ordinary => {
                    let part = if c == '"' { self.double_quoted(start)? } else { self.single_quoted(start)? };
                    words.word.push_str(&part);
                    text.push_str(&part);
                }
                _ if c == self.escape => {
                    let escaped = self.next();
                    for c in self.raw_escapes.then_some(c).into_iter().chain(escaped) {
                        words.word.push(c);
                        text.push(c);
                    }
                }
                _ => {
                    words.push(c);
                    text.push(c);
                }
            }
            if text.len() > MAX_EXPANDED {
                return self.fail(start, format!("expands to more than {MAX_EXPANDED} bytes"));
            }
        }
        self.raw_escapes = before;
        Ok((text, words))
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
            if text.len() > MAX_EXPANDED {
                return self.fail(start, format!("expands to more than {MAX_EXPANDED} bytes"));
            }
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
        let word = self.until(Some('}'), is_pattern).map_err(|error| self.unclosed(error, start, '}'))?.0;
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
        let pattern = self.pattern(word, start)?;
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
        let word = self.until(Some('/'), true).map_err(|error| self.unclosed(error, start, '/'))?.0;
        let replacement = self.until(Some('}'), true).map_err(|error| self.unclosed(error, start, '}'))?.0;
        let Some(value) = self.get(name) else { return Ok(self.without_value(start)) };
        let pattern = self.pattern(&word, start)?;
        let replaced = pattern.replace(&value, &replacement, all, MAX_EXPANDED);
        replaced.map_or_else(|| self.fail(start, format!("expands to more than {MAX_EXPANDED} bytes")), Ok)
    }

    fn pattern(&self, word: &str, start: usize) -> Result<Pattern, ExpandError> {
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
