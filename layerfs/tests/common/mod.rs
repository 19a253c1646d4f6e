//! What several test programs share: stores in temporary directories, and listings of trees.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::tar::Writer;
use layerfs::snapshot::{Choice, Driver, View};
use layerfs::store::Store;
use oci::{DiffId, Digest};
use rustix::fs::{Mode, OFlags};

/// A store that is deleted with the value.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

/// A new store.
pub(crate) fn store() -> TestStore {
    let dir = tempfile::tempdir().unwrap();
    TestStore { store: Store::open(&dir.path().join("store")).unwrap(), dir }
}

/// A new store whose snapshots one driver makes.
pub(crate) fn store_of(driver: Driver) -> TestStore {
    let mut test = store();
    test.store.choose(Choice { driver: Some(driver), programs: vec![PathBuf::from("/usr/bin")] });
    test
}

/// A path by which an open directory can be used with `std::fs`.
pub(crate) fn path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/.", fd.as_raw_fd()))
}

/// Makes a snapshot by running `sh -c script` in the merged view.
pub(crate) fn step(store: &Store, parent: Option<&str>, name: &str, script: &str) {
    let snapshots = store.snapshots();
    let parent = parent.map(id);
    let active = snapshots.prepare(parent.as_ref()).unwrap();
    run(active.root(), script);
    snapshots.commit(active, &id(name)).unwrap();
}

/// Runs `sh -ec script` in a directory.
pub(crate) fn run(dir: BorrowedFd<'_>, script: &str) {
    // Shown on failure only: shells complain that a detached mount has no path.
    let out = std::process::Command::new("sh").args(["-ec", script]).current_dir(path(dir)).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// The snapshot that tests call `name`.
pub(crate) fn id(name: &str) -> layerfs::snapshot::SnapshotId {
    layerfs::snapshot::SnapshotId::key(Digest::of(name.as_bytes()))
}

/// A committed snapshot's tree.
pub(crate) fn view(store: &Store, name: &str) -> View {
    store.snapshots().view(&id(name)).unwrap()
}

/// One line an object: everything that a layer must keep, times in seconds.
pub(crate) fn listing(root: &Path) -> String {
    let mut out = String::new();
    let mut links = HashMap::new();
    list(root, &root.join(""), &mut links, &mut out);
    out
}

/// The same of an open directory.
pub(crate) fn listing_of(root: BorrowedFd<'_>) -> String {
    listing(&path(root))
}

fn list(root: &Path, dir: &Path, links: &mut HashMap<u64, String>, out: &mut String) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let meta = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let kind = meta.file_type();
        let what = if kind.is_symlink() {
            format!("-> {}", std::fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if kind.is_file() {
            Digest::of(&std::fs::read(&path).unwrap()).short()
        } else if kind.is_dir() {
            "dir".to_owned()
        } else if kind.is_fifo() {
            "fifo".to_owned()
        } else {
            format!("device {} {:x}", kind.is_char_device(), meta.rdev())
        };
        let same = if kind.is_dir() || meta.nlink() == 1 {
            String::new()
        } else {
            links.entry(meta.ino()).or_insert_with(|| name.clone()).clone()
        };
        let (mode, uid, gid, mtime) = (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime());
        writeln!(out, "{name} {what} {mode:o} {uid}:{gid} {mtime} {:?} ={same}", xattrs(&path)).unwrap();
        if kind.is_dir() {
            list(root, &path, links, out);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let travelling = names.filter(|name| name.starts_with("user.") || *name == "security.capability");
    travelling
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            (name.to_owned(), value[..length].to_vec())
        })
        .collect()
}

/// An entry with nothing special about it.
pub(crate) fn entry(path: &str, kind: Kind) -> Entry {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let (path, mtime) = (path.as_bytes().to_vec(), Time::from_seconds(1_000_000_000));
    Entry { path, kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

/// A tar of these entries; a file's content is its own path.
pub(crate) fn tar(entries: &[(&str, Kind)]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for (path, kind) in entries {
        match kind {
            Kind::File { .. } => {
                tar.entry(&entry(path, Kind::File { size: path.len() as u64 })).unwrap();
                tar.write_data(path.as_bytes()).unwrap();
            }
            kind => tar.entry(&entry(path, kind.clone())).unwrap(),
        }
    }
    tar.finish().unwrap()
}

/// The diff id of a tar.
pub(crate) fn diff_id(tar: &[u8]) -> DiffId {
    DiffId(Digest::of(tar))
}

/// A regular file for [`tar`].
pub(crate) const FILE: Kind = Kind::File { size: 0 };

/// A symbolic link for [`tar`].
pub(crate) fn link(target: &str) -> Kind {
    Kind::Symlink { target: target.into() }
}

/// The directory `levels` below `dir`, each called `d` and made if it is missing.
pub(crate) fn nest(dir: BorrowedFd<'_>, levels: usize) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut here = rustix::fs::openat(dir, ".", flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        match rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o755)) {
            Err(rustix::io::Errno::EXIST) => {}
            made => made.unwrap(),
        }
        here = rustix::fs::openat(&here, "d", flags, Mode::empty()).unwrap();
    }
    here
}
