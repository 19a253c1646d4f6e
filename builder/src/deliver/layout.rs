//! Into an OCI layout: a directory, a file, or a stream.

use std::io::Write;
use std::path::Path;

use layerfs::layout::Target;
use layerfs::store::Store;
use oci::Reference;

use super::{Complete, compress};
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

/// Writes `image` as an OCI layout under `names`; its layers are compressed first. Gives the image as it is there.
///
/// # Errors
/// When a layer cannot be compressed or the destination cannot be written.
pub fn oci(image: &Complete, names: &[Reference], to: Layout<'_>, store: &Store) -> Result<Complete, Error> {
    let image = compress(image, store)?;
    let written = match to {
        Layout::Directory(path) => store.export(&image.descriptor, names, Target::Directory(path)),
        Layout::Archive(path) => store.export(&image.descriptor, names, Target::Archive(path)),
        Layout::Stream(out) => store.export_to(&image.descriptor, names, out),
    };
    written.map_err(|source| Error::Store { act: "write the OCI layout", source })?;
    Ok(image)
}
