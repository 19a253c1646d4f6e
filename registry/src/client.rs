//! The client: what can be asked of a registry, each question about a screen.
//!
//! Blobs are in [`pull`](crate::pull) and [`push`](crate::push); how a question is sent is in `exchange`.

use oci::{Descriptor, Document, Reference};

use crate::{Error, Options};

/// A document as the registry has it, verified.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The manifest or index.
    pub document: Document,
    /// Its type, digest and size.
    pub descriptor: Descriptor,
}

/// A client for any number of registries, to be shared by threads. Cheap to create and to clone: certificates
/// are read and connections opened by the first request that needs them.
#[derive(Clone)]
pub struct Client {
}

impl Client {
    /// A client that behaves as `options` say.
    pub fn new(options: Options) -> Client {
        let _ = options;
        Client {}
    }

    /// What `reference` stands for at this moment: its type, digest and size. Costs no pull by the Hub's count.
    ///
    /// # Errors
    /// [`Error::is_not_found`], [`Error::is_unauthorized`] and [`Error::is_unreachable`] tell the usual ones.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor, Error> {
        unimplemented!("{reference}")
    }

    /// The manifest or index of `reference`, by its digest if it has one, verified against it.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::Verify`] and [`Error::Document`] when the registry lies.
    pub fn document(&self, reference: &Reference) -> Result<Fetched, Error> {
        unimplemented!("{reference}")
    }
}
