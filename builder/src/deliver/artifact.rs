//! What a name stands for: one image, or an index of several for several platforms.
//!
//! Invariant: the images of a [`CompleteIndex`] are the entries of its document, in their order.

use layerfs::store::Store;
use oci::{Descriptor, Document, Index, MediaType, Raw};

use super::Complete;
use crate::Error;

/// What is delivered under a name: the store has every blob of it.
#[derive(Clone, Debug)]
pub enum Artifact {
    /// One image.
    Image(Box<Complete>),
    /// Several, one a platform.
    Index(Box<CompleteIndex>),
}

/// Several images under one name.
#[derive(Clone, Debug)]
pub struct CompleteIndex {
    /// The document.
    pub index: Raw<Index>,
    /// Its images.
    pub images: Vec<Complete>,
    /// Points to the document.
    pub descriptor: Descriptor,
}

/// `--annotation` for what is not a manifest, in the order given.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    /// `index:` go into the index.
    pub index: Vec<(String, String)>,
    /// `index-descriptor:` go where something points to the index: into the list of a layout.
    pub descriptor: Vec<(String, String)>,
}

impl Artifact {
    /// What `descriptor` points to: a manifest or an index.
    ///
    /// # Errors
    /// When a document of it is missing or damaged, or an index holds an index.
    pub fn load(store: &Store, descriptor: &Descriptor) -> layerfs::Result<Artifact> {
        let Document::Index(index) = store.document(descriptor)? else {
            return Ok(Artifact::Image(Box::new(Complete::load(store, descriptor)?)));
        };
        let images = index
            .value()
            .manifests
            .iter()
            .map(|entry| Complete::load(store, entry))
            .collect::<Result<_, _>>()?;
        Ok(Artifact::Index(Box::new(CompleteIndex { index, images, descriptor: descriptor.clone() })))
    }

    /// Points to the manifest or the index.
    pub fn descriptor(&self) -> &Descriptor {
        match self {
            Artifact::Image(image) => &image.descriptor,
            Artifact::Index(index) => &index.descriptor,
        }
    }

    /// The images: one, or those of the index.
    pub fn images(&self) -> &[Complete] {
        match self {
            Artifact::Image(image) => std::slice::from_ref(&**image),
            Artifact::Index(index) => &index.images,
        }
    }
}

/// Joins `images` in an index, which is put into the store under no name. Each entry has the platform of its image's
/// configuration.
///
/// # Errors
/// When the store cannot be written.
pub fn index(
    images: Vec<Complete>,
    annotations: &Annotations,
    store: &Store,
) -> Result<CompleteIndex, Error> {
    let entry = |image: &Complete| Descriptor {
        platform: Some(image.config.value().platform()),
        ..image.descriptor.clone()
    };
    let mut index = Index::oci(images.iter().map(entry).collect());
    index.annotations.extend(annotations.index.iter().cloned());
    let mut index = put(index, images, MediaType::OciIndex, store)?;
    index.descriptor.annotations.extend(annotations.descriptor.iter().cloned());
    Ok(index)
}

impl CompleteIndex {
    /// The same index of the same images in another form.
    pub(super) fn with_images(&self, images: Vec<Complete>, store: &Store) -> Result<CompleteIndex, Error> {
        let mut index = self.index.value().clone();
        for (entry, image) in index.manifests.iter_mut().zip(&images) {
            (entry.digest, entry.size) = (image.descriptor.digest, image.descriptor.size);
        }
        let mut made = put(index, images, self.descriptor.media_type.clone(), store)?;
        made.descriptor.annotations.clone_from(&self.descriptor.annotations);
        Ok(made)
    }
}

fn put(
    index: Index,
    images: Vec<Complete>,
    media_type: MediaType,
    store: &Store,
) -> Result<CompleteIndex, Error> {
    let index = Raw::write(index);
    let descriptor = store
        .put_document(&index, media_type)
        .map_err(|source| Error::Store { act: "write the image index", source })?;
    Ok(CompleteIndex { index, images, descriptor })
}
