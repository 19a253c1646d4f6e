//! Where images go once they are built: the store, a registry, an archive, a directory.
//!
//! What goes there under one name is an [`Artifact`]: one image, or an index of several for several platforms.
//! Order: the images are made [`Complete`], joined, named; then brought into the [`Form`] in which they leave the store,
//! and written. What leaves as files alone ([`rootfs`]) has no form.

mod artifact;
pub mod docker;
mod form;
mod layout;
mod push;
pub mod rootfs;

use layerfs::store::Store;
use oci::{Descriptor, DiffId, ImageConfig, Manifest, Raw, Reference};

use crate::attest::{self, Statement};
use crate::error::ImageError;
use crate::source::{BaseImage, ImageSource, progress_events};
use crate::{Backends, Error, Events, Image, VertexId};

pub use artifact::{Annotations, Artifact, Companion, CompleteIndex, index};
pub use form::{Family, Form, LayerForm, Level, Method, Note, convert};
pub use layout::{Readers, layout};
pub use push::{convert_and_push, push, push_referrers};

/// One image that is delivered: the store has every blob of it.
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
    /// What was attested of it here and stands in no index, but refers to it; the store lists it, so that it goes
    /// wherever the image goes.
    pub referrers: Vec<Companion>,
}

impl Complete {
    /// The image whose manifest `descriptor` points to.
    ///
    /// # Errors
    /// When a document of it is missing or damaged.
    pub fn load(store: &Store, descriptor: &Descriptor) -> layerfs::Result<Complete> {
        let manifest = store.manifest(descriptor)?;
        let config = store.config(manifest.value())?;
        let listed = store.referrers(&descriptor.digest)?;
        let own = listed.iter().filter(|entry| attest::is_own(entry));
        let companion = |entry: &Descriptor| Companion::load(entry, descriptor.digest, store);
        let referrers = own.map(companion).collect::<Result<_, _>>()?;
        let descriptor = descriptor.clone();
        Ok(Complete { manifest, config, descriptor, base: None, referrers })
    }

    /// The image to unpack; what the store lacks of it is asked for by `reference`.
    ///
    /// # Errors
    /// When manifest and configuration disagree about the number of layers.
    pub fn as_base(&self, reference: Reference) -> Result<BaseImage, ImageError> {
        BaseImage::new(reference, self.descriptor.clone(), self.manifest.clone(), self.config.clone())
    }

    /// Each layer with its diff id, bottom first.
    pub fn layers(&self) -> impl Iterator<Item = (&Descriptor, DiffId)> {
        self.manifest.value().layers.iter().zip(self.config.value().rootfs.diff_ids.iter().copied())
    }
}

/// Says what is stated of each of these images.
pub type Stating<'a> = dyn Fn(&[Complete]) -> Result<Vec<Vec<Statement>>, Error> + 'a;

/// What is to be stated of images.
#[derive(Clone, Copy)]
pub struct Attest<'a> {
    /// Says it once all of them are in the store.
    pub statements: &'a Stating<'a>,
    /// Where it stands.
    pub place: AttestPlace,
}

/// Where statements stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttestPlace {
    /// In the index, beside the image: so BuildKit has it.
    #[default]
    Index,
    /// Nowhere but in a manifest that refers to the image, which registries list by it.
    Referrers,
}

/// Keeps `images`, of which there is at least one, in the store under `names`, or without a name; fetches what the
/// store lacks of their bases. One image of which nothing is stated stays itself; otherwise they become an index with
/// `annotations`, in their order, the statements behind them.
///
/// # Errors
/// When a layer of a base cannot be had, or the store cannot be written.
pub fn store(
    images: &[Image],
    names: &[Reference],
    annotations: &Annotations,
    attest: Attest<'_>,
    backends: &Backends<'_>,
    line: (VertexId, Events<'_>),
) -> Result<Artifact, Error> {
    let mut complete =
        images.iter().map(|image| complete(image, backends, line)).collect::<Result<Vec<_>, _>>()?;
    let statements = (attest.statements)(&complete)?;
    let mut companions = Vec::new();
    for (image, statements) in complete.iter_mut().zip(&statements).filter(|(_, own)| !own.is_empty()) {
        let companion = attest::companion(image, statements, names, backends.store)?;
        match attest.place {
            AttestPlace::Index => companions.push(companion),
            AttestPlace::Referrers => {
                companion.list(backends.store)?;
                image.referrers.push(companion);
            }
        }
    }
    let artifact = match <[Complete; 1]>::try_from(complete) {
        Ok([one]) if companions.is_empty() => Artifact::Image(Box::new(one)),
        Ok([one]) => Artifact::Index(Box::new(index(vec![one], companions, annotations, backends.store)?)),
        Err(several) => Artifact::Index(Box::new(index(several, companions, annotations, backends.store)?)),
    };
    name(backends.store, artifact.descriptor(), names)?;
    Ok(artifact)
}

fn complete(image: &Image, backends: &Backends<'_>, line: (VertexId, Events<'_>)) -> Result<Complete, Error> {
    if let Some(base) = &image.base {
        fetch(base, backends.images, line)?;
    }
    Ok(Complete {
        manifest: image.manifest.clone(),
        config: image.config.clone(),
        descriptor: image.descriptor.clone(),
        base: image.base.as_ref().map(|base| base.reference.clone()),
        referrers: Vec::new(),
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
