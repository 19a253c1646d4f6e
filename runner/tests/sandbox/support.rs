//! What the trials share: the launcher, root file systems of busybox, containers run to their end.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runner::{Container, Error, Exit, Io, Launcher, Process, Sandbox, detached_tree};

/// One trial.
pub(crate) type Test = fn(&'static Host);

/// A topic's trials by name.
pub(crate) type Tests = &'static [(&'static str, Test)];

/// The machine under the trials.
pub(crate) struct Host {
    pub(crate) launcher: Launcher,
}

/// What a container said and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: Exit,
}

impl Outcome {
    /// What a container that must succeed wrote to its standard output.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert!(self.exit.success(), "{self:?}");
        self.out
    }
}

impl Host {
    pub(crate) fn new() -> Host {
        Host { launcher: Launcher::fork().expect("the trials run as root, from one thread") }
    }

    /// Runs a shell script in a container with Docker's defaults.
    #[track_caller]
    pub(crate) fn sh(&self, root: &Root, script: &str) -> Outcome {
        self.run(root.sandbox(), &shell(script)).unwrap()
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, sandbox: Sandbox, process: &Process) -> Result<Outcome, Error> {
        let (io, streams) = Streams::new();
        let container = self.launcher.start(sandbox, process, io)?;
        Ok(streams.finish(&container))
    }
}

/// A shell that executes a script.
pub(crate) fn shell(script: &str) -> Process {
    Process::new(["/bin/sh", "-c", script])
}

/// The trial's ends of a container's pipes.
pub(crate) struct Streams {
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

impl Streams {
    pub(crate) fn new() -> (Io, Streams) {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ((stdin, feed), (from_out, stdout), (from_err, stderr)) = (pipe(), pipe(), pipe());
        let streams = Streams { stdin: Some(feed.into()), stdout: from_out.into(), stderr: from_err.into() };
        (Io::Streams { stdin, stdout, stderr }, streams)
    }

    pub(crate) fn feed(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Closes the input, reads the outputs to their end, and waits.
    pub(crate) fn finish(mut self, container: &Container) -> Outcome {
        self.stdin = None;
        let mut stderr = self.stderr;
        let errors = std::thread::spawn(move || text(&mut stderr));
        let out = text(&mut self.stdout);
        Outcome { out, err: errors.join().unwrap(), exit: container.wait().unwrap() }
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A root file system: busybox, its applets, a few users, and none of the mount points.
pub(crate) struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    pub(crate) fn new() -> Root {
        let root = Root { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(root.path("bin")).unwrap();
        fs::copy("/bin/busybox", root.path("bin/busybox")).expect("busybox-static is installed");
        let applets = "sh cat ls id echo sleep mount umount unshare mknod chroot kill ps readlink touch mkdir \
                       rm ln hostname tail head grep sort env pwd stty tty stat dd test true false wc seq cut \
                       tr nproc mkfifo find printf chmod mv df sed";
        for applet in applets.split_whitespace() {
            symlink("busybox", root.path("bin").join(applet)).unwrap();
        }
        fs::create_dir(root.path("etc")).unwrap();
        root.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n");
        root.write("etc/group", "root:x:0:\napp:x:1001:\nstaff:x:50:app\n");
        root
    }

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(inside)
    }

    pub(crate) fn write(&self, inside: &str, text: &str) {
        fs::write(self.path(inside), text).unwrap();
    }

    pub(crate) fn executable(&self, inside: &str, text: &str) {
        self.write(inside, text);
        fs::set_permissions(self.path(inside), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn link(&self, inside: &str, target: &str) {
        symlink(target, self.path(inside)).unwrap();
    }

    /// A detached mount of it, as the builder gives.
    pub(crate) fn mount(&self) -> OwnedFd {
        detached_tree(self.directory.path(), false).unwrap()
    }

    /// A sandbox with Docker's defaults round it.
    pub(crate) fn sandbox(&self) -> Sandbox {
        Sandbox::new(self.mount())
    }

    /// Every path in it with its kind, size and, but for links, modification time, in order.
    pub(crate) fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(self.directory.path(), self.directory.path(), &mut lines);
        lines.sort();
        lines
    }
}

fn list(top: &Path, path: &Path, lines: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    let stat = fs::symlink_metadata(path).unwrap();
    lines.push(format!(
        "/{} {:o} {} {}.{}",
        path.strip_prefix(top).unwrap().display(),
        stat.mode(),
        if stat.is_dir() { 0 } else { stat.size() },
        stat.mtime(),
        stat.mtime_nsec(),
    ));
    if stat.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            list(top, &entry.unwrap().path(), lines);
        }
    }
}

/// What a shell script leaves in its directory `tree`, from `$LBUILD_TEST_CACHE` if it has been there before.
#[allow(clippy::disallowed_methods, reason = "where tests keep their downloads is the tests' own matter")]
pub(crate) fn download(name: &str, script: &str) -> PathBuf {
    let cache = std::env::var_os("LBUILD_TEST_CACHE").map_or("/var/cache/lbuild-test".into(), PathBuf::from);
    let ready = cache.join(name);
    if !ready.exists() {
        fs::create_dir_all(&cache).unwrap();
        let unpacked = tempfile::tempdir_in(&cache).unwrap();
        let mut shell = Command::new("sh");
        let shell = shell.args(["-ec", script]).current_dir(&unpacked).stdout(Stdio::null());
        assert!(shell.status().unwrap().success(), "cannot download `{name}`");
        // Another run may have been faster.
        if fs::rename(unpacked.path().join("tree"), &ready).is_err() {
            assert!(ready.exists());
        }
    }
    ready
}
