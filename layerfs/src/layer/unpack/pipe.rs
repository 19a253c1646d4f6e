//! Decompressing in a thread of its own, and hashing in another, so that what is slowest of unpacking has a core to itself.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use oci::{Algorithm, Digest};

use crate::hash::SideHasher;
use crate::layer::expand;

/// Bytes that go through the pipe at once.
const PIECE_BYTES: usize = 256 * 1024;

/// How many pieces may wait in it.
const DEPTH: usize = 8;

/// The end that decompressed bytes come out of.
pub(super) struct Pipe {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

/// Starts decompressing `source`; the thread ends with the digest, by this algorithm, of what it has sent. It ends early when the
/// pipe is dropped.
pub(super) fn open<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: R,
    algorithm: Algorithm,
) -> (Pipe, ScopedJoinHandle<'scope, Digest>) {
    let (full_in, full) = sync_channel(DEPTH);
    let (empty, empty_out) = channel();
    let thread = scope.spawn(move || {
        let mut hasher = SideHasher::new(algorithm);
        if let Err(error) = pump(source, &mut hasher, &full_in, &empty_out) {
            // Nobody listens any more if this fails, and then nobody misses it.
            let _unheard = full_in.send(Err(error));
        }
        hasher.finish()
    });
    (Pipe { full, empty, piece: Vec::new(), read: 0 }, thread)
}

fn pump(
    source: impl Read + Send,
    hasher: &mut SideHasher,
    full: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut source = expand::decoder(source)?;
    loop {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE_BYTES, 0);
        let count = match source.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        piece.truncate(count);
        hasher.update(&piece);
        if count == 0 || full.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.piece.len() {
            let Ok(piece) = self.full.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.piece, piece?);
            self.read = 0;
            // The thread has ended if this fails; it needs no more room.
            let _unneeded = self.empty.send(used);
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}
