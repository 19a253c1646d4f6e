//! Into an OCI layout: a directory, a file, or a stream.

use std::io::Write;
use std::path::Path;

use layerfs::layout::Target;
use layerfs::store::Store;
use oci::Reference;

use super::{Artifact, compress};
use crate::Error;

/// Where an OCI layout goes.
pub enum Layout<'a> {
    /// A directory.
    Directory(&'a Path),
    /// A tar, as a file.
    Archive(&'a Path),
    /// A tar, as a stream.
    Stream(&'a mut dyn Write),
}

/// Writes `artifact` as an OCI layout under `names`; its layers are compressed first. Gives it as it is there.
///
/// # Errors
/// When a layer cannot be compressed or the destination cannot be written.
pub fn oci(
    artifact: &Artifact,
    names: &[Reference],
    to: Layout<'_>,
    store: &Store,
) -> Result<Artifact, Error> {
    let artifact = compress(artifact, store)?;
    let written = match to {
        Layout::Directory(path) => store.export(artifact.descriptor(), names, Target::Directory(path)),
        Layout::Archive(path) => store.export(artifact.descriptor(), names, Target::Archive(path)),
        Layout::Stream(out) => store.export_to(artifact.descriptor(), names, out),
    };
    written.map_err(|source| Error::Store { act: "write the OCI layout", source })?;
    Ok(artifact)
}
