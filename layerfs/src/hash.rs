//! Hashing beside the work whose bytes are hashed: a layer is read, packed and written on one core and hashed on another.
//!
//! A short run of bytes is hashed where it is: a thread begins only with the first full piece. Bytes wait in at most
//! [`DEPTH`] pieces, so memory is bounded whichever side is slower.

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use oci::{Algorithm, Digest, Hasher};

/// Bytes that go to the other core at once.
const PIECE_BYTES: usize = 256 * 1024;
/// How many pieces may wait there.
const DEPTH: usize = 8;

/// Counts and hashes what is passed to it.
pub(crate) struct SideHasher {
    piece: Vec<u8>,
    bytes: u64,
    side: Option<Side>,
    algorithm: Algorithm,
}

/// The thread that hashes.
struct Side {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl SideHasher {
    pub(crate) fn new(algorithm: Algorithm) -> SideHasher {
        SideHasher { piece: Vec::new(), bytes: 0, side: None, algorithm }
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
                self.pass_on();
            }
        }
    }

    /// The digest of all that was passed.
    pub(crate) fn finish(self) -> Digest {
        let SideHasher { piece, side, algorithm, .. } = self;
        let mut hasher = match side {
            None => Hasher::of(algorithm),
            Some(Side { full, thread, .. }) => {
                drop(full);
                // It does nothing that could panic.
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        };
        hasher.update(&piece);
        hasher.finish()
    }

    fn pass_on(&mut self) {
        let side = self.side.get_or_insert_with(|| Side::begin(self.algorithm));
        let next = side.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        let piece = std::mem::replace(&mut self.piece, next);
        // The thread ends when this side is dropped, and no earlier.
        let _sent = side.full.send(piece);
    }
}

impl Side {
    fn begin(algorithm: Algorithm) -> Side {
        let (full, full_out) = sync_channel::<Vec<u8>>(DEPTH);
        let (empty_in, empty) = channel();
        let thread = std::thread::spawn(move || {
            let mut hasher = Hasher::of(algorithm);
            for mut piece in full_out {
                hasher.update(&piece);
                piece.clear();
                // At the end nobody needs it back.
                let _unneeded = empty_in.send(piece);
            }
            hasher
        });
        Side { full, empty, thread }
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
            }
        }
    }
}
