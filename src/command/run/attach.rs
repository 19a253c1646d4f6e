//! A running container and this process: input, output, the terminal, signals.
//!
//! Output is copied until nobody can write any more, so that the last bytes arrive. Input is copied by a thread
//! that nobody waits for: it may sit in a read when all is over. Signals go to the container's first process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use nix::sys::signal::Signal;
use runner::{Container, Exit, Io, Launcher, Process, Sandbox, WindowSize};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::failure::Failure;
use crate::signal::Signals;

/// The size of a terminal that does not tell.
const USUAL_SIZE: WindowSize = WindowSize { rows: 24, columns: 80 };

/// Runs a container on pipes.
pub(super) fn streams(
    launcher: &Launcher,
    sandbox: Sandbox,
    process: &Process,
    interactive: bool,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let pipe = || io::pipe().map_err(|error| Failure::environment(&error));
    let (input, stdin) = if interactive {
        let (reader, writer) = pipe()?;
        (Some(writer), OwnedFd::from(reader))
    } else {
        (None, File::open("/dev/null").map_err(|error| Failure::environment(&error))?.into())
    };
    let ((output, stdout), (errors, stderr)) = (pipe()?, pipe()?);
    let io = Io::Streams { stdin, stdout: stdout.into(), stderr: stderr.into() };
    let container = launcher.start(sandbox, process, io).map_err(|error| Failure::container(&error))?;
    if let Some(input) = input {
        copy_input(input.into())?;
    }
    proxied(signals, &container, || {
        thread::scope(|scope| {
            scope.spawn(|| copy(output.into(), io::stdout().as_fd()));
            copy(errors.into(), io::stderr().as_fd());
        });
        container.wait().map_err(|error| Failure::container(&error))
    })
}

/// Runs a container on a terminal of its own, shown on ours.
pub(super) fn terminal(
    launcher: &Launcher,
    sandbox: Sandbox,
    process: &Process,
    interactive: bool,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let size = window_size().unwrap_or(USUAL_SIZE);
    let container =
        launcher.start(sandbox, process, Io::Tty { size }).map_err(|error| Failure::container(&error))?;
    let master = container.tty().map_err(|error| Failure::container(&error))?;
    let raw = if interactive { RawMode::enter() } else { None };
    let exit = proxied(signals, &container, || {
        if let Some(master) = master {
            if interactive {
                let input = master.try_clone().map_err(|error| Failure::environment(&error))?;
                copy_input(input)?;
            }
            copy_terminal(&master, &container, io::stdout().as_fd());
        }
        container.wait().map_err(|error| Failure::container(&error))
    });
    drop(raw);
    exit
}

/// Does `work` while signals go to the container.
fn proxied<T>(
    signals: &Signals,
    container: &Container,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    thread::scope(|scope| {
        let (received, subscription) = signals.subscribe();
        scope.spawn(move || {
            for signal in received {
                let passed = match (signal, window_size()) {
                    (Signal::SIGWINCH, Some(size)) => container.resize(size),
                    (Signal::SIGWINCH, None) => Ok(()),
                    (signal, _) => container.signal(signal as i32),
                };
                // A container that has just ended needs neither.
                passed.ok();
            }
        });
        let result = work();
        // Ends the thread above, which the scope waits for.
        drop(subscription);
        result
    })
}

/// Passes standard input on until it ends or nobody reads it.
fn copy_input(to: OwnedFd) -> Result<(), Failure> {
    let work = move || {
        // Standard input is not locked: nobody else reads it, and the lock would buffer.
        copy_fd(io::stdin().as_fd(), to.as_fd());
    };
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| Failure::environment(&error))
}

/// Copies until the end. When nobody reads `to` any more, `from` is closed, and its writers learn it.
fn copy(from: OwnedFd, to: BorrowedFd<'_>) {
    copy_fd(from.as_fd(), to);
}

fn copy_fd(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => return,
            Ok(count) if write_all(to, &buffer[..count]).is_ok() => {}
            Err(Errno::INTR) => {}
            // A descriptor that somebody else made non-blocking is waited for.
            Err(Errno::AGAIN) if wait(&mut [PollFd::new(&from, PollFlags::IN)]).is_ok() => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Copies what the container's terminal shows until the container has ended and all is shown.
fn copy_terminal(master: &OwnedFd, container: &Container, to: BorrowedFd<'_>) {
    let mut buffer = vec![0; 64 * 1024];
    // From the end on, reading does not wait: a process that outlived pid 1 may hold the terminal open.
    let mut has_ended = false;
    loop {
        if !has_ended {
            let mut sources = [PollFd::new(master, PollFlags::IN), PollFd::new(container, PollFlags::IN)];
            if wait(&mut sources).is_err() {
                return;
            }
            let [shown, ended] = sources.map(|source| !source.revents().is_empty());
            if ended {
                has_ended = true;
                if rustix::io::ioctl_fionbio(master, true).is_err() {
                    return;
                }
            } else if !shown {
                continue;
            }
        }
        match rustix::io::read(master, &mut buffer) {
            Ok(count) if count > 0 => {
                // A terminal that is gone shows nothing; the program goes on until it is hung up.
                let _ = write_all(to, &buffer[..count]);
            }
            Err(Errno::INTR) => {}
            // EIO: nobody holds the other end.
            Ok(_) | Err(_) if has_ended => return,
            Err(Errno::IO) | Ok(_) => has_ended = true,
            Err(_) => return,
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(&mut [PollFd::new(&to, PollFlags::OUT)])?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait(descriptors: &mut [PollFd<'_>]) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| poll(descriptors, None)).map(drop)
}

/// The size of the terminal that we are shown on.
fn window_size() -> Option<WindowSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// Our terminal passes every key on; dropped, it is as it was.
struct RawMode {
    before: Termios,
}

impl RawMode {
    /// None if standard input is no terminal.
    fn enter() -> Option<RawMode> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}
