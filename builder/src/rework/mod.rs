//! Images made out of images, without building: layers joined ([`squash()`]), or put on another base ([`rebase()`]).
//!
//! Nothing is unpacked or mounted: file indexes say what is in layers, and what is rewritten is documents and tars.
//! Equal images give equal bytes; no time of the present enters. `base` finds what an image was built on, `history`
//! whose each line is, `merge` which of two bases' settings stay.

pub mod base;
mod history;
mod merge;
mod rebase;
mod squash;

use std::fmt;
use std::path::PathBuf;

use layerfs::store::Store;
use oci::{Descriptor, DiffId, ImageConfig, Manifest, MediaType, Raw};

use crate::deliver::{self, Annotations, Artifact, Complete};

pub use rebase::{Rebase, conflicts, rebase};
pub use squash::squash;

/// Why an image could not be made out of another.
#[derive(Debug)]
pub enum Error {
    /// The store failed, or a layer is damaged or missing.
    Store {
        /// What was done.
        act: &'static str,
        /// Why it failed.
        source: layerfs::Error,
    },
    /// Manifest and configuration disagree about the number of layers.
    Layers {
        /// Layers of the manifest.
        in_manifest: usize,
        /// Diff ids of the configuration.
        in_config: usize,
    },
    /// The image does not begin with the layers of what is said to be its base.
    NotOn {
        /// The first layer that differs, counted from 1; one more than the image has if the base has more.
        layer: usize,
    },
    /// Nothing says what the image was built on.
    NoBase,
    /// The new base is for another platform.
    Platform {
        /// The image's.
        image: String,
        /// The base's.
        base: String,
    },
    /// The image's own layers touch files that differ between the bases.
    Conflicts {
        /// Below the root; never empty.
        paths: Vec<PathBuf>,
    },
    /// The index that joins the images cannot be written.
    Index(Box<crate::Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store { act, .. } => write!(f, "cannot {act}"),
            Error::Layers { in_manifest, in_config } => {
                write!(f, "the image's manifest has {in_manifest} layers and its configuration {in_config}")
            }
            Error::NotOn { layer } => {
                write!(f, "the image is not built on that base: its layer {layer} is another")
            }
            Error::NoBase => write!(f, "nothing says what the image was built on"),
            Error::Platform { image, base } => {
                write!(f, "the image is for `{image}`, the new base for `{base}`")
            }
            Error::Conflicts { paths } => {
                let what = match paths.len() {
                    1 => "1 file that differs".to_owned(),
                    count => format!("{count} files that differ"),
                };
                write!(f, "the image touches {what} between the two bases")
            }
            Error::Index(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Store { source, .. } => Some(source),
            Error::Index(error) => error.source(),
            _ => None,
        }
    }
}

fn store_error(act: &'static str) -> impl Fn(layerfs::Error) -> Error {
    move |source| Error::Store { act, source }
}

/// The layers of an image with their diff ids, bottom first.
///
/// # Errors
/// [`Error::Layers`].
pub fn layers(image: &Complete) -> Result<Vec<(Descriptor, DiffId)>, Error> {
    let (layers, diff_ids) = (&image.manifest.value().layers, &image.config.value().rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        return Err(Error::Layers { in_manifest: layers.len(), in_config: diff_ids.len() });
    }
    Ok(layers.iter().cloned().zip(diff_ids.iter().copied()).collect())
}

/// Does `work` to every image of `artifact`; several stay an index, without what was said about the old images.
///
/// # Errors
/// The first that `work` comes to.
pub fn each<E: From<Error>>(
    artifact: &Artifact,
    store: &Store,
    work: impl Fn(&Complete) -> Result<Complete, E>,
) -> Result<Artifact, E> {
    let Artifact::Index(index) = artifact else {
        return Ok(Artifact::Image(Box::new(work(&artifact.images()[0])?)));
    };
    // An attestation is about an image of its digest, which is no longer there.
    let images = index.images.iter().map(work).collect::<Result<Vec<_>, _>>()?;
    let annotations = index.index.value().annotations.clone().into_iter().collect();
    let annotations = Annotations { index: annotations, descriptor: Vec::new() };
    let joined = deliver::index(images, Vec::new(), &annotations, store)
        .map_err(|error| Error::Index(Box::new(error)))?;
    Ok(Artifact::Index(Box::new(joined)))
}

/// Puts an image's documents into the store; `like` is the image that it was.
fn put(
    like: &Complete,
    config: ImageConfig,
    layers: Vec<Descriptor>,
    annotate: impl FnOnce(&mut Manifest),
    store: &Store,
) -> Result<Complete, Error> {
    let fail = store_error("write the image");
    let config = Raw::write(config);
    let pointer = store.put_document(&config, MediaType::OciConfig).map_err(&fail)?;
    let layers =
        layers.into_iter().map(|layer| Descriptor { media_type: layer.media_type.to_oci(), ..layer });
    let mut manifest = Manifest::oci(pointer, layers.collect());
    manifest.annotations.clone_from(&like.manifest.value().annotations);
    annotate(&mut manifest);
    let manifest = Raw::write(manifest);
    let written = store.put_document(&manifest, MediaType::OciManifest).map_err(&fail)?;
    let descriptor = Descriptor { platform: like.descriptor.platform.clone(), ..written };
    Ok(Complete { manifest, config, descriptor, base: None, referrers: Vec::new() })
}
