//! Deletions: what a layer says is gone from the layers below it.
//!
//! They never touch what the layer itself has made, before or after: that is what the upper directory has.
//! (OCI image-spec, layer.md, "Whiteouts": the order within a layer does not matter.)

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, ResolveFlags, fstat, statat};
use rustix::io::Errno;

use super::Unpacker;
use super::place::resolve_dir;
use crate::entry::{Time, is_whiteout};
use crate::layer::pack::split;
use crate::remove::{is_dir, names, open_dir, remove_tree};
use crate::whiteout::join;

/// What this layer has made at a path.
enum Made {
    Nothing,
    Directory,
    Other,
}

impl Unpacker<'_> {
    /// Hides `name` of lower layers in `dir`.
    pub(super) fn hide(&mut self, dir: &[u8], name: &[u8]) -> rustix::io::Result<()> {
        // Nothing lies below a bottom layer.
        let Some(upper) = self.destination.upper else { return Ok(()) };
        let Some(dir) = self.parents.canonical(dir)? else { return Ok(()) };
        let path = join(&dir, name);
        match made(upper, &path)? {
            Made::Nothing => {
                let parent = self.parents.open(&dir, &mut self.times)?;
                remove_tree(&parent, name)?;
                self.parents.forget();
                Ok(())
            }
            Made::Directory => self.hide_lower(upper, &path),
            Made::Other => Ok(()),
        }
    }

    /// Hides everything of lower layers in `dir`.
    pub(super) fn hide_children(&mut self, dir: &[u8]) -> rustix::io::Result<()> {
        let Some(upper) = self.destination.upper else { return Ok(()) };
        match self.parents.canonical(dir)? {
            Some(dir) => self.hide_lower(upper, &dir),
            None => Ok(()),
        }
    }

    /// Removes from `dir`, which has no links in its path, what this layer has not made, at every depth.
    fn hide_lower(&mut self, upper: BorrowedFd<'_>, dir: &[u8]) -> rustix::io::Result<()> {
        let merged: OwnedFd = open_dir(self.parents.look_up(dir)?, b".")?;
        if !self.times.contains_key(dir) {
            self.times.insert(dir.to_vec(), Time::of(&fstat(&merged)?));
        }
        for name in names(&merged)? {
            let path = join(dir, &name);
            match made(upper, &path)? {
                Made::Nothing => {
                    remove_tree(&merged, &name)?;
                }
                Made::Directory => self.hide_lower(upper, &path)?,
                Made::Other => {}
            }
        }
        self.parents.forget();
        Ok(())
    }
}

fn made(upper: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Made> {
    let (dir, name) = split(path);
    let strict = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let dir = if dir.is_empty() { b"." } else { dir };
    let found = resolve_dir(upper, dir, strict).and_then(|dir| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
    match found {
        Ok(stat) if is_whiteout(&stat) => Ok(Made::Nothing),
        Ok(stat) if is_dir(stat.st_mode) => Ok(Made::Directory),
        Ok(_) => Ok(Made::Other),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Made::Nothing),
        Err(errno) => Err(errno),
    }
}
