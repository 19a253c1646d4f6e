//! Limits, what the cgroups tell, and that nothing survives lbuild or its launcher.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use runner::{Error, Launcher, Limit, Limits, Sandbox, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::support::{Host, Root, Streams, Tests, shell};

pub(crate) const TESTS: Tests = &[
    ("memory", memory),
    ("processes", processes),
    ("processor", processor),
    ("limits_are_visible_inside", limits_are_visible_inside),
    ("processors_shares_and_swap", processors_shares_and_swap),
    ("limits_that_cannot_be_meant", limits_that_cannot_be_meant),
    ("a_named_cgroup", a_named_cgroup),
    ("a_named_cgroup_limits_what_is_below", a_named_cgroup_limits_what_is_below),
    ("named_cgroups_that_cannot_be", named_cgroups_that_cannot_be),
    ("only_its_own_hierarchies_are_visible", only_its_own_hierarchies_are_visible),
    ("the_launcher_keeps_no_cgroup_open", the_launcher_keeps_no_cgroup_open),
    ("the_launcher_survives_signals", the_launcher_survives_signals),
    ("usage", usage),
    ("cgroups_are_removed", cgroups_are_removed),
    ("killing_lbuild_kills_everything", killing_lbuild_kills_everything),
    ("killing_the_launcher_kills_everything", killing_the_launcher_kills_everything),
    ("a_threaded_process_cannot_fork_a_launcher", a_threaded_process_cannot_fork_a_launcher),
];

const MIB: u64 = 1 << 20;

fn limited(root: &Root, limits: &Limits) -> Sandbox {
    let mut sandbox = root.sandbox();
    sandbox.limits = limits.clone();
    sandbox
}

fn memory(host: &Host) {
    let root = Root::new();
    let limits = Limits { memory_bytes: Some(16 * MIB), ..Limits::default() };
    // `tail` keeps the only line there is, which never ends.
    let hungry = runner::Process::new(["tail", "/dev/zero"]);
    let exit = host.run(limited(&root, &limits), &hungry).unwrap().exit;
    assert_eq!((exit.status, exit.oom_limit_bytes), (Status::Signal(9), Some(16 * MIB)));
    assert!(exit.usage.peak_memory_bytes.is_none_or(|peak| peak > 8 * MIB && peak <= 16 * MIB), "{exit:?}");

    let exit = host.run(limited(&root, &limits), &shell("true")).unwrap().exit;
    assert_eq!((exit.status, exit.oom_limit_bytes), (Status::Code(0), None));
    // Killed, but not for its memory.
    let (io, streams) = Streams::new();
    let container = host.launcher.start(limited(&root, &limits), &shell("sleep 1000"), io).unwrap();
    container.kill();
    assert_eq!(streams.finish(&container).exit.oom_limit_bytes, None);
}

fn processes(host: &Host) {
    let root = Root::new();
    let limits = Limits { pids: Some(5), ..Limits::default() };
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo never";
    let outcome = host.run(limited(&root, &limits), &shell(script)).unwrap();
    assert!(!outcome.exit.success() && outcome.err.contains("can't fork"), "{outcome:?}");
    assert_eq!(host.run(limited(&root, &limits), &shell("echo ok | cat")).unwrap().success(), "ok\n");
}

fn processor(host: &Host) {
    let root = Root::new();
    let limits = Limits { nano_cpus: Some(100_000_000), ..Limits::default() };
    let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; \
                  cat /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu*/cpu.stat 2>/dev/null | grep nr_throttled";
    let out = host.run(limited(&root, &limits), &shell(script)).unwrap().success();
    let throttled: u64 = out.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(throttled > 0, "{out}");
}

fn limits_are_visible_inside(host: &Host) {
    let root = Root::new();
    let limits = Limits {
        memory_bytes: Some(64 * MIB),
        nano_cpus: Some(1_500_000_000),
        pids: Some(77),
        ..Limits::default()
    };
    let script = "cd /sys/fs/cgroup; \
                  cat memory.max memory/memory.limit_in_bytes 2>/dev/null; \
                  cat pids.max pids/pids.max 2>/dev/null; \
                  cat cpu.max cpu*/cpu.cfs_quota_us 2>/dev/null | cut -d' ' -f1; \
                  touch x 2>/dev/null || echo read-only; \
                  grep -v : /proc/self/cgroup; cut -d: -f3 /proc/self/cgroup | sort | grep -v /.. | head -n 1";
    let out = host.run(limited(&root, &limits), &shell(script)).unwrap().out;
    assert_eq!(out, format!("{}\n77\n150000\nread-only\n/\n", 64 * MIB));
}

/// Whether version 2 is mounted alone.
fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn processors_shares_and_swap(host: &Host) {
    let root = Root::new();
    let list = |file: &str| {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(file)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    // The last that this machine has: the first is where everything is anyway.
    let last = |list: &str| list.rsplit([',', '-']).next().unwrap().to_owned();
    let (cpu, node) = (last(&list("Cpus_allowed_list")), last(&list("Mems_allowed_list")));
    let limits = Limits {
        memory_bytes: Some(32 * MIB),
        memory_swap_bytes: Some(48 << 20),
        cpu_shares: Some(512),
        cpu_period_micros: Some(50_000),
        cpu_quota_micros: Some(25_000),
        cpuset_cpus: Some(cpu.clone()),
        cpuset_mems: Some(node.clone()),
        ..Limits::default()
    };
    let script = "grep _allowed_list /proc/self/status | cut -f2; cd /sys/fs/cgroup; \
                  for file in cpu.weight cpu.max memory.swap.max cpu*/cpu.shares cpu*/cpu.cfs_period_us \
                  cpu*/cpu.cfs_quota_us memory/memory.memsw.limit_in_bytes; \
                  do test -e $file && cat $file; done; true";
    let out = host.run(limited(&root, &limits), &shell(script)).unwrap().success();
    let numbers = match is_v2() {
        true => format!("59\n25000 50000\n{}\n", 16 * MIB),
        false => format!("512\n50000\n25000\n{}\n", 48 * MIB),
    };
    assert_eq!(out, format!("{cpu}\n{node}\n{numbers}"));

    let limits = Limits { memory_bytes: Some(32 * MIB), memory_swap_bytes: Some(-1), ..Limits::default() };
    let script = "cd /sys/fs/cgroup; cat memory.swap.max memory/memory.memsw.limit_in_bytes 2>/dev/null";
    let out = host.run(limited(&root, &limits), &shell(script)).unwrap().out;
    // What version 1 says for no limit is the largest number of whole pages.
    assert!(out == "max\n" || out.trim().parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60), "{out}");
}

fn limits_that_cannot_be_meant(host: &Host) {
    let root = Root::new();
    let before = root.listing();
    let limits = Limits { cpuset_cpus: Some("0-".into()), ..Limits::default() };
    let error = host.run(limited(&root, &limits), &shell("true")).unwrap_err();
    assert!(matches!(error, Error::InvalidLimit { .. }), "{error}");
    // Nothing is wrong with the text, but the kernel has no such processor.
    let limits = Limits { cpuset_cpus: Some("60000".into()), ..Limits::default() };
    let error = host.run(limited(&root, &limits), &shell("true")).unwrap_err();
    assert!(matches!(error, Error::Limit { limit: Limit::Processors, .. }), "{error}");
    assert_eq!(root.listing(), before);
}

/// A name that nobody else uses at the same time.
fn unused(what: &str) -> PathBuf {
    format!("lbuild-trial-{what}-{}", std::process::id()).into()
}

fn a_named_cgroup(host: &Host) {
    let root = Root::new();
    let name = unused("named");
    let start = |limits: &Limits| {
        let mut sandbox = limited(&root, limits);
        sandbox.cgroup_parent = Some(Path::new("/").join(&name).join("inner"));
        let (io, mut streams) = Streams::new();
        let process = shell("echo ready; read line");
        let container = host.launcher.start(sandbox, &process, io).unwrap();
        // The container enters its cgroups by itself.
        let mut ready = String::new();
        BufReader::new(&mut streams.stdout).read_line(&mut ready).unwrap();
        (container, streams)
    };
    let limits = Limits { memory_bytes: Some(64 * MIB), pids: Some(50), ..Limits::default() };
    let (first, second) = (start(&limits), start(&Limits::default()));
    let expected = format!("/{}/inner/lbuild-", name.display());
    for (container, _) in [&first, &second] {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("name=")).collect();
        // Every hierarchy's, below its top: we may be in a cgroup of it ourselves.
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(&expected)), "{text}");
    }
    let name = name.to_str().unwrap();
    assert!(!directories(name).is_empty());
    first.1.finish(&first.0);
    assert!(!directories(name).is_empty(), "the other is still in it");
    second.1.finish(&second.0);
    until_removed(host, name);
}

fn a_named_cgroup_limits_what_is_below(host: &Host) {
    let root = Root::new();
    let name = unused("limiting");
    let top = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    if is_v2() {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+pids").unwrap();
    }
    let directory = Path::new(top).join(&name);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("pids.max"), "5").unwrap();
    let mut sandbox = root.sandbox();
    sandbox.cgroup_parent = Some(name.clone());
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo never";
    let outcome = host.run(sandbox, &shell(script)).unwrap();
    assert!(!outcome.exit.success() && outcome.err.contains("can't fork"), "{outcome:?}");
    // It was there before, so it stays, and is empty as soon as the kernel is done with it.
    for round in 0.. {
        match fs::remove_dir(&directory) {
            Ok(()) => break,
            Err(error) => assert!(round < 500 && error.raw_os_error() == Some(16), "{error}"),
        }
        host.sh(&root, "true").success();
    }
    until_removed(host, name.to_str().unwrap());
}

fn named_cgroups_that_cannot_be(host: &Host) {
    let root = Root::new();
    for parent in ["..", "a/../../b", "/../x"] {
        let mut sandbox = root.sandbox();
        sandbox.cgroup_parent = Some(parent.into());
        let error = host.run(sandbox, &shell("true")).unwrap_err();
        let text = format!("expected a cgroup's path without `..`, found `{parent}`");
        assert_eq!(error.to_string(), text);
    }
    // The kernel takes no line breaks.
    let name = unused("odd");
    let parent = name.join("two\nlines");
    let mut sandbox = root.sandbox();
    sandbox.cgroup_parent = Some(parent.clone());
    let error = host.run(sandbox, &shell("true")).unwrap_err();
    assert!(matches!(&error, Error::CgroupParent { parent: found, .. } if *found == parent), "{error}");
    assert_eq!(directories(name.to_str().unwrap()), Vec::<PathBuf>::new());
}

/// In a hierarchy that it has no cgroup of its own in, a container would see lbuild's with all below.
fn only_its_own_hierarchies_are_visible(host: &Host) {
    let root = Root::new();
    let script = "cd /sys/fs/cgroup; find . -mindepth 1 -type d; read line";
    for limits in [Limits::default(), Limits { pids: Some(50), ..Limits::default() }] {
        let (io, mut streams) = Streams::new();
        let container = host.launcher.start(limited(&root, &limits), &shell(script), io).unwrap();
        // One `id:controllers:path` a line.
        let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
        let own = text.lines().filter(|line| line.contains("/lbuild-"));
        let mut expected: Vec<String> = own
            .map(|line| match line.split(':').nth(1).unwrap() {
                "" => "./unified".to_owned(),
                controllers => format!("./{controllers}"),
            })
            .collect();
        if text.lines().count() == 1 {
            // Version 2 alone is mounted in the place itself.
            expected.clear();
        }
        streams.feed("\n");
        let outcome = streams.finish(&container).success();
        let mut visible: Vec<&str> = outcome.lines().collect();
        expected.sort();
        visible.sort_unstable();
        assert_eq!(visible, expected, "{text}");
    }
}

/// The process id of the trials' launcher, by its name.
fn launcher() -> Pid {
    let own = std::process::id();
    let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
    let named = |child: &&str| fs::read_to_string(format!("/proc/{child}/comm")).unwrap() == "launcher\n";
    pid(children.split_whitespace().find(named).expect("the launcher bears its name"))
}

fn the_launcher_keeps_no_cgroup_open(host: &Host) {
    let root = Root::new();
    let limits = Limits { memory_bytes: Some(64 * MIB), pids: Some(50), ..Limits::default() };
    let (io, streams) = Streams::new();
    let container = host.launcher.start(limited(&root, &limits), &shell("read line"), io).unwrap();
    let name = cgroup_of(container.pid());
    // Other trials' containers may come and go meanwhile.
    for entry in fs::read_dir(format!("/proc/{}/fd", launcher().as_raw_pid())).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        assert!(!target.to_string_lossy().contains(&name), "{}", target.display());
    }
    assert!(streams.finish(&container).exit.code() == 1);
}

fn the_launcher_survives_signals(host: &Host) {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::PIPE] {
        kill_process(launcher(), signal).unwrap();
    }
    let root = Root::new();
    // The container gets none of that: its own signals end it.
    for signal in ["TERM", "INT", "HUP", "PIPE"] {
        let outcome = host.sh(&root, &format!("sh -c 'kill -{signal} $$; echo survived'; true"));
        assert_eq!(outcome.success(), "", "{signal}");
    }
}

fn usage(host: &Host) {
    let root = Root::new();
    let idle = host.sh(&root, "true").exit.usage;
    let busy = host.sh(&root, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").exit.usage;
    assert!(busy.cpu > idle.cpu && !idle.cpu.is_zero(), "{idle:?} {busy:?}");
}

/// Every cgroup directory of this machine with this name.
fn directories(name: &str) -> Vec<PathBuf> {
    fn search(directory: &Path, name: &str, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name() == name {
                found.push(entry.path());
            }
            search(&entry.path(), name, found);
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}

/// The name of a container's cgroups, by the kernel's word.
fn cgroup_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut names = text.lines().filter_map(|line| line.rsplit('/').next());
    names.find(|name| name.starts_with("lbuild-")).expect("the container has a cgroup").to_owned()
}

fn cgroups_are_removed(host: &Host) {
    let root = Root::new();
    let limits = Limits {
        memory_bytes: Some(64 * MIB),
        nano_cpus: Some(1_000_000_000),
        pids: Some(50),
        ..Limits::default()
    };
    let (io, streams) = Streams::new();
    let script = "for i in 1 2 3 4 5; do sleep 1000 & done; read line";
    let container = host.launcher.start(limited(&root, &limits), &shell(script), io).unwrap();
    let name = cgroup_of(container.pid());
    assert!(!directories(&name).is_empty());
    streams.finish(&container);
    until_removed(host, &name);
}

/// The launcher may still be told that a cgroup is busy; it takes the next job after another try.
fn until_removed(host: &Host, name: &str) {
    let root = Root::new();
    for _ in 0..500 {
        if directories(name).is_empty() {
            return;
        }
        host.sh(&root, "true").success();
    }
    panic!("left: {:?}", directories(name));
}

/// What this program is when a trial starts it anew.
pub(crate) enum Role {
    /// An lbuild with a container, waiting to be killed.
    Victim,
    /// An lbuild whose launcher is killed.
    Orphan,
}

impl Role {
    const VICTIM: &str = "be-the-victim";
    const ORPHAN: &str = "be-the-orphan";

    pub(crate) fn parse(argument: &str) -> Option<Role> {
        match argument {
            Self::VICTIM => Some(Role::Victim),
            Self::ORPHAN => Some(Role::Orphan),
            _ => None,
        }
    }

    /// Starts a container and says its pid and the launcher's.
    pub(crate) fn play(&self) -> ExitCode {
        let launcher = Launcher::fork().unwrap();
        let own = std::process::id();
        let launcher_pid = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        let root = Root::new();
        let limits = Limits { memory_bytes: Some(64 * MIB), pids: Some(50), ..Limits::default() };
        let (io, mut streams) = Streams::new();
        let process = shell("sleep 1000 & sleep 1000 & echo ready; read line");
        let container = launcher.start(limited(&root, &limits), &process, io).unwrap();
        let mut ready = String::new();
        BufReader::new(&mut streams.stdout).read_line(&mut ready).unwrap();
        let mut out = std::io::stdout();
        let cgroup = cgroup_of(container.pid());
        writeln!(out, "{} {} {cgroup}", container.pid(), launcher_pid.trim()).unwrap();
        match self {
            Role::Victim => {
                // The trial does not know the folder's name and we shall not get to removing it.
                fs::remove_dir_all(root.path("")).unwrap();
                std::thread::park();
                ExitCode::FAILURE
            }
            Role::Orphan => {
                let gone = watch(container.pid());
                kill_process(pid(&launcher_pid), Signal::KILL).unwrap();
                until_gone(&gone);
                let error = container.wait().unwrap_err();
                assert!(matches!(error, Error::LauncherGone), "{error}");
                // Nobody is left to remove the cgroups but the trial.
                ExitCode::SUCCESS
            }
        }
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

fn watch(process: u32) -> OwnedFd {
    pidfd_open(pid(&process.to_string()), PidfdFlags::empty()).unwrap()
}

fn until_gone(pidfd: &OwnedFd) {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, None)).unwrap();
}

fn killing_lbuild_kills_everything(_: &Host) {
    let mut victim = Command::new("/proc/self/exe").arg(Role::VICTIM).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(victim.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let [container, launcher, cgroup] = words[..] else { panic!("{line}") };
    assert!(!directories(cgroup).is_empty());
    let (container, launcher) = (watch(container.parse().unwrap()), watch(launcher.parse().unwrap()));
    victim.kill().unwrap();
    victim.wait().unwrap();
    until_gone(&container);
    // The launcher cleans up before it ends.
    until_gone(&launcher);
    assert_eq!(directories(cgroup), Vec::<PathBuf>::new());
}

fn killing_the_launcher_kills_everything(_: &Host) {
    let output = Command::new("/proc/self/exe").arg(Role::ORPHAN).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = String::from_utf8(output.stdout).unwrap();
    let cgroup = line.split_whitespace().nth(2).unwrap();
    for directory in directories(cgroup) {
        // Busy until the kernel has buried the last process.
        while fs::remove_dir(&directory).is_err_and(|error| error.raw_os_error() == Some(16)) {
            std::thread::yield_now();
        }
    }
}

fn a_threaded_process_cannot_fork_a_launcher(_: &Host) {
    let error = std::thread::spawn(|| Launcher::fork().unwrap_err()).join().unwrap();
    assert!(matches!(error, Error::Threads { count } if count > 1), "{error}");
}
