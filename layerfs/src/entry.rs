//! One object of a file system as a layer describes it, without its content.

use std::collections::BTreeMap;

use rustix::fs::{FileType, Stat};

/// The longest path, in bytes, that is packed, unpacked or listed: four times what programs can say in one call.
///
/// It bounds the memory that one hostile path can cost, since every directory on the way is remembered by its
/// path; and what is packed here can be unpacked here.
pub const MAX_PATH_BYTES: usize = 16 * 1024;

/// A file, a directory, a link or a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without `.`, `..`, empty components or a slash at either end; any bytes but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with set-user-id, set-group-id and the sticky bit: `0o7777` at most.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content changed last.
    pub mtime: Time,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// How many bytes its path, its target and its attributes have: whoever reads it may have to remember them.
    pub(crate) fn names_bytes(&self) -> usize {
        let target = match &self.kind {
            Kind::Symlink { target } | Kind::HardLink { target } => target.len(),
            _ => 0,
        };
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.path.len() + target + xattrs
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it leads, as it was written.
        target: Vec<u8>,
    },
    /// Another name of an entry of the same layer.
    HardLink {
        /// The other name, in the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Which driver.
        major: u32,
        /// Which device of it.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Which driver.
        major: u32,
        /// Which device of it.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A moment: seconds since 1970, and nanoseconds that always count forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01, negative before.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanoseconds: u32,
}

impl Time {
    /// A moment at the beginning of a second.
    pub fn from_seconds(seconds: i64) -> Time {
        Time { seconds, nanoseconds: 0 }
    }

    /// When a file was modified.
    pub(crate) fn of(stat: &Stat) -> Time {
        Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
    }

    /// In the form of utimensat(2), with the time of access set alike.
    pub(crate) fn timestamps(self) -> rustix::fs::Timestamps {
        let time = rustix::fs::Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() };
        rustix::fs::Timestamps { last_access: time, last_modification: time }
    }
}

/// Whether this is overlayfs's mark for what a layer deletes: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
