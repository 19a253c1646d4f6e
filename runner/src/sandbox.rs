//! What a container may see and use, as plain data.
//!
//! What does not live here: the process inside it (`process`), and making any of it true (`init`).

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use serde::{Deserialize, Serialize};

use crate::capability::CapabilitySet;
use crate::error::{Error, Result, Step};
use crate::limits::Limits;

/// The surroundings of one container.
#[derive(Debug)]
pub struct Sandbox {
    /// The root file system: a detached mount, as from `fsmount(2)` or [`detached_tree`]. The container
    /// takes it over, so a sandbox starts one container.
    pub root: OwnedFd,
    /// Whether the container may not write to its root.
    pub read_only_root: bool,
    /// Further mounts, in order.
    pub mounts: Vec<Mount>,
    /// Files that appear in the container and never in its root file system, such as `/etc/hosts`.
    pub files: Vec<FileMount>,
    /// Such files again, which may lie in what the mounts show: these are put into place after them.
    pub files_in_mounts: Vec<FileMount>,
    /// What the container reaches.
    pub network: Network,
    /// What it may use up.
    pub limits: Limits,
    /// The cgroup to make its own in, below the mount of each hierarchy, wherever lbuild itself is: Docker's
    /// `--cgroup-parent`. One that is missing is made, and removed when nothing is in it any more.
    pub cgroup_parent: Option<PathBuf>,
    /// What it may do.
    pub security: Security,
    /// Its host name.
    pub hostname: String,
    /// The size of `/dev/shm`; 0 stands for the default, as with Docker.
    pub shm_size_bytes: u64,
}

impl Sandbox {
    /// Docker's default size of `/dev/shm`.
    pub const SHM_SIZE_BYTES: u64 = 64 << 20;

    /// A sandbox with Docker's defaults round a root file system.
    #[must_use]
    pub fn new(root: OwnedFd) -> Self {
        Sandbox {
            root,
            read_only_root: false,
            mounts: Vec::new(),
            files: Vec::new(),
            files_in_mounts: Vec::new(),
            network: Network::Host,
            limits: Limits::default(),
            cgroup_parent: None,
            security: Security::default(),
            hostname: "lbuild".to_owned(),
            shm_size_bytes: Self::SHM_SIZE_BYTES,
        }
    }
}

/// One further mount.
#[derive(Debug)]
pub struct Mount {
    /// Where, inside the container; resolved inside its root, created when missing, and what was created is
    /// removed again when the container has ended.
    pub target: PathBuf,
    /// What.
    pub source: MountSource,
    /// Whether the container may not write to it.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug)]
pub enum MountSource {
    /// A file or directory of the host, or a file system of the caller's: a detached mount, as from
    /// [`detached_tree`].
    Bind(OwnedFd),
    /// An empty file system in memory.
    Tmpfs {
        /// Its size; half of the memory if none or 0.
        size_bytes: Option<u64>,
        /// The permissions of its root.
        mode: u32,
    },
}

/// A file given by its contents. They are in memory only, never on a disk, and go with the container.
#[derive(Clone, Serialize, Deserialize)]
pub struct FileMount {
    /// Where, inside the container; links are followed inside its root.
    pub target: PathBuf,
    /// What it holds.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl FileMount {
    /// A file of root's that all may read.
    pub fn new(target: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        FileMount { target: target.into(), content: content.into(), mode: 0o644, uid: 0, gid: 0 }
    }

    /// The same with other permissions.
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        FileMount { mode, ..self }
    }

    /// The same with another owner and group.
    #[must_use]
    pub fn owner(self, uid: u32, gid: u32) -> Self {
        FileMount { uid, gid, ..self }
    }
}

/// Without the contents, which may be a secret.
impl fmt::Debug for FileMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileMount")
            .field("target", &self.target)
            .field("mode", &format_args!("{:o}", self.mode))
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .finish_non_exhaustive()
    }
}

/// What a container reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Everything the host does.
    #[default]
    Host,
    /// Itself: a namespace with the loopback interface only.
    None,
}

/// What a container may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// The capabilities of its processes.
    pub capabilities: CapabilitySet,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Whether the parts of `/proc` and `/sys` that tell of or change the host are hidden or read-only.
    pub masked_paths: bool,
    /// Whether `/sys` and the container's cgroups below it may be written to.
    pub writable_sys: bool,
    /// Which devices it may use.
    pub devices: Devices,
}

impl Security {
    /// All that lbuild itself may do: BuildKit's `--security=insecure`, Docker's `--privileged`. The container
    /// can take over the host.
    #[must_use]
    pub fn insecure() -> Self {
        Security {
            capabilities: CapabilitySet::held(),
            seccomp: Seccomp::Unconfined,
            no_new_privileges: false,
            masked_paths: false,
            writable_sys: true,
            devices: Devices::Host,
        }
    }
}

/// A choice of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Devices {
    /// Those that reach nothing, such as `/dev/null`; others can be made and not opened.
    #[default]
    Harmless,
    /// All: `/dev` holds a node for every device that the host's has, and any that is made can be opened.
    Host,
}

impl Default for Security {
    fn default() -> Self {
        Security {
            capabilities: CapabilitySet::default(),
            seccomp: Seccomp::Default,
            no_new_privileges: false,
            masked_paths: true,
            writable_sys: false,
            devices: Devices::Harmless,
        }
    }
}

/// A choice of system call filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile, for the container's capabilities.
    #[default]
    Default,
    /// No filter.
    Unconfined,
}

/// Detaches a copy of the mounts at a host path, for [`Sandbox::root`] or [`MountSource::Bind`].
///
/// `recursive` takes the mounts below it along.
pub fn detached_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(CWD, path, flags)
        .map_err(|errno| Error::Setup { step: Step::Mount { target: path.to_owned() }, source: errno.into() })
}
