//! Standard input, output and error: the caller's streams, or a terminal of the container's own.
//!
//! The terminal is opened in the container's own devpts and its other end by descriptor (`TIOCGPTPEER`),
//! never by a path (CVE-2025-52565).
//!
//! A stream of the host's `/dev/null` is replaced by the container's: a container may change the mode of the
//! file behind `/proc/self/fd/0`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Uid, fchown, fstat, openat};
use rustix::io::{Errno, Result};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use super::devices;
use super::mounts::{SystemMounts, attach};
use crate::process::WindowSize;
use crate::protocol::{self, Report};

/// Opens a terminal, mounts it as `/dev/console`, sends its master to the launcher and gives its other end.
pub(super) fn open(system: &SystemMounts, size: WindowSize, report: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(&system.pts, c"ptmx", flags, Mode::empty())?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let console = openat(&system.dev, c"console", flags, Mode::from_bits_truncate(0o600))?;
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    attach(&open_tree(&slave, c"", flags)?, &console)?;
    protocol::send(report, &Report::Terminal, &[master.as_fd()])
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::PIPE))?;
    Ok(slave)
}

/// Puts the streams or the terminal in place and lets the user open them again by name.
pub(super) fn connect(
    streams: Option<&[OwnedFd; 3]>,
    terminal: Option<OwnedFd>,
    null: &OwnedFd,
    uid: u32,
) -> Result<()> {
    let owner = Some(Uid::from_raw(uid));
    if let Some(terminal) = terminal {
        rustix::process::ioctl_tiocsctty(&terminal)?;
        fchown(&terminal, owner, None)?;
        dup2_stdin(&terminal)?;
        dup2_stdout(&terminal)?;
        return dup2_stderr(&terminal);
    }
    let own = |stream| {
        let stat = fstat(stream)?;
        // `/dev/stdout` opens a pipe anew, which only its owner may. Other files are the caller's.
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo && stat.st_uid != uid {
            fchown(stream, owner, None)?;
        }
        Ok(if devices::is_null(&stat) { null } else { stream })
    };
    let Some([stdin, stdout, stderr]) = streams else { return Err(Errno::BADF) };
    dup2_stdin(own(stdin)?)?;
    dup2_stdout(own(stdout)?)?;
    dup2_stderr(own(stderr)?)
}
