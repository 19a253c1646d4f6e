//! COPY and ADD of local files: from the root of a context, a stage or an image into that of a stage.
//!
//! Here: where a source goes. Not here: which files are meant ([`select()`]), what they contain
//! ([`crate::checksum`]), who a `--chown` names, what `.dockerignore` says.
//!
//! Order: [`select()`], or [`select_parents()`] for `--parents`, once; its result serves the key
//! ([`crate::checksum::digest`]) and, on a miss, [`copy()`].
//!
//! The rules, by their numbers in the study of BuildKit: a destination that ends in a slash, or is the root, is
//! a directory, made if it is missing (1); a directory's contents are copied, not it (3); a file goes into a
//! directory that is there under its name, else it becomes the destination, the last of several (4); links in
//! the destination's path are followed inside the root (7); missing directories are made 0755 or with an octal
//! `--chmod`, owned by `--chown` (8); a destination directory that is there keeps its metadata and its time,
//! directories below it take those of the source (9), save that one which is there and is only passed through to
//! what is in it takes the mode alone (16, 17); a file never replaces a directory, nor a directory a
//! file (10); modes with all bits, times to the nanosecond, attributes, hard links inside one source and
//! special files are kept (11); owner and mode can be overridden (12 to 14); ADD unpacks archives (18).
//!
//! Invariants: the sources are read as they were selected, or the copy fails; nothing is written outside of
//! the target root, whatever links are in it or are put in it meanwhile.

mod archive;
mod beside;
mod data;
mod file;
mod mode;
mod parents;
mod select;
mod tree;

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

pub use self::archive::any_decoder;
pub use self::beside::bring_up;
use self::file::{Copier, Spot};
pub use self::mode::ModeChange;
pub use self::parents::select_parents;
pub use self::select::{Filters, Matcher, Selected, Selection, select};
use crate::confined::{Kind, Metadata, Owner, Place, Root, open_exact, set_modified};
use crate::walk::Entry;
use crate::{IoResultExt, Result};

/// What the copy does to the metadata of what it copies.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The owner of everything copied or made. Without it files keep theirs and directories made are root's.
    /// Files of a build context are root's unless `--chown` says otherwise, so it is never `None` for them.
    pub owner: Option<Owner>,
    /// `--chmod`; does not apply to links.
    pub mode: Option<ModeChange>,
    /// Whether a selected file that is an archive is unpacked into the destination, as ADD does.
    pub unpack: bool,
}

/// What came of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many extended attributes the target's file system did not take.
    pub dropped_attributes: usize,
}

/// Copies a selection of `source` to `destination` in `target`. The destination is absolute, and as written
/// where it ends: a last `/` or `/.` says that it is a directory.
///
/// # Errors
/// [`crate::Error::ReplaceDirectory`] and [`crate::Error::NotADirectory`] where types are in conflict,
/// [`crate::Error::SourceChanged`], [`crate::Error::Unpackable`] for a whiteout, [`crate::Error::File`].
pub fn copy(
    source: &Root,
    selection: &Selection,
    target: &Root,
    destination: &Path,
    options: &Options,
) -> Result<Copied> {
    let copier = Copier { options, ways: data::Ways::default(), dropped: AtomicUsize::new(0) };
    for selected in &selection.sources {
        if selected.metadata.kind == Kind::Directory {
            copy_directory(&copier, source, selected, target, destination)?;
        } else if !options.unpack || !archive::unpack(&copier, source, selected, target, destination)? {
            copy_file(&copier, source, selected, target, destination)?;
        }
    }
    Ok(Copied { dropped_attributes: copier.dropped.into_inner() })
}

/// Whether a destination as written can only be a directory.
pub fn is_directory(destination: &Path) -> bool {
    let text = destination.as_os_str().as_bytes();
    matches!(text, b"" | b".") || text.ends_with(b"/") || text.ends_with(b"/.")
}

fn copy_directory(
    copier: &Copier<'_>,
    source: &Root,
    selected: &Selected,
    target: &Root,
    destination: &Path,
) -> Result<()> {
    let (to, _) = target.open_or_make_dir(destination, &copier.new_directory())?;
    let before = Metadata::of(&to).at("read the metadata of", destination)?;
    let from = open_exact(source.as_fd(), selected.path.as_os_str().as_bytes()).at("open", &selected.path)?;
    let pair = tree::Pair {
        source: from.as_fd(),
        source_path: &selected.path,
        target: to.as_fd(),
        target_path: destination,
    };
    tree::copy(copier, pair, selected)?;
    set_modified(&to, before.modified).at("set the time of", destination)
}

fn copy_file(
    copier: &Copier<'_>,
    source: &Root,
    selected: &Selected,
    target: &Root,
    destination: &Path,
) -> Result<()> {
    let new = copier.new_directory();
    let place = if is_directory(destination) {
        let (fd, _) = target.open_or_make_dir(destination, &new)?;
        Place::Directory { fd, path: destination.to_owned() }
    } else {
        target.place(destination, &new)?
    };
    let (to, name, path) = match place {
        Place::Directory { fd, path } => {
            let path = path.join(crate::confined::path_of(&selected.name));
            (fd, selected.name.clone(), path)
        }
        Place::Entry { parent, name, path } => (parent, name.as_bytes().to_owned(), path),
    };
    let before = Metadata::of(&to).at("read the metadata of", destination)?;
    let entry = Entry { path: selected.path.as_os_str().as_bytes().to_owned(), metadata: selected.metadata };
    let from = open_exact(source.as_fd(), entry.parent()).at("open", &selected.path)?;
    let from = Spot { dir: from.as_fd(), name: entry.name() };
    copier
        .copy(from, &entry.metadata, Spot { dir: to.as_fd(), name: &name }, &mut Vec::new())
        .map_err(|fault| fault.named(|| selected.path.clone(), || path))?;
    set_modified(&to, before.modified).at("set the time of", destination)
}
