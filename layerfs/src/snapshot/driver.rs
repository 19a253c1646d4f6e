//! Which driver makes snapshots: the one that was asked for, else the first that works here.
//!
//! Order: overlays of the kernel; overlays of `fuse-overlayfs`, if the store can hold layers; copies. To find out costs a few system calls where the
//! store is on a file system that overlays are known to work on; only elsewhere is one tried. So it is found out anew
//! each time, and no memory of it can be wrong on another machine, or in a container with fewer rights.
//!
//! [`Everywhere`] is for those who keep the store in order: they look at the snapshots of all layouts, whoever made
//! them, and mount none.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, XattrFlags, fsetxattr, mknodat, statfs};
use rustix::mount::{FsOpenFlags, fsopen};

use super::copies::Copies;
use super::overlay::{Mounts, Overlay};
use super::{Layout, SnapshotId, Snapshotter, fuse};
use crate::Result;
use crate::ingest::Ingest;
use crate::lease::Lease;
use crate::whiteout::OPAQUE_XATTR;

/// The names of the snapshots of one layout.
pub(crate) type Names = Overlay;

/// A way to make snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Overlays of the kernel. Linux before 6.8 is served as by [`Driver::ClassicOverlay`].
    Overlay,
    /// Overlays of the kernel by mount(2), as kernels before 6.8 need it.
    ClassicOverlay,
    /// Overlays of the program `fuse-overlayfs`.
    FuseOverlayfs,
    /// A whole copy for each snapshot.
    Copy,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Overlay => "overlay",
            Driver::ClassicOverlay => "classic-overlay",
            Driver::FuseOverlayfs => "fuse-overlayfs",
            Driver::Copy => "copy",
        })
    }
}

/// The name is none of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDriver;

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected `auto`, `overlay`, `fuse-overlayfs` or `copy`")
    }
}

impl std::error::Error for UnknownDriver {}

/// What users may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The driver; none for the first that works.
    pub driver: Option<Driver>,
    /// Directories in which programs are looked for.
    pub programs: Vec<PathBuf>,
}

impl FromStr for Choice {
    type Err = UnknownDriver;

    /// Reads a driver's name, ours or that of BuildKit, Docker or podman; `auto` is none in particular.
    fn from_str(text: &str) -> Result<Choice, UnknownDriver> {
        let driver = match text {
            "auto" => None,
            "overlay" | "overlayfs" | "overlay2" => Some(Driver::Overlay),
            "fuse-overlayfs" => Some(Driver::FuseOverlayfs),
            "copy" | "native" | "vfs" => Some(Driver::Copy),
            _ => return Err(UnknownDriver),
        };
        Ok(Choice { driver, programs: Vec::new() })
    }
}

/// A choice that was made, for this machine.
#[derive(Clone, Debug)]
pub(crate) enum Chosen {
    Layers(Mounts),
    Trees,
}

impl Choice {
    /// Decides for the store in `root`. A driver that was asked for is not tried: its own failure says more.
    pub(crate) fn decide(&self, root: &Path, lease: &Arc<Lease>) -> Chosen {
        let program = || fuse::find(&self.programs);
        let fuse = |program| Chosen::Layers(Mounts::Fuse(program));
        match self.driver {
            Some(Driver::Overlay) => Chosen::Layers(Mounts::Kernel),
            Some(Driver::ClassicOverlay) => Chosen::Layers(Mounts::Classic),
            Some(Driver::FuseOverlayfs) => fuse(program()),
            Some(Driver::Copy) => Chosen::Trees,
            None if has_overlays(root, lease) => Chosen::Layers(Mounts::Kernel),
            None => match program() {
                Some(program) if fuse::is_allowed() && holds_layers(root) => fuse(Some(program)),
                _ => Chosen::Trees,
            },
        }
    }
}

impl Chosen {
    pub(crate) fn driver(&self) -> Driver {
        match self {
            Chosen::Layers(Mounts::Kernel) => Driver::Overlay,
            Chosen::Layers(Mounts::Classic) => Driver::ClassicOverlay,
            Chosen::Layers(Mounts::Fuse(_)) => Driver::FuseOverlayfs,
            Chosen::Trees => Driver::Copy,
        }
    }

    pub(crate) fn open(&self, root: &Path, lease: &Arc<Lease>) -> Arc<dyn Snapshotter> {
        match self {
            Chosen::Layers(mounts) => Arc::new(Overlay::new(root, mounts.clone(), Arc::clone(lease))),
            Chosen::Trees => Arc::new(Copies::new(root, Arc::clone(lease))),
        }
    }
}

/// Whether the kernel can stack directories of the store.
fn has_overlays(root: &Path, lease: &Arc<Lease>) -> bool {
    /// ext4, XFS, btrfs and tmpfs (statfs(2)).
    const FIT: [i64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];
    if fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).is_err() {
        return false;
    }
    // A store that is not there yet will be in what is.
    let place = root.ancestors().find(|place| place.exists()).unwrap_or(root);
    let is_fit = statfs(place).is_ok_and(|found| FIT.contains(&found.f_type));
    is_fit || Overlay::new(root, Mounts::Kernel, Arc::clone(lease)).probe().is_ok()
}

/// Whether the store can hold what overlayfs says in its layers: a device for what is deleted, an attribute for what is
/// opaque.
fn holds_layers(root: &Path) -> bool {
    let Ok(dir) = Ingest::new(root).new_dir() else { return false };
    let deletion = mknodat(&dir.lock, "deleted", FileType::CharacterDevice, Mode::empty(), 0);
    deletion.is_ok() && fsetxattr(&dir.lock, OPAQUE_XATTR, b"y", XattrFlags::empty()).is_ok()
}

/// The snapshots of all layouts, by their names.
pub(crate) struct Everywhere([Names; 2]);

impl Everywhere {
    pub(crate) fn of(root: &Path, lease: &Arc<Lease>) -> Everywhere {
        Everywhere(Layout::ALL.map(|layout| Overlay::names(root, layout, Arc::clone(lease))))
    }

    /// Each layout's.
    pub(crate) fn each(&self) -> &[Names] {
        &self.0
    }

    pub(crate) fn contains(&self, id: &SnapshotId) -> bool {
        self.0.iter().any(|names| names.contains(id))
    }

    /// The ancestors of `id` in all layouts; none if it is not there.
    pub(crate) fn ancestors(&self, id: &SnapshotId) -> Vec<SnapshotId> {
        let mut all = Vec::new();
        for ancestor in self.0.iter().flat_map(|names| names.ancestors(id).unwrap_or_default()) {
            if !all.contains(&ancestor) {
                all.push(ancestor);
            }
        }
        all
    }

    /// What `name` stands for, where it is an alias.
    pub(crate) fn resolve(&self, name: &SnapshotId) -> SnapshotId {
        let found = self.0.iter().map(|names| names.resolve(name)).find(|found| found != name);
        found.unwrap_or(*name)
    }
}
