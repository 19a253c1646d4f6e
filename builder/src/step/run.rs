//! `RUN`: a command in a container, its output passed on without secrets, its last lines kept.

use std::collections::VecDeque;

use layerfs::snapshot::Active;

use super::mask::Mask;
use super::source::Chosen;
use super::{Place, mount};
use crate::error::CommandFailed;
use crate::exec::Job;
use crate::plan::Run;
use crate::{Backends, Error, Event, Events, VertexId};

/// How much of a command's output an error shows, in bytes.
const TAIL_BYTES: usize = 8 * 1024;

/// Runs the command to its end.
pub(crate) fn execute(
    (run, place): (&Run, Place<'_>),
    active: &Active,
    chosen: &[Option<Chosen<'_>>],
    backends: &Backends<'_>,
    give_up: &dyn Fn() -> bool,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<(), Error> {
    let step = place.step;
    let root = active.try_clone_root().map_err(|source| Error::Step {
        span: step.span,
        act: "mount the file system",
        source,
    })?;
    let (surroundings, held) = mount::prepare(run, place, chosen, backends, give_up)?;
    let job = Job { run, root, surroundings, settings: &place.request.run };
    let (mut tail, mut mask) = (Tail::default(), Mask::new(held.secrets.clone()));
    let mut show = |bytes: &[u8]| {
        tail.push(bytes);
        events(Event::Output { vertex, bytes: bytes.to_vec() });
    };
    let exit = backends.executor.run(job, &mut |bytes| mask.push(bytes, &mut show));
    mask.finish(&mut show);
    drop(held);
    let exit = exit.map_err(|source| Error::Sandbox {
        span: step.span,
        platform: place.stage.platform.clone(),
        source,
    })?;
    if exit.success() {
        return Ok(());
    }
    let at = place.stage.steps.iter().position(|other| std::ptr::eq(other, step)).unwrap_or_default();
    Err(Error::Command(Box::new(CommandFailed {
        stage: place.stage.name.clone(),
        step: place.stage.position(at),
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
