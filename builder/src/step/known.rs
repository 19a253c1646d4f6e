//! What earlier builds found in the files of this machine's directories, opened once a directory and build.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layerfs::checksum::Known;
use layerfs::confined::{Owner, Root};
use layerfs::store::Store;

use crate::request::Context;

/// What is known of the files of every directory that this build reads.
pub(crate) struct KnownFiles<'a> {
    store: &'a Store,
    directories: Mutex<HashMap<PathBuf, Arc<Known>>>,
}

impl<'a> KnownFiles<'a> {
    pub(crate) fn new(store: &'a Store) -> KnownFiles<'a> {
        KnownFiles { store, directories: Mutex::default() }
    }

    /// What is known of the files of `context`, whose directory is open as `root`. A row says which inode it is about,
    /// so it would be as true of another directory under this path.
    pub(crate) fn of(&self, context: &Context, root: &Root, owner: Owner) -> layerfs::Result<Arc<Known>> {
        let mut directories = self.directories();
        if let Some(known) = directories.get(&context.root) {
            return Ok(known.clone());
        }
        let known = Arc::new(self.store.known(root, Some(owner))?);
        directories.insert(context.root.clone(), known.clone());
        Ok(known)
    }

    /// Keeps what this build found for the next one. Whether that works changes no result, so nobody is told.
    pub(crate) fn save(&self) {
        for known in self.directories().values() {
            let _next_build_reads_again = known.save();
        }
    }

    fn directories(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Known>>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
