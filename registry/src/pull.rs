//! Pulling a blob.

use std::io::{self, Read};

use oci::{Descriptor, Reference};

use crate::{Client, Error};

/// A blob's bytes, verified.
pub struct BlobReader {}

impl Read for BlobReader {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        unimplemented!()
    }
}

impl Client {
    /// The blob that `descriptor` points to, from the repository of `reference`.
    ///
    /// # Errors
    /// As [`Client::resolve`](Client::resolve).
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        unimplemented!("{reference} {descriptor:?}")
    }
}
