//! Into an OCI layout: a directory, a file, or a stream; with or without what Docker reads.

use layerfs::layout::{Referrers, Target};
use layerfs::store::Store;
use oci::Reference;

use super::{Artifact, docker};
use crate::Error;

/// Whom a layout is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Tools of the OCI.
    Oci,
    /// `docker load` as well, which reads a list of its own.
    Docker,
}

/// Writes images, each under its names, as one OCI layout, with what was attested of them here and, if asked for, what else
/// refers to them. They are written as they are: see [`super::convert`].
///
/// # Errors
/// When a blob is missing or damaged, or the destination cannot be written.
pub fn layout(
    images: &[(Artifact, Vec<Reference>)],
    readers: Readers,
    referrers: Referrers,
    to: Target<'_>,
    store: &Store,
) -> Result<(), Error> {
    let fail = |source| Error::Store { act: "write the OCI layout", source };
    let named = images.iter().map(|(artifact, names)| (artifact.descriptor().clone(), names.clone()));
    let all = images.iter().flat_map(|(artifact, _)| artifact.images());
    let own = all.flat_map(|image| &image.referrers).map(|one| (one.listed(), Vec::new()));
    let entries: Vec<_> = named.chain(own).collect();
    let mut parts = store.layout_parts(&entries, referrers).map_err(fail)?;
    if readers == Readers::Docker {
        parts.push(docker::list(images));
        parts.sort_by(|one, other| one.path.cmp(&other.path));
    }
    store.write_parts(&parts, to).map_err(fail)
}
