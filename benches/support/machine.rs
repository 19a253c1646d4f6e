//! Where the figures are from: the processor, the memory, the kernel, the file system, and the peers' versions.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

/// One line about this machine, with the file system of `folder`.
pub(crate) fn description(folder: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let memory_kb: f64 =
        field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cpu = field(&read("/proc/cpuinfo"), "model name");
    let sha = if read("/proc/cpuinfo").contains(" sha_ni") {
        "with SHA instructions"
    } else {
        "without SHA instructions"
    };
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cpu} {sha}, {cores} cores, {:.0} GB of memory, Linux {}, {}",
        memory_kb / 1e6,
        kernel.trim(),
        file_system(folder)
    )
}

/// The file system that `folder` is on.
pub(crate) fn file_system(folder: &Path) -> String {
    let text = printed(Command::new("df").arg("--output=fstype").arg(folder));
    text.lines().last().unwrap_or("an unknown file system").to_owned()
}

/// The peers that this machine has, and those that it lacks, a line each.
pub(crate) fn peers(packages: &[&str]) -> String {
    let (mut there, mut absent) = (String::new(), Vec::new());
    for package in packages {
        let version =
            printed(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}${Version}", package]));
        match version.strip_prefix("ii ") {
            Some(version) => write!(there, "{}{package} {version}", if there.is_empty() { "" } else { ", " })
                .expect("a string"),
            None => absent.push(*package),
        }
    }
    if absent.is_empty() { there } else { format!("{there}; absent: {}", absent.join(", ")) }
}

fn printed(command: &mut Command) -> String {
    command
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
