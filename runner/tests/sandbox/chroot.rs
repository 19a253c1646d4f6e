//! An lbuild that itself runs in a chroot: it must refuse, for what is above would be open to a container.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use runner::{Launcher, Sandbox, detached_tree};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::{Host, Root, Streams, Tests, shell};

pub(crate) const TESTS: Tests = &[("lbuild_refuses", lbuild_refuses)];

/// The argument that makes this program an lbuild in a chroot; the directory and its kind follow.
pub(crate) const ROLE: &str = "be-in-a-chroot";
const MOUNT: &str = "mount";

/// Enters the chroot and says how starting a container fails.
pub(crate) fn play(directory: &Path, kind: &str) -> ExitCode {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE).unwrap();
    if kind == MOUNT {
        mount(Some(directory), directory, NONE, MsFlags::MS_BIND, NONE).unwrap();
    }
    mount(Some("proc"), &directory.join("proc"), Some("proc"), MsFlags::empty(), NONE).unwrap();
    std::os::unix::fs::chroot(directory).unwrap();
    std::env::set_current_dir("/").unwrap();
    let launcher = Launcher::fork().unwrap();
    let (io, streams) = Streams::new();
    // What would be an escape: chroot(2) is allowed in a container, and then `..` has no end.
    let script = "chroot /bin/.. /bin/sh -c 'cd ..; cd ..; cd ..; ls'";
    let sandbox = Sandbox::new(detached_tree(Path::new("/"), false).unwrap());
    #[allow(clippy::print_stdout, reason = "the trial reads it")]
    match launcher.start(sandbox, &shell(script), io) {
        Err(error) => println!("{error}"),
        Ok(container) => println!("{}", streams.finish(&container).out),
    }
    ExitCode::SUCCESS
}

fn lbuild_refuses(_: &Host) {
    for kind in ["directory", MOUNT] {
        let root = Root::new();
        for directory in ["proc", "dev"] {
            fs::create_dir(root.path(directory)).unwrap();
        }
        let mode = Mode::from_bits_truncate(0o666);
        mknodat(CWD, root.path("dev/null"), FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
        let mut command = Command::new("/proc/self/exe");
        let output = command.arg(ROLE).arg(root.path("")).arg(kind).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let text = "cannot contain from inside a chroot: expected `/` to be the top of the mounts\n";
        assert_eq!(said, text, "{kind}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
