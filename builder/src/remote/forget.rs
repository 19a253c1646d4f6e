//! Forgetting what was fetched: the records, and the copies of repositories. The trees themselves are snapshots, which
//! a collection takes.
//!
//! A repository that somebody is fetching from stays, as does its lock: who holds the lock has the copy.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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

/// Deletes the repository of a lock, and then the lock.
fn forget_repository(lock: &Path) -> layerfs::Result<u64> {
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
