//! A test's own world: a store, a build context and a home in one folder, and the program run in it.
//!
//! ```text
//! let world = World::new();
//! world.file("a", "text");
//! let image = world.build("FROM scratch\nCOPY a /a").arg("--label=k=v").image();
//! ```
//! When a world goes, it looks for what lbuild left: mounts, temporary files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::layout::Image;
use crate::peers;
use crate::tree::Tree;

/// The program under test: this build's, or the one that `LBUILD_TEST_PROGRAM` names.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("LBUILD_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_lbuild").into(), PathBuf::from)
}

/// One test's folder: `context/`, `root/` (the store), `home/`, `tmp/` and what the test adds.
pub(crate) struct World {
    folder: TempDir,
    outputs: AtomicUsize,
}

impl World {
    pub(crate) fn new() -> World {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let folder = TempDir::with_prefix_in("it-", env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        for name in ["context", "home", "tmp"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        World { folder, outputs: AtomicUsize::new(0) }
    }

    /// A path in the test's folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Writes a file of the build context, and the folders above it.
    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &World {
        let path = self.path("context").join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folders above");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("its mode");
        self
    }

    /// The program in this world, without arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(program());
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("LBUILD_ROOT", self.path("root"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn lbuild(&self, args: &[&str]) -> Output {
        Output::of(self.command().args(args))
    }

    /// Runs the program to its end, which must be a good one; gives the JSON that it prints.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.lbuild(args).success();
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", output.stdout))
    }

    /// A build of `dockerfile` with this world's context; nothing runs before its outcome is asked for.
    pub(crate) fn build(&self, dockerfile: &str) -> Build<'_> {
        fs::write(self.path("Dockerfile"), dockerfile).expect("a Dockerfile");
        let mut command = self.command();
        command.args(["build", "-f", "Dockerfile"]);
        Build { world: self, command }
    }

    /// A folder for the next output.
    fn next(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}-{}", self.outputs.fetch_add(1, Ordering::Relaxed)))
    }

    /// An image as umoci unpacks it.
    pub(crate) fn unpack(&self, image: &Image) -> Rootfs {
        let (view, folder) = (self.next("view"), self.next("rootfs"));
        image.tagged(&view);
        peers::umoci_unpack(&view, &folder);
        Rootfs { tree: Tree::of(&folder), folder }
    }

    fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
        let here = self.folder.path().to_str().expect("a path in UTF-8");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.starts_with(here)).map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mounts = self.mounts();
        for point in mounts.iter().rev() {
            rustix::mount::unmount(point.as_str(), rustix::mount::UnmountFlags::DETACH).ok();
        }
        if std::thread::panicking() {
            return;
        }
        assert!(mounts.is_empty(), "mounts were left behind: {mounts:?}");
        let left: Vec<_> = fs::read_dir(self.path("tmp"))
            .expect("tmp")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert!(left.is_empty(), "temporary files were left behind: {left:?}");
    }
}

/// A build that has not run.
pub(crate) struct Build<'w> {
    world: &'w World,
    command: Command,
}

impl Build<'_> {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs it, whatever comes of it.
    pub(crate) fn output(mut self) -> Output {
        Output::of(self.command.arg("context"))
    }

    /// It must succeed.
    pub(crate) fn success(self) -> Output {
        self.output().success()
    }

    /// It must fail, with exit code 1: the build's own fault.
    pub(crate) fn failure(self) -> Output {
        self.output().failure(1)
    }

    /// It must succeed; gives the image it made.
    pub(crate) fn image(self) -> Image {
        self.image_and_output().0
    }

    /// As `image`, with what the program said.
    pub(crate) fn image_and_output(self) -> (Image, Output) {
        let layout = self.world.next("layout");
        fs::create_dir(&layout).expect("a folder");
        let output = self.arg("-o").arg(format!("type=oci,dest={}/", layout.display())).success();
        (Image::open(&layout), output)
    }

    /// It must succeed; gives the image unpacked.
    pub(crate) fn rootfs(self) -> Rootfs {
        let world = self.world;
        world.unpack(&self.image())
    }

    /// It must succeed; gives the text of `/out`, for steps that write down what they see.
    pub(crate) fn out(self) -> String {
        self.rootfs().text("/out")
    }
}

/// An unpacked image.
pub(crate) struct Rootfs {
    pub(crate) folder: PathBuf,
    pub(crate) tree: Tree,
}

impl Rootfs {
    /// What stands at `path`: `file 0644 0:0 …`, or `nothing`.
    pub(crate) fn get(&self, path: &str) -> &str {
        self.tree.get(path).unwrap_or("nothing")
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.tree.get(path).is_some()
    }

    pub(crate) fn text(&self, path: &str) -> String {
        let path = self.folder.join(path.trim_start_matches('/'));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// `path` must begin with each of these, in `get`'s words.
    #[track_caller]
    pub(crate) fn expect(&self, expected: &[(&str, &str)]) {
        for (path, line) in expected {
            assert!(
                self.get(path).starts_with(line),
                "{path}: expected `{line}`, found `{}`",
                self.get(path)
            );
        }
    }
}

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code, or 128 and the signal that ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn of(command: &mut Command) -> Output {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
        Output {
            code: code.expect("it ended"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn success(self) -> Output {
        self.failure(0)
    }

    /// The exit code must be this one.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> Output {
        assert_eq!(self.code, code, "the exit code; stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard error must hold the text.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Output {
        assert!(self.stderr.contains(text), "expected `{text}` in:\n{}", self.stderr);
        self
    }

    /// Standard output, without the last line's end.
    pub(crate) fn line(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }
}

/// Sets the mode of a file that stands.
pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a mode");
}
