//! Layers: tar archives of changes, written and applied.

pub mod codec;
pub mod deflate;
pub mod estargz;
pub(crate) mod expand;
pub mod pack;
pub mod tar;
pub mod unpack;
