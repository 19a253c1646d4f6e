//! Pushing.

use std::io::{self, Read};

use oci::{Descriptor, Digest, MediaType, Reference};

use crate::{Client, Error};

/// Where a blob's bytes come from, as often as an upload has to begin again.
pub trait BlobSource: Sync {
    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// Whatever opening meets; it ends the push.
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another repository.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl Client {
    /// Brings a blob into the repository of `to`.
    ///
    /// # Errors
    /// As [`Client::resolve`](Client::resolve).
    pub fn push_blob(
        &self,
        to: &Reference,
        descriptor: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[Reference],
        progress: &(dyn Fn(i64) + Sync),
    ) -> Result<Pushed, Error> {
        let _ = (descriptor, source, mount_from, progress);
        unimplemented!("{to}")
    }

    /// Writes a manifest or index under the tag or digest of `to`.
    ///
    /// # Errors
    /// As [`Client::resolve`](Client::resolve).
    pub fn push_manifest(&self, to: &Reference, media_type: &MediaType, bytes: &[u8]) -> Result<Digest, Error> {
        let _ = (media_type, bytes);
        unimplemented!("{to}")
    }
}
