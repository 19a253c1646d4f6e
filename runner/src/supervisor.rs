//! The launcher's loop: jobs in, containers out, nothing left behind.
//!
//! It has one thread and never waits for a container: it polls its control socket, each container's set-up
//! socket until the exec, and each pidfd. When a container's first process ends, its cgroups are read and
//! removed and its mount points taken out of the root before the client hears of it. When the control socket
//! closes, lbuild is gone, however it went: every container is killed and cleaned up, and the loop returns.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use libc::sock_filter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, getrlimit, pidfd_send_signal, setrlimit};

use crate::capability::{Capability, CapabilitySet};
use crate::cgroup::{Group, Hierarchies};
use crate::error::{Failure, Step};
use crate::init::{self, Seed};
use crate::process::{Exit, Status, Usage};
use crate::protocol::{self, Event, Job, Report, Submission};
use crate::sandbox::{Devices, Network, Seccomp};
use crate::stub::Stub;
use crate::{seccomp, sys};

/// How long to leave a cgroup that the kernel calls busy.
const BUSY_CGROUP_PAUSE: Duration = Duration::from_millis(2);
/// How often it is tried before it is left to the next boot.
const BUSY_CGROUP_TRIES: u32 = 500;

/// The launcher's whole life; returns when lbuild is gone.
pub(crate) fn run(control: &OwnedFd) -> io::Result<()> {
    let nofile = become_launcher(control)?;
    let mut supervisor = Supervisor {
        hierarchies: None,
        filters: HashMap::new(),
        running: Vec::new(),
        leftovers: Vec::new(),
        nofile,
    };
    while supervisor.turn(control)? {}
    supervisor.end();
    Ok(())
}

/// Separates the new process from the one it was forked from; gives the original limit on descriptors.
///
/// Only the end of lbuild ends the launcher, for it is needed to clean up: it ignores the signals that people
/// end programs with, and its name is not lbuild's, so that `pkill lbuild` leaves it alone.
fn become_launcher(control: &OwnedFd) -> io::Result<Rlimit> {
    // A session of our own: Ctrl-C is lbuild's to handle.
    rustix::process::setsid()?;
    rustix::thread::set_name(c"launcher")?;
    sys::ignore_signals(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE]);
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let null = open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // A reader of lbuild's output must not wait for us.
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    sys::close_all_but(3, &[control.as_fd()])?;
    std::mem::forget(null);
    // Not below lbuild's working directory, so that it can be unmounted.
    rustix::process::chdir(c"/")?;
    let nofile = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: nofile.maximum, maximum: nofile.maximum })?;
    Ok(nofile)
}

/// Seccomp programs by what they allow: compiling one takes as long as starting a container.
type Filters = HashMap<CapabilitySet, Rc<[sock_filter]>>;

struct Supervisor {
    /// Read when the first container is started.
    hierarchies: Option<Hierarchies>,
    filters: Filters,
    running: Vec<Running>,
    /// Cgroups of ended containers that the kernel still calls busy, and how often they were tried.
    leftovers: Vec<(Group, u32)>,
    nofile: Rlimit,
}

/// A container between its clone and its end.
struct Running {
    pid: i32,
    pidfd: OwnedFd,
    /// Closed by the exec.
    setup: Option<OwnedFd>,
    status: OwnedFd,
    group: Group,
    /// The program as asked for.
    program: OsString,
    memory_limit_bytes: Option<u64>,
    stubs: Vec<Stub>,
    terminal: Option<OwnedFd>,
    failure: Option<Failure>,
}

/// The descriptors of a job, told apart.
struct Arrival {
    job: Job,
    status: OwnedFd,
    root: OwnedFd,
    streams: Option<[OwnedFd; 3]>,
    binds: Vec<OwnedFd>,
}

impl Supervisor {
    /// Waits for something to happen and sees to it; false when lbuild is gone.
    fn turn(&mut self, control: &OwnedFd) -> io::Result<bool> {
        let (called, events) = self.wait(control)?;
        for (running, (setup, ended)) in self.running.iter_mut().zip(&events) {
            // What a container said before it ended comes before its end.
            if *setup || *ended {
                running.listen(*ended);
            }
        }
        let mut ended = events.iter().map(|(_, ended)| *ended);
        let finished: Vec<Running> = self.running.extract_if(.., |_| ended.next() == Some(true)).collect();
        finished.into_iter().for_each(|running| self.finish(running));
        if let Some(hierarchies) = &mut self.hierarchies {
            self.leftovers.retain_mut(|(group, tries)| {
                *tries += 1;
                !group.remove(hierarchies) && *tries < BUSY_CGROUP_TRIES
            });
        }
        if !called {
            return Ok(true);
        }
        match protocol::receive::<Submission>(control) {
            Ok(Some((Submission, descriptors))) => {
                self.accept(descriptors);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Polls: whether the control socket calls, and for each container whether its set-up or its end does.
    fn wait(&self, control: &OwnedFd) -> io::Result<(bool, Vec<(bool, bool)>)> {
        let mut polled = vec![PollFd::new(control, PollFlags::IN)];
        for running in &self.running {
            polled.push(PollFd::new(&running.pidfd, PollFlags::IN));
            // A closed set-up socket would always be ready: the pidfd stands in for it.
            polled.push(PollFd::new(running.setup.as_ref().unwrap_or(&running.pidfd), PollFlags::IN));
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: BUSY_CGROUP_PAUSE.subsec_nanos().into() };
        rustix::io::retry_on_intr(|| poll(&mut polled, (!self.leftovers.is_empty()).then_some(&pause)))?;
        let ready = |at: usize| !polled[at].revents().is_empty();
        let events = self
            .running
            .iter()
            .enumerate()
            .map(|(at, running)| (running.setup.is_some() && ready(2 * at + 2), ready(2 * at + 1)));
        Ok((ready(0), events.collect()))
    }

    /// Starts the container that a client sent, or tells it why not.
    fn accept(&mut self, descriptors: Vec<OwnedFd>) {
        // A message that is not a job has no status socket to answer on: its client sees it close.
        let Some(arrival) = Arrival::read(descriptors) else { return };
        match self.start(&arrival) {
            Ok((pid, pidfd, setup, group)) => self.running.push(Running {
                pid,
                pidfd,
                setup: Some(setup),
                status: arrival.status,
                group,
                program: arrival.job.process.args.into_iter().next().unwrap_or_default(),
                memory_limit_bytes: arrival.job.limits.memory_bytes,
                stubs: Vec::new(),
                terminal: None,
                failure: None,
            }),
            Err(failure) => tell(&arrival.status, &Event::Failed(failure), &[]),
        }
    }

    fn start(&mut self, arrival: &Arrival) -> Result<(i32, OwnedFd, OwnedFd, Group), Failure> {
        let job = &arrival.job;
        let hierarchies = self.hierarchies.get_or_insert_with(Hierarchies::detect);
        let guard = job.security.devices == Devices::Harmless;
        let mut group = Group::create(hierarchies, &job.limits, job.cgroup_parent.as_deref(), guard)?;
        let cgroup_mounts = group.mounts(hierarchies);
        let mut capabilities = job.security.capabilities;
        let unguarded = guard && !group.guards_devices;
        if unguarded {
            // Nothing would keep a node made inside from reaching the host's disks.
            capabilities = capabilities.without(Capability::Mknod);
        }
        let filter = match job.security.seccomp {
            Seccomp::Unconfined => None,
            Seccomp::Default => Some(filter(&mut self.filters, capabilities)),
        };
        let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWPID;
        if job.network == Network::None {
            namespaces |= libc::CLONE_NEWNET;
        }
        let cloned = protocol::channel()
            .and_then(|channel| Ok((channel, sys::clone_into(namespaces, group.directory())?)));
        match cloned {
            Ok(((_, report), sys::Clone::Child)) => init::run(&Seed {
                job,
                capabilities,
                report,
                root: &arrival.root,
                streams: arrival.streams.as_ref(),
                binds: &arrival.binds,
                group: &group,
                unguarded,
                cgroup_mounts: &cgroup_mounts,
                filter: filter.as_deref(),
                nofile: self.nofile,
            }),
            Ok(((setup, report), sys::Clone::Parent { pid, pidfd })) => {
                drop(report);
                // The container has its own copies.
                group.settle();
                Ok((pid, pidfd, setup, group))
            }
            Err(error) => {
                group.remove(hierarchies);
                Err(Failure::Setup { step: Step::Clone, errno: error.raw_os_error().unwrap_or(libc::EINVAL) })
            }
        }
    }

    /// Reaps a container, takes away what it leaves, and tells its client.
    fn finish(&mut self, mut running: Running) {
        let reaped = sys::reap(running.pid);
        let group = running.group.usage();
        while let Some(stub) = running.stubs.pop() {
            // A root that refuses (read-only below, full) keeps an empty mount point: harmless.
            let _kept = stub.remove();
        }
        // A container that runs has had its cgroups made there.
        let removed = self.hierarchies.as_mut().is_none_or(|hierarchies| running.group.remove(hierarchies));
        if !removed {
            self.leftovers.push((running.group, 0));
        }
        if let Some(failure) = running.failure {
            return tell(&running.status, &Event::Failed(failure), &[]);
        }
        let Ok((status, rusage)) = reaped else { return };
        let exit = Exit {
            status: if libc::WIFSIGNALED(status) {
                Status::Signal(libc::WTERMSIG(status))
            } else {
                Status::Code((libc::WEXITSTATUS(status) & 0xff) as u8)
            },
            oom_limit_bytes: running.memory_limit_bytes.filter(|_| group.oom_killed),
            usage: Usage {
                cpu: group.cpu.unwrap_or_else(|| duration(rusage.ru_utime) + duration(rusage.ru_stime)),
                peak_memory_bytes: group.peak_memory_bytes,
            },
        };
        tell(&running.status, &Event::Exited(exit), &[]);
    }

    /// Kills and cleans up everything: lbuild is gone.
    fn end(mut self) {
        for running in &self.running {
            running.group.kill();
            // It may have ended by itself.
            let _gone = pidfd_send_signal(&running.pidfd, Signal::KILL);
        }
        for mut running in std::mem::take(&mut self.running) {
            // Its pidfd polls readable when it is dead, which the signal above makes sure of.
            let mut dead = [PollFd::new(&running.pidfd, PollFlags::IN)];
            let _readable = rustix::io::retry_on_intr(|| poll(&mut dead, None));
            running.listen(true);
            self.finish(running);
        }
        let Some(mut hierarchies) = self.hierarchies else { return };
        for _ in 0..BUSY_CGROUP_TRIES {
            self.leftovers.retain_mut(|(group, _)| !group.remove(&mut hierarchies));
            if self.leftovers.is_empty() {
                break;
            }
            std::thread::sleep(BUSY_CGROUP_PAUSE);
        }
        hierarchies.leave();
    }
}

impl Running {
    /// Takes what the set-up says: one message, or all that is left when the container has `ended`.
    fn listen(&mut self, ended: bool) {
        while let Some(setup) = &self.setup {
            match protocol::receive_report(setup) {
                Ok(Some((Report::Stub(record), mut descriptors))) => {
                    if let Some(parent) = descriptors.pop() {
                        self.stubs.push(Stub { parent, record });
                    }
                }
                Ok(Some((Report::Terminal, mut descriptors))) => self.terminal = descriptors.pop(),
                Ok(Some((Report::Failed(failure), _))) => self.failure = Some(failure),
                Ok(Some((Report::NotExecuted { errno }, _))) => {
                    self.failure = Some(Failure::not_executed(&self.program, errno));
                }
                // The program is executing, or the process died before it could.
                Ok(None) | Err(_) => {
                    self.setup = None;
                    if self.failure.is_none() {
                        let descriptors = std::iter::once(&self.pidfd).chain(&self.terminal);
                        let descriptors: Vec<_> = descriptors.map(AsFd::as_fd).collect();
                        tell(&self.status, &Event::Started { pid: self.pid.cast_unsigned() }, &descriptors);
                        self.terminal = None;
                    }
                }
            }
            if !ended {
                return;
            }
        }
    }
}

impl Arrival {
    fn read(descriptors: Vec<OwnedFd>) -> Option<Arrival> {
        let mut descriptors = descriptors.into_iter();
        let file = File::from(descriptors.next()?);
        let status = descriptors.next()?;
        let root = descriptors.next()?;
        let job: Job = serde_json::from_reader(io::BufReader::new(file)).ok()?;
        let streams = match job.terminal {
            Some(_) => None,
            None => Some([descriptors.next()?, descriptors.next()?, descriptors.next()?]),
        };
        Some(Arrival { job, status, root, streams, binds: descriptors.collect() })
    }
}

/// The program for a set of capabilities, compiled once.
fn filter(filters: &mut Filters, capabilities: CapabilitySet) -> Rc<[sock_filter]> {
    filters.entry(capabilities).or_insert_with(|| seccomp::compile(capabilities).into()).clone()
}

/// Tells a client. One that is gone does not need to know.
fn tell(status: &OwnedFd, event: &Event, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    let _gone = protocol::send(status, event, descriptors);
}

fn duration(time: libc::timeval) -> Duration {
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_usec).unwrap_or(0) * 1000)
}
