//! Into a registry: layers and configurations side by side, then the manifests, then the index, so that whatever is
//! there under a name is complete.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom};

use layerfs::store::Store;
use oci::{Descriptor, Digest, Manifest, Raw, Reference};

use super::form::convert_each;
use super::{Artifact, Form};
use crate::source::{progress_events, summed};
use crate::transfer::{self, Place, TransferError};
use crate::{Error, Events, VertexId, workers};

/// Pushes `artifact` under `name` as it is.
///
/// # Errors
/// When the registry refuses something.
pub fn push(
    artifact: &Artifact,
    name: &Reference,
    store: &Store,
    client: &registry::Client,
    line: (VertexId, Events<'_>),
) -> Result<(), Error> {
    send(artifact, name, store, client, line, |_| Ok(artifact.clone())).map(drop)
}

/// Brings `artifact` into `form` and pushes it under `name`; gives what it has become. Layers that have their form are sent while
/// others are still compressed.
///
/// # Errors
/// When a layer cannot be read or written, or the registry refuses something.
pub fn convert_and_push(
    artifact: &Artifact,
    form: &Form,
    name: &Reference,
    store: &Store,
    client: &registry::Client,
    line: (VertexId, Events<'_>),
) -> Result<Artifact, Error> {
    send(artifact, name, store, client, line, |ready| convert_each(artifact, form, store, ready))
}

/// Pushes what `convert` makes of `artifact`, of which it says which blobs are ready before all is.
fn send(
    artifact: &Artifact,
    name: &Reference,
    store: &Store,
    client: &registry::Client,
    line: (VertexId, Events<'_>),
    convert: impl FnOnce(&dyn Fn(&Descriptor)) -> Result<Artifact, Error>,
) -> Result<Artifact, Error> {
    let bases = artifact.images().iter().filter_map(|image| image.base.clone());
    let mut mount_from: Vec<Reference> = bases.collect();
    mount_from.dedup();
    let upload = Upload { name, mount_from, store, client, line };
    let begun = RefCell::new(BTreeSet::new());
    let converted = workers::while_given(
        blobs(artifact).len(),
        |give| {
            let begin = |blob: &Descriptor| {
                if begun.borrow_mut().insert(blob.digest) {
                    give(blob.clone());
                }
            };
            let converted = convert(&begin)?;
            blobs(&converted).into_values().for_each(begin);
            Ok(converted)
        },
        |blob| upload.blob(&blob),
    )?;
    upload.manifests(&converted)?;
    Ok(converted)
}

/// Where an artifact goes.
struct Upload<'a> {
    name: &'a Reference,
    mount_from: Vec<Reference>,
    store: &'a Store,
    client: &'a registry::Client,
    line: (VertexId, Events<'a>),
}

impl Upload<'_> {
    fn blob(&self, blob: &Descriptor) -> Result<(), Error> {
        let (vertex, events) = self.line;
        let told = progress_events(vertex, events);
        let progress = summed(blob, &told);
        let source = |offset| open_at(self.store, blob, offset);
        // Perhaps it was refused because it is not what it was.
        self.client.push_blob(self.name, blob, &source, &self.mount_from, &progress).map(drop).map_err(
            |error| match self.store.verify(&blob.digest) {
                Err(source @ layerfs::Error::ReadBlob { .. }) => {
                    Error::Store { act: "read the image", source }
                }
                _ => self.failed(error),
            },
        )
    }

    /// To be called when all blobs are there.
    fn manifests(&self, artifact: &Artifact) -> Result<(), Error> {
        let put = |name: &Reference, descriptor: &Descriptor, bytes: &[u8]| {
            let pushed = self.client.push_manifest(name, &descriptor.media_type, bytes);
            pushed.map(drop).map_err(|error| self.failed(error))
        };
        let at_digest = |(descriptor, document): (&Descriptor, &Raw<Manifest>)| {
            put(&self.name.at(descriptor.digest), descriptor, document.bytes())
        };
        let images = artifact.images().iter().map(|image| (&image.descriptor, &image.manifest));
        let mut companions = artifact.companions().map(|one| (&one.descriptor, &one.manifest));
        match artifact {
            Artifact::Image(image) => {
                put(self.name, &image.descriptor, image.manifest.bytes())?;
                // What refers to an image comes after it.
                companions.try_for_each(at_digest)
            }
            Artifact::Index(index) => {
                images.chain(companions).try_for_each(at_digest)?;
                put(self.name, &index.descriptor, index.index.bytes())
            }
        }
    }

    fn failed(&self, source: registry::Error) -> Error {
        Error::Push { reference: self.name.clone(), source }
    }
}

/// Pushes what else the store lists as referring to `artifact`, which has been pushed under `name`: signatures, say,
/// that came with it from another registry.
///
/// # Errors
/// When something of it is missing, or the registry refuses it.
pub fn push_referrers(
    artifact: &Artifact,
    name: &Reference,
    store: &Store,
    client: &registry::Client,
    line: (VertexId, Events<'_>),
) -> Result<(), Error> {
    let images = artifact.images().iter().map(|image| image.descriptor.digest);
    let companions = artifact.companions().map(|one| one.descriptor.digest);
    let pushed = images.chain(companions).chain([artifact.descriptor().digest]).collect();
    let (from, to) = (Place::in_store(store, name), Place::Registry { client, reference: name.clone() });
    transfer::referrers(&from, &to, pushed, line).map_err(|error| match error {
        TransferError::Registry(source) => Error::Push { reference: name.clone(), source },
        source => Error::Referrers { reference: name.clone(), source: Box::new(source) },
    })
}

/// Layers, statements and configurations. Equal ones, such as empty layers, are one blob, and images may share them.
fn blobs(artifact: &Artifact) -> BTreeMap<Digest, &Descriptor> {
    let companions = artifact.companions().map(|one| one.manifest.value());
    let manifests = artifact.images().iter().map(|image| image.manifest.value()).chain(companions);
    let blobs = manifests.flat_map(|manifest| manifest.layers.iter().chain([&manifest.config]));
    blobs.map(|blob| (blob.digest, blob)).collect()
}

/// A blob can be read again from any place, as often as an upload has to begin anew.
fn open_at(store: &Store, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = store.open_blob(&blob.digest).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}
