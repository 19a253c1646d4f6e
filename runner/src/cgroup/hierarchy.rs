//! Where this machine keeps its cgroups, and where ours may be made.
//!
//! Read once from `/proc/self/mountinfo` and `/proc/self/cgroup`; no layout is assumed. A controller bound
//! to a v1 hierarchy is used there, any other in v2 if our cgroup has it.
//!
//! A v2 cgroup other than the root may not hold processes and give controllers to children at once
//! (cgroups(7), "no internal processes"). So, in this order: below our own cgroup; below it after moving
//! lbuild and the launcher into a leaf; below the nearest ancestor that already gives the controllers.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::Obstacle;

/// A controller this crate uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Cpuset,
    Pids,
    Devices,
}

impl Controller {
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Cpuset => "cpuset",
            Controller::Pids => "pids",
            Controller::Devices => "devices",
        }
    }
}

/// The version of the hierarchy that has a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    V1,
    V2,
}

/// A hierarchy as it is to be mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    /// The directory's name below `/sys/fs/cgroup`; empty for v2 alone.
    pub(crate) name: String,
    /// The controllers to mount by; none for v2.
    pub(crate) options: Vec<String>,
}

/// A v1 hierarchy and our cgroup in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct V1 {
    controllers: Vec<String>,
    /// The top of what we see of it.
    pub(super) top: PathBuf,
    pub(super) own: PathBuf,
}

/// The v2 hierarchy and our cgroup in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct V2 {
    /// The top of what we see of it.
    top: PathBuf,
    own: PathBuf,
}

/// The hierarchies of this machine.
#[derive(Debug, Default)]
pub(crate) struct Hierarchies {
    v1: Vec<V1>,
    v2: Option<V2>,
    /// The controllers our v2 cgroup has.
    in_v2: Vec<String>,
    /// The controllers that the top of v2 has.
    at_top: Vec<String>,
    /// The leaf we moved into.
    moved: Option<PathBuf>,
    /// Named cgroups that were made for containers, outer ones first.
    made: Vec<PathBuf>,
}

impl Hierarchies {
    /// Reads the kernel's tables. A machine without cgroups has no hierarchies.
    pub(crate) fn detect() -> Hierarchies {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut found = Hierarchies::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        if let Some(v2) = &found.v2 {
            found.in_v2 = words(&v2.own.join("cgroup.controllers"));
            found.at_top = words(&v2.top.join("cgroup.controllers"));
        }
        found
    }

    fn parse(mountinfo: &str, cgroups: &str) -> Hierarchies {
        let mut found = Hierarchies::default();
        for line in mountinfo.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else { continue };
            let fields: Vec<&str> = mount.split(' ').collect();
            let kind: Vec<&str> = file_system.split(' ').collect();
            let ([_, _, _, root, point, ..], [kind, _, options, ..]) = (&fields[..], &kind[..]) else {
                continue;
            };
            let own = |path: &str| {
                let below = Path::new(path).strip_prefix(root).ok()?;
                // `/..` means that our cgroup is outside what is mounted.
                let inside = !below.components().any(|part| part == std::path::Component::ParentDir);
                inside.then(|| Path::new(point).join(below).components().collect::<PathBuf>())
            };
            let mut lines = cgroups.lines().filter_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                Some((parts.next()?, parts.next()?))
            });
            match *kind {
                "cgroup2" if found.v2.is_none() => {
                    let path = lines.find_map(|(controllers, path)| controllers.is_empty().then_some(path));
                    found.v2 = path.and_then(own).map(|own| V2 { top: PathBuf::from(point), own });
                }
                "cgroup" => {
                    let options: Vec<&str> = options.split(',').collect();
                    let Some((controllers, path)) = lines.find(|(controllers, _)| {
                        !controllers.is_empty() && controllers.split(',').all(|name| options.contains(&name))
                    }) else {
                        continue;
                    };
                    let controllers: Vec<String> = controllers.split(',').map(str::to_owned).collect();
                    let known = found.v1.iter().any(|v1| v1.controllers == controllers);
                    if let (Some(own), false) = (own(path), known) {
                        found.v1.push(V1 { controllers, top: PathBuf::from(point), own });
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Where a controller is to be had: in our own cgroup or `from_top`.
    pub(super) fn place(&self, controller: Controller, from_top: bool) -> Option<Place> {
        let in_v2 = if from_top { &self.at_top } else { &self.in_v2 };
        if self.v1_of(controller.name()).is_some() {
            Some(Place::V1)
        } else if in_v2.iter().any(|name| name == controller.name()) {
            Some(Place::V2)
        } else {
            None
        }
    }

    /// The v1 hierarchy of a controller.
    pub(super) fn v1_of(&self, controller: &str) -> Option<&V1> {
        self.v1.iter().find(|v1| v1.controllers.iter().any(|name| name == controller))
    }

    /// One controller of each v1 hierarchy; one that has none (`name=systemd`) limits nothing.
    pub(super) fn v1_controllers(&self) -> Vec<String> {
        let first = self.v1.iter().filter_map(|v1| v1.controllers.first());
        first.filter(|name| !name.contains('=')).cloned().collect()
    }

    /// Whether there is a v2 hierarchy.
    pub(super) fn has_v2(&self) -> bool {
        self.v2.is_some()
    }

    /// The hierarchies to mount in a container, by its v1 cgroups and whether it has a v2 one. In any other it
    /// would see what is the host's.
    pub(super) fn mounts(&self, v1: &[PathBuf], v2: bool) -> Vec<CgroupMount> {
        if self.v1.is_empty() {
            let alone = CgroupMount { name: String::new(), options: Vec::new() };
            return v2.then_some(alone).into_iter().collect();
        }
        let entered = self.v1.iter().filter(|one| v1.iter().any(|path| path.starts_with(&one.top)));
        let entered = entered.map(|hierarchy| {
            let options = hierarchy.controllers.clone();
            CgroupMount { name: options.join(","), options }
        });
        let unified = CgroupMount { name: "unified".to_owned(), options: Vec::new() };
        entered.chain(v2.then_some(unified)).collect()
    }

    /// The v2 cgroup to make a container's in, with these controllers given to its children.
    pub(super) fn parent_for(&mut self, controllers: &[Controller]) -> Result<PathBuf, Obstacle> {
        let Some(V2 { top, own }) = self.v2.clone() else { return Err(Obstacle::NoHierarchy) };
        if controllers.is_empty() {
            return Ok(own);
        }
        if may_give(&own) {
            return give(&own, controllers).map(|()| own.clone()).map_err(|error| not_given(&own, &error));
        }
        if self.move_aside(&own, controllers).is_ok() {
            return Ok(own);
        }
        let ancestors = own.ancestors().skip(1).take_while(|ancestor| ancestor.starts_with(&top));
        match ancestors.into_iter().find(|ancestor| gives(ancestor, controllers)) {
            Some(ancestor) => Ok(ancestor.to_owned()),
            None => Err(Obstacle::SharedCgroup { path: own.display().to_string() }),
        }
    }

    /// A named v2 cgroup with these controllers given to its children, made where it is missing.
    pub(super) fn named_v2(&mut self, named: &Path, controllers: &[Controller]) -> Result<PathBuf, Obstacle> {
        let Some(V2 { top, own }) = self.v2.clone() else { return Err(Obstacle::NoHierarchy) };
        let path = self.named(&top, named)?;
        let below: Vec<&Path> = path.ancestors().take_while(|one| one.starts_with(&top)).collect();
        for cgroup in below.into_iter().rev().filter(|cgroup| !gives(cgroup, controllers)) {
            let given = match cgroup == own && !may_give(cgroup) {
                true => self.move_aside(cgroup, controllers),
                false => give(cgroup, controllers),
            };
            given.map_err(|error| not_given(cgroup, &error))?;
        }
        Ok(path)
    }

    /// A named cgroup below the top of a hierarchy, made where it is missing.
    pub(super) fn named(&mut self, top: &Path, named: &Path) -> Result<PathBuf, Obstacle> {
        let mut path = top.to_owned();
        for name in named.components() {
            let Component::Normal(name) = name else { continue };
            path.push(name);
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made.and_then(|()| super::seed(&path))
                        .map_err(|error| Obstacle::refused(&path, &error))?;
                    self.made.push(path.clone());
                }
            }
        }
        Ok(path)
    }

    /// Removes the named cgroups that were made and have nothing in them any more.
    pub(super) fn remove_empty_parents(&mut self) {
        let mut left = std::mem::take(&mut self.made);
        // The inner first: an outer one that still holds something is busy.
        left.reverse();
        left.retain(|path| !super::removed(path));
        left.reverse();
        self.made = left;
    }

    /// Moves lbuild and its launcher into a leaf of our cgroup, so that it may give out controllers.
    fn move_aside(&mut self, own: &Path, controllers: &[Controller]) -> io::Result<()> {
        let leaf = super::make(own, &super::random_name("lbuild.supervisor-"))?;
        let parent = rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid);
        let moved = super::write(&leaf.join("cgroup.procs"), "0")
            .and_then(|()| super::write(&leaf.join("cgroup.procs"), &parent.to_string()))
            .and_then(|()| match is_empty(own) {
                true => give(own, controllers),
                // With processes left, pids and cpu could be given but no container put below (threaded
                // mode).
                false => Err(io::ErrorKind::ResourceBusy.into()),
            });
        if moved.is_err() {
            // Others share our cgroup: undo. A failure to undo leaves us in the leaf, which changes nothing.
            for pid in [0, parent] {
                let _stays = super::write(&own.join("cgroup.procs"), &pid.to_string());
            }
            super::removed(&leaf);
        } else {
            self.moved = Some(leaf);
        }
        moved
    }

    /// Undoes [`Hierarchies::move_aside`] when the launcher ends and its containers are gone.
    pub(crate) fn leave(&mut self) {
        let (Some(leaf), Some(v2)) = (self.moved.take(), &self.v2) else { return };
        // Best effort: whatever refuses here leaves an empty leaf behind and nothing else. All that our
        // cgroup gives was given by us: it had processes before.
        let given = v2.own.join("cgroup.subtree_control");
        for controller in words(&given) {
            let _still_used = super::write(&given, &format!("-{controller}"));
        }
        let _refused = super::write(&v2.own.join("cgroup.procs"), "0");
        super::removed(&leaf);
    }
}

/// Whether a v2 cgroup gives all of these controllers to its children already.
fn gives(cgroup: &Path, controllers: &[Controller]) -> bool {
    let given = words(&cgroup.join("cgroup.subtree_control"));
    controllers.iter().all(|controller| given.iter().any(|name| name == controller.name()))
}

/// Whether a v2 cgroup may give controllers to its children: the root, which is the one without a type, or one
/// without processes of its own.
fn may_give(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists() || is_empty(cgroup)
}

fn not_given(cgroup: &Path, error: &io::Error) -> Obstacle {
    match error.kind() {
        io::ErrorKind::ResourceBusy => Obstacle::SharedCgroup { path: cgroup.display().to_string() },
        _ => Obstacle::refused(&cgroup.join("cgroup.subtree_control"), error),
    }
}

/// Whether no process is in a v2 cgroup itself.
fn is_empty(cgroup: &Path) -> bool {
    words(&cgroup.join("cgroup.procs")).is_empty()
}

/// Makes a v2 cgroup give controllers to its children.
fn give(cgroup: &Path, controllers: &[Controller]) -> io::Result<()> {
    let wish: Vec<String> = controllers.iter().map(|controller| format!("+{}", controller.name())).collect();
    super::write(&cgroup.join("cgroup.subtree_control"), &wish.join(" "))
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
36 31 0:33 /docker/abc /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
39 31 0:36 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const HYBRID_SELF: &str = "\
9:name=systemd:/x
8:pids:/elsewhere
5:devices:/docker/abc/sub
4:memory:/a/b
2:cpu,cpuacct:/
0::/u
";

    #[test]
    fn each_controller_is_found_where_it_is() {
        let mut found = Hierarchies::parse(HYBRID, HYBRID_SELF);
        found.in_v2 = vec!["pids".to_owned(), "io".to_owned()];
        for (controller, place, own) in [
            (Controller::Memory, Some(Place::V1), Some("/sys/fs/cgroup/memory/a/b")),
            (Controller::Cpu, Some(Place::V1), Some("/sys/fs/cgroup/cpu,cpuacct")),
            (Controller::Devices, Some(Place::V1), Some("/sys/fs/cgroup/devices/sub")),
            (Controller::Cpuset, None, None),
            // Our cgroup is not below what is mounted there, so v2 has it.
            (Controller::Pids, Some(Place::V2), None),
        ] {
            assert_eq!(found.place(controller, false), place, "{controller:?}");
            let directory = found.v1_of(controller.name()).map(|v1| v1.own.as_path());
            assert_eq!(directory, own.map(Path::new), "{controller:?}");
        }
        assert_eq!(found.place(Controller::Pids, true), None, "the top does not have it");
        assert_eq!(found.v1_controllers(), ["cpu", "memory", "devices"]);
        assert_eq!(found.v1_of("devices").unwrap().top, Path::new("/sys/fs/cgroup/devices"));
        let v2 = V2 { top: "/sys/fs/cgroup/unified".into(), own: "/sys/fs/cgroup/unified/u".into() };
        assert_eq!(found.v2, Some(v2));
        let made = |controller: &str| found.v1_of(controller).unwrap().own.join("lbuild-1");
        for (v1, v2, expected) in [
            (&[][..], false, &[][..]),
            (&[made("devices")], true, &["devices", "unified"]),
            (&[made("devices"), made("memory")], false, &["memory", "devices"]),
        ] {
            let names: Vec<String> = found.mounts(v1, v2).into_iter().map(|mount| mount.name).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn v2_alone_and_nothing_at_all() {
        let found =
            Hierarchies::parse("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/user.slice\n");
        assert_eq!(found.v2.as_ref().unwrap().own, Path::new("/sys/fs/cgroup/user.slice"));
        assert_eq!(found.mounts(&[], true), [CgroupMount { name: String::new(), options: Vec::new() }]);
        assert_eq!(found.mounts(&[], false), []);
        let outside =
            Hierarchies::parse("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/../x\n");
        assert_eq!(outside.v2, None);
        let mut none = Hierarchies::parse("nonsense\n", "");
        assert_eq!(none.parent_for(&[]), Err(Obstacle::NoHierarchy));
        assert_eq!(none.place(Controller::Memory, false), None);
    }

    #[test]
    fn named_cgroups_are_made_once_and_removed_when_empty() {
        let top = tempfile::tempdir().unwrap();
        let mut hierarchies = Hierarchies::default();
        fs::create_dir(top.path().join("old")).unwrap();
        let path = hierarchies.named(top.path(), Path::new("/old/./new/er")).unwrap();
        assert_eq!(path, top.path().join("old/new/er"));
        assert_eq!(hierarchies.named(top.path(), Path::new("old/new/er")), Ok(path.clone()));
        fs::create_dir(path.join("container")).unwrap();
        hierarchies.remove_empty_parents();
        assert!(path.exists());
        fs::remove_dir(path.join("container")).unwrap();
        hierarchies.remove_empty_parents();
        assert!(top.path().join("old").exists() && !top.path().join("old/new").exists());
        assert_eq!(hierarchies.named(top.path(), Path::new("/")), Ok(top.path().to_owned()));
    }
}
