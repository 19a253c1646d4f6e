//! The same images with their layers compressed, as they leave the store.

use layerfs::layer::codec::Codec;
use layerfs::store::Store;
use oci::{Compression, Descriptor, MediaType, Raw};

use super::{Artifact, Complete};
use crate::Error;

/// `artifact` with all layers compressed, by gzip unless they are already: then it stays what it is.
///
/// # Errors
/// When a layer cannot be read or its compressed form cannot be written.
pub fn compress(artifact: &Artifact, store: &Store) -> Result<Artifact, Error> {
    match artifact {
        Artifact::Image(one) => Ok(Artifact::Image(Box::new(image(one, store)?))),
        Artifact::Index(index) => {
            let images: Vec<Complete> =
                index.images.iter().map(|one| image(one, store)).collect::<Result<_, _>>()?;
            let is_as_before =
                images.iter().zip(&index.images).all(|(new, old)| new.descriptor == old.descriptor);
            if is_as_before {
                return Ok(artifact.clone());
            }
            Ok(Artifact::Index(Box::new(index.with_images(images, store)?)))
        }
    }
}

fn image(image: &Complete, store: &Store) -> Result<Complete, Error> {
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
    let written = store.put_document(&manifest, media_type).map_err(fail)?;
    let descriptor = Descriptor { digest: written.digest, size: written.size, ..image.descriptor.clone() };
    Ok(Complete { manifest, descriptor, ..image.clone() })
}
