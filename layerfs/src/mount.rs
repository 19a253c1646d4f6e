//! Detached mounts: directories as mounts that are in no mount namespace, for a container to attach in its own.
//!
//! Here: binding a directory, cloning a mount. Not here: overlays ([`crate::snapshot`]).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::{Error, Result};

/// Whether device nodes in a mount open the devices.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    Usable,
    Inert,
}

/// A detached mount of an open directory, with these attributes (`MOUNT_ATTR_…`).
pub(crate) fn bind(dir: impl AsFd, attributes: u64) -> Result<OwnedFd> {
    let mount = open_tree(dir, "", clone_flags()).map_err(|errno| match errno {
        Errno::PERM | Errno::NOSYS => Error::NoMounts { source: errno.into() },
        errno => Error::Mount { step: "bind", source: errno.into() },
    })?;
    crate::sys::change_mount(mount.as_fd(), attributes, 0).map_err(|source| match source.kind() {
        // The other calls are older than this one.
        std::io::ErrorKind::Unsupported => Error::NoMounts { source },
        _ => Error::Mount { step: "set the attributes", source },
    })?;
    Ok(mount)
}

/// A detached mount of what `mount` shows, which can be attached once, with devices or without.
pub(crate) fn clone_mount(mount: BorrowedFd<'_>, devices: Devices) -> Result<OwnedFd> {
    match open_tree(mount, "", clone_flags()) {
        Ok(clone) if devices == Devices::Usable => {
            crate::sys::change_mount(clone.as_fd(), 0, libc::MOUNT_ATTR_NODEV)
                .map_err(|source| Error::Mount { step: "let it have devices", source })?;
            Ok(clone)
        }
        Ok(clone) => Ok(clone),
        // Before Linux 6.15 a detached mount cannot be cloned. The mount itself can be attached, once, and
        // stays usable by descriptor afterwards; so it stays without devices too.
        Err(Errno::INVAL) => {
            mount.try_clone_to_owned().map_err(|source| Error::Mount { step: "clone", source })
        }
        Err(errno) => Err(Error::Mount { step: "clone", source: errno.into() }),
    }
}

fn clone_flags() -> OpenTreeFlags {
    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH
}
