//! What a snapshot changed, from its upper directory alone, or from all that it shows.
//!
//! Overlayfs keeps in the upper directory everything that was touched, which is more than what changed: a file
//! that was only opened for writing, a directory in which only children changed. So each object is compared
//! with the parent's view, where a look-up costs microseconds; the rest of the parent is never read.
//!
//! Order: bytewise by component, deletions before their siblings, a directory before what is in it. Rules:
//! * what the parent does not have is not deleted;
//! * a directory that hides the parent's (overlayfs: opaque) becomes deletions of the parent's children, or one
//!   opaque mark if they are many;
//! * every ancestor of a change is a change; when nothing but its children changed it has the parent's time,
//!   and a directory that differs by its time alone is not a change: creating and deleting a temporary file
//!   must not make a layer;
//! * names of one file are one file: the first in order has the content, the others link to it.
//!
//! A whole tree ([`Layout::Trees`]) is compared by the same rules, as if all of it had been touched: what the parent has
//! and it has not is deleted, a directory that is not a copy of the parent's is an opaque one, and names of one file are
//! a change only if one of them is, or if the parent has them apart.
//!
//! The walk keeps a stack of its own, of which only the last levels hold descriptors; the others are opened
//! again, by their paths, if anything is left to do there. A tree may be deeper than this process's stack and
//! have more levels than it may have files open.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, major, minor, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::confined::{self, open_exact, path_of};
use crate::entry::{Entry, Kind, MAX_PATH_BYTES, Time, is_whiteout};
use crate::remove::{is_dir, names, open_dir};
use crate::snapshot::{Changes, Layout, original_of};
use crate::walk::{self, join};
use crate::whiteout::{self, OPAQUE_XATTR};
use crate::xattr::{self, Xattrs};
use crate::{Error, Result};

/// More deletions than this in one opaque directory become one opaque mark.
const MAX_DELETIONS: usize = 1000;

/// How many levels keep their directories open: more than trees usually have, so that opening again is rare.
const OPEN_LEVELS: usize = 64;

type Name = Vec<u8>;

/// One step from the parent to the snapshot.
#[derive(Debug)]
pub enum Change {
    /// The parent's object of this path is gone, with all below it.
    Delete {
        /// In the form of [`Entry::path`].
        path: Vec<u8>,
    },
    /// All the parent had in this directory is gone; what the snapshot has there follows in full.
    Opaque {
        /// In the form of [`Entry::path`].
        dir: Vec<u8>,
    },
    /// This object is new or differs from the parent's.
    Put {
        /// What it is.
        entry: Entry,
        /// Its content, if it is a regular file and no link to an earlier one.
        content: Option<File>,
    },
}

/// Calls `sink` with every change, in order; the root itself is none. Access control lists are part of what is compared
/// and said if `acls` says so.
pub fn walk(changes: &Changes, acls: bool, sink: &mut dyn FnMut(Change) -> Result<()>) -> Result<()> {
    let top = Dirs { upper: changes.upper.as_fd(), lower: changes.lower.as_ref().map(|view| view.root()) };
    let dirs = top.open(b"", top.lower.is_some())?;
    let tree = match (&dirs.lower, changes.layout) {
        (Some(_), Layout::Trees) => Some(Tree::of(&dirs, acls)?),
        _ => None,
    };
    let mut walker = Walker { acls, sink, links: HashMap::new(), unsaid: Vec::new(), tree };
    let mut stack = vec![walker.enter(Vec::new(), dirs, false, 0)?];
    while let Some(level) = stack.last_mut() {
        let Some(name) = level.names.next() else {
            walker.unsaid.truncate(level.unsaid);
            stack.pop();
            continue;
        };
        let dirs = match level.dirs.take() {
            Some(dirs) => dirs,
            None => top.open(&level.path, level.compared)?,
        };
        let inner = walker.visit(level, &dirs, &name)?;
        level.dirs = Some(dirs);
        if let Some(inner) = inner {
            stack.push(inner);
            if let Some(far) = stack.len().checked_sub(OPEN_LEVELS) {
                stack[far].dirs = None;
            }
        }
    }
    Ok(())
}

struct Walker<'a> {
    acls: bool,
    sink: &'a mut dyn FnMut(Change) -> Result<()>,
    /// The first path of every file with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Ancestors of the present place that differ from the parent's by nothing yet.
    unsaid: Vec<Entry>,
    /// Set if the upper directory is a whole tree.
    tree: Option<Tree>,
}

/// A directory of the upper directory and, if it is to be compared with one, that of the parent's view.
struct Dirs<Fd> {
    upper: Fd,
    lower: Option<Fd>,
}

impl Dirs<BorrowedFd<'_>> {
    /// The directories at a path below these.
    fn open(&self, path: &[u8], compared: bool) -> Result<Dirs<OwnedFd>> {
        let open = |dir| open_exact(dir, path).map_err(|errno| fail(path, errno));
        let lower = self.lower.filter(|_| compared).map(open).transpose()?;
        Ok(Dirs { upper: open(self.upper)?, lower })
    }
}

/// A directory on the way to the present place.
struct Level {
    path: Vec<u8>,
    /// What is still to be visited in it.
    names: std::vec::IntoIter<Vec<u8>>,
    /// None if it is far up.
    dirs: Option<Dirs<OwnedFd>>,
    /// Whether there is something of the parent's to compare it with.
    compared: bool,
    /// Whether it was made anew, with all that is in it, and hides what the parent has there.
    anew: bool,
    /// How many ancestors were unsaid before this one.
    unsaid: usize,
}

/// An object of the upper directory or of the parent's view.
pub(crate) struct Object {
    pub(crate) stat: Stat,
    pub(crate) entry: Entry,
    /// Open if it is a regular file or a directory.
    pub(crate) fd: Option<OwnedFd>,
}

impl Walker<'_> {
    /// Says what is deleted from a directory and finds what there is to visit in it.
    fn enter(&mut self, path: Vec<u8>, mut dirs: Dirs<OwnedFd>, anew: bool, unsaid: usize) -> Result<Level> {
        let (kept, mut deleted) = self.read_upper(&path, &dirs)?;
        if let (Some(lower), true) = (&dirs.lower, anew || self.tree.is_some()) {
            for name in names(lower).map_err(|errno| fail(&path, errno))? {
                if kept.binary_search(&name).is_err() && self.lower_has(&dirs, &name, &path)? {
                    deleted.insert(name);
                }
            }
            if anew && deleted.len() > MAX_DELETIONS {
                self.say(Change::Opaque { dir: path.clone() })?;
                deleted.clear();
                dirs.lower = None;
            }
        }
        for name in deleted {
            self.say(Change::Delete { path: join(&path, &name) })?;
        }
        let compared = dirs.lower.is_some();
        Ok(Level { path, names: kept.into_iter(), dirs: Some(dirs), compared, anew, unsaid })
    }

    /// The names that a directory has, sorted, and those that it hides from the parent's.
    fn read_upper(&self, path: &[u8], dirs: &Dirs<OwnedFd>) -> Result<(Vec<Name>, BTreeSet<Name>)> {
        let (mut kept, mut deleted) = (Vec::new(), BTreeSet::new());
        for (name, kind) in walk::names(dirs.upper.as_fd()).map_err(|errno| fail(path, errno))? {
            let name = name.into_bytes();
            // Nothing else can be a deletion, and a look at each would cost as much as listing them all.
            let is_deletion = matches!(kind, None | Some(confined::Kind::CharDevice)) && {
                let stat = statat(&dirs.upper, &name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| fail(&join(path, &name), errno))?;
                is_whiteout(&stat)
            };
            if is_deletion {
                if self.lower_has(dirs, &name, path)? {
                    deleted.insert(name);
                }
            } else if whiteout::is_reserved(&name) {
                let reason = "layers use names that begin with `.wh.` for deletions";
                return Err(Error::Unpackable { path: path_of(&join(path, &name)), reason });
            } else {
                kept.push(name);
            }
        }
        Ok((kept, deleted))
    }

    /// Says what `name` is, if it is a change; gives the level below if it is a directory.
    fn visit(&mut self, level: &Level, dirs: &Dirs<OwnedFd>, name: &[u8]) -> Result<Option<Level>> {
        let path = join(&level.path, name);
        if path.len() > MAX_PATH_BYTES {
            let reason = "its path is longer than 16384 bytes";
            return Err(Error::Unpackable { path: path_of(&path), reason });
        }
        let Some(mine) = Object::open(&dirs.upper, name, &path, self.acls)? else { return Ok(None) };
        let theirs = match &dirs.lower {
            Some(lower) => {
                Object::open(lower, name, &path, self.acls)?.filter(|object| !is_whiteout(&object.stat))
            }
            None => None,
        };
        if is_dir(mine.stat.st_mode) {
            return self.visit_dir(mine, theirs, level.anew);
        }
        self.visit_other(mine, theirs)?;
        Ok(None)
    }

    fn visit_other(&mut self, mine: Object, theirs: Option<Object>) -> Result<()> {
        let linked = mine.stat.st_nlink > 1;
        if linked && self.tree.as_ref().is_some_and(|tree| tree.unchanged.contains(&key(&mine.stat))) {
            return Ok(());
        }
        if !linked
            && let Some(theirs) = &theirs
            && mine.same_as(theirs)?
        {
            return Ok(());
        }
        let Object { stat, mut entry, fd } = mine;
        if linked {
            let key = key(&stat);
            if let Some(first) = self.links.get(&key) {
                entry.kind = Kind::HardLink { target: first.clone() };
                return self.say(Change::Put { entry, content: None });
            }
            self.links.insert(key, entry.path.clone());
        }
        self.say(Change::Put { entry, content: fd.map(File::from) })
    }

    fn visit_dir(&mut self, mine: Object, theirs: Option<Object>, anew: bool) -> Result<Option<Level>> {
        let Object { entry, fd: Some(upper), .. } = mine else { return Ok(None) };
        let theirs = theirs.filter(|object| is_dir(object.stat.st_mode));
        let anew = anew || self.is_anew(&upper, theirs.as_ref()).map_err(|errno| fail(&entry.path, errno))?;
        let unsaid = self.unsaid.len();
        let path = entry.path.clone();
        match &theirs {
            // One that was made anew has a time of its own.
            Some(theirs) if anew && entry == theirs.entry => self.unsaid.push(entry),
            Some(theirs) if !anew && entry == (Entry { mtime: entry.mtime, ..theirs.entry.clone() }) => {
                self.unsaid.push(theirs.entry.clone());
            }
            _ => self.say(Change::Put { entry, content: None })?,
        }
        let lower = theirs.and_then(|object| object.fd);
        self.enter(path, Dirs { upper, lower }, anew, unsaid).map(Some)
    }

    /// Whether a directory is another one than the parent's.
    fn is_anew(&self, upper: &OwnedFd, theirs: Option<&Object>) -> rustix::io::Result<bool> {
        match &self.tree {
            None => is_opaque(upper),
            Some(tree) if tree.is_marked => {
                Ok(original_of(upper)? != theirs.map(|object| object.stat.st_ino))
            }
            // Where nothing is marked nothing is known, and it is taken for the parent's.
            Some(_) => Ok(false),
        }
    }

    /// Passes a change on, after the ancestors that have not been mentioned.
    fn say(&mut self, change: Change) -> Result<()> {
        for entry in self.unsaid.drain(..) {
            check(&entry)?;
            (self.sink)(Change::Put { entry, content: None })?;
        }
        if let Change::Put { entry, .. } = &change {
            check(entry)?;
        }
        (self.sink)(change)
    }

    fn lower_has(&self, dirs: &Dirs<OwnedFd>, name: &[u8], path: &[u8]) -> Result<bool> {
        let Some(lower) = &dirs.lower else { return Ok(false) };
        match statat(lower, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(!is_whiteout(&stat)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(fail(&join(path, name), errno)),
        }
    }
}

/// What a file system can hold and PAX records cannot.
fn check(entry: &Entry) -> Result<()> {
    if entry.xattrs.keys().any(|name| name.contains(&b'=')) {
        let reason = "an archive cannot hold extended attributes with `=` in their names";
        return Err(Error::Unpackable { path: path_of(&entry.path), reason });
    }
    Ok(())
}

impl Object {
    /// None if it is not there, or is a socket, which no archive can hold.
    fn open(dir: &OwnedFd, name: &[u8], path: &[u8], acls: bool) -> Result<Option<Object>> {
        match Object::try_open(dir, name, path, acls) {
            Err(Errno::NOENT) => Ok(None),
            object => object.map_err(|errno| fail(path, errno)),
        }
    }

    pub(crate) fn try_open(
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        acls: bool,
    ) -> rustix::io::Result<Option<Object>> {
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (mut fd, mut xattrs) = (None, Xattrs::new());
        let device = (major(stat.st_rdev), minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags =
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOATIME | OFlags::CLOEXEC;
                fd = Some(openat(dir, name, flags, Mode::empty())?);
                Kind::File { size: u64::try_from(stat.st_size).unwrap_or(0) }
            }
            FileType::Directory => {
                fd = Some(open_dir(dir, name)?);
                Kind::Directory
            }
            FileType::Symlink => Kind::Symlink { target: readlinkat(dir, name, Vec::new())?.into_bytes() },
            FileType::CharacterDevice => Kind::CharDevice { major: device.0, minor: device.1 },
            FileType::BlockDevice => Kind::BlockDevice { major: device.0, minor: device.1 },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        // Nothing else can have attributes that travel.
        if let Some(fd) = &fd {
            xattrs = xattr::read(fd, acls)?;
        }
        let entry = Entry {
            path: path.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time::of(&stat),
            xattrs,
        };
        Ok(Some(Object { stat, entry, fd }))
    }

    /// Whether two objects that are no directories are alike in everything that a layer holds.
    fn same_as(&self, other: &Object) -> Result<bool> {
        if self.entry != other.entry {
            return Ok(false);
        }
        match (&self.fd, &other.fd) {
            (Some(mine), Some(theirs)) => same_content(mine, theirs)
                .map_err(|source| Error::Pack { path: path_of(&self.entry.path), source }),
            _ => Ok(true),
        }
    }
}

/// What is to be known of a whole tree before it is compared.
struct Tree {
    /// Whether directories that were copied are marked.
    is_marked: bool,
    /// Files with several names of which none is a change.
    unchanged: HashSet<(u64, u64)>,
}

impl Tree {
    fn of(dirs: &Dirs<OwnedFd>, acls: bool) -> Result<Tree> {
        let is_marked = original_of(&dirs.upper).map_err(|errno| fail(b"", errno))?.is_some();
        let mut names: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for entry in walk::walk(dirs.upper.as_fd(), &walk::everything)? {
            if entry.metadata.links > 1 && entry.metadata.kind != confined::Kind::Directory {
                names.entry(entry.metadata.inode).or_default().push(entry.path);
            }
        }
        let mut unchanged = HashSet::new();
        for names in names.into_values() {
            unchanged.extend(unchanged_file(dirs, &names, acls)?);
        }
        Ok(Tree { is_marked, unchanged })
    }
}

/// The file that has these names, if the parent has it by all of them.
fn unchanged_file(dirs: &Dirs<OwnedFd>, names: &[Vec<u8>], acls: bool) -> Result<Option<(u64, u64)>> {
    let Some(lower) = &dirs.lower else { return Ok(None) };
    let mut known: Option<(u64, u64)> = None;
    let mut file = None;
    for path in names {
        let (parent, name) = walk::split(path);
        let open = |dir: &OwnedFd| match open_exact(dir.as_fd(), parent) {
            Ok(dir) => Object::open(&dir, name, path, acls),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(fail(path, errno)),
        };
        let Some(theirs) = open(lower)?.filter(|object| !is_whiteout(&object.stat)) else { return Ok(None) };
        if let Some(known) = known {
            if known != key(&theirs.stat) {
                return Ok(None);
            }
            continue;
        }
        known = Some(key(&theirs.stat));
        match open(&dirs.upper)? {
            Some(mine) if mine.same_as(&theirs)? => file = Some(key(&mine.stat)),
            _ => return Ok(None),
        }
    }
    Ok(file)
}

/// What all names of a file have in common.
fn key(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Compares two files that are just as long as one another.
fn same_content(mine: &OwnedFd, theirs: &OwnedFd) -> std::io::Result<bool> {
    // Clones share the position in the file, so each is read by its offset.
    let mut place = 0;
    let (mut left, mut right) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    loop {
        let count = rustix::io::pread(mine, &mut left, place)?;
        if count == 0 {
            return Ok(true);
        }
        let mut matched = 0;
        while matched < count {
            let got = rustix::io::pread(theirs, &mut right[..count - matched], place + matched as u64)?;
            if got == 0 || left[matched..matched + got] != right[..got] {
                return Ok(false);
            }
            matched += got;
        }
        place += count as u64;
    }
}

fn is_opaque(dir: impl AsFd) -> rustix::io::Result<bool> {
    let mut value = [0; 1];
    match fgetxattr(dir, OPAQUE_XATTR, &mut value) {
        Ok(_) => Ok(value == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn fail(path: &[u8], errno: Errno) -> Error {
    Error::Pack { path: path_of(path), source: errno.into() }
}

/// Reads exactly `size` bytes of `file` in pieces; a file that changes meanwhile is an error.
pub(crate) fn read_exactly(
    file: &mut File,
    size: u64,
    buffer: &mut [u8],
    mut piece: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut left = size;
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..room]) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                piece(&buffer[..count])?;
                left -= count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
