//! What a registry is made of, for whoever keeps it: repositories of blobs, manifests and tags.
//!
//! The server checks what clients send before it asks a storage for anything: names, tags, digests, sizes, media types
//! and that a manifest's parts are there. An [`io::Error`] of a storage becomes a status with its text: 507 where a disk
//! or a quota is full, 413 for [`io::ErrorKind::FileTooLarge`], and 500 for whatever else.

use std::io::{self, Write};

use oci::{Descriptor, Digest, MediaType};

pub use super::http::Content;

/// A repository of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The host, with its port, that the client believes to speak with; clients send what they like.
    pub host: String,
    /// Its path, such as `me/app`; a good one.
    pub name: String,
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A tag; a good one.
    Tag(String),
    /// A digest.
    Digest(Digest),
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// What it is served as.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is called by; verified.
    pub digest: Digest,
}

/// An upload in progress. What was written stays until it is committed; dropped, it leaves nothing.
pub trait Upload: Write + Send {
    /// How many bytes there are.
    fn bytes(&self) -> u64;

    /// Makes the bytes a blob of `repository`; false, and no blob, where they have another digest.
    ///
    /// # Errors
    /// When the storage fails.
    fn commit(self: Box<Self>, repository: &Repository, digest: &Digest) -> io::Result<bool>;
}

/// Where a registry's content is.
pub trait Storage: Send + Sync {
    /// Why `host` is nobody's name for this registry, if so. A web page can make a browser speak with a server of its
    /// user's machine under another name, but not under the server's own.
    fn objection(&self, host: &str) -> Option<String> {
        let _ = host;
        None
    }

    /// A blob.
    ///
    /// # Errors
    /// When the storage fails; so with all of these.
    fn blob(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Content>>;

    /// Makes a blob of the repository `from`, or of any if there is none, one of `to`; false where it is not there.
    ///
    /// # Errors
    /// When the storage fails.
    fn mount(&self, from: Option<&str>, to: &Repository, digest: &Digest) -> io::Result<bool>;

    /// Takes a blob out of the repository; says whether it was there.
    ///
    /// # Errors
    /// When the storage fails.
    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> io::Result<bool>;

    /// Begins an upload.
    ///
    /// # Errors
    /// When the storage fails.
    fn begin(&self, repository: &Repository) -> io::Result<Box<dyn Upload>>;

    /// A manifest or index.
    ///
    /// # Errors
    /// When the storage fails.
    fn manifest(&self, repository: &Repository, target: &Target) -> io::Result<Option<StoredManifest>>;

    /// Puts a manifest, found from now on by its digest and, if `tag` is one, by that.
    ///
    /// # Errors
    /// When the storage fails.
    fn put_manifest(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        manifest: &StoredManifest,
    ) -> io::Result<()>;

    /// Takes a tag away, or a manifest with all its tags; says whether it was there.
    ///
    /// # Errors
    /// When the storage fails.
    fn remove_manifest(&self, repository: &Repository, target: &Target) -> io::Result<bool>;

    /// All tags, in any order; `None` where there is no such repository.
    ///
    /// # Errors
    /// When the storage fails.
    fn tags(&self, repository: &Repository) -> io::Result<Option<Vec<String>>>;

    /// All repositories that `host` is asked for, in any order.
    ///
    /// # Errors
    /// When the storage fails.
    fn repositories(&self, host: &str) -> io::Result<Vec<String>>;

    /// Lists `referrer`, a manifest of the repository that was just put, with those of `subject`.
    ///
    /// # Errors
    /// When the storage fails.
    fn add_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        referrer: &Descriptor,
    ) -> io::Result<()>;

    /// What refers to `subject`, with its artifact type and annotations.
    ///
    /// # Errors
    /// When the storage fails.
    fn referrers(&self, repository: &Repository, subject: &Digest) -> io::Result<Vec<Descriptor>>;
}
