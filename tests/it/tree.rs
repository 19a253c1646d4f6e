//! A file tree as the tests compare it: type, mode, owner, link target, device, hard links, extended
//! attributes and content, one line a path. Times are not in it: no two tools agree on those of folders.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::layout::sha256;

/// Path below the root to what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Reads what stands below `root`, the root itself as `/`.
    pub(crate) fn of(root: &Path) -> Tree {
        let mut lines = BTreeMap::new();
        let mut first_names = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        lines.insert("/".to_owned(), describe(root, "/", &mut first_names));
        while let Some(folder) = folders.pop() {
            let mut names: Vec<_> = fs::read_dir(root.join(&folder))
                .unwrap_or_else(|error| panic!("{}: {error}", root.join(&folder).display()))
                .map(|entry| folder.join(entry.expect("an entry").file_name()))
                .collect();
            names.sort();
            for below in names {
                let path = format!("/{}", below.display());
                lines.insert(path.clone(), describe(&root.join(&below), &path, &mut first_names));
                if fs::symlink_metadata(root.join(&below)).expect("metadata").is_dir() {
                    folders.push(below);
                }
            }
        }
        name_hard_links(&mut lines);
        Tree(lines)
    }

    /// What stands at `path`, as `kind mode uid:gid …`.
    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The tree without `paths` and what is below them.
    pub(crate) fn without(mut self, paths: &[&str]) -> Tree {
        self.0.retain(|path, _| {
            !paths
                .iter()
                .any(|cut| path == cut || path.strip_prefix(cut).is_some_and(|rest| rest.starts_with('/')))
        });
        self
    }

    /// Fails with the first differences when the other tree is another.
    pub(crate) fn assert_same(&self, other: &Tree, ours: &str, theirs: &str) {
        if let Some(difference) = self.difference(other, ours, theirs) {
            panic!("{difference}");
        }
    }

    /// The first paths at which the other tree is another.
    pub(crate) fn difference(&self, other: &Tree, ours: &str, theirs: &str) -> Option<String> {
        let mut text = String::new();
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differing = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path));
        for path in differing.take(20) {
            let show = |tree: &Tree| tree.get(path).unwrap_or("nothing").to_owned();
            writeln!(text, "{path}\n  {ours}: {}\n  {theirs}: {}", show(self), show(other))
                .expect("a string");
        }
        (!text.is_empty()).then(|| format!("the trees differ\n{text}"))
    }
}

fn describe(path: &Path, name: &str, first_names: &mut BTreeMap<u64, String>) -> String {
    let meta = fs::symlink_metadata(path).expect("metadata");
    let kind = meta.file_type();
    let mut line = format!("{:04o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
    if kind.is_dir() {
        line = format!("dir {line}");
    } else if kind.is_symlink() {
        // The mode of a link means nothing.
        let target = fs::read_link(path).expect("a link");
        line = format!("link {}:{} -> {}", meta.uid(), meta.gid(), target.display());
    } else if kind.is_file() {
        line = format!("file {line} {}", sha256(&fs::read(path).expect("a file")));
        if meta.nlink() > 1 {
            let first = first_names.entry(meta.ino()).or_insert_with(|| name.to_owned());
            write!(line, " inode:{first}").expect("a string");
        }
    } else if kind.is_fifo() {
        line = format!("fifo {line}");
    } else if kind.is_socket() {
        line = format!("socket {line}");
    } else {
        let kind = if kind.is_block_device() { "block" } else { "char" };
        line = format!("{kind} {line} {:#x}", meta.rdev());
    }
    for (name, value) in xattrs(path) {
        write!(line, " {name}={}", sha256(&value)).expect("a string");
    }
    line
}

/// The walk meets the names of one inode in its own order; the line shall show the least of them.
fn name_hard_links(lines: &mut BTreeMap<String, String>) {
    let mut least: BTreeMap<String, String> = BTreeMap::new();
    for (path, line) in &*lines {
        if let Some((_, first)) = line.split_once(" inode:") {
            least.entry(first.to_owned()).or_insert_with(|| path.clone());
        }
    }
    for line in lines.values_mut() {
        if let Some((before, first)) = line.split_once(" inode:") {
            *line = format!("{before} same as {}", least[first]);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0u8; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap_or(0);
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| !name.starts_with("trusted.overlay."))
        .map(|name| {
            let mut value = vec![0u8; 64 * 1024];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value).expect("an attribute");
            value.truncate(length);
            (name, value)
        })
        .collect()
}

#[test]
fn a_difference_is_seen_whatever_its_kind() {
    let make = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("a"), "1").expect("a file");
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).expect("a hard link");
        std::os::unix::fs::symlink("a", dir.path().join("l")).expect("a link");
        change(dir.path());
        Tree::of(dir.path())
    };
    let same = make(&|_| {});
    assert_eq!(same, make(&|_| {}));
    assert!(same.get("/b").is_some_and(|line| line.ends_with("same as /a")));
    let chmod = |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o4755));
    assert_ne!(same, make(&|dir| chmod(&dir.join("a")).expect("chmod")));
    assert_ne!(same, make(&|dir| fs::write(dir.join("a"), "2").expect("a file")));
    assert_ne!(same, make(&|dir| std::os::unix::fs::lchown(dir.join("l"), Some(1), None).expect("chown")));
    assert_ne!(same, make(&|dir| fs::remove_file(dir.join("b")).expect("remove")));
    assert_ne!(
        same,
        make(&|dir| {
            fs::remove_file(dir.join("b")).expect("remove");
            fs::copy(dir.join("a"), dir.join("b")).map(drop).expect("copy");
        })
    );
}
