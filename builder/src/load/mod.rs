//! Images out of archives and directories that others wrote: OCI layouts, Docker's archives, and plain file systems.
//!
//! * [`archive()`] reads a tar of either kind, compressed or not, in one pass: every file becomes a blob of the store, by
//!   what it contains; then its list says which of them are images.
//! * [`directory`] reads a layout in place.
//! * [`import()`] makes an image of a file system that was none.
//!
//! Nothing is named here: what comes out is in the store, complete, and it is for the caller to name it.
//!
//! Invariants: an archive's paths are names to find its files by and nothing else, so that none leads out of it; a blob
//! that is called by a digest has it; every layer is what its image's configuration says.

mod archive;
mod docker;
mod error;
pub mod import;

use std::collections::BTreeMap;
use std::path::Path;

use layerfs::store::Store;
use oci::descriptor::{IMAGE_NAME, REF_NAME};
use oci::{Descriptor, Digest, Document, Index, MAX_INDEX_DEPTH, Manifest, Platform, Raw, Reference};
use registry::referrers;

use crate::attest::ARTIFACT_TYPE;
use crate::source::layout::Layout;

pub use archive::archive;
pub use error::LoadError;
pub use import::import;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// What it was called.
    pub names: Vec<Reference>,
}

/// Loads all images of the OCI layout in `path`.
///
/// # Errors
/// When it is no layout, or a blob is missing or damaged.
pub fn directory(path: &Path, store: &Store) -> Result<Vec<Loaded>, LoadError> {
    let layout = Layout { path };
    let list = layout.read(&path.join("index.json"))?;
    images(list, store, &|blob| layout.copy(blob, store).map_err(LoadError::Layout))
}

/// The images that the list of a layout names; `fetch` brings a blob into the store, or says that there is none.
fn images(
    list: Vec<u8>,
    store: &Store,
    fetch: &dyn Fn(&Descriptor) -> Result<(), LoadError>,
) -> Result<Vec<Loaded>, LoadError> {
    let list = Raw::<Index>::parse(list, "index").map_err(LoadError::List)?;
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut referring = Vec::new();
    for entry in &list.value().manifests {
        // What only refers to an image is none, even where the list does not say so.
        if let Some(subject) = subject(entry, store, fetch)? {
            referring.push((subject, entry));
            continue;
        }
        // Nor is any other artifact.
        if entry.extra.contains_key(ARTIFACT_TYPE) {
            continue;
        }
        let name = name(entry);
        match loaded.iter_mut().find(|known| known.descriptor.digest == entry.digest) {
            Some(known) => known.names.extend(name),
            None => {
                let mut descriptor = entry.clone();
                descriptor.annotations.retain(|key, _| key != IMAGE_NAME && key != REF_NAME);
                loaded.push(Loaded { descriptor, names: name.into_iter().collect() });
            }
        }
    }
    let mut completion = Completion { store, fetch, seen: BTreeMap::new() };
    for image in &mut loaded {
        image.descriptor = completion.complete(&image.descriptor, 0)?;
    }
    if loaded.is_empty() {
        return Err(LoadError::Empty);
    }
    for (subject, entry) in referring {
        completion.complete(entry, 0)?;
        let bytes = store.read_document(entry)?;
        store.add_referrer(&subject, &referrers::entry(entry, &bytes))?;
    }
    Ok(loaded)
}

/// What the manifest or index `entry` refers to, if it is one that does. One that has a name is an image all the same.
fn subject(
    entry: &Descriptor,
    store: &Store,
    fetch: &dyn Fn(&Descriptor) -> Result<(), LoadError>,
) -> Result<Option<Digest>, LoadError> {
    if name(entry).is_some() {
        return Ok(None);
    }
    match fetch(entry) {
        Err(error) if error.is_absence() => return Ok(None),
        fetched => fetched?,
    }
    // What its subject is if it is no descriptor is nobody's affair.
    let subject = referrers::subject(&store.read_document(entry)?).ok().flatten();
    Ok(subject.map(|subject| subject.digest))
}

/// The name of an entry. One that is a tag alone, as some tools write it, names no repository.
fn name(entry: &Descriptor) -> Option<Reference> {
    let name = entry.annotations.get(IMAGE_NAME).or_else(|| entry.annotations.get(REF_NAME))?;
    name.contains([':', '/']).then(|| name.parse().ok()).flatten()
}

/// Brings what images consist of into the store, each document once however often it is named.
struct Completion<'a> {
    store: &'a Store,
    fetch: &'a dyn Fn(&Descriptor) -> Result<(), LoadError>,
    /// The documents that were looked at, and whether they are complete.
    seen: BTreeMap<Digest, bool>,
}

impl Completion<'_> {
    /// Makes sure that all of an image is in the store. Of an index some images may be missing, as tools leave out what
    /// they did not pull: then it is the one for this machine that counts, or else the first.
    fn complete(&mut self, descriptor: &Descriptor, depth: u8) -> Result<Descriptor, LoadError> {
        let digest = descriptor.digest;
        if depth > MAX_INDEX_DEPTH {
            return Err(LoadError::Depth { digest });
        }
        match self.seen.get(&digest) {
            Some(true) => return Ok(descriptor.clone()),
            Some(false) => return Err(LoadError::Absent { path: digest.blob_path() }),
            None => {}
        }
        let completed = self.complete_new(descriptor, depth);
        self.seen.insert(digest, completed.is_ok());
        completed
    }

    fn complete_new(&mut self, descriptor: &Descriptor, depth: u8) -> Result<Descriptor, LoadError> {
        (self.fetch)(descriptor)?;
        let index = match self.store.document(descriptor)? {
            Document::Manifest(manifest) => {
                self.complete_manifest(manifest.value())?;
                return Ok(descriptor.clone());
            }
            Document::Index(index) => index,
        };
        let (mut there, mut missing) = (Vec::new(), None);
        for entry in &index.value().manifests {
            match self.complete(entry, depth + 1) {
                Ok(_) => there.push(entry.clone()),
                Err(error) if error.is_absence() => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some(error) = missing else { return Ok(descriptor.clone()) };
        let there = Index::oci(there);
        there.pick(&Platform::host()).or_else(|| there.images().next()).cloned().ok_or(error)
    }

    fn complete_manifest(&self, manifest: &Manifest) -> Result<(), LoadError> {
        (self.fetch)(&manifest.config)?;
        manifest.layers.iter().try_for_each(self.fetch)?;
        // What has no layers of a known kind is no image, and may say what it wants.
        if !manifest.layers.iter().any(|layer| layer.media_type.layer_compression().is_some()) {
            return Ok(());
        }
        let (in_manifest, config) = (manifest.layers.len(), self.store.config(manifest)?);
        let in_config = config.value().rootfs.diff_ids.len();
        match in_manifest != in_config {
            true => Err(LoadError::Layers { in_manifest, in_config }),
            false => Ok(()),
        }
    }
}
