//! The nodes and links in a container's `/dev`, as the runtime spec lists them.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, makedev, mkdirat, mknodat, symlinkat};

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

/// Fills a fresh, empty `/dev`. The umask is 0.
pub(super) fn populate(dev: BorrowedFd<'_>) -> Result<(), Failure> {
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
    Ok(())
}
