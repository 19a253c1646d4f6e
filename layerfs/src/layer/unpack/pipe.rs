//! Decompressing in a thread of its own, and hashing in another, so that what is slowest of unpacking has a core to itself.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use oci::{Algorithm, Digest};

use crate::hash::{PIECE_BYTES, Pieces, SideHasher};
use crate::layer::expand;

/// How many pieces may wait in the pipe.
const DEPTH: usize = 8;

/// Bytes for the two who read them.
type Piece = Arc<Vec<u8>>;

/// The end that decompressed bytes come out of.
pub(super) struct Pipe {
    pieces: Receiver<io::Result<Piece>>,
    piece: Piece,
    read: usize,
}

/// Starts decompressing `source`; the thread ends with the digest, by this algorithm, of what it has sent. It ends early when the
/// pipe is dropped.
pub(super) fn open<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    source: R,
    algorithm: Algorithm,
) -> (Pipe, ScopedJoinHandle<'scope, Digest>) {
    let (queue, pieces) = sync_channel(DEPTH);
    let thread = scope.spawn(move || {
        let mut hasher = SideHasher::new(algorithm);
        if let Err(error) = pump(source, &mut hasher, &queue) {
            // Nobody listens any more if this fails, and then nobody misses it.
            let _unheard = queue.send(Err(error));
        }
        hasher.finish()
    });
    (Pipe { pieces, piece: Piece::default(), read: 0 }, thread)
}

fn pump(
    source: impl Read + Send,
    hasher: &mut SideHasher,
    queue: &SyncSender<io::Result<Piece>>,
) -> io::Result<()> {
    let (mut source, mut pieces) = (expand::decoder(source)?, Pieces::default());
    loop {
        let mut piece = pieces.next();
        piece.resize(PIECE_BYTES, 0);
        let count = match source.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Ok(0) => return Ok(()),
            count => count?,
        };
        piece.truncate(count);
        let piece = pieces.lend(piece);
        hasher.update_shared(&piece);
        if queue.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            // Nobody sends at the end, nor after an error.
            let Ok(piece) = self.pieces.recv() else { return Ok(0) };
            (self.piece, self.read) = (piece?, 0);
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}
