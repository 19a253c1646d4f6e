//! The last program of ours in a container: a page that executes the user's.
//!
//! A process's own executable can be reached as `/proc/self/exe`, and an image may name that path as its
//! program, as the interpreter of a script or behind any number of those. If it led to lbuild, the container
//! could run and change the host's file (CVE-2019-5736), and no check of paths helps, for they may change
//! between the check and the exec. So pid 1 gives lbuild up first: it becomes this trampoline, a file in
//! the container's own memory, and that executes the user's program. Whatever then leads to
//! `/proc/self/exe` finds the trampoline, which ends at once when it is not the first of its process.
//!
//! The machine code is in `sys`; here are the ELF headers round it (elf(5)) and how it is started: its first
//! argument is the path to execute, the others are the program's; [`REPORT`] must be open.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use rustix::io::Result;

use crate::sys;

/// The descriptor that the trampoline reports an error number on, and closes by its exec.
const REPORT: i32 = 3;
/// Where it is loaded: any page above the lowest that may be mapped.
const ADDRESS: u64 = 0x40_0000;
/// The largest page size of the supported processors.
const ALIGNMENT: u64 = 0x1_0000;
const HEADER_BYTES: u16 = 64;
const SEGMENT_BYTES: u16 = 56;
const SEGMENTS: u16 = 2;

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = libc::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = libc::EM_AARCH64;

/// The file's bytes.
pub(super) fn image() -> Vec<u8> {
    let code = sys::trampoline();
    let start = u64::from(HEADER_BYTES + SEGMENTS * SEGMENT_BYTES);
    let length = start + code.len() as u64;
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    halves(&mut image, &[libc::ET_EXEC, MACHINE]);
    words(&mut image, &[1]);
    longs(&mut image, &[ADDRESS + start, HEADER_BYTES.into(), 0]);
    words(&mut image, &[0]);
    halves(&mut image, &[HEADER_BYTES, SEGMENT_BYTES, SEGMENTS, 0, 0, 0]);

    words(&mut image, &[libc::PT_LOAD, libc::PF_R | libc::PF_X]);
    longs(&mut image, &[0, ADDRESS, ADDRESS, length, length, ALIGNMENT]);
    // Without this the stack would be executable.
    words(&mut image, &[libc::PT_GNU_STACK, libc::PF_R | libc::PF_W]);
    longs(&mut image, &[0, 0, 0, 0, 0, 16]);
    image.extend_from_slice(code);
    image
}

fn halves(image: &mut Vec<u8>, values: &[u16]) {
    image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn words(image: &mut Vec<u8>, values: &[u32]) {
    image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn longs(image: &mut Vec<u8>, values: &[u64]) {
    image.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Becomes the trampoline; comes back only with the reason why not, the report still open.
///
/// `arguments` starts with the path to execute. Every other descriptor must be closed on exec.
pub(super) fn start(
    trampoline: BorrowedFd<'_>,
    report: &OwnedFd,
    arguments: &[CString],
    environment: &[CString],
) -> Result<Infallible> {
    // Out of the way of the report, unless the number is another: the user's limits may allow no more of them.
    let aside = match trampoline.as_raw_fd() {
        REPORT => Some(rustix::io::fcntl_dupfd_cloexec(trampoline, REPORT + 1)?),
        _ => None,
    };
    let trampoline = aside.as_ref().map_or(trampoline, AsFd::as_fd);
    sys::place(report.as_fd(), REPORT)
        .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::BADF))?;
    nix::unistd::execveat(trampoline, c"", arguments, environment, AtFlags::AT_EMPTY_PATH)
        .map_err(|errno: Errno| rustix::io::Errno::from_raw_os_error(errno as i32))
}
