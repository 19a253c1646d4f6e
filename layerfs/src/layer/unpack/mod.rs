//! Layers, and archives for ADD, to files.
//!
//! Three things happen to every byte, each in a thread of its own: it is decompressed, it is hashed, and it is read as a
//! tar and written. Order for one entry: its parent is opened below the root, by the kernel (`place`); what is in the way
//! goes; the object is made, then gets its content, owner, attributes, mode and time in this order, because
//! changing the owner clears capabilities and set-user-id bits. Times of directories come last of all, since
//! making children changes them.
//!
//! The destination is the merged view, so that overlayfs itself writes whiteouts and opaque marks. A deletion
//! in a layer is about lower layers whatever its place in the archive: what this layer has made, which is what
//! the upper directory has, stays (`hide`). Where there is no such directory it is remembered.

mod apart;
mod hide;
mod pipe;
mod place;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::{Algorithm, DiffId};
use rustix::fs::{AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid};
use rustix::fs::{
    chmodat, chownat, fchmod, fchown, fstat, futimens, linkat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::fs::{statat, unlinkat, utimensat};
use rustix::io::Errno;

use super::tar::{Limits, Reader};
use crate::confined::{look_up_exact, path_of};
use crate::entry::{Entry, Kind, Time};
use crate::remove::{is_dir, open_dir, remove_tree};
use crate::snapshot::{Active, Below};
use crate::walk::split;
use crate::whiteout::{self, Meaning};
use crate::xattr::{self, Inherited};
use crate::{Error, Result};
use apart::Later;
pub use apart::{Apart, unpack_apart};
use pipe::Pipe;
pub(crate) use place::lexical;
use place::{DirTime, Origin, Parents};

/// Where an archive goes.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// No path of the archive leads out of here.
    pub root: BorrowedFd<'a>,
    /// What a layer finds there, to delete from; an archive that is no layer deletes nothing.
    pub below: Below<'a>,
}

/// How an archive is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether `.wh.` names delete, as in layers, or are files, as in other archives.
    pub whiteouts: Whiteouts,
    /// Owner and group of everything, instead of the archive's.
    pub owner: Option<(u32, u32)>,
    /// What is accepted.
    pub limits: Limits,
}

impl Options {
    /// A layer says all that its files have; another archive comes into directories that have their say.
    fn inherited(&self) -> Inherited {
        match self.whiteouts {
            Whiteouts::Apply => Inherited::Go,
            Whiteouts::Literal => Inherited::Stay,
        }
    }
}

/// What names beginning with `.wh.` mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whiteouts {
    /// They delete from lower layers.
    #[default]
    Apply,
    /// They are names like others, and the archive does not speak for the directory that it comes into.
    Literal,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the decompressed bytes, all of them.
    pub diff_id: DiffId,
    /// How many entries there were.
    pub entries: u64,
}

/// Applies a layer, compressed or not, to `active`; fails unless its decompressed bytes are `expected`.
///
/// After a failure `active` holds part of the layer and must be dropped.
pub fn unpack_layer(source: impl Read + Send, active: &Active, expected: DiffId) -> Result<Unpacked> {
    let destination = Destination { root: active.root(), below: active.below() };
    let unpacked = unpack_as(source, destination, &Options::default(), expected.0.algorithm())?;
    match unpacked.diff_id == expected {
        true => Ok(unpacked),
        false => Err(Error::DiffId { expected, found: unpacked.diff_id }),
    }
}

/// Unpacks an archive, compressed by gzip or zstd or not at all.
pub fn unpack(source: impl Read + Send, destination: Destination<'_>, options: &Options) -> Result<Unpacked> {
    unpack_as(source, destination, options, Algorithm::Sha256)
}

fn unpack_as(
    source: impl Read + Send,
    destination: Destination<'_>,
    options: &Options,
    algorithm: Algorithm,
) -> Result<Unpacked> {
    let (entries, diff_id) = through(source, algorithm, |pipe| {
        let mut reader = Reader::new(pipe, options.limits);
        let mut unpacker = Unpacker::new(destination, options);
        let mut entries = 0;
        while let Some(entry) = reader.next_entry()? {
            unpacker.apply(entry, &mut reader)?;
            entries += 1;
        }
        unpacker.remove_hidden().map_err(|(path, errno)| fail(&path, errno))?;
        unpacker.set_times()?;
        Ok(Some(entries))
    })?
    .expect("it was read to its end");
    Ok(Unpacked { diff_id, entries })
}

/// Lets `act` read what `source` holds, decompressed; gives what comes of it and the digest of all bytes, unless that is nothing:
/// then the rest is not read.
fn through<T>(
    source: impl Read + Send,
    algorithm: Algorithm,
    act: impl FnOnce(&mut Pipe) -> Result<Option<T>>,
) -> Result<Option<(T, DiffId)>> {
    std::thread::scope(|scope| {
        let (mut pipe, decompressing) = pipe::open(scope, source, algorithm);
        let Some(done) = act(&mut pipe)? else { return Ok(None) };
        // What follows the archive's end belongs to the digest too.
        std::io::copy(&mut pipe, &mut std::io::sink()).map_err(|source| Error::ReadArchive { source })?;
        drop(pipe);
        let digest = decompressing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Some((done, DiffId(digest))))
    })
}

struct Unpacker<'a> {
    destination: Destination<'a>,
    options: &'a Options,
    parents: Parents<'a>,
    lower: hide::Lower,
    /// What is decided only when the parent is there, if that is later.
    later: Option<Later>,
    /// The times that directories shall have at the end, by their paths without links.
    times: BTreeMap<Vec<u8>, DirTime>,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    fn new(destination: Destination<'a>, options: &'a Options) -> Unpacker<'a> {
        let parents = Parents::new(destination.root);
        let buffer = vec![0; 256 * 1024];
        let lower = hide::Lower::default();
        Unpacker { destination, options, parents, lower, later: None, times: BTreeMap::new(), buffer }
    }

    /// Whether this layer has to be unpacked onto its parent.
    fn is_entangled(&self) -> bool {
        self.later.as_ref().is_some_and(|later| later.is_entangled() || !self.parents.are_plain)
    }

    /// Notes what could be otherwise with a parent; says whether there is none yet.
    fn entangle(&mut self) -> bool {
        self.later.as_mut().map(Later::entangle).is_some()
    }

    fn apply<R: Read>(&mut self, mut entry: Entry, reader: &mut Reader<R>) -> Result<()> {
        let meaning = match self.options.whiteouts {
            Whiteouts::Apply => whiteout::meaning(&entry),
            // What an archive says of its root is not about the directory that it comes into. (As in BuildKit.)
            Whiteouts::Literal if entry.path.is_empty() => return Ok(()),
            Whiteouts::Literal => whiteout::literal_meaning(&entry),
        };
        let refuse = |problem| Error::Archive { entry: Some(path_of(&entry.path)), problem };
        let failed = |errno| fail(&entry.path, errno);
        match meaning.map_err(refuse)? {
            Meaning::Object => {}
            Meaning::Nothing => return Ok(()),
            Meaning::Opaque { dir } => return self.hide_children(dir).map_err(failed),
            Meaning::Deletion { dir, name } => return self.hide(dir, name).map_err(failed),
        }
        if let Some((uid, gid)) = self.options.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        self.put(&entry, reader)
    }

    fn put<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let failed = |errno: Errno| fail(&entry.path, errno);
        if entry.path.is_empty() {
            let root = open_dir(self.destination.root, b".").map_err(failed)?;
            return self.finish_dir(&root, entry).map_err(failed);
        }
        let (dir, name) = split(&entry.path);
        let parent = self.parents.open(dir, &mut self.times).map_err(failed)?;
        match &entry.kind {
            Kind::Directory => {
                let fd = self.make_dir(&parent, name).map_err(failed)?;
                self.finish_dir(&fd, entry).map_err(failed)?;
            }
            Kind::File { .. } => {
                let create = |parent: &OwnedFd, name: &[u8]| create_file(parent, name, entry.mode);
                let file = self.make(&parent, name, create).map_err(failed)?;
                loop {
                    let count = reader.read_data(&mut self.buffer)?;
                    if count == 0 {
                        break;
                    }
                    write_all(&file, &self.buffer[..count]).map_err(failed)?;
                }
                set_attributes(&file, entry, self.options.inherited())
                    .and_then(|()| futimens(&file, &entry.mtime.timestamps()))
                    .map_err(failed)?;
            }
            Kind::HardLink { target } => match self.link(&parent, name, target) {
                // The file may be the parent's; if not, the same is said there.
                Err(_) if self.entangle() => {}
                linked => linked.map_err(failed)?,
            },
            Kind::Symlink { target } => {
                self.make(&parent, name, |parent, name| symlinkat(target.as_slice(), parent, name))
                    .map_err(failed)?;
                finish_node(&parent, name, entry).map_err(failed)?;
            }
            Kind::CharDevice { major, minor } => self
                .make_node(&parent, entry, FileType::CharacterDevice, makedev(*major, *minor))
                .map_err(failed)?,
            Kind::BlockDevice { major, minor } => {
                self.make_node(&parent, entry, FileType::BlockDevice, makedev(*major, *minor))
                    .map_err(failed)?;
            }
            Kind::Fifo => self.make_node(&parent, entry, FileType::Fifo, 0).map_err(failed)?,
        }
        self.remember(&entry.path).map_err(failed)
    }

    fn link(&mut self, parent: &OwnedFd, name: &[u8], target: &[u8]) -> rustix::io::Result<()> {
        let (target_dir, target_name) = split(target);
        let target_parent = self.parents.look_up(target_dir)?;
        let foreign = self.foreign(target_dir, target_name)?;
        self.make(parent, name, |parent, name| {
            linkat(&target_parent, target_name, parent, name, AtFlags::empty())
        })?;
        foreign.map_or(Ok(()), |path| self.borrow(path))
    }

    /// Makes something that is no directory; what has its place goes.
    fn make<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        make: impl Fn(&OwnedFd, &[u8]) -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        match make(parent, name) {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                make(parent, name)
            }
            result => result,
        }
    }

    fn make_node(
        &mut self,
        parent: &OwnedFd,
        entry: &Entry,
        kind: FileType,
        device: Dev,
    ) -> rustix::io::Result<()> {
        let (_, name) = split(&entry.path);
        let private = Mode::from_raw_mode(0o600);
        self.make(parent, name, |parent, name| mknodat(parent, name, kind, private, device))?;
        finish_node(parent, name, entry)
    }

    /// A directory stays a directory with all that is in it.
    fn make_dir(&mut self, parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        let private = Mode::from_raw_mode(0o700);
        match mkdirat(parent, name, private) {
            Ok(()) => {}
            Err(Errno::EXIST) => match open_dir(parent, name) {
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    self.entangle();
                    self.clear(parent, name)?;
                    mkdirat(parent, name, private)?;
                }
                opened => return opened,
            },
            Err(errno) => return Err(errno),
        }
        open_dir(parent, name)
    }

    fn finish_dir(&mut self, dir: &OwnedFd, entry: &Entry) -> rustix::io::Result<()> {
        fchown(dir, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        xattr::replace(dir, &entry.xattrs, self.options.inherited())?;
        fchmod(dir, Mode::from_raw_mode(entry.mode))?;
        let time = DirTime { time: entry.mtime, origin: Origin::Mentioned };
        let before = self.times.insert(self.parents.real(&entry.path)?, time);
        if before.is_some_and(|before| before.origin == Origin::Implied) {
            // What came into it before its entry may have gone elsewhere, through a link below.
            self.entangle();
        }
        Ok(())
    }

    /// Removes what is in the way of an entry.
    fn clear(&mut self, parent: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_dir(stat.st_mode) {
            self.entangle();
            remove_tree(&parent, name)?;
        } else {
            unlinkat(&parent, name, AtFlags::empty())?;
        }
        // The remembered parent may have been reached through what is gone.
        self.parents.forget();
        Ok(())
    }

    /// Deepest first, so that no directory is touched after it got its time.
    fn set_times(&mut self) -> Result<()> {
        self.parents.forget();
        for (path, planned) in std::mem::take(&mut self.times).into_iter().rev() {
            match self.set_time(&path, planned.time) {
                // Deleted or replaced by a later entry.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(fail(&path, errno)),
            }
        }
        Ok(())
    }

    fn set_time(&mut self, path: &[u8], time: Time) -> rustix::io::Result<()> {
        if path.is_empty() {
            return futimens(open_dir(self.destination.root, b".")?, &time.timestamps());
        }
        let (dir, name) = split(path);
        // A link that has taken a directory's place since leads to another one.
        let parent = look_up_exact(self.destination.root, dir)?;
        if !is_dir(statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode) {
            return Err(Errno::NOTDIR);
        }
        utimensat(parent, name, &time.timestamps(), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// The bits that give power come later, when owner and content are right.
fn create_file(parent: &OwnedFd, name: &[u8], mode: u32) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::from_raw_mode(mode & 0o777))
}

/// Owner, then attributes, then mode. Of a new file: most have the first and the last already, and to look is cheaper than to
/// set, which goes to the journal.
fn set_attributes(file: &OwnedFd, entry: &Entry, inherited: Inherited) -> rustix::io::Result<()> {
    let stat = fstat(file)?;
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    }
    xattr::replace(file, &entry.xattrs, inherited)?;
    // A new owner, and an access control list, change it.
    if fstat(file)?.st_mode & 0o7777 != entry.mode {
        fchmod(file, Mode::from_raw_mode(entry.mode))?;
    }
    Ok(())
}

/// The same for what is not opened: links, devices and pipes, which have no attributes that travel.
fn finish_node(parent: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
    let (owner, group) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        // Nobody can have replaced it by a link: the view is ours alone.
        chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    utimensat(parent, name, &entry.mtime.timestamps(), AtFlags::SYMLINK_NOFOLLOW)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

fn fail(path: &[u8], errno: Errno) -> Error {
    Error::Unpack { entry: path_of(path), source: errno.into() }
}
