//! Where an image goes once it is built: the store, a registry, an OCI layout.

mod layout;
mod push;

use layerfs::layer::codec::Codec;
use layerfs::store::Store;
use oci::{Compression, Descriptor, ImageConfig, Manifest, MediaType, Raw, Reference};

use crate::source::{BaseImage, ImageSource, progress_events};
use crate::{Backends, Error, Events, Image, VertexId};

pub use layout::{Layout, oci};
pub use push::push;

/// What is delivered: an image of which the store has every blob.
#[derive(Clone, Debug)]
pub struct Complete {
    /// The manifest.
    pub manifest: Raw<Manifest>,
    /// The configuration.
    pub config: Raw<ImageConfig>,
    /// Points to the manifest.
    pub descriptor: Descriptor,
    /// Where its layers may be besides, for mounting them across repositories.
    pub base: Option<Reference>,
}

/// Keeps `image` in the store under `names`, or without a name; fetches what the store lacks of its base.
///
/// # Errors
/// When a layer of the base cannot be had, or the store cannot be written.
pub fn store(
    image: &Image,
    names: &[Reference],
    backends: &Backends<'_>,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<Complete, Error> {
    if let Some(base) = &image.base {
        fetch(base, backends.images, (vertex, events))?;
    }
    name(backends.store, &image.descriptor, names)?;
    Ok(Complete {
        manifest: image.manifest.clone(),
        config: image.config.clone(),
        descriptor: image.descriptor.clone(),
        base: image.base.as_ref().map(|base| base.reference.clone()),
    })
}

fn fetch(base: &BaseImage, images: &dyn ImageSource, line: (VertexId, Events<'_>)) -> Result<(), Error> {
    let progress = progress_events(line.0, line.1);
    images.fetch(base, &progress).map_err(|source| Error::Image {
        reference: base.reference.clone(),
        span: None,
        stage: None,
        source,
    })
}

/// Makes `names` stand for `descriptor`; without any it is kept as an image that has none.
///
/// # Errors
/// When the store's index cannot be written.
pub fn name(store: &Store, descriptor: &Descriptor, names: &[Reference]) -> Result<(), Error> {
    let fail = |source| Error::Store { act: "name the image", source };
    if names.is_empty() {
        return store.keep(descriptor).map_err(fail);
    }
    names.iter().try_for_each(|name| store.tag(name, descriptor)).map_err(fail)
}

/// The same image with its layers compressed by gzip. What is compressed already stays as it is.
///
/// # Errors
/// When a layer cannot be read or its compressed form cannot be written.
pub fn compress(image: &Complete, store: &Store) -> Result<Complete, Error> {
    let fail = |source| Error::Store { act: "compress the layers", source };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut manifest = image.manifest.value().clone();
    let diff_ids = &image.config.value().rootfs.diff_ids;
    for (layer, diff_id) in manifest.layers.iter_mut().zip(diff_ids) {
        if layer.media_type.layer_compression() == Some(Compression::None) {
            *layer = store.compressed(*diff_id, Codec::new(Compression::Gzip), threads).map_err(fail)?;
        }
    }
    if manifest == *image.manifest.value() {
        return Ok(image.clone());
    }
    let media_type = manifest.media_type.clone().unwrap_or(MediaType::OciManifest);
    let manifest = Raw::write(manifest);
    let descriptor = store.put_document(&manifest, media_type).map_err(fail)?;
    Ok(Complete { manifest, descriptor, ..image.clone() })
}
