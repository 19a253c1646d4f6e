//! One process in a sandbox: Linux containers without a daemon.
//!
//! The straight line: [`Launcher::fork`] splits off a small process while lbuild has one thread →
//! [`Launcher::start`] sends it a [`Sandbox`] and a [`Process`] → it makes the cgroup and clones pid 1 of the
//! container → that process builds its own surroundings (`init`) and executes the program →
//! [`Container::wait`] gives the [`Exit`] when everything of the container is gone.
//!
//! What lives here: namespaces, mounts, cgroups, capabilities, seccomp, users. What does not: images,
//! layers, overlays, Dockerfiles; the root file system arrives as a detached mount.
//!
//! Invariants: no mount ever appears in the host's mount namespace; no path of the root file system is
//! followed outside it; nothing in a container leads to lbuild's executable; nothing of a container survives
//! lbuild, however lbuild ends; mount points that the sandbox created in the root are gone again when
//! [`Container::wait`] returns.

mod capability;
mod cgroup;
pub mod emulation;
mod error;
mod init;
mod launcher;
mod limits;
mod process;
mod protocol;
mod resolve;
mod sandbox;
mod seccomp;
mod stub;
mod supervisor;
mod sys;
pub mod user;

pub use capability::{Capability, CapabilitySet};
pub use error::{Error, Limit, Obstacle, Result, Step};
pub use launcher::{Container, Launcher};
pub use limits::Limits;
pub use process::{Exit, Io, Process, Resource, Rlimit, Status, Usage, WindowSize};
pub use sandbox::{
    Devices, FileMount, Mount, MountSource, Network, Sandbox, Seccomp, Security, detached_tree,
};

/// How many instructions the default profile's program has for a process with these capabilities.
#[cfg(feature = "testing")]
#[must_use]
pub fn filter_length(capabilities: CapabilitySet) -> usize {
    seccomp::compile(capabilities).len()
}
