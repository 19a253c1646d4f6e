//! Snapshots on overlayfs, by the mount calls of Linux 5.2 and the `lowerdir+` option of 6.8, or by what else can mount
//! the same directories: mount(2) before 6.8 (`classic`), a program where the kernel cannot (`fuse`).
//!
//! ```text
//! snapshots/<id>/fs/         what the snapshot changed: overlayfs's upper directory
//! snapshots/<id>/meta.json   its ancestors, nearest first; written before the rename that commits
//! snapshots/<alias>          a link to the snapshot that it stands for
//! ingest/<random>/{fs,work}  the same while it is active, locked
//! trash/<random>             the `work` of a committed one, being deleted
//! ```
//!
//! Options that would make the upper directory mean more than it shows are all off (`metacopy`, `redirect_dir`,
//! `index`, `xino`), because a layer is made from the upper directory alone. Layers are passed as
//! `/proc/self/fd/…`: such a name is short (the calls take 255 bytes) and says nothing about the host to a
//! container that reads its mount table.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Gid, Mode, RenameFlags, Uid, fchmod, fchown, fstat, futimens};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag};
use rustix::mount::{fsconfig_set_string, fsmount, fsopen};
use serde::{Deserialize, Serialize};

use super::{Active, Changes, Layout, PrepareApart, SnapshotId, Snapshotter, View, classic, fuse, open_at};
use crate::entry::Time;
use crate::ingest::{Ingest, NewDir, open_dir};
use crate::lease::{Held, Lease};
use crate::mount::bind;
use crate::{Error, IoResultExt, Result, lock, remove, xattr};

/// The snapshots of a store. A clone works on the same snapshots.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    root: PathBuf,
    /// Where they are, and what is in them.
    layout: Layout,
    mounts: Mounts,
    /// Collectors leave alone what is worked on.
    pub(super) lease: Arc<Lease>,
}

/// What mounts layers.
#[derive(Clone, Debug)]
pub(crate) enum Mounts {
    /// The kernel; see [`mount_overlay`].
    Kernel,
    /// The kernel by mount(2) alone.
    Classic,
    /// This program; none if it was asked for and is not there.
    Fuse(Option<PathBuf>),
}

/// The directories of an overlay that can be changed.
#[derive(Clone, Copy)]
pub(super) struct Writable<'a> {
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
}

/// See the head of this file.
pub(super) const OPTIONS: [(&str, &str); 4] =
    [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"), ("xino", "off")];

/// How many lower layers the kernel takes (`OVL_MAX_STACK`).
const MAX_LAYERS: usize = 500;

/// What is in the directory of a snapshot that is mounted to be written to, and of one that is written to directly.
const MOUNTED: [&str; 2] = ["fs", "work"];
pub(super) const PLAIN: [&str; 1] = ["fs"];

/// What `meta.json` says.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The parent first. No snapshot twice, nor an alias: overlayfs refuses a layer that it has already.
    pub(super) ancestors: Vec<SnapshotId>,
    /// The snapshot whose changes this one stands for, if it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restacks: Option<SnapshotId>,
}

impl Overlay {
    pub(super) fn new(root: &Path, mounts: Mounts, lease: Arc<Lease>) -> Overlay {
        Overlay { root: root.to_owned(), layout: Layout::Layers, mounts, lease }
    }

    /// The names of the snapshots of this layout, whoever shows what is in them.
    pub(super) fn names(root: &Path, layout: Layout, lease: Arc<Lease>) -> Overlay {
        Overlay { root: root.to_owned(), layout, mounts: Mounts::Kernel, lease }
    }

    /// Whether this kernel and this process can mount what snapshots need; the error says what is missing.
    pub(super) fn probe(&self) -> Result<()> {
        let active = self.mount(&self.new_dir(&MOUNTED)?, &[self.root.join("ingest")])?;
        drop(active);
        Ok(())
    }

    pub(super) fn dir(&self, id: &SnapshotId) -> PathBuf {
        self.root.join(self.layout.folder()).join(id.to_string())
    }

    /// A directory with these in it.
    pub(super) fn new_dir(&self, parts: &[&str]) -> Result<NewDir> {
        let dir = Ingest::new(&self.root).new_dir()?;
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o755);
        for name in parts {
            let path = dir.path.join(name);
            builder.create(&path).at("create", &path)?;
        }
        // The root of a container is 0755 whatever this process's umask is.
        let root = dir.path.join("fs");
        rustix::fs::chmod(&root, 0o755.into()).at("set the mode of", &root)?;
        Ok(dir)
    }

    /// The root of a merged view is that of its top layer, so a new one begins as its parent's.
    pub(super) fn copy_root(&self, parent: &SnapshotId, dir: &NewDir) -> Result<()> {
        let (from, to) = (self.dir(parent).join("fs"), dir.path.join("fs"));
        let source = open_at(&from)?;
        let target = open_at(&to)?;
        let copy = || {
            let stat = fstat(&source)?;
            fchown(&target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
            xattr::set(&target, &xattr::read(&source, true)?)?;
            fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            futimens(&target, &Time::of(&stat).timestamps())
        };
        copy().at("copy the attributes of the root to", &to)
    }

    /// Holds the id; gives it and its ancestors: the layers of its view, top first.
    pub(super) fn stack(&self, id: &SnapshotId) -> Result<Vec<SnapshotId>> {
        self.lease.hold(Held::Snapshot(*id))?;
        let mut stack = vec![self.resolve(id)];
        stack.extend(self.ancestors(id)?);
        Ok(stack)
    }

    /// Makes a finished directory visible as `id`.
    pub(super) fn publish(&self, dir: NewDir, meta: &Meta, id: &SnapshotId) -> Result<()> {
        self.lease.hold(Held::Snapshot(*id))?;
        let work = dir.path.join("work");
        if work.exists() {
            self.discard(&work)?;
        }
        let path = dir.path.join("meta.json");
        let bytes = serde_json::to_vec(meta).expect("a list of names is JSON");
        std::fs::write(&path, bytes).at("write", &path)?;
        let target = self.dir(id);
        loop {
            match rustix::fs::renameat_with(CWD, &dir.path, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                // The drop of `dir` deletes ours: the first one by a name stays.
                Err(Errno::EXIST) if self.contains(id) => return Ok(()),
                Err(Errno::EXIST) => self.make_way(id)?,
                Err(errno) => return Err(errno).at("create", target),
            }
        }
    }

    pub(super) fn meta(&self, id: &SnapshotId) -> Result<Meta> {
        let path = self.dir(id).join("meta.json");
        let missing = || Error::MissingSnapshot { id: id.to_string() };
        let bytes = std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => Error::File { act: "read", path, source },
        })?;
        // A power cut can leave a file without its bytes, and then the snapshot may be without its own.
        serde_json::from_slice(&bytes).map_err(|_| missing())
    }

    /// How `layer` comes to stand on `parent` as `id`: the snapshot whose root it shows, and what it says of itself; none
    /// if something has that name already.
    pub(super) fn restacking(
        &self,
        parent: Option<&SnapshotId>,
        layer: &SnapshotId,
        id: &SnapshotId,
    ) -> Result<Option<(SnapshotId, Meta)>> {
        self.lease.hold(Held::Snapshot(*layer))?;
        let layer = self.resolve(layer);
        if !self.ancestors(&layer)?.is_empty() {
            return Err(Error::NotABottom { id: layer.to_string() });
        }
        let below = parent.map(|id| self.stack(id)).transpose()?.unwrap_or_default();
        if self.hold(id)? {
            return Ok(None);
        }
        let base = *below.first().unwrap_or(&layer);
        // Where the layer is among the ancestors already it shows nothing that it does not show on top.
        let below = below.into_iter().filter(|ancestor| *ancestor != layer);
        let ancestors = std::iter::once(layer).chain(below).collect();
        Ok(Some((base, Meta { ancestors, restacks: Some(layer) })))
    }

    /// Holds the id; gives the snapshot whose changes it stands for, and the ancestors of that.
    pub(super) fn changed(&self, id: &SnapshotId) -> Result<(SnapshotId, Vec<SnapshotId>)> {
        self.lease.hold(Held::Snapshot(*id))?;
        match self.meta(id)? {
            Meta { restacks: Some(layer), .. } => self.changed(&layer),
            Meta { ancestors, restacks: None } => Ok((*id, ancestors)),
        }
    }

    /// Takes a directory out of sight, and deletes it while the caller goes on; what is not deleted when the process
    /// ends is cleared by the next open.
    fn discard(&self, dir: &Path) -> Result<()> {
        let trash = open_at(&self.root.join("trash"))?;
        let name = crate::ingest::random_name();
        rustix::fs::renameat(CWD, dir, &trash, &name).at("delete", dir)?;
        rayon::spawn(move || {
            let _still_there = remove::remove_tree(&trash, name.as_bytes());
        });
        Ok(())
    }

    /// Discards what stands under a name and is no snapshot: an alias of nothing, or what a power cut damaged.
    fn make_way(&self, id: &SnapshotId) -> Result<()> {
        let path = self.root.join(self.layout.folder());
        let dir = open_at(&path)?;
        // Another process may do the same, and what it has put here since is to stay.
        lock::wait_exclusive(&dir).at("lock", &path)?;
        if self.contains(id) { Ok(()) } else { self.remove(id).map(drop) }
    }

    fn layers(&self, stack: &[SnapshotId]) -> Vec<PathBuf> {
        stack.iter().map(|id| self.dir(id).join("fs")).collect()
    }

    /// Mounts `dir` over `lowers`, top first.
    fn mount(&self, dir: &NewDir, lowers: &[PathBuf]) -> Result<OwnedFd> {
        let upper = dir.path.join("fs");
        if lowers.is_empty() {
            return bind(open_at(&upper)?, libc::MOUNT_ATTR_NODEV);
        }
        self.mount_layers(lowers, Some(Writable { upper: &upper, work: &dir.path.join("work") }))
    }

    fn mount_layers(&self, lowers: &[PathBuf], upper: Option<Writable<'_>>) -> Result<OwnedFd> {
        match &self.mounts {
            Mounts::Fuse(program) => fuse::mount_overlay(program.as_deref(), &self.root, lowers, upper),
            _ if lowers.len() > MAX_LAYERS => {
                Err(Error::TooManyLayers { count: lowers.len(), limit: MAX_LAYERS })
            }
            Mounts::Kernel => mount_overlay(lowers, upper),
            Mounts::Classic => classic::mount_overlay(lowers, upper),
        }
    }

    fn view_of(&self, stack: &[SnapshotId]) -> Result<View> {
        let layers = self.layers(stack);
        let root = match layers.as_slice() {
            // A stack of one layer is refused without an upper directory.
            [only] => bind(open_at(only)?, libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY)?,
            layers => self.mount_layers(layers, None)?,
        };
        Ok(View { root, _lease: Arc::clone(&self.lease) })
    }
}

impl PrepareApart for Overlay {
    fn prepare_apart(&self) -> Result<Active> {
        self.prepare(None)
    }

    fn commit_onto(&self, parent: Option<&SnapshotId>, active: Active, id: &SnapshotId) -> Result<()> {
        let ancestors = parent.map(|id| self.stack(id)).transpose()?.unwrap_or_default();
        self.commit(Active { ancestors, ..active }, id)
    }
}

impl Snapshotter for Overlay {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn prepare(&self, parent: Option<&SnapshotId>) -> Result<Active> {
        let ancestors = parent.map(|id| self.stack(id)).transpose()?.unwrap_or_default();
        let dir = self.new_dir(if ancestors.is_empty() { &PLAIN } else { &MOUNTED })?;
        if let Some(parent) = parent {
            self.copy_root(parent, &dir)?;
        }
        let root = self.mount(&dir, &self.layers(&ancestors))?;
        let upper = match &self.mounts {
            // It brings up what it was not asked to, such as the other names of a file that is deleted.
            Mounts::Fuse(_) => None,
            Mounts::Kernel | Mounts::Classic => Some(open_at(&dir.path.join("fs"))?),
        };
        Ok(Active { root, upper, dir, ancestors, lease: Arc::clone(&self.lease) })
    }

    fn prepare_beside(&self, parent: &SnapshotId) -> Result<Active> {
        let ancestors = self.stack(parent)?;
        let dir = self.new_dir(&PLAIN)?;
        self.copy_root(parent, &dir)?;
        let root = self.mount(&dir, &[])?;
        let upper = Some(open_at(&dir.path.join("fs"))?);
        Ok(Active { root, upper, dir, ancestors, lease: Arc::clone(&self.lease) })
    }

    fn apart(&self) -> Option<&dyn PrepareApart> {
        Some(self)
    }

    fn commit(&self, active: Active, id: &SnapshotId) -> Result<()> {
        let Active { root, upper, dir, ancestors, lease: _lease } = active;
        drop(root);
        drop(upper);
        if matches!(self.mounts, Mounts::Fuse(_)) && dir.path.join("work").exists() {
            fuse::tidy(&dir.path.join("fs"))?;
        }
        self.publish(dir, &Meta { ancestors, restacks: None }, id)
    }

    fn restack(&self, parent: Option<&SnapshotId>, layer: &SnapshotId, id: &SnapshotId) -> Result<()> {
        let Some((base, meta)) = self.restacking(parent, layer, id)? else { return Ok(()) };
        let dir = self.new_dir(&PLAIN)?;
        self.copy_root(&base, &dir)?;
        self.publish(dir, &meta, id)
    }

    fn alias(&self, id: &SnapshotId, name: &SnapshotId) -> Result<()> {
        self.lease.hold(Held::Snapshot(*id))?;
        if self.hold(name)? {
            return Ok(());
        }
        self.make_way(name)?;
        Ingest::new(&self.root).replace_link(&self.dir(name), &id.to_string())
    }

    fn resolve(&self, name: &SnapshotId) -> SnapshotId {
        let target = std::fs::read_link(self.dir(name)).ok();
        target.and_then(|target| target.to_str()?.parse().ok()).unwrap_or(*name)
    }

    fn hold(&self, id: &SnapshotId) -> Result<bool> {
        self.lease.hold(Held::Snapshot(*id))?;
        Ok(self.contains(id))
    }

    fn contains(&self, id: &SnapshotId) -> bool {
        // The list grows with the number of steps, and this is asked at each of them: its end says that it was written.
        let ends_well = || -> std::io::Result<bool> {
            let file = std::fs::File::open(self.dir(id).join("meta.json"))?;
            let mut last = [0];
            file.read_exact_at(&mut last, file.metadata()?.len().saturating_sub(1))?;
            Ok(last == *b"}")
        };
        ends_well().unwrap_or(false)
    }

    fn ancestors(&self, id: &SnapshotId) -> Result<Vec<SnapshotId>> {
        self.meta(id).map(|meta| meta.ancestors)
    }

    fn view(&self, id: &SnapshotId) -> Result<View> {
        self.view_of(&self.stack(id)?)
    }

    fn changes(&self, id: &SnapshotId) -> Result<Changes> {
        let (id, ancestors) = self.changed(id)?;
        let fs = self.dir(&id).join("fs");
        let upper = open_at(&fs)?;
        // Where nothing was touched there is nothing to compare with, and a mount is dear beside that.
        let is_untouched = remove::names(&upper).at("list", &fs)?.is_empty();
        let lower = if ancestors.is_empty() || is_untouched { None } else { Some(self.view_of(&ancestors)?) };
        Ok(Changes { upper, lower, layout: self.layout })
    }

    fn remove(&self, id: &SnapshotId) -> Result<u64> {
        // Out of sight first, in one step: a snapshot is there whole or not at all.
        let trash = self.root.join("trash");
        let name = format!("{id}.{}", crate::ingest::random_name());
        match rustix::fs::renameat(CWD, self.dir(id), CWD, trash.join(&name)) {
            Err(Errno::NOENT) => return Ok(0),
            renamed => renamed.at("delete", self.dir(id))?,
        }
        let trash_fd = open_at(&trash)?;
        remove::remove_tree(&trash_fd, name.as_bytes()).at("delete", trash.join(name))
    }
}

/// A detached overlay of `lowers`, top first, read-only without an upper and a work directory.
fn mount_overlay(lowers: &[PathBuf], upper: Option<Writable<'_>>) -> Result<OwnedFd> {
    let step = |step| move |errno: Errno| Error::Mount { step, source: errno.into() };
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| Error::NoOverlay { source: errno.into() })?;
    for (key, value) in OPTIONS {
        fsconfig_set_string(&fs, key, value).map_err(step("set the options"))?;
    }
    // The descriptors must stay open until the names that refer to them have been used.
    let mut layers = Vec::with_capacity(lowers.len());
    for lower in lowers {
        let fd = open_dir(lower).at("open", lower)?;
        match fsconfig_set_string(&fs, "lowerdir+", fd_path(fd.as_fd())) {
            // This kernel does not know the option: 6.5 to 6.7 say so at once, older ones in the end.
            Err(Errno::INVAL) if layers.is_empty() => return classic::mount_overlay(lowers, upper),
            added => added.map_err(step("add a layer"))?,
        }
        layers.push(fd);
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_NODEV;
    if let Some(Writable { upper, work }) = upper {
        for (key, dir) in [("upperdir", upper), ("workdir", work)] {
            let fd = open_dir(dir).at("open", dir)?;
            fsconfig_set_string(&fs, key, fd_path(fd.as_fd())).map_err(step("set the upper directory"))?;
            layers.push(fd);
        }
        fsconfig_set_flag(&fs, "volatile").map_err(step("set the options"))?;
    } else {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    match fsconfig_create(&fs) {
        Err(Errno::INVAL) => return classic::mount_overlay(lowers, upper),
        created => created.map_err(step("create the overlay"))?,
    }
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(step("mount the overlay"))
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
