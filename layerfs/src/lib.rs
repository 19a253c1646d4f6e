//! Bytes on disk: blobs, layers, snapshots and the files in them.
//!
//! * [`store`] keeps blobs by digest in a directory that is an OCI image layout; [`layout`] is its list of
//!   images and their export; [`gc`] frees what nothing refers to and nobody's [`lease`] holds.
//!   `trust` says what of all this is surely on the disk, [`usage`] what it takes of it, [`fsck`] whether it is whole.
//! * [`download`] receives blobs from elsewhere, and goes on where a killed process has stopped.
//! * [`snapshot`] makes trees to be changed, by stacking directories or by copying: prepare, change, commit by a rename.
//! * [`cache_mount`] keeps directories that outlive a build.
//! * [`diff`] finds what a snapshot changed, [`layer`] writes it as a tar and applies such tars; [`entry`] and
//!   [`whiteout`] are their vocabulary.
//! * [`file_index`] knows what is in layers, and in stacks of them, without unpacking or mounting any.
//! * [`flat`] takes a whole file system out: a tar, or a directory of this machine.
//! * [`confined`] resolves paths below a directory; [`walk`], [`copy`] and [`checksum`] serve COPY and ADD.
//!
//! What does not live here: what an image means (crate `oci`), where images come from, how a build decides.
//!
//! Invariants: a path from an image or an archive is only ever resolved by the kernel, below a directory
//! descriptor (`openat2`, `RESOLVE_IN_ROOT`); a blob is visible under its digest only when it is complete; no
//! mount is ever attached to a mount namespace but, for old kernels, to one that a single thread has for as long as it
//! takes to detach it again, so that nothing is left over whenever the process dies.

mod arrival;
pub mod cache_mount;
pub mod checksum;
pub mod confined;
pub mod copy;
pub mod diff;
pub mod download;
pub mod entry;
mod error;
pub mod file_index;
pub mod flat;
pub mod fsck;
pub mod gc;
mod hash;
mod ingest;
pub mod layer;
pub mod layout;
pub mod lease;
pub mod lock;
mod memo;
mod mount;
mod record;
mod remove;
mod site;
pub mod snapshot;
pub mod store;
mod sys;
mod trust;
pub mod usage;
pub mod walk;
pub mod whiteout;
mod xattr;

pub use arrival::{Arrival, Reader as ArrivalReader};
pub use error::{Error, IoResultExt, Result};
pub use site::Objection;
