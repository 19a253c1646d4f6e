//! What the builder keeps in folders of its own: small files that are written whole, listed, and deleted by many.
//!
//! No lock guards them. So a folder may be missing yet, and what was listed may be gone when it is deleted.

use std::path::{Path, PathBuf};

use crate::ingest::open_dir;
use crate::store::Store;
use crate::{IoResultExt, Result, remove};

impl Store {
    /// Replaces the file `path`, relative to the store, in one step: a reader sees the old bytes or the new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_record(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.ingest().replace_file(&self.root().join(path), bytes)
    }

    /// The paths of what is in `folder`, which is relative to the store; none if it is missing.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn records(&self, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        list(&self.root().join(folder))
    }

    /// Deletes a file, or a directory with all that is in it; says how many bytes of disk that frees. Somebody else may
    /// have done it, or be at it.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete(&self, path: &Path) -> Result<u64> {
        let path = self.root().join(path);
        let folder = path.parent().unwrap_or(self.root());
        let folder = match open_dir(folder) {
            Err(rustix::io::Errno::NOENT) => return Ok(0),
            folder => folder.at("open", &path)?,
        };
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        remove::remove_tree(&folder, name).at("delete", &path)
    }
}

/// The paths of what is in `folder`; none if it is missing.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", folder)?,
    };
    entries.map(|entry| Ok(entry.at("list", folder)?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_neither_listed_nor_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(store.records("remote").unwrap().is_empty());
        assert_eq!(store.delete("remote/a".as_ref()).unwrap(), 0);
        store.write_record("cache/a".as_ref(), b"a").unwrap();
        std::fs::create_dir_all(store.root().join("cache/b/c")).unwrap();
        let mut found = store.records("cache").unwrap();
        found.sort();
        assert_eq!(found, ["a", "b"].map(|name| store.root().join("cache").join(name)));
        for path in &found {
            store.delete(path).unwrap();
            assert_eq!(store.delete(path).unwrap(), 0);
        }
        assert!(store.records("cache").unwrap().is_empty());
    }
}
