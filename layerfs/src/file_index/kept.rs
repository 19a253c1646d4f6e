//! Indexes in the store: made when they are first asked for, then kept by diff id.
//!
//! ```text
//! files/<diff id>-<version>   see `format`; made anew when it is missing, damaged or another layer's
//! ```

use std::path::PathBuf;

use oci::{Algorithm, Descriptor, DiffId, Digest};
use rayon::prelude::*;

use super::{FileIndex, FileTree, format, scan};
use crate::store::Store;
use crate::{Error, IoResultExt, Result};

impl Store {
    /// What is in the layer `diff_id`, which `layer` points to; read from the layer unless it is known.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] if neither the index nor the layer is in the store; those of [`scan()`].
    pub fn file_index(&self, layer: &Descriptor, diff_id: DiffId) -> Result<FileIndex> {
        let path = self.index_file(&diff_id.0);
        let known = std::fs::read(&path).ok().and_then(|bytes| format::decode(&bytes));
        if let Some(index) = known.filter(|index| index.diff_id == diff_id) {
            return Ok(index);
        }
        // The tar itself need not be decompressed.
        let source = self.stored_tar(diff_id)?;
        let index = scan(self.verified(source.as_ref().unwrap_or(layer))?, diff_id)?;
        // The form has room for digests of the usual length alone.
        if diff_id.0.algorithm() != Algorithm::Sha256 {
            return Ok(index);
        }
        let bytes = format::encode(&index).map_err(|source| Error::WriteLayer { source })?;
        // Where it cannot be kept, on a read-only file system, it is made again.
        let _kept = std::fs::create_dir_all(self.index_dir())
            .is_ok_and(|()| self.ingest().replace_file(&path, &bytes).is_ok());
        Ok(index)
    }

    /// The indexes of `layers`, bottom first.
    ///
    /// # Errors
    /// As [`Store::file_index`].
    pub fn file_indexes(&self, layers: &[(Descriptor, DiffId)]) -> Result<Vec<FileIndex>> {
        layers.par_iter().map(|(layer, diff_id)| self.file_index(layer, *diff_id)).collect()
    }

    /// What a container of `layers`, bottom first, would see.
    ///
    /// # Errors
    /// As [`Store::file_index`]; [`Error::Archive`] for layers that cannot be put on each other.
    pub fn file_tree(&self, layers: &[(Descriptor, DiffId)]) -> Result<FileTree> {
        FileTree::of(&self.file_indexes(layers)?)
    }

    /// Deletes the indexes of layers that need not stay, and what is no index of this version.
    pub(crate) fn sweep_file_indexes(&self, stays: impl Fn(&Digest) -> bool) -> Result<()> {
        let dir = self.index_dir();
        let entries = match std::fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.at("read", &dir)?,
        };
        for entry in entries {
            let path = entry.at("read", &dir)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let version = format!("-{}", format::VERSION);
            let digest = name.strip_suffix(&version).and_then(Digest::from_hex);
            if digest.is_none_or(|digest| !stays(&digest)) {
                std::fs::remove_file(&path).at("delete", path)?;
            }
        }
        Ok(())
    }

    fn index_dir(&self) -> PathBuf {
        self.root().join("files")
    }

    fn index_file(&self, diff_id: &Digest) -> PathBuf {
        self.index_dir().join(format!("{}-{}", diff_id.hex(), format::VERSION))
    }
}
