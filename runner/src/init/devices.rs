//! The nodes and links in a container's `/dev`: those that the runtime spec lists, and, for a container that
//! may use all devices, those of the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, makedev, mkdirat, mknodat, openat,
    statat, symlinkat,
};
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

/// Makes the nodes of the host's `/dev` in a container's, but for those it has. The umask is 0.
///
/// Links are left out, and what is mounted below: terminals, shared memory.
pub(super) fn copy_host(host: BorrowedFd<'_>, dev: BorrowedFd<'_>) -> Result<(), Failure> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copied = match openat(host, c"dev", flags, Mode::empty()) {
        // A host without devices.
        Err(Errno::NOENT) => Ok(()),
        from => from.and_then(|from| copy_nodes(from.as_fd(), dev)),
    };
    copied.at(|| Step::Device { path: "/dev".into() })
}

fn copy_nodes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let device = fstat(from)?.st_dev;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        // The terminal of the container, if it has one, goes by this name.
        if [c".", c"..", c"console"].contains(&name) {
            continue;
        }
        let found = match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Unplugged meanwhile.
            Err(Errno::NOENT) => continue,
            found => found?,
        };
        let mode = Mode::from_raw_mode(found.st_mode);
        let kind = FileType::from_raw_mode(found.st_mode);
        let made = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => mknodat(to, name, kind, mode, found.st_rdev),
            FileType::Directory if found.st_dev == device => mkdirat(to, name, mode),
            _ => continue,
        };
        match made {
            Err(Errno::EXIST) => continue,
            // A device that lbuild itself is refused.
            Err(Errno::PERM) => continue,
            made => made?,
        }
        let owner = (Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)));
        chownat(to, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        if kind == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = openat(from, name, flags, Mode::empty())?;
            copy_nodes(inner.as_fd(), openat(to, name, flags, Mode::empty())?.as_fd())?;
        }
    }
    Ok(())
}

/// Whether a file is the null device, whoever's.
pub(super) fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
}
