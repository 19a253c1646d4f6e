//! Diff ids and chain ids. (OCI image-spec, config.md, "Layer DiffID" and "Layer ChainID".)

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The digest of a layer's uncompressed tar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// Names a stack of layers: what a file system holds once all of them are applied in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain of one layer.
    pub fn bottom(layer: DiffId) -> ChainId {
        ChainId(layer.0)
    }

    /// This chain with `layer` on top.
    pub fn with(self, layer: DiffId) -> ChainId {
        ChainId(Digest::of(format!("{} {}", self.0, layer.0).as_bytes()))
    }

    /// The chain of all `layers`, bottom first; none for no layers.
    pub fn of(layers: &[DiffId]) -> Option<ChainId> {
        ChainId::each(layers).last()
    }

    /// The chain of each layer with all below it, bottom first.
    pub fn each(layers: &[DiffId]) -> impl Iterator<Item = ChainId> {
        layers.iter().scan(None, |below: &mut Option<ChainId>, layer| {
            *below = Some(below.map_or_else(|| ChainId::bottom(*layer), |chain| chain.with(*layer)));
            *below
        })
    }
}

macro_rules! prints_as_digest {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}
prints_as_digest!(DiffId);
prints_as_digest!(ChainId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_as_the_specification_says() {
        let [a, b] = [b"a", b"b"].map(|text| DiffId(Digest::of(text)));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a.0)));
        let expected = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]), Some(ChainId(expected)));
        assert_ne!(ChainId::of(&[a, b]), ChainId::of(&[b, a]));
        let each: Vec<ChainId> = ChainId::each(&[a, b, a]).collect();
        assert_eq!(each, [&[a][..], &[a, b], &[a, b, a]].map(|layers| ChainId::of(layers).unwrap()));
    }
}
