//! Whether snapshots that layers were unpacked to still show what those layers say.
//!
//! A layer that was made elsewhere cannot be packed again to the same bytes, so the snapshot is held against the tree
//! of its layers instead ([`FileTree::mismatch`]): image by image, each from its bottom layer up.
//!
//! Not looked at: snapshots of steps, which are packed again instead (crate `builder`), those whose layers are damaged
//! or not here, and what stands on a snapshot that is damaged. Nothing is written, and nothing put aside.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;

use oci::{ChainId, Descriptor, DiffId, Digest, Document, ImageConfig};

use super::Finding;
use crate::Result;
use crate::file_index::{FileTree, scan};
use crate::snapshot::{SnapshotId, Snapshotter};
use crate::store::Store;

/// The layers of an image, bottom first, each with the snapshot of it and all below.
type Layers = Vec<(Descriptor, DiffId, SnapshotId)>;

impl Store {
    /// `blobs` are those whose bytes are what they should be.
    pub(super) fn check_unpacked(&self, blobs: &BTreeSet<Digest>, findings: &mut Vec<Finding>) -> Result<()> {
        let images: Vec<Layers> = blobs.iter().filter_map(|digest| self.layers_of(digest, blobs)).collect();
        for snapshots in self.readers() {
            let mut seen = BTreeSet::new();
            for layers in &images {
                self.check_stack(layers, &*snapshots, blobs, &mut seen, findings)?;
            }
        }
        Ok(())
    }

    /// The layers of the image whose manifest this is.
    fn layers_of(&self, manifest: &Digest, blobs: &BTreeSet<Digest>) -> Option<Layers> {
        let document = |digest: &Digest| {
            // A layer is not read to see that it is none.
            let is_small = self.size_of(digest).is_some_and(|size| size <= oci::MAX_DOCUMENT_BYTES);
            let path = (is_small && blobs.contains(digest)).then(|| self.blob_path(digest))?;
            std::fs::read(path).ok().filter(|bytes| bytes.first() == Some(&b'{'))
        };
        let Ok(Document::Manifest(manifest)) = Document::recognise(document(manifest)?) else { return None };
        let manifest = manifest.value();
        let config: ImageConfig = serde_json::from_slice(&document(&manifest.config.digest)?).ok()?;
        let diff_ids = config.rootfs.diff_ids;
        let snapshots = ChainId::each(&diff_ids).map(SnapshotId::chain);
        let layers = manifest.layers.iter().zip(&diff_ids).zip(snapshots);
        let layers = layers.map(|((layer, diff_id), snapshot)| (layer.clone(), *diff_id, snapshot));
        (diff_ids.len() == manifest.layers.len()).then(|| layers.collect())
    }

    fn check_stack(
        &self,
        layers: &Layers,
        snapshots: &dyn Snapshotter,
        blobs: &BTreeSet<Digest>,
        seen: &mut BTreeSet<SnapshotId>,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let is_new =
            |id: &SnapshotId| !seen.contains(id) && snapshots.resolve(id) == *id && snapshots.contains(id);
        let Some(top) = layers.iter().rposition(|(.., id)| is_new(id)) else { return Ok(()) };
        let mut tree = FileTree::empty();
        for (layer, diff_id, id) in &layers[..=top] {
            let blob = if blobs.contains(&diff_id.0) { diff_id.0 } else { layer.digest };
            if !blobs.contains(&blob) {
                return Ok(());
            }
            // What cannot be unpacked was not.
            let index = self.open_untrusted(&blob).and_then(|blob| scan(blob, *diff_id));
            let Ok(index) = index else { return Ok(()) };
            if tree.apply(&index).is_err() {
                return Ok(());
            }
            let path = PathBuf::from(snapshots.layout().folder()).join(id.to_string());
            if findings.iter().any(|known| known.path == path) {
                return Ok(());
            }
            if snapshots.resolve(id) == *id && snapshots.contains(id) && seen.insert(*id) {
                let found = snapshots.view(id).and_then(|view| {
                    let own = snapshots.changes(id)?.upper;
                    tree.mismatch(view.root(), own.as_fd())
                });
                let problem = found.unwrap_or_else(|error| Some(format!("it cannot be read: {error}")));
                if let Some(problem) = problem {
                    findings.push(Finding::damage(path, problem));
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
