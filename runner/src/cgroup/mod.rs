//! One container's cgroups: created, limited, read and removed by the launcher, entered by the container.
//!
//! Order: [`Group::create`] makes a directory in each hierarchy that is needed and writes the limits → the
//! container is cloned into the v2 one and writes `0` to the `tasks` file of each v1 one (never a foreign
//! pid to `cgroup.procs`, which waits for an RCU grace period) → [`Group::usage`] → [`Group::remove`].
//!
//! Cgroup v1, v2 and both at once are decided controller by controller. Absent or unwritable cgroups are a
//! value: without limits the container runs without them, and a limit that cannot be set is an error.

mod asked;
mod device;
mod hierarchy;
mod site;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use hierarchy::{CgroupMount, Hierarchies};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Failure, Obstacle};
use crate::limits::Limits;
use asked::Asked;
use hierarchy::{Controller, Place};
use site::Site;

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
    ///
    /// `parent` is where to make them instead of in lbuild's own; `guard` whether to refuse devices.
    pub(crate) fn create(
        hierarchies: &mut Hierarchies,
        limits: &Limits,
        parent: Option<&Path>,
        guard: bool,
    ) -> Result<Group, Failure> {
        let mut group = Group::default();
        let made = group.build(&mut Site::new(hierarchies, parent), limits, guard);
        match made {
            Ok(()) => Ok(group),
            Err(failure) => {
                // Empty directories: their removal cannot be refused as busy.
                group.remove(hierarchies);
                Err(failure)
            }
        }
    }

    fn build(&mut self, site: &mut Site<'_>, limits: &Limits, guard: bool) -> Result<(), Failure> {
        let name = random_name(PREFIX);
        let asked = Asked::of(limits);
        let in_v2: Vec<&Asked> =
            asked.iter().filter(|asked| site.place(asked.controller()) == Some(Place::V2)).collect();
        let controllers: Vec<Controller> = in_v2.iter().map(|asked| asked.controller()).collect();
        let entered = site.make_v2(&controllers, &name).and_then(|path| self.enter_v2(path));
        match (entered, in_v2.first()) {
            (Ok(()), _) => {}
            (Err(obstacle), Some(asked)) => return Err(site.blame(asked.limit(), obstacle)),
            (Err(obstacle), None) => site.must_have(obstacle)?,
        }
        // What a named cgroup limits is told by each of its directories.
        for controller in site.v1_to_enter() {
            if let Err(obstacle) = self.enter_v1(site, &controller, &name) {
                site.must_have(obstacle)?;
            }
        }
        for asked in &asked {
            self.limit(site, &name, asked)?;
        }
        self.guards_devices = guard && self.guard_devices(site, &name);
        if self.v1.is_empty() && self.unified.is_none() {
            site.must_have(Obstacle::NoHierarchy)?;
        }
        Ok(())
    }

    fn limit(&mut self, site: &mut Site<'_>, name: &str, asked: &Asked) -> Result<(), Failure> {
        let controller = asked.controller();
        let place = site.place(controller);
        let directory = match (place, &self.unified) {
            (Some(Place::V1), _) => self.enter_v1(site, controller.name(), name),
            (Some(Place::V2), Some(path)) => Ok(path.clone()),
            _ => Err(Obstacle::NoController { controller: controller.name().to_owned() }),
        };
        let directory = directory.map_err(|obstacle| site.blame(asked.limit(), obstacle))?;
        let v2 = place == Some(Place::V2);
        for (file, value, optional) in asked.files(v2) {
            let path = directory.join(file);
            match write(&path, &value) {
                Err(error) if optional && error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(|error| Failure::Limit {
                    limit: asked.limit(),
                    obstacle: Obstacle::refused(&path, &error),
                })?,
            }
        }
        if controller == Controller::Memory {
            self.memory = Some(if v2 { MemoryFiles::V2(directory) } else { MemoryFiles::V1(directory) });
        }
        Ok(())
    }

    /// Lets the kernel refuse all but the harmless devices; tells whether it does.
    fn guard_devices(&mut self, site: &mut Site<'_>, name: &str) -> bool {
        let devices = Controller::Devices;
        if site.place(devices) == Some(Place::V1) {
            let entered = self.enter_v1(site, devices.name(), name);
            return entered.is_ok_and(|path| device::restrict_v1(&path).is_ok());
        }
        match &self.directory {
            Some(directory) => device::restrict_v2(directory.as_fd()).is_ok(),
            None => false,
        }
    }

    fn enter_v2(&mut self, path: Option<PathBuf>) -> Result<(), Obstacle> {
        let Some(path) = path else { return Ok(()) };
        let path = self.unified.insert(path);
        self.directory = Some(File::open(&path).map_err(|error| Obstacle::refused(path, &error))?.into());
        Ok(())
    }

    /// Makes a v1 directory, unless a controller mounted together with this one has.
    fn enter_v1(&mut self, site: &mut Site<'_>, controller: &str, name: &str) -> Result<PathBuf, Obstacle> {
        if let Some(known) = self.v1.iter().find(|known| site.has_v1(controller, known)) {
            return Ok(known.clone());
        }
        let path = site.make_v1(controller, name)?;
        self.v1.push(path.clone());
        let tasks = path.join("tasks");
        let opened = OpenOptions::new().write(true).open(&tasks);
        self.tasks.push(opened.map_err(|error| Obstacle::refused(&tasks, &error))?);
        Ok(path)
    }

    /// What the container is to see below `/sys/fs/cgroup`: the hierarchies it has a cgroup of its own in.
    pub(crate) fn mounts(&self, hierarchies: &Hierarchies) -> Vec<CgroupMount> {
        hierarchies.mounts(&self.v1, self.directory.is_some())
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
    pub(crate) fn remove(&mut self, hierarchies: &mut Hierarchies) -> bool {
        self.v1.retain(|path| !removed_with_all(path));
        if self.unified.as_ref().is_some_and(|path| removed_with_all(path)) {
            self.unified = None;
        }
        hierarchies.remove_empty_parents();
        self.v1.is_empty() && self.unified.is_none()
    }
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

/// Gives a new v1 cgroup the processors and memory nodes of the one it is in: without any, nothing may enter
/// it (cpuset(7)). Hierarchies without that controller, and v2, need nothing.
fn seed(path: &Path) -> io::Result<()> {
    if !path.join("tasks").exists() {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let of = |directory: &Path| fs::read_to_string(directory.join(file)).ok();
        if let (Some(own), Some(outer)) = (of(path), path.parent().and_then(of))
            && own.trim().is_empty()
        {
            write(&path.join(file), outer.trim())?;
        }
    }
    Ok(())
}

/// Removes a container's cgroup and those that it made in it, if it might.
fn removed_with_all(path: &Path) -> bool {
    if removed(path) {
        return true;
    }
    let directories = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in directories.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        removed_with_all(&entry.path());
    }
    removed(path)
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
}
