//! Collection: what nothing refers to goes.
//!
//! Steps: take the lock exclusively, or give up at once; mark, from `index.json`, from every digest that stands
//! in a file of `resolved/`, and from what the caller names; move what is not marked to `trash/`; let others in
//! again; delete. A process that is killed in between leaves a store in which everything visible is whole.
//!
//! Marking follows documents to what they name, whatever kind they are: any JSON blob is searched for digests.
//! So an image keeps its layers, the tars of its diff ids and the snapshots of its chain. Cache mounts are nobody's
//! part, and stay until they are removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{ChainId, Digest, ImageConfig, MAX_DOCUMENT_BYTES};
use serde_json::Value;

use crate::ingest::{open_dir, random_name};
use crate::remove::remove_tree;
use crate::snapshot::{SnapshotId, Snapshotter};
use crate::store::Store;
use crate::{IoResultExt, Result};

/// What must stay, beside what the store itself knows of.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// Blobs, with all that they refer to.
    pub blobs: Vec<Digest>,
    /// Snapshots, with their ancestors.
    pub snapshots: Vec<SnapshotId>,
}

/// How a collection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected {
    /// The store is in use: nothing was looked at.
    Busy,
    /// It was done.
    Done {
        /// How many blobs went.
        blobs: u64,
        /// How many snapshots went.
        snapshots: u64,
        /// How many bytes of disk that freed.
        bytes: u64,
    },
}

#[derive(Default)]
struct Marks {
    blobs: BTreeSet<Digest>,
    snapshots: BTreeSet<SnapshotId>,
}

impl Store {
    /// Frees everything that is not reachable from the list of images, from `resolved/` or from `roots`.
    ///
    /// Gives up if any other process uses the store, or anybody in this one holds [`Store::snapshots`]. What
    /// was known about the store before the call may be untrue after it, even then.
    pub fn collect(&mut self, roots: &Roots) -> Result<Collected> {
        let Some(lock) = Arc::get_mut(&mut self.lock) else { return Ok(Collected::Busy) };
        if !lock.try_upgrade()? {
            return Ok(Collected::Busy);
        }
        let swept = self.mark(roots).and_then(|marks| self.sweep(&marks));
        // Nobody else was there who could hold the lock now.
        if let Some(lock) = Arc::get_mut(&mut self.lock) {
            lock.downgrade()?;
        }
        let (blobs, snapshots) = swept?;
        let bytes = self.empty_trash()?;
        Ok(Collected::Done { blobs, snapshots, bytes })
    }

    fn mark(&self, roots: &Roots) -> Result<Marks> {
        let mut marks = Marks::default();
        for image in self.images()? {
            self.mark_blob(&image.descriptor.digest, &mut marks)?;
        }
        for path in files(&self.root().join("resolved"))? {
            let bytes = std::fs::read(&path).at("read", &path)?;
            // A record that cannot be read is of use to nobody, so it keeps nothing.
            if let Ok(record) = serde_json::from_slice(&bytes) {
                self.mark_value(&record, &mut marks)?;
            }
        }
        for digest in &roots.blobs {
            self.mark_blob(digest, &mut marks)?;
        }
        // What a layer was compressed to stays as long as the layer, and gives nothing a longer life.
        for (_, memo) in self.memos()? {
            if let Some(memo) = memo.filter(|memo| marks.blobs.contains(&memo.diff_id.0)) {
                marks.blobs.insert(memo.blob.digest);
            }
        }
        let snapshots = self.snapshots();
        marks.snapshots.extend(&roots.snapshots);
        for id in marks.snapshots.clone() {
            if snapshots.contains(&id) {
                let ancestors = snapshots.ancestors(&id)?;
                marks.snapshots.extend(ancestors.iter().chain([&id]).map(|id| snapshots.resolve(id)));
            }
        }
        Ok(marks)
    }

    fn mark_blob(&self, digest: &Digest, marks: &mut Marks) -> Result<()> {
        if !marks.blobs.insert(*digest) || self.size_of(digest).is_none_or(|size| size > MAX_DOCUMENT_BYTES) {
            return Ok(());
        }
        let path = self.blob_path(digest);
        let bytes = std::fs::read(&path).at("read", &path)?;
        if bytes.first() != Some(&b'{') {
            return Ok(());
        }
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { return Ok(()) };
        if let Ok(config) = serde_json::from_value::<ImageConfig>(document.clone())
            && let Some((bottom, layers)) = config.rootfs.diff_ids.split_first()
        {
            let mut chain = ChainId::bottom(*bottom);
            marks.snapshots.insert(SnapshotId::chain(chain));
            for layer in layers {
                chain = chain.with(*layer);
                marks.snapshots.insert(SnapshotId::chain(chain));
            }
        }
        self.mark_value(&document, marks)
    }

    /// Marks whatever stands as a digest anywhere in `value`.
    fn mark_value(&self, value: &Value, marks: &mut Marks) -> Result<()> {
        match value {
            Value::String(text) => match text.parse() {
                Ok(digest) => self.mark_blob(&digest, marks),
                Err(_) => Ok(()),
            },
            Value::Array(values) => values.iter().try_for_each(|value| self.mark_value(value, marks)),
            Value::Object(fields) => fields.values().try_for_each(|value| self.mark_value(value, marks)),
            _ => Ok(()),
        }
    }

    /// Moves what is not marked to the trash; says how many blobs and snapshots that were.
    fn sweep(&self, marks: &Marks) -> Result<(u64, u64)> {
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let (mut blobs, mut snapshots) = (0, 0);
        for path in files(&self.root().join("snapshots"))? {
            let id = name(&path).and_then(|name| name.parse::<SnapshotId>().ok());
            if id.is_some_and(|id| !marks.snapshots.contains(&id)) {
                self.discard(&path)?;
                snapshots += 1;
            }
        }
        for path in files(&self.root().join("blobs/sha256"))? {
            let digest = name(&path).and_then(|name| Digest::from_hex(&name));
            if digest.is_some_and(|digest| !marks.blobs.contains(&digest)) {
                self.discard(&path)?;
                blobs += 1;
            }
        }
        for (path, memo) in self.memos()? {
            if memo.is_none_or(|memo| !marks.blobs.contains(&memo.blob.digest)) {
                std::fs::remove_file(&path).at("delete", path)?;
            }
        }
        self.sweep_file_indexes(|diff_id| marks.blobs.contains(diff_id))?;
        Ok((blobs, snapshots))
    }

    fn discard(&self, path: &Path) -> Result<()> {
        std::fs::rename(path, self.root().join("trash").join(random_name())).at("delete", path)
    }

    fn empty_trash(&self) -> Result<u64> {
        let path = self.root().join("trash");
        let trash = open_dir(&path).at("open", &path)?;
        let mut bytes = 0;
        for name in files(&path)? {
            let name = name.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
            bytes += remove_tree(&trash, &name).at("empty", &path)?;
        }
        Ok(bytes)
    }
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).at("read", dir)?;
    entries.map(|entry| Ok(entry.at("read", dir)?.path())).collect()
}
