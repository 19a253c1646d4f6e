//! How much of a blob has come or gone, as it does.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use oci::Descriptor;

use super::Progress;
use crate::{Event, Events};

/// Tells how much has been read, once a mebibyte or so.
pub(crate) struct Counted<'a, R> {
    pub(crate) source: R,
    pub(crate) done_bytes: u64,
    pub(crate) layer: &'a Descriptor,
    pub(crate) progress: Progress<'a>,
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

/// Takes how many bytes more of `blob` have gone, or after a failed try fewer, and tells how many it is so far.
pub(crate) fn summed<'a>(blob: &'a Descriptor, progress: Progress<'a>) -> impl Fn(i64) + Sync + use<'a> {
    let done = Mutex::new(0i64);
    move |delta| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        *done += delta;
        progress(blob, u64::try_from(*done).unwrap_or(0));
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
