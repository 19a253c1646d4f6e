//! The last step: the environment, finding the program, becoming it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, stat, statat};

use crate::error::{AtStep, Failure, Step};
use crate::protocol::Job;
use crate::sys;
use crate::user::Identity;

/// Docker's default.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As much of a script as the kernel looks at for its interpreter.
const SCRIPT_HEAD_BYTES: usize = 256;

/// The file this process executes: device and inode.
pub(super) type ProgramId = (u64, u64);

/// Which file is our own program; asked while the host's `/proc` is there.
pub(super) fn own_program() -> rustix::io::Result<ProgramId> {
    let program = stat(c"/proc/self/exe")?;
    Ok((program.st_dev, program.st_ino))
}

/// The environment asked for, with what every program expects.
pub(super) fn environment(job: &Job, identity: &Identity) -> Vec<(OsString, OsString)> {
    let mut environment = job.process.env.clone();
    let mut default = |key: &str, value: &str| {
        if !environment.iter().any(|(known, _)| known == key) {
            environment.push((key.into(), value.into()));
        }
    };
    default("PATH", PATH);
    default("HOSTNAME", &job.hostname);
    if job.terminal.is_some() {
        default("TERM", "xterm");
    }
    default("HOME", &identity.home);
    environment
}

/// Becomes the program; comes back only with the reason why not.
///
/// Every descriptor but the standard ones and `report` is closed.
pub(super) fn execute(
    args: &[OsString],
    environment: &[(OsString, OsString)],
    own_program: ProgramId,
    report: &OwnedFd,
) -> Failure {
    match try_execute(args, environment, own_program, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_execute(
    args: &[OsString],
    environment: &[(OsString, OsString)],
    own_program: ProgramId,
    report: &OwnedFd,
) -> Result<Infallible, Failure> {
    let Some(program) = args.first() else {
        return Err(Failure::ProgramNotFound { program: OsString::new(), searched: true });
    };
    let fail = |errno: Errno| Failure::ProgramNotExecutable { program: program.clone(), errno: errno as i32 };
    let searched = !program.as_bytes().contains(&b'/');
    let arguments = c_strings(args.iter().cloned()).map_err(fail)?;
    let variables = c_strings(
        environment
            .iter()
            .map(|(key, value)| OsString::from_vec([key.as_bytes(), b"=", value.as_bytes()].concat())),
    )
    .map_err(fail)?;
    // Nothing but the report, which closes by itself, may reach the program: not even for the moment of the
    // exec (CVE-2024-21626).
    sys::close_all_but(3, &[report.as_fd()]).at(|| Step::Detach)?;

    let mut refusal = None;
    for candidate in candidates(program, environment, searched) {
        let path = CString::new(candidate.as_bytes()).map_err(|_| fail(Errno::EINVAL))?;
        let errno = if is_own_program(&candidate, own_program) {
            Errno::EACCES
        } else {
            match nix::unistd::execve(&path, &arguments, &variables) {
                Ok(never) => match never {},
                Err(errno) => errno,
            }
        };
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // Like a shell: a later directory of the path may hold one that can be executed.
            Errno::EACCES if searched => refusal = Some(errno),
            errno => return Err(fail(errno)),
        }
    }
    match refusal {
        Some(errno) => Err(fail(errno)),
        None => Err(Failure::ProgramNotFound { program: program.clone(), searched }),
    }
}

/// Where the program may be: itself, or below each directory of the path.
fn candidates(program: &OsStr, environment: &[(OsString, OsString)], searched: bool) -> Vec<OsString> {
    if !searched {
        return vec![program.to_owned()];
    }
    if program.is_empty() {
        return Vec::new();
    }
    let path = environment.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_bytes());
    let directories = path.unwrap_or_default().split(|&byte| byte == b':');
    directories
        .map(|directory| {
            // An empty entry is the working directory (POSIX).
            let directory: &[u8] = if directory.is_empty() { b"." } else { directory };
            OsString::from_vec([directory, b"/", program.as_bytes()].concat())
        })
        .collect()
}

/// Whether executing this path would execute lbuild itself, directly or as a script's interpreter: the
/// container could then reach, and change, the host's file by `/proc/PID/exe` (CVE-2019-5736).
fn is_own_program(path: &OsStr, own: ProgramId) -> bool {
    let is_own = |path: &OsStr| {
        statat(CWD, path, AtFlags::empty()).is_ok_and(|found| (found.st_dev, found.st_ino) == own)
    };
    is_own(path) || interpreter(path).is_some_and(|interpreter| is_own(&interpreter))
}

/// The interpreter that a script names.
fn interpreter(path: &OsStr) -> Option<OsString> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).ok()?;
    let mut head = [0; SCRIPT_HEAD_BYTES];
    let length = rustix::io::read(&file, &mut head).ok()?;
    let line = head[..length].strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.next().map(|word| OsString::from_vec(word.to_vec()))
}

fn c_strings(strings: impl Iterator<Item = OsString>) -> Result<Vec<CString>, Errno> {
    strings.map(|string| CString::new(string.into_vec()).map_err(|_| Errno::EINVAL)).collect()
}
