//! The patterns of a `.dockerignore` (and of `COPY --exclude`): which paths of a tree are left out, and by
//! which line.
//!
//! The rules are those of moby's patternmatcher: patterns are tried in order, the last one that matches
//! decides, `!` takes back in, and a pattern matches all that lies in a folder that it matches. There is no
//! anchoring rule as in `.gitignore`: `foo` is `foo` in the root and nothing else. Comparing one pattern with
//! one path is [`crate::dockerfile::glob`]; walking the tree and choosing the file is `context.rs`.
//!
//! Invariant: a path that [`Ignore::may_reinclude_below`] refuses has nothing below it that would be kept.

use crate::dockerfile::glob::{BadPattern, Glob, clean};

/// The patterns of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    line: usize,
    reincludes: bool,
    glob: Glob,
}

/// What the patterns say about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the path is left out.
    pub ignored: bool,
    /// The line, from 1, of the pattern that decided; `None` if none matched.
    pub line: Option<usize>,
}

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// The line as written, without blanks at its ends.
    pub text: String,
    /// What is wrong with it.
    pub source: PatternError,
}

/// What can be wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// `!` alone.
    NothingToReinclude,
    /// Malformed by the rules of `filepath.Match`.
    Syntax(BadPattern),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} is not a pattern: `{}`", self.line, self.text.escape_debug())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NothingToReinclude => f.write_str("a pattern must follow `!`"),
            Self::Syntax(bad) => write!(f, "syntax error in pattern: {bad}"),
        }
    }
}

impl std::error::Error for PatternError {}

impl Ignore {
    /// Reads a `.dockerignore`. A `#` in the first column begins a comment; blanks at the ends of a line go;
    /// `!` before a pattern takes back in; one leading `/` goes.
    ///
    /// # Errors
    /// The first line that is no pattern.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut patterns = Vec::new();
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let trimmed = trim(line);
            if line.first() == Some(&b'#') || trimmed.is_empty() {
                continue;
            }
            let (reincludes, pattern) = match trimmed.strip_prefix(b"!") {
                Some(rest) => (true, trim(rest)),
                None => (false, trimmed),
            };
            let cleaned = if pattern.is_empty() { Vec::new() } else { clean(pattern) };
            let relative = match cleaned.strip_prefix(b"/") {
                Some(rest) if !rest.is_empty() => rest,
                _ => &cleaned,
            };
            let pattern = Pattern::new(at + 1, reincludes, relative);
            patterns.push(pattern.map_err(|source| fault(at + 1, trimmed, source))?);
        }
        Ok(Self { patterns })
    }

    /// The patterns of `COPY --exclude`; the "line" of each is its number, from 1. Unlike in a file a leading
    /// `/` stays, and nothing in a tree of relative paths matches it.
    ///
    /// # Errors
    /// The first that is no pattern.
    pub fn from_patterns<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let mut compiled = Vec::new();
        for (at, pattern) in patterns.into_iter().enumerate() {
            let trimmed = trim(pattern.as_ref());
            if trimmed.is_empty() {
                continue;
            }
            let cleaned = clean(trimmed);
            let (reincludes, text) = match cleaned.strip_prefix(b"!") {
                Some(rest) => (true, rest),
                None => (false, cleaned.as_slice()),
            };
            let pattern = Pattern::new(at + 1, reincludes, text);
            compiled.push(pattern.map_err(|source| fault(at + 1, trimmed, source))?);
        }
        Ok(Self { patterns: compiled })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What the patterns say about `path`: relative to the root, cleaned, parts joined by `/`. The root
    /// itself is never left out.
    pub fn decide(&self, path: &[u8]) -> Decision {
        match self.deciding(path) {
            Some(at) => {
                let pattern = &self.patterns[at];
                Decision { ignored: !pattern.reincludes, line: Some(pattern.line) }
            }
            None => Decision { ignored: false, line: None },
        }
    }

    /// Whether `path` is left out.
    pub fn ignores(&self, path: &[u8]) -> bool {
        self.decide(path).ignored
    }

    /// Whether something below the folder `dir` can be kept; certainly so if `dir` itself is kept. If not, a
    /// walker need not enter it.
    pub fn may_reinclude_below(&self, dir: &[u8]) -> bool {
        let Some(at) = self.deciding(dir).filter(|&at| !self.patterns[at].reincludes) else { return true };
        self.patterns[at + 1..].iter().any(|pattern| pattern.reincludes && pattern.glob.can_match_below(dir))
    }

    /// Whether everything is left out, whatever its name, and nothing is taken back in.
    pub fn leaves_nothing(&self) -> bool {
        // No pattern spells this name, as no file has it.
        self.ignores(b"\0") && self.patterns.iter().all(|pattern| !pattern.reincludes)
    }

    /// The number of the last pattern that matches.
    fn deciding(&self, path: &[u8]) -> Option<usize> {
        if path.is_empty() || path == b"." {
            return None;
        }
        self.patterns.iter().rposition(|pattern| pattern.glob.matches_or_parent(path))
    }
}

impl Pattern {
    fn new(line: usize, reincludes: bool, text: &[u8]) -> Result<Self, PatternError> {
        if reincludes && text.is_empty() {
            return Err(PatternError::NothingToReinclude);
        }
        let glob = Glob::path(text).map_err(PatternError::Syntax)?;
        Ok(Self { line, reincludes, glob })
    }
}

fn fault(line: usize, text: &[u8], source: PatternError) -> Error {
    Error { line, text: String::from_utf8_lossy(text).into_owned(), source }
}

/// Without blanks at the ends; where it is no UTF-8, only ASCII's.
fn trim(text: &[u8]) -> &[u8] {
    std::str::from_utf8(text).map_or_else(|_| text.trim_ascii(), |text| text.trim().as_bytes())
}

#[cfg(test)]
mod tests;
