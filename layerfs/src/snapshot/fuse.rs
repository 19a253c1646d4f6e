//! Overlays by the program `fuse-overlayfs`, where the kernel's own are not to be had: the same layers, the same upper
//! directory, served by a process.
//!
//! Order of a mount: a FUSE file system is made and mounted, detached, by the mount calls; the program gets the other
//! end of it, `/dev/fuse`, as its standard input, and is told to serve what it finds there (`/dev/fd/0`, libfuse 3.3).
//! So there is no mount point, and the program ends when the last descriptor of the mount is closed, however that
//! comes about.
//!
//! What the program writes for deletions goes beyond overlayfs's notation. [`tidy`] makes it just that before a
//! snapshot is committed, so that all drivers of layers read one another's snapshots.

use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, fsetxattr, fstat};
use rustix::fs::{mknodat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag};
use rustix::mount::{fsconfig_set_string, fsmount, fsopen};

use super::overlay::Writable;
use crate::confined::{Kind, open_exact, path_of, xattr};
use crate::walk::{self, everything};
use crate::whiteout::{self, Name, OPAQUE_XATTR};
use crate::{Error, IoResultExt, Result};

/// The program's name.
const PROGRAM: &str = "fuse-overlayfs";

/// Attributes that it keeps what it has to know in.
const NOTES: &[u8] = b"user.fuseoverlayfs.";

/// The one that a directory has which hides the lower ones, where it may not set overlayfs's own.
const OPAQUE_NOTE: &[u8] = b"user.fuseoverlayfs.opaque";

/// How much of its complaints is kept, in bytes.
const COMPLAINT: u64 = 16 * 1024;

/// Where the program is, if it is in one of these directories.
pub(super) fn find(directories: &[PathBuf]) -> Option<PathBuf> {
    directories.iter().map(|dir| dir.join(PROGRAM)).find(|path| path.is_file())
}

/// Whether this process may mount what it serves.
pub(super) fn is_allowed() -> bool {
    open_device().is_ok() && fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

fn open_device() -> rustix::io::Result<OwnedFd> {
    openat(CWD, "/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// As [`super::overlay::mount_overlay`], served by `program`, if there is one. All directories are in the store `root`.
pub(super) fn mount_overlay(
    program: Option<&Path>,
    root: &Path,
    lowers: &[impl AsRef<Path>],
    upper: Option<Writable<'_>>,
) -> Result<OwnedFd> {
    let missing = |errno: Errno| Error::NoFuseOverlay { source: errno.into() };
    let program = program.ok_or(Errno::NOENT).map_err(missing)?;
    let device = open_device().map_err(missing)?;
    let mount = mount_device(&device, upper.is_some())?;
    let serving = serve(program, root, &options(root, lowers, upper)?, device)?;
    // The first call waits until the program answers, or has given up.
    match fstat(&mount) {
        Ok(_) => Ok(mount),
        Err(errno) => {
            // Without a mount it ends, if it has not yet.
            drop(mount);
            let complaint = serving.join().unwrap_or_default();
            Err(Error::FuseOverlay { complaint: complaint.trim_end().to_owned(), source: errno.into() })
        }
    }
}

/// A detached mount of the file system that is served at `device`.
fn mount_device(device: &OwnedFd, is_writable: bool) -> Result<OwnedFd> {
    let step = |step| move |errno: Errno| Error::Mount { step, source: errno.into() };
    let fs = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(step("create a FUSE file system"))?;
    let descriptor = device.as_raw_fd().to_string();
    let texts = [
        ("source", PROGRAM),
        ("fd", &descriptor),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
    ];
    for (key, value) in texts {
        fsconfig_set_string(&fs, key, value).map_err(step("set the options"))?;
    }
    for key in ["allow_other", "default_permissions"] {
        fsconfig_set_flag(&fs, key).map_err(step("set the options"))?;
    }
    fsconfig_create(&fs).map_err(step("create a FUSE file system"))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_NODEV;
    if !is_writable {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(step("mount a FUSE file system"))
}

/// Names are relative to the store, so that they are short and what its own path consists of does not matter.
fn options(root: &Path, lowers: &[impl AsRef<Path>], upper: Option<Writable<'_>>) -> Result<String> {
    let relative = |path: &Path| -> Result<String> {
        let path = path.strip_prefix(root).unwrap_or(path);
        Ok(path.to_str().ok_or(Errno::INVAL).at("name a layer", path)?.to_owned())
    };
    let lowers = lowers.iter().map(|lower| relative(lower.as_ref())).collect::<Result<Vec<_>>>()?;
    let mut options = format!("lowerdir={}", lowers.join(":"));
    if let Some(Writable { upper, work }) = upper {
        let (upper, work) = (relative(upper)?, relative(work)?);
        // Writing to a text does not fail.
        let _written = write!(options, ",upperdir={upper},workdir={work},volatile");
    }
    Ok(options)
}

/// Starts the program; what comes back is what it complained of, when it has ended.
fn serve(
    program: &Path,
    root: &Path,
    options: &str,
    device: OwnedFd,
) -> Result<std::thread::JoinHandle<String>> {
    let mut child = Command::new(program)
        .args(["-f", "-o", options, "/dev/fd/0"])
        .current_dir(root)
        .env_clear()
        .stdin(Stdio::from(device))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // What a terminal sends to lbuild is not for it: it has to serve until all else has ended.
        .process_group(0)
        .spawn()
        .map_err(|source| Error::NoFuseOverlay { source })?;
    Ok(std::thread::spawn(move || {
        let mut complaint = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            // What cannot be read is not told.
            let _read = stderr.by_ref().take(COMPLAINT).read_to_end(&mut complaint);
            let _drained = std::io::copy(&mut stderr, &mut std::io::sink());
        }
        let _reaped = child.wait();
        String::from_utf8_lossy(&complaint).into_owned()
    }))
}

/// Says in overlayfs's words what the program said in its own in the upper directory `upper`, and makes it forget what
/// else it noted there. Its mount is gone.
pub(super) fn tidy(upper: &Path) -> Result<()> {
    let root = crate::ingest::open_dir(upper).at("open", upper)?;
    let entries = walk::walk(root.as_fd(), &everything)?;
    let inner = entries.iter().filter(|entry| entry.metadata.kind == Kind::Directory);
    for path in std::iter::once(&[][..]).chain(inner.map(|entry| entry.path.as_slice())) {
        let dir = open_exact(root.as_fd(), path);
        dir.and_then(|dir| tidy_directory(&dir)).at("tidy", upper.join(path_of(path)))?;
    }
    Ok(())
}

fn tidy_directory(dir: &OwnedFd) -> rustix::io::Result<()> {
    let before = fstat(dir)?;
    let mut is_opaque = notes(dir.as_fd(), b".")?;
    for (name, kind) in walk::names(dir.as_fd())? {
        match whiteout::classify(name.as_bytes()) {
            Name::Ordinary | Name::Invalid => {
                // Nothing else can have attributes of users, and directories have their turn.
                if matches!(kind, None | Some(Kind::File)) {
                    notes(dir.as_fd(), name.as_bytes())?;
                }
                continue;
            }
            Name::Opaque => is_opaque = true,
            // A mark that it makes beside the other.
            Name::Whiteout(b".opq") | Name::Ignored => {}
            Name::Whiteout(hidden) => {
                match mknodat(dir, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
                    // It was made again.
                    Err(Errno::EXIST) => {}
                    made => made?,
                }
            }
        }
        unlinkat(dir, name.as_bytes(), AtFlags::empty())?;
    }
    if is_opaque {
        fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty())?;
    }
    rustix::fs::futimens(dir, &crate::entry::Time::of(&before).timestamps())
}

/// Removes what the program noted about `name`; says whether it is an opaque directory.
fn notes(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<bool> {
    let list = match xattr::list_at(dir, name) {
        Err(Errno::PERM) => return Ok(false),
        list => list?,
    };
    let mut is_opaque = false;
    for note in xattr::names(&list).filter(|note| note.to_bytes().starts_with(NOTES)) {
        is_opaque |= note.to_bytes() == OPAQUE_NOTE;
        xattr::remove_at(dir, name, note)?;
    }
    Ok(is_opaque)
}
