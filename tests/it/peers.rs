//! The other tools that read and build images: skopeo, umoci, buildah, podman. Each runs with storage of
//! its own below a test's folder. Debian's runc is the runtime that works on every cgroup layout.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

#[cfg(test)]
use crate::{base, tree::Tree};

/// Runs a peer; its failure is the test's, with all that it said.
pub(crate) fn run(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Unpacks an archive with tar into a new folder, which it gives.
pub(crate) fn untar(archive: &Path, into: &Path) -> PathBuf {
    std::fs::create_dir(into).expect("a folder");
    run(Command::new("tar").arg("-xpf").arg(archive).arg("-C").arg(into));
    into.to_owned()
}

/// Copies an image between transports (`oci:DIR:TAG`, `docker://HOST/NAME:TAG`) of plain HTTP registries.
pub(crate) fn skopeo_copy(from: &str, to: &str) {
    run(Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([from, to]));
}

/// The same for all images of an index.
pub(crate) fn skopeo_copy_all(from: &str, to: &str) {
    run(Command::new("skopeo")
        .args(["copy", "--all", "--quiet", "--insecure-policy"])
        .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([from, to]));
}

/// The manifest or index that a name stands for.
pub(crate) fn skopeo_raw(reference: &str) -> Value {
    let text = run(Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(format!("docker://{reference}")));
    serde_json::from_str(&text).expect("skopeo prints JSON")
}

/// What skopeo says of a pushed image's configuration.
pub(crate) fn skopeo_config(reference: &str) -> Value {
    let text = run(Command::new("skopeo")
        .args(["inspect", "--config", "--raw", "--tls-verify=false"])
        .arg(format!("docker://{reference}")));
    serde_json::from_str(&text).expect("skopeo prints JSON")
}

/// The digest under which a registry has the image.
pub(crate) fn skopeo_digest(reference: &str) -> String {
    let format = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}"];
    run(Command::new("skopeo").args(format).arg(format!("docker://{reference}"))).trim().to_owned()
}

/// Unpacks the image tagged `it` of a layout with umoci.
pub(crate) fn umoci_unpack(layout: &Path, into: &Path) {
    run(Command::new("umoci")
        .args(["raw", "unpack", "--image"])
        .arg(format!("{}:it", layout.display()))
        .arg(into));
}

/// Storage that buildah and podman share. Overlay's own mounts go with it.
pub(crate) struct Containers {
    folder: PathBuf,
    /// Podman refuses a path of more than 50 characters, and a checkout may lie deeper than that.
    run: TempDir,
    driver: &'static str,
}

impl Containers {
    /// `vfs` copies whole trees and mounts nothing: for reading one image.
    pub(crate) fn vfs(folder: &Path) -> Containers {
        Containers::new(folder, "vfs")
    }

    /// `overlay` shares layers: for building.
    pub(crate) fn overlay(folder: &Path) -> Containers {
        Containers::new(folder, "overlay")
    }

    fn new(folder: &Path, driver: &'static str) -> Containers {
        let run = TempDir::with_prefix_in("it-", "/tmp").expect("a folder");
        Containers { folder: folder.to_owned(), run, driver }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.folder.join("storage"));
        command.arg("--runroot").arg(self.run.path());
        command.args(["--storage-driver", self.driver, "--cgroup-manager", "cgroupfs"]);
        command
    }

    fn buildah(&self) -> Command {
        self.command("buildah")
    }

    /// Builds with buildah and writes the image as a layout tagged `it`.
    pub(crate) fn bud(&self, context: &Path, dockerfile: &Path, args: &[&str], layout: &Path) {
        run(self
            .buildah()
            .args([
                "bud",
                "--quiet",
                "--runtime",
                "runc",
                "--network",
                "host",
                "--tls-verify=false",
                "--layers",
                "--identity-label=false",
                "--format",
                "oci",
            ])
            .args(args)
            .args(["-t", "built", "-f"])
            .arg(dockerfile)
            .arg(context));
        run(self.buildah().args(["push", "--quiet", "built"]).arg(format!("oci:{}:it", layout.display())));
    }

    /// Pulls an image with buildah and gives the folder of its tree.
    pub(crate) fn pulled_tree(&self, reference: &str) -> PathBuf {
        let docker = format!("docker://{reference}");
        run(self.buildah().args(["from", "--quiet", "--tls-verify=false", "--name", "it", &docker]));
        PathBuf::from(run(self.buildah().args(["mount", "it"])).trim())
    }

    /// What podman says that the image of one layout changes of another's: `added`, `changed`, `deleted`.
    pub(crate) fn image_diff(&self, from: &Path, to: &Path) -> Value {
        // Podman makes a name of the path, which must then be in lower case.
        let pull = |layout: &Path| {
            let name = layout.file_name().expect("a name").to_str().expect("a text");
            let mut command = self.command("podman");
            command.args(["pull", "--quiet", &format!("oci:{name}:it")]);
            run(command.current_dir(layout.parent().expect("a folder")))
        };
        let (from, to) = (pull(from), pull(to));
        let args = ["image", "diff", "--format", "json", to.trim(), from.trim()];
        serde_json::from_str(&run(self.command("podman").args(args))).expect("podman prints JSON")
    }

    /// Runs podman or buildah and gives what it printed.
    pub(crate) fn run_tool(&self, tool: &str, args: &[&str]) -> String {
        run(self.command(tool).args(args))
    }

    /// Runs podman and gives what it printed.
    pub(crate) fn podman(&self, args: &[&str]) -> String {
        run(self.command("podman").args(args))
    }

    /// Runs an image with podman and gives what it printed.
    pub(crate) fn podman_run(&self, reference: &str, args: &[&str]) -> String {
        let fixed = [
            "run",
            "--rm",
            "--quiet",
            "--network",
            "none",
            "--tls-verify=false",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ];
        run(self.command("podman").args(["--runtime", "runc"]).args(fixed).arg(reference).args(args))
    }
}

impl Drop for Containers {
    /// Overlay storage is a mount upon itself, which outlives buildah.
    fn drop(&mut self) {
        let storage = self.folder.join("storage/overlay");
        rustix::mount::unmount(storage, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

/// The judges are judged first: on a base image, without lbuild.
#[test]
fn the_peers_agree_on_a_base_image() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let layout = folder.path().join("layout");
    skopeo_copy(&format!("docker://{}", base::busybox()), &format!("oci:{}:it", layout.display()));
    umoci_unpack(&layout, &folder.path().join("tree"));
    let unpacked = Tree::of(&folder.path().join("tree"));
    assert!(unpacked.get("/tmp").is_some_and(|line| line.starts_with("dir 1777 0:0")));
    let containers = Containers::vfs(&folder.path().join("containers"));
    let pulled = Tree::of(&containers.pulled_tree(base::busybox()));
    unpacked.assert_same(&pulled, "umoci", "buildah");
    assert_eq!(containers.podman_run(base::busybox(), &["echo", "it runs"]), "it runs\n");
    assert_eq!(skopeo_config(base::busybox())["config"]["Cmd"], serde_json::json!(["sh"]));
}
