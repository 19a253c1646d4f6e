//! Records as files in the store's `cache` directory.
//!
//! One small JSON file a key, found by one `open`: a lookup costs microseconds and needs no database to be opened
//! first, and a rename makes each write whole. What the files say is said in `records`.

use std::any::Any;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use layerfs::IoResultExt;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::snapshot::{Layout, SnapshotId, Snapshotter};
use layerfs::store::Store;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use oci::{Digest, Raw};
use serde::Serialize;

use super::records::{self, CacheFile, LOCKS, LayerRecord, read, touch};
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

    /// Snapshots of steps that no longer are what they were packed to, each with what is wrong with it: those of this
    /// cache's snapshotter.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn altered(&self) -> layerfs::Result<Vec<(SnapshotId, String)>> {
        let mut altered: Vec<(SnapshotId, String)> = Vec::new();
        for (path, file) in records::files(self.store)? {
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
