//! Paths in hostile roots, on a real file system. Runs as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

/// A root `r` with a file beside it.
fn world() -> (tempfile::TempDir, Root, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("r");
    fs::create_dir(&inside).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    let root = Root::open(&inside).unwrap();
    (dir, root, inside)
}

fn small(root: &Root, path: &str) -> Result<Option<String>> {
    Ok(root.read_small(Path::new(path), 100)?.map(|bytes| String::from_utf8(bytes).unwrap()))
}

#[test]
fn reads_inside_and_nowhere_else() {
    let (_dir, root, inside) = world();
    fs::create_dir(inside.join("etc")).unwrap();
    fs::write(inside.join("etc/passwd"), "inside").unwrap();
    for (link, target) in [
        ("abs", "/etc/passwd"),
        ("up", "../../../etc/passwd"),
        ("dir", "/etc"),
        ("out", "../secret"),
        ("self", "/proc/self/root"),
        ("loop", "loop"),
        ("etc/back", "../abs"),
    ] {
        symlink(target, inside.join(link)).unwrap();
    }
    for path in
        ["etc/passwd", "/etc/passwd", "abs", "up", "dir/passwd", "../etc/passwd", "etc/back", "dir/../abs"]
    {
        assert_eq!(small(&root, path).unwrap().as_deref(), Some("inside"), "{path}");
    }
    for path in ["out", "../secret", "self", "nothing", "etc/passwd/x", "dir/nothing"] {
        assert_eq!(small(&root, path).unwrap(), None, "{path}");
    }
    assert!(small(&root, "loop").is_err());
    assert!(root.metadata(Path::new("out")).unwrap().is_none());
    assert_eq!(root.symlink_metadata(Path::new("out")).unwrap().unwrap().kind, Kind::Symlink);
    assert_eq!(root.read_link(Path::new("out")).unwrap(), Path::new("../secret"));
    assert_eq!(root.list(Path::new("dir")).unwrap(), ["back", "passwd"]);
}

#[test]
fn opens_only_regular_files_of_limited_size() {
    let (_dir, root, inside) = world();
    fs::create_dir(inside.join("d")).unwrap();
    fs::write(inside.join("long"), vec![0; 101]).unwrap();
    let dir = File::open(&inside).unwrap();
    // Opening a pipe would wait for a writer, opening a device would act on it.
    rustix::fs::mknodat(&dir, "fifo", rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    let full = rustix::fs::makedev(1, 7);
    rustix::fs::mknodat(&dir, "full", rustix::fs::FileType::CharacterDevice, Mode::RUSR, full).unwrap();
    for (path, text) in [
        ("d", "`d` is not a file: found a directory"),
        ("fifo", "`fifo` is not a file: found a named pipe"),
        ("full", "`full` is not a file: found a character device"),
        ("long", "`long` is too long: expected at most 100 bytes"),
    ] {
        assert_eq!(small(&root, path).unwrap_err().to_string(), text);
    }
}

#[test]
fn resolves_and_names_the_links() {
    let (_dir, root, inside) = world();
    fs::create_dir_all(inside.join("a/b")).unwrap();
    fs::write(inside.join("a/b/f"), "").unwrap();
    symlink("/x", inside.join("a/way")).unwrap();
    symlink("a/../a/b", inside.join("x")).unwrap();
    for (path, found, links) in [
        ("a/b/f", "a/b/f", &[][..]),
        ("/", "", &[]),
        ("../..", "", &[]),
        ("a/way/f", "a/b/f", &["a/way", "x"]),
        ("x/../way/./f", "a/b/f", &["x", "a/way", "x"]),
    ] {
        let resolved = root.resolve(Path::new(path)).unwrap().unwrap();
        assert_eq!(resolved.path, Path::new(found), "{path}");
        assert_eq!(resolved.links, links.iter().map(PathBuf::from).collect::<Vec<_>>(), "{path}");
    }
    for path in ["nothing", "a/b/f/x", "x/nothing", "a/b/f/../f"] {
        assert_eq!(root.resolve(Path::new(path)).unwrap(), None, "{path}");
    }
}

#[test]
fn makes_directories_behind_links() {
    let (dir, root, inside) = world();
    let new = NewDirectory {
        mode: 0o2751,
        owner: Owner { uid: 4, gid: 5 },
        modified: Some(Time { seconds: 9, nanoseconds: 8 }),
    };
    symlink("usr/lib", inside.join("lib")).unwrap();
    symlink("/../../secret/made", inside.join("out")).unwrap();
    fs::write(inside.join("file"), "").unwrap();
    let make = |path: &str| root.make_dirs(Path::new(path), &new);
    assert_eq!(make("/lib/x").unwrap(), ["/usr", "/usr/lib", "/usr/lib/x"].map(PathBuf::from));
    assert_eq!(make("lib/x/y/").unwrap(), [Path::new("usr/lib/x/y")]);
    assert_eq!(make("/lib/x/../x/.").unwrap(), [""; 0].map(PathBuf::from));
    assert_eq!(make("/out").unwrap(), ["/secret", "/secret/made"].map(PathBuf::from));
    for path in ["usr", "usr/lib", "secret", "secret/made"] {
        let made = fs::metadata(inside.join(path)).unwrap();
        let seen = (made.mode() & 0o7777, made.uid(), made.gid(), made.mtime_nsec());
        // `usr/lib/x` was changed again after its making.
        assert_eq!(seen, (0o2751, 4, 5, 8), "{path}");
    }
    assert_eq!(make("/file/x").unwrap_err().to_string(), "`/file` is not a directory");
    assert_eq!(make("/file").unwrap_err().to_string(), "`/file` is not a directory");
    assert_eq!(fs::read_to_string(dir.path().join("secret")).unwrap(), "secret");
}

#[test]
fn creates_and_removes_without_following() {
    let (dir, root, inside) = world();
    let secret = dir.path().join("secret");
    fs::create_dir_all(inside.join("d/e/f")).unwrap();
    fs::write(inside.join("d/e/g"), "").unwrap();
    symlink(&secret, inside.join("d/e/out")).unwrap();
    symlink(dir.path(), inside.join("d/around")).unwrap();
    symlink(&secret, inside.join("link")).unwrap();
    let file = root.create_file(Path::new("link"), 0o4750, Owner { uid: 1, gid: 2 }).unwrap();
    drop(file);
    let made = fs::symlink_metadata(inside.join("link")).unwrap();
    assert_eq!((made.is_file(), made.mode() & 0o7777, made.uid(), made.gid()), (true, 0o4750, 1, 2));
    let error = root.create_file(Path::new("d"), 0o600, Owner::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot replace the directory `d` with a file");
    root.symlink(Path::new("/any/where"), Path::new("new")).unwrap();
    assert!(root.symlink(Path::new("x"), Path::new("new")).is_err());
    for path in ["new", "link", "d", "nothing", "nothing/x"] {
        root.remove(Path::new(path)).unwrap();
    }
    assert!(root.remove(Path::new("..")).is_err());
    assert!(root.list(Path::new("")).unwrap().is_empty());
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
}
