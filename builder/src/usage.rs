//! What builds keep on the disk, and of what use it is: the nouns of `du` and of `prune`.
//!
//! A [`Node`] is one file system in the store, with the blobs that are its layer in other forms (the tar, what it was
//! compressed to, what was pulled) and the records that lead to it. Every blob belongs to one node at most, so sizes
//! add up. A node is of use to what stands on it, so it was used when the last of these was.
//!
//! Besides: directories of `RUN --mount=type=cache`, copies of git repositories, the documents of images, downloads that
//! broke, and what nothing refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

use layerfs::Result;
use layerfs::cache_mount::CacheMountInfo;
use layerfs::download::Begun;
use layerfs::gc::Marks;
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::{ChainId, Descriptor, Digest, Document, Manifest};

use crate::cache::records;
use crate::remote::{self, Repository};
use crate::source;

/// One file system in the store, or a layer that could be unpacked to one.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub id: SnapshotId,
    /// What it stands on, the parent first.
    pub ancestors: Vec<SnapshotId>,
    /// What it is: a step, or what it was fetched from.
    pub what: String,
    /// What its own files take of the disk, in bytes; 0 if it is not unpacked.
    pub snapshot_bytes: u64,
    /// Its layer, in whatever forms, with what each takes of the disk in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// When it was made.
    pub created: SystemTime,
    /// When it, or something that stands on it, was last used; an hour more or less.
    pub last_used: SystemTime,
    /// Whether a living process holds it.
    pub in_use: bool,
    /// Whether an image that has a name consists of it.
    pub in_image: bool,
    /// The builder's records that lead to it.
    pub(crate) records: Vec<PathBuf>,
}

impl Node {
    /// What all of it takes of the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.snapshot_bytes + self.blobs.values().sum::<u64>()
    }
}

/// Something on a list that has a stack of nodes: an image without a name, or a base image that is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Root<T> {
    pub(crate) place: T,
    /// The uppermost node, if it has any layer.
    pub(crate) top: Option<SnapshotId>,
    pub(crate) last_used: SystemTime,
}

/// All that the store holds.
#[derive(Debug, Default)]
pub struct Usage {
    /// File systems and layers.
    pub nodes: BTreeMap<SnapshotId, Node>,
    /// Directories of `RUN --mount=type=cache`.
    pub mounts: Vec<CacheMountInfo>,
    /// Copies of git repositories.
    pub repositories: Vec<Repository>,
    /// What manifests, configurations and indexes take of the disk, in bytes.
    pub document_bytes: u64,
    /// Downloads that have not come to their end.
    pub downloads: Vec<Begun>,
    /// What blobs that nothing refers to, and nobody holds, take of the disk, in bytes.
    pub garbage_bytes: u64,
    /// The blobs of images that have names.
    pub(crate) named: BTreeSet<Digest>,
    pub(crate) nameless: Vec<Root<Digest>>,
    pub(crate) bases: Vec<Root<PathBuf>>,
}

impl Usage {
    /// Looks through `store`, which is best one that is only looked at: reading an image holds it otherwise.
    ///
    /// # Errors
    /// When the store cannot be read. What is damaged or vanishes meanwhile is left out.
    pub fn read(store: &Store) -> Result<Usage> {
        let mut reader = Reader::new(store)?;
        reader.snapshots()?;
        reader.cache()?;
        reader.images()?;
        reader.compressed()?;
        reader.finish()
    }

    /// What builds keep for later ones, in bytes: all but what the images with names consist of.
    pub fn cache_bytes(&self) -> u64 {
        let nodes = self.nodes.values().filter(|node| !node.in_image).map(Node::bytes);
        nodes.sum::<u64>()
            + self.mounts.iter().map(|mount| mount.size_bytes).sum::<u64>()
            + self.repositories.iter().map(|repository| repository.bytes).sum::<u64>()
            + self.download_bytes()
            + self.garbage_bytes
    }

    /// What downloads take that have not come to their end, in bytes.
    pub fn download_bytes(&self) -> u64 {
        self.downloads.iter().map(|download| download.bytes).sum()
    }
}

struct Reader<'a> {
    store: &'a Store,
    sizes: BTreeMap<Digest, (u64, SystemTime)>,
    /// Blobs that belong to a node already.
    owned: BTreeMap<Digest, SnapshotId>,
    /// Blobs that something refers to.
    referred: BTreeSet<Digest>,
    in_use: Marks,
    usage: Usage,
}

impl<'a> Reader<'a> {
    fn new(store: &'a Store) -> Result<Reader<'a>> {
        let sizes = store.blobs()?.into_iter().map(|blob| (blob.digest, (blob.bytes, blob.made))).collect();
        let usage = Usage {
            mounts: store.cache_mounts().list()?,
            repositories: remote::repositories(store)?,
            downloads: store.downloads()?,
            ..Usage::default()
        };
        let in_use = store.in_use()?;
        Ok(Reader { store, sizes, owned: BTreeMap::new(), referred: BTreeSet::new(), in_use, usage })
    }

    fn snapshots(&mut self) -> Result<()> {
        for found in self.store.snapshot_usage()? {
            let node = self.node(found.id, &found.ancestors);
            (node.snapshot_bytes, node.created, node.last_used) = (found.bytes, found.made, found.made);
        }
        Ok(())
    }

    /// The node of this name, made if it is new.
    fn node(&mut self, id: SnapshotId, ancestors: &[SnapshotId]) -> &mut Node {
        let in_use = self.in_use.snapshots.contains(&id);
        self.usage.nodes.entry(id).or_insert_with(|| Node {
            id,
            ancestors: ancestors.to_vec(),
            what: String::new(),
            snapshot_bytes: 0,
            blobs: BTreeMap::new(),
            created: SystemTime::UNIX_EPOCH,
            last_used: SystemTime::UNIX_EPOCH,
            in_use,
            in_image: false,
            records: Vec::new(),
        })
    }

    /// Gives a blob to a node, unless another one has it.
    fn own(&mut self, id: SnapshotId, blob: Digest) {
        let Some((bytes, made)) = self.sizes.get(&blob).copied() else { return };
        self.referred.insert(blob);
        if *self.owned.entry(blob).or_insert(id) != id {
            return;
        }
        let in_use = self.in_use.blobs.contains(&blob);
        if let Some(node) = self.usage.nodes.get_mut(&id) {
            node.blobs.insert(blob, bytes);
            node.in_use |= in_use;
            if node.created == SystemTime::UNIX_EPOCH {
                (node.created, node.last_used) = (made, made);
            }
        }
    }

    fn cache(&mut self) -> Result<()> {
        for entry in records::entries(self.store)? {
            let id = self.store.resolve(&entry.snapshot);
            // A record of nothing is the next collection's.
            let Some(node) = self.usage.nodes.get_mut(&id) else { continue };
            node.records.push(entry.path);
            if let Some(step) = entry.step {
                node.what = step;
                node.last_used = node.last_used.max(entry.last_used);
            }
            if let Some(blob) = entry.blob {
                self.own(id, blob);
            }
        }
        for (path, tree, last_used) in remote::trees(self.store)? {
            if let Some(node) = self.usage.nodes.get_mut(&tree.snapshot) {
                node.records.push(path);
                node.last_used = node.last_used.max(last_used);
                node.what = "ADD or context from elsewhere".to_owned();
            }
        }
        Ok(())
    }

    fn images(&mut self) -> Result<()> {
        for image in self.store.images()? {
            let digest = image.descriptor.digest;
            let marks = self.store.reachable(&digest)?;
            self.referred.extend(&marks.blobs);
            let what =
                image.reference.as_ref().map_or_else(String::new, |name| format!("FROM {}", name.familiar()));
            let tops = self.stacks(&image.descriptor, &what);
            if image.reference.is_some() {
                self.usage.named.extend(marks.blobs);
                tops.iter().for_each(|top| self.put_in_image(top));
            } else {
                let last_used = self.sizes.get(&digest).map_or(SystemTime::UNIX_EPOCH, |(_, made)| *made);
                self.put_root(&tops, last_used);
                self.usage.nameless.push(Root { place: digest, top: tops.last().copied(), last_used });
            }
        }
        for base in source::remembered(self.store)? {
            self.referred.extend(self.store.reachable(&base.descriptor.digest)?.blobs);
            let tops = self.stacks(&base.descriptor, &format!("FROM {}", base.reference));
            self.put_root(&tops, base.last_used);
            let (place, last_used) = (base.path, base.last_used);
            self.usage.bases.push(Root { place, top: tops.last().copied(), last_used });
        }
        self.referred = self.store.with_referrers(std::mem::take(&mut self.referred))?;
        Ok(())
    }

    /// The uppermost nodes of the images that `root` points to, each document once: indexes may be in each other in any
    /// number. What is damaged has none.
    fn stacks(&mut self, root: &Descriptor, what: &str) -> Vec<SnapshotId> {
        let (mut left, mut seen, mut tops) = (vec![root.clone()], BTreeSet::new(), Vec::new());
        while let Some(descriptor) = left.pop() {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            match self.store.document(&descriptor) {
                Ok(Document::Manifest(manifest)) => tops.extend(self.stack(manifest.value(), what)),
                Ok(Document::Index(index)) => left.extend(index.value().manifests.iter().rev().cloned()),
                Err(_) => {}
            }
        }
        tops
    }

    /// The layers of an image as nodes, those that are not unpacked too.
    fn stack(&mut self, manifest: &Manifest, what: &str) -> Option<SnapshotId> {
        let config = self.store.config(manifest).ok()?;
        let mut below: Vec<SnapshotId> = Vec::new();
        let diff_ids = &config.value().rootfs.diff_ids;
        for ((layer, diff_id), chain) in manifest.layers.iter().zip(diff_ids).zip(ChainId::each(diff_ids)) {
            let id = self.store.resolve(&SnapshotId::chain(chain));
            let node = self.node(id, &below);
            if node.what.is_empty() {
                what.clone_into(&mut node.what);
            }
            self.own(id, layer.digest);
            self.own(id, diff_id.0);
            if !below.contains(&id) {
                below.insert(0, id);
            }
        }
        below.first().copied()
    }

    fn put_in_image(&mut self, top: &SnapshotId) {
        for id in self.with_ancestors(top) {
            if let Some(node) = self.usage.nodes.get_mut(&id) {
                node.in_image = true;
            }
        }
    }

    fn put_root(&mut self, tops: &[SnapshotId], last_used: SystemTime) {
        for top in tops {
            if let Some(node) = self.usage.nodes.get_mut(top) {
                node.last_used = node.last_used.max(last_used);
            }
        }
    }

    fn with_ancestors(&self, id: &SnapshotId) -> Vec<SnapshotId> {
        let below = self.usage.nodes.get(id).map_or(&[][..], |node| &node.ancestors);
        std::iter::once(id).chain(below).copied().collect()
    }

    fn compressed(&mut self) -> Result<()> {
        for (tar, blob) in self.store.compressed_forms()? {
            if self.usage.named.contains(&tar) {
                self.usage.named.insert(blob);
            }
            if let Some(id) = self.owned.get(&tar).copied() {
                self.own(id, blob);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Usage> {
        let used: Vec<_> = self.usage.nodes.keys().copied().collect();
        for id in used {
            let Some(node) = self.usage.nodes.get(&id) else { continue };
            let (last_used, in_use, ancestors) = (node.last_used, node.in_use, node.ancestors.clone());
            for ancestor in ancestors {
                if let Some(below) = self.usage.nodes.get_mut(&ancestor) {
                    below.last_used = below.last_used.max(last_used);
                    below.in_use |= in_use;
                }
            }
        }
        for (digest, (bytes, _)) in &self.sizes {
            let is_of_use = self.referred.contains(digest) || self.in_use.blobs.contains(digest);
            match self.owned.contains_key(digest) {
                true => {}
                false if is_of_use => self.usage.document_bytes += bytes,
                false => self.usage.garbage_bytes += bytes,
            }
        }
        Ok(self.usage)
    }
}
