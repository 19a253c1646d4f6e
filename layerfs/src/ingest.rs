//! The place where things are made before they move, complete, to where they are seen.
//!
//! Whoever makes something here holds the lock of the place shared until the thing has a lock of its own or
//! has moved on. Whoever clears takes that lock exclusively, so that what has no lock then belongs to nobody.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::store::link_unnamed;
use crate::trust::SNAPSHOT_IN_MEMORY;
use crate::{IoResultExt, Result, lock, remove};

/// The directory `ingest/` of a store.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    path: PathBuf,
}

impl Ingest {
    pub(crate) fn new(root: &Path) -> Ingest {
        Ingest { path: root.join("ingest") }
    }

    /// Makes a new directory, which nobody clears for as long as the value lives.
    pub(crate) fn new_dir(&self) -> Result<NewDir> {
        let _making = self.lock_shared()?;
        let path = self.path.join(random_name());
        rustix::fs::mkdir(&path, Mode::from_raw_mode(SNAPSHOT_IN_MEMORY)).at("create", &path)?;
        NewDir::lock(path)
    }

    /// Replaces `path` by a file with these bytes, in one step: a reader sees the old file or the new one.
    pub(crate) fn replace_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.replace(path, |temporary| std::fs::write(temporary, bytes).at("write", temporary))
    }

    /// The same of a file of which nothing may be lost in a power cut: afterwards, too, there is the old or the new.
    pub(crate) fn replace_file_on_disk(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.replace(path, |temporary| {
            let write = || {
                let mut file = File::create(temporary)?;
                file.write_all(bytes)?;
                file.sync_data()
            };
            write().at("write", temporary)
        })
    }

    /// The same by a file that is there and has no name.
    pub(crate) fn replace_by(&self, path: &Path, unnamed: &File) -> Result<()> {
        self.replace(path, |temporary| link_unnamed(unnamed, temporary).at("create", temporary))
    }

    fn replace(&self, path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let _making = self.lock_shared()?;
        let temporary = self.path.join(random_name());
        let made = make(&temporary);
        made.and_then(|()| std::fs::rename(&temporary, path).at("replace", path)).inspect_err(|_| {
            // The error that matters is the one being returned.
            let _left_over = std::fs::remove_file(&temporary);
        })
    }

    /// Puts a link to `target` at `path`, in one step, in place of another link; a directory that is there stays.
    pub(crate) fn replace_link(&self, path: &Path, target: &str) -> Result<()> {
        let _making = self.lock_shared()?;
        let temporary = self.path.join(random_name());
        rustix::fs::symlinkat(target, CWD, &temporary).at("create", &temporary)?;
        match rustix::fs::renameat(CWD, &temporary, CWD, path) {
            Err(Errno::ISDIR) => rustix::fs::unlink(&temporary).at("delete", &temporary),
            renamed => renamed.at("create", path),
        }
    }

    /// Deletes what killed processes left. What cannot be deleted stays for the next time: a store must open
    /// whatever happened before.
    pub(crate) fn clear(&self) {
        let Ok(ingest) = open_dir(&self.path) else { return };
        if lock::try_exclusive(&ingest) != Ok(true) {
            return;
        }
        for name in remove::names(&ingest).unwrap_or_default() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let stale = match rustix::fs::openat(&ingest, name.as_slice(), flags, Mode::empty()) {
                Ok(fd) => lock::try_exclusive(&fd) == Ok(true),
                // A link, which is made under the lock of the place alone.
                Err(errno) => errno == Errno::LOOP,
            };
            if stale {
                let _still_there = remove::remove_tree(&ingest, &name);
            }
        }
    }

    fn lock_shared(&self) -> Result<OwnedFd> {
        let fd = open_dir(&self.path).at("open", &self.path)?;
        lock::wait_shared(&fd).at("lock", &self.path)?;
        Ok(fd)
    }
}

/// A directory in `ingest/`, deleted when dropped unless it was moved to its place.
#[derive(Debug)]
pub(crate) struct NewDir {
    pub(crate) path: PathBuf,
    /// The directory, locked exclusively; the lock goes with it wherever it is moved.
    pub(crate) lock: OwnedFd,
}

impl NewDir {
    /// Takes what was made at `path`.
    fn lock(path: PathBuf) -> Result<NewDir> {
        let lock = open_dir(&path).at("open", &path)?;
        // Somebody who only looks may have it for a moment.
        lock::wait_exclusive(&lock).at("lock", &path)?;
        Ok(NewDir { path, lock })
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        // Once it was moved there is nothing; what cannot be deleted now is cleared by the next open.
        if let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name())
            && let Ok(parent) = open_dir(parent)
        {
            let _freed = remove::remove_tree(&parent, name.as_encoded_bytes());
        }
    }
}

/// A name that nobody else uses: 16 random hexadecimal digits.
pub(crate) fn random_name() -> String {
    let mut bytes = [0; 8];
    // Eight bytes never come in parts (getrandom(2)). Without the call all names would be equal, and then
    // `create_dir` fails instead of doing damage.
    let _count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{:016x}", u64::from_ne_bytes(bytes))
}

pub(crate) fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_locked_whoever_looks() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new");
        std::fs::create_dir(&path).unwrap();
        let onlooker = open_dir(&path).unwrap();
        lock::wait_shared(&onlooker).unwrap();
        std::thread::scope(|scope| {
            let maker = scope.spawn(|| NewDir::lock(path.clone()).unwrap());
            // However long the maker is given, it has not got what another one has.
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!maker.is_finished());
            drop(onlooker);
            let _made = maker.join().unwrap();
            assert_eq!(lock::try_shared(open_dir(&path).unwrap()), Ok(false));
        });
        assert!(!path.exists());
    }
}
