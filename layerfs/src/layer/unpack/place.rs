//! Where entries go: their parent directories, resolved by the kernel below the root.
//!
//! Links in parents are followed, as images rely on it (`/lib` is a link to `usr/lib`), but never out of the
//! root. Entries come directory by directory, so the last parent is kept open.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::fs::{chownat, fchmod, fstat, mkdirat, openat2, readlinkat, unlinkat};
use rustix::io::Errno;

use crate::confined::{MAX_LINKS, look_up_exact};
use crate::entry::Time;
use crate::remove::open_dir;
use crate::walk::{join, split};
use crate::xattr::{self, Inherited, Xattrs};

/// From this length on a path may be too long for one call, whatever name is added.
const LONG_PATH: usize = 4096 - 256;

/// The time that a directory shall have at the end.
#[derive(Clone, Copy)]
pub(super) struct DirTime {
    pub(super) time: Time,
    pub(super) origin: Origin,
}

/// Why a directory is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was there; something happened in it.
    Found,
    /// This layer has something in it, and it was not there.
    Implied,
    /// This layer has an entry for it.
    Mentioned,
}

pub(super) struct Parents<'a> {
    root: BorrowedFd<'a>,
    last: Option<Last>,
    /// Whether directories were only made where nothing was, and not because of links.
    pub(super) are_plain: bool,
}

/// The directory that the last entry went into.
struct Last {
    path: Vec<u8>,
    /// The same without links.
    real: Vec<u8>,
    fd: OwnedFd,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Parents<'a> {
        Parents { root, last: None, are_plain: true }
    }

    /// The directory `dir`, made if it is missing. Its present time goes into `times`, unless it has one there:
    /// what is about to happen in it is no change of the directory itself.
    pub(super) fn open(
        &mut self,
        dir: &[u8],
        times: &mut BTreeMap<Vec<u8>, DirTime>,
    ) -> rustix::io::Result<OwnedFd> {
        if let Some(last) = self.last.as_ref().filter(|last| last.path == dir) {
            return rustix::io::fcntl_dupfd_cloexec(&last.fd, 0);
        }
        let (real, fd) = match self.find(dir) {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.make_dirs(dir, times, 0)?;
                self.find(dir)?
            }
            found => found?,
        };
        remember(&real, &fd, times)?;
        let again = rustix::io::fcntl_dupfd_cloexec(&fd, 0)?;
        self.last = Some(Last { path: dir.to_vec(), real, fd: again });
        Ok(fd)
    }

    /// `path`, whose directory is there, without links on the way to it.
    pub(super) fn real(&self, path: &[u8]) -> rustix::io::Result<Vec<u8>> {
        let (dir, name) = split(path);
        match self.last.as_ref().filter(|last| last.path == dir) {
            Some(last) => Ok(join(&last.real, name)),
            None => Ok(join(&self.canonical(dir)?.ok_or(Errno::NOENT)?, name)),
        }
    }

    /// The directory `dir`, which must be there, with its path without links.
    fn find(&self, dir: &[u8]) -> rustix::io::Result<(Vec<u8>, OwnedFd)> {
        match look_up_exact(self.root, dir) {
            Err(Errno::LOOP) => Ok((self.canonical(dir)?.ok_or(Errno::NOENT)?, self.look_up(dir)?)),
            found => Ok((dir.to_vec(), found?)),
        }
    }

    /// The directory `dir`, which must be there.
    pub(super) fn look_up(&self, dir: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let plain = if dir.is_empty() { b"." } else { dir };
        loop {
            match openat2(self.root, plain, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile somewhere on this machine (openat2(2)).
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Too long for one call, and several cannot follow links, which begin at the root.
                Err(Errno::NAMETOOLONG) => {
                    let real = self.canonical(dir)?.ok_or(Errno::NOENT)?;
                    return look_up_exact(self.root, &real);
                }
                found => return found,
            }
        }
    }

    /// To be called when a path that led somewhere may lead elsewhere.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Makes `dir` and its parents: 0755, root's, without a time of their own. A dangling link's target is
    /// made; a file in the way goes.
    fn make_dirs(
        &mut self,
        dir: &[u8],
        times: &mut BTreeMap<Vec<u8>, DirTime>,
        links: usize,
    ) -> rustix::io::Result<()> {
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let mut path = Vec::new();
        for name in dir.split(|byte| *byte == b'/') {
            if path.len() >= LONG_PATH {
                // So that the links in it are followed once, not again for every component.
                path = self.canonical(&path)?.ok_or(Errno::NOENT)?;
            }
            let (real, parent) = self.find(&path)?;
            let above = std::mem::take(&mut path);
            path = join(&above, name);
            let found = self.look_up(&path).map(drop);
            if found.is_ok() {
                continue;
            }
            remember(&real, &parent, times)?;
            match found {
                Err(Errno::NOTDIR) => {
                    unlinkat(&parent, name, AtFlags::empty())?;
                    self.are_plain = false;
                }
                Err(errno) if errno != Errno::NOENT => return Err(errno),
                _ => {}
            }
            match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    // A directory with a set-group-id bit gives its group to what is made in it.
                    chownat(&parent, name, Some(Uid::ROOT), Some(Gid::ROOT), AtFlags::SYMLINK_NOFOLLOW)?;
                    let made = open_dir(&parent, name)?;
                    xattr::replace(&made, &Xattrs::new(), Inherited::Go)?;
                    fchmod(&made, Mode::from_raw_mode(0o755))?;
                    let planned = DirTime { time: Time::default(), origin: Origin::Implied };
                    times.insert(join(&real, name), planned);
                }
                Err(Errno::EXIST) => {
                    let target = readlinkat(&parent, name, Vec::new())?.into_bytes();
                    self.are_plain = false;
                    self.make_dirs(&lexical(&above, &target), times, links + 1)?;
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// `dir` without links in it; none if it is not there.
    pub(super) fn canonical(&self, dir: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        match look_up_exact(self.root, dir) {
            Ok(_) => return Ok(Some(dir.to_vec())),
            Err(Errno::LOOP) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        self.follow(dir)
    }

    /// Goes component by component, as [`Parents::canonical`] must where there are links.
    fn follow(&self, dir: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        let mut real = Vec::new();
        let mut here = look_up_exact(self.root, b"")?;
        let mut left: Vec<Vec<u8>> = dir.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(name) = left.pop() {
            if matches!(name.as_slice(), b"" | b".") {
                continue;
            }
            let next = match name.as_slice() {
                b".." => {
                    real.truncate(split(&real).0.len());
                    look_up_exact(self.root, &real)
                }
                _ => look_up_exact(here.as_fd(), &name).inspect(|_| real = join(&real, &name)),
            };
            here = match next {
                Ok(next) => next,
                Err(Errno::LOOP) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&here, name.as_slice(), Vec::new())?.into_bytes();
                    left.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
                    if target.starts_with(b"/") {
                        real.clear();
                    }
                    look_up_exact(self.root, &real)?
                }
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(errno),
            };
        }
        Ok(Some(real))
    }
}

/// Puts the present time of `dir` into `times`, unless it has one there. Its path has no links in it: a link has a time
/// of its own.
pub(super) fn remember(
    dir: &[u8],
    fd: &OwnedFd,
    times: &mut BTreeMap<Vec<u8>, DirTime>,
) -> rustix::io::Result<()> {
    if !times.contains_key(dir) {
        times.insert(dir.to_vec(), DirTime { time: Time::of(&fstat(fd)?), origin: Origin::Found });
    }
    Ok(())
}

/// Where a link in `dir` leads, going by the names alone. Only used to decide what to make: the result is
/// resolved below the root again.
pub(crate) fn lexical(dir: &[u8], target: &[u8]) -> Vec<u8> {
    let mut path = if target.starts_with(b"/") { Vec::new() } else { dir.to_vec() };
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => path = split(&path).0.to_vec(),
            name => path = join(&path, name),
        }
    }
    path
}
