//! The client's side: forking the launcher, starting containers, following them.
//!
//! What does not live here: the launcher's own loop (`supervisor`). Every method may be called from any
//! thread: a job is one datagram, and each container has a socket of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, WaitOptions, pidfd_send_signal, waitpid};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::error::{Error, Result};
use crate::process::{Exit, Io, Process, WindowSize};
use crate::protocol::{self, Event, Submission};
use crate::sandbox::Sandbox;
use crate::{supervisor, sys};

/// A small single-threaded process that starts containers, and ends them all when we are gone.
#[derive(Debug)]
pub struct Launcher {
    /// None only while being dropped: the launcher ends when this closes.
    control: Option<OwnedFd>,
    pid: Pid,
}

impl Launcher {
    /// Forks the launcher. The calling process must have a single thread: call this first thing in `main`.
    pub fn fork() -> Result<Launcher> {
        let count = thread_count().map_err(|source| Error::Fork { source })?;
        if count != 1 {
            return Err(Error::Threads { count });
        }
        let (control, far) = protocol::channel().map_err(|source| Error::Fork { source })?;
        match sys::fork().map_err(|source| Error::Fork { source })? {
            sys::Fork::Child => {
                // A panic must not unwind into the caller's frames, which belong to the other process.
                let outcome = catch_unwind(AssertUnwindSafe(|| supervisor::run(&far)));
                sys::exit_now(if matches!(outcome, Ok(Ok(()))) { 0 } else { 1 })
            }
            sys::Fork::Parent(pid) => {
                let pid = Pid::from_raw(pid).ok_or(Error::LauncherGone)?;
                Ok(Launcher { control: Some(control), pid })
            }
        }
    }

    /// Starts a container and returns when its program is executing.
    pub fn start(&self, sandbox: Sandbox, process: &Process, io: Io) -> Result<Container> {
        sandbox.limits.check()?;
        if let Some(parent) = sandbox.cgroup_parent.as_deref().filter(|parent| !is_below(parent)) {
            return Err(Error::InvalidCgroupParent { parent: parent.to_owned() });
        }
        let launcher = |act| move |source| Error::Launcher { act, source };
        let (status, far) = protocol::channel().map_err(launcher("reach"))?;
        let (job, descriptors) =
            protocol::pack(sandbox, process, io).map_err(launcher("describe the job to"))?;
        let mut sent: Vec<BorrowedFd<'_>> = vec![job.as_fd(), far.as_fd()];
        sent.extend(descriptors.iter().map(AsFd::as_fd));
        let control = self.control.as_ref().ok_or(Error::LauncherGone)?;
        protocol::send(control, &Submission, &sent).map_err(launcher("send the job to"))?;
        // Our copies go now: the root must be unmounted, and a reader of the pipes see their end, as soon as
        // the container is gone.
        drop((job, descriptors, far));
        let (event, descriptors) = receive(&status)?;
        match event {
            Event::Started { pid } => {
                let mut descriptors = descriptors.into_iter();
                let pidfd = descriptors.next().ok_or(Error::LauncherGone)?;
                Ok(Container { pid, pidfd, tty: descriptors.next(), status, exit: Mutex::new(None) })
            }
            Event::Failed(failure) => Err(failure.into()),
            Event::Exited(_) => Err(Error::LauncherGone),
        }
    }
}

impl Drop for Launcher {
    /// Ends every container and waits for the launcher to have cleaned up.
    fn drop(&mut self) {
        drop(self.control.take());
        // ECHILD only if someone else has reaped it: then it is gone, which is all we want.
        let _gone = rustix::io::retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::empty()));
    }
}

/// The next event, a silent end of the conversation being an error.
fn receive(status: &OwnedFd) -> Result<(Event, Vec<OwnedFd>)> {
    match protocol::receive(status) {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Error::LauncherGone),
        Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => Err(Error::LauncherGone),
        Err(source) => Err(Error::Launcher { act: "hear from", source }),
    }
}

/// Whether a path, whatever it is put below, stays there.
fn is_below(path: &Path) -> bool {
    !path.components().any(|part| part == Component::ParentDir)
}

/// How many threads this process has.
fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// A running container. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Container {
    pid: u32,
    pidfd: OwnedFd,
    tty: Option<OwnedFd>,
    status: OwnedFd,
    /// How it ended, once known.
    exit: Mutex<Option<Exit>>,
}

impl Container {
    /// The process id of its first process, as the host sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to its first process. One that has ended already is no error.
    ///
    /// As for every pid 1, a signal that the program does not handle has no effect, but for `SIGKILL` and
    /// `SIGSTOP`.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match sys::signal_process(self.pidfd.as_fd(), signal) {
            Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::Control { act: "send a signal to the container", source })
            }
            _ => Ok(()),
        }
    }

    /// Kills everything in it. [`Container::wait`] tells when it is gone.
    pub fn kill(&self) {
        // The kernel kills the rest of a pid namespace with its first process. The only other answer is that
        // it is gone already.
        let _gone = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Waits until everything of the container is gone. May be called again, and from several threads.
    pub fn wait(&self) -> Result<Exit> {
        let mut exit = self.exit.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(exit) = &*exit {
            return Ok(exit.clone());
        }
        match receive(&self.status)? {
            (Event::Exited(ended), _) => Ok(exit.insert(ended).clone()),
            (Event::Started { .. } | Event::Failed(_), _) => Err(Error::LauncherGone),
        }
    }

    /// Changes the size of its terminal; without one there is nothing to do. The program gets `SIGWINCH`.
    pub fn resize(&self, size: WindowSize) -> Result<()> {
        let Some(tty) = &self.tty else { return Ok(()) };
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(tty, size)
            .map_err(|errno| Error::Control { act: "resize the container's terminal", source: errno.into() })
    }

    /// Another descriptor of the terminal's master, to read and write; none without a terminal.
    pub fn tty(&self) -> Result<Option<OwnedFd>> {
        let copy = |source| Error::Control { act: "open the container's terminal", source };
        self.tty.as_ref().map(OwnedFd::try_clone).transpose().map_err(copy)
    }
}

/// Readable when the container has ended: for poll(2) beside a terminal.
impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
        // The launcher answers or is gone; there is nobody left to tell.
        let _ended = self.wait();
    }
}
