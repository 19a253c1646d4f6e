//! Records as files in the store's `cache` directory.
//!
//! One small JSON file a key, found by one `open`: a lookup costs microseconds and needs no database to be opened
//! first, and a rename makes each write whole. `cache/<key>` is a record, `cache/layer-<digest>` a packed layer,
//! `cache/locks` is the file whose bytes are locked.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use layerfs::IoResultExt;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::snapshot::{Layout, SnapshotId, Snapshotter};
use layerfs::store::Store;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use oci::{Digest, Raw};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CacheBackend, Key, PackedLayer, Record};

/// The file in `cache/` whose bytes are locked.
const LOCKS: &str = "locks";

/// The cache that lives beside the blobs.
pub struct LocalCache<'a> {
    store: &'a Store,
    snapshots: &'a dyn Snapshotter,
}

/// What a `layer-` file says.
#[derive(Clone, Serialize, Deserialize)]
struct LayerRecord {
    snapshot: SnapshotId,
    /// What it was packed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    acls: bool,
    layer: PackedLayer,
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

enum CacheFile {
    Record(Record),
    Layer(Box<LayerRecord>),
}

impl CacheFile {
    fn snapshot(&self) -> SnapshotId {
        match self {
            CacheFile::Record(record) => record.snapshot,
            CacheFile::Layer(layer) => layer.snapshot,
        }
    }
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
        let (mut snapshots, mut blobs) = (Vec::new(), Vec::new());
        for (_, file) in self.files()? {
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
    pub fn prune(&self, gone: &[SnapshotId], keep: &[SnapshotId]) -> layerfs::Result<()> {
        let (gone, keep) = (self.stacks(gone), self.stacks(keep));
        for (path, file) in self.files()? {
            let snapshot = file.snapshot();
            if gone.contains(&snapshot) && !keep.contains(&snapshot) {
                self.store.delete(&path)?;
            }
        }
        Ok(())
    }

    /// Deletes the records of results that are gone, and what cannot be read.
    ///
    /// # Errors
    /// When a record cannot be deleted.
    pub fn forget_missing(&self) -> layerfs::Result<()> {
        self.useless()?.iter().try_for_each(|path| self.store.delete(path).map(drop))
    }

    /// Every record that can be read, for those who show and free them.
    pub(crate) fn entries(&self) -> layerfs::Result<Vec<CacheEntry>> {
        let entry = |(path, file): (PathBuf, CacheFile)| {
            let last_used = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
            let snapshot = file.snapshot();
            let (blob, step) = match file {
                CacheFile::Record(record) => (None, Some(super::describe(&record.components))),
                CacheFile::Layer(layer) => (Some(layer.layer.descriptor.digest), None),
            };
            Some(CacheEntry { path, snapshot, blob, step, last_used })
        };
        Ok(self.files()?.into_iter().filter_map(entry).collect())
    }

    /// Snapshots of steps that no longer are what they were packed to, each with what is wrong with it: those of this
    /// cache's snapshotter.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn altered(&self) -> layerfs::Result<Vec<(SnapshotId, String)>> {
        let mut altered: Vec<(SnapshotId, String)> = Vec::new();
        for (path, file) in self.files()? {
            let CacheFile::Layer(record) = file else { continue };
            let LayerRecord { snapshot, epoch, acls, layer } = *record;
            let options = PackOptions { epoch, acls };
            let is_known = altered.iter().any(|(known, _)| *known == snapshot);
            // The record of another format says nothing of this one.
            if path != self.layer_path(&snapshot, options) || !self.snapshots.contains(&snapshot) || is_known
            {
                continue;
            }
            let changes = self.snapshots.changes(&snapshot);
            let packed = changes.and_then(|changes| pack(&changes, options, &mut std::io::sink()));
            match packed {
                Ok(packed) if packed.diff_id == layer.diff_id => {}
                Ok(packed) => {
                    altered.push((
                        snapshot,
                        format!("expected the layer `{}`, found `{}`", layer.diff_id, packed.diff_id),
                    ));
                }
                Err(error) => altered.push((snapshot, format!("it cannot be read: {error}"))),
            }
        }
        Ok(altered)
    }

    /// Records that stand for nothing, or cannot be read.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn useless(&self) -> layerfs::Result<Vec<PathBuf>> {
        let mut paths = self.store.records("cache")?;
        paths.retain(|path| {
            let is_lock = path.file_name().is_some_and(|name| name == LOCKS);
            !is_lock && parse(path).is_none_or(|file| !self.store.has_snapshot(&file.snapshot()))
        });
        Ok(paths)
    }

    /// The snapshots with all below them; those that are not there count for nothing.
    fn stacks(&self, tops: &[SnapshotId]) -> BTreeSet<SnapshotId> {
        let mut stacks = BTreeSet::new();
        for top in tops.iter().filter(|top| self.store.has_snapshot(top)) {
            let below = self.store.ancestors(top);
            stacks.extend(below.iter().chain([top]).map(|id| self.store.resolve(id)));
        }
        stacks
    }

    /// Every record that can be read.
    fn files(&self) -> layerfs::Result<Vec<(PathBuf, CacheFile)>> {
        let paths = self.store.records("cache")?.into_iter();
        Ok(paths.filter_map(|path| parse(&path).map(|file| (path, file))).collect())
    }

    fn path(&self, prefix: &str, digest: Digest) -> PathBuf {
        self.store.root().join("cache").join(format!("{prefix}{}", digest.hex()))
    }

    fn layer_path(&self, snapshot: &SnapshotId, options: PackOptions) -> PathBuf {
        let epoch = options.epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        let acls = if options.acls { "\nacls" } else { "" };
        let layout = match self.snapshots.layout() {
            Layout::Layers => "",
            Layout::Trees => "\ntrees",
        };
        let format = layerfs::layer::pack::LAYER_FORMAT;
        let text = format!("{format}\n{snapshot}\n{epoch}{acls}{layout}");
        self.path("layer-", Digest::of(text.as_bytes()))
    }

    fn write(&self, path: &Path, value: &(impl Serialize + Clone)) -> layerfs::Result<()> {
        self.store.write_record(path, Raw::write(value.clone()).bytes())
    }
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
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl CacheBackend for LocalCache<'_> {
    fn get(&self, key: &Key) -> Option<Record> {
        let mut file = File::open(self.path("", key.0)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        if !self.snapshots.hold(&record.snapshot).ok()? {
            return None;
        }
        touch(&file);
        Some(record)
    }

    fn put(&self, key: &Key, record: &Record) -> layerfs::Result<()> {
        self.write(&self.path("", key.0), record)
    }

    fn layer(&self, snapshot: &SnapshotId, options: PackOptions) -> Option<PackedLayer> {
        let LayerRecord { layer, .. } = read(&self.layer_path(snapshot, options))?;
        let size = self.store.hold(&layer.descriptor.digest).ok()?;
        (size == Some(layer.descriptor.size)).then_some(layer)
    }

    fn put_layer(
        &self,
        snapshot: &SnapshotId,
        options: PackOptions,
        layer: &PackedLayer,
    ) -> layerfs::Result<()> {
        let PackOptions { epoch, acls } = options;
        let record = LayerRecord { snapshot: *snapshot, epoch, acls, layer: layer.clone() };
        self.write(&self.layer_path(snapshot, options), &record)
    }

    fn lock(&self, key: &Key, give_up: &dyn Fn() -> bool) -> layerfs::Result<Option<Box<dyn Any>>> {
        const LONGEST_WAIT: Duration = Duration::from_millis(50);
        let path = self.store.root().join("cache").join(LOCKS);
        let file = File::options().create(true).truncate(false).write(true).open(&path).at("open", &path)?;
        let byte = libc::flock {
            // Both are below 3; the field is a short where the constant is an int.
            l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap_or_default(),
            l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
            l_start: place(key),
            l_len: 1,
            l_pid: 0,
        };
        let mut wait = Duration::from_millis(1);
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)) {
                // Whoever closes the file gives the lock up, and so does a process that dies.
                Ok(_) => return Ok(Some(Box::new(file))),
                Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) if give_up() => return Ok(None),
                // Waiting in the kernel could not be given up.
                Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => {
                    std::thread::sleep(wait);
                    wait = LONGEST_WAIT.min(wait * 2);
                }
                Err(errno) => return Err(std::io::Error::from(errno)).at("lock", &path),
            }
        }
    }
}

/// The byte of the lock file that stands for a key. A file for each key would have to be made and deleted for each step.
/// Two keys on one byte, which would wait for each other, are as likely as two equal random numbers of 62 bits.
fn place(key: &Key) -> i64 {
    let bytes = key.0.as_bytes().first_chunk::<8>().expect("a digest has 32 bytes");
    i64::from_le_bytes(*bytes) & (i64::MAX >> 1)
}
