//! What a name stands for: one image, or an index of several for several platforms, with what is attested of them.
//!
//! Invariant: the images of a [`CompleteIndex`] and its companions are the entries of its document, each in their
//! order.

use layerfs::store::Store;
use oci::descriptor::REFERENCE_DIGEST;
use oci::{Descriptor, Digest, Document, Index, Manifest, MediaType, Platform, Raw};

use super::Complete;
use super::form::{Form, Level};
use crate::Error;
use crate::attest::{self, ARTIFACT_TYPE};

/// What is delivered under a name: the store has every blob of it.
#[derive(Clone, Debug)]
pub enum Artifact {
    /// One image.
    Image(Box<Complete>),
    /// Several, one a platform; or one with its companions.
    Index(Box<CompleteIndex>),
}

/// Several images under one name.
#[derive(Clone, Debug)]
pub struct CompleteIndex {
    /// The document.
    pub index: Raw<Index>,
    /// Its images.
    pub images: Vec<Complete>,
    /// What is attested of them.
    pub companions: Vec<Companion>,
    /// Points to the document.
    pub descriptor: Descriptor,
}

/// An entry of an index that is no image to run: statements about one.
#[derive(Clone, Debug)]
pub struct Companion {
    /// The manifest, whose layers are the statements.
    pub manifest: Raw<Manifest>,
    /// Points to the manifest.
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
        let entries = &index.value().manifests;
        let images = index.value().images().map(|entry| Complete::load(store, entry));
        let images = images.collect::<Result<_, _>>()?;
        let companions = entries.iter().filter(|entry| entry.is_attestation());
        let companion = |entry: &Descriptor| {
            Ok(Companion { manifest: store.manifest(entry)?, descriptor: entry.clone() })
        };
        let companions = companions.map(companion).collect::<layerfs::Result<_>>()?;
        let descriptor = descriptor.clone();
        Ok(Artifact::Index(Box::new(CompleteIndex { index, images, companions, descriptor })))
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

    /// The one image that tells of all, where there is room for one: this machine's, or else the first.
    pub fn representative(&self) -> Option<&Complete> {
        let host = Platform::host();
        let images = self.images();
        images.iter().find(|image| host.accepts(&image.config.value().platform())).or(images.first())
    }

    /// What is attested of the images, in the index or beside it.
    pub fn companions(&self) -> impl Iterator<Item = &Companion> {
        let in_index = match self {
            Artifact::Image(_) => &[][..],
            Artifact::Index(index) => &index.companions,
        };
        in_index.iter().chain(self.images().iter().flat_map(|image| &image.referrers))
    }
}

/// Joins `images` in an index, which is put into the store under no name. Each entry has the platform of its image's
/// configuration; those of the companions follow.
///
/// # Errors
/// When the store cannot be written.
pub fn index(
    images: Vec<Complete>,
    companions: Vec<Companion>,
    annotations: &Annotations,
    store: &Store,
) -> Result<CompleteIndex, Error> {
    let entry = |image: &Complete| Descriptor {
        platform: Some(image.config.value().platform()),
        ..image.descriptor.clone()
    };
    let entries = images.iter().map(entry).chain(companions.iter().map(|one| one.descriptor.clone()));
    let mut index = Index::oci(entries.collect());
    index.annotations.extend(annotations.index.iter().cloned());
    let index = Raw::write(index);
    let mut descriptor = put(&index, MediaType::OciIndex, store)?;
    descriptor.annotations.extend(annotations.descriptor.iter().cloned());
    Ok(CompleteIndex { index, images, companions, descriptor })
}

impl CompleteIndex {
    /// The same index with its images in another form, which their companions then speak of.
    pub(super) fn with_images(
        &self,
        images: Vec<Complete>,
        form: &Form,
        store: &Store,
    ) -> Result<CompleteIndex, Error> {
        let pairs = || self.images.iter().zip(&images);
        let renamed = |digest: &Digest| {
            let found = pairs().find(|(old, _)| old.descriptor.digest == *digest);
            found.map(|(_, new)| new.descriptor.clone())
        };
        let companions = self.companions.iter().map(|one| one.about(&renamed, store));
        let companions = companions.collect::<Result<Vec<_>, _>>()?;
        let mut index = self.index.value().clone();
        let (mut next_image, mut next_companion) = (images.iter(), companions.iter());
        for entry in &mut index.manifests {
            let made = match entry.is_attestation() {
                true => next_companion.next().map(|one| &one.descriptor),
                false => next_image.next().map(|one| &one.descriptor),
            };
            let Some(made) = made else { continue };
            (entry.digest, entry.size) = (made.digest, made.size);
            entry.media_type.clone_from(&made.media_type);
            entry.annotations.clone_from(&made.annotations);
        }
        index.annotations.extend(form.notes(Level::Index, None));
        let media_type = form.typed(&self.descriptor.media_type);
        if index.media_type.is_some() || form.family.is_some() {
            index.media_type = Some(media_type.clone());
        }
        let mut made = CompleteIndex { images, companions, ..self.clone() };
        if index != *self.index.value() {
            made.index = Raw::write(index);
            let written = put(&made.index, media_type.clone(), store)?;
            (made.descriptor.digest, made.descriptor.size) = (written.digest, written.size);
        }
        made.descriptor.media_type = media_type;
        made.descriptor.annotations.extend(form.notes(Level::IndexDescriptor, None));
        Ok(made)
    }
}

impl Companion {
    /// The statements that the store lists about the image `subject`.
    pub(super) fn load(listed: &Descriptor, subject: Digest, store: &Store) -> layerfs::Result<Companion> {
        let mut descriptor = listed.clone();
        descriptor.extra.remove(ARTIFACT_TYPE);
        descriptor.annotations = attest::about(&subject);
        Ok(Companion { manifest: store.manifest(listed)?, descriptor })
    }

    /// Lists it in the store as what refers to its image.
    pub(super) fn list(&self, store: &Store) -> Result<(), Error> {
        let fail = |source| Error::Store { act: "list the attestations", source };
        let Some(subject) = self.subject() else { return Ok(()) };
        store.add_referrer(&subject, &self.listed()).map_err(fail)
    }

    /// The digest of the manifest that it is about.
    pub fn subject(&self) -> Option<Digest> {
        self.descriptor.annotations.get(REFERENCE_DIGEST)?.parse().ok()
    }

    /// Points to it in a list that says what kind of thing it is. (OCI image-spec, descriptor.md, "artifactType".)
    pub(super) fn listed(&self) -> Descriptor {
        let Descriptor { media_type, digest, size, .. } = self.descriptor.clone();
        let mut listed = Descriptor::new(media_type, digest, size);
        let kind = self.manifest.value().extra.get(ARTIFACT_TYPE).cloned();
        listed.extra.extend(kind.map(|kind| (ARTIFACT_TYPE.to_owned(), kind)));
        listed
    }

    /// The same statements about an image that is in another form now.
    pub(super) fn about(
        &self,
        renamed: &dyn Fn(&Digest) -> Option<Descriptor>,
        store: &Store,
    ) -> Result<Companion, Error> {
        let fail = |source| Error::Store { act: "write the attestations", source };
        let Some(old) = self.subject() else { return Ok(self.clone()) };
        let Some(new) = renamed(&old).filter(|new| new.digest != old) else { return Ok(self.clone()) };
        let mut manifest = self.manifest.value().clone();
        for statement in &mut manifest.layers {
            let bytes = renamed_in(attest::read(statement, store).map_err(fail)?, &old, &new.digest);
            (statement.digest, statement.size) = (store.put_bytes(&bytes).map_err(fail)?, bytes.len() as u64);
        }
        if let Some(subject) = manifest.extra.get_mut("subject") {
            subject["digest"] = new.digest.to_string().into();
            subject["size"] = new.size.into();
        }
        let manifest = Raw::write(manifest);
        let written = store.put_document(&manifest, self.descriptor.media_type.clone()).map_err(fail)?;
        let mut descriptor = self.descriptor.clone();
        (descriptor.digest, descriptor.size) = (written.digest, written.size);
        descriptor.annotations.insert(REFERENCE_DIGEST.to_owned(), new.digest.to_string());
        Ok(Companion { manifest, descriptor })
    }
}

/// The statement with one digest in place of another; where their algorithms differ, what names the one names the other.
fn renamed_in(text: Vec<u8>, old: &Digest, new: &Digest) -> Vec<u8> {
    let entry = |digest: &Digest| format!("\"{}\":\"{}\"", digest.algorithm().name(), digest.hex());
    // Statements are text; what is none stays what it is.
    match String::from_utf8(text) {
        Ok(text) => text.replace(&entry(old), &entry(new)).replace(&old.hex(), &new.hex()).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

fn put(index: &Raw<Index>, media_type: MediaType, store: &Store) -> Result<Descriptor, Error> {
    store
        .put_document(index, media_type)
        .map_err(|source| Error::Store { act: "write the image index", source })
}
