//! The Dockerfile language: text in, typed instructions with places out. Pure code: no files, no environment.
//!
//! The way of a file: `source` counts lines and columns, `lines` joins physical lines to logical ones
//! (comments, continuations, directives), `heredoc` takes the bodies below them, `words` splits a line by its
//! instruction's rules, `parse` makes the typed [`instruction`]s. Replacing variables is a separate act
//! ([`expand`]), because what they hold is known only while lowering. [`ast`] prints the untyped view that
//! the official parser gives.
//!
//! What is not here: which stage is needed, what an instruction does, what a name refers to.

pub mod ast;
pub mod diagnostic;
pub mod expand;
pub mod glob;
mod heredoc;
pub mod instruction;
mod json;
mod lines;
mod mount;
mod parse;
mod pattern;
pub mod signal;
mod source;
mod statement;
mod syntax;
mod word;
mod words;

pub use diagnostic::{Diagnostic, Pos, Severity, Span};
pub use instruction::{Dockerfile, Instruction, InstructionKind};
pub use parse::{parse, parse_trigger};
