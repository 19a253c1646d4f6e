//! Disks of a size for stores: mounted where a world has its store, and gone with the value, whatever a test ends with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::harness::World;
use crate::peers;

/// A file system of its own, unmounted with the value.
pub(crate) struct Disk {
    pub(crate) place: PathBuf,
}

impl Disk {
    /// A small ext4 at the place of the world's store.
    pub(crate) fn small(world: &World, megabytes: u64) -> Disk {
        let image = world.path("disk");
        let file = fs::File::create(&image).expect("a file");
        file.set_len(megabytes << 20).expect("its length");
        peers::run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        Disk::at_root(world, Command::new("mount").args(["-o", "loop"]).arg(&image))
    }

    /// Memory at the place of the world's store, of a size as tmpfs(5) takes it.
    pub(crate) fn memory(world: &World, megabytes: u64) -> Disk {
        let size = format!("size={megabytes}m");
        Disk::at_root(world, Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]))
    }

    fn at_root(world: &World, mount: &mut Command) -> Disk {
        let place = world.path("root");
        fs::create_dir(&place).expect("a folder");
        peers::run(mount.arg(&place));
        Disk { place }
    }

    /// The folder as it is, read-only.
    pub(crate) fn read_only(place: &Path) -> Disk {
        peers::run(Command::new("mount").arg("--bind").args([place, place]));
        let disk = Disk { place: place.to_owned() };
        peers::run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(place));
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a killed test leaves is the world's to unmount.
        let unmounted = Command::new("umount").arg(&self.place).status();
        assert!(thread::panicking() || unmounted.is_ok_and(|status| status.success()), "the disk is in use");
    }
}
