//! What the other modules share: a store to fetch into, and a look at what came.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use builder::remote::{Fetch, FetchError, FetchRequest, Fetcher, FetcherOptions, Form, Remote, Tree, parse};
use layerfs::confined::{Kind, Metadata, Root};
use layerfs::snapshot::Snapshotter;
use layerfs::store::Store;
use layerfs::walk::{self, Visit};
use registry::{Client, Options, Retry};

/// A store that goes away at the end.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) snapshots: std::sync::Arc<dyn Snapshotter>,
    pub(crate) client: Client,
    pub(crate) options: FetcherOptions,
}

impl Place {
    pub(crate) fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let snapshots = store.snapshots();
        let retry = Retry { attempts: 2, sleep: std::sync::Arc::new(drop), ..Retry::default() };
        let client = Client::new(Options { retry, ..Options::default() });
        Place { dir, store, snapshots, client, options: FetcherOptions::default() }
    }

    pub(crate) fn fetch(&self, remote: &Remote) -> Result<Tree, FetchError> {
        self.fetch_with(remote, &[])
    }

    /// Fetches with secrets by name.
    pub(crate) fn fetch_with(&self, remote: &Remote, secrets: &[(&str, &str)]) -> Result<Tree, FetchError> {
        let secret = |name: &str| {
            secrets.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_bytes().to_vec())
        };
        let request = FetchRequest { secret: &secret, give_up: &|| false, progress: &|_, _| {} };
        self.fetch_as(remote, &request)
    }

    pub(crate) fn fetch_as(&self, remote: &Remote, request: &FetchRequest<'_>) -> Result<Tree, FetchError> {
        let fetcher = Fetcher::new(&self.store, &*self.snapshots, &self.client, self.options.clone());
        fetcher.fetch(remote, request)
    }

    /// What is in a tree: paths, and the text of files, the target of links, `/` for directories.
    pub(crate) fn files(&self, tree: &Tree) -> BTreeMap<String, String> {
        let root = self.root(tree);
        let entries = walk::walk(root.as_fd(), &walk::everything).unwrap();
        let show = |entry: walk::Entry| {
            let path = String::from_utf8(entry.path).unwrap();
            let text = match entry.metadata.kind {
                Kind::File => {
                    let bytes = root.read_small(Path::new(&path), 1 << 20).unwrap().unwrap();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
                Kind::Symlink => format!("-> {}", root.read_link(Path::new(&path)).unwrap().display()),
                Kind::Directory => "/".to_owned(),
                kind => kind.name().to_owned(),
            };
            (path, text)
        };
        entries.into_iter().map(show).collect()
    }

    pub(crate) fn metadata(&self, tree: &Tree, path: &str) -> Metadata {
        self.root(tree).symlink_metadata(Path::new(path)).unwrap().unwrap()
    }

    fn root(&self, tree: &Tree) -> Root {
        let root: OwnedFd = self.snapshots.view(&tree.snapshot).unwrap().try_clone_root().unwrap();
        Root::from_fd(root)
    }

    /// Whether any file of the store, by name or by content, has these bytes.
    pub(crate) fn mentions(&self, bytes: &str) -> bool {
        let root = Root::open(self.store.root()).unwrap();
        // What is being deleted vanishes while it is looked at.
        let filter = |path: &[u8], _| if path == b"trash" { Visit::Skip } else { Visit::Take };
        walk::walk(root.as_fd(), &filter).unwrap().iter().any(|entry| {
            let path = self.store.root().join(String::from_utf8_lossy(&entry.path).as_ref());
            let has = |text: &[u8]| text.windows(bytes.len()).any(|window| window == bytes.as_bytes());
            has(&entry.path)
                || (entry.metadata.kind == Kind::File && has(&std::fs::read(path).unwrap_or_default()))
        })
    }

    /// Nothing that is being made is left over.
    pub(crate) fn is_clean(&self) -> bool {
        std::fs::read_dir(self.store.root().join("ingest")).unwrap().next().is_none()
    }
}

pub(crate) fn remote(text: &str, form: Form) -> Remote {
    parse(text, form).unwrap().unwrap_or_else(|| panic!("{text}"))
}

/// Paths and texts as the tests write them.
pub(crate) fn tree(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}
