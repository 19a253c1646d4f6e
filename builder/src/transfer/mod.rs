//! Images from place to place as they are: between registries, layouts and the store.
//!
//! What lives here: which documents and blobs belong together, and in which order they go. [`Place`] is where they come
//! from and go to.
//!
//! Order: what a document names goes before the document, blobs side by side; a name is given last. With referrers,
//! what refers to any of the documents follows, and what refers to that.
//!
//! Invariant: bytes and digests never change; whatever is copied is verified on its way.

mod error;
mod layout;
mod place;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use oci::{Descriptor, Digest, Document, Index, MAX_INDEX_DEPTH, Manifest, Platform};

use crate::source::progress_events;
use crate::{Events, VertexId, workers};

pub use error::TransferError;
pub use place::Place;

/// More than this refers to one image only where somebody means harm.
const MAX_REFERRERS: usize = 10_000;

/// What of an image is copied.
#[derive(Clone, Debug, Default)]
pub struct What {
    /// Only the image for this platform, rather than the index with all of them.
    pub platform: Option<Platform>,
    /// What refers to it, too.
    pub referrers: bool,
}

/// Copies what `from` names to `to`; gives what `to` then names.
///
/// # Errors
/// When something cannot be had or kept, or is not what its digest promises.
pub fn copy(
    from: &Place<'_>,
    to: &Place<'_>,
    what: &What,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<Descriptor, TransferError> {
    let relay = Relay { from, to, vertex, events, copied: Mutex::default() };
    let (mut root, bytes) = from.root()?;
    let mut document = parse(bytes, &root)?;
    if let (Some(platform), Document::Index(index)) = (&what.platform, &document) {
        root = pick(index.value(), platform)?;
        document = parse(from.document(&root)?, &root)?;
    }
    to.prepare()?;
    relay.copied().insert(root.digest);
    relay.whole(&root, &document, true, 0)?;
    if what.referrers {
        relay.referrers()?;
    }
    to.name(&root)?;
    Ok(root)
}

/// Copies what refers to `subjects`, which are documents that both places have, and what refers to that.
///
/// # Errors
/// As [`copy`].
pub fn referrers(
    from: &Place<'_>,
    to: &Place<'_>,
    subjects: BTreeSet<Digest>,
    (vertex, events): (VertexId, Events<'_>),
) -> Result<(), TransferError> {
    Relay { from, to, vertex, events, copied: Mutex::new(subjects) }.referrers()
}

/// A copy in progress.
struct Relay<'a> {
    from: &'a Place<'a>,
    to: &'a Place<'a>,
    vertex: VertexId,
    events: Events<'a>,
    /// The documents that are there, or on their way.
    copied: Mutex<BTreeSet<Digest>>,
}

impl Relay<'_> {
    /// Copies a document after all that it names, unless that was done.
    fn document(&self, descriptor: &Descriptor, depth: u8) -> Result<(), TransferError> {
        if depth > MAX_INDEX_DEPTH {
            return Err(TransferError::Depth { digest: descriptor.digest });
        }
        let is_new = self.copied().insert(descriptor.digest);
        if !is_new {
            return Ok(());
        }
        let document = parse(self.from.document(descriptor)?, descriptor)?;
        self.whole(descriptor, &document, false, depth)
    }

    /// Copies what a document names, and then the document.
    fn whole(
        &self,
        descriptor: &Descriptor,
        document: &Document,
        is_root: bool,
        depth: u8,
    ) -> Result<(), TransferError> {
        match document {
            Document::Manifest(manifest) => self.parts(manifest.value())?,
            Document::Index(index) => {
                for entry in &index.value().manifests {
                    let is_document = entry.media_type.is_index() || entry.media_type.is_manifest();
                    match is_document {
                        true => self.document(entry, depth + 1)?,
                        // What an index lists beside images is bytes. (OCI image-spec, image-index.md.)
                        false => self.blob(entry)?,
                    }
                }
            }
        }
        self.to.put_document(descriptor, document.bytes(), is_root)
    }

    /// Layers and configuration, each once.
    fn parts(&self, manifest: &Manifest) -> Result<(), TransferError> {
        let mut seen = BTreeSet::new();
        let parts = manifest.layers.iter().filter(|layer| !layer.is_elsewhere()).chain([&manifest.config]);
        let parts: Vec<&Descriptor> = parts.filter(|part| seen.insert(part.digest)).collect();
        workers::for_each(parts, |part| self.blob(part))
    }

    fn blob(&self, blob: &Descriptor) -> Result<(), TransferError> {
        self.to.put_blob(blob, self.from, &progress_events(self.vertex, self.events))
    }

    /// What refers to the documents that were copied, and to those that this brings.
    fn referrers(&self) -> Result<(), TransferError> {
        let mut asked = BTreeSet::new();
        loop {
            let next = self.copied().iter().find(|digest| !asked.contains(*digest)).copied();
            let Some(subject) = next else { return Ok(()) };
            asked.insert(subject);
            for entry in self.from.referrers(subject)? {
                if self.copied().len() > MAX_REFERRERS {
                    return Err(TransferError::Depth { digest: subject });
                }
                self.document(&entry, 0)?;
                self.to.add_referrer(subject, &entry)?;
            }
        }
    }

    fn copied(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of an index for `platform`.
fn pick(index: &Index, platform: &Platform) -> Result<Descriptor, TransferError> {
    index.pick(platform).cloned().ok_or_else(|| TransferError::Platform {
        wanted: platform.to_string(),
        offered: index.platforms().map(Platform::to_string).collect(),
    })
}

fn parse(bytes: Vec<u8>, descriptor: &Descriptor) -> Result<Document, TransferError> {
    Document::parse(bytes, &descriptor.media_type).map_err(TransferError::Document)
}
