//! A blob that comes from elsewhere, and may come in several goes: what a killed process has received is not fetched again.
//!
//! ```text
//! downloads/<algorithm>-<hex>   the beginning of a blob, 0600, locked by whoever adds to it
//! ```
//!
//! Order: who wants a blob that is not here locks its file, hashes what is in it, and asks for the rest; a whole blob
//! with its digest is renamed to its place. One that turns out to be another is fetched once more from its beginning, and
//! so is all of a blob whose source does not give parts. Who finds the file locked receives into a file of its own
//! rather than wait for another process. A small blob has no such file: it is not worth one.
//!
//! Invariants: bytes of an earlier go are never taken for more than what hashing finds them to be; a file that has been
//! moved or put away under its lock is not added to any more.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oci::digest::Mismatch;
use oci::{Descriptor, Digest, Hasher, Verifier};
use rustix::fs::{CWD, Mode, OFlags};

use crate::arrival::Arrival;
use crate::store::{Store, retry_read};
use crate::trust::BLOB_IN_MEMORY;
use crate::{Error, IoResultExt, Result, lock};

/// Where they are.
pub(crate) const FOLDER: &str = "downloads";

/// A blob shorter than this is fetched again as fast as it is found again, in bytes.
const WORTH_KEEPING: u64 = 1 << 20;

/// Nobody comes back after this.
pub(crate) const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

/// What a source gives that was asked for the rest of a blob.
#[derive(Debug)]
pub enum Rest<R> {
    /// What follows the bytes that are known.
    Behind(R),
    /// All of it, from the beginning.
    Whole(R),
}

/// A download that was begun and has not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The blob.
    pub digest: Digest,
    /// What has come takes of the disk, in bytes.
    pub bytes: u64,
    /// When something came last.
    pub last_used: SystemTime,
    /// Whether somebody adds to it.
    pub in_use: bool,
}

impl Store {
    /// Keeps the blob `descriptor` if it is what was promised. `open` is asked for what follows the bytes that it is
    /// given a hasher of, and is not asked at all for a blob that is here. Meanwhile another thread reads from `arrival`
    /// what has come.
    ///
    /// # Errors
    /// Those of `open`; [`Error::ReadBlob`] when the bytes stop coming or are not what they should be.
    pub fn receive<R: Read, E: From<Error>>(
        &self,
        descriptor: &Descriptor,
        arrival: &Arrival,
        open: impl Fn(&Hasher) -> Result<Rest<R>, E>,
    ) -> Result<(), E> {
        let received = self.try_receive(descriptor, arrival, open);
        arrival.give_up();
        received
    }

    fn try_receive<R: Read, E: From<Error>>(
        &self,
        descriptor: &Descriptor,
        arrival: &Arrival,
        open: impl Fn(&Hasher) -> Result<Rest<R>, E>,
    ) -> Result<(), E> {
        let Some(download) = Download::begin(self, descriptor)? else {
            let file = self.open_blob(&descriptor.digest)?;
            arrival.complete(Arc::new(file), descriptor.size);
            return Ok(());
        };
        loop {
            let known = download.known()?;
            // All may be here, and then there is nothing to ask for.
            let is_all = known.bytes() == descriptor.size && known.bytes() > 0;
            let (known, rest) = match is_all {
                true => (known, None),
                false => match open(&known)? {
                    Rest::Behind(reader) => (known, Some(reader)),
                    Rest::Whole(reader) => (download.nothing(), Some(reader)),
                },
            };
            let is_resumed = known.bytes() > 0;
            if !is_resumed {
                download.clear()?;
            }
            arrival.advance(&download.file, known.bytes());
            let added = match rest {
                Some(reader) => download.add(known, reader, arrival),
                None => download.add(known, io::empty(), arrival),
            };
            match added {
                Err(error) if is_resumed && is_mismatch(&error) => {
                    // Whose fault it is only the whole blob tells.
                    download.clear()?;
                    arrival.restart();
                }
                Err(error) if is_mismatch(&error) => {
                    download.abandon()?;
                    return Err(error.into());
                }
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    let file = download.file.clone();
                    download.finish()?;
                    arrival.complete(file, descriptor.size);
                    return Ok(());
                }
            }
        }
    }

    /// Keeps the bytes of `reader` if they are what `descriptor` promises; reads none of them if the blob is here. For
    /// what is as near as the store itself.
    ///
    /// # Errors
    /// [`Error::ReadBlob`] when they are not.
    pub fn put_verified(&self, reader: &mut dyn Read, descriptor: &Descriptor) -> Result<()> {
        if self.hold(&descriptor.digest)? == Some(descriptor.size) {
            return Ok(());
        }
        self.remove_damaged(&descriptor.digest, descriptor.size)?;
        let download = Download::without_name(self, descriptor)?;
        download.add(download.nothing(), reader, &Arrival::default())?;
        download.finish()
    }

    /// The downloads that have not come to their end. What vanishes meanwhile is left out.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn downloads(&self) -> Result<Vec<Begun>> {
        let mut found = Vec::new();
        for name in self.names(FOLDER)? {
            let Some(digest) = digest_of(&name) else { continue };
            let path = self.root().join(FOLDER).join(&name);
            let (Ok(file), Ok(metadata)) = (File::open(&path), path.symlink_metadata()) else { continue };
            let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let in_use = lock::try_shared(&file) == Ok(false);
            found.push(Begun { digest, bytes: metadata.blocks() * 512, last_used, in_use });
        }
        Ok(found)
    }

    /// Puts away what nobody goes on with: of blobs that are here by now, and what was last added to by then.
    pub(crate) fn sweep_downloads(&self, before: SystemTime) -> Result<()> {
        for name in self.names(FOLDER)? {
            let path = self.root().join(FOLDER).join(&name);
            let Ok(file) = File::open(&path) else { continue };
            // Held until it is out of sight, so that nobody begins to add to it.
            if lock::try_exclusive(&file) != Ok(true) {
                continue;
            }
            let is_here = digest_of(&name).is_none_or(|digest| self.has(&digest));
            if is_here || is_older(&file, before) {
                self.discard(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether nothing was written to the file since.
pub(crate) fn is_older(file: &File, before: SystemTime) -> bool {
    file.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|modified| modified <= before)
}

fn name_of(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// The blob that a file in the folder is the beginning of.
pub(crate) fn digest_of(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

fn is_mismatch(error: &Error) -> bool {
    let Error::ReadBlob { source, .. } = error else { return false };
    source.get_ref().is_some_and(|inner| inner.is::<Mismatch>())
}

/// A blob that is coming.
struct Download<'a> {
    store: &'a Store,
    descriptor: &'a Descriptor,
    file: Arc<File>,
    /// Where the file is, if it has a name.
    path: Option<PathBuf>,
}

impl<'a> Download<'a> {
    /// None if the blob is here.
    fn begin(store: &'a Store, descriptor: &'a Descriptor) -> Result<Option<Download<'a>>> {
        let Descriptor { digest, size, .. } = descriptor;
        let is_here = || Ok::<_, Error>(store.hold(digest)? == Some(*size));
        if is_here()? {
            return Ok(None);
        }
        store.remove_damaged(digest, *size)?;
        if *size >= WORTH_KEEPING {
            let path = store.root().join(FOLDER).join(name_of(digest));
            if let Some(file) = take(&path)? {
                // Who had it before may have come to the end.
                let download = Download { store, descriptor, file: Arc::new(file), path: Some(path) };
                return match is_here()? {
                    true => download.abandon().map(|()| None),
                    false => Ok(Some(download)),
                };
            }
        }
        Download::without_name(store, descriptor).map(Some)
    }

    fn without_name(store: &'a Store, descriptor: &'a Descriptor) -> Result<Download<'a>> {
        let file = Arc::new(store.unnamed(BLOB_IN_MEMORY)?);
        Ok(Download { store, descriptor, file, path: None })
    }

    /// What an earlier go has brought.
    fn known(&self) -> Result<Hasher> {
        let mut hasher = self.nothing();
        if self.path.is_none() {
            return Ok(hasher);
        }
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count =
                self.file.read_at(&mut buffer, hasher.bytes()).at("read a download in", self.folder())?;
            if count == 0 {
                return Ok(hasher);
            }
            hasher.update(&buffer[..count]);
            if hasher.bytes() > self.descriptor.size {
                return self.clear().map(|()| self.nothing());
            }
        }
    }

    /// A hasher that has taken in nothing.
    fn nothing(&self) -> Hasher {
        Hasher::of(self.descriptor.digest.algorithm())
    }

    /// Forgets what has come.
    fn clear(&self) -> Result<()> {
        self.file.set_len(0).at("empty a download in", self.folder())
    }

    /// Adds what follows the bytes that `known` has taken in; fails unless that makes the blob.
    fn add(&self, known: Hasher, rest: impl Read, arrival: &Arrival) -> Result<()> {
        let Descriptor { digest, size, .. } = self.descriptor;
        let mut bytes = known.bytes();
        let mut verifier = Verifier::behind(known, rest, *digest, *size);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = retry_read(&mut verifier, &mut buffer)
                .map_err(|source| Error::ReadBlob { digest: *digest, source })?;
            if read == 0 {
                return Ok(());
            }
            // The verifier has hashed these bytes.
            self.file.write_all_at(&buffer[..read], bytes).at("write a blob in", self.store.root())?;
            bytes += read as u64;
            arrival.advance(&self.file, bytes);
        }
    }

    /// Makes the blob visible.
    fn finish(self) -> Result<()> {
        let shelf = self.store.shelf();
        let Some(path) = &self.path else { return shelf.link(&self.file, &self.descriptor.digest) };
        rustix::fs::fchmod(&*self.file, Mode::from_raw_mode(BLOB_IN_MEMORY)).at("set the mode of", path)?;
        shelf.move_in(path, &self.descriptor.digest)
    }

    /// Leaves nothing of it.
    fn abandon(self) -> Result<()> {
        self.path.iter().try_for_each(|path| std::fs::remove_file(path).at("delete", path))
    }

    fn folder(&self) -> PathBuf {
        self.store.root().join(FOLDER)
    }
}

/// The file at `path`, made if it is missing, and locked; none if somebody else has it.
fn take(path: &Path) -> Result<Option<File>> {
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o600)).at("open", path)?;
        let file = File::from(file);
        if !lock::try_exclusive(&file).at("lock", path)? {
            return Ok(None);
        }
        // In between it may have become the blob, or refuse.
        let inode = file.metadata().at("open", path)?.ino();
        if path.symlink_metadata().is_ok_and(|there| there.ino() == inode) {
            return Ok(Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use oci::{Algorithm, Compression, MediaType};

    use super::*;

    const SIZE: usize = 3 << 20;

    fn content() -> Vec<u8> {
        (0..=250).cycle().take(SIZE).collect()
    }

    /// Gives so many bytes of a blob, then breaks.
    struct Breaking<'a> {
        bytes: &'a [u8],
        left: usize,
    }

    impl Read for Breaking<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.left).min(self.bytes.len());
            if count == 0 && !self.bytes.is_empty() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            buffer[..count].copy_from_slice(&self.bytes[..count]);
            (self.bytes, self.left) = (&self.bytes[count..], self.left - count);
            Ok(count)
        }
    }

    struct World {
        _folder: tempfile::TempDir,
        store: Store,
        bytes: Vec<u8>,
        blob: Descriptor,
        /// What was asked for, by offset.
        asked: RefCell<Vec<u64>>,
    }

    impl World {
        fn new() -> World {
            World::called_by(Algorithm::Sha256)
        }

        fn called_by(algorithm: Algorithm) -> World {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("store")).unwrap();
            let bytes = content();
            let size = bytes.len() as u64;
            let media_type = MediaType::OciLayer(Compression::None);
            let blob = Descriptor::new(media_type, algorithm.digest(&bytes), size);
            World { _folder: folder, store, bytes, blob, asked: RefCell::default() }
        }

        fn file(&self) -> PathBuf {
            self.store.root().join(FOLDER).join(name_of(&self.blob.digest))
        }

        /// Receives from a source that breaks after so many bytes, and gives parts or not.
        fn receive(&self, breaks_after: usize, gives_parts: bool, arrival: &Arrival) -> Result<()> {
            self.store.receive(&self.blob, arrival, |known| {
                self.asked.borrow_mut().push(known.bytes());
                let from = if gives_parts { usize::try_from(known.bytes()).unwrap() } else { 0 };
                let rest = Breaking { bytes: &self.bytes[from..], left: breaks_after };
                Ok::<_, Error>(if gives_parts { Rest::Behind(rest) } else { Rest::Whole(rest) })
            })
        }

        fn assert_here(&self) {
            self.store.verify(&self.blob.digest).unwrap();
            assert!(!self.file().exists());
            assert_eq!(self.store.downloads().unwrap(), []);
        }
    }

    #[test]
    fn what_came_is_not_asked_for_again() {
        let world = World::new();
        world.receive(2_000_000, true, &Arrival::default()).unwrap_err();
        assert!(!world.store.has(&world.blob.digest));
        let begun = world.store.downloads().unwrap();
        assert_eq!(begun.len(), 1);
        assert!(begun[0].bytes >= 2_000_000 && !begun[0].in_use && begun[0].digest == world.blob.digest);
        let arrival = Arrival::default();
        world.receive(usize::MAX, true, &arrival).unwrap();
        assert_eq!(*world.asked.borrow(), [0, 2_000_000]);
        let mut read = Vec::new();
        arrival.reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, world.bytes, "it is read from its beginning");
        world.assert_here();
        assert_eq!(
            world.store.blob_path(&world.blob.digest).metadata().unwrap().mode() & 0o777,
            BLOB_IN_MEMORY
        );
    }

    #[test]
    fn a_blob_called_by_sha512_comes_as_others_do() {
        let world = World::called_by(Algorithm::Sha512);
        world.receive(2_000_000, true, &Arrival::default()).unwrap_err();
        assert_eq!(world.store.downloads().unwrap()[0].digest, world.blob.digest);
        world.receive(usize::MAX, true, &Arrival::default()).unwrap();
        assert_eq!(*world.asked.borrow(), [0, 2_000_000]);
        world.assert_here();
        assert_eq!(world.store.blobs().unwrap()[0].digest, world.blob.digest);
    }

    #[test]
    fn a_source_of_no_parts_gives_all() {
        let world = World::new();
        world.receive(2_000_000, true, &Arrival::default()).unwrap_err();
        world.receive(usize::MAX, false, &Arrival::default()).unwrap();
        assert_eq!(*world.asked.borrow(), [0, 2_000_000]);
        world.assert_here();
    }

    #[test]
    fn a_damaged_beginning_is_fetched_anew() {
        for length in [2_000_000, SIZE, SIZE + 1] {
            let world = World::new();
            let mut damaged = world.bytes.clone();
            damaged.push(0);
            damaged.truncate(length);
            damaged[1_000_000] ^= 1;
            std::fs::write(world.file(), damaged).unwrap();
            let arrival = Arrival::default();
            std::thread::scope(|scope| {
                let reader = scope.spawn(|| io::copy(&mut arrival.reader(), &mut io::sink()));
                // It has read some of what is wrong.
                world.receive(usize::MAX, true, &arrival).unwrap();
                drop(reader.join().unwrap());
            });
            assert_eq!(world.asked.borrow().last(), Some(&0), "{length}");
            world.assert_here();
        }
    }

    #[test]
    fn a_whole_file_without_a_name_is_not_asked_for() {
        let world = World::new();
        std::fs::write(world.file(), &world.bytes).unwrap();
        world.receive(usize::MAX, true, &Arrival::default()).unwrap();
        assert_eq!(*world.asked.borrow(), [0_u64; 0]);
        world.assert_here();
    }

    #[test]
    fn what_somebody_adds_to_is_left_alone() {
        let world = World::new();
        let theirs = take(&world.file()).unwrap().unwrap();
        assert!(take(&world.file()).unwrap().is_none());
        assert!(world.store.downloads().unwrap()[0].in_use);
        world.store.sweep_downloads(SystemTime::now()).unwrap();
        assert!(world.file().exists());
        world.receive(usize::MAX, true, &Arrival::default()).unwrap();
        world.store.verify(&world.blob.digest).unwrap();
        drop(theirs);
        world.store.sweep_downloads(SystemTime::now() - FORGOTTEN).unwrap();
        assert!(!world.file().exists(), "the blob is here");
    }

    #[test]
    fn another_blob_leaves_nothing() {
        let world = World::new();
        let other = vec![7; SIZE];
        let source = |_: &Hasher| Ok::<_, Error>(Rest::Whole(&other[..]));
        world.store.receive(&world.blob, &Arrival::default(), source).unwrap_err();
        assert!(!world.file().exists() && !world.store.has(&world.blob.digest));
    }

    #[test]
    fn what_is_old_goes() {
        let world = World::new();
        world.receive(2_000_000, true, &Arrival::default()).unwrap_err();
        world.store.sweep_downloads(SystemTime::now() - FORGOTTEN).unwrap();
        assert!(world.file().exists());
        let long_ago = SystemTime::now() - 2 * FORGOTTEN;
        File::options().write(true).open(world.file()).unwrap().set_modified(long_ago).unwrap();
        world.store.sweep_downloads(SystemTime::now() - FORGOTTEN).unwrap();
        assert!(!world.file().exists());
    }
}
