//! A whole file system out of the store: flat, as entries of a tar, or as a directory of this machine.
//!
//! The tar is the file system as it is. The directory is for somebody who wants the files: they are its owner's, and
//! what would act on this machine stays away ([`Flat::inert`]). It is filled beside its place and then moved, file by
//! file where there is a directory already; whatever stands in the way of that is found before anything is moved.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::confined::{open_exact, path_of};
use crate::diff::{self, Change, read_exactly};
use crate::entry::{Entry, Kind};
use crate::ingest::random_name;
use crate::layer::tar::Writer;
use crate::layer::unpack::{self, Destination, Whiteouts};
use crate::remove::{is_dir, names, remove_tree};
use crate::snapshot::{Below, Changes, Layout, View};
use crate::walk::join;
use crate::{Error, IoResultExt, Result};

/// How a file system becomes entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flat {
    /// The folder that everything is in; empty for none.
    pub folder: Vec<u8>,
    /// The latest time that may stand in an entry, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Whether access control lists stand in entries.
    pub acls: bool,
    /// Owner and group of everything, where nothing may act on this machine: there are no devices, no set-id bits, and
    /// no attributes but `user.`, since others give power to programs.
    pub inert: Option<(u32, u32)>,
}

/// A program with one of these runs as its owner or group.
const SET_IDS: u32 = 0o6000;

/// Writes all that `view` shows to `tar`, in order of the paths.
///
/// # Errors
/// When a file cannot be read or the archive cannot be written.
pub fn write<W: Write>(view: &View, flat: &Flat, tar: &mut Writer<W>) -> Result<()> {
    let written = |source| Error::WriteArchive { source };
    let upper = view.root().try_clone_to_owned().at("open", "/")?;
    let mut buffer = vec![0; 256 * 1024];
    let all = Changes { upper, layout: Layout::Layers, lower: None };
    diff::walk(&all, flat.acls, &mut |change| {
        // Where there is nothing below, nothing is deleted.
        let Change::Put { entry, content } = change else { return Ok(()) };
        let path = path_of(&entry.path);
        let Some(entry) = flat.entry(entry) else { return Ok(()) };
        tar.entry(&entry).map_err(written)?;
        let (Kind::File { size }, Some(mut file)) = (&entry.kind, content) else { return Ok(()) };
        read_exactly(&mut file, *size, &mut buffer, |piece| tar.write_data(piece))
            .map_err(|source| Error::Pack { path, source })
    })
}

impl Flat {
    fn entry(&self, mut entry: Entry) -> Option<Entry> {
        entry.path = join(&self.folder, &entry.path);
        if let Kind::HardLink { target } = &mut entry.kind {
            *target = join(&self.folder, target);
        }
        entry.mtime.seconds = self.epoch.map_or(entry.mtime.seconds, |epoch| epoch.min(entry.mtime.seconds));
        let Some((uid, gid)) = self.inert else { return Some(entry) };
        if matches!(entry.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. }) {
            return None;
        }
        entry.mode &= !SET_IDS;
        entry.xattrs.retain(|name, _| name.starts_with(b"user."));
        (entry.uid, entry.gid) = (uid, gid);
        Some(entry)
    }
}

/// Fills the directory `path` with the archive that `write` makes. One that is there keeps what the archive does not
/// have; one that is not is made.
///
/// # Errors
/// When the archive cannot be made, or something that is no directory is where one has to be, or the other way round.
pub fn fill_directory(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()> + Send) -> Result<()> {
    let is_new = !path.exists();
    std::fs::create_dir_all(path).at("create", path)?;
    let filled = fill(path, write);
    if filled.is_err() && is_new {
        // The error that matters is the one being returned.
        let _left_over = std::fs::remove_dir(path);
    }
    filled
}

fn fill(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()> + Send) -> Result<()> {
    let target = crate::ingest::open_dir(path).at("open", path)?;
    let name = format!(".{}", random_name());
    let work = path.join(&name);
    std::fs::create_dir(&work).at("create", &work)?;
    let done = unpack_into(&work, write).and_then(|()| {
        let source = crate::ingest::open_dir(&work).at("open", &work)?;
        settle(&source, &target, path, &name, false)?;
        settle(&source, &target, path, &name, true)
    });
    // What is left are the directories that were there already. The error that matters is the one being returned.
    let _left_over = remove_tree(&target, name.as_bytes());
    done
}

/// Writes in a thread of its own what is unpacked here.
fn unpack_into(work: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()> + Send) -> Result<()> {
    let (reader, mut writer) = std::io::pipe().at("make a pipe for", work)?;
    let root = crate::ingest::open_dir(work).at("open", work)?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || write(&mut writer));
        let options = unpack::Options { whiteouts: Whiteouts::Literal, ..unpack::Options::default() };
        let read =
            unpack::unpack(reader, Destination { root: root.as_fd(), below: Below::Nothing }, &options);
        let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (written, read) {
            // Who reads no more has said why.
            (Err(Error::WriteArchive { .. }), Err(error)) => Err(error),
            (written, read) => written.and(read.map(drop)),
        }
    })
}

/// Moves everything below `source` to its place below `target`, or looks whether that can be.
fn settle(source: &OwnedFd, target: &OwnedFd, path: &Path, work: &str, is_earnest: bool) -> Result<()> {
    let mut dirs = vec![Vec::new()];
    while let Some(dir) = dirs.pop() {
        let at = |name: &[u8]| path.join(path_of(&join(&dir, name)));
        let from = open_exact(source.as_fd(), &dir).at("open", path.join(work))?;
        let to = open_exact(target.as_fd(), &dir).at("open", at(b""))?;
        for name in names(&from).at("list", at(b""))? {
            let new = statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW).at("look at", at(&name))?;
            let old = match statat(&to, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => None,
                stat => Some(stat.at("look at", at(&name))?),
            };
            match old.map(|old| is_dir(old.st_mode)) {
                Some(true) if is_dir(new.st_mode) => {
                    dirs.push(join(&dir, &name));
                    continue;
                }
                Some(true) => return Err(Error::ReplaceDirectory { path: at(&name) }),
                Some(false) if is_dir(new.st_mode) && is_earnest => {
                    unlinkat(&to, &name, AtFlags::empty()).at("replace", at(&name))?;
                }
                _ => {}
            }
            if is_earnest {
                renameat(&from, &name, &to, &name).at("create", at(&name))?;
            }
        }
    }
    Ok(())
}
