//! The form in which images leave the store: how their layers are compressed, which family their documents are of, and
//! what notes those carry.
//!
//! Only what has to change changes: layers that are compressed already stay what they are unless others are asked for
//! by force, and an image that is in the form asked for keeps its digest.

use std::thread;

use layerfs::layer::codec::Codec;
use layerfs::layer::estargz;
use layerfs::store::Store;
use oci::{Compression, Descriptor, DiffId, Digest, MediaType, Platform, Raw};

use super::{Artifact, Complete};
use crate::Error;

/// How images leave the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Form {
    /// Their layers.
    pub layers: LayerForm,
    /// Their documents; as they are where none is said.
    pub family: Option<Family>,
    /// Notes on their documents.
    pub notes: Vec<Note>,
}

/// How layers leave the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerForm {
    /// The method.
    pub method: Method,
    /// How hard to try: 1 to 9, for zstd 1 to 22; the method's usual level where none is said.
    pub level: Option<u32>,
    /// Whether layers that are compressed by another method are made anew.
    pub force: bool,
}

/// What layers are compressed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Nothing.
    Uncompressed,
    /// Gzip.
    #[default]
    Gzip,
    /// Zstd, which Docker's documents have no type for.
    Zstd,
    /// Gzip with a table of contents, for file systems that read single files from the registry. It makes another
    /// archive of the layer, and so another image.
    Estargz,
}

/// A family of media types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The OCI's.
    Oci,
    /// Docker's, schema 2.
    Docker,
}

/// An annotation that an output asks for: `annotation-LEVEL[PLATFORM].KEY=VALUE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What it is put on.
    pub level: Level,
    /// For images of this platform only.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// What may be annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The manifest of an image.
    Manifest,
    /// What points to it: the entry of an index, or of a layout.
    ManifestDescriptor,
    /// The index of several platforms.
    Index,
    /// What points to the index: the entry of a layout.
    IndexDescriptor,
}

impl Form {
    /// The notes of `level`; those of an image are for all platforms or for its own.
    pub(super) fn notes(
        &self,
        level: Level,
        platform: Option<&Platform>,
    ) -> impl Iterator<Item = (String, String)> {
        let is_meant = move |note: &&Note| {
            note.level == level && (note.platform.is_none() || note.platform.as_ref() == platform)
        };
        self.notes.iter().filter(is_meant).map(|note| (note.key.clone(), note.value.clone()))
    }

    /// `media_type` in the family that was asked for.
    pub(super) fn typed(&self, media_type: &MediaType) -> MediaType {
        match self.family {
            None => media_type.clone(),
            Some(Family::Oci) => media_type.to_oci(),
            Some(Family::Docker) => media_type.to_docker().unwrap_or_else(|| media_type.clone()),
        }
    }
}

/// `artifact` in `form`; itself if it is already.
///
/// # Errors
/// When a layer cannot be read or its new form cannot be written.
pub fn convert(artifact: &Artifact, form: &Form, store: &Store) -> Result<Artifact, Error> {
    convert_each(artifact, form, store, &|_| {})
}

/// The same; `ready` is told of each layer when it has its form.
pub(super) fn convert_each(
    artifact: &Artifact,
    form: &Form,
    store: &Store,
    ready: &dyn Fn(&Descriptor),
) -> Result<Artifact, Error> {
    match artifact {
        Artifact::Image(one) => Ok(Artifact::Image(Box::new(image(one, form, store, ready)?))),
        Artifact::Index(index) => {
            let images = index.images.iter().map(|one| image(one, form, store, ready));
            let images = images.collect::<Result<Vec<_>, _>>()?;
            Ok(Artifact::Index(Box::new(index.with_images(images, form, store)?)))
        }
    }
}

fn image(
    image: &Complete,
    form: &Form,
    store: &Store,
    ready: &dyn Fn(&Descriptor),
) -> Result<Complete, Error> {
    let fail = |source| Error::Store { act: "compress the layers", source };
    let platform = image.config.value().platform();
    let mut manifest = image.manifest.value().clone();
    let mut config = image.config.value().clone();
    for (layer, diff_id) in manifest.layers.iter_mut().zip(&mut config.rootfs.diff_ids) {
        if let Some(method) = form.method_for(layer) {
            (*layer, *diff_id) = form.layers.make(method, layer, *diff_id, store).map_err(fail)?;
        }
        layer.media_type = form.typed(&layer.media_type);
        ready(layer);
    }
    manifest.config.media_type = form.typed(&manifest.config.media_type);
    let media_type = form.typed(&image.descriptor.media_type);
    if manifest.media_type.is_some() || form.family.is_some() {
        manifest.media_type = Some(media_type.clone());
    }
    manifest.annotations.extend(form.notes(Level::Manifest, Some(&platform)));
    let mut made = image.clone();
    made.descriptor.annotations.extend(form.notes(Level::ManifestDescriptor, Some(&platform)));
    if config.rootfs != image.config.value().rootfs {
        made.config = Raw::write(config);
        let written = store.put_document(&made.config, manifest.config.media_type.clone()).map_err(fail)?;
        (manifest.config.digest, manifest.config.size) = (written.digest, written.size);
    }
    if manifest != *image.manifest.value() {
        made.manifest = Raw::write(manifest);
        let written = store.put_document(&made.manifest, media_type.clone()).map_err(fail)?;
        made.descriptor = Descriptor { digest: written.digest, size: written.size, ..made.descriptor };
    }
    made.descriptor.media_type = media_type;
    let renamed = |digest: &Digest| (*digest == image.descriptor.digest).then(|| made.descriptor.clone());
    let referrers = image.referrers.iter().map(|one| one.about(&renamed, store));
    made.referrers = referrers.collect::<Result<_, _>>()?;
    if made.descriptor.digest != image.descriptor.digest {
        made.referrers.iter().try_for_each(|one| one.list(store))?;
    }
    Ok(made)
}

impl Form {
    /// How `layer` is to be made anew; none if it stays.
    fn method_for(&self, layer: &Descriptor) -> Option<Method> {
        // What is no layer of a known kind is not touched.
        let found = layer.media_type.layer_compression()?;
        let LayerForm { method, force, .. } = self.layers;
        let is_wanted = match method {
            Method::Uncompressed => found == Compression::None,
            Method::Gzip => found == Compression::Gzip,
            Method::Zstd => found == Compression::Zstd,
            Method::Estargz => layer.annotations.contains_key(estargz::TOC_DIGEST),
        };
        let cannot_be = self.family == Some(Family::Docker) && found == Compression::Zstd;
        match (force || found == Compression::None) && !is_wanted {
            true => Some(method),
            // Docker has no type for it, whoever made it.
            false if cannot_be => Some(Method::Gzip),
            false => None,
        }
    }
}

impl LayerForm {
    /// Brings a layer that was just made into this form, unless it is not wanted any more: whoever asks for it later finds it
    /// made.
    ///
    /// # Errors
    /// When it cannot be read or written, or is not wanted any more.
    pub(crate) fn make_ahead(
        self,
        diff_id: DiffId,
        store: &Store,
        is_wanted: &(dyn Fn() -> bool + Sync),
    ) -> layerfs::Result<()> {
        let compression = match self.method {
            Method::Gzip => Compression::Gzip,
            Method::Zstd => Compression::Zstd,
            // Nothing is to be done, or it is not remembered by diff id alone.
            Method::Uncompressed | Method::Estargz => return Ok(()),
        };
        store.compressed_while(diff_id, self.codec(compression), threads(), is_wanted).map(drop)
    }

    fn codec(self, compression: Compression) -> Codec {
        let usual = Codec::new(compression);
        Codec { level: self.level.unwrap_or(usual.level), ..usual }
    }

    /// The layer, compressed by `method`, and the digest of the archive in it.
    fn make(
        self,
        method: Method,
        layer: &Descriptor,
        diff_id: DiffId,
        store: &Store,
    ) -> layerfs::Result<(Descriptor, DiffId)> {
        store.decompress(layer, diff_id)?;
        let compressed =
            |compression| Ok((store.compressed(diff_id, self.codec(compression), threads())?, diff_id));
        match method {
            Method::Uncompressed => compressed(Compression::None),
            Method::Gzip => compressed(Compression::Gzip),
            Method::Zstd => compressed(Compression::Zstd),
            Method::Estargz => store.estargz(diff_id, self.codec(Compression::Gzip).level),
        }
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
