//! The files of the cache, for those who keep the store in order: what they refer to, and which of them go.
//!
//! `cache/<key>` is a record, `cache/layer-<digest>` a packed layer, `cache/locks` is the file whose bytes are locked.
//! Nothing here makes or mounts a snapshot, so no driver is needed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{PackedLayer, Record};

/// The file in `cache/` whose bytes are locked.
pub(super) const LOCKS: &str = "locks";

/// What a `layer-` file says.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) snapshot: SnapshotId,
    /// What it was packed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) acls: bool,
    pub(super) layer: PackedLayer,
}

/// One file of the cache.
pub(crate) struct CacheEntry {
    /// The file.
    pub(crate) path: PathBuf,
    /// What it stands for.
    pub(crate) snapshot: SnapshotId,
    /// The tar, of a packed layer.
    pub(crate) blob: Option<Digest>,
    /// What the step does, of a step.
    pub(crate) step: Option<String>,
    /// When it was last of use.
    pub(crate) last_used: SystemTime,
}

/// What is in a file of the cache.
pub(super) enum CacheFile {
    Record(Record),
    Layer(Box<LayerRecord>),
}

impl CacheFile {
    pub(super) fn snapshot(&self) -> SnapshotId {
        match self {
            CacheFile::Record(record) => record.snapshot,
            CacheFile::Layer(layer) => layer.snapshot,
        }
    }
}

/// How old the time of last use may be: noting it at each use would cost more than it is worth.
const EXACTNESS: Duration = Duration::from_secs(3600);

/// Notes that a record is of use, by the time of its file.
pub(crate) fn touch(file: &File) {
    let now = SystemTime::now();
    let noted = file.metadata().and_then(|metadata| metadata.modified());
    if noted.is_ok_and(|noted| now.duration_since(noted).is_ok_and(|age| age > EXACTNESS)) {
        // On a read-only store nobody wants to know.
        let _noted = file.set_modified(now);
    }
}

/// All that the cache refers to, so that a collection keeps it: snapshots, and the blobs of packed layers.
///
/// # Errors
/// When the directory cannot be listed.
pub(crate) fn references(store: &Store) -> layerfs::Result<(Vec<SnapshotId>, Vec<Digest>)> {
    let (mut snapshots, mut blobs) = (Vec::new(), Vec::new());
    for (_, file) in files(store)? {
        snapshots.push(file.snapshot());
        if let CacheFile::Layer(layer) = file {
            blobs.push(layer.layer.descriptor.digest);
        }
    }
    Ok((snapshots, blobs))
}

/// Forgets the results that only images which are gone consisted of: what is in the stacks of `gone` and in none of
/// `keep`. Results of stages that no image consists of stay, for the next build.
///
/// # Errors
/// When a record cannot be deleted.
pub fn prune(store: &Store, gone: &[SnapshotId], keep: &[SnapshotId]) -> layerfs::Result<()> {
    let (gone, keep) = (stacks(store, gone), stacks(store, keep));
    for (path, file) in files(store)? {
        let snapshot = file.snapshot();
        if gone.contains(&snapshot) && !keep.contains(&snapshot) {
            store.delete(&path)?;
        }
    }
    Ok(())
}

/// Deletes the records of results that are gone, and what cannot be read.
///
/// # Errors
/// When a record cannot be deleted.
pub fn forget_missing(store: &Store) -> layerfs::Result<()> {
    useless(store)?.iter().try_for_each(|path| store.delete(path).map(drop))
}

/// Every record that can be read, for those who show and free them.
pub(crate) fn entries(store: &Store) -> layerfs::Result<Vec<CacheEntry>> {
    let entry = |(path, file): (PathBuf, CacheFile)| {
        let last_used = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        let snapshot = file.snapshot();
        let (blob, step) = match file {
            CacheFile::Record(record) => (None, Some(super::describe(&record.components))),
            CacheFile::Layer(layer) => (Some(layer.layer.descriptor.digest), None),
        };
        Some(CacheEntry { path, snapshot, blob, step, last_used })
    };
    Ok(files(store)?.into_iter().filter_map(entry).collect())
}

/// Records that stand for nothing, or cannot be read.
///
/// # Errors
/// When the directory cannot be listed.
pub fn useless(store: &Store) -> layerfs::Result<Vec<PathBuf>> {
    let mut paths = store.records("cache")?;
    paths.retain(|path| {
        let is_lock = path.file_name().is_some_and(|name| name == LOCKS);
        !is_lock && parse(path).is_none_or(|file| !store.has_snapshot(&file.snapshot()))
    });
    Ok(paths)
}

/// The snapshots with all below them; those that are not there count for nothing.
fn stacks(store: &Store, tops: &[SnapshotId]) -> BTreeSet<SnapshotId> {
    let mut stacks = BTreeSet::new();
    for top in tops.iter().filter(|top| store.has_snapshot(top)) {
        let below = store.ancestors(top);
        stacks.extend(below.iter().chain([top]).map(|id| store.resolve(id)));
    }
    stacks
}

/// Every record that can be read.
pub(super) fn files(store: &Store) -> layerfs::Result<Vec<(PathBuf, CacheFile)>> {
    let paths = store.records("cache")?.into_iter();
    Ok(paths.filter_map(|path| parse(&path).map(|file| (path, file))).collect())
}

/// A file of the cache by its name; none of the locks, and of what cannot be read.
fn parse(path: &Path) -> Option<CacheFile> {
    let name = path.file_name()?.to_str()?;
    match name.split_once('-') {
        Some(("layer", _)) => read(path).map(|layer| CacheFile::Layer(Box::new(layer))),
        Some(_) => None,
        None if name == LOCKS => None,
        None => read(path).map(CacheFile::Record),
    }
}

/// A record that cannot be read is as good as none: the step is executed again and writes a new one.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
