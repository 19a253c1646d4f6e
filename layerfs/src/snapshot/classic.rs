//! Overlays by mount(2), for kernels before 6.8: they know no `lowerdir+`, and fsconfig(2) takes 255 bytes for all the
//! lower directories together, where mount(2) takes a page.
//!
//! Order: a thread of its own gets a mount namespace of its own; there the layers are opened, and the thread goes to
//! `/proc/self/fd`, where each of them has a name of a few digits; so 500 of them fit into the page. What was
//! mounted is cloned as a detached mount, and the namespace ends with the thread.
//!
//! Invariant: nobody else ever sees the attached mount, and a process that dies in between leaves nothing behind.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, mount, mount_change, open_tree};

use super::overlay::{OPTIONS, Writable};
use crate::ingest::open_dir;
use crate::{Error, IoResultExt, Result};

/// As [`super::overlay::mount_overlay`].
pub(super) fn mount_overlay(
    lowers: &[impl AsRef<Path> + Sync],
    upper: Option<Writable<'_>>,
) -> Result<OwnedFd> {
    std::thread::scope(|scope| {
        let mounting = scope.spawn(|| mount_in_private(lowers, upper));
        mounting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn mount_in_private(lowers: &[impl AsRef<Path>], upper: Option<Writable<'_>>) -> Result<OwnedFd> {
    let step = |step| move |errno: Errno| Error::Mount { step, source: errno.into() };
    crate::sys::unshare_mounts().map_err(|source| Error::NoOverlay { source })?;
    let kept_apart = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", kept_apart).map_err(step("keep mounts apart"))?;
    // Opened here: a mount may only be made of what its own namespace shows.
    let open = |path: &Path| open_dir(path).at("open", path);
    let layers = lowers.iter().map(|lower| open(lower.as_ref())).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = layers.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
    let mut options = format!("lowerdir={}", names.join(":"));
    for (key, value) in OPTIONS {
        options.push_str(&format!(",{key}={value}"));
    }
    let mut flags = MountFlags::NOATIME | MountFlags::NODEV;
    let mut changed = Vec::new();
    if let Some(Writable { upper, work }) = upper {
        changed = vec![open(upper)?, open(work)?];
        options.push_str(&format!(",upperdir={},workdir={}", changed[0].as_raw_fd(), changed[1].as_raw_fd()));
    } else {
        flags |= MountFlags::RDONLY;
    }
    rustix::process::chdir("/proc/self/fd").at("open", "/proc/self/fd")?;
    // Anywhere will do in this namespace; this place is ours.
    let place = lowers.first().map_or(Path::new("/"), AsRef::as_ref);
    let attempt = |options: &str| {
        let options = CString::new(options).expect("options are digits and words");
        mount("overlay", place, "overlay", flags, options.as_c_str())
    };
    let mounted = match attempt(&format!("{options},volatile")) {
        // Linux knows `volatile` since 5.10, and without it only syncs more than it has to.
        Err(Errno::INVAL) => attempt(&options),
        mounted => mounted,
    };
    mounted.map_err(|errno| match errno {
        Errno::NODEV | Errno::PERM => Error::NoOverlay { source: errno.into() },
        errno => Error::Mount { step: "mount the overlay", source: errno.into() },
    })?;
    drop((layers, changed));
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, place, clone).map_err(step("detach the overlay"))
}
