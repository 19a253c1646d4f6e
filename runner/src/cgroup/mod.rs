//! One container's cgroups: created, limited, read and removed by the launcher, entered by the container.
//!
//! Order: [`Group::create`] makes a directory in each hierarchy that is needed and writes the limits → the
//! container is cloned into the v2 one and writes `0` to the `tasks` file of each v1 one (never a foreign
//! pid to `cgroup.procs`, which waits for an RCU grace period) → [`Group::usage`] → [`Group::remove`].
//!
//! Cgroup v1, v2 and both at once are decided controller by controller. Absent or unwritable cgroups are a
//! value: without limits the container runs without them, and a limit that cannot be set is an error.

mod device;
mod hierarchy;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use hierarchy::{CgroupMount, Hierarchies};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Failure, Limit, Obstacle};
use crate::sandbox::Limits;
use hierarchy::{Controller, Place};

/// The period over which processor time is shared out, in microseconds: the kernel's default.
const CPU_PERIOD_MICROS: u64 = 100_000;
/// The kernel refuses smaller shares.
const LEAST_CPU_QUOTA_MICROS: u64 = 1_000;

/// What the names of our cgroups start with.
const PREFIX: &str = "lbuild-";
/// How many names are tried.
const NAMES: u32 = 8;

/// The cgroups of one container.
#[derive(Default)]
pub(crate) struct Group {
    /// Its directory in the v2 hierarchy.
    unified: Option<PathBuf>,
    /// The same, open until the container is in it.
    directory: Option<OwnedFd>,
    /// Its directories in v1 hierarchies.
    v1: Vec<PathBuf>,
    /// The `tasks` file of each, open until the container is in it.
    tasks: Vec<File>,
    /// Where its memory is counted.
    memory: Option<MemoryFiles>,
    /// Whether the kernel checks which devices it opens and makes.
    pub(crate) guards_devices: bool,
}

/// Where the memory controller of a container lives.
enum MemoryFiles {
    V1(PathBuf),
    V2(PathBuf),
}

/// What the cgroups tell about a container that has ended.
#[derive(Default)]
pub(crate) struct GroupUsage {
    pub(crate) cpu: Option<Duration>,
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) oom_killed: bool,
}

impl Group {
    /// Makes the cgroups of a container and sets its limits; on an error nothing is left.
    pub(crate) fn create(hierarchies: &mut Hierarchies, limits: &Limits) -> Result<Group, Failure> {
        let mut group = Group::default();
        let made = group.build(hierarchies, &random_name(PREFIX), limits);
        match made {
            Ok(()) => Ok(group),
            Err(failure) => {
                // Empty directories: their removal cannot be refused as busy.
                group.remove();
                Err(failure)
            }
        }
    }

    fn build(&mut self, hierarchies: &mut Hierarchies, name: &str, limits: &Limits) -> Result<(), Failure> {
        let asked: Vec<Asked> = Asked::of(limits);
        let in_v2: Vec<Controller> = asked
            .iter()
            .map(|asked| asked.controller())
            .filter(|&controller| hierarchies.place(controller) == Some(Place::V2))
            .collect();
        let parent = hierarchies
            .parent_for(&in_v2)
            .map_err(|(controller, obstacle)| Failure::Limit { limit: controller.limit(), obstacle })?;
        if let Some(parent) = parent {
            let entered = self.enter_v2(&parent, name);
            // Without a limit the container does without.
            if let (Err(error), Some(controller)) = (entered, in_v2.first()) {
                return Err(refused(controller.limit(), &parent, &error));
            }
        }
        for asked in asked {
            self.limit(hierarchies, name, asked)?;
        }
        self.guards_devices = self.guard_devices(hierarchies, name);
        Ok(())
    }

    fn limit(&mut self, hierarchies: &Hierarchies, name: &str, asked: Asked) -> Result<(), Failure> {
        let controller = asked.controller();
        let limit = controller.limit();
        let directory = match (hierarchies.place(controller), &self.unified) {
            (Some(Place::V1), _) => {
                let parent = hierarchies.v1_directory(controller);
                self.enter_v1(parent, name).map_err(|error| refused(limit, parent, &error))?
            }
            (Some(Place::V2), Some(path)) => path.clone(),
            _ => {
                let obstacle = Obstacle::NoController { controller: controller.name().to_owned() };
                return Err(Failure::Limit { limit, obstacle });
            }
        };
        let v2 = hierarchies.place(controller) == Some(Place::V2);
        for (file, value, optional) in asked.files(v2) {
            let path = directory.join(file);
            match write(&path, &value) {
                Err(error) if optional && error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(|error| refused(limit, &path, &error))?,
            }
        }
        if controller == Controller::Memory {
            self.memory = Some(if v2 { MemoryFiles::V2(directory) } else { MemoryFiles::V1(directory) });
        }
        Ok(())
    }

    /// Lets the kernel refuse all but the harmless devices; tells whether it does.
    fn guard_devices(&mut self, hierarchies: &Hierarchies, name: &str) -> bool {
        if hierarchies.place(Controller::Devices) == Some(Place::V1) {
            let parent = hierarchies.v1_directory(Controller::Devices);
            return self.enter_v1(parent, name).and_then(|path| device::restrict_v1(&path)).is_ok();
        }
        match &self.directory {
            Some(directory) => device::restrict_v2(directory.as_fd()).is_ok(),
            None => false,
        }
    }

    fn enter_v2(&mut self, parent: &Path, name: &str) -> io::Result<()> {
        let path = self.unified.insert(make(parent, name)?);
        self.directory = Some(File::open(path)?.into());
        Ok(())
    }

    /// Makes a v1 directory, unless a controller mounted together with this one has.
    fn enter_v1(&mut self, parent: &Path, name: &str) -> io::Result<PathBuf> {
        if let Some(known) = self.v1.iter().find(|known| known.parent() == Some(parent)) {
            return Ok(known.clone());
        }
        let path = make(parent, name)?;
        self.v1.push(path.clone());
        self.tasks.push(OpenOptions::new().write(true).open(path.join("tasks"))?);
        Ok(path)
    }

    /// What the container is to see below `/sys/fs/cgroup`: the hierarchies it has a cgroup of its own in.
    pub(crate) fn mounts(&self, hierarchies: &Hierarchies) -> Vec<CgroupMount> {
        let parents: Vec<&Path> = self.v1.iter().filter_map(|path| path.parent()).collect();
        hierarchies.mounts(&parents, self.directory.is_some())
    }

    /// The v2 directory for `CLONE_INTO_CGROUP`.
    pub(crate) fn directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// The v1 `tasks` files, for [`Group::join`].
    pub(crate) fn tasks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tasks.iter().map(AsFd::as_fd)
    }

    /// Enters the v1 cgroups: called by the container's process while it has one thread.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.tasks.iter().try_for_each(|mut tasks| tasks.write_all(b"0"))
    }

    /// Closes what the container needed on its way in: the launcher may have many containers.
    pub(crate) fn settle(&mut self) {
        self.tasks.clear();
        self.directory = None;
    }

    /// Kills every process in it; on a machine without v2 the pid namespace does that alone.
    pub(crate) fn kill(&self) {
        if let Some(path) = &self.unified {
            // The file is younger (5.14) than v2; the caller kills pid 1 as well.
            let _absent = write(&path.join("cgroup.kill"), "1");
        }
    }

    /// What the container used. To be read after its end and before [`Group::remove`].
    pub(crate) fn usage(&self) -> GroupUsage {
        let cpu = self.unified.as_ref().and_then(|path| entry(&path.join("cpu.stat"), "usage_usec"));
        let (peak, kills) = match &self.memory {
            None => (None, None),
            Some(MemoryFiles::V1(path)) => (
                number(&path.join("memory.max_usage_in_bytes")),
                entry(&path.join("memory.oom_control"), "oom_kill"),
            ),
            Some(MemoryFiles::V2(path)) => {
                (number(&path.join("memory.peak")), entry(&path.join("memory.events"), "oom_kill"))
            }
        };
        GroupUsage {
            cpu: cpu.map(Duration::from_micros),
            peak_memory_bytes: peak,
            oom_killed: kills.is_some_and(|kills| kills > 0),
        }
    }

    /// Removes its directories; tells whether they are all gone. The kernel may call one busy for a moment
    /// after its last process has ended: call again then.
    pub(crate) fn remove(&mut self) -> bool {
        self.v1.retain(|path| !removed(path));
        if self.unified.as_ref().is_some_and(|path| removed(path)) {
            self.unified = None;
        }
        self.v1.is_empty() && self.unified.is_none()
    }
}

/// A limit asked for.
#[derive(Clone, Copy)]
enum Asked {
    MemoryBytes(u64),
    NanoCpus(u64),
    Pids(u64),
}

impl Asked {
    fn of(limits: &Limits) -> Vec<Asked> {
        let memory = limits.memory_bytes.map(Asked::MemoryBytes);
        let cpu = limits.nano_cpus.map(Asked::NanoCpus);
        let pids = limits.pids.map(Asked::Pids);
        [memory, cpu, pids].into_iter().flatten().collect()
    }

    fn controller(self) -> Controller {
        match self {
            Asked::MemoryBytes(_) => Controller::Memory,
            Asked::NanoCpus(_) => Controller::Cpu,
            Asked::Pids(_) => Controller::Pids,
        }
    }

    /// The files to write, in order, and which of them a kernel may lack.
    fn files(self, v2: bool) -> Vec<(&'static str, String, bool)> {
        match (self, v2) {
            // Swap is not extra memory: with swap accounting the sum is limited to the same number.
            (Asked::MemoryBytes(bytes), false) => vec![
                ("memory.limit_in_bytes", bytes.to_string(), false),
                ("memory.memsw.limit_in_bytes", bytes.to_string(), true),
            ],
            (Asked::MemoryBytes(bytes), true) => vec![
                ("memory.max", bytes.to_string(), false),
                ("memory.swap.max", "0".to_owned(), true),
                ("memory.oom.group", "1".to_owned(), true),
            ],
            (Asked::NanoCpus(nano), false) => vec![
                ("cpu.cfs_period_us", CPU_PERIOD_MICROS.to_string(), false),
                ("cpu.cfs_quota_us", quota_micros(nano).to_string(), false),
            ],
            (Asked::NanoCpus(nano), true) => {
                vec![("cpu.max", format!("{} {CPU_PERIOD_MICROS}", quota_micros(nano)), false)]
            }
            (Asked::Pids(pids), _) => vec![("pids.max", pids.to_string(), false)],
        }
    }
}

fn quota_micros(nano_cpus: u64) -> u64 {
    let quota = u128::from(nano_cpus) * u128::from(CPU_PERIOD_MICROS) / 1_000_000_000;
    u64::try_from(quota).unwrap_or(u64::MAX).max(LEAST_CPU_QUOTA_MICROS)
}

fn refused(limit: Limit, path: &Path, error: &io::Error) -> Failure {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    Failure::Limit { limit, obstacle: Obstacle::Refused { path: path.display().to_string(), errno } }
}

/// A name that nobody else has: process ids repeat, in other pid namespaces and in time.
fn random_name(prefix: &str) -> String {
    let mut bits = [0; 8];
    // Fails only in a kernel without the call; a name that is taken is not used then either.
    let _filled = getrandom(&mut bits, GetRandomFlags::empty());
    format!("{prefix}{:016x}", u64::from_ne_bytes(bits))
}

/// Makes a cgroup of this name, or of another that starts alike if somebody has it: what exists is not ours.
fn make(parent: &Path, name: &str) -> io::Result<PathBuf> {
    let mut path = parent.join(name);
    for _ in 0..NAMES {
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = parent.join(random_name(PREFIX));
            }
            outcome => return outcome.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn removed(path: &Path) -> bool {
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Writes a cgroup file in one call, as the kernel wants it; never creates one.
fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// A file that holds one number.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// One line of a file of `key value` lines.
fn entry(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let first = make(parent.path(), "lbuild-x").unwrap();
        assert_eq!(first, parent.path().join("lbuild-x"));
        let second = make(parent.path(), "lbuild-x").unwrap();
        assert_ne!(first, second);
        assert!(second.is_dir() && second.parent() == Some(parent.path()));
        assert!(make(&parent.path().join("absent"), "lbuild-x").is_err());
    }

    #[test]
    fn limits_become_the_kernel_s_numbers() {
        for (asked, v2, expected) in [
            (Asked::NanoCpus(1_500_000_000), true, "cpu.max=150000 100000"),
            (Asked::NanoCpus(1), true, "cpu.max=1000 100000"),
            (Asked::NanoCpus(250_000_000), false, "cpu.cfs_period_us=100000 cpu.cfs_quota_us=25000"),
            (Asked::Pids(20), true, "pids.max=20"),
            (Asked::MemoryBytes(4096), true, "memory.max=4096 memory.swap.max=0 memory.oom.group=1"),
        ] {
            let files = asked.files(v2);
            let got: Vec<String> = files.iter().map(|(file, value, _)| format!("{file}={value}")).collect();
            assert_eq!(got.join(" "), expected);
        }
    }
}
