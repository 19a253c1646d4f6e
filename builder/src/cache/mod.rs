//! Results of earlier builds, by key.
//!
//! [`key`] says what a key is made of; [`local`] keeps records in the store, and [`records`] keeps them in order. A
//! record says which snapshot a key stands for; packing that snapshot as a layer is remembered apart, because it also
//! depends on the epoch.
//!
//! Invariants: a record is written only after its snapshot is committed, in one rename; a record that cannot be read,
//! or whose snapshot is gone, is no record.

pub mod key;
pub mod local;
pub mod records;

use std::any::Any;

use layerfs::layer::pack::PackOptions;
use layerfs::snapshot::SnapshotId;
use oci::{Descriptor, DiffId, Digest};
use serde::{Deserialize, Serialize};

pub use key::{Component, Key, KeyBuilder};
pub use local::LocalCache;
pub(crate) use records::touch;

/// What a key stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Stands for the result in the keys of steps on top of it. The key itself, except where the key was only a short
    /// cut to it, or the step was executed in spite of the cache.
    pub identity: Digest,
    /// The result.
    pub snapshot: SnapshotId,
    /// When it was made: RFC 3339.
    pub created: String,
    /// What the key was made of.
    pub components: Vec<Component>,
}

/// A snapshot as a layer: an uncompressed tar in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The tar in the store.
    pub descriptor: Descriptor,
}

/// Keeps results.
pub trait CacheBackend: Sync {
    /// What `key` stands for, if it still does.
    fn get(&self, key: &Key) -> Option<Record>;

    /// Remembers `record`; an older one is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put(&self, key: &Key, record: &Record) -> layerfs::Result<()>;

    /// The layer of `snapshot`, if it was packed so and is still there.
    fn layer(&self, snapshot: &SnapshotId, options: PackOptions) -> Option<PackedLayer>;

    /// Remembers the layer of `snapshot`.
    ///
    /// # Errors
    /// When it cannot be written.
    fn put_layer(
        &self,
        snapshot: &SnapshotId,
        options: PackOptions,
        layer: &PackedLayer,
    ) -> layerfs::Result<()>;

    /// Waits until nobody else works on `key`, in this process or another, and keeps others waiting until the guard is
    /// dropped. None when `give_up`, asked now and then, says so.
    ///
    /// # Errors
    /// When the lock cannot be had.
    fn lock(&self, key: &Key, give_up: &dyn Fn() -> bool) -> layerfs::Result<Option<Box<dyn Any>>>;
}

/// What a step does, from what its key was made of: for people.
fn describe(components: &[Component]) -> String {
    let value = |name: &str| components.iter().find(|part| part.name == name).map_or("", |part| &part.value);
    let all = |name: &str| {
        let parts = components.iter().filter(|part| part.name == name);
        parts.map(|part| part.value.as_str()).collect::<Vec<_>>().join(" ")
    };
    match value("step") {
        "RUN" => {
            let shell = all("argument");
            let command = shell.strip_prefix("/bin/sh -c ").unwrap_or(&shell);
            format!(
                "RUN {}",
                value("script").lines().next().filter(|line| !line.is_empty()).unwrap_or(command)
            )
        }
        "COPY" => {
            // What comes from the context is known by its content alone.
            let sources = Some(all("source")).filter(|sources| !sources.is_empty());
            format!("COPY {} {}", sources.as_deref().unwrap_or("…"), value("destination"))
        }
        "WORKDIR" => format!("WORKDIR {}", value("path")),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_by_their_parts() {
        let steps: [(&[(&str, &str)], &str); 5] = [
            (
                &[("step", "RUN"), ("argument", "/bin/sh"), ("argument", "-c"), ("argument", "make")],
                "RUN make",
            ),
            (&[("step", "RUN"), ("argument", "/bin/sh"), ("script", "a\nb")], "RUN a"),
            (&[("step", "COPY"), ("destination", "/d"), ("source", "a"), ("source", "b")], "COPY a b /d"),
            (&[("step", "COPY"), ("destination", "/d"), ("content", "sha256:0")], "COPY … /d"),
            (&[("step", "WORKDIR"), ("path", "/w")], "WORKDIR /w"),
        ];
        for (parts, expected) in steps {
            let part =
                |(name, value): &(&str, &str)| Component { name: (*name).into(), value: (*value).into() };
            assert_eq!(describe(&parts.iter().map(part).collect::<Vec<_>>()), expected);
        }
    }
}
