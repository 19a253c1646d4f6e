//! What a container costs: from `Launcher::start` to the end of `Container::wait`, against fork and exec of
//! the same program on the host.
//!
//! `cargo bench -p runner` prints the medians in milliseconds, one after the other in a burst and from idle:
//! some of what the kernel does for a container is only slow when nothing has happened for a while.
#![allow(clippy::print_stdout, reason = "a bench reports to its user")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use runner::{Io, Launcher, Limits, Network, Process, Sandbox, detached_tree};

const ROUNDS: usize = 60;
/// Longer than the kernel keeps its locks in the fast mode for many writers.
const IDLE: Duration = Duration::from_millis(150);

fn main() {
    let launcher = Launcher::fork().expect("run as root");
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("busybox-static is installed");
    symlink("busybox", root.path().join("bin/true")).unwrap();
    for name in ["proc", "dev", "sys"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    let container = |limits, network| {
        let mut sandbox = Sandbox::new(detached_tree(root.path(), false).unwrap());
        (sandbox.limits, sandbox.network) = (limits, network);
        let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let io = Io::Streams { stdin: null(), stdout: null(), stderr: null() };
        let container = launcher.start(sandbox, &Process::new(["/bin/true"]), io).unwrap();
        assert!(container.wait().unwrap().success());
    };
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        nano_cpus: Some(1_000_000_000),
        pids: Some(100),
        ..Limits::default()
    };
    report("the program itself", || program(&root.path().join("bin/true")));
    report("container", || container(Limits::default(), Network::Host));
    report("container, no network", || container(Limits::default(), Network::None));
    report("container, all limits", || container(limits.clone(), Network::Host));
}

fn program(path: &Path) {
    assert!(Command::new(path).status().unwrap().success());
}

fn report(what: &str, act: impl Fn()) {
    let measure = |pause: Duration| {
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                std::thread::sleep(pause);
                let start = Instant::now();
                act();
                start.elapsed()
            })
            .collect();
        times.sort();
        (times[ROUNDS / 2].as_secs_f64() * 1e3, times[ROUNDS * 9 / 10].as_secs_f64() * 1e3)
    };
    let (burst, idle) = (measure(Duration::ZERO), measure(IDLE));
    println!(
        "{what:24} burst {:5.2} (p90 {:5.2})   idle {:5.2} (p90 {:5.2}) ms",
        burst.0, burst.1, idle.0, idle.1
    );
}
