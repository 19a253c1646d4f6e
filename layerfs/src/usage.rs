//! What takes the disk: blobs and snapshots with what each of them takes, for those who show or free it.
//!
//! Sizes are what the file system has allocated, in bytes; a file with several links in one snapshot counts once. A
//! snapshot is measured once: a file `usage` beside it remembers it, since a snapshot never changes. When it was made is
//! said by its `meta.json`, since that file changes the time of the directory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use oci::{Algorithm, Digest};

use crate::ingest::open_dir;
use crate::snapshot::{SnapshotId, Snapshotter};
use crate::store::Store;
use crate::{IoResultExt, Result, remove};

/// A blob and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobUsage {
    /// Its name.
    pub digest: Digest,
    /// What it takes of the disk.
    pub bytes: u64,
    /// When it was made.
    pub made: SystemTime,
}

/// A snapshot and what it takes without its ancestors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotUsage {
    /// Its name.
    pub id: SnapshotId,
    /// Its parent first.
    pub ancestors: Vec<SnapshotId>,
    /// What it takes of the disk.
    pub bytes: u64,
    /// When it was made.
    pub made: SystemTime,
}

impl Store {
    /// All blobs. What vanishes meanwhile is left out.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn blobs(&self) -> Result<Vec<BlobUsage>> {
        let mut blobs = Vec::new();
        for path in self.blob_files()? {
            let Some(digest) = Digest::from_blob_path(&path) else { continue };
            if let Ok(metadata) = self.blob_path(&digest).metadata() {
                let made = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                blobs.push(BlobUsage { digest, bytes: metadata.blocks() * 512, made });
            }
        }
        Ok(blobs)
    }

    /// All snapshots of all drivers, without aliases; two by one name are one. What vanishes meanwhile, and what is
    /// damaged, is left out.
    ///
    /// # Errors
    /// When they cannot be listed or measured.
    pub fn snapshot_usage(&self) -> Result<Vec<SnapshotUsage>> {
        let mut found: BTreeMap<SnapshotId, SnapshotUsage> = BTreeMap::new();
        for all in self.everywhere().each() {
            let folder = self.root().join(all.layout().folder());
            for name in self.names(all.layout().folder())? {
                let Ok(id) = name.parse::<SnapshotId>() else { continue };
                let path = folder.join(&name);
                let Ok(metadata) = path.symlink_metadata() else { continue };
                let (true, Ok(ancestors)) = (metadata.is_dir(), all.ancestors(&id)) else { continue };
                let written = path.join("meta.json").metadata().and_then(|metadata| metadata.modified());
                let made = written.unwrap_or(SystemTime::UNIX_EPOCH);
                let bytes = self.measure(&path)?;
                match found.entry(id) {
                    Entry::Vacant(place) => {
                        place.insert(SnapshotUsage { id, ancestors, bytes, made });
                    }
                    Entry::Occupied(mut place) => {
                        let twin = place.get_mut();
                        twin.bytes += bytes;
                        twin.made = twin.made.max(made);
                        twin.ancestors = self.ancestors(&id);
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    fn measure(&self, path: &Path) -> Result<u64> {
        let memory = path.join("usage");
        let known = std::fs::read_to_string(&memory).ok().and_then(|text| text.trim_end().parse().ok());
        if let Some(bytes) = known {
            return Ok(bytes);
        }
        let dir = match open_dir(path) {
            Err(rustix::io::Errno::NOENT) => return Ok(0),
            dir => dir.at("open", path)?,
        };
        let bytes = remove::usage(&dir).at("measure", path)?;
        // Where it cannot be remembered, on a read-only file system, it is measured again.
        let _remembered = std::fs::write(&memory, format!("{bytes}\n"));
        Ok(bytes)
    }

    /// Pairs of a layer's tar and a blob that it was compressed to.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn compressed_forms(&self) -> Result<Vec<(Digest, Digest)>> {
        let memos = self.memos()?.into_iter().filter_map(|(_, memo)| memo);
        Ok(memos.map(|memo| (memo.diff_id.0, memo.blob.digest)).collect())
    }

    /// The files of all blobs, relative to the store, whatever they are called.
    pub(crate) fn blob_files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for algorithm in Algorithm::ALL {
            let folder = format!("blobs/{}", algorithm.name());
            files.extend(self.names(&folder)?.iter().map(|name| format!("{folder}/{name}")));
        }
        Ok(files)
    }

    /// The names in a folder of the store, as far as they are UTF-8; none if it is missing.
    pub(crate) fn names(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.root().join(folder);
        let dir = match open_dir(&path) {
            Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
            dir => dir.at("open", &path)?,
        };
        let names = remove::names(&dir).at("list", &path)?;
        Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
    }
}
