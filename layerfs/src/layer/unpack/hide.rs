//! Deletions: what a layer says is gone from the layers below it.
//!
//! They never touch what the layer itself has made, before or after: that is what the upper directory has, but
//! for what a link to a lower file has brought up (`borrowed`). (OCI image-spec, layer.md, "Whiteouts": the
//! order within a layer does not matter.) So a file goes only at the end, when no link can mean it any more;
//! a directory or a link goes at once, because what comes later must not be put into it or behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, fstat, statat, unlinkat};
use rustix::io::Errno;

use super::Unpacker;
use super::place::{DirTime, Origin};
use crate::confined::look_up_exact;
use crate::entry::{Time, is_whiteout};
use crate::remove::{is_dir, names, open_dir, remove_tree};
use crate::walk::{join, split};

/// What is to be known of the lower layers' files until the end of the layer. Each path is that of a file that
/// is there, without links in it, so an archive cannot make this larger than the layers below.
#[derive(Default)]
pub(super) struct Lower {
    /// Files in the upper directory only because the layer links to them, with their inodes there: another
    /// inode is another file, which the layer has put in their place.
    borrowed: BTreeMap<Vec<u8>, u64>,
    /// Files that the layer deletes.
    hidden: BTreeSet<Vec<u8>>,
}

/// What this layer has made at a path.
enum Made {
    Nothing,
    Directory,
    Other,
}

impl Unpacker<'_> {
    /// Hides `name` of lower layers in `dir`.
    pub(super) fn hide(&mut self, dir: &[u8], name: &[u8]) -> rustix::io::Result<()> {
        if let Some(later) = &mut self.later {
            later.hide(dir, name);
        }
        // Nothing lies below a bottom layer.
        let Some(upper) = self.destination.upper else { return Ok(()) };
        let Some(dir) = self.parents.canonical(dir)? else { return Ok(()) };
        let path = join(&dir, name);
        match self.made(open_upper(upper, &dir)?.as_ref(), &path)? {
            Made::Nothing => {
                let parent = self.parents.open(&dir, &mut self.times)?;
                match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => {}
                    stat if FileType::from_raw_mode(stat?.st_mode) == FileType::RegularFile => {
                        self.lower.hidden.insert(path);
                    }
                    _ => {
                        remove_tree(&parent, name)?;
                        self.parents.forget();
                    }
                }
                Ok(())
            }
            Made::Directory => {
                self.hide_lower(upper, path)?.into_iter().try_for_each(|dir| self.remove_unmade(&dir))
            }
            Made::Other => Ok(()),
        }
    }

    /// Hides everything of lower layers in `dir`.
    pub(super) fn hide_children(&mut self, dir: &[u8]) -> rustix::io::Result<()> {
        if let Some(later) = &mut self.later {
            later.hide_children(dir);
        }
        let Some(upper) = self.destination.upper else { return Ok(()) };
        match self.parents.canonical(dir)? {
            Some(dir) => {
                let mut left = self.hide_lower(upper, dir)?;
                // The directory itself stays.
                left.pop();
                left.iter().try_for_each(|dir| self.remove_unmade(dir))
            }
            None => Ok(()),
        }
    }

    /// The path of `name` in `dir`, without links in it, if it is not this layer's own.
    pub(super) fn foreign(&self, dir: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        let Some(upper) = self.destination.upper else { return Ok(None) };
        let Some(dir) = self.parents.canonical(dir)? else { return Ok(None) };
        let path = join(&dir, name);
        let made = self.made(open_upper(upper, &dir)?.as_ref(), &path)?;
        Ok(matches!(made, Made::Nothing).then_some(path))
    }

    /// Remembers that the file at `path` is not this layer's own, though a link has brought it up.
    pub(super) fn borrow(&mut self, path: Vec<u8>) -> rustix::io::Result<()> {
        let Some(upper) = self.destination.upper else { return Ok(()) };
        let (dir, name) = split(&path);
        if let Some(dir) = open_upper(upper, dir)? {
            let inode = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
            self.lower.borrowed.insert(path, inode);
        }
        Ok(())
    }

    /// Removes the files that were hidden and not made since. To be called when all is made; a failure comes with
    /// the file's path.
    pub(super) fn remove_hidden(&mut self) -> std::result::Result<(), (Vec<u8>, Errno)> {
        for path in std::mem::take(&mut self.lower.hidden) {
            let (dir, name) = split(&path);
            let remove = |unpacker: &mut Unpacker<'_>| match unpacker.foreign(dir, name)? {
                Some(found) if found == path => {
                    remove_tree(unpacker.parents.open(dir, &mut unpacker.times)?, name).map(drop)
                }
                // The layer has put something there, or a link in the path.
                _ => Ok(()),
            };
            remove(self).map_err(|errno| (path.clone(), errno))?;
        }
        Ok(())
    }

    /// Removes from `dir`, which has no links in its path, what this layer has not made, at every depth. Gives the
    /// directories that stay, `dir` last, each after those in it.
    fn hide_lower(&mut self, upper: BorrowedFd<'_>, dir: Vec<u8>) -> rustix::io::Result<Vec<Vec<u8>>> {
        let mut left = vec![dir];
        let mut seen = Vec::new();
        while let Some(dir) = left.pop() {
            let merged: OwnedFd = open_dir(look_up_exact(self.destination.root, &dir)?, b".")?;
            let upper_dir = open_upper(upper, &dir)?;
            if !self.times.contains_key(&dir) {
                let time = Time::of(&fstat(&merged)?);
                self.times.insert(dir.clone(), DirTime { time, origin: Origin::Found });
            }
            for name in names(&merged)? {
                let path = join(&dir, &name);
                match self.made(upper_dir.as_ref(), &path)? {
                    Made::Nothing => drop(remove_tree(&merged, &name)?),
                    Made::Directory => left.push(path),
                    Made::Other => {}
                }
            }
            seen.push(dir);
        }
        self.parents.forget();
        seen.reverse();
        Ok(seen)
    }

    /// Removes a directory that is in the upper directory only because something was deleted from it.
    fn remove_unmade(&mut self, dir: &[u8]) -> rustix::io::Result<()> {
        let (parent, name) = split(dir);
        if dir.is_empty() || self.times.get(dir).is_some_and(|planned| planned.origin != Origin::Found) {
            return Ok(());
        }
        let parent = self.parents.open(parent, &mut self.times)?;
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            // Something of this layer's is in it.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            removed => removed,
        }
    }

    /// What the layer has made at `path`, whose directory in the upper directory is `upper`.
    fn made(&self, upper: Option<&OwnedFd>, path: &[u8]) -> rustix::io::Result<Made> {
        let Some(upper) = upper else { return Ok(Made::Nothing) };
        match statat(upper, split(path).1, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => Ok(Made::Nothing),
            Ok(stat) if self.lower.borrowed.get(path) == Some(&stat.st_ino) => Ok(Made::Nothing),
            Ok(stat) if is_dir(stat.st_mode) => Ok(Made::Directory),
            Ok(_) => Ok(Made::Other),
            Err(Errno::NOENT) => Ok(Made::Nothing),
            Err(errno) => Err(errno),
        }
    }
}

/// The directory of this path in the upper directory; none if the layer has made nothing there.
fn open_upper(upper: BorrowedFd<'_>, dir: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    match look_up_exact(upper, dir) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
