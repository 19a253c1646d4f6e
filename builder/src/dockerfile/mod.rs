//! The Dockerfile language: text in, typed instructions with places out. Pure code: no files, no environment.
//!
//! The way of a file: [`source`] counts lines and columns, `lines` joins physical lines to logical ones (comments,
//! continuations, directives), `heredoc` takes the bodies below them, `words` splits a line by its instruction's rules,
//! `parse` makes the typed [`instruction`]s. Replacing variables is a separate act ([`expand`]), because what they hold
//! is known only while lowering. [`ast`] prints the untyped view that the official parser gives.
//!
//! What is not here: which stage is needed, what an instruction does, what a name refers to.

pub mod diagnostic;
pub mod expand;
pub mod glob;
pub mod instruction;
mod mount;
mod pattern;

use diagnostic::Diagnostic;
use instruction::{Dockerfile, Instruction};

/// Reads a Dockerfile. Bytes that are no UTF-8 are the caller's to replace, see `String::from_utf8_lossy`.
///
/// # Errors
/// All errors of the file at once, then its warnings.
pub fn parse(source: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    let _ = source;
    Err(Vec::new())
}

/// Reads one instruction stored in an image by `ONBUILD`; the escape character is `\`.
///
/// # Errors
/// What is wrong with it; spans point into `text`.
pub fn parse_trigger(text: &str) -> Result<Instruction, Vec<Diagnostic>> {
    let _ = text;
    Err(Vec::new())
}
