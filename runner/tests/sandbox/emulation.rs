//! Programs for another processor: refused with a reason, or run by an interpreter of the host's.
//!
//! The program is Debian's busybox for arm64. An interpreter is registered for the time of the trial only, if
//! the machine has none, and under a name of the trial's own: binfmt_misc is one for the whole machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use runner::emulation::{self, Emulation};

use crate::support::{Host, Root, Tests, download, shell};

pub(crate) const TESTS: Tests = &[("another_processor_s_programs", another_processor_s_programs)];

/// The argument that makes this program an lbuild that may register interpreters.
pub(crate) const ROLE: &str = "be-emulated";

const ENTRIES: &str = "/proc/sys/fs/binfmt_misc";
/// How Debian's package has it: `:name:M::magic:mask:interpreter:flags`.
const DEBIAN: &str = "/usr/lib/binfmt.d/qemu-aarch64.conf";

/// Why nothing can be emulated here, if so.
pub(crate) fn obstacle() -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the program is for arm64, which this machine may be itself");
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    (!known.lines().any(|line| line.ends_with("\tbinfmt_misc"))).then_some("this kernel has no binfmt_misc")
}

/// Without dpkg's knowing of another architecture, which would be a change of the machine.
const BUSYBOX: &str = r#"mkdir -p state/lists/partial cache/archives/partial tree
: > state/status
apt() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Dir::State="$PWD/state" -o Dir::State::status="$PWD/state/status" \
        -o Dir::Cache="$PWD/cache" "$@"
}
apt update
apt download busybox-static
dpkg-deb --fsys-tarfile busybox-static_*_arm64.deb | tar -x -C tree ./bin/busybox"#;

fn another_processor_s_programs(_: &Host) {
    let busybox = download("busybox-arm64", BUSYBOX).join("bin/busybox");
    let output = Command::new("/proc/self/exe").arg(ROLE).arg(busybox).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs the program with an interpreter and, where the machine has none, without.
pub(crate) fn play(busybox: &Path) -> ExitCode {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE).unwrap();
    if !Path::new(ENTRIES).join("status").exists() {
        assert_eq!(emulation::find("arm64"), Emulation::Missing);
        mount(NONE, ENTRIES, Some("binfmt_misc"), MsFlags::empty(), NONE).unwrap();
    }
    let host = Host::new();
    let root = Root::new();
    fs::copy(busybox, root.path("bin/busybox")).unwrap();
    let registration = match emulation::find("arm64") {
        Emulation::Missing => {
            let error = host.run(root.sandbox(), &shell("true")).unwrap_err();
            assert_eq!((error.exit_code(), error.is_foreign_program()), (126, true), "{error}");
            Some(Registration::new())
        }
        found => {
            assert!(matches!(found, Emulation::Registered { .. }), "{found:?}");
            None
        }
    };
    let found = emulation::find("arm64");
    let Emulation::Registered { fixed: true, interpreter } = &found else { panic!("{found:?}") };
    assert!(interpreter.exists() && !root.path(interpreter.strip_prefix("/").unwrap()).exists());
    assert_eq!(emulation::find("amd64"), Emulation::Native);
    run_emulated(&host, &root);
    if let Some(registration) = registration {
        let entry = registration.entry.clone();
        drop(registration);
        assert!(!entry.exists());
    }
    ExitCode::SUCCESS
}

/// Shells, children, scripts and users, with the privileges that every container has.
fn run_emulated(host: &Host, root: &Root) {
    root.executable("script", "#!/bin/sh\necho script $0 $@\n");
    let program = "echo $(busybox uname -m) $0; /script a b | cat; id -u; ls /proc/self/fd | wc -l; \
                   grep ^Seccomp: /proc/self/status | tr '\\t' ' '; pwd; exit 7";
    let mut process = shell(program);
    process.user = "app".to_owned();
    process.cwd = "/srv".into();
    let outcome = host.run(root.sandbox(), &process).unwrap();
    let expected = "aarch64 /bin/sh\nscript /script a b\n1000\n4\nSeccomp: 2\n/srv\n";
    assert_eq!((outcome.out.as_str(), outcome.exit.code()), (expected, 7), "{outcome:?}");
}

/// An interpreter of the trial's own.
struct Registration {
    entry: PathBuf,
}

impl Registration {
    fn new() -> Registration {
        let name = format!("lbuild-trial-{}", std::process::id());
        let line = fs::read_to_string(DEBIAN).expect("qemu-user-static is installed");
        let fields: Vec<&str> = line.trim().split(':').skip(2).collect();
        fs::write(Path::new(ENTRIES).join("register"), format!(":{name}:{}", fields.join(":"))).unwrap();
        Registration { entry: Path::new(ENTRIES).join(name) }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        fs::write(&self.entry, "-1").unwrap();
    }
}
