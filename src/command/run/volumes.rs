//! What a container shows in its file system of elsewhere: files of the host (`-v`), and the image's volumes.
//!
//! The image's volumes are directories of the container's own file system, which ends with it. Where that may
//! not be written to, each is a directory of its own instead, which begins as a copy and ends with the container
//! too. What `-v` covers is no volume of the image any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use layerfs::IoResultExt;
use layerfs::confined::{NewDirectory, Root};
use layerfs::copy::{self, Filters};
use layerfs::snapshot::Active;
use oci::ContainerConfig;
use runner::{Mount, MountSource};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, openat};

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::home::Home;
use crate::value::Volume;

/// The mounts of one container.
#[derive(Default)]
pub(super) struct Volumes {
    /// Outer ones first.
    pub(super) mounts: Vec<Mount>,
    /// What some of them show, until the container has ended.
    copies: Vec<Active>,
}

/// Makes the image's volumes in `active` and opens what the command line names.
pub(super) fn prepare(
    args: &RunArgs,
    config: &ContainerConfig,
    active: &Active,
    home: &Home,
) -> Result<Volumes, Failure> {
    let fail = home.failure("make the image's volumes");
    let root = Root::duplicate(active.root()).map_err(&fail)?;
    let mut volumes = Volumes::default();
    for target in of_image(config, &args.volumes) {
        root.make_dirs(&target, &NewDirectory::default()).map_err(&fail)?;
        if args.read_only {
            let copy = writable_copy(&root, &target, home).map_err(&fail)?;
            let source = MountSource::Bind(copy.try_clone_root().map_err(&fail)?);
            volumes.mounts.push(Mount { target, source, read_only: false });
            volumes.copies.push(copy);
        }
    }
    for volume in &args.volumes {
        volumes.mounts.push(of_host(volume)?);
    }
    volumes.mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(volumes)
}

/// Where the image's volumes are, but for those that lie at or below one of the command line's.
fn of_image(config: &ContainerConfig, given: &[Volume]) -> Vec<PathBuf> {
    let absolute = config.volumes.keys().map(|path| Path::new("/").join(path));
    absolute.filter(|path| !given.iter().any(|volume| path.starts_with(&volume.container))).collect()
}

/// A directory of its own with what is in `path`, and its owner and mode.
fn writable_copy(root: &Root, path: &Path, home: &Home) -> layerfs::Result<Active> {
    let copy = home.store.snapshots().prepare(None)?;
    let from = root.descend(path)?;
    let everything = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    let selection = copy::select(&from, &["/"], &everything)?;
    let to = Root::duplicate(copy.root())?;
    copy::copy(&from, &selection, &to, Path::new("/"), &copy::Options::default())?;
    give_metadata(&from, &to).at("copy the metadata of", path)?;
    Ok(copy)
}

/// The owner and the mode of one directory for another.
fn give_metadata(from: &Root, to: &Root) -> io::Result<()> {
    let metadata = fstat(from)?;
    let to = openat(to, c".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fchown(&to, Some(Uid::from_raw(metadata.st_uid)), Some(Gid::from_raw(metadata.st_gid)))?;
    fchmod(&to, Mode::from_raw_mode(metadata.st_mode))?;
    Ok(())
}

/// A file or directory of the host. As Docker has it, a directory that is missing is made.
fn of_host(volume: &Volume) -> Result<Mount, Failure> {
    if !volume.host.exists() {
        fs::create_dir_all(&volume.host).map_err(|error| Failure::file("create", &volume.host, &error))?;
    }
    let source = runner::detached_tree(&volume.host, true).map_err(|error| Failure::container(&error))?;
    Ok(Mount {
        target: volume.container.clone(),
        source: MountSource::Bind(source),
        read_only: volume.read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered_is_no_volume_of_the_image() {
        let volumes = ["/data", "/data/deep/", "cache", "/database"];
        let config = ContainerConfig {
            volumes: volumes.map(|path| (path.to_owned(), serde_json::json!({}))).into(),
            ..ContainerConfig::default()
        };
        for (given, expected) in [
            (&[][..], &["/data", "/data/deep", "/database", "/cache"][..]),
            (&["/x:/data"], &["/database", "/cache"]),
            (&["/x:/data/deep"], &["/data", "/database", "/cache"]),
            (&["/x:/cache/sub"], &["/data", "/data/deep", "/database", "/cache"]),
        ] {
            let given: Vec<Volume> = given.iter().map(|text| text.parse().unwrap()).collect();
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(of_image(&config, &given), expected, "{given:?}");
        }
    }
}
