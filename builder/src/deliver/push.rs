//! Into a registry: layers side by side, then the configuration, then the manifest.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::thread;

use layerfs::store::Store;
use oci::{Descriptor, Reference};

use super::{Complete, compress};
use crate::source::join;
use crate::{Error, Event, Events, VertexId};

/// Pushes `image` under `name`; its layers are compressed first. Gives the image as it is in the registry.
///
/// # Errors
/// When a layer cannot be compressed or the registry refuses something.
pub fn push(
    image: &Complete,
    name: &Reference,
    store: &Store,
    client: &registry::Client,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<Complete, Error> {
    let image = compress(image, store)?;
    let fail = |source| Error::Push { reference: name.clone(), source };
    let mount_from: Vec<Reference> = image.base.iter().cloned().collect();
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
        client.push_blob(name, blob, &source, &mount_from, &progress).map(drop).map_err(fail)
    };
    let manifest = image.manifest.value();
    // Equal layers, such as empty ones, are one blob.
    let blobs: BTreeMap<_, _> =
        manifest.layers.iter().chain([&manifest.config]).map(|blob| (blob.digest, blob)).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = blobs.into_values().map(|blob| scope.spawn(move || upload(blob))).collect();
        workers.into_iter().map(join).fold(Ok(()), Result::and)
    })?;
    client.push_manifest(name, &image.descriptor.media_type, image.manifest.bytes()).map_err(fail)?;
    Ok(image)
}

/// A blob can be read again from any place, as often as an upload has to begin anew.
fn open_at(store: &Store, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = store.open_blob(&blob.digest).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}
