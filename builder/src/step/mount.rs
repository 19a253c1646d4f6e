//! `RUN --mount`: what one command finds in its file system beside the image, and what has to live as long as it runs.
//!
//! Order of steps: cache mounts are taken in the order of their names, so that two commands never wait for each other;
//! then every mount is made, and they are put into place from the outside in. Invariants: a command changes nothing but
//! its own layer and its caches; a secret is in memory only.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use layerfs::cache_mount::{CacheMount, Sharing};
use layerfs::confined::{Kind, NewDirectory, Owner, Root};
use layerfs::copy as files;
use layerfs::copy::{Options, Selected, Selection};
use layerfs::snapshot::{Active, SnapshotId, View};
use runner::{FileMount, MountSource};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::Place;
use super::agent::AgentSocket;
use super::source::{Chosen, Source, Stored};
use crate::dockerfile::diagnostic::Span;
use crate::dockerfile::instruction;
use crate::plan::{Access, Mount, MountKind, Run};
use crate::{Backends, Error};

/// What a command is given beside its file system.
#[derive(Default)]
pub struct Surroundings {
    /// Mounts, in order.
    pub mounts: Vec<runner::Mount>,
    /// Files that are in memory only.
    pub files: Vec<FileMount>,
    /// Variables that neither the key nor history know.
    pub env: Vec<(String, OsString)>,
}

/// What must not go before the command has ended; its order is the order in which things are let go.
#[derive(Default)]
pub(crate) struct Held {
    agents: Vec<AgentSocket>,
    views: Vec<View>,
    scratch: Vec<Active>,
    caches: BTreeMap<String, CacheMount>,
    /// What secrets hold, for masking it where it is shown.
    pub(crate) secrets: Vec<Vec<u8>>,
}

/// Makes the mounts of `run`. `chosen` are the files of its inputs, in their order.
pub(crate) fn prepare(
    run: &Run,
    place: Place<'_>,
    chosen: &[Option<Chosen<'_>>],
    backends: &Backends<'_>,
    give_up: &dyn Fn() -> bool,
) -> Result<(Surroundings, Held), Error> {
    let mut maker = Maker { place, backends, surroundings: Surroundings::default(), held: Held::default() };
    // Not every mount has an input.
    let mut chosen = chosen.iter();
    let pair = |mount| (mount, Mount::input(mount).and_then(|_| chosen.next()?.as_ref()));
    let mounts: Vec<(&Mount, Option<&Chosen<'_>>)> = run.mounts.iter().map(pair).collect();
    maker.take_caches(&mounts, give_up)?;
    for (mount, chosen) in mounts {
        maker.mount(mount, chosen)?;
    }
    // As in BuildKit, whatever the order written: what is mounted in another mount comes after it.
    maker.surroundings.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    maker.surroundings.files.sort_by(|a, b| a.target.cmp(&b.target));
    Ok((maker.surroundings, maker.held))
}

struct Maker<'m, 'a> {
    place: Place<'a>,
    backends: &'m Backends<'m>,
    surroundings: Surroundings,
    held: Held,
}

impl Maker<'_, '_> {
    fn take_caches(
        &mut self,
        mounts: &[(&Mount, Option<&Chosen<'_>>)],
        give_up: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let mut wanted = BTreeMap::new();
        for (mount, seed) in mounts {
            if let MountKind::Cache { id, access, .. } = &mount.kind {
                wanted.entry(cache_name(id, *access, *seed)).or_insert((mount, *seed));
            }
        }
        let caches = self.backends.store.cache_mounts();
        for (name, (mount, seed)) in wanted {
            let MountKind::Cache { sharing, access, source, .. } = &mount.kind else { continue };
            let create = |root: &Root| seed_cache(root, *access, source, seed);
            let fail = fail(mount.span, "prepare the cache mount");
            let taken = caches.take(&name, stored(*sharing), &create, give_up).map_err(fail)?;
            self.held.caches.insert(name, taken.ok_or(Error::Cancelled)?);
        }
        Ok(())
    }

    fn mount(&mut self, mount: &Mount, chosen: Option<&Chosen<'_>>) -> Result<(), Error> {
        let span = mount.span;
        match &mount.kind {
            MountKind::Bind { target, writable, .. } => {
                if let Some(Chosen::Files(source, selection, _)) = chosen {
                    let tree =
                        self.bind(source, selection, *writable).map_err(fail(span, "prepare the mount"))?;
                    self.attach(target, MountSource::Bind(tree), !writable);
                }
            }
            MountKind::Cache { target, id, source, read_only, access, .. } => {
                let cache = &self.held.caches[&cache_name(id, *access, chosen)];
                let tree = match source == Path::new("/") {
                    true => cache.try_clone_mount(),
                    false => cache.try_clone_mount_at(source),
                };
                let tree = tree.map_err(fail(span, "prepare the cache mount"))?;
                self.attach(target, MountSource::Bind(tree), *read_only);
            }
            MountKind::Tmpfs { target, size_bytes } => {
                let tmpfs = MountSource::Tmpfs { size_bytes: *size_bytes, mode: 0o1777 };
                self.attach(target, tmpfs, false);
            }
            MountKind::Secret { id, target, env, required, access } => {
                self.secret(span, id, (target.as_deref(), env.as_deref()), *required, *access)?;
            }
            MountKind::Ssh { id, target, required, access } => {
                self.agent(span, id, target, *required, *access)?;
            }
        }
        Ok(())
    }

    fn attach(&mut self, target: &Path, source: MountSource, read_only: bool) {
        let mount = runner::Mount { target: target.to_owned(), source, read_only };
        self.surroundings.mounts.push(mount);
    }

    /// The chosen file or directory as a mount. Of this machine's files the command sees a copy, which goes with it: what
    /// it sees is filtered, root's, and cannot change under it.
    fn bind(
        &mut self,
        source: &Source<'_>,
        selection: &Selection,
        writable: bool,
    ) -> layerfs::Result<OwnedFd> {
        let Some(selected) = selection.sources.first() else {
            // A wildcard without a match shows nothing.
            return self.show(None, (Path::new(""), Kind::Directory), writable);
        };
        let Some(Stored(snapshot)) = &source.snapshot else { return self.show_copy(source, selected) };
        match self.show(*snapshot, (&selected.path, selected.metadata.kind), writable) {
            // Before Linux 6.15 no part of a mount that is in no namespace can be shown.
            Err(layerfs::Error::Mount { .. }) => self.show_copy(source, selected),
            shown => shown,
        }
    }

    fn show(
        &mut self,
        snapshot: Option<SnapshotId>,
        (path, kind): (&Path, Kind),
        writable: bool,
    ) -> layerfs::Result<OwnedFd> {
        let snapshots = self.backends.snapshots;
        match snapshot {
            Some(id) if !writable => {
                let view = snapshots.view(&id)?;
                let tree = part(view.root(), path, kind)?;
                self.held.views.push(view);
                Ok(tree)
            }
            parent => {
                let scratch = snapshots.prepare(parent.as_ref())?;
                let tree = part(scratch.root(), path, kind)?;
                self.held.scratch.push(scratch);
                Ok(tree)
            }
        }
    }

    /// Shows a copy of one file or directory. A file that is not what was digested any more is an error.
    fn show_copy(&mut self, source: &Source<'_>, selected: &Selected) -> layerfs::Result<OwnedFd> {
        let scratch = self.backends.snapshots.prepare(None)?;
        let root = Root::duplicate(scratch.root())?;
        let metadata = &selected.metadata;
        let options = Options { owner: source.owner(), mode: None, unpack: false };
        let selection = Selection { sources: vec![selected.clone()] };
        files::copy(&source.root, &selection, &root, Path::new("/"), &options)?;
        let place = match metadata.kind {
            Kind::Directory => {
                let owner = source.owner().unwrap_or(metadata.owner);
                root.dress(&NewDirectory { mode: metadata.mode, owner, modified: Some(metadata.modified) })?;
                PathBuf::new()
            }
            _ => PathBuf::from(OsString::from_vec(selected.name.clone())),
        };
        let tree = part(open(&scratch)?.as_fd(), &place, metadata.kind)?;
        self.held.scratch.push(scratch);
        Ok(tree)
    }

    fn secret(
        &mut self,
        span: Span,
        id: &str,
        (target, env): (Option<&Path>, Option<&str>),
        required: bool,
        access: Access,
    ) -> Result<(), Error> {
        let value = self.place.request.secrets.read(id);
        let value =
            value.map_err(|source| Error::Secret { span, id: id.to_owned(), source: Some(source) })?;
        let Some(value) = value else {
            return match required {
                true => Err(Error::Secret { span, id: id.to_owned(), source: None }),
                false => Ok(()),
            };
        };
        if let Some(target) = target {
            let file = FileMount::new(target, value.clone()).mode(access.mode).owner(access.uid, access.gid);
            self.surroundings.files.push(file);
        }
        if let Some(env) = env {
            self.surroundings.env.push((env.to_owned(), OsString::from_vec(value.clone())));
        }
        self.held.secrets.push(value);
        Ok(())
    }

    fn agent(
        &mut self,
        span: Span,
        id: &str,
        target: &Path,
        required: bool,
        access: Access,
    ) -> Result<(), Error> {
        let Some(agent) = self.place.request.ssh.get(id) else {
            return match required {
                true => Err(Error::Agent { span, id: id.to_owned(), source: None }),
                false => Ok(()),
            };
        };
        let scratch =
            self.backends.snapshots.prepare(None).map_err(fail(span, "prepare the agent's socket"))?;
        let directory = open(&scratch).map_err(fail(span, "prepare the agent's socket"))?;
        let serve = || {
            let socket = AgentSocket::serve(agent, directory.as_fd(), "agent", access)?;
            let tree = socket.mount()?;
            Ok((socket, tree))
        };
        let (socket, tree) =
            serve().map_err(|source| Error::Agent { span, id: id.to_owned(), source: Some(source) })?;
        if self.held.agents.is_empty() {
            let path = target.as_os_str().to_owned();
            self.surroundings.env.push(("SSH_AUTH_SOCK".to_owned(), path));
        }
        self.attach(target, MountSource::Bind(tree), false);
        self.held.agents.push(socket);
        self.held.scratch.push(scratch);
        Ok(())
    }
}

fn fail(span: Span, act: &'static str) -> impl Fn(layerfs::Error) -> Error {
    move |source| Error::Step { span, act, source }
}

fn stored(sharing: instruction::Sharing) -> Sharing {
    match sharing {
        instruction::Sharing::Shared => Sharing::Shared,
        instruction::Sharing::Private => Sharing::Private,
        instruction::Sharing::Locked => Sharing::Locked,
    }
}

/// What a cache is called in the store. As in BuildKit, caches of one id that begin with other files, or as another
/// user's directory, are apart: else the first one to come would say who may write for all others.
fn cache_name(id: &str, access: Access, seed: Option<&Chosen<'_>>) -> String {
    let mut name = id.to_owned();
    let Access { mode, uid, gid } = access;
    if (mode, uid, gid) != (0o755, 0, 0) {
        name.push_str(&format!(" (mode={mode:04o},uid={uid},gid={gid})"));
    }
    if let Some(Chosen::Files(_, _, digest)) = seed {
        name.push_str(&format!(" (from {digest})"));
    }
    name
}

/// Fills a new cache: its root as the mount says, and the seed at the place that the mount shows.
fn seed_cache(root: &Root, access: Access, source: &Path, seed: Option<&Chosen<'_>>) -> layerfs::Result<()> {
    let owner = Owner { uid: access.uid, gid: access.gid };
    if let Some(Chosen::Files(from, selection, _)) = seed {
        let options = Options { owner: from.owner(), mode: None, unpack: false };
        files::copy(&from.root, selection, root, &source.join(""), &options)?;
    }
    match source == Path::new("/") {
        true => root.dress(&NewDirectory { mode: access.mode, owner, modified: None }),
        // What the mount shows is below, as the seed has it. (BuildKit.)
        false => Ok(()),
    }
}

/// The directory of a snapshot without a parent, where it lies in the store: of this, unlike of its detached mount,
/// parts can be mounted before Linux 6.15.
fn open(scratch: &Active) -> layerfs::Result<OwnedFd> {
    let path = scratch.upper_path();
    Root::open(&path)?.open_dir(Path::new(""))
}

/// A mount of `path` below `root`; the path leads through no links.
fn part(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> layerfs::Result<OwnedFd> {
    let root = Root::duplicate(root)?;
    let place: OwnedFd = match kind {
        Kind::Directory => root.open_dir(path)?,
        _ => root.open_file(path)?.into(),
    };
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(place.as_fd(), "", flags)
        .map_err(|errno| layerfs::Error::Mount { step: "show a part of", source: errno.into() })
}
