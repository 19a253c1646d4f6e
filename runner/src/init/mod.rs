//! The container's side: pid 1 turns the copy of the launcher that it is into the user's program.
//!
//! Order: leave the launcher (descriptors, session, signals, keyring) → cgroups and their namespace → host
//! name, loopback → root attached, mounts, masks → terminal → pivot → user, working directory, streams,
//! limits → groups, bounding set, filter, ids, capabilities → trampoline → exec. Every step is named in [`Step`]; the
//! first that fails is reported to the launcher and ends the process.
//!
//! Invariants: this process has one thread; it holds no descriptor of another container; every place in the
//! root file system is reached from the root's descriptor and never outside it; nothing is written through
//! `/proc` of the root.

mod devices;
mod exec;
mod identity;
mod mounts;
mod root;
mod terminal;
mod trampoline;

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::sock_filter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Rlimit, Signal};

use crate::capability::CapabilitySet;
use crate::cgroup::{CgroupMount, Group};
use crate::error::{AtStep, Failure, Step};
use crate::protocol::{self, Job, Report};
use crate::sandbox::Network;
use crate::{sys, user};
use mounts::Backing;
use root::Root;

/// What the launcher hands to the container's process, in memory.
pub(crate) struct Seed<'a> {
    pub(crate) job: &'a Job,
    /// The job's, less what this machine cannot contain.
    pub(crate) capabilities: CapabilitySet,
    /// Where to report to; its closing by the exec means success.
    pub(crate) report: OwnedFd,
    pub(crate) root: &'a OwnedFd,
    /// Standard input, output and error, unless there is a terminal.
    pub(crate) streams: Option<&'a [OwnedFd; 3]>,
    pub(crate) binds: &'a [OwnedFd],
    pub(crate) group: &'a Group,
    /// Whether devices are to be refused and no cgroup does it.
    pub(crate) unguarded: bool,
    pub(crate) cgroup_mounts: &'a [CgroupMount],
    pub(crate) filter: Option<&'a [sock_filter]>,
    /// The limit on descriptors that lbuild was started with.
    pub(crate) nofile: Rlimit,
}

/// The exit code of a container that was never one; nobody but the launcher sees it.
const SETUP_EXIT_CODE: i32 = 125;

/// Becomes the program, or reports why not.
pub(crate) fn run(seed: &Seed<'_>) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| set_up(seed)));
    match outcome {
        Ok(Err(failure)) => give_up(&seed.report, failure),
        Ok(Ok(never)) => match never {},
        Err(_panic) => sys::exit_now(SETUP_EXIT_CODE),
    }
}

/// Tells the launcher why there is no program, and ends.
fn give_up(report: &OwnedFd, failure: Failure) -> ! {
    // If the launcher is gone nobody wants to know.
    let _gone = protocol::send(report, &Report::Failed(failure), &[]);
    sys::exit_now(SETUP_EXIT_CODE)
}

fn set_up(seed: &Seed<'_>) -> Result<Infallible, Failure> {
    let job = seed.job;
    leave_launcher(seed)?;
    seed.group.join().at(|| Step::JoinCgroup)?;
    own_cgroup_view().at(|| Step::JoinCgroup)?;
    rustix::system::sethostname(job.hostname.as_bytes()).at(|| Step::Hostname)?;
    if job.network == Network::None {
        sys::loopback_up().at(|| Step::Loopback)?;
    }

    let host = root::leave_host(seed.root)?;
    let backing = Backing::attach(seed).at(|| Step::Root)?;
    let root = Root::attach(seed.root, &seed.report, seed.unguarded)?;
    let system = mounts::mount_system(&root, &host, seed)?;
    let terminal = match job.terminal {
        Some(size) => Some(terminal::open(&system, size, &seed.report).at(|| Step::Terminal)?),
        None => None,
    };
    mounts::mount_users(&root, &system, &backing, seed)?;
    let inside = root.enter(&host, job.read_only_root)?;

    let identity = user::resolve(inside.as_fd(), &job.process.user)?;
    let environment = exec::environment(job, &identity);
    Root::inside(&inside, &seed.report).enter_directory(&job.process.cwd, &identity)?;
    terminal::connect(seed.streams, terminal, &system.null, identity.uid).at(|| Step::Streams)?;
    rustix::process::umask(Mode::from_bits_truncate(job.process.umask));
    sys::cloexec_from(3).at(|| Step::Detach)?;
    // So late, because they bind us too: nothing is opened any more.
    identity::limit_resources(seed)?;
    identity::become_user(seed, &identity)?;
    die_with_launcher(&seed.report).at(|| Step::Detach)?;
    // Not by returning: the descriptors that are owned here are closed by now.
    give_up(&seed.report, exec::execute(&job.process.args, &environment, backing.trampoline(), &seed.report))
}

/// Gives up everything of the launcher's that is not this container's.
fn leave_launcher(seed: &Seed<'_>) -> Result<(), Failure> {
    let mut kept: Vec<BorrowedFd<'_>> = vec![seed.report.as_fd(), seed.root.as_fd()];
    kept.extend(seed.streams.into_iter().flatten().chain(seed.binds).map(AsFd::as_fd));
    kept.extend(seed.group.tasks());
    sys::close_all_but(3, &kept).at(|| Step::Detach)?;
    die_with_launcher(&seed.report).at(|| Step::Detach)?;
    rustix::process::setsid().at(|| Step::Detach)?;
    rustix::process::umask(Mode::empty());
    sys::reset_signals();
    match sys::new_session_keyring() {
        // No keyrings in this kernel, or not for us: then there is none to hide either.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EDQUOT)) => {
            Ok(())
        }
        outcome => outcome.at(|| Step::Detach),
    }
}

/// Asks the kernel to kill us with the launcher, and makes sure that it has not been too late.
///
/// The parent's id is 0 from inside the pid namespace whether it lives or not: its end of the socket tells.
fn die_with_launcher(report: &OwnedFd) -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut launcher = [PollFd::new(report, PollFlags::HUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::io::retry_on_intr(|| poll(&mut launcher, Some(&now)))? {
        0 => Ok(()),
        _ => Err(Errno::PIPE),
    }
}

/// Makes the container's cgroup look like the top of the hierarchy from inside.
fn own_cgroup_view() -> rustix::io::Result<()> {
    match nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP) {
        // A kernel without cgroups.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => Ok(()),
        Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
    }
}
