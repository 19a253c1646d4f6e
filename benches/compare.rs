//! lbuild beside buildah and Docker's BuildKit, in one run on one machine; `make bench` runs it and it
//! writes benches/RESULTS.md. Seconds move from machine to machine, so each figure is also a ratio.
//!
//! Workloads: steps that do nothing, a build that is wholly cached, one layer of a gigabyte. The base is a
//! static busybox on `scratch`, so that nobody pulls. Peers that are not installed are left out.
#![allow(clippy::print_stdout, reason = "a bench tells its figures")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const STEPS: usize = 20;
const ROUNDS: usize = 7;

/// A builder under measure, with a store of its own.
enum Builder {
    Lbuild { root: PathBuf },
    Buildah { folder: PathBuf },
    BuildKit { socket: PathBuf, daemon: Child },
}

impl Builder {
    fn name(&self) -> &'static str {
        match self {
            Builder::Lbuild { .. } => "lbuild",
            Builder::Buildah { .. } => "buildah --layers, runc",
            Builder::BuildKit { .. } => "BuildKit in dockerd",
        }
    }

    fn build(&self, context: &Path, dockerfile: &Path, round: usize) -> Command {
        let mut command = match self {
            Builder::Lbuild { root } => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_lbuild"));
                command.arg("--root").arg(root).args(["build", "-q"]);
                command
            }
            Builder::Buildah { folder } => {
                let mut command = Command::new("buildah");
                command.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("run"));
                command.args(["--storage-driver", "overlay", "bud", "-q", "--layers", "--runtime", "runc"]);
                command
            }
            Builder::BuildKit { socket, .. } => {
                let mut command = Command::new("/usr/bin/docker");
                command
                    .env("DOCKER_BUILDKIT", "1")
                    .arg("-H")
                    .arg(format!("unix://{}", socket.display()))
                    .args(["build", "-q"]);
                command
            }
        };
        command
            .args(["--network", "host", "--build-arg", &format!("ROUND={round}"), "-f"])
            .arg(dockerfile)
            .arg(context);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Seconds of one build.
    fn seconds(&self, context: &Path, dockerfile: &Path, round: usize) -> f64 {
        let mut command = self.build(context, dockerfile, round);
        let start = Instant::now();
        let output = command.output().expect("the builder runs");
        let seconds = start.elapsed().as_secs_f64();
        assert!(output.status.success(), "{}: {}", self.name(), String::from_utf8_lossy(&output.stderr));
        seconds
    }

    /// Kilobytes that the largest process of the builder held in a build.
    fn peak_kb(&self, context: &Path, dockerfile: &Path) -> u64 {
        let report = context.join("peak");
        let build = self.build(context, dockerfile, 0);
        let mut timed = Command::new("/usr/bin/time");
        timed.args(["-f", "%M", "-o"]).arg(&report).arg(build.get_program()).args(build.get_args());
        for (key, value) in build.get_envs() {
            timed.env(key, value.expect("a value"));
        }
        let output = timed.stdin(Stdio::null()).output().expect("/usr/bin/time");
        assert!(output.status.success(), "{}: {}", self.name(), String::from_utf8_lossy(&output.stderr));
        let own =
            fs::read_to_string(&report).ok().and_then(|text| text.trim().parse().ok()).expect("a number");
        match self {
            // Its client is small: the work is the daemon's.
            Builder::BuildKit { daemon, .. } => high_water_kb(daemon.id()),
            _ => own,
        }
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        match self {
            Builder::BuildKit { daemon, .. } => {
                Command::new("kill").arg(daemon.id().to_string()).status().ok();
                daemon.wait().ok();
            }
            Builder::Buildah { folder } => {
                Command::new("umount")
                    .arg(folder.join("storage/overlay"))
                    .stderr(Stdio::null())
                    .status()
                    .ok();
            }
            Builder::Lbuild { .. } => {}
        }
    }
}

fn high_water_kb(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the daemon");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

fn builders(folder: &Path) -> Vec<Builder> {
    let mut builders = vec![Builder::Lbuild { root: folder.join("lbuild") }];
    if installed("buildah") && installed("runc") {
        builders.push(Builder::Buildah { folder: folder.join("buildah") });
    }
    if installed("dockerd") {
        builders.push(dockerd(&folder.join("docker")));
    }
    builders
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A daemon of our own: no bridge, no firewall rules, its own socket and data.
fn dockerd(folder: &Path) -> Builder {
    fs::create_dir_all(folder).expect("a folder");
    let socket = folder.join("socket");
    let log = fs::File::create(folder.join("log")).expect("a log");
    let mut daemon = Command::new("dockerd")
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
        .expect("dockerd");
    while UnixStream::connect(&socket).is_err() {
        assert!(
            daemon.try_wait().expect("its state").is_none(),
            "dockerd ended; see {}",
            folder.join("log").display()
        );
        thread::sleep(Duration::from_millis(50));
    }
    Builder::BuildKit { socket, daemon }
}

const BASE: &str =
    "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

fn context(folder: &Path, name: &str, dockerfile: &str) -> (PathBuf, PathBuf) {
    let context = folder.join(name);
    fs::create_dir_all(&context).expect("a folder");
    fs::copy("/bin/busybox", context.join("busybox")).expect("busybox-static is installed");
    let file = folder.join(format!("{name}.Dockerfile"));
    fs::write(&file, format!("{BASE}{dockerfile}")).expect("a Dockerfile");
    (context, file)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds that one more step which does nothing costs.
fn empty_step(folder: &Path, builder: &Builder) -> f64 {
    let steps = |count: usize| "RUN [\"/bin/true\"]\n".repeat(count);
    let few = context(folder, "few", &format!("ARG ROUND\n{}", steps(1)));
    let many = context(folder, "many", &format!("ARG ROUND\n{}", steps(1 + STEPS)));
    // Rounds of few and many alternate and differ, so that no round is cached.
    let rounds = (0..=ROUNDS).map(|round| {
        let few = builder.seconds(&few.0, &few.1, 2 * round);
        builder.seconds(&many.0, &many.1, 2 * round + 1) - few
    });
    median(rounds.skip(1).collect()) * 1000.0 / STEPS as f64
}

/// Milliseconds of a ten-step build of which all is cached.
fn cached(folder: &Path, builder: &Builder) -> f64 {
    let (context, file) = context(
        folder,
        "cached",
        "WORKDIR /app\nENV A=b\nCOPY files /app/files\nRUN echo 1 > one\nRUN echo 2 > two\nCOPY busybox /copy\nRUN echo 3 > three\nCMD [\"x\"]\n",
    );
    for number in 0..1000 {
        let sub = context.join(format!("files/{}", number / 100));
        fs::create_dir_all(&sub).expect("a folder");
        fs::write(sub.join(number.to_string()), format!("{number:04096}")).expect("a file");
    }
    builder.seconds(&context, &file, 0);
    median((0..ROUNDS).map(|_| builder.seconds(&context, &file, 0)).collect()) * 1000.0
}

/// Megabytes that the builder's largest process held while it made a layer of 1 GB.
fn memory(folder: &Path, builder: &Builder) -> f64 {
    let command =
        "RUN dd if=/dev/urandom of=/random bs=1M count=512 && dd if=/dev/zero of=/zero bs=1M count=512\n";
    let (context, file) = context(folder, "memory", command);
    builder.peak_kb(&context, &file) as f64 / 1024.0
}

type Measure = fn(&Path, &Builder) -> f64;

const MEASURES: [(&str, &str, Measure); 3] = [
    ("one more `RUN` that does nothing", "ms", empty_step),
    ("ten steps, 1,000 files, all cached", "ms", cached),
    ("peak memory for a layer of 1 GB", "MB", memory),
];

fn main() {
    let folder = TempDir::with_prefix("lbuild-bench-").expect("a folder");
    let mut builders = builders(folder.path());
    let mut table = String::from("| | | ");
    let names: Vec<&str> = builders.iter().map(Builder::name).collect();
    writeln!(table, "{} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len())).expect("a string");
    for (what, unit, measure) in MEASURES {
        let figures: Vec<f64> = builders.iter().map(|builder| measure(folder.path(), builder)).collect();
        let cells = figures.iter().map(|figure| format!("{figure:.1} ({:.1}×)", figure / figures[0]));
        let line = format!("| {what} | {unit} | {} |", cells.collect::<Vec<_>>().join(" | "));
        println!("{line}");
        writeln!(table, "{line}").expect("a string");
    }
    builders.clear();
    let text = format!(
        "# Measured\n\nBy `make bench`, medians of {ROUNDS} rounds; in brackets the ratio to lbuild in the same run on the same machine.\n\n{table}"
    );
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md"), text).expect("the results");
}
