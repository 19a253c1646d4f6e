//! Where an image is or shall be: a registry, a layout, the store.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};

use layerfs::Arrival;
use layerfs::download::Rest;
use layerfs::store::Store;
use oci::{Algorithm, Descriptor, Digest, Hasher, MAX_DOCUMENT_BYTES, Reference};
use registry::referrers;

use super::{TransferError, layout};
use crate::source::layout::{Layout, LayoutError, LayoutImage, Selector};
use crate::source::{Counted, Progress, summed};

/// An image's place.
#[derive(Debug)]
pub enum Place<'a> {
    /// In a registry.
    Registry {
        /// Who asks it.
        client: &'a registry::Client,
        /// Which.
        reference: Reference,
    },
    /// In a directory that is an OCI image layout.
    Layout(LayoutImage),
    /// In the store.
    Store {
        /// The store.
        store: &'a Store,
        /// The image's name, id or digest.
        name: String,
    },
}

impl<'a> Place<'a> {
    /// What the store has by this name.
    pub fn in_store(store: &'a Store, name: &Reference) -> Place<'a> {
        Place::Store { store, name: name.to_string() }
    }
}

impl Place<'_> {
    /// The document that the place names, and what points to it.
    pub(super) fn root(&self) -> Result<(Descriptor, Vec<u8>), TransferError> {
        let found = match self {
            Place::Registry { client, reference } => {
                let fetched = client.document(reference).map_err(TransferError::Registry)?;
                return Ok((fetched.descriptor, fetched.document.bytes().to_vec()));
            }
            Place::Layout(image) => {
                Layout::at(&image.path).find(&image.selector, &[]).map_err(TransferError::Layout)?
            }
            Place::Store { store, name } => {
                let found = store.find(name).map_err(TransferError::Store)?;
                found.ok_or_else(|| TransferError::Absent { name: name.clone() })?.descriptor
            }
        };
        let descriptor = plain(found);
        let bytes = self.document(&descriptor)?;
        Ok((descriptor, bytes))
    }

    /// The document that the place names, byte for byte.
    ///
    /// # Errors
    /// When there is none, or it is not what its digest promises.
    pub fn read_root(&self) -> Result<Vec<u8>, TransferError> {
        self.root().map(|(_, bytes)| bytes)
    }

    /// A document's bytes, verified.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, TransferError> {
        match self {
            Place::Registry { client, reference } => {
                let fetched = client.document(&reference.at(descriptor.digest));
                Ok(fetched.map_err(TransferError::Registry)?.document.bytes().to_vec())
            }
            Place::Layout(_) => {
                let mut bytes = Vec::new();
                let size = descriptor.size.min(MAX_DOCUMENT_BYTES);
                let reader = self.open(descriptor, 0)?;
                oci::Verifier::new(reader, descriptor.digest, size)
                    .read_to_end(&mut bytes)
                    .map_err(|source| self.unreadable(descriptor, source))?;
                Ok(bytes)
            }
            Place::Store { store, .. } => store.read_document(descriptor).map_err(TransferError::Store),
        }
    }

    /// A blob's bytes from `offset` on.
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, TransferError> {
        let skip = |mut file: File| -> io::Result<Box<dyn Read + Send>> {
            file.seek(SeekFrom::Start(offset))?;
            Ok(Box::new(file))
        };
        match self {
            Place::Registry { client, reference } => {
                let mut reader = client.blob(reference, blob).map_err(TransferError::Registry)?;
                // The registry's bytes are verified from their beginning, so they are read from there.
                io::copy(&mut (&mut reader).take(offset), &mut io::sink())
                    .map_err(|source| self.unreadable(blob, source))?;
                Ok(Box::new(reader))
            }
            Place::Layout(image) => {
                let layout = Layout::at(&image.path);
                let file = layout.open(&layout.blob_path(&blob.digest)).map_err(TransferError::Layout)?;
                skip(file).map_err(|source| self.unreadable(blob, source))
            }
            Place::Store { store, .. } => {
                let file = store.open_blob(&blob.digest).map_err(TransferError::Store)?;
                skip(file).map_err(|source| self.unreadable(blob, source))
            }
        }
    }

    /// A blob's bytes behind those that are known.
    fn rest(&self, blob: &Descriptor, known: &Hasher) -> Result<Rest<Box<dyn Read + Send>>, TransferError> {
        let Place::Registry { client, reference } = self else {
            return self.open(blob, known.bytes()).map(Rest::Behind);
        };
        let reader = client.rest_of_blob(reference, blob, known).map_err(TransferError::Registry)?;
        Ok(if reader.start() == 0 { Rest::Whole(Box::new(reader)) } else { Rest::Behind(Box::new(reader)) })
    }

    fn unreadable(&self, blob: &Descriptor, source: io::Error) -> TransferError {
        match self {
            Place::Layout(image) => {
                let path = Layout::at(&image.path).blob_path(&blob.digest);
                TransferError::Layout(LayoutError::Read { path, source })
            }
            _ => TransferError::Store(layerfs::Error::ReadBlob { digest: blob.digest, source }),
        }
    }

    /// What refers to `subject`.
    pub(super) fn referrers(&self, subject: Digest) -> Result<Vec<Descriptor>, TransferError> {
        match self {
            Place::Registry { client, reference } => {
                client.referrers(reference, subject, None).map_err(TransferError::Registry)
            }
            Place::Layout(image) => {
                let all = Layout::at(&image.path).entries().map_err(TransferError::Layout)?;
                let is_about = |entry: &Descriptor| {
                    let bytes = self.document(entry).unwrap_or_default();
                    referrers::subject(&bytes).ok().flatten().is_some_and(|found| found.digest == subject)
                };
                Ok(all.into_iter().filter(|entry| is_about(entry)).map(plain).collect())
            }
            Place::Store { store, .. } => store.referrers(&subject).map_err(TransferError::Store),
        }
    }

    /// Makes the place ready to be copied to.
    pub(super) fn prepare(&self) -> Result<(), TransferError> {
        match self {
            Place::Layout(image) => layout::prepare(&image.path),
            _ => Ok(()),
        }
    }

    /// Brings a blob here.
    pub(super) fn put_blob(
        &self,
        blob: &Descriptor,
        from: &Place<'_>,
        progress: Progress<'_>,
    ) -> Result<(), TransferError> {
        match self {
            Place::Registry { client, reference } => {
                let source = |offset| from.open(blob, offset).map_err(io::Error::other);
                let near: Vec<Reference> = match from {
                    Place::Registry { reference, .. } => vec![reference.clone()],
                    _ => Vec::new(),
                };
                let pushed = client.push_blob(reference, blob, &source, &near, &summed(blob, progress));
                pushed.map(drop).map_err(TransferError::Registry)
            }
            Place::Layout(image) if layout::has(&image.path, blob) => Ok(()),
            Place::Layout(image) => {
                let source = from.open(blob, 0)?;
                layout::put(&image.path, blob, Counted { source, done_bytes: 0, layer: blob, progress })
            }
            Place::Store { store, .. } => store.receive(blob, &Arrival::default(), |known| {
                let counted = |source, done_bytes| Counted { source, done_bytes, layer: blob, progress };
                Ok(match from.rest(blob, known)? {
                    Rest::Behind(source) => Rest::Behind(counted(source, known.bytes())),
                    Rest::Whole(source) => Rest::Whole(counted(source, 0)),
                })
            }),
        }
    }

    /// Brings a document here; the root goes by the place's name, if it has one.
    pub(super) fn put_document(
        &self,
        descriptor: &Descriptor,
        bytes: &[u8],
        is_root: bool,
    ) -> Result<(), TransferError> {
        match self {
            Place::Registry { client, reference } => {
                let put = |to: &Reference| {
                    let put = client.push_manifest(to, &descriptor.media_type, bytes);
                    put.map(drop).map_err(TransferError::Registry)
                };
                // A tag says nothing of the digest by which others may ask for it.
                if !is_root || descriptor.digest.algorithm() != Algorithm::Sha256 {
                    put(&reference.at(descriptor.digest))?;
                }
                if is_root { put(reference) } else { Ok(()) }
            }
            Place::Layout(image) => layout::put(&image.path, descriptor, bytes),
            Place::Store { store, .. } => {
                let put = store.put_bytes_by(descriptor.digest.algorithm(), bytes);
                put.map(drop).map_err(TransferError::Store)
            }
        }
    }

    /// Lists a document with what refers to `subject`. A registry, or its client, has done so when it was put.
    pub(super) fn add_referrer(&self, subject: Digest, entry: &Descriptor) -> Result<(), TransferError> {
        match self {
            Place::Registry { .. } => Ok(()),
            Place::Layout(image) => layout::list(&image.path, entry, None),
            Place::Store { store, .. } => store.add_referrer(&subject, entry).map_err(TransferError::Store),
        }
    }

    /// Gives the root the place's name.
    pub(super) fn name(&self, root: &Descriptor) -> Result<(), TransferError> {
        match self {
            Place::Registry { .. } => Ok(()),
            Place::Layout(image) => {
                let tag = match &image.selector {
                    Selector::Tag(tag) => Some(tag.as_str()),
                    _ => None,
                };
                layout::list(&image.path, root, tag)
            }
            Place::Store { store, name } => match name.parse::<Reference>() {
                Ok(name) => store.tag(&name, root).map_err(TransferError::Store),
                Err(_) => store.keep(root).map_err(TransferError::Store),
            },
        }
    }
}

/// The entry of a list without the annotations that name it there.
fn plain(descriptor: Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type, descriptor.digest, descriptor.size)
}
