//! Deletions: what a layer says is gone from the layers below it.
//!
//! They never touch what the layer itself has made, before or after: that is what the upper directory has, but
//! for what a link to a lower file has brought up (`borrowed`). Where what lies below is mixed with it, the paths of
//! what was made are remembered (`own`), as hashes: so they take far less memory than what is made takes of the disk.
//! (OCI image-spec, layer.md, "Whiteouts": the order within a layer does not matter.) So a file goes only at the end,
//! when no link can mean it any more; a directory or a link goes at once, because what comes later must not be put
//! into it or behind it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, statat, unlinkat};
use rustix::io::Errno;

use super::Unpacker;
use super::place::{Origin, remember};
use crate::confined::look_up_exact;
use crate::entry::is_whiteout;
use crate::remove::{is_dir, names, open_dir, remove_tree};
use crate::snapshot::Below;
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
    /// What the layer has made, with the directories on the way to it, if nothing else tells.
    own: HashSet<PathHash>,
}

/// Enough of a path's BLAKE3 that no archive can have two paths by one.
type PathHash = [u8; 32];

fn hash(path: &[u8]) -> PathHash {
    *blake3::hash(path).as_bytes()
}

/// A directory, as it was before this layer and as it is.
enum Mine {
    /// The one of the upper directory; none if the layer has made nothing in it.
    Upper(Option<OwnedFd>),
    /// The merged one; none if it is gone.
    Merged(Option<OwnedFd>),
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
            return Ok(());
        }
        let Some(dir) = self.canonical_above(dir)? else { return Ok(()) };
        let path = join(&dir, name);
        match self.made(&self.mine(&dir)?, &path)? {
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
                self.hide_lower(path)?.into_iter().try_for_each(|dir| self.remove_unmade(&dir))
            }
            Made::Other => Ok(()),
        }
    }

    /// Hides everything of lower layers in `dir`.
    pub(super) fn hide_children(&mut self, dir: &[u8]) -> rustix::io::Result<()> {
        if let Some(later) = &mut self.later {
            later.hide_children(dir);
            return Ok(());
        }
        match self.canonical_above(dir)? {
            Some(dir) => {
                let mut left = self.hide_lower(dir)?;
                // The directory itself stays.
                left.pop();
                left.iter().try_for_each(|dir| self.remove_unmade(dir))
            }
            None => Ok(()),
        }
    }

    /// The path of `name` in `dir`, without links in it, if it is not this layer's own.
    pub(super) fn foreign(&self, dir: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        let Some(dir) = self.canonical_above(dir)? else { return Ok(None) };
        let path = join(&dir, name);
        let made = self.made(&self.mine(&dir)?, &path)?;
        Ok(matches!(made, Made::Nothing).then_some(path))
    }

    /// Remembers that the file at `path` is not this layer's own, though a link has brought it up.
    pub(super) fn borrow(&mut self, path: Vec<u8>) -> rustix::io::Result<()> {
        let Below::Apart { upper } = self.destination.below else { return Ok(()) };
        let (dir, name) = split(&path);
        if let Some(dir) = open_if_there(upper, dir)? {
            let inode = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
            self.lower.borrowed.insert(path, inode);
        }
        Ok(())
    }

    /// Remembers that the layer has made what is at `path`, if nothing else tells.
    pub(super) fn remember(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        if !matches!(self.destination.below, Below::Mixed) || path.is_empty() {
            return Ok(());
        }
        let real = self.parents.real(path)?;
        let mut path = real.as_slice();
        while !path.is_empty() && self.lower.own.insert(hash(path)) {
            path = split(path).0;
        }
        Ok(())
    }

    /// The path of a directory without links in it; none if it is not there, or if nothing lies below this layer.
    fn canonical_above(&self, dir: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
        match self.destination.below {
            Below::Nothing => Ok(None),
            Below::Apart { .. } | Below::Mixed => self.parents.canonical(dir),
        }
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
    fn hide_lower(&mut self, dir: Vec<u8>) -> rustix::io::Result<Vec<Vec<u8>>> {
        let mut left = vec![dir];
        let mut seen = Vec::new();
        while let Some(dir) = left.pop() {
            let merged: OwnedFd = open_dir(look_up_exact(self.destination.root, &dir)?, b".")?;
            let mine = self.mine(&dir)?;
            remember(&dir, &merged, &mut self.times)?;
            for name in names(&merged)? {
                let path = join(&dir, &name);
                match self.made(&mine, &path)? {
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

    /// Where to look for what the layer has made in `dir`.
    fn mine(&self, dir: &[u8]) -> rustix::io::Result<Mine> {
        match self.destination.below {
            Below::Nothing => Ok(Mine::Upper(None)),
            Below::Apart { upper } => open_if_there(upper, dir).map(Mine::Upper),
            Below::Mixed => open_if_there(self.destination.root, dir).map(Mine::Merged),
        }
    }

    /// What the layer has made at `path`, which is in `dir`.
    fn made(&self, dir: &Mine, path: &[u8]) -> rustix::io::Result<Made> {
        let dir = match dir {
            Mine::Upper(None) | Mine::Merged(None) => return Ok(Made::Nothing),
            Mine::Merged(Some(_)) if !self.lower.own.contains(&hash(path)) => return Ok(Made::Nothing),
            Mine::Upper(Some(dir)) | Mine::Merged(Some(dir)) => dir,
        };
        match statat(dir, split(path).1, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => Ok(Made::Nothing),
            Ok(stat) if self.lower.borrowed.get(path) == Some(&stat.st_ino) => Ok(Made::Nothing),
            Ok(stat) if is_dir(stat.st_mode) => Ok(Made::Directory),
            Ok(_) => Ok(Made::Other),
            Err(Errno::NOENT) => Ok(Made::Nothing),
            Err(errno) => Err(errno),
        }
    }
}

/// The directory of this path; none if there is no such directory.
fn open_if_there(root: BorrowedFd<'_>, dir: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
    match look_up_exact(root, dir) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
