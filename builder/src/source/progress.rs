//! How much of an image has come, as it comes.

use std::io::Read;

use oci::Descriptor;

use super::Progress;
use crate::{Event, Events};

/// Tells how much has been read, once a mebibyte or so.
pub(super) struct Counted<'a, R> {
    pub(super) source: R,
    pub(super) done_bytes: u64,
    pub(super) layer: &'a Descriptor,
    pub(super) progress: Progress<'a>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const STEP: u64 = 1 << 20;
        let count = self.source.read(buffer)?;
        let before = self.done_bytes / STEP;
        self.done_bytes += count as u64;
        let is_told = self.done_bytes / STEP != before || count == 0;
        if is_told && !(self.progress)(self.layer, self.done_bytes) {
            return Err(std::io::Error::other("the transfer was interrupted"));
        }
        Ok(count)
    }
}

/// Turns the progress of an image's layers into events of one line.
pub fn progress_events<'a>(
    vertex: crate::VertexId,
    events: Events<'a>,
) -> impl Fn(&Descriptor, u64) -> bool + Sync + use<'a> {
    move |layer, done_bytes| {
        let (label, total_bytes) = (layer.digest.short(), layer.size);
        events(Event::Transfer { vertex, label, done_bytes, total_bytes });
        true
    }
}
