//! The vocabulary: what an image *is*.
//!
//! Nouns of the OCI image and distribution specifications, with Docker's additions that images in the wild
//! carry. Pure values: nothing here touches a disk or a network, apart from hashing bytes that a caller
//! streams through [`digest::Hasher`] or [`digest::Verifier`].
//!
//! Invariants: a [`Digest`] is always a well-formed sha256 or sha512; what is parsed and written again keeps every
//! field that this crate does not know; maps are ordered, so that equal values give equal bytes.
#![forbid(unsafe_code)]

pub mod config;
pub mod descriptor;
pub mod digest;
mod error;
pub mod id;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod raw;
pub mod reference;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher, Verifier};
pub use error::Error;
pub use id::{ChainId, DiffId};
pub use manifest::{Document, Index, Manifest};
pub use media_type::{Compression, MediaType};
pub use platform::Platform;
pub use raw::Raw;
pub use reference::Reference;

/// Largest manifest, index or image configuration that is accepted, in bytes: the limit that the
/// distribution specification asks registries for at least, and which other clients enforce.
pub const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;

/// How many indexes there may be above a document. One within another is legal; deeper ones are nobody's.
pub const MAX_INDEX_DEPTH: u8 = 4;
