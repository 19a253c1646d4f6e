//! What a user of the store holds, told to those who collect in it.
//!
//! ```text
//! lock             the gate: shared while something is added to a lease, exclusive while a collector marks and moves
//! leases/<random>  locked by its owner for as long as that lives: a line for each blob and snapshot it holds
//! ```
//!
//! Order of a use: pass the gate, add a line, leave; only then look whether the thing is there. So a collector that
//! came before has taken it, and it is seen to be missing; one that comes after finds the line. Nobody stays at the
//! gate for longer than that, so neither waits for the other's work.
//!
//! Invariants: a lease is made and locked within the gate, so one that nobody has locked belongs to nobody; it goes
//! with its owner however that ends. A thing that was made is held before it appears.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use oci::Digest;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::ingest::random_name;
use crate::snapshot::SnapshotId;
use crate::{Error, IoResultExt, Result, lock, record};

/// What can be held. A blob is held with all that it names, a snapshot with its ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    /// A blob.
    Blob(Digest),
    /// A snapshot or an alias.
    Snapshot(SnapshotId),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Held::Blob(digest) => digest.fmt(f),
            Held::Snapshot(id) => id.fmt(f),
        }
    }
}

impl FromStr for Held {
    type Err = Error;

    fn from_str(text: &str) -> Result<Held> {
        match text.parse() {
            Ok(digest) => Ok(Held::Blob(digest)),
            Err(_) => text.parse().map(Held::Snapshot),
        }
    }
}

/// What one open store holds; it ends with the value.
#[derive(Debug)]
pub(crate) struct Lease {
    /// None of a store that is only looked at: it can promise nothing, and changes nothing.
    place: Option<Place>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Place {
    root: PathBuf,
    gate: OwnedFd,
}

#[derive(Debug, Default)]
struct Written {
    held: HashSet<Held>,
    /// Made with the first line.
    file: Option<(PathBuf, File)>,
}

impl Lease {
    /// An empty one of the store in `root`.
    pub(crate) fn new(root: &Path) -> Result<Lease> {
        let gate = open_gate(root)?;
        let place = Some(Place { root: root.to_owned(), gate });
        Ok(Lease { place, written: Mutex::default() })
    }

    /// One that holds nothing, whatever is asked of it.
    pub(crate) fn of_onlooker() -> Lease {
        Lease { place: None, written: Mutex::default() }
    }

    pub(crate) fn is_of_onlooker(&self) -> bool {
        self.place.is_none()
    }

    /// From now on nobody collects `thing`, if it is still there when this returns.
    pub(crate) fn hold(&self, thing: Held) -> Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.held.contains(&thing) {
            return Ok(());
        }
        let gate = place.root.join("lock");
        lock::wait_shared(&place.gate).at("lock", &gate)?;
        let added = written.add(thing, &place.root);
        lock::release(&place.gate).at("unlock", &gate)?;
        added
    }

    /// Lets go of everything.
    pub(crate) fn release(&mut self) {
        *self.written.get_mut().unwrap_or_else(PoisonError::into_inner) = Written::default();
    }
}

impl Written {
    fn add(&mut self, thing: Held, root: &Path) -> Result<()> {
        if self.file.is_none() {
            let path = root.join("leases").join(random_name());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::CLOEXEC;
            let file = openat(CWD, &path, flags, Mode::from_raw_mode(0o600)).at("create", &path)?;
            // Somebody who only looks may have it for a moment.
            lock::wait_exclusive(&file).at("lock", &path)?;
            self.file = Some((path, file.into()));
        }
        if let Some((path, file)) = &mut self.file {
            // In one call: a reader sees whole lines.
            file.write_all(format!("{thing}\n").as_bytes()).at("write", path)?;
        }
        self.held.insert(thing);
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some((path, _locked)) = self.file.take() {
            // One that stays is cleared by the next collector.
            let _gone = std::fs::remove_file(path);
        }
    }
}

/// The gate, shut for all users while the value lives.
#[derive(Debug)]
pub(crate) struct Shut {
    _gate: OwnedFd,
}

/// Shuts the gate, as soon as those within have left it.
pub(crate) fn shut(root: &Path) -> Result<Shut> {
    let gate = open_gate(root)?;
    lock::wait_exclusive(&gate).at("lock", root.join("lock"))?;
    Ok(Shut { _gate: gate })
}

impl Shut {
    /// All that living users hold; what dead ones left is cleared away.
    pub(crate) fn held(&self, root: &Path) -> Result<BTreeSet<Held>> {
        held_by_living(root, &|path| {
            // Its owner may have ended in between and taken it along.
            let _gone = std::fs::remove_file(path);
        })
    }
}

/// What living users of the store in `root` hold just now: for showing, since it may change at once.
pub(crate) fn held_now(root: &Path) -> BTreeSet<Held> {
    // Where it cannot be found out, as on a file system without locks, nothing is shown as held.
    held_by_living(root, &|_| ()).unwrap_or_default()
}

/// Calls `dead` for each lease whose owner has ended.
fn held_by_living(root: &Path, dead: &dyn Fn(&Path)) -> Result<BTreeSet<Held>> {
    let mut held = BTreeSet::new();
    for path in record::list(&root.join("leases"))? {
        let file = match File::open(&path) {
            // Its owner has ended.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.at("open", &path)?,
        };
        if lock::try_shared(&file).at("lock", &path)? {
            dead(&path);
            continue;
        }
        let text = std::io::read_to_string(&file).at("read", &path)?;
        held.extend(text.lines().filter_map(|line| line.parse::<Held>().ok()));
    }
    Ok(held)
}

fn open_gate(root: &Path) -> Result<OwnedFd> {
    let path = root.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    openat(CWD, &path, flags, Mode::from_raw_mode(0o600)).at("open", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("leases")).unwrap();
        dir
    }

    fn blob(text: &str) -> Held {
        Held::Blob(Digest::of(text.as_bytes()))
    }

    #[test]
    fn a_lease_is_seen_while_its_owner_lives() {
        let root = root();
        let mut first = Lease::new(root.path()).unwrap();
        let second = Lease::new(root.path()).unwrap();
        let snapshot = Held::Snapshot(SnapshotId::key(Digest::of(b"s")));
        first.hold(blob("a")).unwrap();
        first.hold(blob("a")).unwrap();
        first.hold(snapshot).unwrap();
        second.hold(blob("b")).unwrap();
        std::fs::write(root.path().join("leases/of a dead one"), blob("c").to_string()).unwrap();
        let held = |root: &Path| shut(root).unwrap().held(root).unwrap();
        assert_eq!(held(root.path()), BTreeSet::from([blob("a"), blob("b"), snapshot]));
        assert_eq!(std::fs::read_dir(root.path().join("leases")).unwrap().count(), 2);
        drop(second);
        assert_eq!(held_now(root.path()), BTreeSet::from([blob("a"), snapshot]));
        first.release();
        assert!(held(root.path()).is_empty());
        first.hold(blob("a")).unwrap();
        assert_eq!(held(root.path()), BTreeSet::from([blob("a")]), "and again");
        Lease::of_onlooker().hold(blob("d")).unwrap();
        drop(first);
        assert_eq!(std::fs::read_dir(root.path().join("leases")).unwrap().count(), 0);
    }

    #[test]
    fn nobody_passes_a_shut_gate() {
        let root = root();
        let lease = Lease::new(root.path()).unwrap();
        let shut = shut(root.path()).unwrap();
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| lease.hold(blob("a")).unwrap());
            // However long the holder is given, it has written nothing.
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!holder.is_finished() && shut.held(root.path()).unwrap().is_empty());
            drop(shut);
        });
        assert_eq!(held_now(root.path()), BTreeSet::from([blob("a")]));
    }
}
