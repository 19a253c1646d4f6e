//! Snapshots as whole trees, for where no layers can be stacked: each is a copy of its parent, by shared extents where
//! the file system has them, which is then changed.
//!
//! ```text
//! trees/<id>/fs          all that the snapshot shows
//! trees/<id>/meta.json   as in `snapshots/`
//! ingest/<random>/fs     the same while it is active, locked
//! ```
//!
//! What a snapshot changed is found by comparing it with its parent ([`crate::diff`]), file by file and byte by byte:
//! neither times nor lengths prove that a file is what it was. That a directory is the parent's, and not another one in
//! its place, is proved by a mark that the copy puts on it.
//!
//! Order of a copy: all below the root, the marks, what is put on top, the root's attributes and time. Access control lists
//! come after the files, since a directory that has some gives them to what is made in it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, fstat, openat};
use rustix::io::Errno;

use super::overlay::{Overlay, PLAIN};
use super::{Active, Changes, Layout, SnapshotId, Snapshotter, View, open_at};
use crate::confined::{Kind, Root, open_exact, path_of, xattr};
use crate::copy::{self, Filters, Selection};
use crate::ingest::NewDir;
use crate::lease::Lease;
use crate::mount::bind;
use crate::remove::remove_tree;
use crate::walk::{Entry, split};
use crate::whiteout::COPIED_XATTR;
use crate::xattr::is_acl;
use crate::{IoResultExt, Result};

/// Whole trees in a store.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    /// Names and places are as those of layers.
    names: Overlay,
}

impl Copies {
    pub(super) fn new(root: &Path, lease: Arc<Lease>) -> Copies {
        Copies { names: Overlay::names(root, Layout::Trees, lease) }
    }

    /// A new directory with all that `parent` shows, and `layer` on top of it.
    fn copy_of(&self, parent: &SnapshotId, layer: Option<SnapshotId>) -> Result<NewDir> {
        let dir = self.names.new_dir(&PLAIN)?;
        let (source, to) = (self.tree(parent)?, dir.path.join("fs"));
        let target = open_at(&to)?;
        let all = everything_in(source.as_fd())?;
        put(&source, &all, &target).map_err(|error| error.below(&to))?;
        mark(&source, &all, &target).at("mark the directories of", &to)?;
        if let Some(layer) = layer {
            let source = self.tree(&layer)?;
            let all = everything_in(source.as_fd())?;
            make_way(&all, &target).at("make way in", &to)?;
            put(&source, &all, &target).map_err(|error| error.below(&to))?;
        }
        self.names.copy_root(parent, &dir)?;
        Ok(dir)
    }

    fn tree(&self, id: &SnapshotId) -> Result<OwnedFd> {
        open_at(&self.names.dir(id).join("fs"))
    }

    fn view_of(&self, id: &SnapshotId) -> Result<View> {
        let attributes = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY;
        Ok(View { root: bind(self.tree(id)?, attributes)?, _lease: Arc::clone(&self.names.lease) })
    }
}

impl Snapshotter for Copies {
    fn layout(&self) -> Layout {
        Layout::Trees
    }

    fn prepare(&self, parent: Option<&SnapshotId>) -> Result<Active> {
        let ancestors = parent.map(|id| self.names.stack(id)).transpose()?.unwrap_or_default();
        let dir = match ancestors.first() {
            Some(parent) => self.copy_of(parent, None)?,
            None => self.names.new_dir(&PLAIN)?,
        };
        let root = bind(open_at(&dir.path.join("fs"))?, libc::MOUNT_ATTR_NODEV)?;
        Ok(Active { root, upper: None, dir, ancestors, lease: Arc::clone(&self.names.lease) })
    }

    fn commit(&self, active: Active, id: &SnapshotId) -> Result<()> {
        self.names.commit(active, id)
    }

    fn restack(&self, parent: Option<&SnapshotId>, layer: &SnapshotId, id: &SnapshotId) -> Result<()> {
        let Some((base, meta)) = self.names.restacking(parent, layer, id)? else { return Ok(()) };
        let dir = self.copy_of(&base, meta.restacks.filter(|layer| *layer != base))?;
        self.names.publish(dir, &meta, id)
    }

    fn alias(&self, id: &SnapshotId, name: &SnapshotId) -> Result<()> {
        self.names.alias(id, name)
    }

    fn resolve(&self, name: &SnapshotId) -> SnapshotId {
        self.names.resolve(name)
    }

    fn hold(&self, id: &SnapshotId) -> Result<bool> {
        self.names.hold(id)
    }

    fn contains(&self, id: &SnapshotId) -> bool {
        self.names.contains(id)
    }

    fn ancestors(&self, id: &SnapshotId) -> Result<Vec<SnapshotId>> {
        self.names.ancestors(id)
    }

    fn view(&self, id: &SnapshotId) -> Result<View> {
        let stack = self.names.stack(id)?;
        self.view_of(stack.first().unwrap_or(id))
    }

    fn changes(&self, id: &SnapshotId) -> Result<Changes> {
        let (id, ancestors) = self.names.changed(id)?;
        let lower = ancestors.first().map(|parent| self.view_of(parent)).transpose()?;
        Ok(Changes { upper: self.tree(&id)?, layout: Layout::Trees, lower })
    }

    fn remove(&self, id: &SnapshotId) -> Result<u64> {
        self.names.remove(id)
    }
}

fn everything_in(root: BorrowedFd<'_>) -> Result<Selection> {
    let filters = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    copy::select(&Root::duplicate(root)?, &["/"], &filters)
}

/// Copies all that is in a tree into another one, whose root keeps its own metadata.
fn put(source: &OwnedFd, all: &Selection, target: &OwnedFd) -> Result<()> {
    let (from, to) = (Root::duplicate(source.as_fd())?, Root::duplicate(target.as_fd())?);
    copy::copy(&from, all, &to, Path::new("/"), &copy::Options::default())?;
    let siblings = all.sources.iter().flat_map(|source| source.entries.chunk_by(are_siblings));
    siblings.collect::<Vec<_>>().par_iter().try_for_each(|siblings| {
        let parent = siblings[0].parent();
        give_lists(source, siblings, target).at("copy the access control lists in", path_of(parent))
    })
}

fn are_siblings(one: &Entry, other: &Entry) -> bool {
    one.parent() == other.parent()
}

/// Makes the access control lists of files of one directory what they are in the source: COPY copies none.
fn give_lists(source: &OwnedFd, siblings: &[Entry], target: &OwnedFd) -> rustix::io::Result<()> {
    let parent = siblings[0].parent();
    let (from, to) = (open_exact(source.as_fd(), parent)?, open_exact(target.as_fd(), parent)?);
    let (from, to) = (from.as_fd(), to.as_fd());
    // Nothing else has any that travel.
    let may_have = |entry: &&Entry| matches!(entry.metadata.kind, Kind::File | Kind::Directory);
    for name in siblings.iter().filter(may_have).map(Entry::name) {
        let (own, inherited) = (xattr::list_at(from, name)?, xattr::list_at(to, name)?);
        for list in acls(&inherited).filter(|list| acls(&own).all(|own| own != *list)) {
            xattr::remove_at(to, name, list)?;
        }
        for list in acls(&own) {
            xattr::set_at(to, name, list, &xattr::value_at(from, name, list)?)?;
        }
    }
    Ok(())
}

fn acls(list: &[u8]) -> impl Iterator<Item = &CStr> {
    xattr::names(list).filter(|name| is_acl(name.to_bytes()))
}

/// Removes from `target` what is in the way of a tree that is to be put there: a directory where that has none, or
/// something else where it has one.
fn make_way(all: &Selection, target: &OwnedFd) -> rustix::io::Result<()> {
    for entry in all.sources.iter().flat_map(|source| &source.entries) {
        let (parent, name) = split(&entry.path);
        let holder = match open_exact(target.as_fd(), parent) {
            // Nothing of the parent's is there any more.
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            holder => holder?,
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&holder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            found => fstat(found?)?,
        };
        let is_directory = crate::remove::is_dir(found.st_mode);
        if is_directory != (entry.metadata.kind == Kind::Directory) {
            remove_tree(&holder, name)?;
        }
    }
    Ok(())
}

/// Marks every directory of a copy with the inode of the original; none if the file system has no such attributes.
fn mark(source: &OwnedFd, all: &Selection, target: &OwnedFd) -> rustix::io::Result<()> {
    let directories = all.sources.iter().flat_map(|source| &source.entries);
    let directories = directories.filter(|entry| entry.metadata.kind == Kind::Directory);
    let root = std::iter::once((&[][..], fstat(source)?.st_ino));
    for (path, inode) in root.chain(directories.map(|entry| (entry.path.as_slice(), entry.metadata.inode.1)))
    {
        let directory = open_exact(target.as_fd(), path)?;
        match fsetxattr(&directory, COPIED_XATTR, &inode.to_le_bytes(), XattrFlags::empty()) {
            // The root comes first, and without its mark nobody looks for others.
            Err(Errno::NOTSUP | Errno::PERM) if path.is_empty() => return Ok(()),
            marked => marked?,
        }
    }
    Ok(())
}

/// The inode of the directory that this one was copied from, if it was.
pub(crate) fn original_of(directory: impl AsFd) -> rustix::io::Result<Option<u64>> {
    let mut value = [0; 8];
    match fgetxattr(directory, COPIED_XATTR, &mut value) {
        Ok(8) => Ok(Some(u64::from_le_bytes(value))),
        Ok(_) | Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(None),
        Err(errno) => Err(errno),
    }
}
