//! How a build looks while it goes on: [`builder::Event`]s as lines or as a live display, on standard error.
//!
//! Choosing the renderer and keeping the warnings for the end is done here; drawing in `plain` and `tty`.
//! Events come from many threads; one lock puts them in order. A display that cannot be written fails nothing.

mod plain;
mod tty;

use std::io::{self, IsTerminal, Stderr, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use builder::Event;
use builder::dockerfile::diagnostic::Diagnostic;

use crate::failure::Failure;
use crate::{args, text};
use plain::Plain;
use tty::Tty;

/// A display in the making.
pub(crate) struct Progress {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    renderer: Renderer,
    /// Each once: several builds of one file find the same.
    warnings: Vec<Diagnostic>,
}

enum Renderer {
    Plain(Plain<Stderr>),
    Tty(Tty),
    Quiet,
}

impl Progress {
    /// The display that was asked for.
    ///
    /// # Errors
    /// When a live one was, and there is no terminal.
    pub(crate) fn new(wanted: args::Progress, quiet: bool) -> Result<Progress, Failure> {
        let is_terminal = io::stderr().is_terminal();
        let renderer = match wanted {
            _ if quiet => Renderer::Quiet,
            args::Progress::Quiet => Renderer::Quiet,
            args::Progress::Auto if is_terminal => Renderer::Tty(Tty::new()),
            args::Progress::Auto | args::Progress::Plain => Renderer::Plain(Plain::new(io::stderr())),
            args::Progress::Tty if is_terminal => Renderer::Tty(Tty::new()),
            args::Progress::Tty => {
                let error = Failure::usage("`--progress tty` needs a terminal as standard error");
                return Err(error.hint("`--progress plain` works everywhere"));
            }
        };
        let state = State { renderer, warnings: Vec::new() };
        Ok(Progress { started: Instant::now(), state: Mutex::new(state) })
    }

    /// Shows one event.
    pub(crate) fn show(&self, event: Event) {
        let mut state = self.lock();
        let now = self.started.elapsed();
        match (event, &mut state.renderer) {
            (Event::Warning { warning }, _) => {
                if !state.warnings.contains(&warning) {
                    state.warnings.push(warning);
                }
            }
            (event, Renderer::Plain(plain)) => plain.show(now, event),
            (event, Renderer::Tty(tty)) => tty.show(now, event),
            (_, Renderer::Quiet) => {}
        }
    }

    /// Ends the display: what is still live goes. Call it before writing anything else.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        let needs_line_end = match &mut state.renderer {
            Renderer::Plain(_) => false,
            Renderer::Tty(tty) => tty.finish(),
            Renderer::Quiet => return,
        };
        let mut err = io::stderr().lock();
        if needs_line_end {
            // Nobody is left to tell.
            writeln!(err).ok();
        }
    }

    /// One last line, unless nothing is wanted.
    pub(crate) fn summary(&self, line: &str) {
        if !matches!(self.lock().renderer, Renderer::Quiet) {
            // As above.
            writeln!(io::stderr().lock(), "{}", text::printable(line)).ok();
        }
    }

    /// What may be wrong with the Dockerfile, as far as it was told.
    pub(crate) fn warnings(&self) -> Vec<Diagnostic> {
        self.lock().warnings.clone()
    }

    /// Lists the warnings as buildx does, unless nothing is wanted.
    pub(crate) fn warn(&self) {
        let state = self.lock();
        if !matches!(state.renderer, Renderer::Quiet) {
            // Nobody is left to tell.
            write!(io::stderr().lock(), "{}", warning_list(&state.warnings)).ok();
        }
    }

    /// The lock holds plain data: a panic of another thread leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A head and a line for each; nothing for none.
fn warning_list(warnings: &[Diagnostic]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    let count = text::count(warnings.len() as u64, "warning");
    let lines: String = warnings.iter().map(|warning| format!(" - {}\n", one_line(warning))).collect();
    format!("\n {count} found (use --check to expand):\n{lines}")
}

/// `Rule: message (line 3)`
pub(crate) fn one_line(warning: &Diagnostic) -> String {
    let rule = warning.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
    let place = warning.span.map(|span| format!(" (line {})", span.start.line)).unwrap_or_default();
    text::printable(&format!("{rule}{}{place}", warning.message))
}

/// The end of a program's output that has no line end yet.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Longer lines are cut: a program may write without ever ending one.
    const LONGEST: usize = 64 * 1024;

    /// Takes what was written, gives each line that is complete, without its end.
    fn push(&mut self, bytes: &[u8], line: &mut dyn FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            line(&self.partial);
            self.partial.clear();
            rest = &rest[end + 1..];
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() >= Self::LONGEST {
            self.flush(line);
        }
    }

    /// Gives what has no line end.
    fn flush(&mut self, line: &mut dyn FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use builder::dockerfile::diagnostic::{Pos, Span};

    use super::*;

    #[test]
    fn warnings_are_listed_once() {
        let at = |line| Span { start: Pos { offset: 0, line, column: 1 }, end: Pos::default() };
        let progress = Progress::new(args::Progress::Quiet, true).unwrap();
        let casing = Diagnostic::warning("FromAsCasing", at(3), "odd \u{1b}[2J");
        let other = Diagnostic { rule: None, span: None, ..casing.clone() };
        assert_eq!(warning_list(&progress.warnings()), "");
        progress.show(Event::Warning { warning: casing.clone() });
        progress.show(Event::Warning { warning: casing });
        let first = " - FromAsCasing: odd \u{fffd}[2J (line 3)\n";
        let shown = warning_list(&progress.warnings());
        assert_eq!(shown, format!("\n 1 warning found (use --check to expand):\n{first}"));
        progress.show(Event::Warning { warning: other });
        let shown = warning_list(&progress.warnings());
        assert_eq!(
            shown,
            format!("\n 2 warnings found (use --check to expand):\n{first} - odd \u{fffd}[2J\n")
        );
    }
}
