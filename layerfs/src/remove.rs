//! Deleting and measuring trees by descriptor: no path of a tree is ever resolved twice, and no symbolic link is followed.
//!
//! Order: depth first, without recursion. Only the directory that is being visited is open; the way up leads
//! through its `..`, which must be the directory that the way down came from. So a hostile tree of any depth
//! costs neither stack nor descriptors.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::walk;

/// Deletes `name` in `parent` and all that is below it; says how many bytes of disk that frees.
///
/// What vanishes meanwhile is no error: two processes may clean the same place.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<u64> {
    let parent = parent.as_fd();
    let Some(stat) = unless_gone(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW))? else { return Ok(0) };
    if !is_dir(stat.st_mode) {
        return remove_name(parent, name, &stat);
    }
    let Some(dir) = unless_gone(open_dir(parent, name))? else { return Ok(0) };
    let below = remove_children(&dir)?;
    Ok(below + remove_name(parent, name, &stat)?)
}

/// A directory that is left for one in it.
struct Above {
    stat: Stat,
    /// What is still to be visited in it.
    left: Vec<Vec<u8>>,
    /// The directory in it that is being visited.
    name: Vec<u8>,
    inner: Stat,
}

/// Deletes everything in `dir` and leaves it empty; says how many bytes of disk that frees.
pub(crate) fn remove_children(dir: &OwnedFd) -> rustix::io::Result<u64> {
    let mut freed = 0;
    depth_first(dir, &mut |holder, name, stat| {
        freed += remove_name(holder, name, stat)?;
        Ok(())
    })?;
    Ok(freed)
}

/// How many bytes of disk everything in `dir` takes. Of a tree that is changed meanwhile it is what was seen.
pub(crate) fn usage(dir: &OwnedFd) -> rustix::io::Result<u64> {
    let (mut bytes, mut linked) = (0, HashSet::new());
    let walked = depth_first(dir, &mut |_, _, stat| {
        // A file with several links takes its bytes once.
        if is_dir(stat.st_mode) || stat.st_nlink <= 1 || linked.insert((stat.st_dev, stat.st_ino)) {
            bytes += disk_bytes(stat);
        }
        Ok(())
    });
    match walked {
        Err(Errno::STALE) => Ok(bytes),
        walked => walked.map(|()| bytes),
    }
}

/// What is done with a name in an open directory.
type Act<'a> = dyn FnMut(BorrowedFd<'_>, &[u8], &Stat) -> rustix::io::Result<()> + 'a;

/// Calls `act` for everything below `dir`, for a directory after what is in it.
fn depth_first(dir: &OwnedFd, act: &mut Act<'_>) -> rustix::io::Result<()> {
    let mut here = rustix::io::fcntl_dupfd_cloexec(dir, 0)?;
    let mut left = unless_gone(names(&here))?.unwrap_or_default();
    let mut above: Vec<Above> = Vec::new();
    loop {
        while let Some(name) = left.pop() {
            let found = statat(&here, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
            let Some(stat) = unless_gone(found)? else { continue };
            if !is_dir(stat.st_mode) {
                act(here.as_fd(), &name, &stat)?;
            } else if let Some(inner) = unless_gone(open_dir(&here, &name))? {
                let names = unless_gone(names(&inner))?.unwrap_or_default();
                let left = std::mem::replace(&mut left, names);
                above.push(Above { stat: fstat(&here)?, left, name, inner: stat });
                here = inner;
            }
        }
        let Some(up) = above.pop() else { return Ok(()) };
        here = open_dir(&here, b"..")?;
        let stat = fstat(&here)?;
        if (stat.st_dev, stat.st_ino) != (up.stat.st_dev, up.stat.st_ino) {
            // It was moved meanwhile, and what is around it now is not ours.
            return Err(Errno::STALE);
        }
        act(here.as_fd(), &up.name, &up.inner)?;
        left = up.left;
    }
}

/// Deletes a file or an empty directory; says how many bytes of disk that frees.
fn remove_name(parent: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> rustix::io::Result<u64> {
    let is_dir = is_dir(stat.st_mode);
    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    unless_gone(unlinkat(parent, name, flags))?;
    // A file with several links frees its bytes with the last of them.
    let last = is_dir || stat.st_nlink <= 1;
    Ok(if last { disk_bytes(stat) } else { 0 })
}

/// `st_blocks` counts in 512 bytes whatever the file system's blocks are (stat(2)).
fn disk_bytes(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

fn unless_gone<T>(result: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match result {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// The names in a directory, bytewise sorted, without `.` and `..`; wherever others who read from `dir` are.
pub(crate) fn names(dir: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let names = walk::names(open_dir(dir, b".")?.as_fd())?;
    Ok(names.into_iter().map(|(name, _)| name.into_bytes()).collect())
}

/// Opens the directory `name` in `parent`, which must not be a symbolic link, for reading.
pub(crate) fn open_dir(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
    openat(parent, name, flags, Mode::empty())
}

/// Whether a mode is that of a directory.
pub(crate) fn is_dir(mode: RawMode) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes directories one in the other.
    fn nest(dir: &OwnedFd, levels: usize) {
        let mut here = rustix::io::fcntl_dupfd_cloexec(dir, 0).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat("/", &here, "link").unwrap();
            here = open_dir(&here, b"d").unwrap();
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let top = open_dir(rustix::fs::CWD, temp.path().as_os_str().as_encoded_bytes()).unwrap();
        nest(&top, 12_000);
        assert!(remove_tree(&top, b"d").unwrap() > 0);
        assert_eq!(names(&top).unwrap(), [b"link".to_vec()]);
        remove_children(&top).unwrap();
        assert!(names(&top).unwrap().is_empty());
        assert_eq!(remove_tree(&top, b"d"), Ok(0));
    }

    #[test]
    fn twins_do_not_disturb_one_another() {
        let temp = tempfile::tempdir().unwrap();
        let top = open_dir(rustix::fs::CWD, temp.path().as_os_str().as_encoded_bytes()).unwrap();
        nest(&top, 500);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| remove_children(&top).unwrap());
            }
        });
        assert!(names(&top).unwrap().is_empty());
    }
}
