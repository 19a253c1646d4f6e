//! What is in layers, without unpacking or mounting them.
//!
//! * [`FileIndex`] is one layer: the entries of its tar in their order, each file with the digest of its content.
//!   One pass over the layer makes it and verifies the diff id (`scan`); the store keeps it by diff id (`kept`), in
//!   a form of its own (`format`).
//! * [`FileTree`] is a stack of layers as a container sees it (`tree`), by the rules of unpacking (`apply`).
//! * [`compare()`] tells two trees apart, `mismatch` a tree and files on disk; [`squash()`] writes the difference of two as one layer; [`Store::content`]
//!   reads a file out of its layer.
//!
//! What does not live here: what an image is made of, and how anything of it is shown.
//!
//! Invariants: a tree shows what unpacking the same layers shows, but for the sharing of inodes between layers,
//! which overlayfs ends when it copies a file up; no index is believed unless its own digest fits.

mod apply;
mod compare;
mod content;
mod format;
mod kept;
mod mismatch;
mod scan;
mod squash;
mod tree;

use oci::{DiffId, Digest};

use crate::entry::Entry;

pub use compare::{Aspect, Difference, compare};
pub use scan::scan;
pub use squash::squash;
pub use tree::{FileTree, LayerSums, Node, NodeId};

#[cfg(doc)]
use crate::store::Store;

/// What is in one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileIndex {
    /// Which layer.
    pub diff_id: DiffId,
    /// The size of its tar in bytes.
    pub size_bytes: u64,
    /// The entries of the tar, all of them, in their order: whiteouts and opaque marks too.
    pub records: Vec<Record>,
}

/// One entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The entry.
    pub entry: Entry,
    /// The digest of its content, if it is a regular file.
    pub content: Option<Digest>,
    /// Where its headers begin in the tar, in bytes.
    pub offset: u64,
}
