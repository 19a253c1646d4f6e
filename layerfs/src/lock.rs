//! Who may use the store, and who may collect in it.
//!
//! Every user of a store holds its lock shared for as long as it lives; a collector needs it exclusively and
//! does not wait. The locks are `flock`: they belong to the open file, so they vanish with the process however
//! it ends, and closing another descriptor of the same file does not release them (as POSIX locks would).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::{IoResultExt, Result};

/// A lock on a file or a directory; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    file: OwnedFd,
    path: PathBuf,
}

impl Lock {
    /// Waits until nobody holds `path` exclusively; the file is made if it is missing.
    pub fn shared(path: &Path) -> Result<Lock> {
        Lock::take(path, FlockOperation::LockShared)
    }

    /// Waits until nobody else holds `path`; the file is made if it is missing.
    pub fn exclusive(path: &Path) -> Result<Lock> {
        Lock::take(path, FlockOperation::LockExclusive)
    }

    fn take(path: &Path, how: FlockOperation) -> Result<Lock> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)).at("open", path)?;
        retry(|| flock(&file, how)).at("lock", path)?;
        Ok(Lock { file, path: path.to_owned() })
    }

    /// Turns a shared lock into an exclusive one if nobody else holds it; says whether that was so.
    ///
    /// The change is not atomic (flock(2)): what was known about the store before the call may be untrue after
    /// it, whatever it returns.
    pub(crate) fn try_upgrade(&mut self) -> Result<bool> {
        match retry(|| flock(&self.file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => {
                self.downgrade()?;
                Ok(false)
            }
            Err(errno) => Err(errno).at("lock", &self.path),
        }
    }

    /// Back to a shared lock.
    pub(crate) fn downgrade(&mut self) -> Result<()> {
        retry(|| flock(&self.file, FlockOperation::LockShared)).at("lock", &self.path)
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
    fn collectors_do_not_wait_for_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let mut first = Lock::shared(&path).unwrap();
        let second = Lock::shared(&path).unwrap();
        assert!(!first.try_upgrade().unwrap());
        drop(second);
        assert!(first.try_upgrade().unwrap());
        let file = std::fs::File::open(&path).unwrap();
        assert!(!try_exclusive(&file).unwrap());
        first.downgrade().unwrap();
        wait_shared(&file).unwrap();
    }
}
