//! The root file system: attached, walked without ever leaving it, and finally entered.
//!
//! Existing paths are resolved by the kernel (`openat2`, `RESOLVE_IN_ROOT`); missing ones are created by
//! walking one name at a time on descriptors, so that links, `..` and renames by others cannot lead outside.
//!
//! Entering ends with a proof: the classic way out, `..` from the root while the process's root is elsewhere,
//! is tried and must stay where it is. For the same reason lbuild itself must not be in a chroot: there
//! `pivot_root` fails, or puts the container in the chroot's place with the rest of the host above it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, StatxFlags, Uid, chownat,
    fstat, fstatfs, mkdirat, open, openat, readlinkat, statat, statx,
};
use rustix::io::{Errno, Result};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount, open_tree,
    unmount,
};
use rustix::process::{chroot, fchdir, getcwd, pivot_root};

use crate::error::{AtStep, Failure, Found, Step};
use crate::protocol::{self, Report, StubRecord};
use crate::resolve;
use crate::stub::modified;
use crate::sys::{self, MountAttributes};
use crate::user::Identity;

/// The most links on one path, as in the kernel.
const MOST_LINKS: usize = 40;
/// The file system type of ramfs; see linux/magic.h.
const RAMFS_MAGIC: libc::c_long = 0x8584_58f6;
/// A handle on a place, which opens nothing there.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// A root file system and where to report what is created in it.
pub(super) struct Root<'a> {
    directory: BorrowedFd<'a>,
    report: &'a OwnedFd,
}

/// Who is to own what a walk creates; stubs are root's.
#[derive(Clone, Copy)]
enum Creates<'a> {
    Stubs(Kind),
    DirectoriesOf(&'a Identity),
}

/// Cuts our mount namespace off from the host's, so that no mount of ours appears there. Gives the host's
/// root directory.
pub(super) fn leave_host(elsewhere: &OwnedFd) -> std::result::Result<OwnedFd, Failure> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match mount_change(c"/", flags) {
        // Not the top of a mount: a chroot, or the kernel would have taken it.
        Err(Errno::INVAL) => return Err(Failure::Chroot),
        outcome => outcome.at(|| Step::Root)?,
    }
    let host = open(c"/", HANDLE | OFlags::DIRECTORY, Mode::empty()).at(|| Step::Root)?;
    match is_top(&host, elsewhere).at(|| Step::Root)? {
        true => Ok(host),
        false => Err(Failure::Chroot),
    }
}

/// Whether nothing lies above our root directory, as a process would find that makes another directory its
/// root first. `elsewhere` is any other directory.
fn is_top(root: &OwnedFd, elsewhere: &OwnedFd) -> Result<bool> {
    fchdir(elsewhere)?;
    chroot(c".")?;
    let above = openat(root, c"..", HANDLE | OFlags::DIRECTORY, Mode::empty())?;
    fchdir(root)?;
    chroot(c".")?;
    is_same_place(&above, root)
}

/// Whether two descriptors are of the same directory in the same mount.
fn is_same_place(one: &OwnedFd, other: &OwnedFd) -> Result<bool> {
    let (stats, ids) = ((fstat(one)?, fstat(other)?), (mount_id(one.as_fd())?, mount_id(other.as_fd())?));
    Ok(stats.0.st_dev == stats.1.st_dev && stats.0.st_ino == stats.1.st_ino && ids.0 == ids.1)
}

impl<'a> Root<'a> {
    /// Attaches a detached mount over `/` of our own mount namespace.
    pub(super) fn attach(
        mount: &'a OwnedFd,
        report: &'a OwnedFd,
        unguarded: bool,
    ) -> std::result::Result<Self, Failure> {
        // A copy of a shared mount is its peer: without this, mounts inside would appear on the host.
        sys::mount_setattr(
            mount.as_fd(),
            MountAttributes {
                set: if unguarded { libc::MOUNT_ATTR_NODEV } else { 0 },
                propagation: libc::MS_PRIVATE,
                recursive: true,
                ..MountAttributes::default()
            },
        )
        .at(|| Step::Root)?;
        move_mount(mount, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).at(|| Step::Root)?;
        Ok(Root { directory: mount.as_fd(), report })
    }

    /// The root seen from inside, after [`Root::enter`].
    pub(super) fn inside(directory: &'a OwnedFd, report: &'a OwnedFd) -> Self {
        Root { directory: directory.as_fd(), report }
    }

    /// The root directory itself.
    pub(super) fn directory(&self) -> BorrowedFd<'a> {
        self.directory
    }

    /// A directory right below the root that the system is mounted on. Links are refused: nothing honest
    /// makes `/proc`, `/dev` or `/sys` one.
    pub(super) fn system_directory(&self, name: &str) -> std::result::Result<OwnedFd, Failure> {
        let path = || Path::new("/").join(name);
        let step = || Step::Mount { target: path() };
        let flags = HANDLE | OFlags::NOFOLLOW;
        let place = match openat(self.directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                self.create_stub(self.directory, OsStr::new(name), Kind::Directory).at(step)?;
                openat(self.directory, name, flags, Mode::empty()).at(step)?
            }
            place => place.at(step)?,
        };
        let found = match FileType::from_raw_mode(fstat(&place).at(step)?.st_mode) {
            FileType::Directory => return Ok(place),
            FileType::Symlink => Found::Symlink,
            _ => Found::File,
        };
        Err(Failure::MountPoint { path: path(), expected: Found::Directory, found })
    }

    /// The place to mount on at a path of the container's, created as a stub when missing.
    pub(super) fn mount_point(&self, path: &Path, kind: Kind) -> std::result::Result<OwnedFd, Failure> {
        let step = || Step::Mount { target: path.to_owned() };
        let place = match self.open(path) {
            Err(Errno::NOENT) => self.walk(path, Creates::Stubs(kind)).at(step)?,
            place => place.at(step)?,
        };
        let is_directory = FileType::from_raw_mode(fstat(&place).at(step)?.st_mode) == FileType::Directory;
        let words = |directory| if directory { Found::Directory } else { Found::File };
        if is_directory != (kind == Kind::Directory) {
            let (expected, found) = (words(kind == Kind::Directory), words(is_directory));
            return Err(Failure::MountPoint { path: path.to_owned(), expected, found });
        }
        Ok(place)
    }

    /// Makes a directory the working directory; a missing one is created for the user.
    pub(super) fn enter_directory(
        &self,
        path: &Path,
        identity: &Identity,
    ) -> std::result::Result<(), Failure> {
        let step = || Step::WorkingDirectory { path: path.to_owned() };
        let place = match self.open(path) {
            Err(Errno::NOENT) => self.walk(path, Creates::DirectoriesOf(identity)).at(step)?,
            place => place.at(step)?,
        };
        fchdir(&place).at(step)?;
        // A descriptor from outside the root would show here (CVE-2024-21626).
        match getcwd(Vec::new()).at(step)?.to_bytes().first() {
            Some(b'/') => Ok(()),
            _ => Err(Errno::XDEV).at(step),
        }
    }

    /// Resolves an existing path inside the root.
    fn open(&self, path: &Path) -> Result<OwnedFd> {
        resolve::handle(self.directory, path, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Resolves a path inside the root and creates what is missing on it.
    fn walk(&self, path: &Path, creates: Creates<'_>) -> Result<OwnedFd> {
        let mut ahead = names(path);
        let mut behind: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                behind.pop();
                continue;
            }
            let here = behind.last().map_or(self.directory, AsFd::as_fd);
            let flags = HANDLE | OFlags::NOFOLLOW;
            let next = match openat(here, &name, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    self.create(here, &name, ahead.is_empty(), creates)?;
                    openat(here, &name, flags, Mode::empty())?
                }
                next => next?,
            };
            if FileType::from_raw_mode(fstat(&next)?.st_mode) != FileType::Symlink {
                behind.push(next);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            if fstatfs(&next)?.f_type == PROC_SUPER_MAGIC {
                // The text of a magic link is not a path, and nothing can be created in `/proc`.
                return Err(Errno::NOENT);
            }
            let target = readlinkat(&next, c"", Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.to_bytes()));
            if target.is_absolute() {
                behind.clear();
            }
            for name in names(target).into_iter().rev() {
                ahead.push_front(name);
            }
        }
        match behind.pop() {
            Some(place) => Ok(place),
            None => openat(self.directory, c".", HANDLE, Mode::empty()),
        }
    }

    fn create(&self, parent: BorrowedFd<'_>, name: &OsStr, last: bool, creates: Creates<'_>) -> Result<()> {
        match creates {
            Creates::Stubs(kind) => self.create_stub(parent, name, if last { kind } else { Kind::Directory }),
            Creates::DirectoriesOf(identity) => {
                mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
                let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
                chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    /// Creates a mount point; one in the root file system is told to the launcher, who removes it in the end.
    ///
    /// One in a mount of the user's stays, as with Docker: another container may have mounted on it
    /// meanwhile, and removing a mount point takes the mounts of others off it.
    fn create_stub(&self, parent: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> Result<()> {
        let before = modified(&fstat(parent)?);
        match kind {
            Kind::Directory => mkdirat(parent, name, Mode::from_bits_truncate(0o755))?,
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(openat(parent, name, flags, Mode::from_bits_truncate(0o644))?);
            }
        }
        if mount_id(parent)? != mount_id(self.directory)? {
            return Ok(());
        }
        let made = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let record = StubRecord {
            name: name.to_owned(),
            directory: kind == Kind::Directory,
            device: made.st_dev,
            inode: made.st_ino,
            parent_before: before,
            parent_after: modified(&fstat(parent)?),
        };
        protocol::send(self.report, &Report::Stub(record), &[parent])
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::PIPE))
    }

    /// Makes the root the process's root, and the host's, which [`leave_host`] gave, unreachable. Gives the
    /// root's directory.
    pub(super) fn enter(self, host: &OwnedFd, read_only: bool) -> std::result::Result<OwnedFd, Failure> {
        self.replace(host, read_only).at(|| Step::Root)
    }

    fn replace(self, host: &OwnedFd, read_only: bool) -> Result<OwnedFd> {
        let read_only_copy = if read_only { Some(self.read_only_copy()?) } else { None };
        fchdir(read_only_copy.as_ref().map_or(self.directory, AsFd::as_fd))?;
        match pivot_root(c".", c".") {
            Ok(()) => {
                fchdir(host)?;
                // What is unmounted is whatever lies on top: again, until the host's root itself is gone.
                unmount(c".", UnmountFlags::DETACH)?;
                loop {
                    match unmount(c".", UnmountFlags::DETACH) {
                        Ok(()) => {}
                        Err(Errno::INVAL) => break,
                        Err(errno) => return Err(errno),
                    }
                }
            }
            // The initial ramdisk cannot be pivoted away. The new root covers it: `..` at the top of a mount
            // on the root of the namespace, which `leave_host` has made sure of, stays there.
            Err(Errno::INVAL) if is_in_memory(host)? => chroot(c".")?,
            Err(errno) => return Err(errno),
        }
        rustix::process::chdir(c"/")?;
        let inside = open(c"/", HANDLE | OFlags::DIRECTORY, Mode::empty())?;
        // Of the root itself `..` is the root, or what still covers it.
        let above = open(c"/..", HANDLE | OFlags::DIRECTORY, Mode::empty())?;
        match is_same_place(&above, &inside)? && is_top(&inside, host)? {
            true => Ok(inside),
            false => Err(Errno::XDEV),
        }
    }

    /// Covers the root with a copy of its whole tree that cannot be written to. The original stays writable
    /// for the launcher, who removes the stubs through it.
    fn read_only_copy(&self) -> Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH
            | OpenTreeFlags::AT_RECURSIVE;
        let copy = open_tree(self.directory, c"", flags)?;
        let attributes = MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() };
        sys::mount_setattr(copy.as_fd(), attributes)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&copy, c"", self.directory, c"", flags)?;
        Ok(copy)
    }
}

/// Whether a directory is of a file system that an initial ramdisk may be.
fn is_in_memory(directory: &OwnedFd) -> Result<bool> {
    let kind = fstatfs(directory)?.f_type;
    Ok(kind == libc::TMPFS_MAGIC || kind == RAMFS_MAGIC)
}

/// Which mount a place belongs to.
fn mount_id(place: BorrowedFd<'_>) -> Result<u64> {
    Ok(statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// The names on a path, `..` among them; where the path starts does not matter.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from_vec(b"..".to_vec())),
            _ => None,
        })
        .collect()
}
