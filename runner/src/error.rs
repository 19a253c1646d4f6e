//! What can go wrong, named for the act; and the exit code Docker would give it.
//!
//! What does not live here: tone and hints, which are the command's.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process::Rlimit;
use crate::user::UserProblem;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a container could not be started or followed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The launcher must be forked before the process has a second thread.
    Threads {
        /// How many there were.
        count: usize,
    },
    /// The launcher process could not be created.
    Fork {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The conversation with the launcher broke.
    Launcher {
        /// What was being done.
        act: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The launcher ended before the container did.
    LauncherGone,
    /// A limit was asked for that this machine cannot enforce.
    Limit {
        /// Which one.
        limit: Limit,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// A limit was asked for that cannot be meant.
    InvalidLimit {
        /// Which one.
        limit: Limit,
        /// As asked for.
        text: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The cgroup to make the container's in has no name that could be one's.
    InvalidCgroupParent {
        /// As asked for.
        parent: PathBuf,
    },
    /// The container's cgroup cannot be made where it was asked for.
    CgroupParent {
        /// As asked for.
        parent: PathBuf,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// A step of the container's set-up failed.
    Setup {
        /// Which one.
        step: Step,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A resource limit of the container's first process could not be set.
    Rlimit {
        /// As asked for.
        limit: Rlimit,
        /// The hard limit that lbuild was started with, which only a privileged one may raise; none for no
        /// limit.
        inherited: Option<u64>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// lbuild runs in a chroot: what is above it would be open to a container.
    Chroot,
    /// A place in the root file system that the sandbox mounts on is not what it must be.
    MountPoint {
        /// The place, inside the container.
        path: PathBuf,
        /// What the sandbox needs there.
        expected: &'static str,
        /// What the root file system has there.
        found: &'static str,
    },
    /// The user or group cannot be found in the root file system.
    User {
        /// As asked for.
        spec: String,
        /// What is wrong with it.
        problem: UserProblem,
    },
    /// The program is not in the container.
    ProgramNotFound {
        /// As asked for.
        program: OsString,
        /// Whether it was looked for in `$PATH`.
        searched: bool,
    },
    /// The program cannot be executed.
    ProgramNotExecutable {
        /// As asked for.
        program: OsString,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No capability has this name.
    UnknownCapability {
        /// As asked for.
        name: String,
        /// The nearest one that exists.
        suggestion: Option<&'static str>,
    },
    /// A signal or a window size could not be delivered.
    Control {
        /// What was being done.
        act: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The exit code of `docker run` for this: 127 not found, 126 not executable, 125 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::ProgramNotFound { .. } => 127,
            Error::ProgramNotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// Whether the program, or what interprets it, is for another processor, or a script without `#!`.
    #[must_use]
    pub fn is_foreign_program(&self) -> bool {
        let Error::ProgramNotExecutable { source, .. } = self else { return false };
        source.raw_os_error() == Some(libc::ENOEXEC)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Threads { count } => {
                write!(f, "the launcher must be started from a single thread; there are {count}")
            }
            Error::Fork { .. } => write!(f, "cannot start the launcher"),
            Error::Launcher { act, .. } => write!(f, "cannot {act} the launcher"),
            Error::LauncherGone => write!(f, "the launcher ended before the container did"),
            Error::Limit { limit, obstacle } => write!(f, "cannot limit {limit}: {obstacle}"),
            Error::InvalidLimit { limit, text, expected } => {
                write!(f, "cannot limit {limit}: expected {expected}, found `{text}`")
            }
            Error::InvalidCgroupParent { parent } => {
                write!(f, "expected a cgroup's path without `..`, found `{}`", parent.display())
            }
            Error::CgroupParent { parent, obstacle } => {
                write!(f, "cannot use the cgroup `{}`: {obstacle}", parent.display())
            }
            Error::Setup { step, .. } => write!(f, "cannot {step}"),
            Error::Rlimit { limit, inherited, .. } => write_rlimit(f, *limit, *inherited),
            Error::Chroot => {
                write!(f, "cannot contain from inside a chroot: expected `/` to be the top of the mounts")
            }
            Error::MountPoint { path, expected, found } => {
                write!(
                    f,
                    "cannot mount on `{}` in the container: expected {expected}, found {found}",
                    path.display()
                )
            }
            Error::User { spec, problem } => write!(f, "cannot run as `{spec}`: {problem}"),
            Error::ProgramNotFound { program, searched: true } => {
                write!(f, "executable file `{}` not found in `$PATH`", program.display())
            }
            Error::ProgramNotFound { program, searched: false } => {
                write!(f, "no such file or directory: `{}`", program.display())
            }
            Error::ProgramNotExecutable { program, .. } => {
                write!(f, "cannot execute `{}`", program.display())
            }
            Error::UnknownCapability { name, suggestion: None } => write!(f, "unknown capability `{name}`"),
            Error::UnknownCapability { name, suggestion: Some(suggestion) } => {
                write!(f, "unknown capability `{name}`; did you mean `{suggestion}`?")
            }
            Error::Control { act, .. } => write!(f, "cannot {act}"),
        }
    }
}

fn write_rlimit(f: &mut fmt::Formatter<'_>, limit: Rlimit, inherited: Option<u64>) -> fmt::Result {
    let show = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let Rlimit { resource, soft, hard } = limit;
    let (soft_text, hard_text, inherited_text) = (show(soft), show(hard), show(inherited));
    // No limit is above all.
    let exceeds = |one: Option<u64>, other: Option<u64>| one.unwrap_or(u64::MAX) > other.unwrap_or(u64::MAX);
    if exceeds(soft, hard) {
        write!(f, "cannot set the ulimit `{resource}`: expected a soft limit of at most {hard_text}, ")?;
        write!(f, "the hard limit, found {soft_text}")
    } else if exceeds(hard, inherited) {
        write!(
            f,
            "cannot raise the ulimit `{resource}`: expected a hard limit of at most {inherited_text}, "
        )?;
        write!(f, "as lbuild was started with, found {hard_text}")
    } else {
        write!(f, "cannot set the ulimit `{resource}` to {soft_text}:{hard_text}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Fork { source }
            | Error::Launcher { source, .. }
            | Error::Setup { source, .. }
            | Error::Rlimit { source, .. }
            | Error::ProgramNotExecutable { source, .. }
            | Error::Control { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Bytes of memory.
    Memory,
    /// Bytes of memory and swap together.
    Swap,
    /// Processor time.
    Cpu,
    /// Which processors.
    Processors,
    /// Which memory nodes.
    Nodes,
    /// Number of processes.
    Pids,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Memory => "memory",
            Limit::Swap => "memory and swap",
            Limit::Cpu => "the processor",
            Limit::Processors => "the processors",
            Limit::Nodes => "the memory nodes",
            Limit::Pids => "the number of processes",
        })
    }
}

/// Why a limit cannot be enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Obstacle {
    /// There are no cgroups that could be written to.
    NoHierarchy,
    /// No cgroup hierarchy offers the controller.
    NoController {
        /// Its name in the kernel.
        controller: String,
    },
    /// The cgroup or its file refused.
    Refused {
        /// The file or directory.
        path: String,
        /// The error number.
        errno: i32,
    },
    /// Cgroup v2 gives no controller to a child while processes share our cgroup.
    SharedCgroup {
        /// Our cgroup's directory.
        path: String,
    },
}

impl Obstacle {
    /// What the kernel said of a file or directory of a cgroup.
    pub(crate) fn refused(path: &Path, error: &io::Error) -> Obstacle {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Obstacle::Refused { path: path.display().to_string(), errno }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NoHierarchy => write!(f, "no cgroup hierarchy is mounted"),
            Obstacle::NoController { controller } => {
                write!(f, "no writable cgroup hierarchy has the controller `{controller}`")
            }
            Obstacle::Refused { path, errno } => {
                write!(f, "`{path}`: {}", io::Error::from_raw_os_error(*errno))
            }
            Obstacle::SharedCgroup { path } => {
                write!(f, "other processes live in our cgroup `{path}`; start lbuild in one of its own")
            }
        }
    }
}

/// A step of a container's set-up, in the order they happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Step {
    /// Creating the cgroup.
    Cgroup,
    /// Creating the process and its namespaces.
    Clone,
    /// Leaving what belongs to the launcher: descriptors, session, keyring, signals.
    Detach,
    /// Entering the cgroup.
    JoinCgroup,
    /// Naming the host.
    Hostname,
    /// Setting the loopback interface up.
    Loopback,
    /// Making the root file system the process's root.
    Root,
    /// Mounting at a place in the container.
    Mount {
        /// The place.
        target: PathBuf,
    },
    /// Making a device node or link.
    Device {
        /// Its path.
        path: PathBuf,
    },
    /// Hiding a path or making it read-only.
    Mask {
        /// The path.
        path: PathBuf,
    },
    /// Opening the terminal.
    Terminal,
    /// Reading the user database.
    Users,
    /// Entering the working directory.
    WorkingDirectory {
        /// As asked for.
        path: PathBuf,
    },
    /// Dropping capabilities.
    Capabilities,
    /// Becoming the user.
    Identity,
    /// Installing the seccomp filter.
    Seccomp,
    /// Connecting standard input, output and error.
    Streams,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, path) = match self {
            Step::Cgroup => ("create the container's cgroup", None),
            Step::Clone => ("create the container's namespaces", None),
            Step::Detach => ("detach the container from the launcher", None),
            Step::JoinCgroup => ("enter the container's cgroup", None),
            Step::Hostname => ("set the container's host name", None),
            Step::Loopback => ("set up the container's loopback interface", None),
            Step::Root => ("enter the container's root file system", None),
            Step::Mount { target } => ("mount", Some(target)),
            Step::Device { path } => ("create the device", Some(path)),
            Step::Mask { path } => ("protect", Some(path)),
            Step::Terminal => ("open the container's terminal", None),
            Step::Users => ("read the container's user database", None),
            Step::WorkingDirectory { path } => ("enter the working directory", Some(path)),
            Step::Capabilities => ("drop the container's capabilities", None),
            Step::Identity => ("become the container's user", None),
            Step::Seccomp => ("install the container's system call filter", None),
            Step::Streams => ("connect the container's input and output", None),
        };
        match path {
            None => f.write_str(what),
            Some(path) => write!(f, "{what} `{}` in the container", path.display()),
        }
    }
}

/// An error on its way from the launcher or the container: the part of [`Error`] that travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Limit { limit: Limit, obstacle: Obstacle },
    CgroupParent { parent: PathBuf, obstacle: Obstacle },
    Rlimit { limit: Rlimit, inherited: Option<u64>, errno: i32 },
    Setup { step: Step, errno: i32 },
    Chroot,
    MountPoint { path: PathBuf, expected: Found, found: Found },
    User { spec: String, problem: UserProblem },
    ProgramNotFound { program: OsString, searched: bool },
    ProgramNotExecutable { program: OsString, errno: i32 },
}

impl Failure {
    /// The failure of an exec, told as Docker does.
    pub(crate) fn not_executed(program: &OsStr, errno: i32) -> Failure {
        let program = program.to_owned();
        match errno {
            libc::ENOENT | libc::ENOTDIR => {
                let searched = !program.as_encoded_bytes().contains(&b'/');
                Failure::ProgramNotFound { program, searched }
            }
            errno => Failure::ProgramNotExecutable { program, errno },
        }
    }
}

/// A kind of file, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Found {
    Directory,
    File,
    Symlink,
    Proc,
    OutsideProc,
    Root,
    BelowRoot,
}

impl Found {
    fn words(self) -> &'static str {
        match self {
            Found::Directory => "a directory",
            Found::File => "a file",
            Found::Symlink => "a symbolic link",
            Found::Proc => "a part of `/proc`",
            Found::OutsideProc => "a place outside `/proc`",
            Found::Root => "the root itself",
            Found::BelowRoot => "a place below the root",
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let source = io::Error::from_raw_os_error;
        match failure {
            Failure::Limit { limit, obstacle } => Error::Limit { limit, obstacle },
            Failure::CgroupParent { parent, obstacle } => Error::CgroupParent { parent, obstacle },
            Failure::Setup { step, errno } => Error::Setup { step, source: source(errno) },
            Failure::Rlimit { limit, inherited, errno } => {
                Error::Rlimit { limit, inherited, source: source(errno) }
            }
            Failure::Chroot => Error::Chroot,
            Failure::MountPoint { path, expected, found } => {
                Error::MountPoint { path, expected: expected.words(), found: found.words() }
            }
            Failure::User { spec, problem } => Error::User { spec, problem },
            Failure::ProgramNotFound { program, searched } => Error::ProgramNotFound { program, searched },
            Failure::ProgramNotExecutable { program, errno } => {
                Error::ProgramNotExecutable { program, source: source(errno) }
            }
        }
    }
}

/// Names the step that an error number belongs to.
pub(crate) trait AtStep<T> {
    fn at(self, step: impl FnOnce() -> Step) -> std::result::Result<T, Failure>;
}

impl<T> AtStep<T> for rustix::io::Result<T> {
    fn at(self, step: impl FnOnce() -> Step) -> std::result::Result<T, Failure> {
        self.map_err(|errno| Failure::Setup { step: step(), errno: errno.raw_os_error() })
    }
}

impl<T> AtStep<T> for io::Result<T> {
    fn at(self, step: impl FnOnce() -> Step) -> std::result::Result<T, Failure> {
        self.map_err(|error| Failure::Setup {
            step: step(),
            errno: error.raw_os_error().unwrap_or(libc::EINVAL),
        })
    }
}
