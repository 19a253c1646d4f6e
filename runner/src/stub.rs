//! Mount points that the sandbox had to create in the root file system, and their removal.
//!
//! They must not become part of a layer. Each is remembered by a descriptor of its directory, its name and
//! its inode, never by a path (CVE-2024-23652): whatever the container did to the tree, only the very object
//! that was created is removed, and only while it is empty. The directory's modification time is put back if
//! nobody else changed the directory meanwhile.

use std::os::fd::OwnedFd;

use rustix::fs::UTIME_OMIT;
use rustix::fs::{AtFlags, FileType, Stat, Timespec, Timestamps, fstat, futimens, statat, unlinkat};
use rustix::io;

use crate::protocol::StubRecord;

/// A created mount point and the directory it is in.
pub(crate) struct Stub {
    pub(crate) parent: OwnedFd,
    pub(crate) record: StubRecord,
}

impl Stub {
    /// Removes the mount point if it is still what the sandbox created. Must be called when the container's
    /// mounts are gone, the latest created first.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let StubRecord { name, directory, .. } = &self.record;
        let found = match statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(io::Errno::NOENT) => return Ok(()),
            found => found?,
        };
        let parent = fstat(&self.parent)?;
        if !self.is_untouched(&found) {
            return Ok(());
        }
        let flags = if *directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&self.parent, name, flags) {
            Err(io::Errno::NOTEMPTY | io::Errno::EXIST) => return Ok(()),
            outcome => outcome?,
        }
        let untouched = modified(&parent) == self.record.parent_after;
        let (tv_sec, tv_nsec) = if untouched { self.record.parent_before } else { modified(&parent) };
        futimens(
            // An O_PATH descriptor cannot take times.
            rustix::fs::openat(
                &self.parent,
                c".",
                rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?,
            &Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                last_modification: Timespec { tv_sec, tv_nsec },
            },
        )
    }

    fn is_untouched(&self, found: &Stat) -> bool {
        let same = found.st_dev == self.record.device && found.st_ino == self.record.inode;
        let kind = FileType::from_raw_mode(found.st_mode);
        same && match self.record.directory {
            true => kind == FileType::Directory,
            false => kind == FileType::RegularFile && found.st_size == 0 && found.st_nlink == 1,
        }
    }
}

/// When a file was last modified: seconds and nanoseconds.
pub(crate) fn modified(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime, stat.st_mtime_nsec.cast_signed())
}
