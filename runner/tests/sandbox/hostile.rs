//! Hostile root file systems: links, pipes and files where the sandbox expects something else.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use runner::{Error, FileMount, Mount, MountSource, Process, Sandbox};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::containment::compile;
use crate::support::{Host, Root, Tests, shell};

pub(crate) const TESTS: Tests = &[
    ("system_mount_points", system_mount_points),
    ("links_to_hosts_and_resolv_conf", links_to_hosts_and_resolv_conf),
    ("etc_outside", etc_outside),
    ("targets_of_mounts", targets_of_mounts),
    ("working_directories", working_directories),
    ("working_directory_through_a_descriptor", working_directory_through_a_descriptor),
    ("user_files", user_files),
    ("an_interpreter_of_lbuild_s", an_interpreter_of_lbuild_s),
];

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// A directory of the host's that no container may touch.
struct Bait {
    directory: tempfile::TempDir,
}

impl Bait {
    fn new() -> Bait {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("hosts"), "precious").unwrap();
        Bait { directory }
    }

    /// A link text that would lead to it from anywhere, followed outside the root.
    fn outside(&self) -> String {
        format!("../../../../../../../../..{}", self.directory.path().display())
    }

    fn absolute(&self) -> String {
        self.directory.path().display().to_string()
    }

    fn assert_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["hosts"]);
        assert_eq!(fs::read_to_string(self.directory.path().join("hosts")).unwrap(), "precious");
    }
}

fn system_mount_points(host: &Host) {
    let bait = Bait::new();
    for name in ["proc", "dev", "sys"] {
        for (what, found) in [
            (bait.outside(), "a symbolic link"),
            (bait.absolute(), "a symbolic link"),
            ("/".to_owned(), "a symbolic link"),
            ("nowhere".to_owned(), "a symbolic link"),
            ("file".to_owned(), "a file"),
            ("pipe".to_owned(), "a file"),
        ] {
            let root = Root::new();
            match what.as_str() {
                "file" => root.write(name, ""),
                "pipe" => pipe(&root.path(name)),
                target => root.link(name, target),
            }
            let error = host.run(root.sandbox(), &shell("true")).unwrap_err();
            let text =
                format!("cannot mount on `/{name}` in the container: expected a directory, found {found}");
            assert_eq!(error.to_string(), text, "{name} {what}");
            bait.assert_untouched();
        }
    }
}

fn with_file(root: &Root, target: &str) -> Sandbox {
    let mut sandbox = root.sandbox();
    sandbox.files = vec![FileMount::new(target, b"ours\n")];
    sandbox
}

fn links_to_hosts_and_resolv_conf(host: &Host) {
    let bait = Bait::new();
    for target in [
        format!("{}/hosts", bait.outside()),
        format!("{}/hosts", bait.absolute()),
        "../run/systemd/resolve/stub-resolv.conf".to_owned(),
        "/../../../../run/x".to_owned(),
        "passwd".to_owned(),
    ] {
        let root = Root::new();
        root.link("etc/resolv.conf", &target);
        let before = root.listing();
        let out = host.run(with_file(&root, "/etc/resolv.conf"), &shell("cat /etc/resolv.conf")).unwrap();
        assert_eq!(out.success(), "ours\n", "{target}");
        assert_eq!(root.listing(), before, "{target}");
        bait.assert_untouched();
    }
    // Round in a circle, a directory, a pipe.
    let root = Root::new();
    root.link("etc/resolv.conf", "resolv.conf");
    let error = host.run(with_file(&root, "/etc/resolv.conf"), &shell("true")).unwrap_err();
    assert_eq!(error.to_string(), "cannot mount `/etc/resolv.conf` in the container");
    let root = Root::new();
    fs::create_dir(root.path("etc/hosts")).unwrap();
    let error = host.run(with_file(&root, "/etc/hosts"), &shell("true")).unwrap_err();
    let text = "cannot mount on `/etc/hosts` in the container: expected a file, found a directory";
    assert_eq!(error.to_string(), text);
    let root = Root::new();
    pipe(&root.path("etc/hosts"));
    let out = host.run(with_file(&root, "/etc/hosts"), &shell("cat /etc/hosts")).unwrap();
    assert_eq!(out.success(), "ours\n");
}

fn etc_outside(host: &Host) {
    let bait = Bait::new();
    for target in [bait.outside(), bait.absolute()] {
        let root = Root::new();
        fs::remove_dir_all(root.path("etc")).unwrap();
        root.link("etc", &target);
        let before = root.listing();
        let out = host.run(with_file(&root, "/etc/hosts"), &shell("cat /etc/hosts")).unwrap();
        assert_eq!(out.success(), "ours\n", "{target}");
        assert_eq!(root.listing(), before, "{target}");
        bait.assert_untouched();
    }
}

fn targets_of_mounts(host: &Host) {
    let bait = Bait::new();
    let start = |root: &Root, target: &str| {
        let mut sandbox = root.sandbox();
        let source = MountSource::Tmpfs { size_bytes: None, mode: 0o755 };
        sandbox.mounts = vec![Mount { target: target.into(), source, read_only: false }];
        host.run(sandbox, &shell("grep -c tmpfs.*mode=755 /proc/self/mountinfo"))
    };
    let root = Root::new();
    root.link("volume", &bait.outside());
    root.link("to-proc", "/proc/sys");
    root.link("to-root", "/bin/..");
    let before = root.listing();
    for target in ["/volume", "/volume/below", "/../../x", "/volume/../y", "relative", "/dev/sub"] {
        start(&root, target).unwrap().success();
        bait.assert_untouched();
        assert_eq!(root.listing(), before, "{target}");
    }
    for (target, found) in [
        ("/proc", "expected a place outside `/proc`, found a part of `/proc`"),
        ("/proc/sys", "expected a place outside `/proc`, found a part of `/proc`"),
        ("/to-proc", "expected a place outside `/proc`, found a part of `/proc`"),
        ("/", "expected a place below the root, found the root itself"),
        ("/to-root", "expected a place below the root, found the root itself"),
        ("/bin/busybox", "expected a directory, found a file"),
    ] {
        let error = start(&root, target).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot mount on `{target}` in the container: {found}"));
        assert_eq!(root.listing(), before, "{target}");
    }
    let error = start(&root, "/proc/self/fd/3/x").unwrap_err();
    assert!(matches!(error, Error::Setup { .. } | Error::MountPoint { .. }), "{error}");
}

fn working_directories(host: &Host) {
    let bait = Bait::new();
    let root = Root::new();
    root.link("work", &bait.outside());
    root.link("up", "../../..");
    root.link("dangling", "made/here");
    for (cwd, expected) in
        [("/work", bait.absolute()), ("/up", "/".to_owned()), ("/dangling", "/made/here".to_owned())]
    {
        let mut process = shell("pwd");
        process.cwd = cwd.into();
        let out = host.run(root.sandbox(), &process).unwrap().success();
        assert_eq!(out, format!("{expected}\n"), "{cwd}");
        bait.assert_untouched();
    }
    for cwd in ["/loop", "/pipe"] {
        if cwd == "/loop" {
            root.link("loop", "loop");
        } else {
            pipe(&root.path("pipe"));
        }
        let mut process = shell("true");
        process.cwd = cwd.into();
        let error = host.run(root.sandbox(), &process).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot enter the working directory `{cwd}` in the container"));
    }
}

fn working_directory_through_a_descriptor(host: &Host) {
    let root = Root::new();
    for descriptor in 0..24 {
        let mut process = shell("pwd; ls -a");
        process.cwd = format!("/proc/self/fd/{descriptor}").into();
        let error = host.run(root.sandbox(), &process).unwrap_err();
        assert!(matches!(error, Error::Setup { .. }), "{descriptor}: {error}");
    }
}

fn user_files(host: &Host) {
    let bait = Bait::new();
    let as_app = |root: &Root| {
        let mut process = Process::new(["id", "-u"]);
        process.user = "app".to_owned();
        host.run(root.sandbox(), &process)
    };
    // The host's file has an `app` that the container's does not.
    fs::write(bait.directory.path().join("passwd"), "app:x:7:7::/:/bin/sh\n").unwrap();
    let unknown = "cannot run as `app`: no such user in the container's `/etc/passwd`";
    for target in [format!("{}/passwd", bait.outside()), "/nowhere".to_owned()] {
        let root = Root::new();
        fs::remove_file(root.path("etc/passwd")).unwrap();
        root.link("etc/passwd", &target);
        assert_eq!(as_app(&root).unwrap_err().to_string(), unknown, "{target}");
    }
    let root = Root::new();
    fs::remove_file(root.path("etc/passwd")).unwrap();
    pipe(&root.path("etc/passwd"));
    let text = "cannot run as `app`: the container's `/etc/passwd` is not a regular file";
    assert_eq!(as_app(&root).unwrap_err().to_string(), text);
    let root = Root::new();
    fs::remove_file(root.path("etc/passwd")).unwrap();
    // A device without a driver: opening it would be another error.
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, root.path("etc/passwd"), FileType::CharacterDevice, mode, makedev(240, 99)).unwrap();
    assert_eq!(as_app(&root).unwrap_err().to_string(), text);
    assert_eq!(runner::user::lookup(root.mount().as_fd(), "app").unwrap_err().to_string(), text);
    let root = Root::new();
    fs::File::create(root.path("etc/group")).unwrap().set_len(1 << 40).unwrap();
    let text = "cannot run as `app`: the container's `/etc/group` is larger than 4 MiB";
    assert_eq!(as_app(&root).unwrap_err().to_string(), text);
}

/// A program that changes the mode of the file it is executed from, without a library.
const CHANGE_OWN_MODE: &str = r#"
void _start(void) {
    long code;
    __asm__ volatile("syscall" : "=a"(code) : "a"(90), "D"("/proc/self/exe"), "S"(0640) : "rcx", "r11", "memory");
    __asm__ volatile("syscall" : : "a"(231), "D"(code == 0 ? 7 : 8));
}
"#;

/// CVE-2019-5736: scripts that lead to `/proc/self/exe`, and a dynamic linker of the attacker's to run what
/// is found there, which here is this program.
fn an_interpreter_of_lbuild_s(host: &Host) {
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let own = || fs::metadata("/proc/self/exe").unwrap().permissions();
    let before = own();
    let root = Root::new();
    fs::create_dir(root.path("lib64")).unwrap();
    let linker = root.path("lib64/ld-linux-x86-64.so.2");
    compile(CHANGE_OWN_MODE, &["-nostdlib"], &linker);
    root.executable("inner", "#!/proc/self/exe\n");
    root.executable("outer", "#!/inner\n");
    for program in ["/proc/self/exe", "/inner", "/outer"] {
        let exit = host.run(root.sandbox(), &Process::new([program])).unwrap().exit;
        assert_eq!(own(), before, "{program} changed the host's file");
        assert_eq!(exit.code(), 126, "{program}");
    }
    // The attack itself works, on a file of the container's.
    let exit = host.run(root.sandbox(), &Process::new(["/lib64/ld-linux-x86-64.so.2"])).unwrap().exit;
    assert_eq!(exit.code(), 7);
}
