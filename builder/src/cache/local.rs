//! Records as files in the store's `cache` directory.
//!
//! One small JSON file a key, found by one `open`: a lookup costs microseconds and needs no database to be opened
//! first, and a rename makes each write whole. `cache/<key>` is a record, `cache/layer-<digest>` a packed layer,
//! `cache/lock-<key>` a lock.

use std::any::Any;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use layerfs::IoResultExt;
use layerfs::snapshot::{SnapshotId, Snapshotter};
use layerfs::store::Store;
use oci::{Digest, Raw};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CacheBackend, Key, PackedLayer, Record};

/// The cache that lives beside the blobs.
pub struct LocalCache<'a> {
    store: &'a Store,
    snapshots: &'a dyn Snapshotter,
}

impl<'a> LocalCache<'a> {
    /// The cache of `store`.
    pub fn new(store: &'a Store, snapshots: &'a dyn Snapshotter) -> LocalCache<'a> {
        LocalCache { store, snapshots }
    }

    /// All that the cache refers to, so that a collection keeps it: snapshots, and the blobs of packed layers.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn references(&self) -> layerfs::Result<(Vec<SnapshotId>, Vec<Digest>)> {
        let directory = self.store.root().join("cache");
        let (mut snapshots, mut blobs) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            let path = entry.at("list", &directory)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("layer-") {
                blobs.extend(read::<PackedLayer>(&path).map(|layer| layer.descriptor.digest));
            } else if !name.starts_with("lock-") {
                snapshots.extend(read::<Record>(&path).map(|record| record.snapshot));
            }
        }
        Ok((snapshots, blobs))
    }

    fn path(&self, prefix: &str, digest: Digest) -> PathBuf {
        self.store.root().join("cache").join(format!("{prefix}{}", digest.hex()))
    }

    fn layer_path(&self, snapshot: &SnapshotId, epoch: Option<i64>) -> PathBuf {
        let epoch = epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        let text = format!("{}\n{snapshot}\n{epoch}", layerfs::layer::pack::LAYER_FORMAT);
        self.path("layer-", Digest::of(text.as_bytes()))
    }

    fn write(&self, path: &std::path::Path, value: &(impl Serialize + Clone)) -> layerfs::Result<()> {
        self.store.write_record(path, Raw::write(value.clone()).bytes())
    }
}

/// A record that cannot be read is as good as none: the step is executed again and writes a new one.
fn read<T: DeserializeOwned>(path: &std::path::Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl CacheBackend for LocalCache<'_> {
    fn get(&self, key: &Key) -> Option<Record> {
        let record: Record = read(&self.path("", key.0))?;
        self.snapshots.contains(&record.snapshot).then_some(record)
    }

    fn put(&self, key: &Key, record: &Record) -> layerfs::Result<()> {
        self.write(&self.path("", key.0), record)
    }

    fn layer(&self, snapshot: &SnapshotId, epoch: Option<i64>) -> Option<PackedLayer> {
        let layer: PackedLayer = read(&self.layer_path(snapshot, epoch))?;
        (self.store.size_of(&layer.descriptor.digest) == Some(layer.descriptor.size)).then_some(layer)
    }

    fn put_layer(
        &self,
        snapshot: &SnapshotId,
        epoch: Option<i64>,
        layer: &PackedLayer,
    ) -> layerfs::Result<()> {
        self.write(&self.layer_path(snapshot, epoch), layer)
    }

    fn lock(&self, key: &Key) -> layerfs::Result<Box<dyn Any>> {
        let path = self.path("lock-", key.0);
        loop {
            let file =
                File::options().create(true).truncate(false).write(true).open(&path).at("open", &path)?;
            while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
                if error != rustix::io::Errno::INTR {
                    return Err(std::io::Error::from(error)).at("lock", &path);
                }
            }
            let ours = file.metadata().at("examine", &path)?;
            // Whoever held it before may have deleted it while this one waited.
            if fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Box::new(Held { path, _file: file }));
            }
        }
    }
}

/// Deletes the lock file while it still holds it, so that nobody can hold the same name twice.
struct Held {
    path: PathBuf,
    _file: File,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A lock file that stays costs nothing but its name.
        drop(fs::remove_file(&self.path));
    }
}
