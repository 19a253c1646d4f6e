//! Locks on files and directories.
//!
//! They are `flock`: they belong to the open file, so they vanish with the process however it ends, and closing
//! another descriptor of the same file does not release them (as POSIX locks would).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::{IoResultExt, Result};

/// A lock on a file; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Lock {
    /// Waits until nobody else holds `path`; the file is made if it is missing.
    pub fn exclusive(path: &Path) -> Result<Lock> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).at("open", path)?;
        wait_exclusive(&file).at("lock", path)?;
        Ok(Lock { _file: file })
    }
}

/// Takes an exclusive lock on what `file` is open on, unless somebody else has one.
pub(crate) fn try_exclusive(file: impl AsFd) -> rustix::io::Result<bool> {
    attempt(file, FlockOperation::NonBlockingLockExclusive)
}

/// Takes a shared lock on what `file` is open on, unless somebody else has it exclusively. A lock that `file` has is
/// given up first, whatever comes of it (flock(2)).
pub(crate) fn try_shared(file: impl AsFd) -> rustix::io::Result<bool> {
    attempt(file, FlockOperation::NonBlockingLockShared)
}

/// Gives up the lock of `file`, if it has one.
pub(crate) fn release(file: impl AsFd) -> rustix::io::Result<()> {
    retry(|| flock(&file, FlockOperation::Unlock))
}

fn attempt(file: impl AsFd, how: FlockOperation) -> rustix::io::Result<bool> {
    match retry(|| flock(&file, how)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Waits for an exclusive lock on what `file` is open on.
pub(crate) fn wait_exclusive(file: impl AsFd) -> rustix::io::Result<()> {
    retry(|| flock(&file, FlockOperation::LockExclusive))
}

/// Waits for a shared lock on what `file` is open on.
pub(crate) fn wait_shared(file: impl AsFd) -> rustix::io::Result<()> {
    retry(|| flock(&file, FlockOperation::LockShared))
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(&mut call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_goes_with_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::exclusive(&path).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        assert!(!try_exclusive(&file).unwrap());
        drop(first);
        wait_shared(&file).unwrap();
    }
}
