//! One logical line, split by the rules of its instruction but not yet understood: keyword, flags, arguments.
//!
//! This is the view of the official parser, which `ast.rs` prints and from which `parse.rs` makes typed
//! instructions.

use std::ops::Range;

use super::diagnostic::{Diagnostic, Span};
use super::instruction::{Heredoc, Word};
use super::json::{self, Array};
use super::lines::Line;
use super::words::{FlagText, split_blanks, split_first, split_flags, split_quoted, trim};

/// The instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
}

/// Their names.
pub(super) const KEYWORDS: [(&str, Keyword); 18] = [
    ("ADD", Keyword::Add),
    ("ARG", Keyword::Arg),
    ("CMD", Keyword::Cmd),
    ("COPY", Keyword::Copy),
    ("ENTRYPOINT", Keyword::Entrypoint),
    ("ENV", Keyword::Env),
    ("EXPOSE", Keyword::Expose),
    ("FROM", Keyword::From),
    ("HEALTHCHECK", Keyword::Healthcheck),
    ("LABEL", Keyword::Label),
    ("MAINTAINER", Keyword::Maintainer),
    ("ONBUILD", Keyword::OnBuild),
    ("RUN", Keyword::Run),
    ("SHELL", Keyword::Shell),
    ("STOPSIGNAL", Keyword::StopSignal),
    ("USER", Keyword::User),
    ("VOLUME", Keyword::Volume),
    ("WORKDIR", Keyword::Workdir),
];

/// A split line.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// The first word as written.
    pub(super) word: Word,
    /// The instruction that it names.
    pub(super) keyword: Option<Keyword>,
    /// The flags at the head.
    pub(super) flags: Vec<Flag>,
    /// The arguments. `ENV` and `LABEL`: keys and values in turn; `HEALTHCHECK`: the type, then the command.
    pub(super) args: Vec<Word>,
    /// Whether the arguments come from a JSON array.
    pub(super) json: bool,
    /// Whether `ENV` or `LABEL` is written without `=`.
    pub(super) legacy: bool,
    /// What `ONBUILD` triggers.
    pub(super) sub: Option<Box<Statement>>,
    /// The heredocs; for `ONBUILD` those of what it triggers.
    pub(super) heredocs: Vec<Heredoc>,
    /// From the keyword to the end of the line.
    pub(super) span: Span,
    /// The text of the line, blanks at its ends included, heredocs left out.
    pub(super) text: String,
}

/// A flag: `--name` or `--name=value`.
#[derive(Debug, Clone)]
pub(super) struct Flag {
    /// All of it, quotes and escapes taken away from the text.
    pub(super) word: Word,
    pub(super) name: Word,
    pub(super) value: Option<Word>,
}

impl Statement {
    /// Splits a line.
    pub(super) fn split(line: &Line<'_>, escape: char) -> Result<Self, Diagnostic> {
        Self::split_part(line, 0..line.text.len(), escape, false)
    }

    /// Splits `range` of a line; `nested` if it stands behind `ONBUILD`.
    fn split_part(
        line: &Line<'_>,
        range: Range<usize>,
        escape: char,
        nested: bool,
    ) -> Result<Self, Diagnostic> {
        let text = &line.text;
        let trimmed = trim(text, range.clone());
        let (word, rest) = split_first(text, trimmed.clone());
        let name = &text[word.clone()];
        let keyword = KEYWORDS.iter().find(|known| known.0.eq_ignore_ascii_case(name)).map(|known| known.1);
        let rest = rest.unwrap_or(trimmed.end..trimmed.end);
        let (flags, rest) = split_flags(text, rest);
        let mut statement = Self {
            word: line.word(word),
            keyword,
            flags: flags.iter().map(|flag| Flag::new(line, flag)).collect(),
            args: Vec::new(),
            json: false,
            legacy: false,
            sub: None,
            heredocs: Vec::new(),
            span: line.span(&trimmed),
            text: text[range].to_owned(),
        };
        statement.split_args(line, rest, escape, nested)?;
        Ok(statement)
    }

    fn split_args(
        &mut self,
        line: &Line<'_>,
        rest: Range<usize>,
        escape: char,
        nested: bool,
    ) -> Result<(), Diagnostic> {
        let words = |ranges: Vec<Range<usize>>| ranges.into_iter().map(|range| line.word(range)).collect();
        let Some(keyword) = self.keyword.filter(|_| !rest.is_empty()) else { return Ok(()) };
        match keyword {
            Keyword::Add | Keyword::Copy | Keyword::Volume => {
                if !self.take_json(line, &rest)? {
                    self.args = words(split_blanks(&line.text, rest));
                }
            }
            Keyword::Run | Keyword::Cmd | Keyword::Entrypoint | Keyword::Shell => {
                if !self.take_json(line, &rest)? {
                    self.args = vec![line.word(rest)];
                }
            }
            Keyword::Env | Keyword::Label => self.split_pairs(line, rest, escape)?,
            Keyword::Arg => self.args = words(split_quoted(&line.text, rest, escape)),
            Keyword::From | Keyword::Expose => self.args = words(split_blanks(&line.text, rest)),
            Keyword::Maintainer | Keyword::StopSignal | Keyword::User | Keyword::Workdir => {
                self.args = vec![line.word(rest)];
            }
            Keyword::Healthcheck => self.split_healthcheck(line, rest)?,
            // Nested further it is an error, found later; taking it apart as well would only cost stack.
            Keyword::OnBuild if nested => self.args = vec![line.word(rest)],
            Keyword::OnBuild => {
                let sub = Self::split_part(line, rest.start..line.text.len(), escape, true)?;
                self.sub = Some(Box::new(sub));
            }
        }
        Ok(())
    }

    /// Takes the arguments from a JSON array, if they are one.
    fn take_json(&mut self, line: &Line<'_>, rest: &Range<usize>) -> Result<bool, Diagnostic> {
        let place = |range: Range<usize>| rest.start + range.start..rest.start + range.end;
        match json::array(&line.text[rest.clone()]) {
            Array::Other => Ok(false),
            Array::Mixed(range) => {
                let message = "a JSON array of arguments may hold strings only";
                Err(Diagnostic::error(line.span(&place(range)), message).hint("quote it: `\"…\"`"))
            }
            Array::Strings(strings) => {
                let word = |(text, range)| line.string(text, &place(range));
                self.args.extend(strings.into_iter().map(word));
                self.json = true;
                Ok(true)
            }
        }
    }

    /// `key=value …`, or `key value` if the first word has no `=`.
    fn split_pairs(&mut self, line: &Line<'_>, rest: Range<usize>, escape: char) -> Result<(), Diagnostic> {
        let name = self.word.text.to_ascii_uppercase();
        let words = split_quoted(&line.text, rest.clone(), escape);
        if words.first().is_some_and(|first| !line.text[first.clone()].contains('=')) {
            let (key, Some(value)) = split_first(&line.text, rest.clone()) else {
                let message = format!("`{name}` needs a name and a value");
                return Err(Diagnostic::error(line.span(&rest), message)
                    .hint(format!("write `{name} {}=…`", &line.text[rest])));
            };
            self.args = vec![line.word(key), line.word(value)];
            self.legacy = true;
            return Ok(());
        }
        for word in words {
            let Some(at) = line.text[word.clone()].find('=') else {
                let text = &line.text[word.clone()];
                let message = format!("`{text}` has no `=`; expected `name=value`");
                return Err(Diagnostic::error(line.span(&word), message)
                    .hint("quote a value that holds blanks: `name=\"a b\"`"));
            };
            self.args.push(line.word(word.start..word.start + at));
            self.args.push(line.word(word.start + at + 1..word.end));
        }
        Ok(())
    }

    /// The type, then a command in one of its two forms.
    fn split_healthcheck(&mut self, line: &Line<'_>, rest: Range<usize>) -> Result<(), Diagnostic> {
        let part = &line.text[rest.clone()];
        let kind = part.find(char::is_whitespace).map_or(rest.end, |at| rest.start + at);
        self.args.push(line.word(rest.start..kind));
        let command = trim(&line.text, kind..rest.end);
        if !command.is_empty() && !self.take_json(line, &command)? {
            self.args.push(line.word(command));
        }
        Ok(())
    }

    /// Whether heredocs may follow.
    pub(super) fn takes_heredocs(&self) -> bool {
        let inner = self.sub.as_deref().unwrap_or(self);
        !inner.json && matches!(inner.keyword, Some(Keyword::Run | Keyword::Copy | Keyword::Add))
    }
}

impl Flag {
    fn new(line: &Line<'_>, flag: &FlagText) -> Self {
        let word = line.flag(flag);
        let end = word.text.len();
        let equals = word.text.find('=').unwrap_or(end);
        let value = (equals < end).then(|| word.part(equals + 1..end));
        Self { name: word.part(0..equals), value, word }
    }
}
