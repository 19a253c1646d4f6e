//! The system calls that need `unsafe`, and nothing else. Everything rustix offers is called where it is used.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets and clears attributes of a mount (`MOUNT_ATTR_…`): mount_setattr(2), which rustix does not have.
pub(crate) fn change_mount(mount: BorrowedFd<'_>, set: u64, clear: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a NUL-terminated literal, and the structure lives through the call, whose last
    // argument is its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a mount namespace and a working directory of its own: unshare(2).
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the call takes no pointer, and what it changes is the calling thread's alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
