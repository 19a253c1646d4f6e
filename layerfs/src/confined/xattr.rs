//! Extended attributes: which of them belong to a file's content, reading and setting them.
//!
//! One rule, [`belongs`], serves copying and content digests alike, so that what is copied is what was hashed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

/// Names and values, sorted by name.
pub(crate) type Attributes = Vec<(CString, Vec<u8>)>;

/// The kernel's limit for a list of names and for one value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const LIMIT: usize = 65536;

/// Whether an attribute is part of what a file is. The others describe the machine (labels, access lists) or
/// are the bookkeeping of overlayfs and of our own snapshots, which must never be copied from one layer into another.
pub(crate) fn belongs(name: &[u8]) -> bool {
    const FOREIGN: [&[u8]; 3] = [b"security.", b"system.", b"user.overlay."];
    name == b"security.capability"
        || !(is_bookkeeping(name) || FOREIGN.iter().any(|prefix| name.starts_with(prefix)))
}

/// Whether an attribute says something about a snapshot instead of about a file.
fn is_bookkeeping(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"trusted.lbuild.")
}

/// The attributes of an open file or directory.
pub(crate) fn of(file: BorrowedFd<'_>) -> Result<Attributes> {
    read(|list| rustix::fs::flistxattr(file, list), |name, value| rustix::fs::fgetxattr(file, name, value))
}

/// The attributes of an open file or directory that overlayfs would keep in a copy of its own; `None` if one of them
/// does not belong to what the file is.
pub(crate) fn of_all(file: BorrowedFd<'_>) -> Result<Option<Attributes>> {
    let names = match fill(|list: &mut [u8]| rustix::fs::flistxattr(file, list)) {
        Err(Errno::NOTSUP) => return Ok(Some(Attributes::new())),
        names => names?,
    };
    let mut names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    if names.any(|name| !belongs(name) && !is_bookkeeping(name)) {
        return Ok(None);
    }
    of(file).map(Some)
}

/// The attributes of `name` in `dir`, of whatever type; a link's own, not its target's.
pub(crate) fn at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Attributes> {
    let path = path_of(dir, name);
    let path = path.as_slice();
    read(|list| rustix::fs::llistxattr(path, list), |name, value| rustix::fs::lgetxattr(path, name, value))
}

/// Sets one attribute of an open file or directory.
pub(crate) fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
}

/// Sets one attribute of `name` in `dir`, of whatever type.
pub(crate) fn set_at(dir: BorrowedFd<'_>, name: &[u8], attribute: &CStr, value: &[u8]) -> Result<()> {
    rustix::fs::lsetxattr(path_of(dir, name).as_slice(), attribute, value, XattrFlags::empty())
}

/// The calls for attributes know no directory descriptor before Linux 6.13. The magic link leads to the very
/// directory, and `name` is a single component that the `l…` calls do not follow.
fn path_of(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

fn read(
    list: impl Fn(&mut [u8]) -> Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> Result<usize>,
) -> Result<Attributes> {
    let names = match fill(&list) {
        Err(Errno::NOTSUP) => return Ok(Attributes::new()),
        names => names?,
    };
    let mut attributes = Attributes::new();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if belongs(name.to_bytes()) {
            match fill(|value| get(name, value)) {
                Err(Errno::NODATA) => {}
                value => attributes.push((name.to_owned(), value?)),
            }
        }
    }
    attributes.sort_unstable();
    Ok(attributes)
}

/// Nearly all lists are empty and nearly all values short: the large buffer is the exception.
fn fill(call: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0; 256];
    match call(&mut small) {
        Err(Errno::RANGE) => {}
        length => return Ok(small[..length?].to_vec()),
    }
    let mut large = vec![0; LIMIT];
    let length = call(&mut large)?;
    large.truncate(length);
    Ok(large)
}
