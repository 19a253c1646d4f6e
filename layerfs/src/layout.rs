//! The store seen as an OCI image layout: its list of images, and copies for elsewhere.
//! (OCI image-spec, image-layout.md.)
//!
//! Every image has one entry in `index.json` for each of its names, or one without a name when the last name
//! went to another image. An entry carries two names: `io.containerd.image.name` is the complete reference and
//! is what is read back; `org.opencontainers.image.ref.name` is the familiar one (`debian:bookworm`), by which
//! `skopeo`, `umoci` and `podman` find the image as `oci:<root>:debian:bookworm`. containerd writes the tag
//! alone there, but then every `latest` would be the same image to those tools.
//!
//! What refers to an image, such as a signature, is an entry of its own kind: see `referrers`.
//!
//! An image here is one image, or an index of several for several platforms: what a name stands for.

use oci::descriptor::{IMAGE_NAME, REF_NAME};
use oci::{Algorithm, Descriptor, Digest, Document, Index, MAX_DOCUMENT_BYTES, Reference};

use crate::lock::Lock;
use crate::store::Store;
use crate::{Error, IoResultExt, Result};

mod export;
mod referrers;

pub(crate) use referrers::is_referrer;

pub use export::{Content, Part, Referrers, Target, replacing_file};

/// The content of `oci-layout`.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image of the store under one of its names.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredImage {
    /// Its name; none if the name went to another image.
    pub reference: Option<Reference>,
    /// Its manifest or index, without the annotations that hold the name.
    pub descriptor: Descriptor,
}

impl Store {
    /// All images, in the order in which they were added.
    pub fn images(&self) -> Result<Vec<StoredImage>> {
        let entries = self.entries()?.into_iter();
        Ok(entries.filter(|entry| !is_referrer(entry)).map(StoredImage::of).collect())
    }

    /// The manifest or index that `descriptor` points to.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let document = Document::parse(self.read_document(descriptor)?, &descriptor.media_type)?;
        Ok(document.called(descriptor.digest))
    }

    /// The manifest or index with this digest, if the store has the blob and it is one.
    pub fn find_document(&self, digest: &Digest) -> Option<Document> {
        let size = self.size_of(digest).filter(|size| *size <= MAX_DOCUMENT_BYTES)?;
        // Its type is not looked at before it is recognised.
        let descriptor = Descriptor::new(oci::MediaType::OciManifest, *digest, size);
        let document = Document::recognise(self.read_document(&descriptor).ok()?).ok()?;
        Some(document.called(*digest))
    }

    /// Whether these are the same images, perhaps with their layers compressed in other ways.
    pub fn is_same_image(&self, one: &Descriptor, other: &Descriptor) -> bool {
        let ids = |descriptor| self.image_ids(descriptor).filter(|ids| !ids.is_empty());
        one.digest == other.digest || ids(one).is_some_and(|these| Some(these) == ids(other))
    }

    /// The digests of the configurations, one an image; none if not every document is here.
    fn image_ids(&self, descriptor: &Descriptor) -> Option<Vec<Digest>> {
        match self.document(descriptor).ok()? {
            Document::Manifest(manifest) => Some(vec![manifest.value().config.digest]),
            Document::Index(index) => {
                let id = |entry| Some(self.manifest(entry).ok()?.value().config.digest);
                index.value().images().map(id).collect()
            }
        }
    }

    /// Gives `reference` to the image `descriptor`. An image that loses its last name by this stays, nameless,
    /// unless it is the same image compressed otherwise.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] if its document is not here, among others.
    pub fn tag(&self, reference: &Reference, descriptor: &Descriptor) -> Result<()> {
        self.must_have(descriptor)?;
        self.edit(|images| {
            let displaced = take(images, |image| image.reference.as_ref() == Some(reference));
            images.retain(|image| image.reference.is_some() || image.descriptor.digest != descriptor.digest);
            images.push(StoredImage { reference: Some(reference.clone()), descriptor: nameless(descriptor) });
            for old in displaced {
                let is_listed = images.iter().any(|image| image.descriptor.digest == old.descriptor.digest);
                if !is_listed && !self.is_same_image(&old.descriptor, descriptor) {
                    images.push(StoredImage { reference: None, ..old });
                }
            }
        })
    }

    /// Keeps an image without a name, unless it has one. Fails as [`Store::tag`] does.
    pub fn keep(&self, descriptor: &Descriptor) -> Result<()> {
        self.must_have(descriptor)?;
        self.edit(|images| {
            if !images.iter().any(|image| image.descriptor.digest == descriptor.digest) {
                images.push(StoredImage { reference: None, descriptor: nameless(descriptor) });
            }
        })
    }

    /// What is listed must be there: a collector may have been faster than whoever found the image.
    fn must_have(&self, descriptor: &Descriptor) -> Result<()> {
        let digest = descriptor.digest;
        self.hold(&digest)?.map(drop).ok_or(Error::MissingBlob { digest })
    }

    /// Takes a name away; says whether it was there. An image without any other name is no longer listed, and
    /// the next collection frees it.
    pub fn untag(&self, reference: &Reference) -> Result<bool> {
        self.edit(|images| !take(images, |image| image.reference.as_ref() == Some(reference)).is_empty())
    }

    /// Takes an image off the list with all its names, which are returned.
    pub fn forget(&self, manifest: &Digest) -> Result<Vec<Reference>> {
        self.edit(|images| {
            let gone = take(images, |image| image.descriptor.digest == *manifest);
            gone.into_iter().filter_map(|image| image.reference).collect()
        })
    }

    /// Takes an image off the list unless it has a name, which somebody may have just given to it; says whether it did.
    pub fn forget_nameless(&self, manifest: &Digest) -> Result<bool> {
        let is_it = |image: &StoredImage| image.reference.is_none() && image.descriptor.digest == *manifest;
        self.edit(|images| !take(images, is_it).is_empty())
    }

    /// Finds an image by what people type: a name, an image id (the digest of its configuration), the digest of
    /// its manifest, or at least four digits that one of them begins with.
    pub fn find(&self, text: &str) -> Result<Option<StoredImage>> {
        let images = self.images()?;
        if let Ok(wanted) = text.parse::<Reference>() {
            let found = images.iter().find(|image| image.answers_to(&wanted));
            if found.is_some() {
                return Ok(found.cloned());
            }
        }
        let bare = Algorithm::ALL.iter().find_map(|one| text.strip_prefix(one.name())?.strip_prefix(':'));
        let digits = bare.unwrap_or(text);
        if digits.len() < 4 || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let begins = |digest: &Digest| digest.hex().starts_with(digits);
        let mut found: Option<(Digest, StoredImage)> = None;
        for image in images {
            let manifest = image.descriptor.digest;
            // An image of which not everything is here can still be found by its manifest. One that is here twice,
            // its layers compressed and not, has one id.
            let id = self.manifest(&image.descriptor).map_or(manifest, |m| m.value().config.digest);
            if !begins(&manifest) && !begins(&id) {
                continue;
            }
            match &found {
                Some((other, _)) if *other != id => return Err(Error::AmbiguousId { text: text.to_owned() }),
                // The very manifest that was asked for goes before its twin.
                Some((_, twin)) if begins(&twin.descriptor.digest) || !begins(&manifest) => {}
                _ => found = Some((id, image)),
            }
        }
        Ok(found.map(|(_, image)| image))
    }

    /// Makes the layout's two files if they are missing.
    pub(crate) fn init_layout(&self) -> Result<()> {
        let version = self.root().join("oci-layout");
        if !version.exists() {
            self.ingest().replace_file(&version, LAYOUT)?;
        }
        if !self.index_path().exists() {
            self.edit(|_| ())?;
        }
        Ok(())
    }

    fn index_path(&self) -> std::path::PathBuf {
        self.root().join("index.json")
    }

    fn read_index(&self) -> Result<Index> {
        let path = self.index_path();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::State { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Index::oci(Vec::new())),
            Err(error) => Err(error).at("read", path),
        }
    }

    /// All that is on the list: images, and what refers to them.
    fn entries(&self) -> Result<Vec<Descriptor>> {
        Ok(self.read_index()?.manifests)
    }

    /// Changes the list of images, and leaves what refers to them.
    fn edit<T>(&self, change: impl FnOnce(&mut Vec<StoredImage>) -> T) -> Result<T> {
        self.edit_entries(|entries| {
            let (referrers, images): (Vec<_>, Vec<_>) =
                std::mem::take(entries).into_iter().partition(is_referrer);
            let mut images = images.into_iter().map(StoredImage::of).collect();
            let result = change(&mut images);
            entries.extend(images.into_iter().map(StoredImage::into_entry).chain(referrers));
            result
        })
    }

    /// Changes the list: read, change, replace, one process at a time.
    fn edit_entries<T>(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> T) -> Result<T> {
        let _editing = Lock::exclusive(&self.root().join("index.lock"))?;
        let path = self.index_path();
        let mut index = self.read_index()?;
        let result = change(&mut index.manifests);
        let bytes = serde_json::to_vec(&index).expect("an index has string keys and no failing parts");
        // Names are the one thing that nobody can make anew.
        if std::fs::read(&path).ok().as_ref() != Some(&bytes) {
            self.ingest().replace_file_on_disk(&path, &bytes)?;
        }
        Ok(result)
    }
}

impl StoredImage {
    /// Reads an entry of `index.json`. A layout that others wrote may have the familiar name only.
    fn of(entry: Descriptor) -> StoredImage {
        let name = entry.annotations.get(IMAGE_NAME).or_else(|| entry.annotations.get(REF_NAME));
        StoredImage { reference: name.and_then(|name| name.parse().ok()), descriptor: nameless(&entry) }
    }

    fn into_entry(self) -> Descriptor {
        match &self.reference {
            Some(reference) => named(&self.descriptor, reference),
            None => self.descriptor,
        }
    }

    fn answers_to(&self, wanted: &Reference) -> bool {
        let Some(own) = &self.reference else { return false };
        match wanted.digest() {
            Some(digest) => own.name() == wanted.name() && (self.descriptor.digest == digest),
            None => own == wanted,
        }
    }
}

/// An entry of a layout's index for `descriptor` under this name.
fn named(descriptor: &Descriptor, reference: &Reference) -> Descriptor {
    let mut entry = descriptor.clone();
    entry.annotations.insert(IMAGE_NAME.to_owned(), reference.to_string());
    entry.annotations.insert(REF_NAME.to_owned(), reference.familiar());
    entry
}

fn nameless(descriptor: &Descriptor) -> Descriptor {
    let mut descriptor = descriptor.clone();
    descriptor.annotations.remove(IMAGE_NAME);
    descriptor.annotations.remove(REF_NAME);
    descriptor
}

fn take(images: &mut Vec<StoredImage>, which: impl Fn(&StoredImage) -> bool) -> Vec<StoredImage> {
    images.extract_if(.., |image| which(image)).collect()
}
