//! A blob on its way into the store, read while it comes: unpacking does not wait for the end of a download.
//!
//! The end of the blob is given to the reader only when the blob is in the store, which is when its digest and its size
//! have been verified; a blob that turns out to be another one is an error in place of the end. What was read before
//! is what was received, verified or not, so nothing made of it may be kept before the end was read. What has come may
//! also turn out to be wrong while the blob can still be had: then it comes anew, and whoever has read from the beginning
//! gets an error in place of the rest.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What one thread writes and another reads.
#[derive(Debug, Default)]
pub struct Arrival {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    /// How often it has begun anew.
    restarts: u32,
}

#[derive(Debug, Default)]
enum Progress {
    /// Nothing has come yet.
    #[default]
    Awaited,
    /// This file has this many bytes.
    Coming(Arc<File>, u64),
    /// It is whole and verified.
    Here(Arc<File>, u64),
    /// It does not come any more.
    Lost,
}

impl Arrival {
    /// Reads from the beginning; waits for what has not come.
    pub fn reader(&self) -> Reader<'_> {
        Reader { arrival: self, offset: 0, restarts: self.state().restarts }
    }

    /// Whether it has begun anew, so that somebody may have read what was not the blob.
    pub fn has_restarted(&self) -> bool {
        self.state().restarts > 0
    }

    /// To be called when writing has failed; does nothing if the blob is here.
    pub fn give_up(&self) {
        let mut state = self.state();
        if !matches!(state.progress, Progress::Here(..)) {
            state.progress = Progress::Lost;
        }
        self.changed.notify_all();
    }

    pub(crate) fn advance(&self, file: &Arc<File>, bytes: u64) {
        self.state().progress = Progress::Coming(file.clone(), bytes);
        self.changed.notify_all();
    }

    pub(crate) fn complete(&self, file: Arc<File>, bytes: u64) {
        self.state().progress = Progress::Here(file, bytes);
        self.changed.notify_all();
    }

    /// What has come so far is not the blob.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        state.progress = Progress::Awaited;
        state.restarts += 1;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file and how much of it can be read behind `offset`; nothing at the verified end.
    fn wait(&self, offset: u64, restarts: u32) -> io::Result<Option<(Arc<File>, u64)>> {
        let waits = |state: &mut State| match state.progress {
            _ if state.restarts != restarts => false,
            Progress::Awaited => true,
            Progress::Coming(_, bytes) => bytes <= offset,
            Progress::Here(..) | Progress::Lost => false,
        };
        let state = self.changed.wait_while(self.state(), waits).unwrap_or_else(PoisonError::into_inner);
        if state.restarts != restarts {
            return Err(io::Error::other("what had come of the download was not the blob"));
        }
        match &state.progress {
            Progress::Here(_, bytes) if *bytes <= offset => Ok(None),
            Progress::Here(file, bytes) | Progress::Coming(file, bytes) => {
                Ok(Some((file.clone(), bytes - offset)))
            }
            Progress::Awaited | Progress::Lost => Err(io::Error::other("the download did not complete")),
        }
    }
}

/// Reads a blob while it comes.
#[derive(Debug)]
pub struct Reader<'a> {
    arrival: &'a Arrival,
    offset: u64,
    restarts: u32,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some((file, bytes)) = self.arrival.wait(self.offset, self.restarts)? else { return Ok(0) };
        let room = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        let count = file.read_at(&mut buffer[..room], self.offset)?;
        if count == 0 {
            // The file has fewer bytes than were written to it.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use oci::{Compression, Descriptor, Digest, Hasher, MediaType};

    use super::*;
    use crate::Result;
    use crate::download::Rest;
    use crate::store::Store;

    /// Gives its bytes in small pieces.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            std::thread::yield_now();
            let count = self.0.len().min(buffer.len()).min(7);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn receive(store: &Store, blob: &Descriptor, arrival: &Arrival, sent: &[u8]) -> Result<()> {
        store.receive(blob, arrival, |_: &Hasher| Ok(Rest::Whole(Trickle(sent))))
    }

    fn read_while_it_comes(sent: &[u8], promised: &[u8]) -> (bool, io::Result<Vec<u8>>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let size = promised.len() as u64;
        let blob = Descriptor::new(MediaType::OciLayer(Compression::None), Digest::of(promised), size);
        let arrival = Arrival::default();
        std::thread::scope(|scope| {
            let write = scope.spawn(|| receive(&store, &blob, &arrival, sent));
            let mut read = Vec::new();
            let result = arrival.reader().read_to_end(&mut read);
            (write.join().unwrap().is_ok(), result.map(|_| read))
        })
    }

    #[test]
    fn a_blob_is_read_while_it_comes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let (is_stored, read) = read_while_it_comes(&bytes, &bytes);
        assert!(is_stored);
        assert_eq!(read.unwrap(), bytes);
        let (is_stored, read) = read_while_it_comes(b"", b"");
        assert!(is_stored && read.unwrap().is_empty());
    }

    #[test]
    fn another_blob_than_promised_has_no_end() {
        for sent in [&b"hellO"[..], b"hell", b"hello!", b""] {
            let (is_stored, read) = read_while_it_comes(sent, b"hello");
            assert!(!is_stored, "{sent:?}");
            assert!(read.is_err(), "{sent:?}");
        }
    }

    #[test]
    fn a_blob_that_is_here_is_read_from_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = store.put_bytes(b"hello").unwrap();
        let blob = Descriptor::new(MediaType::OciLayer(Compression::None), digest, 5);
        let arrival = Arrival::default();
        receive(&store, &blob, &arrival, b"not read").unwrap();
        let mut read = String::new();
        arrival.reader().read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
    }

    #[test]
    fn who_has_read_what_was_not_the_blob_sees_no_end() {
        let file = |text: &[u8]| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(text, 0).unwrap();
            Arc::new(file)
        };
        let arrival = Arrival::default();
        arrival.advance(&file(b"jel"), 3);
        let mut reader = arrival.reader();
        reader.read_exact(&mut [0; 2]).unwrap();
        arrival.restart();
        assert!(arrival.has_restarted());
        arrival.complete(file(b"hello"), 5);
        assert!(reader.read(&mut [0; 2]).is_err());
        let mut read = String::new();
        arrival.reader().read_to_string(&mut read).unwrap();
        assert_eq!(read, "hello");
    }
}
