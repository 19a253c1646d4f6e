//! Forgetting what was fetched: the records, and the copies of repositories. The trees themselves are snapshots, which
//! a collection takes.
//!
//! A repository that somebody is fetching from stays, as does its lock: who holds the lock has the copy.

use std::fs::{self, File};
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
    for path in entries(&store.root().join(record::GIT_FOLDER))? {
        if path.extension().is_some_and(|extension| extension == "lock") {
            bytes += forget_repository(&path)?;
        }
    }
    for path in entries(&store.root().join(record::FOLDER))? {
        if path.is_file() {
            bytes += delete(&path)?;
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
    for lock in entries(&store.root().join(record::GIT_FOLDER))? {
        let Ok(file) = File::open(&lock) else { continue };
        if lock.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let in_use = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
        let folder = lock.with_extension("");
        let last_used = folder.metadata().and_then(|metadata| metadata.modified());
        found.push(Repository {
            bytes: size(&folder),
            last_used: last_used.unwrap_or(SystemTime::UNIX_EPOCH),
            in_use,
            lock,
        });
    }
    Ok(found)
}

/// What a file or a directory takes of the disk; of one that is changed meanwhile what was seen.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let below = if metadata.is_dir() { entries(path).unwrap_or_default() } else { Vec::new() };
    metadata.blocks() * 512 + below.iter().map(|path| size(path)).sum::<u64>()
}

/// Deletes the repository of a lock, and then the lock; gives the number of bytes that were freed. One that somebody
/// fetches from stays.
///
/// # Errors
/// When something cannot be deleted.
pub(crate) fn forget_repository(lock: &Path) -> layerfs::Result<u64> {
    let file = File::open(lock).at("open", lock)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(0);
    }
    let mut bytes = 0;
    for path in [lock.with_extension(""), lock.with_extension("new"), lock.to_owned()] {
        bytes += delete(&path)?;
    }
    Ok(bytes)
}

/// Deletes a file or a directory, if it is there; gives what it took of the disk, in bytes.
fn delete(path: &Path) -> layerfs::Result<u64> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(0) };
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for below in entries(path)? {
            bytes += delete(&below)?;
        }
        fs::remove_dir(path).at("delete", path)?;
    } else {
        fs::remove_file(path).at("delete", path)?;
    }
    Ok(bytes)
}

/// What is in a directory; nothing if there is none.
fn entries(folder: &Path) -> layerfs::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).at("list", folder)?;
    entries.map(|entry| Ok(entry.at("list", folder)?.path())).collect()
}
