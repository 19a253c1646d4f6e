//! What the tests of COPY share: a context and a target, and what is in them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use layerfs::Error;
use layerfs::confined::Root;
use layerfs::copy::{Copied, Filters, Options, Selection, copy, select};
use layerfs::walk::Filter;
use tempfile::TempDir;

/// A context `c` and a target `t` in one temporary directory, and a file beside them to be kept safe.
pub(crate) struct World {
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        for name in ["c", "t", "outside"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/precious"), "precious").unwrap();
        World { dir }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn file(&self, path: &str, data: &str) -> &World {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
        self
    }

    pub(crate) fn link(&self, path: &str, target: &str) -> &World {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    pub(crate) fn mode(&self, path: &str, mode: u32) -> &World {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn root(&self, name: &str) -> Root {
        Root::open(&self.path(name)).unwrap()
    }

    pub(crate) fn select(&self, sources: &[&str]) -> Result<Selection, Error> {
        select(&self.root("c"), sources, &filters(None, None))
    }

    pub(crate) fn copy_with(
        &self,
        selection: &Selection,
        destination: &str,
        options: &Options,
    ) -> Result<Copied, Error> {
        copy(&self.root("c"), selection, &self.root("t"), Path::new(destination), options)
    }

    pub(crate) fn try_copy(&self, sources: &[&str], destination: &str) -> Result<Copied, Error> {
        self.copy_with(&self.select(sources)?, destination, &Options::default())
    }

    pub(crate) fn copy(&self, sources: &[&str], destination: &str) -> &World {
        self.try_copy(sources, destination).unwrap();
        self
    }

    /// All below the target, a line each: `dir/`, `link -> target`, `file=data`.
    pub(crate) fn target(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.path("t"), "", &mut lines);
        lines
    }
}

pub(crate) fn list(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            lines.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), lines);
        } else if kind.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(entry.path()).unwrap().display()));
        } else {
            lines.push(format!("{name}={}", fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// `*`, `?` and literals of `filepath.Match`; the whole of it is the builder's.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if matches(rest, name) => true,
        (Some((b'*', _)), Some((byte, rest))) => *byte != b'/' && matches(pattern, rest),
        (Some((b'?', pattern)), Some((byte, rest))) => *byte != b'/' && matches(pattern, rest),
        (Some((one, pattern)), Some((other, rest))) => one == other && matches(pattern, rest),
        _ => false,
    }
}

pub(crate) fn filters<'a>(ignore: Option<&'a Filter<'a>>, exclude: Option<&'a Filter<'a>>) -> Filters<'a> {
    Filters { matches: &matches, ignore, exclude }
}

pub(crate) fn meta(path: PathBuf) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap()
}

pub(crate) fn mode_of(path: PathBuf) -> u32 {
    meta(path).mode() & 0o7777
}

pub(crate) fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, nofollow).unwrap();
}
