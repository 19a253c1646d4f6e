//! Where commands run: the seam that lets the builder be tested without a kernel, and its adapter for `runner`.

use std::io;
use std::os::fd::OwnedFd;

use crate::plan::Run;
use crate::request::{HostFiles, Network};

/// One command and the file system it runs in.
pub struct Job<'a> {
    /// The command.
    pub run: &'a Run,
    /// A detached mount; consumed.
    pub root: OwnedFd,
    /// Its network.
    pub network: Network,
    /// Its limits.
    pub limits: &'a runner::Limits,
    /// Files that come from outside.
    pub host_files: &'a HostFiles,
}

/// Runs commands.
pub trait Executor: Sync {
    /// Runs one to its end. `output` takes what it writes, in order.
    ///
    /// # Errors
    /// When the sandbox cannot be made. A command that fails is an [`runner::Exit`].
    fn run(&self, job: Job<'_>, output: &mut dyn FnMut(&[u8])) -> Result<runner::Exit, runner::Error>;

    /// Ends all that runs and refuses whatever comes after.
    fn cancel(&self);
}

/// The host name that every `RUN` sees; fixed, so that it leaks nothing into layers.
pub const HOSTNAME: &str = "lbuild";

/// Reads both ends of a command's output until they are closed.
pub(crate) fn drain(output: OwnedFd, sink: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match rustix::io::read(&output, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => sink(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
