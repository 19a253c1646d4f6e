//! The last step: the environment, finding the program, handing it to the trampoline.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, statat};
use rustix::io::{Errno, Result};

use super::trampoline;
use crate::error::{AtStep, Failure, Step};
use crate::protocol::Job;
use crate::sys;
use crate::user::Identity;

/// Docker's default.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

/// Becomes the program by way of the trampoline; comes back only with the reason why not.
///
/// Every descriptor but the standard ones and `report` is closed.
pub(super) fn execute(
    args: &[OsString],
    environment: &[(OsString, OsString)],
    trampoline: BorrowedFd<'_>,
    report: &OwnedFd,
) -> Failure {
    let Some(program) = args.first() else {
        return Failure::ProgramNotFound { program: OsString::new(), searched: true };
    };
    // Nothing but the report, which closes by itself, may reach the program: not even for the moment of the
    // exec (CVE-2024-21626).
    if let Err(failure) = sys::close_all_but(3, &[report.as_fd(), trampoline]).at(|| Step::Detach) {
        return failure;
    }
    let variables = environment
        .iter()
        .map(|(key, value)| OsString::from_vec([key.as_bytes(), b"=", value.as_bytes()].concat()));
    let outcome = find(program, environment).and_then(|path| {
        let arguments = c_strings(std::iter::once(path).chain(args.iter().cloned()))?;
        trampoline::start(trampoline, report, &arguments, &c_strings(variables)?)
    });
    match outcome {
        Ok(never) => match never {},
        Err(errno) => Failure::not_executed(program, errno.raw_os_error()),
    }
}

/// The path to execute: the program itself, or what the user may execute in a directory of `$PATH`.
fn find(program: &OsStr, environment: &[(OsString, OsString)]) -> Result<OsString> {
    if program.as_bytes().contains(&b'/') {
        return Ok(program.to_owned());
    }
    let mut refusal = Errno::NOENT;
    for candidate in candidates(program, environment) {
        match statat(CWD, &candidate, AtFlags::empty()) {
            // The real ids are the user's already: the capabilities that we still hold do not count.
            Ok(found)
                if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
                    && accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::empty()).is_ok() =>
            {
                return Ok(candidate);
            }
            // Like a shell: a later directory of the path may hold one that can be executed.
            Ok(_) => refusal = Errno::ACCESS,
            Err(_absent) => {}
        }
    }
    Err(refusal)
}

/// Where the program may be: below each directory of the path.
fn candidates(program: &OsStr, environment: &[(OsString, OsString)]) -> Vec<OsString> {
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

fn c_strings(strings: impl Iterator<Item = OsString>) -> Result<Vec<CString>> {
    strings.map(|string| CString::new(string.into_vec()).map_err(|_| Errno::INVAL)).collect()
}
