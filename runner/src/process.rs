//! The process in a container: what starts it, and how it ended. Plain data.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What to execute, and as whom.
#[derive(Clone, Serialize, Deserialize)]
pub struct Process {
    /// The program and its arguments; the program is looked for in the container's `PATH` unless it holds a
    /// slash.
    pub args: Vec<OsString>,
    /// The environment. `PATH`, `HOME`, `HOSTNAME` and, with a terminal, `TERM` are added when absent.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory, created for the user when missing.
    pub cwd: PathBuf,
    /// `user`, `uid`, `user:group`, `uid:gid`, `:group`, or empty for root; looked up in the container.
    pub user: String,
    /// Resource limits to set; the others are the launcher's own.
    pub rlimits: Vec<Rlimit>,
    /// The file mode creation mask.
    pub umask: u32,
}

/// Without the values of variables, one of which may be a secret.
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsString> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Process")
            .field("args", &self.args)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// A process of root's in `/` with Docker's umask.
    pub fn new(args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Process {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: PathBuf::from("/"),
            user: String::new(),
            rlimits: Vec::new(),
            umask: 0o022,
        }
    }
}

/// A resource limit; see getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which resource.
    pub resource: Resource,
    /// The soft limit; none for no limit.
    pub soft: Option<u64>,
    /// The hard limit; none for no limit.
    pub hard: Option<u64>,
}

/// A resource that getrlimit(2) knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "getrlimit(2) documents each")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Every resource by the name that Docker's `--ulimit` has for it.
const RESOURCES: &[(Resource, &str)] = &[
    (Resource::As, "as"),
    (Resource::Core, "core"),
    (Resource::Cpu, "cpu"),
    (Resource::Data, "data"),
    (Resource::Fsize, "fsize"),
    (Resource::Locks, "locks"),
    (Resource::Memlock, "memlock"),
    (Resource::Msgqueue, "msgqueue"),
    (Resource::Nice, "nice"),
    (Resource::Nofile, "nofile"),
    (Resource::Nproc, "nproc"),
    (Resource::Rss, "rss"),
    (Resource::Rtprio, "rtprio"),
    (Resource::Rttime, "rttime"),
    (Resource::Sigpending, "sigpending"),
    (Resource::Stack, "stack"),
];

impl Resource {
    /// The names of all, in order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RESOURCES.iter().map(|(_, name)| *name)
    }

    /// The resource of this name, as `--ulimit` has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Resource> {
        RESOURCES.iter().find(|(_, known)| *known == name).map(|(resource, _)| *resource)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = RESOURCES.iter().find(|(known, _)| known == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// Where the process reads and writes.
#[derive(Debug)]
pub enum Io {
    /// The caller's descriptors: pipes, `/dev/null`, or its own.
    Streams {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal of the container's; its other end is [`crate::Container::tty`].
    Tty {
        /// Its first size.
        size: WindowSize,
    },
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How its first process ended.
    pub status: Status,
    /// The memory limit, when the kernel killed a process of the container for exceeding it.
    pub oom_limit_bytes: Option<u64>,
    /// What it used.
    pub usage: Usage,
}

impl Exit {
    /// The exit code a shell would show: the program's own, or 128 and the signal's number.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self.status {
            Status::Code(code) => code.into(),
            Status::Signal(signal) => 128 + signal,
        }
    }

    /// Whether the program ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status == Status::Code(0)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

/// What a container used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of the container, user and system.
    pub cpu: Duration,
    /// The most memory it held at once, where its cgroup tells.
    pub peak_memory_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_one_name() {
        for name in Resource::names() {
            assert_eq!(Resource::named(name).unwrap().to_string(), name);
        }
        assert_eq!(Resource::names().count(), 16);
        assert_eq!(Resource::named("NOFILE"), None);
    }
}
