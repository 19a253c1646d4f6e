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

use crate::args;
use crate::failure::Failure;
use plain::Plain;
use tty::Tty;

/// A display in the making.
pub(crate) struct Progress {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    renderer: Renderer,
    warnings: Vec<String>,
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
            (Event::Warning { text }, _) => state.warnings.push(text),
            (event, Renderer::Plain(plain)) => plain.show(now, event),
            (event, Renderer::Tty(tty)) => tty.show(now, event),
            (_, Renderer::Quiet) => {}
        }
    }

    /// Ends the display: what is still live goes, warnings come. Call it before writing anything else.
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
        for warning in state.warnings.drain(..) {
            // As above.
            writeln!(err, "{}", crate::text::printable_lines(warning.trim_end())).ok();
        }
    }

    /// One last line, unless nothing is wanted.
    pub(crate) fn summary(&self, line: &str) {
        if !matches!(self.lock().renderer, Renderer::Quiet) {
            // As above.
            writeln!(io::stderr().lock(), "{}", crate::text::printable(line)).ok();
        }
    }

    /// The lock holds plain data: a panic of another thread leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
