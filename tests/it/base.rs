//! The images that tests build on: busybox from Debian's busybox-static, and a small Debian made by
//! mmdebstrap. Each is made once a machine, kept as an OCI layout below `LBUILD_TEST_CACHE` (by default
//! /var/cache/lbuild-test), and pushed once a run to the tests' registry.
//!
//! TLS of this machine may end at a proxy with its own authority, so the Debian image gets this machine's
//! bundle of authorities: the tests' concern, never the product's.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::FlockOperation;
use serde_json::json;

use crate::layout::{self, Layer, sha256};
use crate::{peers, registry};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const AUTHORITIES_INSIDE: &str = "/usr/local/share/authorities.crt";
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Part of the cached folders' names: count up when the recipe changes.
const RECIPE: u32 = 2;

/// The reference of the busybox image: a shell, its applets, a user `app` with uid 1000 in group `staff`.
pub(crate) fn busybox() -> &'static str {
    static REFERENCE: OnceLock<String> = OnceLock::new();
    REFERENCE.get_or_init(|| pushed("busybox:1", &cached(&busybox_name(), make_busybox)))
}

fn busybox_name() -> String {
    let program = fs::read("/bin/busybox").expect("/bin/busybox; `make test` installs busybox-static");
    format!("busybox-{RECIPE}-{}", &sha256(&program)[..12])
}

/// The reference of an index of busybox images, for this machine and for arm64.
pub(crate) fn busybox_of_two() -> &'static str {
    static REFERENCE: OnceLock<String> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let own = cached(&busybox_name(), make_busybox);
        let arm = cached(&format!("busybox-arm64-{RECIPE}"), make_busybox_for_arm64);
        let folder = tempfile::tempdir().expect("a folder");
        layout::join(folder.path(), &[(layout::architecture(), &own), ("arm64", &arm)]);
        pushed("busybox-of-two:1", folder.path())
    })
}

/// The reference of the Debian image: `apt-get` works in it with `--network host`.
pub(crate) fn debian() -> &'static str {
    static REFERENCE: OnceLock<String> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let name = format!("debian-{RECIPE}-{}", &sha256(&authorities())[..12]);
        pushed("debian:bookworm-slim", &cached(&name, make_debian))
    })
}

/// This machine's bundle of certificate authorities.
fn authorities() -> Vec<u8> {
    fs::read(AUTHORITIES).expect("the machine's authorities; `make test` installs ca-certificates")
}

fn pushed(name: &str, layout: &Path) -> String {
    let reference = format!("{}/{name}", registry::open());
    peers::skopeo_copy_all(&format!("oci:{}:it", layout.display()), &format!("docker://{reference}"));
    reference
}

/// Makes `name` in the cache unless it is there; one process at a time, and never half.
fn cached(name: &str, make: fn(&Path)) -> PathBuf {
    let cache =
        std::env::var_os("LBUILD_TEST_CACHE").map_or_else(|| "/var/cache/lbuild-test".into(), PathBuf::from);
    fs::create_dir_all(&cache).expect("the cache folder");
    let lock = File::create(cache.join(format!("{name}.lock"))).expect("the lock file");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("the lock");
    let done = cache.join(name);
    if !done.exists() {
        let work = tempfile::tempdir_in(&cache).expect("a folder");
        make(work.path());
        fs::rename(work.path().join("layout"), &done).expect("the finished layout");
    }
    done
}

fn make_busybox(work: &Path) {
    make_busybox_of(Path::new("/bin/busybox"), layout::architecture(), work);
}

/// Debian's busybox for arm64, by an apt that need not know of another architecture.
const DOWNLOAD: &str = r#"mkdir -p state/lists/partial cache/archives/partial
: > state/status
apt() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Dir::State="$PWD/state" -o Dir::State::status="$PWD/state/status" \
        -o Dir::Cache="$PWD/cache" "$@"
}
apt update
apt download busybox-static
dpkg-deb --fsys-tarfile busybox-static_*_arm64.deb | tar -x ./bin/busybox"#;

fn make_busybox_for_arm64(work: &Path) {
    peers::run(Command::new("sh").args(["-ec", DOWNLOAD]).current_dir(work));
    make_busybox_of(&work.join("bin/busybox"), "arm64", work);
}

/// The applets are those of this machine's busybox, which is of the same release.
fn make_busybox_of(program: &Path, architecture: &str, work: &Path) {
    let root = work.join("root");
    for folder in ["bin", "etc", "home/app", "root", "tmp", "usr/bin", "var"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("a mode");
    fs::set_permissions(root.join("root"), PermissionsExt::from_mode(0o700)).expect("a mode");
    fs::copy(program, root.join("bin/busybox")).expect("busybox");
    let applets = peers::run(Command::new("/bin/busybox").arg("--list"));
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
        .expect("users");
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\nstaff:x:50:app\n").expect("groups");
    let tar = archive(&root, &["--owner=0", "--group=0", "--numeric-owner"]);
    let config = json!({"Env": [PATH], "Cmd": ["sh"]});
    layout::write_for(architecture, &work.join("layout"), &[Layer::plain(tar)], &config);
}

fn make_debian(work: &Path) {
    let tar = work.join("debian.tar");
    // The variant and the omitted folders are those of the official slim image.
    let without = ["doc", "man", "info", "locale", "lintian"]
        .map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*"));
    // Not in /etc/ssl: the package ca-certificates writes there.
    let hook = format!("--customize-hook=upload {AUTHORITIES} {AUTHORITIES_INSIDE}");
    peers::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .args(without)
            .arg(hook)
            .arg("bookworm")
            .arg(&tar),
    );
    let gzip = Command::new("gzip").args(["-1nc"]).arg(&tar).stdin(Stdio::null()).output().expect("gzip");
    let layer = Layer::gzip(&fs::read(&tar).expect("the archive"), gzip.stdout);
    let env = [
        PATH.to_owned(),
        format!("SSL_CERT_FILE={AUTHORITIES_INSIDE}"),
        format!("PIP_CERT={AUTHORITIES_INSIDE}"),
    ];
    layout::write(&work.join("layout"), &[layer], &json!({"Env": env, "Cmd": ["bash"]}));
}

fn archive(folder: &Path, args: &[&str]) -> Vec<u8> {
    let fixed = ["--sort=name", "--mtime=@0", "--create", "--directory"];
    let output = Command::new("tar").args(args).args(fixed).arg(folder).arg(".").output().expect("tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
