//! What users read when something went wrong: one renderer, one tone of voice.
//!
//! A [`Failure`] is made from the libraries' errors, which carry the facts; here they become an exit code, an
//! `error:` with the place in the Dockerfile if there is one, a `caused by:` for each link of the chain of
//! causes, and a `hint:`, which [`hint`] finds. Nothing that passes through here controls a terminal.

mod hint;
mod rework;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use builder::dockerfile::diagnostic::{Diagnostic, Span};
use builder::error::{CommandFailed, ImageError, MissingReason, Place};
use builder::load::LoadError;
use builder::remote::FetchError;
use builder::transfer::TransferError;

use crate::exit::Exit;
use crate::text;

pub(crate) use hint::{Facts, is_full_disk};

/// An end that nobody wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    /// What goes below `error:`'s line belongs to it: a place, the last lines of output.
    head: Vec<String>,
    causes: Vec<String>,
    hint: Option<String>,
}

/// The text that spans point into.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The Dockerfile's name.
    pub(crate) name: &'a str,
    /// The Dockerfile's text.
    pub(crate) text: &'a str,
}

impl Failure {
    fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        let head = vec![format!("error: {}", text::printable(&message.to_string()))];
        Failure { exit, head, causes: Vec::new(), hint: None }
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// A name says what an image will be called; a digest cannot.
    pub(crate) fn has_digest(name: &oci::Reference) -> Failure {
        Failure::usage(format!("`{}` has a digest: expected a name and a tag", name.familiar()))
    }

    /// The environment refuses, with the chain of causes below `error`.
    pub(crate) fn environment(error: &(dyn StdError + 'static)) -> Failure {
        Failure::new(Exit::Environment, error).caused_by(error.source())
    }

    /// The environment refuses, for a reason that is a sentence of ours.
    pub(crate) fn environment_because(message: impl fmt::Display, cause: String) -> Failure {
        Failure { causes: vec![cause], ..Failure::new(Exit::Environment, message) }
    }

    /// A file that is not the store's.
    pub(crate) fn file(act: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::new(Exit::Environment, format!("cannot {act} `{}`", path.display())).caused_by(Some(error))
    }

    /// A line of an ignore file.
    pub(crate) fn ignore(name: &str, error: &builder::ignore::Error) -> Failure {
        let builder::ignore::Error { line, text, source } = error;
        Failure::new(Exit::Failed, format!("line {line} of `{name}` is not a pattern: `{text}`"))
            .caused_by(Some(source))
    }

    /// A Dockerfile that is no text; `line` and `column` count from 1.
    pub(crate) fn not_utf8(path: &Path, line: usize, column: usize) -> Failure {
        let place = format!("line {line}, column {column} of `{}`", path.display());
        Failure::new(Exit::Failed, format!("{place}: expected UTF-8, found a byte that is none"))
    }

    /// The store.
    pub(crate) fn store(act: &str, error: &(dyn StdError + 'static), root: &Path) -> Failure {
        Failure::refused(format!("cannot {act}"), None, error, &Facts { root: Some(root), keychain: None })
    }

    /// A registry, asked by a verb of its own.
    pub(crate) fn image(
        message: String,
        reference: &oci::Reference,
        error: &(dyn StdError + 'static),
        facts: &Facts<'_>,
    ) -> Failure {
        Failure::refused(message, Some(reference), error, facts)
    }

    /// What did not get from one place to another; `name` is that of the image where a registry may be at fault.
    pub(crate) fn transfer(
        act: &str,
        name: Option<&oci::Reference>,
        error: &TransferError,
        facts: &Facts<'_>,
    ) -> Failure {
        Failure::refused(format!("cannot {act}"), name, error, facts)
    }

    /// The environment refuses, with the chain of causes and what hint they give.
    fn refused(
        message: String,
        name: Option<&oci::Reference>,
        error: &(dyn StdError + 'static),
        facts: &Facts<'_>,
    ) -> Failure {
        Failure::new(Exit::Environment, message).caused_by(Some(error)).or_hint(hint::of(error, name, facts))
    }

    /// An image that the store does not have.
    pub(crate) fn no_such_image(name: &str) -> Failure {
        Failure::new(Exit::Failed, format!("no image `{name}` in the store"))
            .hint("`lbuild images` lists what is there")
    }

    /// A container that could not run.
    pub(crate) fn container(error: &runner::Error) -> Failure {
        let exit = Exit::Container(error.exit_code());
        Failure::new(exit, error).caused_by(error.source()).or_hint(hint::for_container(error))
    }

    /// A build that failed.
    pub(crate) fn build(error: &builder::Error, source: Source<'_>, facts: &Facts<'_>) -> Failure {
        use builder::Error;
        let exit = exit_of(error);
        let at = |span: Span| Failure::at(exit, error, span, source);
        match error {
            Error::Dockerfile { diagnostics } => Failure::diagnostics(diagnostics, source),
            Error::Image { reference, span, stage, source: cause } => span
                .map_or_else(|| Failure::new(exit, error), at)
                .caused_by(Some(cause))
                .or_hint(stage.as_ref().map(|stage| format!("did you mean the stage `{stage}`?")))
                .or_hint(hint::of(cause, Some(reference), facts)),
            Error::Command(failed) => Failure::command(failed, source),
            Error::Sandbox { span, platform, source: cause } => at(*span)
                .caused_by(Some(cause))
                .or_hint(hint::for_emulation(cause, platform))
                .or_hint(hint::for_container(cause)),
            Error::User { span, source: cause } => {
                at(*span).caused_by(Some(cause)).or_hint(hint::for_container(cause))
            }
            Error::Secret { span, id, source: cause } => {
                let given = cause.as_ref().map(|cause| cause as &(dyn StdError + 'static));
                let missing = cause.is_none().then(|| hint::for_secret(id));
                at(*span).caused_by(given).or_hint(missing)
            }
            Error::Agent { span, id, source: cause } => {
                let given = cause.as_ref().map(|cause| cause as &(dyn StdError + 'static));
                at(*span).caused_by(given).or_hint(Some(hint::for_agent(id, cause.is_some())))
            }
            Error::Fetch { span, source: cause, .. } => {
                at(*span).caused_by(Some(cause)).or_hint(hint::for_fetch(cause, facts))
            }
            Error::MissingSource { span, reason, place, .. } => at(*span).or_hint(missing(reason, place)),
            Error::Step { span, source: cause, .. } => {
                at(*span).caused_by(Some(cause)).or_hint(hint::of(cause, None, facts))
            }
            Error::Store { source: cause, .. } => {
                Failure::new(exit, error).caused_by(Some(cause)).or_hint(hint::of(cause, None, facts))
            }
            Error::Push { reference, source: cause } => Failure::new(exit, error)
                .caused_by(Some(cause))
                .or_hint(hint::of(cause, Some(reference), facts)),
            Error::Referrers { source: cause, .. } => Failure::new(exit, error).caused_by(Some(&**cause)),
            Error::Cancelled => Failure::new(exit, error),
        }
    }

    /// A Dockerfile that cannot be understood, looked at without building it.
    pub(crate) fn dockerfile(error: &builder::Error, source: Source<'_>) -> Failure {
        Failure::build(error, source, &Facts::default())
    }

    /// A context, or a Dockerfile, that cannot be fetched.
    pub(crate) fn fetch(name: &str, error: &FetchError) -> Failure {
        let message = format!("cannot fetch `{name}`");
        Failure::new(exit_of_fetch(error), message)
            .caused_by(Some(error))
            .or_hint(hint::for_fetch(error, &Facts::default()))
    }

    /// An archive, or a directory, that was to hold images or files.
    pub(crate) fn load(name: &str, error: &LoadError) -> Failure {
        let exit = if error.is_environment() { Exit::Environment } else { Exit::Failed };
        Failure::new(exit, format!("cannot load `{name}`")).caused_by(Some(error)).or_hint(hint::of(
            error,
            None,
            &Facts::default(),
        ))
    }

    /// Standard input that was to be a context.
    pub(crate) fn stdin(error: &FetchError) -> Failure {
        match error {
            FetchError::NotAnArchive { .. } | FetchError::ContextTooLarge { .. } => {
                Failure::new(Exit::Failed, "standard input is neither an archive nor a Dockerfile")
            }
            error => Failure::new(Exit::Environment, "cannot unpack standard input").caused_by(Some(error)),
        }
    }

    /// A tree that was fetched; `place` has its quotes.
    pub(crate) fn tree(act: &str, place: &str, error: &layerfs::Error) -> Failure {
        Failure::new(Exit::Failed, format!("cannot {act} in {place}")).caused_by(Some(error))
    }

    /// Someone asked to stop.
    pub(crate) fn cancelled() -> Failure {
        Failure::new(Exit::Interrupted, builder::Error::Cancelled)
    }

    /// An image that could not be brought to its place, without a Dockerfile in sight.
    pub(crate) fn delivery(error: &builder::Error, facts: &Facts<'_>) -> Failure {
        Failure::build(error, Source { name: "Dockerfile", text: "" }, facts)
    }

    /// The same, ending as Docker's engine does unless it ends as a container does already.
    pub(crate) fn of_engine(self) -> Failure {
        match self.exit {
            Exit::Container(_) => self,
            _ => Failure { exit: Exit::ENGINE, ..self },
        }
    }

    /// A failure with a place in the Dockerfile.
    fn at(exit: Exit, error: &builder::Error, span: Span, source: Source<'_>) -> Failure {
        let message = text::printable(&error.to_string());
        let shown = Diagnostic::error(span, message).render(source.name, source.text);
        Failure { head: lines(&shown), ..Failure::new(exit, "") }
    }

    fn diagnostics(diagnostics: &[Diagnostic], source: Source<'_>) -> Failure {
        let shown: Vec<String> =
            diagnostics.iter().map(|diagnostic| diagnostic.render(source.name, source.text)).collect();
        Failure { head: lines(&text::printable_lines(&shown.join("\n"))), ..Failure::new(Exit::Failed, "") }
    }

    fn command(failed: &CommandFailed, source: Source<'_>) -> Failure {
        const SHOWN: usize = 160;
        let line = failed.span.start.line.to_string();
        let margin = " ".repeat(line.len());
        let mut failure = Failure::new(Exit::Failed, failed);
        failure.head.push(format!("{margin}--> {}:{line}", source.name));
        failure.head.push(format!("{margin} | {}", text::shorten(&text::printable(&failed.text), SHOWN)));
        let tail = failed.tail.strip_suffix(b"\n").unwrap_or(&failed.tail);
        if !tail.is_empty() {
            failure.head.extend(
                tail.split(|&byte| byte == b'\n').map(|line| format!("  {}", text::plain_line(line))),
            );
        }
        let is_memory = failed.exit.oom_limit_bytes.is_some();
        failure.or_hint(is_memory.then(|| "raise the limit with `--memory`".to_owned()))
    }

    fn caused_by(mut self, first: Option<&(dyn StdError + 'static)>) -> Failure {
        let mut link = first;
        while let Some(cause) = link {
            let shown = cause_text(cause);
            // Some types stand in for their cause and print as it does.
            if self.causes.last() != Some(&shown) {
                self.causes.push(shown);
            }
            link = cause.source();
        }
        self
    }

    /// The same with a hint.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    fn or_hint(self, hint: Option<String>) -> Failure {
        Failure { hint: self.hint.or(hint), ..self }
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.head {
            writeln!(f, "{line}")?;
        }
        for cause in &self.causes {
            writeln!(f, "caused by: {}", text::printable(cause))?;
        }
        let Some(hint) = &self.hint else { return Ok(()) };
        // Below a place in the Dockerfile the hint belongs to the place.
        if self.head.len() == 1 || !self.causes.is_empty() {
            writeln!(f)?;
        }
        writeln!(f, "hint: {}", text::printable(hint))
    }
}

/// House rule: texts begin in lower case; the system's do not.
fn cause_text(cause: &(dyn StdError + 'static)) -> String {
    let shown = cause.to_string();
    if cause.downcast_ref::<io::Error>().is_none_or(|error| error.raw_os_error().is_none()) {
        return shown;
    }
    let mut chars = shown.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn exit_of(error: &builder::Error) -> Exit {
    use builder::Error;
    match error {
        Error::Dockerfile { .. }
        | Error::Command(_)
        | Error::MissingSource { .. }
        | Error::User { .. }
        | Error::Secret { .. }
        | Error::Agent { .. } => Exit::Failed,
        Error::Fetch { source, .. } => exit_of_fetch(source),
        Error::Image { source: ImageError::Platform { .. }, .. } => Exit::Failed,
        Error::Step { source, .. } if !is_full_disk(source) => Exit::Failed,
        Error::Sandbox { source, .. } if is_in_the_image(source) => Exit::Failed,
        Error::Image { .. }
        | Error::Sandbox { .. }
        | Error::Step { .. }
        | Error::Store { .. }
        | Error::Push { .. }
        | Error::Referrers { .. } => Exit::Environment,
        Error::Cancelled => Exit::Interrupted,
    }
}

/// What was asked for is wrong, or it cannot be had here and now.
fn exit_of_fetch(error: &FetchError) -> Exit {
    match error {
        FetchError::Checksum { .. }
        | FetchError::Reference { .. }
        | FetchError::Subdirectory { .. }
        | FetchError::SubmoduleAddress { .. }
        | FetchError::TooManySubmodules { .. } => Exit::Failed,
        FetchError::Submodule { source, .. } => exit_of_fetch(source),
        FetchError::Cancelled => Exit::Interrupted,
        _ => Exit::Environment,
    }
}

/// Whether it is the image that keeps a command from starting, and not this machine.
fn is_in_the_image(error: &runner::Error) -> bool {
    use runner::Error;
    matches!(
        error,
        Error::User { .. }
            | Error::ProgramNotFound { .. }
            | Error::ProgramNotExecutable { .. }
            | Error::MountPoint { .. }
    )
}

fn missing(reason: &MissingReason, place: &Place) -> Option<String> {
    match reason {
        MissingReason::Absent => match place {
            Place::Context(root) => Some(format!("the build context is `{}`", root.display())),
            _ => None,
        },
        MissingReason::Ignored { file, line, pattern } => {
            Some(format!("line {line} of `{file}` excludes `{pattern}`"))
        }
        MissingReason::Link { target } => {
            Some(format!("it is a link to `{}`, which leads nowhere in there", target.display()))
        }
        MissingReason::Near(name) => Some(format!("did you mean `{name}`?")),
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
