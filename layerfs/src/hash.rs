//! Hashing beside the work whose bytes are hashed: a layer is read, packed and written on one core and hashed on another.
//!
//! A short run of bytes is hashed where it is: a thread begins only with the first full piece. Bytes wait in at most
//! [`DEPTH`] pieces, so memory is bounded whichever side is slower. Where other cores are busy anyway, bytes are
//! hashed where they are read ([`Hashed`]).

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use oci::{Algorithm, Digest, Hasher};

/// Bytes that go to the other core at once.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;
/// How many pieces may wait there.
const DEPTH: usize = 8;

/// Pieces of a stream that are read by several and used again when none of them does any more.
#[derive(Default)]
pub(crate) struct Pieces {
    lent: VecDeque<Arc<Vec<u8>>>,
}

impl Pieces {
    /// A piece to write to, whatever is in it.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        match self.lent.pop_front().map(Arc::try_unwrap) {
            Some(Ok(piece)) => piece,
            Some(Err(still_read)) => {
                self.lent.push_front(still_read);
                Vec::with_capacity(PIECE_BYTES)
            }
            None => Vec::with_capacity(PIECE_BYTES),
        }
    }

    pub(crate) fn lend(&mut self, piece: Vec<u8>) -> Arc<Vec<u8>> {
        let piece = Arc::new(piece);
        self.lent.push_back(Arc::clone(&piece));
        piece
    }
}

/// A source that is hashed where it is read.
pub(crate) struct Hashed<R> {
    pub(crate) source: R,
    pub(crate) hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// Counts and hashes what is passed to it.
pub(crate) struct SideHasher {
    piece: Vec<u8>,
    pieces: Pieces,
    bytes: u64,
    side: Option<Side>,
    algorithm: Algorithm,
}

/// The thread that hashes.
struct Side {
    queue: SyncSender<Arc<Vec<u8>>>,
    thread: JoinHandle<Hasher>,
}

impl SideHasher {
    pub(crate) fn new(algorithm: Algorithm) -> SideHasher {
        SideHasher { piece: Vec::new(), pieces: Pieces::default(), bytes: 0, side: None, algorithm }
    }

    /// How many bytes there were.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES {
                self.flush();
            }
        }
    }

    /// As [`SideHasher::update`], without copying what others read as well.
    pub(crate) fn update_shared(&mut self, piece: &Arc<Vec<u8>>) {
        self.flush();
        self.bytes += piece.len() as u64;
        self.send(Arc::clone(piece));
    }

    /// The digest of all that was passed.
    pub(crate) fn finish(self) -> Digest {
        let SideHasher { piece, side, algorithm, .. } = self;
        let mut hasher = match side {
            None => Hasher::of(algorithm),
            Some(Side { queue, thread }) => {
                drop(queue);
                // It does nothing that could panic.
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        hasher.update(&piece);
        hasher.finish()
    }

    fn flush(&mut self) {
        if self.piece.is_empty() {
            return;
        }
        let mut next = self.pieces.next();
        next.clear();
        let piece = std::mem::replace(&mut self.piece, next);
        let piece = self.pieces.lend(piece);
        self.send(piece);
    }

    fn send(&mut self, piece: Arc<Vec<u8>>) {
        // The thread ends when this side is dropped, and no earlier.
        let _sent = self.side.get_or_insert_with(|| Side::begin(self.algorithm)).queue.send(piece);
    }
}

impl Side {
    fn begin(algorithm: Algorithm) -> Side {
        let (queue, pieces) = sync_channel::<Arc<Vec<u8>>>(DEPTH);
        let thread = std::thread::spawn(move || {
            let mut hasher = Hasher::of(algorithm);
            pieces.into_iter().for_each(|piece| hasher.update(&piece));
            hasher
        });
        Side { queue, thread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_all_bytes_in_whatever_pieces() {
        let data: Vec<u8> = (0..=250).cycle().take(3 * PIECE_BYTES + 17).collect();
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, data.len()] {
            for step in [1000, PIECE_BYTES, 2 * PIECE_BYTES + 3] {
                let mut hasher = SideHasher::new(Algorithm::Sha256);
                data[..length].chunks(step).for_each(|piece| hasher.update(piece));
                assert_eq!(hasher.bytes(), length as u64);
                assert_eq!(hasher.finish(), Digest::of(&data[..length]), "{length} by {step}");
                let (mut hasher, mut pieces) = (SideHasher::new(Algorithm::Sha256), Pieces::default());
                for (nth, chunk) in data[..length].chunks(step).enumerate() {
                    if nth % 3 == 0 {
                        hasher.update(chunk);
                        continue;
                    }
                    let mut piece = pieces.next();
                    piece.clear();
                    piece.extend_from_slice(chunk);
                    hasher.update_shared(&pieces.lend(piece));
                }
                assert_eq!(hasher.finish(), Digest::of(&data[..length]), "{length} by {step}, shared");
            }
        }
    }
}
