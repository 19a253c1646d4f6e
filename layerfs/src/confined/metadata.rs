//! What the kernel says about a file, in the terms that layers are made of.
//!
//! Here: file types, times, owners, `statx(2)`. Not here: extended attributes ([`super::xattr`]), names.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};
use rustix::io;
use rustix::path::Arg;

pub use crate::entry::Time;

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A named socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Directory => "directory",
            Kind::Symlink => "symbolic link",
            Kind::Fifo => "named pipe",
            Kind::Socket => "socket",
            Kind::CharDevice => "character device",
            Kind::BlockDevice => "block device",
        }
    }

    /// `None` if the file system does not tell (`DT_UNKNOWN`).
    pub(crate) fn of(kind: FileType) -> Option<Kind> {
        Some(match kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Unknown => return None,
        })
    }

    /// The inverse of [`Kind::of`], for `mknodat(2)`.
    pub(crate) fn file_type(self) -> FileType {
        match self {
            Kind::File => FileType::RegularFile,
            Kind::Directory => FileType::Directory,
            Kind::Symlink => FileType::Symlink,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
        }
    }
}

/// Who owns a file. The default is root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// The metadata of a file, without its name and its extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The type.
    pub kind: Kind,
    /// The permission bits with set-user-id, set-group-id and sticky: 0 to 0o7777.
    pub mode: u32,
    /// The owner.
    pub owner: Owner,
    /// The length of a file's data, or of a link's target, in bytes.
    pub size_bytes: u64,
    /// The time of the last change of the data.
    pub modified: Time,
    /// The time of the last change of anything about it. Unlike the others, nobody can set it.
    pub changed: Time,
    /// The file system it is on (major, minor) and its number there: equal for two hard links.
    pub inode: ((u32, u32), u64),
    /// How many hard links it has.
    pub links: u32,
    /// Which device a device file stands for (major, minor).
    pub device: (u32, u32),
}

impl Metadata {
    /// The metadata of `name` in `dir`; a link's own, not its target's.
    pub(crate) fn at(dir: BorrowedFd<'_>, name: impl Arg) -> io::Result<Metadata> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS).map(Metadata::from)
    }

    /// The metadata of an open file.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Metadata> {
        rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map(Metadata::from)
    }

    /// Whether this can be the same, unchanged file: its data and its attributes may be taken for what was seen
    /// before. Whoever writes to a file in place can set its size and its modification time back, but not the time
    /// of its change.
    pub(crate) fn is_unchanged(&self, before: &Metadata) -> bool {
        (self.kind, self.inode, self.size_bytes, self.modified, self.changed)
            == (before.kind, before.inode, before.size_bytes, before.modified, before.changed)
    }
}

impl From<Statx> for Metadata {
    fn from(stat: Statx) -> Metadata {
        let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
        Metadata {
            // `statx` always tells the type; what is no known type is handled like a socket: never read.
            kind: Kind::of(kind).unwrap_or(Kind::Socket),
            mode: u32::from(stat.stx_mode) & 0o7777,
            owner: Owner { uid: stat.stx_uid, gid: stat.stx_gid },
            size_bytes: stat.stx_size,
            modified: time(stat.stx_mtime),
            changed: time(stat.stx_ctime),
            inode: ((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino),
            links: stat.stx_nlink,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
        }
    }
}

fn time(stamp: StatxTimestamp) -> Time {
    Time { seconds: stamp.tv_sec, nanoseconds: stamp.tv_nsec }
}
