//! What a selection of files contains, as one digest.
//!
//! Here: the record of one file, the listing of a selection. Not here:
//! which files are selected ([`crate::copy::select`]), what else a step's key is made of.
//!
//! A record is the SHA-256 of `RECORD` and then, each field with its length before it or of fixed length:
//! type, mode (0777 for a link), uid, gid, device numbers, the link's target, the number of extended
//! attributes and their names and values, and the BLAKE3 hash of the data, which leaves no machine and is three times
//! as fast as a digest by SHA-256. A listing's digest is that of
//! `LISTING`, the sources, and for each of them the number of entries and, for every `GROUP` of them, the digest of
//! their paths and records, so that threads can share the work. Neither sees the time, the inode, the number of links,
//! or any name above a selected directory; of a selected directory itself nothing counts, because nothing of it is
//! copied, and of a selected file also its name, because a destination directory takes it.
//!
//! Invariants: every field is framed, so that no two selections are written as the same bytes; files are read
//! in pieces of bounded size; a file that is no longer the one that was selected, or that changes while it is read, is
//! an error.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::Digest;
use oci::digest::Hasher;
use rayon::prelude::*;

use crate::confined::xattr::{self, Attributes};
use crate::confined::{Kind, Metadata, Owner, Root, open_exact, open_listed, path_of};
use crate::copy::{Selected, Selection};
use crate::walk::Entry;
use crate::{Error, IoResultExt, Result};

mod known;

pub use known::Known;

/// The form of a record; another one is another key.
const RECORD: &[u8] = b"lbuild file record 2\n";
/// The form of a listing; another one is another key.
const LISTING: &[u8] = b"lbuild listing 2\n";
const BUFFER: usize = 128 * 1024;
/// How many files of a directory one thread takes at a time.
const CHUNK: usize = 64;
/// Below this number of files threads cost more than they save, unless these are long.
const PARALLEL: usize = 32;
/// From this many bytes on, on average, a file is work enough for a thread.
const LONG: u64 = 256 * 1024;
/// How many entries of a listing are hashed together. Part of the form.
const GROUP: usize = 4096;

/// What counts in place of what the files say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The owner that every file is taken to have. Files of a build context are always root's.
    pub owner: Option<Owner>,
    /// What is known of the files from earlier builds; not used if it is about another owner.
    pub known: Option<&'a Known>,
}

/// Reads and hashes all that is selected.
///
/// # Errors
/// [`Error::SourceChanged`] if a file is not the one that was selected any more; [`Error::File`].
pub fn digest(root: &Root, selection: &Selection, options: Options<'_>) -> Result<Digest> {
    let mut frame = Frame::new(LISTING);
    frame.number(selection.sources.len() as u64);
    for selected in &selection.sources {
        let found = Found::of(root, selected, options)?;
        let entry = |nth: usize| (found.path(nth), &found.records[nth]);
        frame.source(found.is_directory(), found.records.len(), &entry);
    }
    Ok(frame.finish())
}

/// What one selected file or directory contains.
struct Found<'a> {
    selected: &'a Selected,
    /// One for each entry, or for the selected file.
    records: Vec<Digest>,
}

impl<'a> Found<'a> {
    fn of(root: &Root, selected: &'a Selected, options: Options<'_>) -> Result<Found<'a>> {
        let path = selected.path.as_os_str().as_bytes();
        let reader = |dir, base| Reader { dir, base, options };
        let open = |base: &[u8]| open_exact(root.as_fd(), base).at("open", path_of(base));
        let records = if selected.metadata.kind == Kind::Directory {
            reader(open(path)?.as_fd(), &selected.path).all(&selected.entries)?
        } else {
            let entry = Entry { path: path.to_owned(), metadata: selected.metadata };
            reader(open(b"")?.as_fd(), Path::new("")).records(std::slice::from_ref(&entry))?
        };
        Ok(Found { selected, records })
    }

    fn is_directory(&self) -> bool {
        self.selected.metadata.kind == Kind::Directory
    }

    /// A selected file is listed under the name that it was selected by.
    fn path(&self, nth: usize) -> &[u8] {
        if self.is_directory() { &self.selected.entries[nth].path } else { &self.selected.name }
    }
}

/// Reads the files below one directory.
struct Reader<'a> {
    dir: BorrowedFd<'a>,
    base: &'a Path,
    options: Options<'a>,
}

impl Reader<'_> {
    fn all(&self, entries: &[Entry]) -> Result<Vec<Digest>> {
        let size_bytes: u64 = entries.iter().map(|entry| entry.metadata.size_bytes).sum();
        let is_long = size_bytes / (entries.len().max(1) as u64) > LONG;
        if entries.len() < PARALLEL && !is_long {
            return self.records(entries);
        }
        let chunk = if is_long { 1 } else { CHUNK };
        let chunks: Result<Vec<_>> = entries.par_chunks(chunk).map(|chunk| self.records(chunk)).collect();
        Ok(chunks?.concat())
    }

    /// Neighbours are mostly of one directory, which stays open between them.
    fn records(&self, entries: &[Entry]) -> Result<Vec<Digest>> {
        let mut buffer = Vec::new();
        let mut open: Option<(&[u8], std::os::fd::OwnedFd)> = None;
        let mut records = Vec::with_capacity(entries.len());
        let known = self.options.known.filter(|known| known.owner() == self.options.owner);
        let mut fresh = Vec::new();
        for entry in entries {
            if let Some(record) = known.and_then(|known| known.get(&entry.metadata)) {
                records.push(record);
                continue;
            }
            let parent = entry.parent();
            let holder = match open.take() {
                Some((path, fd)) if path == parent => fd,
                _ => open_exact(self.dir, parent).at("open", self.base.join(path_of(parent)))?,
            };
            let record = self.record(holder.as_fd(), entry, &mut buffer)?;
            records.push(record);
            fresh.push((&entry.metadata, record));
            open = Some((parent, holder));
        }
        if let Some(known) = known {
            known.put(fresh.into_iter());
        }
        Ok(records)
    }

    fn record(&self, holder: BorrowedFd<'_>, entry: &Entry, buffer: &mut Vec<u8>) -> Result<Digest> {
        let path = || self.base.join(path_of(&entry.path));
        let found = &entry.metadata;
        let (mut link, mut data) = (Vec::new(), None);
        let (attributes, now) = if found.kind == Kind::File {
            let mut file = open_listed(holder, entry.name()).at("open", path())?;
            let now = Metadata::of(&file).at("read the metadata of", path())?;
            // What is another file by now need not be read.
            if now.is_unchanged(found) {
                data = hash(&mut file, found.size_bytes, buffer).at("read", path())?;
            }
            (xattr::of(file.as_fd()), Metadata::of(&file))
        } else {
            if found.kind == Kind::Symlink {
                let target = rustix::fs::readlinkat(holder, entry.name(), Vec::new());
                link = target.at("read the link", path())?.into_bytes();
            }
            (xattr::at(holder, entry.name()), Metadata::at(holder, entry.name()))
        };
        let attributes = attributes.at("read the attributes of", path())?;
        // All that is read of it has been read. What is put into a directory meanwhile is no change of this entry.
        let now = now.at("read the metadata of", path())?;
        let is_short = found.kind == Kind::File && data.is_none();
        if is_short || (found.kind != Kind::Directory && !now.is_unchanged(found)) {
            return Err(Error::SourceChanged { path: path() });
        }
        let owner = self.options.owner.unwrap_or(found.owner);
        Ok(record(found, owner, &link, &attributes, data))
    }
}

/// A hash of data.
type Data = [u8; 32];

/// The hash of a file's data; `None` if it has not the length that was seen.
fn hash(file: &mut File, size_bytes: u64, buffer: &mut Vec<u8>) -> std::io::Result<Option<Data>> {
    buffer.resize(BUFFER, 0);
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) => break,
            count => drop(hasher.update(&buffer[..count?])),
        }
        if hasher.count() > size_bytes {
            break;
        }
    }
    Ok((hasher.count() == size_bytes).then(|| *hasher.finalize().as_bytes()))
}

fn record(
    found: &Metadata,
    owner: Owner,
    link: &[u8],
    attributes: &Attributes,
    data: Option<Data>,
) -> Digest {
    let mut frame = Frame::new(RECORD);
    frame.bytes(found.kind.name().as_bytes());
    frame.number(u64::from(if found.kind == Kind::Symlink { 0o777 } else { found.mode }));
    frame.number(owner.uid.into());
    frame.number(owner.gid.into());
    frame.number(found.device.0.into());
    frame.number(found.device.1.into());
    frame.bytes(link);
    frame.number(attributes.len() as u64);
    for (name, value) in attributes {
        frame.bytes(name.to_bytes());
        frame.bytes(value);
    }
    frame.bytes(data.as_ref().map_or(&[], |hash| hash.as_slice()));
    frame.finish()
}

/// Hashes fields so that where one ends and the next begins is part of what is hashed.
struct Frame(Hasher);

impl Frame {
    fn new(form: &[u8]) -> Frame {
        let mut hasher = Hasher::new();
        hasher.update(form);
        Frame(hasher)
    }

    /// One source of a listing; `entry` gives the path and the record of each of its entries.
    fn source<'a>(
        &mut self,
        is_directory: bool,
        entries: usize,
        entry: &(dyn Fn(usize) -> (&'a [u8], &'a Digest) + Sync),
    ) {
        self.number(u64::from(is_directory));
        self.number(entries as u64);
        let group = |nth: usize| {
            let mut frame = Frame(Hasher::new());
            for (path, record) in (nth * GROUP..entries.min((nth + 1) * GROUP)).map(entry) {
                frame.bytes(path);
                frame.bytes(record.as_bytes());
            }
            frame.finish()
        };
        let groups = entries.div_ceil(GROUP);
        let digests: Vec<Digest> = match groups {
            0 | 1 => (0..groups).map(group).collect(),
            _ => (0..groups).into_par_iter().map(group).collect(),
        };
        digests.iter().for_each(|digest| self.bytes(digest.as_bytes()));
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests;
