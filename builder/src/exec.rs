//! Where commands run: the seam that lets the builder be tested without a kernel, and its adapter for `runner`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner::{FileMount, Launcher, Sandbox, Security};

use crate::plan::Run;
use crate::request::{Network, RunSettings};
pub use crate::step::mount::Surroundings;

/// One command and what it runs in.
pub struct Job<'a> {
    /// The command.
    pub run: &'a Run,
    /// Its file system: a detached mount; consumed.
    pub root: OwnedFd,
    /// What it finds there beside the image.
    pub surroundings: Surroundings,
    /// What holds for all commands of the build.
    pub settings: &'a RunSettings,
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

/// The real executor: containers of `runner`.
pub struct Containers<'a> {
    launcher: &'a Launcher,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_cancelled: bool,
    next: u64,
    running: BTreeMap<u64, Arc<runner::Container>>,
}

impl<'a> Containers<'a> {
    /// Containers that `launcher` starts.
    pub fn new(launcher: &'a Launcher) -> Containers<'a> {
        Containers { launcher, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a container, so that it can be ended; one that comes too late is ended at once.
    fn register(&self, container: runner::Container) -> (u64, Arc<runner::Container>) {
        let container = Arc::new(container);
        let mut state = self.state();
        if state.is_cancelled {
            container.kill();
        }
        state.next += 1;
        let number = state.next;
        state.running.insert(number, container.clone());
        (number, container)
    }
}

impl Executor for Containers<'_> {
    fn run(&self, job: Job<'_>, output: &mut dyn FnMut(&[u8])) -> Result<runner::Exit, runner::Error> {
        let pipe = |source| runner::Error::Launcher { act: "make a pipe for", source };
        // One pipe for both, so that what is written in turns is shown in turns.
        let (reader, writer) = std::io::pipe().map_err(pipe)?;
        let stderr = writer.try_clone().map_err(pipe)?.into();
        let stdin = std::fs::File::open("/dev/null").map_err(pipe)?.into();
        let io = runner::Io::Streams { stdin, stdout: writer.into(), stderr };
        let (process, sandbox) = (process(&job), sandbox(job));
        let (number, container) = self.register(self.launcher.start(sandbox, &process, io)?);
        let drained = drain(reader, output).map_err(pipe);
        if drained.is_err() {
            container.kill();
        }
        let exit = container.wait();
        self.state().running.remove(&number);
        drained.and(exit)
    }

    fn cancel(&self) {
        let mut state = self.state();
        state.is_cancelled = true;
        for container in state.running.values() {
            container.kill();
        }
    }
}

fn process(job: &Job<'_>) -> runner::Process {
    let run = job.run;
    let plain = run.env.iter().chain(&run.proxy_env).map(|(name, value)| (name.into(), value.into()));
    let hidden = job.surroundings.env.iter().map(|(name, value)| (name.into(), value.clone()));
    let mut env: Vec<(OsString, OsString)> = plain.collect();
    for (name, value) in hidden {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    runner::Process {
        env,
        cwd: run.cwd.clone(),
        user: run.user.clone(),
        rlimits: job.settings.ulimits.clone(),
        ..runner::Process::new(&run.args)
    }
}

fn sandbox(job: Job<'_>) -> Sandbox {
    let Job { run, root, surroundings, settings } = job;
    let mut files = vec![
        FileMount::new("/etc/hosts", settings.host_files.hosts.clone()),
        FileMount::new("/etc/resolv.conf", settings.host_files.resolv_conf.clone()),
    ];
    files.extend(
        run.script.iter().map(|script| FileMount::new(&script.path, script.text.clone()).mode(0o755)),
    );
    Sandbox {
        files,
        // A secret may lie in what a mount shows.
        files_in_mounts: surroundings.files,
        mounts: surroundings.mounts,
        network: match run.network {
            Network::Host => runner::Network::Host,
            Network::None => runner::Network::None,
        },
        limits: settings.limits.clone(),
        security: if run.insecure { Security::insecure() } else { Security::default() },
        hostname: HOSTNAME.to_owned(),
        shm_size_bytes: settings.shm_size_bytes,
        cgroup_parent: settings.cgroup_parent.as_ref().map(PathBuf::from),
        ..Sandbox::new(root)
    }
}

/// Reads a command's output until nobody holds its other end.
fn drain(mut output: impl std::io::Read, sink: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => sink(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
