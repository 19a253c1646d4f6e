//! Resolving a path that an image names: `openat2(2)` below a directory, until it is not disturbed.
//!
//! What may be followed is the caller's to say; opening what was found is too.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

/// A handle (`O_PATH`) of what `path` leads to below `directory`.
///
/// `EAGAIN` is no answer: something was renamed meanwhile, anywhere on this machine, and the kernel cannot
/// vouch for a `..` that it passed; openat2(2) has the caller ask again.
pub(crate) fn handle(directory: impl AsFd, path: &Path, how: ResolveFlags) -> Result<OwnedFd> {
    loop {
        match openat2(directory.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            place => return place,
        }
    }
}
