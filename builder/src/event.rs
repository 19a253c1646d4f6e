//! What happens during a build, as values. How it looks is the command's business.

use std::time::Duration;

use crate::dockerfile::diagnostic::Diagnostic;

/// Names one line of progress; unique within a build.
pub type VertexId = usize;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Work on a line began.
    Started {
        /// The line.
        vertex: VertexId,
        /// Its text, such as `[build 2/4] RUN make`.
        name: String,
    },
    /// The line's work was already done by an earlier build. It follows `Started` at once and ends the line.
    Cached {
        /// The line.
        vertex: VertexId,
    },
    /// A step wrote to its standard output or error.
    Output {
        /// The line.
        vertex: VertexId,
        /// What it wrote, in pieces as they came; not always whole lines, not always text.
        bytes: Vec<u8>,
    },
    /// Bytes moved.
    Transfer {
        /// The line.
        vertex: VertexId,
        /// What moves: a short digest or a name.
        label: String,
        /// How many bytes have moved in all.
        done_bytes: u64,
        /// How many there are.
        total_bytes: u64,
    },
    /// The line's work is done.
    Finished {
        /// The line.
        vertex: VertexId,
        /// How long it took.
        elapsed: Duration,
    },
    /// The line's work failed; the build's error says why.
    Failed {
        /// The line.
        vertex: VertexId,
        /// How long it took.
        elapsed: Duration,
    },
    /// Something to tell the user when all is done.
    Warning {
        /// What may be wrong with the Dockerfile.
        warning: Diagnostic,
    },
}

/// Takes events; called from many threads.
pub type Events<'a> = &'a (dyn Fn(Event) + Sync);
