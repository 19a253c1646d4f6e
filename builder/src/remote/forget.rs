//! Forgetting what was fetched: the records, and the copies of repositories. The trees themselves are snapshots, which
//! a collection takes.
//!
//! A repository that somebody is fetching from stays, as does its lock: who holds the lock has the copy.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use layerfs::IoResultExt;
use layerfs::store::Store;
use rustix::fs::{FlockOperation, flock};

use super::record;

/// Forgets everything that was fetched into `store` and is not in use; gives the number of bytes that were freed.
///
/// # Errors
/// When something cannot be listed or deleted.
pub fn forget_all(store: &Store) -> layerfs::Result<u64> {
    let mut bytes = 0;
    for path in store.records(record::GIT_FOLDER)? {
        if path.extension().is_some_and(|extension| extension == "lock") {
            bytes += forget_repository(store, &path)?.unwrap_or(0);
        }
    }
    for path in store.records(record::FOLDER)? {
        if path.is_file() {
            bytes += store.delete(&path)?;
        }
    }
    Ok(bytes)
}

/// The copy of a repository.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Its lock, beside which it is.
    pub lock: PathBuf,
    /// What it takes of the disk, in bytes.
    pub bytes: u64,
    /// When it was last fetched from.
    pub last_used: SystemTime,
    /// Whether somebody fetches from it now.
    pub in_use: bool,
}

/// The copies of repositories in `store`.
///
/// # Errors
/// When they cannot be listed.
pub fn repositories(store: &Store) -> layerfs::Result<Vec<Repository>> {
    let mut found = Vec::new();
    for lock in store.records(record::GIT_FOLDER)? {
        let Ok(file) = File::open(&lock) else { continue };
        if lock.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let in_use = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
        let folder = lock.with_extension("");
        let last_used = folder.metadata().and_then(|metadata| metadata.modified());
        found.push(Repository {
            bytes: size(store, &folder),
            last_used: last_used.unwrap_or(SystemTime::UNIX_EPOCH),
            in_use,
            lock,
        });
    }
    Ok(found)
}

/// What a file or a directory takes of the disk; of one that is changed meanwhile what was seen.
fn size(store: &Store, path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let below = if metadata.is_dir() { store.records(path).unwrap_or_default() } else { Vec::new() };
    metadata.blocks() * 512 + below.iter().map(|path| size(store, path)).sum::<u64>()
}

/// Deletes the repository of a lock, and then the lock; gives the number of bytes that were freed. One that somebody
/// fetches from stays: then it is `None`.
///
/// # Errors
/// When something cannot be deleted.
pub(crate) fn forget_repository(store: &Store, lock: &Path) -> layerfs::Result<Option<u64>> {
    let file = match File::open(lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
        opened => opened.at("open", lock)?,
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    if !is_at(&file, lock) {
        // Somebody else has deleted it in between. What is there now is another one.
        return Ok(Some(0));
    }
    let mut bytes = 0;
    for path in [lock.with_extension(""), lock.with_extension("new"), lock.to_owned()] {
        bytes += store.delete(&path)?;
    }
    Ok(Some(bytes))
}

/// Whether this is still the file of this name.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|found| found.ino()).ok();
    inode(file.metadata()).is_some_and(|found| inode(fs::metadata(path)) == Some(found))
}
