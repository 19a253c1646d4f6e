//! `RUN`: a command in a container, its output passed on, its last lines kept.

use std::collections::VecDeque;

use layerfs::snapshot::Active;

use crate::error::CommandFailed;
use crate::exec::{Executor, Job};
use crate::plan::{Run, Step};
use crate::{Error, Event, Events, Request, VertexId};

/// How much of a command's output an error shows, in bytes.
const TAIL_BYTES: usize = 8 * 1024;

/// Which step this is, for an error.
pub(crate) struct Position<'a> {
    /// The stage's name.
    pub(crate) stage: &'a str,
    /// The step's number from 1, and how many there are.
    pub(crate) step: (usize, usize),
}

/// Runs the command to its end.
pub(crate) fn execute(
    (step, run): (&Step, &Run),
    active: &Active,
    position: &Position<'_>,
    request: &Request,
    executor: &dyn Executor,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<(), Error> {
    let root = active.try_clone_root().map_err(|source| Error::Step {
        span: step.span,
        act: "mount the file system",
        source,
    })?;
    let job =
        Job { run, root, network: run.network, limits: &request.limits, host_files: &request.host_files };
    let mut tail = Tail::default();
    let exit = executor
        .run(job, &mut |bytes| {
            tail.push(bytes);
            events(Event::Output { vertex, bytes: bytes.to_vec() });
        })
        .map_err(|source| Error::Sandbox { span: step.span, source })?;
    if exit.success() {
        return Ok(());
    }
    Err(Error::Command(Box::new(CommandFailed {
        stage: position.stage.to_owned(),
        step: position.step,
        span: step.span,
        text: step.text.clone(),
        exit,
        tail: tail.into_bytes(),
    })))
}

/// The last bytes of a stream.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.0.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.0.drain(..excess);
        self.0.extend(kept);
    }

    fn into_bytes(self) -> Vec<u8> {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_end() {
        let mut tail = Tail::default();
        tail.push(&vec![b'a'; 3 * TAIL_BYTES]);
        tail.push(b"end");
        let bytes = tail.into_bytes();
        assert_eq!(bytes.len(), TAIL_BYTES);
        assert!(bytes.starts_with(b"aaa") && bytes.ends_with(b"aend"));
    }
}
