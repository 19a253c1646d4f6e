//! Into a registry: layers and configurations side by side, then the manifests, then the index, so that whatever is
//! there under a name is complete.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::thread;

use layerfs::store::Store;
use oci::{Descriptor, Digest, Reference};

use super::{Artifact, Complete, compress};
use crate::source::join;
use crate::{Error, Event, Events, VertexId};

/// Pushes `artifact` under `name`; its layers are compressed first. Gives it as it is in the registry.
///
/// # Errors
/// When a layer cannot be compressed or the registry refuses something.
pub fn push(
    artifact: &Artifact,
    name: &Reference,
    store: &Store,
    client: &registry::Client,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<Artifact, Error> {
    let artifact = compress(artifact, store)?;
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
            blobs(&artifact).into_values().map(|blob| scope.spawn(move || upload(blob))).collect();
        workers.into_iter().map(join).fold(Ok(()), Result::and)
    })?;
    let manifest = |image: &Complete, name: &Reference| {
        let manifest = (&image.descriptor.media_type, image.manifest.bytes());
        client.push_manifest(name, manifest.0, manifest.1).map(drop).map_err(fail)
    };
    match &artifact {
        Artifact::Image(image) => manifest(image, name)?,
        Artifact::Index(index) => {
            let at_digest = |image: &Complete| manifest(image, &name.at(image.descriptor.digest));
            index.images.iter().try_for_each(at_digest)?;
            client.push_manifest(name, &index.descriptor.media_type, index.index.bytes()).map_err(fail)?;
        }
    }
    Ok(artifact)
}

/// Layers and configurations. Equal ones, such as empty layers, are one blob, and images may share them.
fn blobs(artifact: &Artifact) -> BTreeMap<Digest, &Descriptor> {
    let manifests = artifact.images().iter().map(|image| image.manifest.value());
    let blobs = manifests.flat_map(|manifest| manifest.layers.iter().chain([&manifest.config]));
    blobs.map(|blob| (blob.digest, blob)).collect()
}

/// A blob can be read again from any place, as often as an upload has to begin anew.
fn open_at(store: &Store, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = store.open_blob(&blob.digest).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}
