//! Work on files below one directory, which no path can leave.
//!
//! Here: [`Root`], the directory with what is done by path in it, and how paths resolve. Not here: listing
//! trees ([`crate::walk`]), copying them ([`crate::copy`]).
//!
//! Invariants: a path is resolved by the kernel relative to the root's descriptor (`openat2(2)` with
//! `RESOLVE_IN_ROOT`), or component by component with `O_NOFOLLOW`, never as text; links are followed inside
//! the root, where an absolute one begins at the root and `..` stops there; nothing but a regular file is
//! ever opened for reading or writing, because opening a device acts on the device.

mod metadata;
pub(crate) mod xattr;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

pub use self::metadata::{Kind, Metadata, Owner, Time};
use crate::{Error, IoResultExt, Result, remove, walk};

/// Follow links, inside the root.
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// Follow no link at all: for paths that were resolved before, so that a change since then is noticed.
const EXACT: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// How long a path in one call may be, its NUL included (path_resolution(7)).
const PATH_MAX: usize = 4096;
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// How many links one path may lead through, as in the kernel (`MAXSYMLINKS`).
pub(crate) const MAX_LINKS: usize = 40;
/// How often a name that another one takes again is freed.
const MAX_RACES: usize = 128;

/// A directory, and all that is below it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// What a directory made by [`Root::make_dirs`] is to be like.
#[derive(Debug, Clone, Copy)]
pub struct NewDirectory {
    /// Its permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Its owner.
    pub owner: Owner,
    /// Its modification time, or that of its making.
    pub modified: Option<Time>,
}

/// Root's, 0755, made now.
impl Default for NewDirectory {
    fn default() -> NewDirectory {
        NewDirectory { mode: 0o755, owner: Owner::default(), modified: None }
    }
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path from the root without links, `.` or `..`; empty for the root itself.
    pub path: PathBuf,
    /// The links on the way, each by its own path in the same form.
    pub links: Vec<PathBuf>,
    /// The metadata of what is there; never a link.
    pub metadata: Metadata,
}

impl Root {
    /// Opens a directory of the host: `path` itself is trusted.
    pub fn open(path: &Path) -> Result<Root> {
        rustix::fs::open(path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
            .map(Root::from_fd)
            .at("open", path)
    }

    /// Takes an open directory; a detached mount among them.
    pub fn from_fd(fd: OwnedFd) -> Root {
        Root { fd }
    }

    /// Takes a second descriptor of an open directory.
    pub fn duplicate(fd: BorrowedFd<'_>) -> Result<Root> {
        fd.try_clone_to_owned().map(Root::from_fd).at("open", "/")
    }

    /// Opens the directory at `path`.
    pub fn open_dir(&self, path: &Path) -> Result<OwnedFd> {
        open_at(&self.fd, path, DIRECTORY, IN_ROOT).at("open", path)
    }

    /// Opens the directory at `path` as a root of its own: links in it no longer lead out of it.
    pub fn descend(&self, path: &Path) -> Result<Root> {
        self.open_dir(path).map(Root::from_fd)
    }

    /// Gives the directory itself this owner, this mode and, if there is one, this time.
    pub fn dress(&self, like: &NewDirectory) -> Result<()> {
        let path = Path::new("/");
        let dir = open_exact(self.as_fd(), b"").at("open", path)?;
        set_owner(&dir, like.owner).at("set the owner of", path)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(like.mode)).at("set the mode of", path)?;
        like.modified.map_or(Ok(()), |modified| set_modified(&dir, modified)).at("set the time of", path)
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, path: &Path) -> Result<File> {
        let found = open_at(&self.fd, path, PATH_ONLY, IN_ROOT).at("open", path)?;
        let kind = Metadata::of(&found).at("read the metadata of", path)?.kind;
        if kind != Kind::File {
            return Err(Error::NotAFile { path: path.to_owned(), found: kind });
        }
        let reopened = format!("/proc/self/fd/{}", found.as_raw_fd());
        let fd = rustix::fs::open(reopened, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        fd.map(File::from).at("open", path)
    }

    /// The bytes of a regular file of at most `limit_bytes`; `None` if there is no file.
    pub fn read_small(&self, path: &Path, limit_bytes: u64) -> Result<Option<Vec<u8>>> {
        let file = match self.open_file(path) {
            Err(error) if is_missing(&error) => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes).at("read", path)?;
        if bytes.len() as u64 > limit_bytes {
            return Err(Error::FileTooLarge { path: path.to_owned(), limit_bytes });
        }
        Ok(Some(bytes))
    }

    /// The metadata of what `path` leads to; `None` if it leads nowhere.
    pub fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.stat(path, PATH_ONLY)
    }

    /// The metadata of `path` itself, which may be a link; `None` if there is nothing.
    pub fn symlink_metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.stat(path, PATH_ONLY | OFlags::NOFOLLOW)
    }

    /// Whether `path` leads to anything.
    pub fn exists(&self, path: &Path) -> Result<bool> {
        self.metadata(path).map(|found| found.is_some())
    }

    /// The names in a directory, sorted bytewise.
    pub fn list(&self, path: &Path) -> Result<Vec<OsString>> {
        let dir = self.open_dir(path)?;
        let names = walk::names(dir.as_fd()).at("list", path)?;
        Ok(names.into_iter().map(|(name, _)| OsString::from_vec(name.into_bytes())).collect())
    }

    /// The target of the link at `path`.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let (parent, name) = self.resolve_parent(path)?;
        rustix::fs::readlinkat(&parent, &name, Vec::new()).map(into_path).at("read the link", path)
    }

    /// Where `path` leads, and through which links; `None` if it leads nowhere.
    pub fn resolve(&self, path: &Path) -> Result<Option<Resolved>> {
        let mut descent = Descent::new(self, path);
        if descent.run(Missing::Stop)? != End::Found {
            return Ok(None);
        }
        let metadata = Metadata::of(descent.here()).at("read the metadata of", path)?;
        Ok(Some(Resolved { path: descent.path(), links: descent.links, metadata }))
    }

    /// Opens the directory that holds the last component of `path`, and gives that component. The last
    /// component is not looked at; it is never `.` or `..`.
    pub fn resolve_parent(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let Some(name) = path.file_name() else {
            return Err(Errno::INVAL).at("resolve", path);
        };
        let parent = self.open_dir(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, name.to_owned()))
    }

    /// Makes the directory at `path` and those on the way that are missing, all of them like `new`, and
    /// returns the paths of those made, parents first. Links are followed, dangling ones too; what is there
    /// already stays as it is.
    pub fn make_dirs(&self, path: &Path, new: &NewDirectory) -> Result<Vec<PathBuf>> {
        self.open_or_make_dir(path, new).map(|(_, made)| made)
    }

    /// As [`Root::make_dirs`], with the directory itself.
    pub fn open_or_make_dir(&self, path: &Path, new: &NewDirectory) -> Result<(OwnedFd, Vec<PathBuf>)> {
        if let Ok(fd) = open_at(&self.fd, path, DIRECTORY, IN_ROOT) {
            return Ok((fd, Vec::new()));
        }
        let mut descent = Descent::new(self, path);
        descent.run(Missing::Make(new))?;
        let fd = match open_at(descent.here(), Path::new(""), DIRECTORY, EXACT) {
            Err(Errno::NOTDIR) => return Err(Error::NotADirectory { path: descent.shown() }),
            fd => fd.at("open", path)?,
        };
        descent.date_made(new)?;
        Ok((fd, descent.made.into_iter().map(|(_, path)| path).collect()))
    }

    /// Makes an empty regular file for writing, in place of any file or link at `path`; never through a link.
    pub fn create_file(&self, path: &Path, mode: u32, owner: Owner) -> Result<File> {
        let (parent, name) = self.resolve_parent(path)?;
        let file = match create_new(parent.as_fd(), name.as_bytes()) {
            Err(Errno::ISDIR) => return Err(Error::ReplaceDirectory { path: path.to_owned() }),
            file => file.at("create", path)?,
        };
        set_owner(&file, owner).at("set the owner of", path)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).at("set the mode of", path)?;
        Ok(file)
    }

    /// Makes a link. Its target is only text here.
    pub fn symlink(&self, target: &Path, path: &Path) -> Result<()> {
        let (parent, name) = self.resolve_parent(path)?;
        rustix::fs::symlinkat(target, &parent, &name).at("create the link", path)
    }

    /// Removes what is at `path`, with all that is below it; a link itself, not its target. What is not there
    /// is removed already.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let (parent, name) = match self.resolve_parent(path) {
            Err(error) if is_missing(&error) => return Ok(()),
            found => found?,
        };
        remove::remove_tree(&parent, name.as_bytes()).map(drop).at("remove", path)
    }

    fn stat(&self, path: &Path, flags: OFlags) -> Result<Option<Metadata>> {
        match open_at(&self.fd, path, flags, IN_ROOT) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            found => found.and_then(|found| Metadata::of(&found)).at("read the metadata of", path).map(Some),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Where something is to be put.
pub(crate) enum Place {
    /// Into this directory, which is there.
    Directory { fd: OwnedFd, path: PathBuf },
    /// Under this name in this directory, where nothing is or something other than a directory.
    Entry { parent: OwnedFd, name: OsString, path: PathBuf },
}

impl Root {
    /// Where `path` leads, with the directories on the way made like `new` if they are missing. A dangling
    /// link leads to what is missing.
    pub(crate) fn place(&self, path: &Path, new: &NewDirectory) -> Result<Place> {
        let mut descent = Descent::new(self, path);
        let end = descent.run(Missing::MakeParents(new))?;
        let fd = open_at(descent.here(), Path::new(""), DIRECTORY, EXACT);
        let place = match (end, fd) {
            (End::Missing(name), fd) => {
                let path = descent.shown().join(&name);
                Place::Entry { parent: fd.at("open", descent.shown())?, name, path }
            }
            (End::Found, Err(Errno::NOTDIR)) => {
                let path = descent.shown();
                // Only a directory has an empty way: there is a last component.
                let name = descent.way.pop().map(|(name, _)| name).unwrap_or_default();
                let parent = open_at(descent.here(), Path::new(""), DIRECTORY, EXACT).at("open", &path)?;
                Place::Entry { parent, name, path }
            }
            (End::Found, fd) => Place::Directory { fd: fd.at("open", path)?, path: descent.shown() },
        };
        descent.date_made(new)?;
        Ok(place)
    }
}

/// What to do when a component is not there.
#[derive(Clone, Copy)]
enum Missing<'a> {
    Stop,
    Make(&'a NewDirectory),
    /// Make it unless it is the last one.
    MakeParents(&'a NewDirectory),
}

#[derive(PartialEq, Eq)]
enum End {
    Found,
    /// This component is not there.
    Missing(OsString),
}

/// A resolution in steps of one component, for what the kernel does not do in one call: making directories
/// behind dangling links, and telling which links were followed.
struct Descent<'a> {
    root: &'a Root,
    /// Whether messages show paths as absolute ones, as the path was given.
    absolute: bool,
    /// The components yet to go.
    ahead: VecDeque<OsString>,
    /// The way from the root to here. `..` takes one step back, so it cannot pass the root.
    way: Vec<(OsString, OwnedFd)>,
    links: Vec<PathBuf>,
    made: Vec<(OwnedFd, PathBuf)>,
}

impl<'a> Descent<'a> {
    fn new(root: &'a Root, path: &Path) -> Descent<'a> {
        let ahead = path.components().map(|component| component.as_os_str().to_owned()).collect();
        let absolute = path.is_absolute();
        Descent { root, absolute, ahead, way: Vec::new(), links: Vec::new(), made: Vec::new() }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.way.last().map_or(self.root.fd.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// The way from the root to here; empty at the root.
    fn path(&self) -> PathBuf {
        self.way.iter().map(|(name, _)| name).collect()
    }

    /// The same for whoever gave the path.
    fn shown(&self) -> PathBuf {
        let root = if self.absolute { "/" } else { "" };
        Path::new(root).join(self.path())
    }

    /// Goes all the way, or as far as there is one.
    fn run(&mut self, missing: Missing<'_>) -> Result<End> {
        while let Some(name) = self.ahead.pop_front() {
            match Path::new(&name).components().next() {
                Some(Component::RootDir) => self.way.clear(),
                Some(Component::ParentDir) => drop(self.way.pop()),
                Some(Component::Normal(_)) => {
                    if let End::Missing(name) = self.step(name, missing)? {
                        return Ok(End::Missing(name));
                    }
                }
                _ => {}
            }
        }
        Ok(End::Found)
    }

    fn step(&mut self, name: OsString, missing: Missing<'_>) -> Result<End> {
        let path = self.shown().join(&name);
        let fd = loop {
            let found = rustix::fs::openat(self.here(), &name, PATH_ONLY | OFlags::NOFOLLOW, Mode::empty());
            match (found, missing) {
                (Ok(fd), _) => break fd,
                (Err(Errno::NOENT), Missing::Stop) => return Ok(End::Missing(name)),
                (Err(Errno::NOENT), Missing::MakeParents(_)) if self.ahead.is_empty() => {
                    return Ok(End::Missing(name));
                }
                (Err(Errno::NOENT), Missing::Make(new) | Missing::MakeParents(new)) => {
                    self.make(&name, &path, new)?;
                }
                (Err(error), _) => return Err(error).at("open", path),
            }
        };
        let kind = Metadata::of(&fd).at("read the metadata of", &path)?.kind;
        if kind != Kind::Symlink {
            return match missing {
                // The way goes on, even if only by `..`, and there is none.
                _ if kind == Kind::Directory || self.ahead.is_empty() => {
                    self.way.push((name, fd));
                    Ok(End::Found)
                }
                Missing::Stop => Ok(End::Missing(name)),
                _ => Err(Error::NotADirectory { path }),
            };
        }
        if self.links.len() == MAX_LINKS {
            return Err(Errno::LOOP).at("resolve", path);
        }
        let target =
            rustix::fs::readlinkat(&fd, c"", Vec::new()).map(into_path).at("read the link", &path)?;
        for component in target.components().rev() {
            self.ahead.push_front(component.as_os_str().to_owned());
        }
        self.links.push(self.path().join(name));
        Ok(End::Found)
    }

    /// Only when all are made: each directory made in another one has changed that one's time.
    fn date_made(&self, new: &NewDirectory) -> Result<()> {
        let Some(modified) = new.modified else { return Ok(()) };
        self.made.iter().try_for_each(|(fd, path)| set_modified(fd, modified).at("set the time of", path))
    }

    fn make(&mut self, name: &OsStr, path: &Path, new: &NewDirectory) -> Result<()> {
        match rustix::fs::mkdirat(self.here(), name, Mode::RWXU) {
            Err(Errno::EXIST) => return Ok(()),
            made => made.at("create the directory", path)?,
        }
        let fd = open_exact(self.here(), name.as_bytes()).at("open", path)?;
        set_owner(&fd, new.owner).at("set the owner of", path)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(new.mode)).at("set the mode of", path)?;
        self.made.push((fd, path.to_owned()));
        Ok(())
    }
}

/// Opens the directory at a path without links below `dir`; an empty path is `dir` itself.
pub(crate) fn open_exact(dir: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_in_steps(dir, path, DIRECTORY | OFlags::NOFOLLOW)
}

/// As [`open_exact`], only for paths to begin at.
pub(crate) fn look_up_exact(dir: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_in_steps(dir, path, PATH_ONLY | OFlags::DIRECTORY)
}

/// A tree may be deeper than the longest path that the kernel takes, so a longer one goes in several calls.
/// As it leads through no links, that is the same way.
fn open_in_steps(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let (mut rest, mut step) = (path, None::<OwnedFd>);
    while rest.len() >= PATH_MAX {
        let Some(end) = rest[..PATH_MAX].iter().rposition(|byte| *byte == b'/') else {
            return Err(Errno::NAMETOOLONG);
        };
        let from = step.as_ref().map_or(dir, AsFd::as_fd);
        let piece = Path::new(OsStr::from_bytes(&rest[..end]));
        step = Some(open_at(from, piece, PATH_ONLY | OFlags::DIRECTORY, EXACT)?);
        rest = &rest[end + 1..];
    }
    let from = step.as_ref().map_or(dir, AsFd::as_fd);
    open_at(from, Path::new(OsStr::from_bytes(rest)), flags, EXACT)
}

/// Opens for reading what was a regular file when it was listed: `name` in `dir`, one component. Anything
/// else that may be there by now does not block and is not followed.
pub(crate) fn open_listed(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map(File::from)
}

/// Makes an empty file `name` in `dir`, in place of any file or link; `EISDIR` if a directory is in the way.
pub(crate) fn create_new(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    replacing(dir, name, || rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map(File::from))
}

/// Calls `make`, which makes `name` in `dir`, and removes first what is in the way unless it is a directory.
pub(crate) fn replacing<T>(
    dir: BorrowedFd<'_>,
    name: &[u8],
    make: impl Fn() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    for _ in 0..MAX_RACES {
        match make() {
            Err(Errno::EXIST) => {}
            made => return made,
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::EXIST)
}

/// Sets the modification time of an open file; the access time stays.
pub(crate) fn set_modified(file: impl AsFd, modified: Time) -> rustix::io::Result<()> {
    rustix::fs::futimens(file, &times(modified))
}

/// The argument of the calls that set times.
pub(crate) fn times(modified: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() },
    }
}

/// Sets the owner of an open file.
pub(crate) fn set_owner(file: impl AsFd, owner: Owner) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))
}

fn open_at(dir: impl AsFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        match rustix::fs::openat2(&dir, path, flags, Mode::empty(), resolve) {
            // Something was renamed meanwhile somewhere on this machine (openat2(2)).
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
}

/// Bytes as the path they are.
pub(crate) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn into_path(target: std::ffi::CString) -> PathBuf {
    OsString::from_vec(target.into_bytes()).into()
}

fn is_missing(error: &Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error, Error::File { source, .. } if matches!(source.kind(), NotFound | NotADirectory))
}

#[cfg(test)]
mod tests;
