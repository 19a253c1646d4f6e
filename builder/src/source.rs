//! Where base images come from: the store first, then the image's registry.
//!
//! Two acts, far apart in time: *resolving* needs manifest and configuration only and happens before lowering;
//! *unpacking* needs the layers and happens at the first step that has to execute on top of them, if any does.
//!
//! A name may stand for several images, one a platform: [`pick`] says which of them is meant. [`layout`] has the third
//! place that images come from, a directory.

pub mod layout;
mod progress;
mod unpacking;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::SystemTime;

use layerfs::Arrival;
use layerfs::download::Rest;
use layerfs::snapshot::{SnapshotId, Snapshotter};
use layerfs::store::Store;
use oci::{
    ChainId, Descriptor, DiffId, Digest, Document, ImageConfig, Index, Manifest, Platform, Raw, Reference,
};
use serde::{Deserialize, Serialize};

use crate::cache::touch;
use crate::dockerfile::diagnostic::{Span, suggest};
use crate::error::ImageError;
use crate::plan::ImageRef;
use crate::workers;
use crate::{Error, Request};
pub use progress::progress_events;
pub(crate) use progress::{Counted, summed};

/// An image to build on: its documents. Its layers may be anywhere.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// The name it was asked for by.
    pub reference: Reference,
    /// Points to the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Raw<Manifest>,
    /// The configuration.
    pub config: Raw<ImageConfig>,
}

impl BaseImage {
    /// Puts an image together.
    ///
    /// # Errors
    /// When manifest and configuration disagree about the number of layers.
    pub fn new(
        reference: Reference,
        descriptor: Descriptor,
        manifest: Raw<Manifest>,
        config: Raw<ImageConfig>,
    ) -> Result<BaseImage, ImageError> {
        let (in_manifest, in_config) = (manifest.value().layers.len(), config.value().rootfs.diff_ids.len());
        if in_manifest != in_config {
            return Err(ImageError::Layers { in_manifest, in_config });
        }
        Ok(BaseImage { reference, descriptor, manifest, config })
    }

    /// The diff ids of the layers, bottom first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.config.value().rootfs.diff_ids
    }

    /// Names the file system; none for an image without layers.
    pub fn chain(&self) -> Option<ChainId> {
        ChainId::of(self.diff_ids())
    }

    /// What it has its descendants do: the texts of `ONBUILD`.
    pub fn triggers(&self) -> &[String] {
        self.config.value().config.on_build.as_deref().unwrap_or_default()
    }

    /// Each layer with its diff id, bottom first.
    pub fn layers(&self) -> impl Iterator<Item = (&Descriptor, DiffId)> {
        self.manifest.value().layers.iter().zip(self.diff_ids().iter().copied())
    }
}

/// Told how many bytes of a layer have come so far; says whether to go on.
pub type Progress<'a> = &'a (dyn Fn(&Descriptor, u64) -> bool + Sync);

/// Gives images.
pub trait ImageSource: Sync {
    /// The documents of `reference` for `platform`. `fresh` asks the registry even where the store knows the name.
    ///
    /// # Errors
    /// When neither has it, or what they have is no image for that platform.
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        fresh: bool,
    ) -> Result<BaseImage, ImageError>;

    /// Fetches all layers of `image` into the store, without unpacking them.
    ///
    /// # Errors
    /// When a layer cannot be had, or is not what its digest promises.
    fn fetch(&self, image: &BaseImage, progress: Progress<'_>) -> Result<(), ImageError>;

    /// The image's file system as a snapshot, fetched and unpacked if need be; none for an image without layers.
    ///
    /// # Errors
    /// As [`ImageSource::fetch`], and when a layer cannot be unpacked.
    fn snapshot(&self, image: &BaseImage, progress: Progress<'_>) -> Result<Option<SnapshotId>, ImageError>;
}

/// The images of a build.
#[derive(Debug, Default)]
pub struct Bases(BTreeMap<(Reference, String), BaseImage>);

/// What an image is found by.
fn key(image: &ImageRef) -> (Reference, String) {
    (image.reference.clone(), image.platform.to_string())
}

impl Bases {
    /// The image `image`, which must be one of [`Stages::images`](crate::stage::Stages::images).
    pub fn get(&self, image: &ImageRef) -> &BaseImage {
        &self.0[&key(image)]
    }

    /// The image `image`, if it is resolved.
    pub fn find(&self, image: &ImageRef) -> Option<&BaseImage> {
        self.0.get(&key(image))
    }

    /// Whether `image` is resolved.
    pub fn contains(&self, image: &ImageRef) -> bool {
        self.0.contains_key(&key(image))
    }

    /// Takes over what `others` has.
    pub fn extend(&mut self, others: Bases) {
        self.0.extend(others.0);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &BaseImage> {
        self.0.values()
    }
}

impl FromIterator<(ImageRef, BaseImage)> for Bases {
    fn from_iter<I: IntoIterator<Item = (ImageRef, BaseImage)>>(images: I) -> Bases {
        Bases(images.into_iter().map(|(image, base)| (key(&image), base)).collect())
    }
}

/// Resolves the images that stages name, side by side. `stages` are the names of stages, one of which may have been
/// meant.
///
/// # Errors
/// The first image, in the order of the file, that cannot be had.
pub fn resolve_bases(
    wanted: &[(ImageRef, Span)],
    stages: &[&str],
    request: &Request,
    images: &dyn ImageSource,
) -> Result<Bases, Error> {
    let resolve = |image: &ImageRef| images.resolve(&image.reference, &image.platform, request.pull);
    let resolved: Vec<_> = match wanted {
        // Most Dockerfiles name one image, which the store knows: no thread for that.
        [(image, _)] => vec![resolve(image)],
        _ => thread::scope(|scope| {
            let workers: Vec<_> =
                wanted.iter().map(|(image, _)| scope.spawn(move || resolve(image))).collect();
            workers.into_iter().map(join).collect()
        }),
    };
    resolved
        .into_iter()
        .zip(wanted)
        .map(|(base, (image, span))| {
            let written = image.reference.familiar().replace(":latest", "");
            let stage = suggest(&written, stages.iter().copied()).map(str::to_owned);
            let fail = |source| Error::Image {
                span: Some(*span),
                stage,
                reference: image.reference.clone(),
                source,
            };
            Ok((image.clone(), base.map_err(fail)?))
        })
        .collect()
}

/// What a worker came to; its panic goes on here.
fn join<T>(worker: ScopedJoinHandle<'_, T>) -> T {
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The real source: a store, and the registries behind it.
pub struct Images<'a> {
    store: &'a Store,
    snapshots: &'a dyn Snapshotter,
    client: &'a registry::Client,
    /// One at a time unpacks a chain; others who want the same one wait.
    unpacking: Mutex<HashMap<ChainId, Arc<Mutex<()>>>>,
}

/// The image that serves `platform` of what `descriptor` points to: of an index one of its images, else itself.
///
/// # Errors
/// When the document is missing or damaged, or an index has nothing for that platform.
pub fn pick(store: &Store, descriptor: &Descriptor, platform: &Platform) -> Result<Descriptor, ImageError> {
    match store.document(descriptor).map_err(ImageError::Store)? {
        Document::Manifest(_) => Ok(descriptor.clone()),
        Document::Index(index) => entry(index.value(), platform).cloned(),
    }
}

fn entry<'a>(index: &'a Index, platform: &Platform) -> Result<&'a Descriptor, ImageError> {
    index.pick(platform).ok_or_else(|| ImageError::Platform {
        wanted: platform.to_string(),
        offered: index.platforms().map(Platform::to_string).collect(),
    })
}

/// What the store remembers of a name that was resolved and perhaps never unpacked.
#[derive(Serialize, Deserialize)]
struct Resolved {
    reference: String,
    platform: String,
    descriptor: Descriptor,
}

/// Forgets what `reference` was resolved to, for whatever platform; says whether anything was known. What is then of
/// no use to any image goes with the next collection.
///
/// # Errors
/// When the records cannot be listed or deleted.
pub fn forget(store: &Store, reference: &Reference) -> layerfs::Result<bool> {
    let mut known = remembered(store)?;
    known.retain(|record| record.reference == reference.to_string());
    known.iter().try_for_each(|record| store.delete(&record.path).map(drop))?;
    Ok(!known.is_empty())
}

fn record_path(store: &Store, reference: &Reference, platform: &Platform) -> std::path::PathBuf {
    let name = Digest::of(format!("{reference}\n{platform}").as_bytes()).hex();
    store.root().join("resolved").join(name)
}

/// What a build resolved `reference` to, which may be on no list.
pub fn resolved_to(store: &Store, reference: &Reference, platform: &Platform) -> Option<Descriptor> {
    let record = std::fs::read(record_path(store, reference, platform)).ok()?;
    Some(serde_json::from_slice::<Resolved>(&record).ok()?.descriptor)
}

/// What names were resolved to that builds asked for; records that cannot be read are passed over.
///
/// # Errors
/// When the records cannot be listed.
pub(crate) fn resolved(store: &Store) -> layerfs::Result<Vec<Descriptor>> {
    Ok(remembered(store)?.into_iter().map(|record| record.descriptor).collect())
}

/// A base image that a build resolved, as the store remembers it.
pub(crate) struct Remembered {
    /// The file that says so.
    pub(crate) path: std::path::PathBuf,
    /// Its name.
    pub(crate) reference: String,
    /// Its manifest.
    pub(crate) descriptor: Descriptor,
    /// When it was last of use.
    pub(crate) last_used: SystemTime,
}

/// All base images that are remembered.
pub(crate) fn remembered(store: &Store) -> layerfs::Result<Vec<Remembered>> {
    let mut found = Vec::new();
    for path in store.records("resolved")? {
        let Ok(file) = File::open(&path) else { continue };
        let last_used = file.metadata().and_then(|metadata| metadata.modified());
        if let Ok(Resolved { reference, descriptor, .. }) = serde_json::from_reader(BufReader::new(&file)) {
            let last_used = last_used.unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Remembered { path, reference, descriptor, last_used });
        }
    }
    Ok(found)
}

impl<'a> Images<'a> {
    /// Images out of `store` and the registries that `client` reaches.
    pub fn new(store: &'a Store, snapshots: &'a dyn Snapshotter, client: &'a registry::Client) -> Images<'a> {
        Images { store, snapshots, client, unpacking: Mutex::default() }
    }

    /// The image as the store has it, without asking anyone: by its name, as it was resolved before, or by its digest,
    /// which needs no name.
    fn stored(&self, reference: &Reference, platform: &Platform) -> Option<BaseImage> {
        let tagged = self.store.find(&reference.to_string()).ok().flatten();
        let tagged = tagged.and_then(|image| self.load_for(reference, &image.descriptor, platform));
        if let Some(image) = tagged.filter(|image| platform.accepts(&image.config.value().platform())) {
            return Some(image);
        }
        if let Ok(file) = File::open(record_path(self.store, reference, platform))
            && let Ok(record) = serde_json::from_reader::<_, Resolved>(BufReader::new(&file))
            && let Some(image) = self.load(reference, record.descriptor)
        {
            touch(&file);
            return Some(image);
        }
        let pinned = self.store.find_document(&reference.digest()?)?;
        self.load_for(reference, &pinned.descriptor(), platform)
    }

    /// The image for `platform` of what `descriptor` points to, if all its documents are here.
    fn load_for(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> Option<BaseImage> {
        self.load(reference, pick(self.store, descriptor, platform).ok()?)
    }

    /// What came out of a layout is here or nowhere.
    fn resolve_here(
        &self,
        reference: &Reference,
        digest: Digest,
        platform: &Platform,
    ) -> Result<BaseImage, ImageError> {
        let missing = |digest| ImageError::Store(layerfs::Error::MissingBlob { digest });
        let document = self.store.find_document(&digest).ok_or_else(|| missing(digest))?;
        let descriptor = pick(self.store, &document.descriptor(), platform)?;
        let digest = descriptor.digest;
        self.load(reference, descriptor).ok_or_else(|| missing(digest))
    }

    fn load(&self, reference: &Reference, descriptor: Descriptor) -> Option<BaseImage> {
        let manifest = self.store.manifest(&descriptor).ok()?;
        let config = self.store.config(manifest.value()).ok()?;
        BaseImage::new(reference.clone(), descriptor, manifest, config).ok()
    }

    fn remember(&self, image: &BaseImage, platform: &Platform) -> Result<(), ImageError> {
        let record = Resolved {
            reference: image.reference.to_string(),
            platform: platform.to_string(),
            descriptor: image.descriptor.clone(),
        };
        let bytes = Raw::write(record);
        let path = record_path(self.store, &image.reference, platform);
        self.store.write_record(&path, bytes.bytes()).map_err(ImageError::Store)
    }

    /// The name stands for another image now. The one that had it stays without, as with Docker.
    fn unname_other(&self, image: &BaseImage) -> layerfs::Result<()> {
        let named = self.store.find(&image.reference.to_string())?;
        match named.filter(|named| named.reference.as_ref() == Some(&image.reference)) {
            Some(old) if !self.is_among(image, &old.descriptor) => {
                self.store.untag(&image.reference)?;
                self.store.keep(&old.descriptor)
            }
            _ => Ok(()),
        }
    }

    /// Whether `image` is what `descriptor` points to or, in an index, one of them; its layers may be compressed there
    /// in another way.
    fn is_among(&self, image: &BaseImage, descriptor: &Descriptor) -> bool {
        let is_same = |entry: &Descriptor| self.store.is_same_image(entry, &image.descriptor);
        match self.store.document(descriptor) {
            Ok(Document::Index(index)) => index.value().images().any(is_same),
            _ => is_same(descriptor),
        }
    }

    fn ask(&self, reference: &Reference, platform: &Platform) -> Result<BaseImage, ImageError> {
        let fetched = self.client.document(reference).map_err(ImageError::Registry)?;
        let (descriptor, manifest) = match fetched.document {
            Document::Manifest(manifest) => (fetched.descriptor, *manifest),
            Document::Index(index) => {
                let entry = entry(index.value(), platform)?;
                let child =
                    self.client.document(&reference.at(entry.digest)).map_err(ImageError::Registry)?;
                let Document::Manifest(manifest) = child.document else {
                    let media_type = child.descriptor.media_type.to_string();
                    return Err(ImageError::Document(oci::Error::UnsupportedDocument { media_type }));
                };
                (child.descriptor, *manifest)
            }
        };
        let config = self.document(reference, &manifest.value().config)?;
        let config = Raw::parse(config, "image configuration").map_err(ImageError::Document)?;
        let config = config.called(manifest.value().config.digest);
        for (digest, bytes) in [(config.digest(), config.bytes()), (descriptor.digest, manifest.bytes())] {
            self.store.put_bytes_by(digest.algorithm(), bytes).map_err(ImageError::Store)?;
        }
        BaseImage::new(reference.clone(), descriptor, manifest, config)
    }

    /// A small blob, whole.
    fn document(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if let Ok(bytes) = self.store.read_document(descriptor) {
            return Ok(bytes);
        }
        let limit_bytes = oci::MAX_DOCUMENT_BYTES;
        if descriptor.size > limit_bytes {
            let (digest, size_bytes) = (descriptor.digest, descriptor.size);
            return Err(ImageError::Store(layerfs::Error::TooLarge { digest, size_bytes, limit_bytes }));
        }
        let mut bytes = Vec::new();
        let mut blob = self.client.blob(reference, descriptor).map_err(ImageError::Registry)?;
        blob.read_to_end(&mut bytes).map_err(|source| {
            ImageError::Store(layerfs::Error::ReadBlob { digest: descriptor.digest, source })
        })?;
        Ok(bytes)
    }

    fn fetch_layer(
        &self,
        reference: &Reference,
        layer: &Descriptor,
        progress: Progress<'_>,
        arrival: &Arrival,
    ) -> Result<(), ImageError> {
        if reference.registry() == layout::REGISTRY {
            // Those who wait for it are told.
            arrival.give_up();
            return Err(ImageError::Store(layerfs::Error::MissingBlob { digest: layer.digest }));
        }
        self.store.receive(layer, arrival, |known| {
            let blob = self.client.rest_of_blob(reference, layer, known).map_err(ImageError::Registry)?;
            let start = blob.start();
            let counted = Counted { source: blob, done_bytes: start, layer, progress };
            Ok(if start == 0 { Rest::Whole(counted) } else { Rest::Behind(counted) })
        })
    }

    /// How many layers, counted from the bottom, are unpacked already.
    fn unpacked(&self, diff_ids: &[DiffId]) -> usize {
        let chains: Vec<SnapshotId> = ChainId::each(diff_ids).map(SnapshotId::chain).collect();
        chains.iter().rposition(|chain| self.snapshots.contains(chain)).map_or(0, |top| top + 1)
    }
}

impl ImageSource for Images<'_> {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        fresh: bool,
    ) -> Result<BaseImage, ImageError> {
        // What a digest names cannot have changed.
        let may_be_stored = !fresh || reference.digest().is_some();
        if let Some(image) = may_be_stored.then(|| self.stored(reference, platform)).flatten() {
            return Ok(image);
        }
        if let Some(digest) = reference.digest().filter(|_| reference.registry() == layout::REGISTRY) {
            return self.resolve_here(reference, digest, platform);
        }
        let image = self.ask(reference, platform)?;
        self.remember(&image, platform)?;
        self.unname_other(&image).map_err(ImageError::Store)?;
        Ok(image)
    }

    fn fetch(&self, image: &BaseImage, progress: Progress<'_>) -> Result<(), ImageError> {
        workers::for_each(&image.manifest.value().layers, |layer| match self.store.hold(&layer.digest) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.fetch_layer(&image.reference, layer, progress, &Arrival::default()),
            Err(error) => Err(ImageError::Store(error)),
        })
    }

    fn snapshot(&self, image: &BaseImage, progress: Progress<'_>) -> Result<Option<SnapshotId>, ImageError> {
        let Some(chain) = image.chain() else { return Ok(None) };
        let id = SnapshotId::chain(chain);
        if self.snapshots.contains(&id) {
            return Ok(Some(id));
        }
        let turn = {
            let mut unpacking = self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
            unpacking.entry(chain).or_default().clone()
        };
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let diff_ids = image.diff_ids();
        let done = self.unpacked(diff_ids);
        let layers: Vec<_> = image.layers().skip(done).collect();
        self.unpack_all(&image.reference, &layers, ChainId::of(&diff_ids[..done]), progress)?;
        Ok(Some(id))
    }
}
