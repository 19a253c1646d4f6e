//! Statements become typed instructions: every flag checked, every argument counted.
//!
//! The order: split a line ([`Statement`]), take its heredocs, type it, go on with the next line whatever was
//! wrong with this one; at the end the rules about the file as a whole. `parse/` holds the instructions that
//! need more than a few lines: [`flags`], [`files`] (`COPY`, `ADD`), [`run`], [`health`].

mod files;
mod flags;
mod health;
mod run;

use super::diagnostic::{Diagnostic, Severity, Span};
use super::heredoc;
use super::instruction::{
    Argument, Command, Dockerfile, FromInstruction, Instruction, InstructionKind, OnBuild, Pair, StageName,
    Word,
};
use super::lines::{Line, Reader};
use super::signal::{is_signal, nearest_signal};
use super::source::Source;
use super::statement::{KEYWORDS, Keyword, Statement};
use super::syntax;
use flags::Flags;

/// The longest Dockerfile, in bytes; `docker build` takes 2 MiB when it sends one.
const MAX_SOURCE: usize = 64 << 20;

/// The most errors that are shown; an author has enough to do with these.
const MAX_ERRORS: usize = 200;

/// Reads a Dockerfile. Bytes that are no UTF-8 are the caller's to replace, see [`String::from_utf8_lossy`].
///
/// # Errors
/// All errors of the file at once, in the order of the file, its warnings among them; of very many only the
/// first.
pub fn parse(source: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    if source.len() > MAX_SOURCE {
        let message = format!("the Dockerfile has {} bytes; at most {MAX_SOURCE} are allowed", source.len());
        return Err(vec![Diagnostic::error_without_place(message)]);
    }
    let source = Source::new(source);
    let mut reader = Reader::new(&source);
    let mut outline = Outline::default();
    let mut instructions = Vec::new();
    let mut found = Vec::new();
    while let Some(mut line) = reader.next() {
        if !outline.any
            && let Some(syntax) = syntax::in_line(&line)
        {
            reader.directives.syntax.get_or_insert(syntax);
            continue;
        }
        let statement = read_statement(&mut reader, &source, &mut line);
        outline.see(statement.as_ref().ok(), &mut found);
        match statement {
            Ok(statement) => instructions.extend(typed(&line, statement, &mut found)),
            Err(error) => found.push(error),
        }
        if found.len() > MAX_ERRORS {
            break;
        }
    }
    outline.end(source.text, &mut found);
    let Reader { directives, mut diagnostics, .. } = reader;
    diagnostics.append(&mut found);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.map_or(0, |span| span.start.offset));
    let is_error = |found: &Diagnostic| found.severity == Severity::Error;
    if !diagnostics.iter().any(is_error) {
        return Ok(Dockerfile { directives, instructions, warnings: diagnostics });
    }
    let mut errors = 0;
    let shown = diagnostics.iter().take_while(|found| {
        errors += usize::from(is_error(found));
        errors <= MAX_ERRORS
    });
    let shown = shown.count();
    if shown < diagnostics.len() {
        diagnostics.truncate(shown);
        let message = format!("there are more than {MAX_ERRORS} errors; only the first are shown");
        diagnostics.push(Diagnostic::error_without_place(message));
    }
    Err(diagnostics)
}

/// Reads one instruction that an image stores for `ONBUILD`; the escape character is `\`.
///
/// # Errors
/// What is wrong with it, spans pointing into `text`; also if it is none or more than one, or one that is no
/// trigger.
pub fn parse_trigger(text: &str) -> Result<Instruction, Vec<Diagnostic>> {
    if text.len() > MAX_SOURCE {
        let message = format!("the trigger has {} bytes; at most {MAX_SOURCE} are allowed", text.len());
        return Err(vec![Diagnostic::error_without_place(message)]);
    }
    let source = Source::new(text);
    let mut reader = Reader::new(&source);
    let mut found = Vec::new();
    let mut instruction = None;
    if let Some(mut line) = reader.next() {
        match read_statement(&mut reader, &source, &mut line) {
            Ok(statement) => {
                if check_trigger(&statement, &mut found) {
                    instruction = typed(&line, statement, &mut found);
                }
            }
            Err(error) => found.push(error),
        }
    }
    if reader.next().is_some() {
        found.push(Diagnostic::error_without_place("a trigger is one instruction, but this one has several"));
    }
    found.append(&mut reader.diagnostics);
    found.retain(|diagnostic| diagnostic.severity == Severity::Error);
    match instruction {
        Some(instruction) if found.is_empty() => Ok(instruction),
        None if found.is_empty() => Err(vec![Diagnostic::error_without_place("the trigger is empty")]),
        _ => Err(found),
    }
}

/// Splits a line and reads the heredocs below it.
pub(super) fn read_statement<'s>(
    reader: &mut Reader<'s>,
    source: &Source<'s>,
    line: &mut Line<'s>,
) -> Result<Statement, Diagnostic> {
    let mut statement = Statement::split(line, reader.directives.escape)?;
    if statement.takes_heredocs() {
        statement.heredocs = heredoc::read(reader, source, line)?;
    }
    Ok(statement)
}

/// The rules about the file as a whole.
#[derive(Default)]
struct Outline {
    /// Whether any instruction was seen.
    any: bool,
    from: bool,
    /// Whether an instruction before the first `FROM` has been complained about.
    complained: bool,
}

impl Outline {
    fn see(&mut self, statement: Option<&Statement>, found: &mut Vec<Diagnostic>) {
        self.any = true;
        let keyword = statement.and_then(|statement| statement.keyword);
        match (keyword, statement) {
            (Some(Keyword::From), _) => self.from = true,
            (Some(Keyword::Arg) | None, _) => {}
            (Some(_), Some(statement)) if !self.from && !self.complained => {
                self.complained = true;
                let name = statement.word.text.to_ascii_uppercase();
                found.push(
                    Diagnostic::error(
                        statement.word.span,
                        format!("`{name}` stands before the first `FROM`"),
                    )
                    .hint("a Dockerfile begins with `FROM`; only `ARG` may come before it"),
                );
            }
            _ => {}
        }
    }

    fn end(&self, text: &str, found: &mut Vec<Diagnostic>) {
        let message = match self {
            _ if text.is_empty() => "the Dockerfile is empty",
            Self { any: false, .. } => "the Dockerfile has no instructions",
            Self { from: false, complained: false, .. } if found.is_empty() => "the Dockerfile has no `FROM`",
            _ => return,
        };
        found
            .push(Diagnostic::error_without_place(message).hint("begin with `FROM image` or `FROM scratch`"));
    }
}

/// The instruction that a statement is; `None` if something was wrong with it, which is then in `found`.
fn typed(line: &Line<'_>, mut statement: Statement, found: &mut Vec<Diagnostic>) -> Option<Instruction> {
    let before = found.len();
    let kind = kind(line, &mut statement, found);
    let kind = kind.filter(|_| found[before..].iter().all(|found| found.severity != Severity::Error))?;
    let last = statement.heredocs.last().map(|heredoc| heredoc.span);
    Some(Instruction {
        span: last.map_or(statement.span, |last| statement.span.to(last)),
        keyword: statement.word,
        comments: line.comments.clone(),
        text: statement.text.trim().to_owned(),
        kind,
    })
}

fn kind(line: &Line<'_>, statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let Some(keyword) = statement.keyword else {
        let word = &statement.word;
        let message = format!("unknown instruction `{}`", word.text);
        let names = KEYWORDS.iter().map(|known| known.0);
        found.push(Diagnostic::error(word.span, message).did_you_mean(&word.text, names));
        return None;
    };
    match keyword {
        Keyword::Run => return run::run(statement, found),
        Keyword::Copy => return files::copy(statement, found),
        Keyword::Add => return files::add(statement, found),
        Keyword::Healthcheck => return health::healthcheck(statement, found),
        Keyword::From => return from(statement, found),
        Keyword::OnBuild => return on_build(line, statement, found),
        _ => Flags::new(statement, found).finish(),
    }
    Some(match keyword {
        Keyword::Env => InstructionKind::Env(pairs(statement, found)?),
        Keyword::Label => InstructionKind::Label(pairs(statement, found)?),
        Keyword::Arg => InstructionKind::Arg(arguments(statement, found)?),
        Keyword::Cmd => InstructionKind::Cmd(command(statement)),
        Keyword::Entrypoint => InstructionKind::Entrypoint(command(statement)),
        Keyword::Shell => InstructionKind::Shell(shell(statement, found)?),
        Keyword::Expose => {
            let mut ports = at_least_one(statement, found)?;
            ports.sort_by(|a, b| a.text.cmp(&b.text));
            InstructionKind::Expose(ports)
        }
        Keyword::Volume => InstructionKind::Volume(volumes(statement, found)?),
        Keyword::User => InstructionKind::User(exactly_one(statement, found)?),
        Keyword::Workdir => InstructionKind::Workdir(exactly_one(statement, found)?),
        Keyword::StopSignal => InstructionKind::StopSignal(stop_signal(statement, found)?),
        Keyword::Maintainer => InstructionKind::Maintainer(exactly_one(statement, found)?),
        _ => return None,
    })
}

/// Notes an error and gives up on the instruction.
fn fail<T>(found: &mut Vec<Diagnostic>, span: Span, message: impl Into<String>) -> Option<T> {
    found.push(Diagnostic::error(span, message));
    None
}

fn at_least_one(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<Vec<Word>> {
    if statement.args.is_empty() {
        let name = statement.word.text.to_ascii_uppercase();
        return fail(found, statement.word.span, format!("`{name}` needs at least one argument"));
    }
    Some(std::mem::take(&mut statement.args))
}

fn exactly_one(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<Word> {
    let argument = statement.args.pop();
    argument.or_else(|| {
        let name = statement.word.text.to_ascii_uppercase();
        fail(found, statement.word.span, format!("`{name}` needs an argument"))
    })
}

/// A signal that is written out is checked at once, one with variables when they are known.
fn stop_signal(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<Word> {
    let word = exactly_one(statement, found)?;
    if is_signal(&word.text) || word.text.contains(['$', '\'', '"', '\\', '`']) {
        return Some(word);
    }
    let message = format!("`{}` is not a signal: expected a name such as `SIGTERM` or a number", word.text);
    let error = Diagnostic::error(word.span, message);
    found.push(match nearest_signal(&word.text) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    });
    None
}

fn command(statement: &mut Statement) -> Command {
    let mut args = std::mem::take(&mut statement.args).into_iter().map(|word| word.text);
    if statement.json {
        Command::Exec(args.collect())
    } else {
        Command::Shell(args.next().unwrap_or_default())
    }
}

fn pairs(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<Vec<Pair>> {
    let mut words = at_least_one(statement, found)?.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key.text.is_empty() {
            return fail(found, key.span.to(value.span), "nothing stands before the `=`; expected a name");
        }
        pairs.push(Pair { key, value, legacy: statement.legacy });
    }
    Some(pairs)
}

fn arguments(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<Vec<Argument>> {
    let words = at_least_one(statement, found)?;
    let mut arguments = Vec::with_capacity(words.len());
    for word in words {
        let Some((name, _)) = word.text.split_once('=') else {
            arguments.push(Argument { name: word, default: None });
            continue;
        };
        if name.is_empty() {
            return fail(found, word.span, "nothing stands before the `=`; expected a name");
        }
        let (equals, end) = (name.len(), word.text.len());
        let default = Some(word.part(equals + 1..end));
        arguments.push(Argument { name: word.part(0..equals), default });
    }
    Some(arguments)
}

fn shell(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<Vec<String>> {
    let span = statement.span;
    let json = statement.json;
    let args = at_least_one(statement, found)?;
    if !json {
        found.push(
            Diagnostic::error(span, "`SHELL` takes a JSON array only")
                .hint("write for example `SHELL [\"/bin/bash\", \"-c\"]`"),
        );
        return None;
    }
    Some(args.into_iter().map(|word| word.text).collect())
}

fn volumes(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<Vec<Word>> {
    let volumes = at_least_one(statement, found)?;
    if let Some(blank) = volumes.iter().find(|volume| volume.text.trim().is_empty()) {
        return fail(found, blank.span, "a volume needs a path");
    }
    Some(volumes)
}

/// `FROM base` or `FROM base AS name`.
fn from(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let mut flags = Flags::new(statement, found);
    let platform = flags.string("platform");
    flags.finish();
    let mut args = std::mem::take(&mut statement.args).into_iter();
    let Some(base) = args.next() else {
        return fail(found, statement.word.span, "`FROM` needs an image, a stage or `scratch`");
    };
    let rest: Vec<Word> = args.collect();
    let name = match <[Word; 2]>::try_from(rest) {
        Ok([keyword, written]) if keyword.text.eq_ignore_ascii_case("as") => {
            Some(stage_name(keyword, written, found)?)
        }
        Ok([word, _]) => return fail(found, word.span, format!("expected `AS`, found `{}`", word.text)),
        Err(rest) => match rest.as_slice() {
            [] => None,
            [only] if only.text.eq_ignore_ascii_case("as") => {
                return fail(found, only.span, "a name must follow `AS`");
            }
            [first, .., last] | [first @ last] => {
                found.push(
                    Diagnostic::error(first.span.to(last.span), "`FROM` takes one or three arguments")
                        .hint("write `FROM image` or `FROM image AS name`"),
                );
                return None;
            }
        },
    };
    Some(InstructionKind::From(FromInstruction { platform, base, name }))
}

fn stage_name(keyword: Word, written: Word, found: &mut Vec<Diagnostic>) -> Option<StageName> {
    let name = written.text.to_lowercase();
    let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if !valid {
        found.push(
            Diagnostic::error(written.span, format!("`{}` is no name for a stage", written.text))
                .hint("a name begins with a letter; letters, digits, `-`, `_` and `.` follow"),
        );
        return None;
    }
    Some(StageName { name, written, keyword })
}

/// Whether `statement` may be what `ONBUILD` triggers.
fn check_trigger(statement: &Statement, found: &mut Vec<Diagnostic>) -> bool {
    let message = match statement.keyword {
        Some(Keyword::OnBuild) => "`ONBUILD` cannot trigger another `ONBUILD`".to_owned(),
        Some(Keyword::From | Keyword::Maintainer) => {
            format!("`ONBUILD` cannot trigger `{}`", statement.word.text.to_ascii_uppercase())
        }
        _ => return true,
    };
    found.push(Diagnostic::error(statement.word.span, message));
    false
}

fn on_build(
    line: &Line<'_>,
    statement: &mut Statement,
    found: &mut Vec<Diagnostic>,
) -> Option<InstructionKind> {
    Flags::new(statement, found).finish();
    let Some(mut sub) = statement.sub.take() else {
        return fail(found, statement.word.span, "`ONBUILD` needs an instruction");
    };
    if !check_trigger(&sub, found) {
        return None;
    }
    let mut trigger = sub.text.clone();
    for heredoc in &statement.heredocs {
        trigger.extend(["\n", &heredoc.content, &heredoc.name]);
    }
    sub.heredocs.clone_from(&statement.heredocs);
    let mut instruction = typed(line, *sub, found)?;
    instruction.comments.clear();
    Some(InstructionKind::OnBuild(OnBuild { trigger, instruction: Box::new(instruction) }))
}
