//! What of the store is surely on the disk, and what is looked at again after a power cut.
//!
//! Nothing is synced while it is made: that would cost a build more than all the rest of its writing. Instead the
//! mode of a thing says how far it is to be trusted:
//!
//! | blob | snapshot | |
//! |---|---|---|
//! | 0440 | 0700 | made since the machine started, and as good as memory: trusted |
//! | 0444 | 0755 | on the disk since a sync ([`Store::settle`]): trusted |
//! | 0400 | – | made before the machine was last started, and never synced: hashed before it is used |
//!
//! `state.json` names the boot (`/proc/sys/kernel/random/boot_id`) in which the store was last opened. The first who
//! opens it in another one makes every 0440 a 0400 and discards every snapshot that is 0700: nobody can tell whether
//! its files have their bytes. It also names the format of the store, so that an older lbuild leaves a newer one alone.
//!
//! Invariant: a thing has a mode of trust only after the sync has succeeded, so the file system's own journal, which
//! keeps their order, never shows one that was not synced.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use oci::digest::Mismatch;
use oci::{Algorithm, Digest, Hasher};
use rustix::fs::{Mode, syncfs};
use serde::{Deserialize, Serialize};

use crate::snapshot::Layout;
use crate::store::{Store, retry_read};
use crate::{Error, IoResultExt, Result, ingest, lease};

/// Counts the meanings that the files of a store have had.
const FORMAT: u32 = 1;
/// After half a minute the kernel writes what nobody has asked it to (`vm.dirty_expire_centisecs`), so a sync of what is
/// older waits for little.
const A_WHILE: Duration = Duration::from_secs(60);

/// Of a blob that no sync has covered.
pub(crate) const BLOB_IN_MEMORY: u32 = 0o440;
const BLOB_ON_DISK: u32 = 0o444;
const BLOB_IN_DOUBT: u32 = 0o400;
/// Of the directory of a snapshot that no sync has covered.
pub(crate) const SNAPSHOT_IN_MEMORY: u32 = 0o700;
const SNAPSHOT_ON_DISK: u32 = 0o755;

/// What `state.json` says.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    boot: String,
}

/// Syncs that go on beside other work; whoever drops this waits for them.
#[derive(Debug, Default)]
pub(crate) struct Settling(std::sync::Mutex<Vec<thread::JoinHandle<()>>>);

impl Drop for Settling {
    fn drop(&mut self) {
        for sync in self.0.get_mut().map(std::mem::take).unwrap_or_default() {
            // It has nobody to tell: what it did not mark is not trusted too far.
            let _ended = sync.join();
        }
    }
}

impl Store {
    /// Makes sure that this program may use the store, and that what a power cut may have damaged is known.
    pub(crate) fn check_state(&self) -> Result<()> {
        let boot = boot_id();
        if self.known_state()?.is_some_and(|state| state.boot == boot) {
            return Ok(());
        }
        // One process does it, before any other uses what may be damaged.
        let _shut = lease::shut(self.root())?;
        if self.known_state()?.is_none_or(|state| state.boot != boot) {
            self.doubt()?;
            let state = State { format: FORMAT, boot };
            let bytes = serde_json::to_vec(&state).expect("text and a number are JSON");
            self.ingest().replace_file(&self.state_path(), &bytes)?;
        }
        Ok(())
    }

    /// What `state.json` says, if it is there and whole.
    ///
    /// # Errors
    /// [`Error::NewerStore`] if this program does not know its format.
    pub(crate) fn known_state(&self) -> Result<Option<State>> {
        let path = self.state_path();
        let state = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            bytes => serde_json::from_slice::<State>(&bytes.at("read", &path)?).ok(),
        };
        match state {
            Some(State { format, .. }) if format > FORMAT => {
                Err(Error::NewerStore { root: self.root().to_owned(), format, known: FORMAT })
            }
            state => Ok(state),
        }
    }

    fn state_path(&self) -> PathBuf {
        self.root().join("state.json")
    }

    /// The machine was started anew: what was not synced before may be anything.
    fn doubt(&self) -> Result<()> {
        for path in blobs_with_mode(self.root(), BLOB_IN_MEMORY)? {
            set_mode(&path, BLOB_IN_DOUBT)?;
        }
        for path in snapshots_in_memory(self.root())? {
            self.discard(&path)?;
        }
        Ok(())
    }

    /// The size of a blob in bytes, if it is there and not damaged as far as a power cut goes.
    pub(crate) fn trusted_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        let Ok(metadata) = path.metadata() else { return Ok(None) };
        if metadata.mode() & 0o777 == BLOB_IN_DOUBT {
            match self.verify(digest) {
                // What was read came from the disk.
                Ok(()) if !self.lease.is_of_onlooker() => set_mode(&path, BLOB_ON_DISK)?,
                Ok(()) => {}
                Err(Error::ReadBlob { .. } | Error::MissingBlob { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(metadata.len()))
    }

    /// Reads a blob to its end. One that is not what its name says is put into `quarantine/`, so that whoever needs
    /// it next makes or fetches it anew.
    ///
    /// # Errors
    /// [`Error::ReadBlob`] for such a blob, [`Error::MissingBlob`] where there is none.
    pub fn verify(&self, digest: &Digest) -> Result<()> {
        let mut file = self.open_untrusted(digest)?;
        let found = hash(&mut file, digest.algorithm())
            .map_err(|source| Error::ReadBlob { digest: *digest, source })?;
        if found == *digest {
            return Ok(());
        }
        if !self.lease.is_of_onlooker() {
            self.quarantine(&self.blob_path(digest))?;
        }
        let mismatch = Mismatch::Digest { expected: *digest, found };
        Err(Error::ReadBlob { digest: *digest, source: io::Error::new(io::ErrorKind::InvalidData, mismatch) })
    }

    /// `error`, unless it comes of damage to the blob, which then is what is said. See [`Store::verify`].
    pub fn blame(&self, digest: &Digest, error: Error) -> Error {
        match self.verify(digest) {
            Err(damage @ Error::ReadBlob { .. }) => damage,
            _ => error,
        }
    }

    /// Puts something damaged where nobody takes it for what it was. It may be looked at there, and deleted.
    pub(crate) fn quarantine(&self, path: &Path) -> Result<()> {
        let dir = self.root().join("quarantine");
        std::fs::create_dir_all(&dir).at("create", &dir)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = dir.join(format!("{name}.{}", ingest::random_name()));
        match std::fs::rename(path, target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.at("put into quarantine", path),
        }
    }

    /// Begins to make sure of what was made a while ago, once for as long as this store is open. Dropping the store waits
    /// for that; it is little, because the kernel has written most of it by then of its own accord.
    pub fn settle_beside(&self) {
        let Ok(mut syncs) = self.settling.0.lock() else { return };
        if syncs.is_empty() {
            let root = self.root().to_owned();
            syncs.push(thread::spawn(move || {
                // What is not marked is looked at after a power cut, and costs no more than that.
                let _marked = settle(&root, A_WHILE);
            }));
        }
    }

    /// Writes to the disk what was made, by whomever, and marks it as trusted.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn settle(&self) -> Result<()> {
        settle(self.root(), Duration::ZERO)
    }
}

/// Makes sure of what is at least so old.
fn settle(root: &Path, age: Duration) -> Result<()> {
    let is_old = |path: &PathBuf| {
        let modified = path.metadata().and_then(|metadata| metadata.modified());
        age.is_zero() || modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|since| since >= age))
    };
    let mut blobs = blobs_with_mode(root, BLOB_IN_MEMORY)?;
    let mut snapshots = snapshots_in_memory(root)?;
    blobs.retain(is_old);
    snapshots.retain(is_old);
    if blobs.is_empty() && snapshots.is_empty() {
        return Ok(());
    }
    let dir = ingest::open_dir(root).at("open", root)?;
    syncfs(&dir).at("sync", root)?;
    blobs.iter().try_for_each(|path| set_mode(path, BLOB_ON_DISK))?;
    snapshots.iter().try_for_each(|path| set_mode(path, SNAPSHOT_ON_DISK))
}

/// Whether a power cut may have damaged the blob at `path`.
pub(crate) fn is_in_doubt(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.mode() & 0o777 == BLOB_IN_DOUBT)
}

/// The blobs of this mode.
fn blobs_with_mode(root: &Path, mode: u32) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        let dir = root.join("blobs").join(algorithm.name());
        if dir.exists() {
            found.extend(with_mode(&dir, mode)?);
        }
    }
    Ok(found)
}

/// The snapshots of all layouts that no sync has covered.
fn snapshots_in_memory(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for layout in Layout::ALL {
        found.extend(with_mode(&root.join(layout.folder()), SNAPSHOT_IN_MEMORY)?);
    }
    Ok(found)
}

/// What in `dir` has this mode. Links are none of it.
fn with_mode(dir: &Path, mode: u32) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        let entry = entry.at("list", dir)?;
        let has_mode =
            |metadata: std::fs::Metadata| !metadata.is_symlink() && metadata.mode() & 0o777 == mode;
        if entry.metadata().is_ok_and(has_mode) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Something that has gone meanwhile needs no mode.
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    match rustix::fs::chmod(path, Mode::from_raw_mode(mode)) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        set => set.at("set the mode of", path),
    }
}

pub(crate) fn hash(reader: &mut impl Read, algorithm: Algorithm) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::of(algorithm), vec![0; 256 * 1024]);
    loop {
        match retry_read(reader, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The boot's name; empty where the kernel does not say, which is one boot for ever.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim_end().to_owned()
}
