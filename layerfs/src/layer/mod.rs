//! Layers: tar archives of changes, written and applied.

pub mod codec;
pub mod estargz;
pub mod pack;
pub mod tar;
pub mod unpack;
