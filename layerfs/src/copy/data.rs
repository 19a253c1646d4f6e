//! The bytes of one file into another, by the cheapest way that works between the two.
//!
//! Order: short files by read and write, which one page needs anyway; others by sharing their extents
//! (`FICLONE`), then inside the kernel (`copy_file_range(2)`), then by read and write. Holes stay holes.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Up to this length one read and one write are cheaper than anything else.
const SHORT: u64 = 64 * 1024;
const BUFFER: usize = 256 * 1024;

/// Which ways have not yet turned out to be impossible between the two file systems.
#[derive(Debug)]
pub(super) struct Ways {
    clone: AtomicBool,
    in_kernel: AtomicBool,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways { clone: AtomicBool::new(true), in_kernel: AtomicBool::new(true) }
    }
}

/// Copies `size_bytes` from `source` into `target`, which is empty; `false` if the source has not that length.
pub(super) fn copy(
    source: &File,
    target: &File,
    size_bytes: u64,
    ways: &Ways,
    buffer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    if buffer.is_empty() {
        buffer.resize(BUFFER, 0);
    }
    if size_bytes <= SHORT {
        return short(source, target, size_bytes, buffer);
    }
    if ways.clone.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => return Ok(target.metadata()?.len() == size_bytes),
            Err(_) => ways.clone.store(false, Ordering::Relaxed),
        }
    }
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at, size_bytes)? {
        if !piece(source, target, start, end, ways, buffer)? {
            return Ok(false);
        }
        at = end;
    }
    target.set_len(size_bytes)?;
    ends_at(source, size_bytes)
}

/// One byte more than there should be is asked for, and would tell that the file has grown.
fn short(mut source: &File, target: &File, size_bytes: u64, buffer: &mut [u8]) -> std::io::Result<bool> {
    let mut length = 0;
    while length as u64 <= size_bytes {
        match source.read(&mut buffer[length..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) => break,
            count => length += count?,
        }
    }
    if length as u64 != size_bytes {
        return Ok(false);
    }
    target.write_all_at(&buffer[..length], 0)?;
    Ok(true)
}

/// The next range of the source that holds data, from `at` on and before `size_bytes`.
fn next_data(source: &File, at: u64, size_bytes: u64) -> std::io::Result<Option<(u64, u64)>> {
    if at >= size_bytes {
        return Ok(None);
    }
    let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
        // Nothing but a hole from here to the end.
        Err(Errno::NXIO) => return Ok(None),
        // A file system that knows no holes.
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok(Some((at, size_bytes))),
        start => start?,
    };
    let end = rustix::fs::seek(source, SeekFrom::Hole(start))?;
    Ok((start < size_bytes).then_some((start, end.min(size_bytes))))
}

fn piece(
    source: &File,
    target: &File,
    start: u64,
    end: u64,
    ways: &Ways,
    buffer: &mut [u8],
) -> std::io::Result<bool> {
    let (mut from, mut to) = (start, start);
    while from < end && ways.in_kernel.load(Ordering::Relaxed) {
        let count = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), count) {
            // The file ends here, or this file system only says so (procfs, some FUSE): reading will tell.
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::PERM) => {
                ways.in_kernel.store(false, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    read_write(source, target, from, end, buffer)
}

fn read_write(
    source: &File,
    target: &File,
    mut at: u64,
    end: u64,
    buffer: &mut [u8],
) -> std::io::Result<bool> {
    while at < end {
        let room = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        match source.read_at(&mut buffer[..room], at) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) => return Ok(false),
            count => {
                let count = count?;
                target.write_all_at(&buffer[..count], at)?;
                at += count as u64;
            }
        }
    }
    Ok(true)
}

fn ends_at(source: &File, size_bytes: u64) -> std::io::Result<bool> {
    Ok(source.metadata()?.len() == size_bytes)
}
