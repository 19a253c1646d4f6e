//! Starting a container that does nothing: whole commands with an image in the store, and runtimes with a bundle. And the
//! binary itself.

use std::env;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner::{Io, Launcher, Process, Sandbox, Status};
use serde_json::{Value, json};

use crate::contest::{Contest, Entrant};
use crate::pull::busybox_everywhere;
use crate::site::Site;
use crate::support::measure::{self, quietly};
use crate::writes::busybox_root;

/// The first argument of the bench as a runtime of one container.
const RUNTIME: &str = "--run-a-container";

/// `run --rm --network host busybox true`.
pub(crate) fn run(site: &Site) -> Contest<'_> {
    let reference = &*String::leak(busybox_everywhere(site));
    let args = ["run", "--rm", "--network", "host"];
    let mut entrants = vec![Entrant::new("lbuild", move |_| {
        measure::run(site.lbuild().command(&args).arg(reference).arg("true"))
    })];
    if site.has("podman") {
        entrants.push(Entrant::new("podman run", move |_| {
            let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
            measure::run(site.containers().podman(&args).args(limits).arg(reference).arg("true"))
        }));
    }
    if let Some(dockerd) = site.dockerd() {
        entrants.push(Entrant::new("docker run", move |_| {
            dockerd.measured(dockerd.docker(&args).arg(reference).arg("true"))
        }));
    }
    Contest::of(entrants)
}

/// The runtimes alone: a root directory, and a program that does nothing in it.
pub(crate) fn runtime(site: &Site) -> Contest<'_> {
    let bundle = site.folder.join("bundle");
    busybox_root(&bundle.join("rootfs"));
    let root = bundle.join("rootfs");
    let mut entrants = vec![Entrant::new("lbuild", move |_| {
        measure::run(Command::new(env::current_exe().expect("this program")).arg(RUNTIME).arg(&root))
    })];
    if site.has("crun") || site.has("runc") {
        quietly(
            Command::new("sh").args(["-c", "rm -f config.json; runc spec || crun spec"]).current_dir(&bundle),
        );
        adjust(&bundle.join("config.json"));
    }
    let crun = |manager: &'static str| oci_runtime(site, &bundle, "crun", Some(manager));
    if site.has("crun") {
        entrants.push(crun("--cgroup-manager=disabled"));
        entrants.push(crun("--cgroup-manager=cgroupfs"));
    }
    if site.has("runc") {
        entrants.push(oci_runtime(site, &bundle, "runc", None));
    }
    Contest::of(entrants)
}

/// crun 1.8 refuses control groups of both versions side by side, so it does not get to see the second.
const ONE_VERSION: &str =
    "if mountpoint -q /sys/fs/cgroup/unified; then umount -l /sys/fs/cgroup/unified; fi";

fn oci_runtime<'a>(site: &Site, bundle: &Path, name: &str, option: Option<&'static str>) -> Entrant<'a> {
    let mut run = Command::new(name);
    run.arg("--root").arg(site.folder.join("r")).args(option);
    run.args(["run", "--bundle"]).arg(bundle).arg("lbuild-bench");
    let title = [&[name], option.as_slice()].concat().join(" ");
    Entrant::new(&title, move |_| measure::run_after(ONE_VERSION, &run))
}

/// No terminal, the host's network, and a program that does nothing.
fn adjust(file: &Path) {
    let mut config: Value = serde_json::from_slice(&fs::read(file).expect("a specification")).expect("JSON");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|namespace| namespace["type"] != "network");
    fs::write(file, config.to_string()).expect("the specification");
}

/// The other side of [`runtime`]: unless this process is to run a container, it does nothing.
pub(crate) fn be_a_runtime() {
    let mut args = env::args_os().skip(1);
    if args.next().is_none_or(|first| first != RUNTIME) {
        return;
    }
    let root = PathBuf::from(args.next().expect("a root"));
    let launcher = Launcher::fork().expect("a launcher");
    let root: OwnedFd = runner::detached_tree(&root, false).expect("a root");
    let null =
        || OwnedFd::from(fs::File::options().read(true).write(true).open("/dev/null").expect("/dev/null"));
    let io = Io::Streams { stdin: null(), stdout: null(), stderr: null() };
    let container =
        launcher.start(Sandbox::new(root), &Process::new(["/bin/true"]), io).expect("a container");
    let exit = container.wait().expect("an exit");
    drop(launcher);
    std::process::exit(i32::from(exit.status != Status::Code(0)));
}

/// `lbuild version`; the extra figure is the size of the binary.
pub(crate) fn binary(site: &Site) -> Contest<'_> {
    let program = &site.lbuild().program;
    let size = fs::metadata(program).ok().map(|status| status.len() as f64 / 1e6);
    let mut entrants = vec![Entrant::new("lbuild", move |_| measure::Sample {
        extra: size,
        ..measure::run(Command::new(program).arg("version"))
    })];
    for name in ["crun", "runc", "buildah", "podman"] {
        if site.has(name) {
            entrants.push(Entrant::new(name, move |_| measure::run(Command::new(name).arg("--version"))));
        }
    }
    Contest::of(entrants)
}
