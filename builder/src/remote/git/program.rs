//! Running git: what it may do, what it finds in its environment, and how it ends.
//!
//! Nothing is inherited but what [`WANTED`] names: neither the user's configuration nor a variable that could redirect
//! git or make it write down what it sends. Who the user is to others, [`Identity`] says: files with passwords are
//! never found, keys only where the user wants them used. Credentials go by `GIT_CONFIG_VALUE_<n>`, which, unlike
//! arguments, other users cannot read.
//! Each git has a process group of its own, so that its helpers end with it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::remote::{FetchError, FetchRequest, FetcherOptions};

/// How often a running git is asked to give up.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long git is given to clean up behind itself when it is told to end.
const GRACE: Duration = Duration::from_secs(2);
/// The longest answer that is read: the references of a very large repository.
const MAX_OUTPUT_BYTES: u64 = 256 << 20;
/// How much of git's complaints is read, and how much is shown.
const MAX_MESSAGES_BYTES: u64 = 64 << 10;
const SHOWN_CHARS: usize = 1000;

/// What git gets of the user's environment, whatever it fetches: where programs are, and how the network is reached.
const WANTED: [&str; 12] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// A home without a `.netrc`. With an empty name or none, curl would look for that of the account.
const NO_HOME: &str = "/dev/null";
/// Asks nobody, and leaves no connection behind that would keep git's pipes open.
const SSH: &str = "ssh -o BatchMode=yes -o ControlMaster=no";
/// Knows no key at all. The configuration stays out, since it may name keys and other agents (ssh_config(5)).
const SSH_OF_NOBODY: &str = " -F /dev/null -o IdentityAgent=none -o IdentitiesOnly=yes -o IdentityFile=none \
                             -o PubkeyAuthentication=no";
/// Knows the keys of the agent that was lent, and not those in files.
const SSH_OF_AGENT: &str = " -o IdentityAgent=SSH_AUTH_SOCK -o IdentityFile=none";

/// What every git is told. The protocols are all that may be used, by submodules and redirects too.
const CONFIGURATION: [(&str, &str); 19] = [
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("protocol.git.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.logAllRefUpdates", "false"),
    ("core.symlinks", "true"),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.fsckObjects", "false"),
    ("transfer.credentialsInUrl", "die"),
    ("credential.helper", ""),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "120"),
];

/// Who the user is to a server that is reached by ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nobody.
    None,
    /// Whose keys the agent has that was lent.
    Agent,
    /// The user: it was he who named the repository.
    Own,
}

/// How one repository is spoken to.
pub(super) struct Program<'a> {
    pub(super) options: &'a FetcherOptions,
    pub(super) request: &'a FetchRequest<'a>,
    /// The repository, as errors show it.
    pub(super) address: String,
    pub(super) identity: Identity,
    /// Configuration that is a secret, or goes with one.
    pub(super) secrets: Vec<(String, String)>,
}

/// One call of git.
pub(super) struct Call<'a> {
    /// What it does, for an error: "git cannot … `address`".
    pub(super) act: &'static str,
    pub(super) args: &'a [&'a OsStr],
    pub(super) git_dir: Option<&'a Path>,
    pub(super) work_tree: Option<&'a Path>,
    pub(super) index: Option<&'a Path>,
    /// Configuration for this call.
    pub(super) config: &'a [(&'a str, &'a str)],
    /// Whether the credentials are for this call.
    pub(super) is_remote: bool,
}

impl<'a> Call<'a> {
    /// A call that needs no repository of ours.
    pub(super) fn new(act: &'static str, args: &'a [&'a OsStr]) -> Call<'a> {
        Call { act, args, git_dir: None, work_tree: None, index: None, config: &[], is_remote: false }
    }
}

/// How a git ended.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    messages: Vec<u8>,
}

impl Program<'_> {
    /// Runs git; gives what it wrote.
    pub(super) fn run(&self, call: &Call<'_>) -> Result<Vec<u8>, FetchError> {
        let ended = self.finish(call)?;
        if ended.status.success() {
            return Ok(ended.output);
        }
        let (address, output) = (self.address.clone(), self.shown(&ended.messages));
        Err(FetchError::Git { act: call.act, address, output })
    }

    fn finish(&self, call: &Call<'_>) -> Result<Ended, FetchError> {
        self.request.check()?;
        let spawned = self.command(call).spawn();
        let mut child = spawned.map_err(|source| FetchError::RunGit { source })?;
        let output = drain(child.stdout.take(), MAX_OUTPUT_BYTES);
        let messages = drain(child.stderr.take(), MAX_MESSAGES_BYTES);
        let status = self.wait(&mut child);
        let (output, messages) = (collect(output), collect(messages));
        let status = status.map_err(|source| FetchError::RunGit { source })?;
        let status = status.ok_or(FetchError::Cancelled)?;
        Ok(Ended { status, output, messages })
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new("git");
        command.args(call.args).env_clear().process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.inherited(&WANTED));
        self.identify(&mut command);
        command.envs([
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "true"),
            ("GIT_LITERAL_PATHSPECS", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
        ]);
        for (name, path) in
            [("GIT_DIR", call.git_dir), ("GIT_WORK_TREE", call.work_tree), ("GIT_INDEX_FILE", call.index)]
        {
            command.envs(path.map(|path| (name, path)));
        }
        command.current_dir(call.work_tree.or(call.git_dir).unwrap_or(Path::new("/")));
        let secrets = self.secrets.iter().filter(|_| call.is_remote);
        let secrets = secrets.map(|(name, value)| (name.as_str(), value.as_str()));
        let configuration = CONFIGURATION.into_iter().chain(call.config.iter().copied()).chain(secrets);
        let mut count = 0;
        for (number, (name, value)) in configuration.enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
            count = number + 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }

    /// Those of the user's variables that have one of these names.
    fn inherited(&self, names: &[&str]) -> impl Iterator<Item = (&OsString, &OsString)> {
        let all = self.options.environment.iter();
        all.filter(|(name, _)| names.iter().any(|wanted| name == wanted)).map(|(name, value)| (name, value))
    }

    /// Lets ssh, and it alone, find the user's keys, as far as they may be used.
    fn identify(&self, command: &mut Command) {
        let (ssh, inherited): (&str, &[&str]) = match self.identity {
            Identity::None => (SSH_OF_NOBODY, &[]),
            Identity::Agent => (SSH_OF_AGENT, &["HOME", "GIT_SSH_COMMAND"]),
            Identity::Own => ("", &["HOME", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK"]),
        };
        command.env("HOME", NO_HOME).env("GIT_SSH_COMMAND", format!("{SSH}{ssh}"));
        command.envs(self.inherited(inherited));
        if let Some(socket) = self.options.ssh_auth_sock.as_ref().filter(|_| self.identity != Identity::None)
        {
            command.env("SSH_AUTH_SOCK", socket);
        }
    }

    /// Waits for the end; ends it, with its helpers, when somebody gives up (`None`).
    fn wait(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
            return child.wait().map(Some);
        };
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let ends_within = |time: Duration| -> io::Result<bool> {
            let nanoseconds = i64::from(time.subsec_nanos());
            let timeout =
                Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(1), tv_nsec: nanoseconds };
            let mut waiting = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
            match poll(&mut waiting, Some(&timeout)) {
                Ok(ready) => Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => Ok(false),
                Err(errno) => Err(errno.into()),
            }
        };
        while !ends_within(INTERVAL)? {
            if !(self.request.give_up)() {
                continue;
            }
            // Git deletes its lock files when it is told to end; a helper that does not listen is ended anyway.
            // Not yet waited for, the process keeps the group's number from being another's.
            let _told = kill_process_group(pid, Signal::TERM);
            let _ended = ends_within(GRACE)?;
            let _killed = kill_process_group(pid, Signal::KILL);
            child.wait()?;
            return Ok(None);
        }
        child.wait().map(Some)
    }

    /// Git's complaints, fit for a terminal: the last of them, on one line, without secrets.
    fn shown(&self, messages: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(messages).into_owned();
        for (_, secret) in self.secrets.iter().filter(|(_, secret)| secret.len() > 8) {
            text = text.replace(secret, "***");
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.collect::<Vec<_>>().join("; ");
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let from = line.char_indices().rev().nth(SHOWN_CHARS - 1).map_or(0, |(at, _)| at);
        line[from..].to_owned()
    }
}

/// Reads all that a pipe gives, so that its writer never waits, and keeps the first `limit` bytes.
fn drain(pipe: Option<impl Read + Send + 'static>, limit: u64) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            // What cannot be read is missing where it is looked at.
            let _read = (&mut pipe).take(limit).read_to_end(&mut kept);
            let _rest = io::copy(&mut pipe, &mut io::sink());
        }
        kept
    })
}

fn collect(reading: JoinHandle<Vec<u8>>) -> Vec<u8> {
    reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
