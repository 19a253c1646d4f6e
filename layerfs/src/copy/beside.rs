//! Copies without a merged view to write to: what the copy will find in its destination is put into an empty tree
//! first, and the copy then goes there. Overlayfs would do the same at each first touch, but has to be mounted for
//! writing, which costs more than most copies.
//!
//! Here: the directories that the copy passes through or copies into, made alike in the tree. Not here: the copy
//! itself, which is [`super::copy`] with the tree as its target.
//!
//! Order: where the destination leads in what is below, links followed; the directories on the way; those of a
//! selected directory that are there already; at the end all their times, deepest first.
//!
//! Invariants: the tree holds nothing but directories that are below as well, with the same owner, mode, attributes
//! and time, so a layer made from it has none of them unless something in them changed. Whatever is not that
//! simple is refused, and nothing is decided differently from how the copy onto a merged view decides it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::{Selected, Selection, is_directory};
use crate::confined::xattr;
use crate::confined::{Kind, Metadata, Root, open_exact, path_of, set_modified, set_owner};
use crate::walk::{Entry, join, split};
use crate::{IoResultExt, Result};

/// Prepares `tree` for copying `selection` to `destination` above what `below` shows. Gives the destination in other
/// words, without links on the way; `None` if such a copy is not simple enough, and `tree` is of no use then.
///
/// # Errors
/// [`crate::Error::File`] if something cannot be read or made.
pub fn bring_up(
    below: &Root,
    tree: &Root,
    selection: &Selection,
    destination: &Path,
) -> Result<Option<PathBuf>> {
    let are_files = selection.sources.iter().all(|source| source.metadata.kind != Kind::Directory);
    let Some(place) = Place::find(below, destination, are_files)? else { return Ok(None) };
    let mut lift = Lift { below, tree, made: Vec::new() };
    if !lift.way(&place.existing)? {
        return Ok(None);
    }
    for selected in &selection.sources {
        if !lift.source(selected, &place)? {
            return Ok(None);
        }
    }
    lift.set_times()?;
    Ok(Some(place.path()))
}

/// Where a destination leads.
struct Place {
    /// The part that is there, a directory.
    existing: Vec<u8>,
    /// What is missing of it; of a file in the way, the name.
    rest: Vec<Vec<u8>>,
    /// Whether it was written as a directory.
    is_directory: bool,
}

impl Place {
    fn find(below: &Root, destination: &Path, are_files: bool) -> Result<Option<Place>> {
        let text = destination.as_os_str().as_bytes();
        let names: Vec<&[u8]> = text.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        if names.contains(&&b".."[..]) {
            return Ok(None);
        }
        let names: Vec<&[u8]> = names.into_iter().filter(|name| *name != b".").collect();
        for count in (0..=names.len()).rev() {
            let found = match below.resolve(&path_of(&names[..count].join(&b'/'))) {
                // Links in a circle, for instance: the copy will say what is wrong.
                Err(_) => return Ok(None),
                Ok(None) => continue,
                Ok(Some(found)) => found,
            };
            let existing = found.path.as_os_str().as_bytes().to_owned();
            let is_directory = is_directory(destination);
            if found.metadata.kind != Kind::Directory {
                let is_replaced = are_files && count == names.len() && !is_directory;
                let (existing, name) = split(&existing);
                let place =
                    Place { existing: existing.to_owned(), rest: vec![name.to_owned()], is_directory };
                return Ok(is_replaced.then_some(place));
            }
            let rest: Vec<Vec<u8>> = names[count..].iter().map(|name| name.to_vec()).collect();
            if let Some(next) = rest.first() {
                let holder = open_exact(below.as_fd(), &existing).at("open", path_of(&existing))?;
                // A link that leads nowhere: the copy would make what it leads to.
                if lookup(holder.as_fd(), next).at("read the metadata of", path_of(next))?.is_some() {
                    return Ok(None);
                }
            }
            return Ok(Some(Place { existing, rest, is_directory }));
        }
        Ok(None)
    }

    fn path(&self) -> PathBuf {
        let mut path = vec![b'/'];
        path.extend_from_slice(&self.rest.iter().fold(self.existing.clone(), |path, name| join(&path, name)));
        if self.is_directory && path.len() > 1 {
            path.push(b'/');
        }
        path_of(&path)
    }
}

struct Lift<'a> {
    below: &'a Root,
    tree: &'a Root,
    /// The directories that were made, parents first, and the times they are to have.
    made: Vec<(Vec<u8>, Metadata)>,
}

impl Lift<'_> {
    /// Makes the directories on the way to `path`, and itself; `false` if one cannot be made alike.
    fn way(&mut self, path: &[u8]) -> Result<bool> {
        let mut here = Vec::new();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            here = join(&here, name);
            if !self.directory(&here)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a source meets in its destination; `false` if that is not simple.
    fn source(&mut self, selected: &Selected, place: &Place) -> Result<bool> {
        if !place.rest.is_empty() {
            return Ok(true);
        }
        let holder = open_exact(self.below.as_fd(), &place.existing).at("open", path_of(&place.existing))?;
        if selected.metadata.kind == Kind::Directory {
            return self.entries(&selected.entries, &place.existing, holder);
        }
        let path = join(&place.existing, &selected.name);
        let found = lookup(holder.as_fd(), &selected.name).at("read the metadata of", path_of(&path))?;
        Ok(found.is_none_or(|found| found.kind != Kind::Directory))
    }

    /// Goes through the entries of a selected directory, which come with each directory before what is in it.
    fn entries(&mut self, entries: &[Entry], base: &[u8], base_fd: OwnedFd) -> Result<bool> {
        let mut absent: Option<&[u8]> = None;
        let mut open: (&[u8], OwnedFd) = (b"", base_fd);
        for entry in entries {
            if absent.is_some_and(|absent| is_below(&entry.path, absent)) {
                continue;
            }
            let path = join(base, &entry.path);
            let (parent, name) = split(&entry.path);
            if open.0 != parent {
                let (holder, _) = split(&path);
                open = (parent, open_exact(self.below.as_fd(), holder).at("open", path_of(holder))?);
            }
            let found = lookup(open.1.as_fd(), name).at("read the metadata of", path_of(&path))?;
            let is_dir = entry.metadata.kind == Kind::Directory;
            let is_simple = match found.map(|found| found.kind == Kind::Directory) {
                None if is_dir => {
                    absent = Some(&entry.path);
                    true
                }
                None => true,
                Some(true) => is_dir && self.directory(&path)?,
                // A file takes the place of a file.
                Some(false) => !is_dir,
            };
            if !is_simple {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the directory `path` in the tree as it is below, unless it is there; its parent is. `false` if it has
    /// attributes that cannot be carried over.
    fn directory(&mut self, path: &[u8]) -> Result<bool> {
        let (parent, name) = split(path);
        let holder = open_exact(self.tree.as_fd(), parent).at("open", path_of(parent))?;
        match rustix::fs::mkdirat(&holder, name, Mode::RWXU) {
            // Another source made it.
            Err(Errno::EXIST) => return Ok(true),
            made => made.at("create the directory", path_of(path))?,
        }
        let from = open_exact(self.below.as_fd(), path).at("open", path_of(path))?;
        let metadata = Metadata::of(&from).at("read the metadata of", path_of(path))?;
        let Some(attributes) = xattr::of_all(from.as_fd()).at("read the attributes of", path_of(path))?
        else {
            return Ok(false);
        };
        let made = open_exact(holder.as_fd(), name).at("open", path_of(path))?;
        let dress = || {
            set_owner(&made, metadata.owner)?;
            attributes.iter().try_for_each(|(name, value)| xattr::set(made.as_fd(), name, value))?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(metadata.mode))
        };
        dress().at("set the attributes of", path_of(path))?;
        self.made.push((path.to_owned(), metadata));
        Ok(true)
    }

    fn set_times(&self) -> Result<()> {
        for (path, metadata) in self.made.iter().rev() {
            let made = open_exact(self.tree.as_fd(), path).at("open", path_of(path))?;
            set_modified(&made, metadata.modified).at("set the time of", path_of(path))?;
        }
        Ok(())
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn lookup(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<Metadata>> {
    match Metadata::at(dir, name) {
        Err(Errno::NOENT) => Ok(None),
        found => found.map(Some),
    }
}
