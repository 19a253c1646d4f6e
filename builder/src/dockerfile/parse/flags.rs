//! The flags of one instruction: asked for by name, all others refused.

use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::instruction::Word;
use crate::dockerfile::statement::{Flag, Statement};

/// Flags still to be asked for. Every question names a flag that the instruction knows; [`Flags::finish`]
/// refuses what nobody asked for.
pub(super) struct Flags<'s, 'f> {
    statement: &'s Statement,
    found: &'f mut Vec<Diagnostic>,
    known: Vec<&'static str>,
}

impl<'s, 'f> Flags<'s, 'f> {
    pub(super) fn new(statement: &'s Statement, found: &'f mut Vec<Diagnostic>) -> Self {
        Self { statement, found, known: Vec::new() }
    }

    /// `--name=value`, at most once; an empty value is none.
    pub(super) fn string(&mut self, name: &'static str) -> Option<Word> {
        let flag = self.single(name)?;
        self.value(flag).filter(|value| !value.text.is_empty())
    }

    /// `--name` or `--name=true|false`, at most once.
    pub(super) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        let flag = self.single(name)?;
        let Some(value) = &flag.value else { return Some(true) };
        match value.text.to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                let message = format!("`--{name}` is `true` or `false`, not `{}`", value.text);
                self.found.push(Diagnostic::error(flag.word.span, message));
                None
            }
        }
    }

    /// `--name=value`, any number of times.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<(&'s Flag, Word)> {
        let statement = self.statement;
        if statement.flags.is_empty() {
            return Vec::new();
        }
        self.known.push(name);
        let named = statement.flags.iter().filter(|flag| is(flag, name));
        named.filter_map(|flag| Some((flag, self.value(flag)?))).collect()
    }

    /// One of a few words, with its meaning.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.string(name)?;
        if let Some((_, meaning)) = choices.iter().find(|(word, _)| *word == value.text) {
            return Some(*meaning);
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        let message = format!("`--{name}` is one of {}, not `{}`", words.join(", "), value.text);
        self.found.push(Diagnostic::error(value.span, message));
        None
    }

    /// Refuses all flags that were not asked for.
    pub(super) fn finish(self) {
        for flag in &self.statement.flags {
            if self.found.len() > super::MAX_ERRORS {
                return;
            }
            let name = flag.name.text.strip_prefix("--").unwrap_or(&flag.name.text);
            if self.known.contains(&name) {
                continue;
            }
            let instruction = self.statement.word.text.to_ascii_uppercase();
            let diagnostic = match self.known.is_empty() {
                true => Diagnostic::error(flag.name.span, format!("`{instruction}` takes no flags"))
                    .hint("write `--` before an argument that begins with `--`"),
                false => {
                    Diagnostic::error(flag.name.span, format!("unknown flag `--{name}` for `{instruction}`"))
                }
            };
            self.found.push(match crate::dockerfile::diagnostic::suggest(name, self.known.iter().copied()) {
                Some(near) => diagnostic.hint(format!("did you mean `--{near}`?")),
                None => diagnostic,
            });
        }
    }

    /// The one flag of that name.
    fn single(&mut self, name: &'static str) -> Option<&'s Flag> {
        let statement = self.statement;
        if statement.flags.is_empty() {
            return None;
        }
        self.known.push(name);
        let mut named = statement.flags.iter().filter(|flag| is(flag, name));
        let first = named.next()?;
        for again in named {
            let message = format!("`--{name}` is given a second time");
            self.found.push(Diagnostic::error(again.word.span, message));
        }
        Some(first)
    }

    fn value(&mut self, flag: &'s Flag) -> Option<Word> {
        if flag.value.is_none() {
            let name = &flag.name.text;
            let diagnostic = Diagnostic::error(flag.word.span, format!("`{name}` needs a value"));
            self.found.push(diagnostic.hint(format!("write `{name}=…`")));
        }
        flag.value.clone()
    }
}

fn is(flag: &Flag, name: &str) -> bool {
    flag.name.text.strip_prefix("--") == Some(name)
}
