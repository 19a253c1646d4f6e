//! The table of exit codes. Nothing else decides a number.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the build failed: a step, or what the Dockerfile says; an image is not what was asked for; `diff --exit-code` |
//! | 2 | the command line is wrong |
//! | 3 | the environment refuses: namespaces, disk, registry |
//! | 125, 126, 127 | `lbuild run`: lbuild failed, the program cannot be executed, it does not exist |
//! | 130 | interrupted |
//!
//! `lbuild run` otherwise ends as its program did. A bug ends with Rust's 101.

use std::process::ExitCode;

/// How lbuild ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is done.
    Done,
    /// The build failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The environment refuses.
    Environment,
    /// Someone asked to stop.
    Interrupted,
    /// As a container did, or Docker's code for a container that could not run.
    Container(u8),
}

impl Exit {
    /// Docker's code for a failure of the engine, not of the program.
    pub(crate) const ENGINE: Exit = Exit::Container(125);

    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Environment => 3,
            Exit::Interrupted => 130,
            Exit::Container(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
