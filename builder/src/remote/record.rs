//! What is remembered of fetches, as small files in the store's `remote` directory.
//!
//! `remote/tree-<identity>` is a [`Tree`]; `remote/http-<key>` says what an address held when it was last asked.
//! A record that cannot be read, or whose snapshot is gone, is as good as none.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use layerfs::IoResultExt;
use layerfs::snapshot::{SnapshotId, Snapshotter};
use layerfs::store::Store;
use oci::{Digest, Hasher, Raw};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{FetchError, Tree};

pub(super) const FOLDER: &str = "remote";

/// What an address held when it was last asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Its `ETag`.
    pub(super) etag: Option<String>,
    /// Its `Last-Modified`, in Unix seconds.
    pub(super) last_modified: Option<i64>,
    /// The digest of the file.
    pub(super) digest: Digest,
    /// The tree that was made of it.
    pub(super) identity: Digest,
}

/// The snapshots that fetched trees are in: a collection must keep them for as long as the records are to be of use.
///
/// # Errors
/// When the directory cannot be listed.
pub fn references(store: &Store) -> layerfs::Result<Vec<SnapshotId>> {
    Ok(trees(store)?.into_iter().map(|(_, tree, _)| tree.snapshot).collect())
}

/// The trees that were fetched, with the files that say so and when these were written.
pub(crate) fn trees(store: &Store) -> layerfs::Result<Vec<(PathBuf, Tree, SystemTime)>> {
    let mut trees = Vec::new();
    for path in store.records(FOLDER)? {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"tree-")) {
            let written = entry_time(&path);
            trees.extend(read::<Tree>(&path).map(|tree| (path, tree, written)));
        }
    }
    Ok(trees)
}

fn entry_time(path: &Path) -> SystemTime {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A digest of fields, each with its length, so that no two lists of fields make one.
pub(super) fn digest_of(fields: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new();
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    hasher.finish()
}

/// The tree of this identity, if it is here.
pub(super) fn tree(store: &Store, snapshots: &dyn Snapshotter, identity: Digest) -> Option<Tree> {
    let tree: Tree = read(&path(store, "tree", identity))?;
    (tree.identity == identity && snapshots.hold(&tree.snapshot).ok()?).then_some(tree)
}

pub(super) fn put_tree(store: &Store, tree: &Tree) -> Result<(), FetchError> {
    write(store, "tree", tree.identity, tree)
}

pub(super) fn answer(store: &Store, key: Digest) -> Option<Answer> {
    read(&path(store, "http", key))
}

pub(super) fn put_answer(store: &Store, key: Digest, answer: &Answer) -> Result<(), FetchError> {
    write(store, "http", key, answer)
}

/// Where the repositories are.
pub(super) const GIT_FOLDER: &str = "remote/git";

/// The folder of repositories, made if it is missing.
pub(super) fn git_folder(store: &Store) -> Result<PathBuf, FetchError> {
    folder(store, GIT_FOLDER)
}

fn folder(store: &Store, name: &str) -> Result<PathBuf, FetchError> {
    let folder = store.root().join(name);
    std::fs::create_dir_all(&folder)
        .at("create", &folder)
        .map_err(FetchError::store("keep what is fetched"))?;
    Ok(folder)
}

fn path(store: &Store, kind: &str, digest: Digest) -> PathBuf {
    store.root().join(FOLDER).join(format!("{kind}-{}", digest.hex()))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write<T: Serialize + Clone>(
    store: &Store,
    kind: &str,
    digest: Digest,
    value: &T,
) -> Result<(), FetchError> {
    folder(store, FOLDER)?;
    store
        .write_record(&path(store, kind, digest), Raw::write(value.clone()).bytes())
        .map_err(FetchError::store("remember what was fetched"))
}
