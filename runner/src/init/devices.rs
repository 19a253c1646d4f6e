//! The nodes and links in a container's `/dev`, as the runtime spec lists them.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;

use crate::error::{AtStep, Failure, Step};

const NODES: &[(&str, u32, u32)] =
    &[("full", 1, 7), ("null", 1, 3), ("random", 1, 8), ("tty", 5, 0), ("urandom", 1, 9), ("zero", 1, 5)];

const LINKS: &[(&str, &str)] = &[
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// Mount points of what lies below `/dev`.
const DIRECTORIES: &[&str] = &["mqueue", "pts", "shm"];

/// Fills a fresh, empty `/dev` and gives its `null`. The umask is 0.
pub(super) fn populate(dev: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let step = |name: &str| {
        let path = Path::new("/dev").join(name);
        move || Step::Device { path }
    };
    for (name, major, minor) in NODES {
        let mode = Mode::from_bits_truncate(0o666);
        mknodat(dev, *name, FileType::CharacterDevice, mode, makedev(*major, *minor)).at(step(name))?;
    }
    for (name, target) in LINKS {
        symlinkat(*target, dev, *name).at(step(name))?;
    }
    for name in DIRECTORIES {
        mkdirat(dev, *name, Mode::from_bits_truncate(0o755)).at(step(name))?;
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let null = openat(dev, c"null", flags, Mode::empty()).at(step("null"))?;
    match is_null(&fstat(&null).at(step("null"))?) {
        true => Ok(null),
        false => Err(Errno::NODEV).at(step("null")),
    }
}

/// Whether a file is the null device, whoever's.
pub(super) fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
}
