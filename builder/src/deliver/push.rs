//! Into a registry: layers and configurations side by side, then the manifests, then the index, so that whatever is
//! there under a name is complete.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::thread;

use layerfs::store::Store;
use oci::{Descriptor, Digest, Manifest, Raw, Reference};

use super::Artifact;
use crate::source::join;
use crate::transfer::{self, Place, TransferError};
use crate::{Error, Event, Events, VertexId};

/// Pushes `artifact` under `name` as it is: see [`super::convert`].
///
/// # Errors
/// When the registry refuses something.
pub fn push(
    artifact: &Artifact,
    name: &Reference,
    store: &Store,
    client: &registry::Client,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<(), Error> {
    let fail = |source| Error::Push { reference: name.clone(), source };
    let mut mount_from: Vec<Reference> =
        artifact.images().iter().filter_map(|image| image.base.clone()).collect();
    mount_from.dedup();
    let upload = |blob: &Descriptor| {
        let done = Mutex::new(0i64);
        let progress = |delta: i64| {
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            *done += delta;
            let done_bytes = u64::try_from(*done).unwrap_or(0);
            events(Event::Transfer {
                vertex,
                label: blob.digest.short(),
                done_bytes,
                total_bytes: blob.size,
            });
        };
        let source = |offset| open_at(store, blob, offset);
        // Perhaps it was refused because it is not what it was.
        client.push_blob(name, blob, &source, &mount_from, &progress).map(drop).map_err(|error| {
            match store.verify(&blob.digest) {
                Err(source @ layerfs::Error::ReadBlob { .. }) => {
                    Error::Store { act: "read the image", source }
                }
                _ => fail(error),
            }
        })
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            blobs(artifact).into_values().map(|blob| scope.spawn(move || upload(blob))).collect();
        workers.into_iter().map(join).fold(Ok(()), Result::and)
    })?;
    let manifest = |descriptor: &Descriptor, manifest: &Raw<Manifest>, name: &Reference| {
        client.push_manifest(name, &descriptor.media_type, manifest.bytes()).map(drop).map_err(fail)
    };
    let at_digest = |(descriptor, document): (&Descriptor, &Raw<Manifest>)| {
        manifest(descriptor, document, &name.at(descriptor.digest))
    };
    let images = artifact.images().iter().map(|image| (&image.descriptor, &image.manifest));
    let mut companions = artifact.companions().map(|one| (&one.descriptor, &one.manifest));
    match artifact {
        Artifact::Image(image) => {
            manifest(&image.descriptor, &image.manifest, name)?;
            // What refers to an image comes after it.
            companions.try_for_each(at_digest)
        }
        Artifact::Index(index) => {
            images.chain(companions).try_for_each(at_digest)?;
            let index = (&index.descriptor.media_type, index.index.bytes());
            client.push_manifest(name, index.0, index.1).map(drop).map_err(fail)
        }
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
