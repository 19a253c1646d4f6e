//! Persistent directories, for `RUN --mount=type=cache`.
//!
//! ```text
//! mounts/<sha256 of the id>-<instance>/   0700 above; locked by whoever uses it, and then it may move or go
//!   data/                                 what a container sees
//!   record.json                           the id, and when it was made and used
//! ```
//!
//! Here: making, taking, listing and removing them. Not here: where in a container they are attached, what they are
//! seeded with (the caller's `create`), which of them are old enough to go.
//!
//! Order of taking: open; lock; see that it is still there by its name; note the time. One that is missing is made in
//! `ingest/`, locked as everything there is, and moves to its name complete and still locked.
//!
//! Invariants: an id is never a path, only its digest is; a collection of the store leaves all this alone; what is
//! locked is neither moved nor deleted, and the lock goes with the process however it ends.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oci::Digest;
use rustix::fs::{CWD, RenameFlags, fstat, stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::confined::{NewDirectory, Root};
use crate::ingest::{Ingest, open_dir, random_name};
use crate::mount::bind;
use crate::store::Store;
use crate::{IoResultExt, Result, lock, record, remove};

/// How long a waiter sleeps between two looks, at first and at most. `flock(2)` itself has no time limit, so waiting in
/// it could not be given up.
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Who may use a directory at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All who share it, in one directory.
    Shared,
    /// One, in the first directory of the id that nobody uses; if there is none, in a new one.
    Private,
    /// One; the others wait. It is the directory that those who share have too, and they wait for each other.
    Locked,
}

/// The cache mounts of a store. A clone works on the same ones.
#[derive(Clone, Debug)]
pub struct CacheMounts {
    root: PathBuf,
}

/// One directory in use; dropping it lets others have it.
#[derive(Debug)]
pub struct CacheMount {
    data: Root,
    _lock: OwnedFd,
}

/// What is known of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMountInfo {
    /// The id that it is asked for by; its directory's name where its record is damaged.
    pub id: String,
    /// Which of the directories of this id it is, from 0.
    pub instance: usize,
    /// How many bytes of disk it takes; of one in use what was seen.
    pub size_bytes: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When it was last taken.
    pub last_used: SystemTime,
    /// Whether somebody has it now.
    pub in_use: bool,
    directory: String,
}

/// What `record.json` says; times in seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    created: u64,
    last_used: u64,
}

/// How a try to take a directory went.
enum Attempt {
    Taken(CacheMount),
    InUse,
    /// Somebody else has made it or removed it meanwhile.
    Changed,
}

impl Store {
    /// The cache mounts kept in this store.
    pub fn cache_mounts(&self) -> CacheMounts {
        CacheMounts { root: self.root().to_owned() }
    }
}

impl CacheMounts {
    /// Takes a directory of `id`; waits for it if it must, until `give_up` says so, and then it is `None`.
    ///
    /// A new one is empty, root's and 0755, and is seen by nobody else before `create` has filled it. Two that lock
    /// several ids must take them in the same order, and nobody may take the same id twice at a time, or they wait for
    /// ever; one [`CacheMount`] gives as many mounts as are needed.
    ///
    /// # Errors
    /// Those of `create`, and [`crate::Error::File`].
    pub fn take(
        &self,
        id: &str,
        sharing: Sharing,
        create: &dyn Fn(&Root) -> Result<()>,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Option<CacheMount>> {
        let (mut wait, longest_wait) = WAITS;
        let mut instance = 0;
        loop {
            match self.attempt(id, instance, sharing, create)? {
                Attempt::Taken(mount) => return Ok(Some(mount)),
                Attempt::Changed => {}
                Attempt::InUse if sharing == Sharing::Private => instance += 1,
                Attempt::InUse if give_up() => return Ok(None),
                Attempt::InUse => {
                    std::thread::sleep(wait);
                    wait = longest_wait.min(wait * 2);
                }
            }
        }
    }

    /// All directories, sorted by id and instance.
    pub fn list(&self) -> Result<Vec<CacheMountInfo>> {
        let mut infos = Vec::new();
        for path in record::list(&self.dir())? {
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some((name, instance)) = name.and_then(parse_name) {
                infos.extend(self.info(name, instance)?);
            }
        }
        infos.sort_by(|one, other| (&one.id, one.instance).cmp(&(&other.id, other.instance)));
        Ok(infos)
    }

    /// Deletes a directory, unless somebody uses it: then it is `None`. Says how many bytes of disk that frees.
    pub fn remove(&self, info: &CacheMountInfo) -> Result<Option<u64>> {
        let dir = self.dir().join(&info.directory);
        let lock = match open_dir(&dir) {
            Err(Errno::NOENT) => return Ok(Some(0)),
            opened => opened.at("open", &dir)?,
        };
        if !lock::try_exclusive(&lock).at("lock", &dir)? {
            return Ok(None);
        }
        if !is_at(&lock, &dir)? {
            // What is there now is another one than was listed.
            return Ok(Some(0));
        }
        let (trash, name) = (self.root.join("trash"), random_name());
        std::fs::rename(&dir, trash.join(&name)).at("delete", &dir)?;
        let trash = open_dir(&trash).at("open", &trash)?;
        remove::remove_tree(&trash, name.as_bytes()).at("delete", &dir).map(Some)
    }

    fn dir(&self) -> PathBuf {
        self.root.join("mounts")
    }

    fn attempt(
        &self,
        id: &str,
        instance: usize,
        sharing: Sharing,
        create: &dyn Fn(&Root) -> Result<()>,
    ) -> Result<Attempt> {
        let dir = self.dir().join(format!("{}-{instance}", Digest::of(id.as_bytes()).hex()));
        let lock = match open_dir(&dir) {
            Err(Errno::NOENT) => match self.make(id, &dir, create)? {
                Some(lock) => lock,
                None => return Ok(Attempt::Changed),
            },
            opened => opened.at("open", &dir)?,
        };
        let locked = match sharing {
            Sharing::Shared => lock::try_shared(&lock),
            Sharing::Private | Sharing::Locked => lock::try_exclusive(&lock),
        };
        if !locked.at("lock", &dir)? {
            return Ok(Attempt::InUse);
        }
        // It may have been removed before it was locked.
        if !is_at(&lock, &dir)? {
            return Ok(Attempt::Changed);
        }
        self.note_use(id, &dir)?;
        let data = Root::open(&dir.join("data"))?;
        Ok(Attempt::Taken(CacheMount { data, _lock: lock }))
    }

    /// Makes a directory, locked exclusively; `None` if somebody else was faster.
    fn make(&self, id: &str, dir: &Path, create: &dyn Fn(&Root) -> Result<()>) -> Result<Option<OwnedFd>> {
        let new = Ingest::new(&self.root).new_dir()?;
        let data = new.path.join("data");
        std::fs::create_dir(&data).at("create", &data)?;
        let root = Root::open(&data)?;
        // Whatever this process's umask is.
        root.dress(&NewDirectory::default())?;
        create(&root)?;
        self.note_use(id, &new.path)?;
        match rustix::fs::renameat_with(CWD, &new.path, CWD, dir, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => Ok(None),
            // The lock is that of the open directory, so it lives on with the copy of its descriptor.
            renamed => {
                renamed.at("create", dir).and_then(|()| new.lock.try_clone().at("lock", dir)).map(Some)
            }
        }
    }

    /// A record that a power cut has damaged begins anew.
    fn note_use(&self, id: &str, dir: &Path) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let created = read_record(dir).map_or(now, |record| record.created);
        let record = Record { id: id.to_owned(), created, last_used: now };
        let bytes = serde_json::to_vec(&record).expect("text and numbers are JSON");
        Ingest::new(&self.root).replace_file(&dir.join("record.json"), &bytes)
    }

    /// `None` if it was removed meanwhile.
    fn info(&self, name: &str, instance: usize) -> Result<Option<CacheMountInfo>> {
        let dir = self.dir().join(name);
        let lock = match open_dir(&dir) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.at("open", &dir)?,
        };
        let in_use = !lock::try_exclusive(&lock).at("lock", &dir)?;
        // Whoever wants it is not to wait for the counting.
        lock::release(&lock).at("unlock", &dir)?;
        let record = read_record(&dir);
        let at = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
        Ok(Some(CacheMountInfo {
            instance,
            size_bytes: remove::usage(&lock).at("measure", &dir)?,
            created: record.as_ref().map_or(UNIX_EPOCH, |record| at(record.created)),
            last_used: record.as_ref().map_or(UNIX_EPOCH, |record| at(record.last_used)),
            id: record.map_or_else(|| name.to_owned(), |record| record.id),
            in_use,
            directory: name.to_owned(),
        }))
    }
}

impl CacheMount {
    /// The directory itself, on this machine.
    pub fn root(&self) -> &Root {
        &self.data
    }

    /// A detached mount of it, for a container to attach in its own namespace. A device node in it cannot be opened.
    ///
    /// Must not outlive the [`CacheMount`], or others use the directory at the same time after all.
    pub fn try_clone_mount(&self) -> Result<OwnedFd> {
        bind(&self.data, libc::MOUNT_ATTR_NODEV)
    }

    /// The same of a directory below it, which is made, root's and 0755, if it is missing. No link in it leads out.
    pub fn try_clone_mount_at(&self, below: &Path) -> Result<OwnedFd> {
        let (dir, _) = self.data.open_or_make_dir(below, &NewDirectory::default())?;
        bind(dir, libc::MOUNT_ATTR_NODEV)
    }
}

/// The name itself and the instance, if it is one of ours.
fn parse_name(name: &str) -> Option<(&str, usize)> {
    let (hex, instance) = name.split_once('-')?;
    Digest::from_hex(hex)?;
    Some((name, instance.parse().ok()?))
}

fn read_record(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(dir.join("record.json")).ok()?).ok()
}

/// Whether an open directory is still the one at `path`.
fn is_at(dir: &OwnedFd, path: &Path) -> Result<bool> {
    let ours = fstat(dir).at("examine", path)?;
    match stat(path) {
        Err(Errno::NOENT) => Ok(false),
        found => {
            found.map(|found| (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)).at("examine", path)
        }
    }
}
