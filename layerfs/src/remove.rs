//! Deleting trees by descriptor: no path of a tree is ever resolved twice, and no symbolic link is followed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, openat, statat, unlinkat};
use rustix::io::Errno;

/// Deletes `name` in `parent` and all that is below it; says how many bytes of disk that frees.
///
/// What vanishes meanwhile is no error: two processes may clean the same place.
pub(crate) fn remove_tree(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<u64> {
    let parent = parent.as_fd();
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(0),
        Err(errno) => return Err(errno),
    };
    let is_dir = is_dir(stat.st_mode);
    // A file with several links frees its bytes with the last of them.
    let own = if is_dir || stat.st_nlink <= 1 { u64::try_from(stat.st_blocks).unwrap_or(0) * 512 } else { 0 };
    let below = if is_dir { remove_children(&open_dir(parent, name)?)? } else { 0 };
    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    match unlinkat(parent, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(own + below),
        Err(errno) => Err(errno),
    }
}

/// Deletes everything in `dir` and leaves it empty; says how many bytes of disk that frees.
pub(crate) fn remove_children(dir: &OwnedFd) -> rustix::io::Result<u64> {
    let mut freed = 0;
    for name in names(dir)? {
        freed += remove_tree(dir, &name)?;
    }
    Ok(freed)
}

/// The names in a directory, bytewise sorted, without `.` and `..`.
pub(crate) fn names(dir: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
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
