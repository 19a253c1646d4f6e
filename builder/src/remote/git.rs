//! Git repositories, by the system's `git`.
//!
//! Order: what the reference stands for is asked of the repository (`ls-remote`), unless it is a commit already; if
//! the tree of that commit is here, this is all. Else the commit alone is fetched into a bare repository in the
//! store, checked out into a new snapshot, submodules likewise, and the directory that is meant is moved to the
//! root of another snapshot.
//!
//! `repository` is one repository and its copy in the store, `program` runs git, `submodule` reads what submodules
//! a commit has. Git's own `submodule` command is not used: each submodule is a repository like the first, with its
//! own copy, and what a hostile `.gitmodules` says passes through the same checks as what a user says.
//!
//! What is not done: filters (so LFS files are their pointers), hooks, `.git` in submodules.

mod program;
mod repository;
mod submodule;

use std::path::{Path, PathBuf};

use layerfs::IoResultExt;
use layerfs::confined::{Kind, Root};
use layerfs::snapshot::{Active, SnapshotId};
use layerfs::walk;
use oci::Digest;
use rustix::fs::{AtFlags, utimensat};

use self::repository::{Home, Pin, Repository};
use super::{FetchError, FetchRequest, Fetcher, GitSource, Mtime, Tree, archive, record, timestamps};

/// How many submodules a repository may have, with those of its submodules.
const MAX_SUBMODULES: usize = 1000;
/// How deep they may lie in each other.
const MAX_DEPTH: usize = 16;

pub(super) fn fetch(
    fetcher: &Fetcher<'_>,
    source: &GitSource,
    request: &FetchRequest<'_>,
) -> Result<Tree, FetchError> {
    let home = Home { origin: source.remote.origin(), is_own: fetcher.options.own.contains(&source.remote) };
    let repository = Repository::open(fetcher, request, &source.remote, home);
    let pin = repository.resolve(source)?;
    expect(source, &pin)?;
    let identity = identity(source, &pin);
    if let Some(tree) = record::tree(fetcher.store, fetcher.snapshots, identity) {
        return Ok(tree);
    }
    let active = fetcher.snapshots.prepare(None).map_err(FetchError::store("check out the repository"))?;
    let mut checkout = Checkout { fetcher, request, home, submodules: 0 };
    let keep = source.keep_git_dir == Some(true) && source.subdir.is_none();
    let top = Place { active: &active, path: PathBuf::new(), depth: 0 };
    let modified = checkout.populate(&repository, &pin, &top, keep, source.submodules)?;
    let active = match &source.subdir {
        None => active,
        Some(subdir) => descend(fetcher, source, &active, subdir)?,
    };
    if source.mtime == Some(Mtime::Commit) {
        date(&active, modified).map_err(FetchError::store("date the repository's files"))?;
    }
    let snapshot = SnapshotId::key(identity);
    fetcher.snapshots.commit(active, &snapshot).map_err(FetchError::store("keep the repository's files"))?;
    let (modified, commit) = (Some(modified), Some(pin.commit));
    let tree = Tree { identity, snapshot, modified, name: String::new(), commit };
    record::put_tree(fetcher.store, &tree)?;
    Ok(tree)
}

/// A checksum may be that of the commit or of the tag that leads to it.
fn expect(source: &GitSource, pin: &Pin) -> Result<(), FetchError> {
    match &source.checksum {
        Some(expected) if !pin.commit.starts_with(expected) && !pin.object.starts_with(expected) => {
            Err(FetchError::Checksum {
                address: source.remote.to_string(),
                expected: expected.clone(),
                found: pin.commit.clone(),
            })
        }
        _ => Ok(()),
    }
}

/// What the tree is: the commit, and what is taken of it. Where it comes from, and by which tag, only matters to a
/// `.git` that stays.
fn identity(source: &GitSource, pin: &Pin) -> Digest {
    let keep = source.keep_git_dir == Some(true) && source.subdir.is_none();
    let name = pin.name.as_deref().unwrap_or_default();
    let remote = source.remote.to_string();
    let (remote, name, object) =
        if keep { (remote.as_str(), name, pin.object.as_str()) } else { ("", "", "") };
    let subdir = source.subdir.as_deref().unwrap_or(Path::new("")).as_os_str().as_encoded_bytes();
    let dated = source.mtime == Some(Mtime::Commit);
    record::digest_of(&[
        b"lbuild git tree 2",
        pin.commit.as_bytes(),
        subdir,
        &[u8::from(keep), u8::from(source.submodules), u8::from(dated)],
        remote.as_bytes(),
        name.as_bytes(),
        object.as_bytes(),
    ])
}

/// Where a commit is checked out.
struct Place<'a> {
    active: &'a Active,
    /// The path below the snapshot's root; leads through no link.
    path: PathBuf,
    depth: usize,
}

/// A commit and its submodules on their way into a snapshot.
struct Checkout<'a> {
    fetcher: &'a Fetcher<'a>,
    request: &'a FetchRequest<'a>,
    home: Home<'a>,
    submodules: usize,
}

impl Checkout<'_> {
    /// Checks out one commit, and its submodules if they are wanted; says when the commit was made.
    fn populate(
        &mut self,
        repository: &Repository<'_>,
        pin: &Pin,
        place: &Place<'_>,
        keep_git_dir: bool,
        submodules: bool,
    ) -> Result<i64, FetchError> {
        let work = place.active.upper_path().join(&place.path);
        let (modified, modules) = {
            let copy = repository.with(pin)?;
            match keep_git_dir {
                true => copy.clone_into(pin, &work)?,
                false => copy.check_out(pin, &work)?,
            }
            let modules = if submodules { copy.submodules(pin)? } else { Vec::new() };
            (copy.time_of(pin)?, modules)
        };
        for module in modules {
            self.submodules += 1;
            if self.submodules > MAX_SUBMODULES || place.depth >= MAX_DEPTH {
                let limit = if place.depth >= MAX_DEPTH { MAX_DEPTH } else { MAX_SUBMODULES };
                return Err(FetchError::TooManySubmodules { address: repository.shown(), limit });
            }
            let below =
                Place { active: place.active, path: place.path.join(&module.path), depth: place.depth + 1 };
            // The path comes from a hostile repository: it must be the empty directory that git made for it.
            if !is_plain_directory(place.active, &below.path)
                .map_err(FetchError::store("check out the repository"))?
            {
                continue;
            }
            let failed =
                |source| FetchError::Submodule { path: module.path.clone(), source: Box::new(source) };
            let repository = Repository::open(self.fetcher, self.request, &module.address, self.home);
            self.populate(&repository, &module.pin, &below, false, true).map_err(failed)?;
        }
        Ok(modified)
    }
}

/// Whether `path` is a directory, and neither it nor one above it is a link.
fn is_plain_directory(active: &Active, path: &Path) -> layerfs::Result<bool> {
    let resolved = Root::duplicate(active.root())?.resolve(path)?;
    Ok(resolved.is_some_and(|found| found.metadata.kind == Kind::Directory && found.links.is_empty()))
}

/// The files of one directory of the repository, in a snapshot of their own.
fn descend(
    fetcher: &Fetcher<'_>,
    source: &GitSource,
    whole: &Active,
    subdir: &Path,
) -> Result<Active, FetchError> {
    let stored = FetchError::store("check out the repository");
    let found = Root::duplicate(whole.root()).and_then(|root| root.resolve(subdir)).map_err(&stored)?;
    let Some(found) = found.filter(|found| found.metadata.kind == Kind::Directory) else {
        let (address, path) = (source.remote.to_string(), subdir.to_owned());
        return Err(FetchError::Subdirectory { address, path });
    };
    let active = fetcher.snapshots.prepare(None).map_err(&stored)?;
    archive::lift(whole, &found.path, &active).map_err(&stored)?;
    Ok(active)
}

/// Dates everything in a snapshot.
fn date(active: &Active, seconds: i64) -> layerfs::Result<()> {
    let (root, times) = (active.root(), timestamps(seconds));
    for entry in walk::walk(root, &walk::everything)? {
        let path = entry.path.as_slice();
        utimensat(root, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .at("date", String::from_utf8_lossy(path).as_ref())?;
    }
    rustix::fs::utimensat(root, c".", &times, AtFlags::empty()).at("date", "/")
}
