//! What flows: how many bytes are there, and exactly so many of them.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};

/// Tells how many bytes are there, and takes back what was told.
pub(super) struct Meter<'a> {
    told: Cell<u64>,
    progress: &'a (dyn Fn(i64) + Sync),
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: &'a (dyn Fn(i64) + Sync)) -> Meter<'a> {
        Meter { told: Cell::new(0), progress }
    }

    fn count(&self, bytes: u64) {
        self.settle(self.told.get() + bytes);
    }

    /// Makes what was told be `bytes`.
    pub(super) fn settle(&self, bytes: u64) {
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let told = self.told.replace(bytes);
        if told != bytes {
            (self.progress)(signed(bytes) - signed(told));
        }
    }
}

/// Exactly so many bytes of a source: fails if it ends early, and reads no further if it does not end.
pub(super) struct Exact<'a> {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) left: u64,
    pub(super) meter: &'a Meter<'a>,
    /// The source's own failure, which the connection's error would hide.
    pub(super) failure: &'a RefCell<Option<io::Error>>,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let error = loop {
            match self.reader.read(&mut buffer[..room]) {
                Ok(0) => {
                    let reason = format!("it ends {} bytes early", self.left);
                    break io::Error::new(io::ErrorKind::UnexpectedEof, reason);
                }
                Ok(read) => {
                    self.left -= read as u64;
                    self.meter.count(read as u64);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let kind = error.kind();
        *self.failure.borrow_mut() = Some(error);
        Err(kind.into())
    }
}
