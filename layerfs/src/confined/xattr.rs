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
    values(&list_of(file)?, |name| value_of(file, name))
}

/// The attributes of an open file or directory that overlayfs would keep in a copy of its own; `None` if one of them
/// does not belong to what the file is.
pub(crate) fn of_all(file: BorrowedFd<'_>) -> Result<Option<Attributes>> {
    let list = list_of(file)?;
    if names(&list).any(|name| !belongs(name.to_bytes()) && !is_bookkeeping(name.to_bytes())) {
        return Ok(None);
    }
    values(&list, |name| value_of(file, name)).map(Some)
}

/// The attributes of `name` in `dir`, of whatever type; a link's own, not its target's.
pub(crate) fn at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Attributes> {
    values(&list_at(dir, name)?, |attribute| value_at(dir, name, attribute))
}

/// The list of all attributes of an open file or directory, for [`names`].
pub(crate) fn list_of(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    list(|list| rustix::fs::flistxattr(file, list))
}

/// The same of `name` in `dir`, of whatever type.
pub(crate) fn list_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let path = path_of(dir, name);
    list(|list| rustix::fs::llistxattr(path.as_slice(), list))
}

/// The names in a list.
pub(crate) fn names(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|&byte| byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}

/// The value of one attribute of an open file or directory, whether it belongs or not.
pub(crate) fn value_of(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    fill(|value| rustix::fs::fgetxattr(file, name, value))
}

/// The same of `name` in `dir`, of whatever type.
pub(crate) fn value_at(dir: BorrowedFd<'_>, name: &[u8], attribute: &CStr) -> Result<Vec<u8>> {
    let path = path_of(dir, name);
    fill(|value| rustix::fs::lgetxattr(path.as_slice(), attribute, value))
}

/// Sets one attribute of an open file or directory.
pub(crate) fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
}

/// Removes one attribute of `name` in `dir`, of whatever type.
pub(crate) fn remove_at(dir: BorrowedFd<'_>, name: &[u8], attribute: &CStr) -> Result<()> {
    rustix::fs::lremovexattr(path_of(dir, name).as_slice(), attribute)
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

/// A file system without attributes has an empty list.
fn list(call: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    match fill(call) {
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        list => list,
    }
}

/// Those of a list that belong, with their values.
fn values(list: &[u8], get: impl Fn(&CStr) -> Result<Vec<u8>>) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    for name in names(list).filter(|name| belongs(name.to_bytes())) {
        match get(name) {
            Err(Errno::NODATA) => {}
            value => attributes.push((name.to_owned(), value?)),
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
