//! One file, link or device into one directory, with its metadata.
//!
//! Order: make it, its data, its owner, its attributes (a change of the owner drops capabilities), its mode (a
//! change of the owner drops set-user-id), its time. What is in the way is removed first, unless it is a
//! directory, so nothing is ever written through a link or into another name of a hard link.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::{Options, data};
use crate::confined::xattr::{self, Attributes};
use crate::confined::{
    Kind, Metadata, NewDirectory, Owner, Time, create_new, open_listed, replacing, set_modified, set_owner,
    times,
};
use crate::{Error, IoResultExt, Result};

/// What is common to all files of one copy.
pub(super) struct Copier<'a> {
    pub(super) options: &'a Options,
    pub(super) ways: data::Ways,
    pub(super) dropped: AtomicUsize,
}

/// A name in an open directory.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
}

/// What went wrong, before it is known under which path: on the side of the source or of the target.
pub(super) enum Fault {
    Source(&'static str, io::Error),
    Target(&'static str, io::Error),
    Changed,
    Whiteout,
}

impl Fault {
    pub(super) fn named(self, source: impl FnOnce() -> PathBuf, target: impl FnOnce() -> PathBuf) -> Error {
        match self {
            Fault::Source(act, source_error) => Error::File { act, path: source(), source: source_error },
            Fault::Target("create", error) if error.raw_os_error() == Some(Errno::ISDIR.raw_os_error()) => {
                Error::ReplaceDirectory { path: target() }
            }
            Fault::Target(act, error) => Error::File { act, path: target(), source: error },
            Fault::Changed => Error::SourceChanged { path: source() },
            Fault::Whiteout => Error::Unpackable {
                path: source(),
                reason: "a character device 0:0 is how overlay file systems mark a removed file",
            },
        }
    }
}

pub(super) fn source<E: Into<io::Error>>(act: &'static str) -> impl Fn(E) -> Fault {
    move |error| Fault::Source(act, error.into())
}

pub(super) fn target<E: Into<io::Error>>(act: &'static str) -> impl Fn(E) -> Fault {
    move |error| Fault::Target(act, error.into())
}

impl Copier<'_> {
    /// Copies what is at `from`, which is no directory, to `to`.
    pub(super) fn copy(
        &self,
        from: Spot<'_>,
        found: &Metadata,
        to: Spot<'_>,
        buffer: &mut Vec<u8>,
    ) -> std::result::Result<(), Fault> {
        match found.kind {
            Kind::File => self.copy_file(from, found, to, buffer),
            _ => self.copy_special(from, found, to),
        }
    }

    fn copy_file(
        &self,
        from: Spot<'_>,
        found: &Metadata,
        to: Spot<'_>,
        buffer: &mut Vec<u8>,
    ) -> std::result::Result<(), Fault> {
        let opened = open_listed(from.dir, from.name).map_err(source("open"))?;
        unchanged(found, Metadata::of(&opened))?;
        let attributes = xattr::of(opened.as_fd()).map_err(source("read the attributes of"))?;
        let made = create_new(to.dir, to.name).map_err(target("create"))?;
        if !data::copy(&opened, &made, found.size_bytes, &self.ways, buffer).map_err(target("write"))? {
            return Err(Fault::Changed);
        }
        // Again, because somebody may have written to it while it was read.
        unchanged(found, Metadata::of(&opened))?;
        self.dress(made.as_fd(), found, &attributes)
    }

    /// Gives an open file or directory the metadata of its source.
    pub(super) fn dress(
        &self,
        made: BorrowedFd<'_>,
        found: &Metadata,
        attributes: &Attributes,
    ) -> std::result::Result<(), Fault> {
        set_owner(made, self.owner(found)).map_err(target("set the owner of"))?;
        self.set_attributes(attributes, |name, value| xattr::set(made, name, value))?;
        rustix::fs::fchmod(made, Mode::from_raw_mode(self.mode(found))).map_err(target("set the mode of"))?;
        set_modified(made, found.modified).map_err(target("set the time of"))
    }

    fn copy_special(&self, from: Spot<'_>, found: &Metadata, to: Spot<'_>) -> std::result::Result<(), Fault> {
        let attributes = xattr::at(from.dir, from.name).map_err(source("read the attributes of"))?;
        if found.kind == Kind::Symlink {
            let link =
                rustix::fs::readlinkat(from.dir, from.name, Vec::new()).map_err(source("read the link"))?;
            let make = || rustix::fs::symlinkat(&link, to.dir, to.name);
            replacing(to.dir, to.name, make).map_err(target("create"))?;
        } else {
            self.make_node(found, to)?;
        }
        unchanged(found, Metadata::at(from.dir, from.name))?;
        let owner = self.owner(found);
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::chownat(to.dir, to.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(target("set the owner of"))?;
        self.set_attributes(&attributes, |name, value| xattr::set_at(to.dir, to.name, name, value))?;
        if found.kind != Kind::Symlink {
            set_mode(to, self.mode(found)).map_err(target("set the mode of"))?;
        }
        let times = times(found.modified);
        rustix::fs::utimensat(to.dir, to.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(target("set the time of"))
    }

    fn make_node(&self, found: &Metadata, to: Spot<'_>) -> std::result::Result<(), Fault> {
        if found.kind == Kind::CharDevice && found.device == (0, 0) {
            return Err(Fault::Whiteout);
        }
        let device = rustix::fs::makedev(found.device.0, found.device.1);
        let kind = found.kind.file_type();
        let make = || rustix::fs::mknodat(to.dir, to.name, kind, Mode::RUSR | Mode::WUSR, device);
        replacing(to.dir, to.name, make).map_err(target("create"))
    }

    /// A file system that has no such attributes, or does not let them be set, takes the file without them.
    fn set_attributes(
        &self,
        attributes: &Attributes,
        set: impl Fn(&std::ffi::CStr, &[u8]) -> rustix::io::Result<()>,
    ) -> std::result::Result<(), Fault> {
        for (name, value) in attributes {
            match set(name, value) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
                Err(error) => return Err(target("set the attributes of")(error)),
            }
        }
        Ok(())
    }

    pub(super) fn owner(&self, found: &Metadata) -> Owner {
        self.options.owner.unwrap_or(found.owner)
    }

    fn mode(&self, found: &Metadata) -> u32 {
        self.options.mode.as_ref().map_or(found.mode, |change| change.apply(found.kind, found.mode))
    }

    /// What directories are like that the copy needs and no source describes. They are dated 1970, so that the same
    /// files copied at another time are the same layer.
    pub(super) fn new_directory(&self) -> NewDirectory {
        NewDirectory {
            mode: self.options.mode.as_ref().and_then(|change| change.absolute()).unwrap_or(0o755),
            owner: self.options.owner.unwrap_or_default(),
            modified: Some(Time::default()),
        }
    }
}

/// Whether a source is still what was selected, and thus hashed.
fn unchanged(found: &Metadata, now: rustix::io::Result<Metadata>) -> std::result::Result<(), Fault> {
    match now.map_err(source("read the metadata of"))?.is_unchanged(found) {
        true => Ok(()),
        false => Err(Fault::Changed),
    }
}

/// Sets the mode of a file that must not be opened. `fchmodat(2)` would follow a link put there meanwhile.
fn set_mode(at: Spot<'_>, mode: u32) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(at.dir, at.name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), Mode::from_raw_mode(mode))
}

/// The attributes of a directory that is open.
pub(super) fn attributes_of(dir: BorrowedFd<'_>, path: impl FnOnce() -> PathBuf) -> Result<Attributes> {
    match xattr::of(dir) {
        Ok(attributes) => Ok(attributes),
        Err(error) => Err(error).at("read the attributes of", path()),
    }
}
