//! The same trials in a machine with cgroup v2 alone: this program in an initial ramdisk, booted by qemu.
//!
//! Software emulation only, so it needs no `/dev/kvm`. The kernel is Debian's cloud kernel, downloaded with
//! apt and kept in `$LBUILD_TEST_CACHE`. The trials run where it matters for cgroups: in the root cgroup, in
//! a cgroup of lbuild's own, and in one it shares with others; the first of all on the ramdisk itself, which
//! cannot be pivoted away.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::containment;
use crate::support::{Host, Tests, download};

pub(crate) const TESTS: Tests = &[("cgroup_v2", cgroup_v2)];

/// Why the machine cannot be booted here, if so.
pub(crate) fn obstacle() -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the kernel for the virtual machine is for x86_64");
    }
    let present =
        |tool| Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    for (tool, reason) in [
        ("qemu-system-x86_64", "qemu-system-x86 is not installed"),
        ("apt-get", "there is no apt-get to download a kernel with"),
        ("dpkg", "there is no dpkg to unpack a kernel with"),
    ] {
        if present(tool).is_err() {
            return Some(reason);
        }
    }
    None
}

/// The first program of the machine: tries the ramdisk, then moves to a file system that can be pivoted.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /tmp /new
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
insmod /overlay.ko
/sandbox process::exit_codes; echo "RESULT ramdisk $?"
umount /sys/fs/cgroup /tmp
mount -t tmpfs -o size=512m new /new
cp -a /bin /lib /lib64 /sandbox /payload /client /second /new
mkdir /new/proc /new/sys /new/dev /new/tmp
mount --move /proc /new/proc; mount --move /sys /new/sys; mount --move /dev /new/dev
exec switch_root -c /dev/console /new /second
"#;

const SECOND: &str = r#"#!/bin/busybox sh
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd /tmp
/sandbox --skip vm:: --skip hostile:: ; echo "RESULT root $?"
echo '+memory +pids +cpu +cpuset' > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/alone /sys/fs/cgroup/shared
sh -c 'echo 0 > /sys/fs/cgroup/alone/cgroup.procs; exec /sandbox --test-threads 1 --skip killing cgroups::'
echo "RESULT alone $?"
echo 0 > /sys/fs/cgroup/shared/cgroup.procs
/sandbox cgroups:: ; echo "RESULT shared $?"
# The launcher ends after its client: it may be a moment until its leaf is gone.
for i in $(seq 100); do find /sys/fs/cgroup -name 'lbuild*' | grep -q . || break; sleep 0.1; done
find /sys/fs/cgroup -name 'lbuild*'
! find /sys/fs/cgroup -name 'lbuild*' | grep -q . ; echo "RESULT tidy $?"
poweroff -f
"#;

fn cgroup_v2(_: &Host) {
    let kernel = Kernel::fetch();
    let scratch = tempfile::tempdir().unwrap();
    let ramdisk = scratch.path().join("initrd.gz");
    pack(&kernel, &scratch.path().join("tree"), &ramdisk);
    let log = scratch.path().join("console");
    // The limit is for a machine that hangs; it normally runs for a minute.
    let status = Command::new("timeout")
        .args(["900", "qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-m", "1536", "-smp", "2", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-append", "console=ttyS0 quiet cgroup_no_v1=all panic=-1 rdinit=/init"])
        .arg("-serial")
        .arg(format!("file:{}", log.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&ramdisk)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let console = String::from_utf8_lossy(&fs::read(&log).unwrap()).replace('\r', "");
    let results: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix("RESULT ")).collect();
    let expected = ["ramdisk 0", "root 0", "alone 0", "shared 0", "tidy 0"];
    assert!(status.success() && results == expected, "{status}, {results:?}:\n{console}");
}

/// A Debian kernel and the module the trials need.
struct Kernel {
    image: PathBuf,
    overlay: PathBuf,
}

impl Kernel {
    /// The kernel in the cache, downloaded if there is none.
    fn fetch() -> Kernel {
        let script = "name=$(apt-cache search 'linux-image-6.*cloud-amd64$' | cut -d' ' -f1 | grep 'cloud-amd64$' | \
                      sort -V | tail -n 1); apt-get download -q $name && dpkg -x linux-image-*.deb tree";
        let ready = download("kernel", script);
        let image = find(&ready.join("boot"), "vmlinuz-").expect("the package holds a kernel");
        let overlay = find(&ready, "overlay.ko").expect("the package holds the overlay module");
        Kernel { image, overlay }
    }
}

/// The first file below a directory whose name starts with `prefix`.
fn find(directory: &Path, prefix: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if let Some(found) = find(&entry.path(), prefix) {
                return Some(found);
            }
        } else if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Some(entry.path());
        }
    }
    None
}

/// Makes the ramdisk: busybox, this program and its libraries.
fn pack(kernel: &Kernel, tree: &Path, ramdisk: &Path) {
    for directory in ["bin", "lib", "lib64", "dev"] {
        fs::create_dir_all(tree.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static is installed");
    symlink("busybox", tree.join("bin/sh")).unwrap();
    fs::copy("/proc/self/exe", tree.join("sandbox")).unwrap();
    containment::compile_payload(&tree.join("payload"));
    containment::compile_client(&tree.join("client"));
    for library in libraries() {
        let inside = tree.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        fs::copy(&library, inside).unwrap();
    }
    for (name, text) in [("init", INIT), ("second", SECOND)] {
        fs::write(tree.join(name), text).unwrap();
        fs::set_permissions(tree.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = r#"case "$1" in *.xz) busybox unxz -c "$1";; *) cat "$1";; esac > overlay.ko
                    find . | busybox cpio -o -H newc -R 0:0 2>/dev/null | gzip -1 > "$2""#;
    let mut shell = Command::new("sh");
    let done = shell
        .args(["-ec", script, "sh"])
        .args([&kernel.overlay, ramdisk])
        .current_dir(tree)
        .status()
        .unwrap();
    assert!(done.success(), "cannot pack the ramdisk");
}

/// The shared libraries of this program; none if it is static.
fn libraries() -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(fs::read_link("/proc/self/exe").unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
