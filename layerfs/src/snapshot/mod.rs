//! Snapshots: trees that a step may change, committed by a rename.
//!
//! Two things can lie on the disk ([`Layout`]): layers, which `overlay` stacks, with the kernel's help or a program's;
//! and whole trees (`copies`), where nothing can stack. `driver` says which, and finds out what there is.
//!
//! The contract, whatever stands behind it:
//! * [`Snapshotter::prepare`] gives an [`Active`] snapshot: all that the parent shows, writable. Dropping it
//!   abandons the changes; [`Snapshotter::commit`] gives them a name. A name is committed once: if another
//!   process was faster, its snapshot stays and this one is discarded.
//! * A committed snapshot never changes, knows its ancestors, and can tell what it changed: the same for all drivers.
//! * [`Snapshotter::restack`] puts a snapshot that was made on nothing on top of another one.
//! * Roots are descriptors of detached mounts: they appear in no mount namespace, and vanish with the last
//!   descriptor however its holder ends.

mod classic;
mod copies;
mod driver;
mod fuse;
mod overlay;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use oci::{ChainId, Digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use copies::original_of;
pub use driver::{Choice, Driver, UnknownDriver};
pub(crate) use driver::{Chosen, Everywhere};

use crate::ingest::NewDir;
use crate::lease::Lease;
use crate::mount::{Devices, clone_mount};
use crate::{Error, IoResultExt, Result};

/// The name of a committed snapshot; always a safe file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnapshotId {
    /// The layers of an image, applied in order: `chain-<hex>`.
    Chain(ChainId),
    /// The result of a build step, by its cache key: `key-<hex>`.
    Key(Digest),
}

impl SnapshotId {
    /// The snapshot of pulled layers.
    pub fn chain(chain: ChainId) -> SnapshotId {
        SnapshotId::Chain(chain)
    }

    /// The snapshot of a build step.
    pub fn key(key: Digest) -> SnapshotId {
        SnapshotId::Key(key)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotId::Chain(chain) => write!(f, "chain-{}", chain.0.hex()),
            SnapshotId::Key(key) => write!(f, "key-{}", key.hex()),
        }
    }
}

impl FromStr for SnapshotId {
    type Err = Error;

    fn from_str(text: &str) -> Result<SnapshotId> {
        let chain =
            text.strip_prefix("chain-").and_then(Digest::from_hex).map(|hex| SnapshotId::Chain(ChainId(hex)));
        chain
            .or_else(|| text.strip_prefix("key-").and_then(Digest::from_hex).map(SnapshotId::Key))
            .ok_or_else(|| Error::SnapshotId { text: text.to_owned() })
    }
}

impl Serialize for SnapshotId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SnapshotId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a committed snapshot is on the disk. Each layout has a folder of its own: by one name there may be a
/// snapshot in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// Its own changes, in overlayfs's notation.
    Layers,
    /// All that it shows.
    Trees,
}

impl Layout {
    /// Both.
    pub const ALL: [Layout; 2] = [Layout::Layers, Layout::Trees];

    /// The folder in the store.
    pub fn folder(self) -> &'static str {
        match self {
            Layout::Layers => "snapshots",
            Layout::Trees => "trees",
        }
    }
}

/// What makes snapshots.
pub trait Snapshotter: Send + Sync {
    /// What they are on the disk. Results that were made from them are of that layout's snapshots alone: two
    /// executions of one step, one for each, need not be alike.
    fn layout(&self) -> Layout;

    /// Begins a snapshot on top of `parent`, or an empty one.
    fn prepare(&self, parent: Option<&SnapshotId>) -> Result<Active>;

    /// Begins a snapshot on top of `parent` whose root need show nothing but its own changes, for those who know what
    /// they will touch ([`crate::copy::bring_up`]): nothing has to be mounted for writing. A directory that is in
    /// both must be made as the parent's is, if it is not there.
    fn prepare_beside(&self, parent: &SnapshotId) -> Result<Active> {
        self.prepare(Some(parent))
    }

    /// How snapshots are made before their parents are there; none where a snapshot needs its parent from the start.
    fn apart(&self) -> Option<&dyn PrepareApart> {
        None
    }

    /// Keeps the changes of `active` as `id`.
    ///
    /// The last process in the snapshot must have ended before. The snapshot is visible when this returns, or
    /// another one by the same name is, which was there first.
    fn commit(&self, active: Active, id: &SnapshotId) -> Result<()>;

    /// Commits `id`, which shows `layer` on top of `parent`; a snapshot by that name that is there stays.
    ///
    /// No file is copied, and [`Snapshotter::changes`] of `id` are those of `layer`: what was made on nothing is
    /// packed as that, whatever it comes to stand on. Its directories show their own metadata, save the root,
    /// which stays as the parent's.
    ///
    /// # Errors
    /// [`Error::NotABottom`] if `layer` has ancestors, [`Error::MissingSnapshot`] if one of the two is not there.
    fn restack(&self, parent: Option<&SnapshotId>, layer: &SnapshotId, id: &SnapshotId) -> Result<()>;

    /// Lets `name` stand for the committed `id` as well, unless something has that name already.
    fn alias(&self, id: &SnapshotId, name: &SnapshotId) -> Result<()>;

    /// The snapshot that `name` stands for: itself, unless it is an alias.
    fn resolve(&self, name: &SnapshotId) -> SnapshotId;

    /// Keeps collectors away from `id` and its ancestors; says whether it is there. All other calls but
    /// [`Snapshotter::contains`], [`Snapshotter::ancestors`] and [`Snapshotter::resolve`] do that as well.
    fn hold(&self, id: &SnapshotId) -> Result<bool>;

    /// Whether `id` is committed just now.
    fn contains(&self, id: &SnapshotId) -> bool;

    /// The ancestors of `id`, its parent first.
    fn ancestors(&self, id: &SnapshotId) -> Result<Vec<SnapshotId>>;

    /// Shows a committed snapshot, read-only.
    fn view(&self, id: &SnapshotId) -> Result<View>;

    /// What `id` changed: for packing it as a layer.
    fn changes(&self, id: &SnapshotId) -> Result<Changes>;

    /// Deletes `id`, if it is there; says how many bytes of disk that frees. Snapshots on top of it are of no
    /// use afterwards.
    fn remove(&self, id: &SnapshotId) -> Result<u64>;
}

/// Makes snapshots whose parents come later.
pub trait PrepareApart {
    /// Begins a snapshot that shows nothing yet.
    fn prepare_apart(&self) -> Result<Active>;

    /// Keeps what is in `active`, which was prepared apart, as the changes from `parent` to `id`.
    ///
    /// # Errors
    /// [`Error::MissingSnapshot`] if the parent is not there.
    fn commit_onto(&self, parent: Option<&SnapshotId>, active: Active, id: &SnapshotId) -> Result<()>;
}

/// A snapshot that can be changed; dropped without a commit it leaves nothing behind.
#[derive(Debug)]
pub struct Active {
    /// First, so that it is dropped first: the mount uses the directories.
    root: OwnedFd,
    /// The directory that holds the changes and nothing else, if there is one.
    upper: Option<OwnedFd>,
    dir: NewDir,
    ancestors: Vec<SnapshotId>,
    /// Nobody may collect what lies below.
    lease: Arc<Lease>,
}

impl Active {
    /// The root of the merged view. A device node in it cannot be opened: it acts on this machine.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A second, detached mount of the same view, for a container to attach in its own namespace.
    ///
    /// It shows the same files as [`Active::root`]: changes by either are seen by both. Which devices may be
    /// opened here is for the container's rules to say, except before Linux 6.15, where none can be.
    pub fn try_clone_root(&self) -> Result<OwnedFd> {
        clone_mount(self.root.as_fd(), Devices::Usable)
    }

    /// Where the snapshot lies in the store: what it holds, which is more or less than what it shows where something
    /// lies below. For looking at: to write here is undefined behaviour while the view is mounted (overlayfs.rst),
    /// unless nothing lies below.
    pub fn upper_path(&self) -> PathBuf {
        self.dir.path.join("fs")
    }

    /// What lies below, for those who unpack a layer ([`crate::layer::unpack`]).
    pub fn below(&self) -> Below<'_> {
        match &self.upper {
            _ if self.ancestors.is_empty() => Below::Nothing,
            Some(upper) => Below::Apart { upper: upper.as_fd() },
            None => Below::Mixed,
        }
    }

    /// The parent.
    pub fn parent(&self) -> Option<&SnapshotId> {
        self.ancestors.first()
    }
}

/// How what lies below the changes can be told from them.
#[derive(Clone, Copy, Debug)]
pub enum Below<'a> {
    /// Nothing lies below: the root itself holds the changes.
    Nothing,
    /// The changes are in this directory, in overlayfs's notation.
    Apart {
        /// The upper directory.
        upper: BorrowedFd<'a>,
    },
    /// It cannot: both are in one tree, or more than the changes is where they are.
    Mixed,
}

/// A committed snapshot, shown read-only.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    _lease: Arc<Lease>,
}

impl View {
    /// The root of the merged view.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A second, detached mount of the same view, for a container to attach in its own namespace.
    pub fn try_clone_root(&self) -> Result<OwnedFd> {
        clone_mount(self.root.as_fd(), Devices::Inert)
    }
}

/// What a snapshot changed, and what it changed it from.
#[derive(Debug)]
pub struct Changes {
    /// The directory with the changes, in overlayfs's notation, or the whole tree.
    pub upper: OwnedFd,
    /// Which of the two. Where there is no parent they are the same.
    pub layout: Layout,
    /// The parent's merged view; none for a bottom snapshot, and where nothing was changed.
    pub lower: Option<View>,
}

fn open_at(path: &Path) -> Result<OwnedFd> {
    crate::ingest::open_dir(path).at("open", path)
}
