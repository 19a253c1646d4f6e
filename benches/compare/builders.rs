//! The builders that are compared, each with storage of its own: lbuild, BuildKit in Debian's dockerd, and buildah.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::support::guard;
use crate::support::measure::{self, Sample, quietly};
use crate::tree;

/// One build.
pub(crate) struct Build<'a> {
    pub(crate) context: &'a Path,
    pub(crate) dockerfile: &'a Path,
    /// The image's name; its host is the run's registry.
    pub(crate) reference: &'a str,
    /// `ROUND=` of the build: another number makes `ARG ROUND` and all that follows it new.
    pub(crate) round: usize,
}

/// A builder under measure.
pub(crate) enum Builder {
    Lbuild(Lbuild),
    BuildKit(Dockerd),
    Buildah(Containers),
}

impl Builder {
    /// What the tables call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Builder::Lbuild(_) => "lbuild",
            Builder::BuildKit(_) => "BuildKit",
            Builder::Buildah(_) => "buildah",
        }
    }

    fn command(&self, build: &Build) -> Command {
        let mut command = match self {
            Builder::Lbuild(lbuild) => lbuild.command(&["build", "-q"]),
            Builder::BuildKit(dockerd) => dockerd.docker(&["build", "-q"]),
            Builder::Buildah(containers) => containers.buildah(&[
                "bud",
                "-q",
                "--layers",
                "--jobs",
                "4",
                "--runtime",
                "runc",
                "--tls-verify=false",
            ]),
        };
        command.args(["--network", "host", "-t", build.reference]);
        command
            .args(["--build-arg", &format!("ROUND={}", build.round), "-f"])
            .arg(build.dockerfile)
            .arg(build.context);
        command
    }

    /// Builds.
    pub(crate) fn build(&self, build: &Build) -> Sample {
        self.measured(&self.command(build))
    }

    /// Builds with the arguments, which no peer understands alike.
    pub(crate) fn build_with(&self, build: &Build, args: &[&str]) -> Sample {
        let mut command = self.command(build);
        command.args(args);
        self.measured(&command)
    }

    /// Sends an image that was built to the registry of its name.
    pub(crate) fn push(&self, reference: &str) -> Sample {
        self.measured(&match self {
            Builder::Lbuild(lbuild) => lbuild.command(&["push", "-q", reference]),
            Builder::BuildKit(dockerd) => dockerd.docker(&["push", "-q", reference]),
            Builder::Buildah(containers) => {
                containers.buildah(&["push", "-q", "--tls-verify=false", reference])
            }
        })
    }

    fn measured(&self, command: &Command) -> Sample {
        match self {
            // Its client is small: the work is the daemon's.
            Builder::BuildKit(dockerd) => dockerd.measured(command),
            _ => measure::run(command),
        }
    }

    /// Copies an image out of the store to a folder with its manifest and its blobs.
    pub(crate) fn take_out(&self, reference: &str, folder: &Path) {
        match self {
            Builder::Lbuild(lbuild) => {
                tree::skopeo(&format!("oci:{}:{reference}", lbuild.root.display()), folder);
            }
            Builder::BuildKit(dockerd) => {
                let archive = dockerd.folder.join("saved");
                quietly(dockerd.docker(&["save", reference, "-o"]).arg(&archive));
                tree::skopeo(&format!("docker-archive:{}", archive.display()), folder);
                fs::remove_file(archive).expect("the archive");
            }
            Builder::Buildah(containers) => {
                quietly(&mut containers.buildah(&[
                    "push",
                    "-q",
                    reference,
                    &format!("dir:{}", folder.display()),
                ]));
            }
        }
    }

    /// Frees what the rounds left in the store.
    pub(crate) fn forget(&self) {
        match self {
            Builder::Lbuild(lbuild) => lbuild.forget(),
            Builder::BuildKit(dockerd) => dockerd.forget(),
            Builder::Buildah(containers) => containers.forget(),
        }
    }
}

/// lbuild and its root.
pub(crate) struct Lbuild {
    pub(crate) program: PathBuf,
    pub(crate) root: PathBuf,
}

impl Lbuild {
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(args[0]).arg("--root").arg(&self.root).args(&args[1..]);
        command
    }

    pub(crate) fn forget(&self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

/// Docker's daemon: no bridge, no firewall rules, its own socket and data.
pub(crate) struct Dockerd {
    folder: PathBuf,
    daemon: Child,
    /// The client that Debian installs; another may come first in the path and want more than the daemon has.
    client: &'static str,
}

impl Dockerd {
    /// Starts one; it answers when this returns.
    pub(crate) fn start(folder: &Path) -> Dockerd {
        fs::create_dir_all(folder).expect("a folder");
        let socket = folder.join("socket");
        let log = File::create(folder.join("log")).expect("a log");
        let mut daemon = guard::mortal(Path::new("dockerd"))
            .args(["--iptables=false", "--bridge=none", "--data-root"])
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("setpriv");
        while UnixStream::connect(&socket).is_err() {
            let ended = daemon.try_wait().expect("its state").is_some();
            assert!(!ended, "dockerd ended: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
            thread::sleep(Duration::from_millis(50));
        }
        Dockerd { folder: folder.to_owned(), daemon, client: "/usr/bin/docker" }
    }

    pub(crate) fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.client);
        command.env("DOCKER_BUILDKIT", "1").env("HOME", &self.folder);
        command.arg("-H").arg(format!("unix://{}", self.folder.join("socket").display())).args(args);
        command
    }

    /// Runs a command of the client, with the peak of the daemon.
    pub(crate) fn measured(&self, command: &Command) -> Sample {
        measure::forget_peak(self.daemon.id());
        let sample = measure::run(command);
        Sample { peak_kb: Some(measure::peak_kb(self.daemon.id())), ..sample }
    }

    pub(crate) fn forget(&self) {
        quietly(&mut self.docker(&["system", "prune", "-af"]));
        quietly(&mut self.docker(&["builder", "prune", "-af"]));
    }
}

impl Drop for Dockerd {
    /// It unmounts what it mounted, and ends the containerd that it started.
    fn drop(&mut self) {
        rustix::process::kill_process(Pid::from_child(&self.daemon), Signal::TERM).ok();
        self.daemon.wait().ok();
    }
}

/// The storage that buildah and podman share.
pub(crate) struct Containers {
    pub(crate) folder: PathBuf,
}

impl Containers {
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.folder.join("storage")).arg("--runroot").arg(self.folder.join("run"));
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]).args(args);
        command
    }

    pub(crate) fn buildah(&self, args: &[&str]) -> Command {
        self.command("buildah", args)
    }

    /// Debian's runc is the runtime that works on every layout of control groups.
    pub(crate) fn podman(&self, args: &[&str]) -> Command {
        let mut command = self.command("podman", &["--runtime", "runc"]);
        command.args(args);
        command
    }

    pub(crate) fn forget(&self) {
        if self.folder.join("storage").exists() {
            quietly(&mut self.buildah(&["rm", "--all"]));
            quietly(&mut self.buildah(&["rmi", "--all", "--force"]));
        }
    }
}
