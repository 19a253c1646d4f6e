//! A layer that is unpacked before the layers below it are there, so that all layers of an image are unpacked at once.
//!
//! Order: [`unpack_apart`] unpacks onto nothing and remembers what depends on what lies below: deletions, and directories
//! that the layer has something in but says nothing of. [`Apart::settle`] decides that when the parent is there, and writes
//! the deletions as overlayfs would: a device 0:0 for a name, an attribute for a directory.
//!
//! Invariant: a settled tree on its parent shows what [`super::unpack_layer`] would have made there. Where the two could
//! differ (a parent that is a link below, a hard link to a file below, something that this layer first made and then
//! replaced) the answer is that the layer has to be unpacked onto its parent, and nothing is guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use oci::DiffId;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, XattrFlags};
use rustix::fs::{fchmod, fchown, fsetxattr, fstat, futimens, mkdirat, mknodat, statat};
use rustix::io::Errno;

use super::place::{DirTime, Origin};
use super::{Destination, Options, Reader, Unpacked, Unpacker, fail, through};
use crate::confined::look_up_exact;
use crate::entry::Time;
use crate::remove::{is_dir, open_dir};
use crate::snapshot::{Active, Below};
use crate::walk::{join, split};
use crate::whiteout::OPAQUE_XATTR;
use crate::xattr::{self, Inherited};
use crate::{Error, Result};

/// How many deletions are kept in memory; a layer with more is unpacked onto its parent.
const MAX_MARKS: usize = 100_000;

/// What a layer says of what lies below it.
#[derive(Default)]
pub(super) struct Later {
    /// Paths that it deletes.
    hidden: BTreeSet<Vec<u8>>,
    /// Directories of which it deletes what lower layers have in them.
    opaque: BTreeSet<Vec<u8>>,
    /// Whether the result depends on what lies below in a way that is not looked at here.
    is_entangled: bool,
}

impl Later {
    pub(super) fn hide(&mut self, dir: &[u8], name: &[u8]) {
        self.hidden.insert(join(dir, name));
        self.is_entangled |= self.hidden.len() > MAX_MARKS;
    }

    pub(super) fn hide_children(&mut self, dir: &[u8]) {
        self.opaque.insert(dir.to_vec());
        self.is_entangled |= self.opaque.len() > MAX_MARKS;
    }

    pub(super) fn entangle(&mut self) {
        self.is_entangled = true;
    }

    pub(super) fn is_entangled(&self) -> bool {
        self.is_entangled
    }
}

/// A layer that was unpacked onto nothing.
pub struct Apart {
    unpacked: Unpacked,
    hidden: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    /// Directories of which the layer says nothing: they are as they are below, if they are there.
    implied: BTreeSet<Vec<u8>>,
}

/// Unpacks a layer, compressed or not, into `active`, which was prepared on nothing; fails unless its decompressed bytes are
/// `expected`. `None` if the layer has to be unpacked onto its parent; it was not read to its end then.
///
/// After a failure, and after `None`, `active` must be dropped.
pub fn unpack_apart(source: impl Read + Send, active: &Active, expected: DiffId) -> Result<Option<Apart>> {
    let options = Options::default();
    let destination = Destination { root: active.root(), below: Below::Nothing };
    let through = through(source, expected.0.algorithm(), |pipe| {
        let mut reader = Reader::new(pipe, options.limits);
        let mut unpacker = Unpacker::new(destination, &options);
        unpacker.later = Some(Later::default());
        let mut entries = 0;
        while let Some(entry) = reader.next_entry()? {
            unpacker.apply(entry, &mut reader)?;
            entries += 1;
            if unpacker.is_entangled() {
                return Ok(None);
            }
        }
        let implied = implied(&unpacker.times);
        unpacker.set_times()?;
        Ok(unpacker.later.map(|later| (entries, implied, later)))
    })?;
    let Some(((entries, implied, later), diff_id)) = through else { return Ok(None) };
    if diff_id != expected {
        return Err(Error::DiffId { expected, found: diff_id });
    }
    let Later { hidden, opaque, is_entangled: _ } = later;
    // What was made before and after such a deletion is not told apart here.
    let is_doubtful = |dir: &Vec<u8>| {
        hidden.contains(dir) || above(dir).any(|above| hidden.contains(above) || opaque.contains(above))
    };
    if implied.iter().any(is_doubtful) {
        return Ok(None);
    }
    Ok(Some(Apart { unpacked: Unpacked { diff_id, entries }, hidden, opaque, implied }))
}

/// The directories that are there because something is in them; the root too unless the layer has an entry for it.
fn implied(times: &BTreeMap<Vec<u8>, DirTime>) -> BTreeSet<Vec<u8>> {
    let implied = times.iter().filter(|(_, planned)| planned.origin == Origin::Implied);
    let mut implied: BTreeSet<Vec<u8>> = implied.map(|(path, _)| path.clone()).collect();
    if times.get(&b""[..]).is_none_or(|planned| planned.origin != Origin::Mentioned) {
        implied.insert(Vec::new());
    }
    implied
}

/// The directories that `path` is in, but for the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(place, _)| &path[..place])
}

impl Apart {
    /// What was unpacked.
    pub fn unpacked(&self) -> Unpacked {
        self.unpacked
    }

    /// Fits the layer, which was unpacked into `active`, onto the root of the merged view of its parent. `false` if it has to be
    /// unpacked onto the parent instead.
    ///
    /// After a failure, and after `false`, `active` must be dropped.
    pub fn settle(&self, active: &Active, below: BorrowedFd<'_>) -> Result<bool> {
        let mut settling = Settling { tree: active.root(), below, times: BTreeMap::new() };
        // The first word is the root's: its children are settled after it.
        for dir in &self.implied {
            if !settling.alike(dir).map_err(|errno| fail(dir, errno))? {
                return Ok(false);
            }
        }
        // What a directory above has lost is lost already.
        let is_lost = |path: &[u8]| above(path).any(|above| self.opaque.contains(above));
        for path in self.hidden.iter().filter(|path| !is_lost(path)) {
            if !settling.hide(path).map_err(|errno| fail(path, errno))? {
                return Ok(false);
            }
        }
        for dir in self.opaque.iter().filter(|dir| !is_lost(dir)) {
            if !settling.hide_children(dir).map_err(|errno| fail(dir, errno))? {
                return Ok(false);
            }
        }
        settling.set_times().map(|()| true)
    }
}

/// What is at a path in one of the two trees, if that is a directory.
enum Dir {
    Here(OwnedFd),
    /// Nothing is there.
    Missing,
    /// Something else is there, or on the way.
    File,
    /// A link is there, or on the way.
    Link,
}

impl Dir {
    fn at(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Dir> {
        match look_up_exact(root, path) {
            Ok(dir) => Ok(Dir::Here(open_dir(&dir, b".")?)),
            Err(Errno::NOENT) => Ok(Dir::Missing),
            Err(Errno::NOTDIR) => Ok(Dir::File),
            Err(Errno::LOOP) => Ok(Dir::Link),
            Err(errno) => Err(errno),
        }
    }
}

/// All answers are whether this can go on.
struct Settling<'a> {
    tree: BorrowedFd<'a>,
    below: BorrowedFd<'a>,
    /// The times that directories of the tree shall have at the end.
    times: BTreeMap<Vec<u8>, Time>,
}

impl Settling<'_> {
    /// Makes `dir` of the tree as it is below, if it is there.
    fn alike(&mut self, dir: &[u8]) -> rustix::io::Result<bool> {
        let from = match Dir::at(self.below, dir)? {
            Dir::Here(from) => from,
            // It takes the place of a file, or is new.
            Dir::Missing | Dir::File => return Ok(true),
            Dir::Link => return Ok(false),
        };
        let Dir::Here(to) = Dir::at(self.tree, dir)? else { return Ok(false) };
        let stat = fstat(&from)?;
        fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        xattr::replace(&to, &xattr::read(&from, true)?, Inherited::Go)?;
        fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        self.times.insert(dir.to_vec(), Time::of(&stat));
        Ok(true)
    }

    fn hide_children(&mut self, dir: &[u8]) -> rustix::io::Result<bool> {
        let own = match (Dir::at(self.tree, dir)?, Dir::at(self.below, dir)?) {
            (Dir::Link, _) | (_, Dir::Link) => return Ok(false),
            // Nothing is there to be hidden, or the layer hides it anyway.
            (Dir::File, _) | (_, Dir::Missing | Dir::File) => return Ok(true),
            (Dir::Here(own), Dir::Here(_)) => Some(own),
            (Dir::Missing, Dir::Here(_)) => self.make_way(dir)?,
        };
        own.map_or(Ok(false), |own| set_opaque(&own).map(|()| true))
    }

    fn hide(&mut self, path: &[u8]) -> rustix::io::Result<bool> {
        let (dir, name) = split(path);
        let (own, below) = match (Dir::at(self.tree, dir)?, Dir::at(self.below, dir)?) {
            (Dir::Link, _) | (_, Dir::Link) => return Ok(false),
            (Dir::File, _) | (_, Dir::Missing | Dir::File) => return Ok(true),
            (own, Dir::Here(below)) => (own, below),
        };
        let lower = match statat(below, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(true),
            lower => lower?,
        };
        let holder = match own {
            Dir::Here(holder) => Some(holder),
            _ => self.make_way(dir)?,
        };
        let Some(holder) = holder else { return Ok(false) };
        match statat(&holder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                self.touch(dir, &holder)?;
                mknodat(&holder, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            own if is_dir(own?.st_mode) && is_dir(lower.st_mode) => set_opaque(&open_dir(&holder, name)?)?,
            // What the layer has made there hides what is below anyway.
            _ => {}
        }
        Ok(true)
    }

    /// Makes `dir` and what is missing on the way to it as they are below, where they are.
    fn make_way(&mut self, dir: &[u8]) -> rustix::io::Result<Option<OwnedFd>> {
        for path in above(dir).chain([dir]) {
            let (parent, name) = split(path);
            let Dir::Here(holder) = Dir::at(self.tree, parent)? else { return Ok(None) };
            self.touch(parent, &holder)?;
            match mkdirat(&holder, name, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                made => made?,
            }
            if !self.alike(path)? {
                return Ok(None);
            }
        }
        Ok(match Dir::at(self.tree, dir)? {
            Dir::Here(dir) => Some(dir),
            _ => None,
        })
    }

    /// To be called before something is made in `dir`: that is no change of the directory itself.
    fn touch(&mut self, dir: &[u8], fd: &OwnedFd) -> rustix::io::Result<()> {
        if !self.times.contains_key(dir) {
            self.times.insert(dir.to_vec(), Time::of(&fstat(fd)?));
        }
        Ok(())
    }

    fn set_times(&self) -> Result<()> {
        self.times.iter().rev().try_for_each(|(dir, time)| {
            let set = || futimens(open_dir(look_up_exact(self.tree, dir)?, b".")?, &time.timestamps());
            set().map_err(|errno| fail(dir, errno))
        })
    }
}

fn set_opaque(dir: &OwnedFd) -> rustix::io::Result<()> {
    fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty())
}
