//! Standard output: what a program may read. Progress and errors go to standard error.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;

/// Prints `text` as it is.
///
/// # Errors
/// When standard output cannot be written. A reader that has gone away has read enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints `bytes` as they are.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::environment_because("cannot write to standard output", error.to_string()))
        }
        _ => Ok(()),
    }
}

/// Looks where an archive would go that has no file.
///
/// # Errors
/// When that is a terminal.
pub(crate) fn expect_no_terminal(file: Option<&Path>) -> Result<(), Failure> {
    match file.is_none() && io::stdout().is_terminal() {
        true => Err(Failure::usage("this would write an archive to the terminal")
            .hint("`-o FILE` names a file, or redirect standard output")),
        false => Ok(()),
    }
}

/// Prints `value` as indented JSON.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).expect("what is printed has string keys and no failing parts");
    print(&(text + "\n"))
}
