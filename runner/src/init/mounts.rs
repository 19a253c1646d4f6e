//! What is mounted in a container: the system's own mounts, masks, files and the user's mounts.
//!
//! Everything is made detached and moved onto a descriptor, so that no path is resolved twice. The list
//! follows the runtime spec's defaults and Docker's masks. What does not live here: the nodes in `/dev`
//! (`devices`), finding places in the root (`root`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fstat, fstatfs, mkdirat, openat,
};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::root::{Kind, Root};
use super::{Seed, devices, trampoline};
use crate::cgroup::CgroupMount;
use crate::error::{AtStep, Failure, Found, Step};
use crate::protocol::SourcePlan;
use crate::resolve;
use crate::sandbox::{Devices, FileMount, Sandbox};
use crate::sys::{self, MountAttributes};

/// Hidden from a container: what tells of the host or reaches it.
const MASKED: &[(System, &str)] = &[
    (System::Proc, "acpi"),
    (System::Proc, "asound"),
    (System::Proc, "interrupts"),
    (System::Proc, "kcore"),
    (System::Proc, "keys"),
    (System::Proc, "latency_stats"),
    (System::Proc, "sched_debug"),
    (System::Proc, "scsi"),
    (System::Proc, "timer_list"),
    (System::Proc, "timer_stats"),
    (System::Sys, "devices/virtual/powercap"),
    (System::Sys, "firmware"),
];

/// Readable only: what changes the host when written.
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

const SAFE: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

#[derive(Clone, Copy)]
enum System {
    Proc,
    Sys,
}

/// The system's mounts that later steps need.
pub(super) struct SystemMounts {
    pub(super) dev: OwnedFd,
    pub(super) pts: OwnedFd,
    /// `/dev/null`, open.
    pub(super) null: OwnedFd,
    proc: OwnedFd,
    sys: OwnedFd,
}

/// Mounts `/proc`, `/dev` and what is in it, `/sys` and the cgroups.
pub(super) fn mount_system(
    root: &Root<'_>,
    host: &OwnedFd,
    seed: &Seed<'_>,
) -> std::result::Result<SystemMounts, Failure> {
    let place = root.system_directory("proc")?;
    let proc = new("proc", &[], SAFE).at(at("/proc"))?;
    attach(&proc, &place).at(at("/proc"))?;

    let place = root.system_directory("dev")?;
    let options = [("mode", "755"), ("size", "65536k")];
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let dev = new("tmpfs", &options, flags).at(at("/dev"))?;
    attach(&dev, &place).at(at("/dev"))?;
    let null = devices::populate(dev.as_fd())?;
    if seed.job.security.devices == Devices::Host {
        devices::copy_host(host.as_fd(), dev.as_fd())?;
    }
    let pts = mount_in_dev(dev.as_fd(), seed)?;

    let place = root.system_directory("sys")?;
    let flags = if seed.job.security.writable_sys { SAFE } else { SAFE | MountAttrFlags::MOUNT_ATTR_RDONLY };
    let sys = new("sysfs", &[], flags).at(at("/sys"))?;
    attach(&sys, &place).at(at("/sys"))?;
    mount_cgroups(sys.as_fd(), seed.cgroup_mounts, flags).at(at("/sys/fs/cgroup"))?;
    Ok(SystemMounts { dev, pts, null, proc, sys })
}

/// The step of mounting at a place.
fn at(target: &str) -> impl FnOnce() -> Step + use<> {
    let target = PathBuf::from(target);
    move || Step::Mount { target }
}

/// Mounts terminals, shared memory and message queues below `/dev`; gives the terminals.
fn mount_in_dev(dev: BorrowedFd<'_>, seed: &Seed<'_>) -> std::result::Result<OwnedFd, Failure> {
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = new("devpts", &options, flags).at(at("/dev/pts"))?;
    attach_below(&pts, dev, "pts").at(at("/dev/pts"))?;

    // The kernel takes 0 for no limit at all.
    let size = Some(seed.job.shm_size_bytes).filter(|&size| size > 0);
    let size = size.unwrap_or(Sandbox::SHM_SIZE_BYTES).to_string();
    let shm = new("tmpfs", &[("mode", "1777"), ("size", &size)], SAFE).at(at("/dev/shm"))?;
    attach_below(&shm, dev, "shm").at(at("/dev/shm"))?;
    match new("mqueue", &[], SAFE) {
        // A kernel without message queues.
        Err(Errno::NODEV) => {}
        queues => {
            let queues = queues.at(at("/dev/mqueue"))?;
            attach_below(&queues, dev, "mqueue").at(at("/dev/mqueue"))?;
        }
    }
    Ok(pts)
}

/// Shows the container its own cgroups.
fn mount_cgroups(sys: BorrowedFd<'_>, mounts: &[CgroupMount], flags: MountAttrFlags) -> Result<()> {
    let place = match openat(sys, c"fs/cgroup", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        place => place?,
    };
    match mounts {
        [] => Ok(()),
        [only] if only.name.is_empty() => attach(&new("cgroup2", &[], flags)?, &place),
        several => {
            let top = new("tmpfs", &[("mode", "755"), ("size", "64k")], SAFE)?;
            attach(&top, &place)?;
            for mount in several {
                mkdirat(&top, mount.name.as_str(), Mode::from_bits_truncate(0o755))?;
                let options: Vec<(&str, &str)> =
                    mount.options.iter().map(|option| (option.as_str(), "")).collect();
                let kind = if options.is_empty() { "cgroup2" } else { "cgroup" };
                attach_below(&new(kind, &options, flags)?, top.as_fd(), &mount.name)?;
            }
            set(&top, MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() })
        }
    }
}

/// Hides and protects the dangerous parts of `/proc` and `/sys`, then mounts files and the user's mounts.
pub(super) fn mount_users(
    root: &Root<'_>,
    system: &SystemMounts,
    backing: &Backing,
    seed: &Seed<'_>,
) -> std::result::Result<(), Failure> {
    if seed.job.security.masked_paths {
        mask(system, backing)?;
    }
    backing.mount_files(root, 0, &seed.job.files)?;
    let mut binds = seed.binds.iter();
    for mount in &seed.job.mounts {
        let step = || Step::Mount { target: mount.target.clone() };
        let created;
        let source = match mount.source {
            SourcePlan::Bind => binds.next().ok_or(Errno::BADF).at(step)?,
            SourcePlan::Tmpfs { size_bytes, mode } => {
                created = tmpfs(size_bytes, mode).at(step)?;
                &created
            }
        };
        let unguarded = if seed.unguarded { libc::MOUNT_ATTR_NODEV } else { 0 };
        let attributes = MountAttributes {
            set: unguarded | if mount.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 },
            propagation: libc::MS_PRIVATE,
            recursive: true,
            ..MountAttributes::default()
        };
        set(source, attributes).at(step)?;
        attach(source, &user_place(root, &mount.target, kind(source).at(step)?)?).at(step)?;
    }
    backing.mount_files(root, seed.job.files.len(), &seed.job.files_in_mounts)
}

/// Where a user's mount goes: anywhere but the root itself and `/proc`, whose files the kernel and the
/// program trust (CVE-2019-16884).
fn user_place(root: &Root<'_>, target: &Path, kind: Kind) -> std::result::Result<OwnedFd, Failure> {
    let step = || Step::Mount { target: target.to_owned() };
    let refuse = |expected, found| Failure::MountPoint { path: target.to_owned(), expected, found };
    let place = root.mount_point(target, kind)?;
    if fstatfs(&place).at(step)?.f_type == rustix::fs::PROC_SUPER_MAGIC {
        return Err(refuse(Found::OutsideProc, Found::Proc));
    }
    let (found, top) = (fstat(&place).at(step)?, fstat(root.directory()).at(step)?);
    if (found.st_dev, found.st_ino) == (top.st_dev, top.st_ino) {
        return Err(refuse(Found::BelowRoot, Found::Root));
    }
    Ok(place)
}

fn tmpfs(size_bytes: Option<u64>, mode: u32) -> Result<OwnedFd> {
    let mode = format!("{mode:o}");
    let size = size_bytes.filter(|&size| size > 0).map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    new("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
}

fn mask(system: &SystemMounts, backing: &Backing) -> std::result::Result<(), Failure> {
    let within = |of| match of {
        System::Proc => (system.proc.as_fd(), "/proc"),
        System::Sys => (system.sys.as_fd(), "/sys"),
    };
    let hide = |of, path: &str| {
        let (mount, prefix) = within(of);
        let step = || Step::Mask { path: Path::new(prefix).join(path) };
        let Some(place) = existing(mount, path).at(step)? else { return Ok(false) };
        let cover = match kind(&place).at(step)? {
            Kind::Directory => backing.empty_directory(),
            Kind::File => copy(system.dev.as_fd(), "null"),
        };
        attach(&cover.at(step)?, &place).at(step)?;
        Ok(true)
    };
    for (of, path) in MASKED {
        hide(*of, path)?;
    }
    // Every processor has these files or none does.
    let throttle = |processor| format!("devices/system/cpu/cpu{processor}/thermal_throttle");
    let mut processor = 0;
    while hide(System::Sys, &throttle(processor))? {
        processor += 1;
    }
    for path in READ_ONLY {
        let step = || Step::Mask { path: Path::new("/proc").join(path) };
        let Some(place) = existing(system.proc.as_fd(), path).at(step)? else { continue };
        let same = copy(system.proc.as_fd(), path).at(step)?;
        set(&same, MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..MountAttributes::default() })
            .at(step)?;
        attach(&same, &place).at(step)?;
    }
    Ok(())
}

/// A file system in memory that holds the files given by their contents, the trampoline and the directory
/// that covers masked ones. A copy of a part of it can only be made while it is mounted: it lies over the
/// host's `/proc`, which nobody looks at any more, and goes with the host's root, for an unmount of its own
/// costs a grace period of the kernel's.
pub(super) struct Backing {
    mount: OwnedFd,
    trampoline: OwnedFd,
}

/// Who may execute a file.
const EXECUTABLE: u32 = 0o111;

impl Backing {
    /// To be called between leaving the host's mounts and attaching the root.
    pub(super) fn attach(seed: &Seed<'_>) -> Result<Self> {
        let files = || seed.job.files.iter().chain(&seed.job.files_in_mounts);
        let bytes: usize = files().map(|file| file.content.len()).sum();
        // A container may append to its hosts file: a megabyte of room.
        let size = (bytes + (1 << 20)).to_string();
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let options = [("mode", "755"), ("size", size.as_str()), ("noswap", "")];
        let mount = match new("tmpfs", &options, flags) {
            // A kernel before 6.4, which may swap it out.
            Err(Errno::INVAL) => new("tmpfs", &options[..2], flags)?,
            mount => mount?,
        };
        mkdirat(&mount, c"empty", Mode::from_bits_truncate(0o755))?;
        for (at, file) in files().enumerate() {
            let made = write(&mount, &at.to_string(), &file.content, file.mode)?;
            fchown(&made, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
            // A change of owner takes the set-id bits away.
            fchmod(&made, Mode::from_bits_truncate(file.mode))?;
        }
        drop(write(&mount, "trampoline", &trampoline::image(), 0o555)?);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let trampoline = openat(&mount, c"trampoline", flags, Mode::empty())?;
        move_mount(&mount, c"", CWD, c"/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(Backing { mount, trampoline })
    }

    /// The trampoline's file.
    pub(super) fn trampoline(&self) -> BorrowedFd<'_> {
        self.trampoline.as_fd()
    }

    fn empty_directory(&self) -> Result<OwnedFd> {
        let empty = copy(self.mount.as_fd(), "empty")?;
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC;
        set(&empty, MountAttributes { set: attributes, ..MountAttributes::default() })?;
        Ok(empty)
    }

    /// Puts files into place; the first of them is the backing's number `first`.
    fn mount_files(
        &self,
        root: &Root<'_>,
        first: usize,
        files: &[FileMount],
    ) -> std::result::Result<(), Failure> {
        for (at, file) in files.iter().enumerate() {
            let step = || Step::Mount { target: file.target.clone() };
            let source = copy(self.mount.as_fd(), &(first + at).to_string()).at(step)?;
            if file.mode & EXECUTABLE == 0 {
                // Nor may the container make it executable.
                let attributes =
                    MountAttributes { set: libc::MOUNT_ATTR_NOEXEC, ..MountAttributes::default() };
                set(&source, attributes).at(step)?;
            }
            attach(&source, &user_place(root, &file.target, Kind::File)?).at(step)?;
        }
        Ok(())
    }
}

/// Makes a file in a directory that is ours alone.
fn write(directory: &OwnedFd, name: &str, mut content: &[u8], mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_bits_truncate(mode))?;
    while !content.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, content))?;
        content = &content[written..];
    }
    Ok(file)
}

/// Makes a file system and a detached mount of it. An option without a value is a flag.
fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(context.as_fd(), *key)?;
        } else {
            fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Moves a detached mount onto a place.
pub(super) fn attach(mount: &OwnedFd, place: &OwnedFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags)
}

/// Moves a detached mount onto a name in a directory that is ours alone.
fn attach_below(mount: &OwnedFd, directory: BorrowedFd<'_>, name: &str) -> Result<()> {
    move_mount(mount, c"", directory, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// A detached mount of a part of a mount of ours.
fn copy(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    open_tree(directory, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

fn set(mount: &OwnedFd, attributes: MountAttributes) -> Result<()> {
    sys::mount_setattr(mount.as_fd(), attributes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// A place in the kernel's own file systems, if this kernel has it.
fn existing(mount: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match resolve::handle(mount, Path::new(path), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
        Err(Errno::NOENT) => Ok(None),
        place => place.map(Some),
    }
}

fn kind(place: &OwnedFd) -> Result<Kind> {
    match FileType::from_raw_mode(fstat(place)?.st_mode) {
        FileType::Directory => Ok(Kind::Directory),
        _ => Ok(Kind::File),
    }
}
