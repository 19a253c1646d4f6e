//! One command and what it took. The bench runs itself again to start the command, since a small parent with one child
//! learns the child's peak memory exactly (`getrusage(2)`), and times it without its own start.

use std::env;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// The first argument of the bench as the parent of a command.
const MEASURE: &str = "--measure";

/// What a round took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Wall time.
    pub(crate) seconds: f64,
    /// Kilobytes that the largest process held; none where nobody can tell.
    pub(crate) peak_kb: Option<u64>,
    /// A figure of the workload's own, such as compressed bytes.
    pub(crate) extra: Option<f64>,
}

impl Sample {
    /// A sample of work that the bench did itself.
    pub(crate) fn timed(work: impl FnOnce()) -> Sample {
        let start = Instant::now();
        work();
        Sample { seconds: start.elapsed().as_secs_f64(), ..Sample::default() }
    }

    /// This and then `next`.
    #[must_use]
    pub(crate) fn then(self, next: Sample) -> Sample {
        Sample {
            seconds: self.seconds + next.seconds,
            peak_kb: self.peak_kb.max(next.peak_kb),
            extra: next.extra.or(self.extra),
        }
    }
}

/// Runs `command` to its end; what it says on standard error is told when it fails. Nobody else's data waits to be
/// written meanwhile.
pub(crate) fn run(command: &Command) -> Sample {
    run_below(Command::new(env::current_exe().expect("this program")), command)
}

/// The same in a mount namespace of its own, in which the shell's `script` ran before.
pub(crate) fn run_after(script: &str, command: &Command) -> Sample {
    let mut parent = Command::new("unshare");
    parent.args(["--mount", "sh", "-ec"]).arg(format!("{script}\nexec \"$0\" \"$@\""));
    parent.arg(env::current_exe().expect("this program"));
    run_below(parent, command)
}

fn run_below(mut parent: Command, command: &Command) -> Sample {
    rustix::fs::sync();
    parent.arg(MEASURE).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => parent.env(key, value),
            None => parent.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        parent.current_dir(folder);
    }
    let output = parent.stdin(Stdio::null()).output().expect("this program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    let (seconds, peak_kb) = text.trim().split_once(' ').expect("two numbers");
    let seconds = seconds.parse().expect("seconds");
    Sample { seconds, peak_kb: Some(peak_kb.parse().expect("kilobytes")), extra: None }
}

/// The other side of [`run`]: does nothing unless this process is to be a command's parent.
#[allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "its report")]
pub(crate) fn be_a_parent() {
    let mut args = env::args_os().skip(1);
    if args.next().is_none_or(|first| first != MEASURE) {
        return;
    }
    let mut command = Command::new(args.next().expect("a program"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).ok();
    let status = child.wait().expect("the command");
    let seconds = start.elapsed().as_secs_f64();
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage").max_rss();
    println!("{seconds} {peak}");
    eprint!("{said}");
    std::process::exit(if status.success() { 0 } else { 1 });
}

/// Runs a command whose time is of no interest; gives what it printed.
pub(crate) fn quietly(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program can be started.
pub(crate) fn installed(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Kilobytes that a process held at most since [`forget_peak`].
pub(crate) fn peak_kb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// Sets a process's high-water mark to what it holds now (`proc(5)`, `clear_refs`).
pub(crate) fn forget_peak(process: u32) {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("the process");
}
