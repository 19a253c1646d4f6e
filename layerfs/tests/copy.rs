//! The semantics of COPY on a real file system, one test for each point of the study of BuildKit that concerns
//! it, and hostile roots. Runs as root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use layerfs::Error;
use layerfs::confined::{NewDirectory, Owner, Root};
use layerfs::copy::{Copied, Filters, Options, Selection, copy, select};
use layerfs::snapshot::{SnapshotId, Snapshotter};
use layerfs::store::Store;
use layerfs::walk::{Filter, Visit};
use rustix::fs::{FileType, Mode, XattrFlags};
use tempfile::TempDir;

/// A context `c` and a target `t` in one temporary directory, and a file beside them to be kept safe.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        for name in ["c", "t", "outside"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("outside/precious"), "precious").unwrap();
        World { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, data: &str) -> &World {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, data).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &World {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    fn mode(&self, path: &str, mode: u32) -> &World {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn root(&self, name: &str) -> Root {
        Root::open(&self.path(name)).unwrap()
    }

    fn select(&self, sources: &[&str]) -> Result<Selection, Error> {
        select(&self.root("c"), sources, &filters(None, None))
    }

    fn copy_with(
        &self,
        selection: &Selection,
        destination: &str,
        options: &Options,
    ) -> Result<Copied, Error> {
        copy(&self.root("c"), selection, &self.root("t"), Path::new(destination), options)
    }

    fn try_copy(&self, sources: &[&str], destination: &str) -> Result<Copied, Error> {
        self.copy_with(&self.select(sources)?, destination, &Options::default())
    }

    fn copy(&self, sources: &[&str], destination: &str) -> &World {
        self.try_copy(sources, destination).unwrap();
        self
    }

    /// All below the target, a line each: `dir/`, `link -> target`, `file=data`.
    fn target(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.path("t"), "", &mut lines);
        lines
    }
}

fn list(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
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
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if matches(rest, name) => true,
        (Some((b'*', _)), Some((byte, rest))) => *byte != b'/' && matches(pattern, rest),
        (Some((b'?', pattern)), Some((byte, rest))) => *byte != b'/' && matches(pattern, rest),
        (Some((one, pattern)), Some((other, rest))) => one == other && matches(pattern, rest),
        _ => false,
    }
}

fn filters<'a>(ignore: Option<&'a Filter<'a>>, exclude: Option<&'a Filter<'a>>) -> Filters<'a> {
    Filters { matches: &matches, ignore, exclude }
}

fn meta(path: PathBuf) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap()
}

fn mode_of(path: PathBuf) -> u32 {
    meta(path).mode() & 0o7777
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, nofollow).unwrap();
}

#[test]
fn point_1_a_last_slash_makes_the_destination_a_directory() {
    for (destination, expected) in [
        ("/new/", &["new/", "new/a=A"][..]),
        ("/new/.", &["new/", "new/a=A"]),
        ("/new", &["new=A"]),
        ("/", &["a=A"]),
        ("/x/y/new", &["x/", "x/y/", "x/y/new=A"]),
    ] {
        let world = World::new();
        world.file("c/a", "A").copy(&["a"], destination);
        assert_eq!(world.target(), expected, "{destination}");
    }
    let world = World::new();
    world.file("c/a", "A").file("t/file", "F");
    let error = world.try_copy(&["a"], "/file/").unwrap_err();
    assert_eq!(error.to_string(), "`/file` is not a directory");
}

#[test]
fn point_2_sources_are_below_the_root_however_they_begin() {
    for source in ["a/b", "/a/b", "./a/b", "../a/b", "../../a//./b/", "x/../a/b", "/../a/b"] {
        let world = World::new();
        world.file("c/a/b", "B").copy(&[source], "/d");
        assert_eq!(world.target(), ["d=B"], "{source}");
    }
}

#[test]
fn point_3_directories_give_their_contents() {
    let world = World::new();
    world.file("c/one/a", "1").file("c/one/s/x", "1").file("c/two/b", "2").file("c/two/s/y", "2");
    world.copy(&["one", "two/"], "/d");
    assert_eq!(world.target(), ["d/", "d/a=1", "d/b=2", "d/s/", "d/s/x=1", "d/s/y=2"]);
    let world = World::new();
    world.file("c/one/a", "1").file("c/two/b", "2").copy(&["*/"], "/d/");
    assert_eq!(world.target(), ["d/", "d/a=1", "d/b=2"]);
    let world = World::new();
    world.file("c/a", "1").file("c/d/b", "2").copy(&["."], "/");
    assert_eq!(world.target(), ["a=1", "d/", "d/b=2"]);
}

#[test]
fn point_4_a_file_goes_into_a_directory_or_becomes_the_destination() {
    let world = World::new();
    fs::create_dir(world.path("t/d")).unwrap();
    world.file("c/x/a", "A").file("c/b", "B").copy(&["x/a", "b"], "/d");
    assert_eq!(world.target(), ["d/", "d/a=A", "d/b=B"]);
    let world = World::new();
    world.file("c/a", "A").file("c/b", "B").copy(&["a", "b"], "/d");
    assert_eq!(world.target(), ["d=B"], "the second file replaces the first");
}

#[test]
fn point_5_wildcards_match_in_lexical_order_and_not_across_slashes() {
    let world = World::new();
    world.file("c/.hidden", "").file("c/b", "").file("c/a", "").file("c/d/deep", "").file("c/e/f/x.js", "");
    let names = |pattern: &str| -> Vec<String> {
        let selection = world.select(&[pattern]).unwrap();
        selection.sources.iter().map(|source| source.path.display().to_string()).collect()
    };
    assert_eq!(names("*"), [".hidden", "a", "b", "d", "e"]);
    assert_eq!(names("?"), ["a", "b", "d", "e"]);
    assert_eq!(names("*/*"), ["d/deep", "e/f"]);
    assert_eq!(names("e/*/*.js"), ["e/f/x.js"]);
    assert_eq!(names("*.js"), [""; 0]);
    assert_eq!(names("*/../a"), ["a"]);
    world.file("c/back\\*slash", "B");
    assert_eq!(names("back\\*slash"), ["back\\*slash"], "an escaped wildcard is none");
}

#[test]
fn point_6_only_a_missing_literal_source_is_an_error() {
    let world = World::new();
    world.file("c/a", "A").copy(&["nomatch*", "nodir/*", "a/*"], "/d/");
    assert_eq!(world.target(), [""; 0]);
    for missing in ["x", "a/x", "./x"] {
        let error = world.try_copy(&["a", missing], "/d/").unwrap_err();
        assert!(matches!(&error, Error::SourceMissing { path } if !path.starts_with(".")), "{error:?}");
    }
}

#[test]
fn point_7_links_at_the_top_are_followed_inside_the_roots() {
    let world = World::new();
    world.file("c/real/a", "A").link("c/dir", "real").link("c/abs", "/real/a").link("c/up", "../../real/a");
    world.link("c/real/inner", "a");
    world.copy(&["dir"], "/one").copy(&["abs", "up"], "/two/").copy(&["ab*"], "/three/");
    assert_eq!(
        world.target(),
        ["one/", "one/a=A", "one/inner -> a", "three/", "three/abs=A", "two/", "two/abs=A", "two/up=A"]
    );
    let world = World::new();
    world.file("c/a", "A").link("t/lib", "usr/lib").link("t/dangling", "/made/here").link("t/f", "/file");
    world.file("t/file", "old");
    world.copy(&["a"], "/lib/").copy(&["a"], "/dangling").copy(&["a"], "/f");
    let made = ["dangling -> /made/here", "f -> /file", "file=A", "lib -> usr/lib", "made/", "made/here=A"];
    assert_eq!(world.target()[..6], made);
    assert_eq!(world.target()[6..], ["usr/", "usr/lib/", "usr/lib/a=A"]);
}

#[test]
fn points_8_and_12_to_14_owner_and_mode_of_what_is_made() {
    let world = World::new();
    world.file("c/d/a", "A").mode("c/d/a", 0o640).mode("c/d", 0o700).link("c/d/l", "a");
    for (path, id) in [("c/d/a", 7), ("c/d", 8)] {
        chown(world.path(path), Some(id), Some(id + 1)).unwrap();
    }
    let owner_of = |path: &str| (meta(world.path(path)).uid(), meta(world.path(path)).gid());
    world.copy(&["d"], "/x/kept");
    assert_eq!((owner_of("t/x/kept"), mode_of(world.path("t/x/kept"))), ((0, 0), 0o755));
    assert_eq!((owner_of("t/x/kept/a"), mode_of(world.path("t/x/kept/a"))), ((7, 8), 0o640));

    let owner = Some(Owner { uid: 3_000_000, gid: 5 });
    for (chmod, directory, file) in [("0750", 0o750, 0o750), ("u=rwX,go=rX", 0o755, 0o644)] {
        let options = Options { owner, mode: Some(chmod.parse().unwrap()), ..Options::default() };
        let destination = format!("/y{file}/z");
        world.copy_with(&world.select(&["d"]).unwrap(), &destination, &options).unwrap();
        for (path, mode) in [("", directory), ("/..", directory), ("/a", file), ("/l", 0o777)] {
            let path = format!("t{destination}{path}");
            assert_eq!((owner_of(&path), mode_of(world.path(&path))), ((3_000_000, 5), mode), "{path}");
        }
    }
}

#[test]
fn point_9_the_destination_keeps_its_metadata_and_nested_directories_do_not() {
    let world = World::new();
    world.file("c/d/sub/a", "A").mode("c/d", 0o711).mode("c/d/sub", 0o1750);
    world.file("t/d/sub/old", "O").mode("t/d", 0o700).mode("t/d/sub", 0o700);
    set_time(&world.path("t/d"), 1_000, 5);
    set_time(&world.path("c/d/sub"), 2_000, 7);
    world.copy(&["d"], "/d");
    let (top, nested) = (meta(world.path("t/d")), meta(world.path("t/d/sub")));
    assert_eq!((top.mode() & 0o7777, top.mtime(), top.mtime_nsec()), (0o700, 1_000, 5));
    assert_eq!((nested.mode() & 0o7777, nested.mtime(), nested.mtime_nsec()), (0o1750, 2_000, 7));
    assert_eq!(world.target(), ["d/", "d/sub/", "d/sub/a=A", "d/sub/old=O"]);
}

#[test]
fn point_10_types_in_conflict() {
    let world = World::new();
    world.file("c/f", "new").file("c/d/f", "new").file("t/dir/f/x", "").file("t/file", "old");
    world.file("c/tree/sub/x", "").link("t/into/sub", "/dir").file("t/plain/sub", "");
    for (source, destination, expected) in [
        ("f", "/dir", "cannot replace the directory `/dir/f` with a file"),
        ("d", "/dir", "cannot replace the directory `/dir/f` with a file"),
        ("d", "/file", "`/file` is not a directory"),
        ("tree", "/into", "`/into/sub` is not a directory"),
        ("tree", "/plain", "`/plain/sub` is not a directory"),
        ("f", "/file/x", "`/file` is not a directory"),
    ] {
        assert_eq!(world.try_copy(&[source], destination).unwrap_err().to_string(), expected);
    }
    // A file in place of a file or a link is a new file: other names and the link's target stay.
    let world = World::new();
    world.file("c/d/one", "new").file("c/d/two", "new").file("t/one", "old").link("t/two", "kept");
    world.file("t/kept", "old");
    fs::hard_link(world.path("t/one"), world.path("t/other")).unwrap();
    world.copy(&["d"], "/");
    assert_eq!(world.target(), ["kept=old", "one=new", "other=old", "two=new"]);
}

#[test]
fn point_11_metadata_links_and_special_files_are_kept() {
    let world = World::new();
    world.file("c/d/setuid", "S").mode("c/d/setuid", 0o6755).file("c/d/x/hard", "H").link("c/d/link", "gone");
    fs::hard_link(world.path("c/d/x/hard"), world.path("c/d/another")).unwrap();
    let dir = fs::File::open(world.path("c/d")).unwrap();
    let special = |name: &str, kind, device| {
        rustix::fs::mknodat(&dir, name, kind, Mode::from_raw_mode(0o600), device).unwrap();
    };
    special("fifo", FileType::Fifo, 0);
    special("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    let _socket = UnixListener::bind(world.path("c/d/socket")).unwrap();
    world.mode("c/d/fifo", 0o622).mode("c/d/null", 0o1666);
    let attribute = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(world.path(path), name, value, XattrFlags::empty()).unwrap();
    };
    attribute("c/d/setuid", "user.note", b"\0\xff");
    attribute("c/d/setuid", "security.capability", CAPABILITY);
    attribute("c/d/x", "user.dir", b"");
    attribute("c/d/link", "trusted.link", b"l");
    attribute("c/d/setuid", "trusted.overlay.opaque", b"y");
    for (path, seconds) in [("setuid", -5), ("x/hard", 7), ("link", 8), ("fifo", 9), ("null", 10), ("x", 11)]
    {
        set_time(&world.path(&format!("c/d/{path}")), seconds, 123_456_789);
    }

    let copied = world.try_copy(&["d"], "/d").unwrap();
    assert_eq!(copied, Copied { dropped_attributes: 0 });
    for path in ["setuid", "x", "x/hard", "another", "link", "fifo", "null", "socket"] {
        let (from, to) = (meta(world.path(&format!("c/d/{path}"))), meta(world.path(&format!("t/d/{path}"))));
        let seen = |of: &fs::Metadata| (of.mode(), of.rdev(), of.mtime(), of.mtime_nsec(), of.nlink());
        assert_eq!(seen(&from), seen(&to), "{path}");
    }
    assert_eq!(meta(world.path("t/d/another")).ino(), meta(world.path("t/d/x/hard")).ino());
    let value = |path: &str, name: &str| {
        let mut value = [0; 64];
        let read = rustix::fs::lgetxattr(world.path(path), name, &mut value[..]);
        read.map(|length| value[..length].to_vec()).ok()
    };
    assert_eq!(value("t/d/setuid", "user.note").unwrap(), b"\0\xff");
    assert_eq!(value("t/d/setuid", "security.capability").unwrap(), CAPABILITY);
    assert_eq!(value("t/d/x", "user.dir").unwrap(), b"");
    assert_eq!(value("t/d/link", "trusted.link").unwrap(), b"l");
    assert_eq!(value("t/d/setuid", "trusted.overlay.opaque"), None);
}

/// `VFS_CAP_REVISION_2`, effective, `CAP_NET_RAW` permitted.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn point_17_exclusions_are_relative_to_each_source() {
    let world = World::new();
    world.file("c/one/skip/x", "").file("c/one/keep", "").file("c/two/sub/skip", "").file("c/skip", "");
    world.file("c/two/skip/again/kept", "");
    let exclude = |path: &[u8], is_dir: bool| match path {
        b"skip" if is_dir => Visit::SkipButDescend,
        path if path.starts_with(b"skip/again") => Visit::Take,
        path if path.starts_with(b"skip") => Visit::Skip,
        _ => Visit::Take,
    };
    let filters = filters(None, Some(&exclude));
    let selection = select(&world.root("c"), &["one", "two", "ski*", "skip"], &filters).unwrap();
    world.copy_with(&selection, "/", &Options::default()).unwrap();
    // `skip/x` goes, and `one/skip` with it; `two/skip` comes back with what is kept in it.
    assert_eq!(world.target(), ["keep=", "skip/", "skip/again/", "skip/again/kept=", "sub/", "sub/skip="]);
}

/// Writes `c/NAME`, an archive of a directory `x` with a file, a link out of it and a file behind that link,
/// compressed as Python's tarfile calls it.
fn archive(world: &World, name: &str, compression: &str) {
    let script = "
import io, sys, tarfile
with tarfile.open(sys.argv[1], 'w:' + sys.argv[2]) as tar:
    def add(name, **fields):
        entry = tarfile.TarInfo(name)
        entry.uid, entry.gid, entry.mtime = 11, 12, 1000
        for field, value in fields.items():
            setattr(entry, field, value)
        tar.addfile(entry, io.BytesIO(b'A' * entry.size))
    add('x', type=tarfile.DIRTYPE, mode=0o750)
    add('x/a', size=3, mode=0o4755)
    add('x/out', type=tarfile.SYMTYPE, linkname='/inside')
    add('x/out/b', size=2)
    add('.wh.kept', size=1)
";
    let path = world.path("c").join(name);
    let status =
        std::process::Command::new("python3").args(["-c", script]).arg(path).arg(compression).status();
    assert!(status.unwrap().success());
}

#[test]
fn point_18_archives_are_unpacked_whatever_their_name() {
    for (name, compression) in [("plain", ""), ("x.gz", "gz"), ("x.tar", "bz2"), ("x.txt", "xz")] {
        let world = World::new();
        archive(&world, name, compression);
        world.file("t/kept", "K").link("t/way", "real/dir");
        let options = Options {
            owner: Some(Owner { uid: 4, gid: 5 }),
            mode: Some("0700".parse().unwrap()),
            unpack: true,
        };
        for destination in ["/way", "/"] {
            world.copy_with(&world.select(&[name]).unwrap(), destination, &options).unwrap();
        }
        let expected = [
            ".wh.kept=A",
            "inside/",
            "inside/b=AA",
            "kept=K",
            "real/",
            "real/dir/",
            "real/dir/.wh.kept=A",
            "real/dir/x/",
            "real/dir/x/a=AAA",
            "real/dir/x/out -> /inside",
            "way -> real/dir",
            "x/",
            "x/a=AAA",
            "x/out -> /inside",
        ];
        assert_eq!(world.target(), expected, "{name}");
        let made = |path: &str| (mode_of(world.path(path)), meta(world.path(path)).uid());
        assert_eq!([made("t/x/a"), made("t/x"), made("t/real/dir")], [(0o4755, 4), (0o750, 4), (0o755, 4)]);
        // COPY never unpacks, and ADD does not with `--unpack=false`.
        world.copy(&[name], "/copied");
        assert!(fs::read(world.path("t/copied")).unwrap() == fs::read(world.path("c").join(name)).unwrap());
    }
}

#[test]
fn point_18_what_is_no_archive_is_copied() {
    let world = World::new();
    archive(&world, "whole", "gz");
    let whole = fs::read(world.path("c/whole")).unwrap();
    let cases = [
        ("empty", Vec::new()),
        ("text", b"text that is longer than one block of a tar\n".repeat(40)),
        ("zeros", vec![0; 4096]),
        ("short", vec![0x1f]),
        ("bare.gz", b"\x1f\x8b\x08\0 and no more of it".to_vec()),
        ("bare.xz", b"\xfd7zXZ\0 and no more of it".to_vec()),
        ("bare.bz2", b"BZh9 and no more of it".to_vec()),
    ];
    let options = Options { unpack: true, ..Options::default() };
    for (name, bytes) in &cases {
        fs::write(world.path("c").join(name), bytes).unwrap();
        world.copy_with(&world.select(&[name]).unwrap(), "/d/", &options).unwrap();
        assert!(fs::read(world.path("t/d").join(name)).unwrap() == *bytes, "{name}");
    }
    // It begins as an archive, so a copy of the damaged file is not what was meant.
    fs::write(world.path("c/damaged"), &whole[..whole.len() - 30]).unwrap();
    assert!(world.copy_with(&world.select(&["damaged"]).unwrap(), "/e/", &options).is_err());
}

#[test]
fn ignored_files_are_not_there() {
    let world = World::new();
    world.file("c/a", "A").file("c/secret/key", "K").file("c/d/.git/x", "").file("c/d/b", "B");
    world.link("c/way", "secret/key").link("c/hidden", "a").link("c/d/inner", "../secret");
    let ignore = |path: &[u8], _: bool| {
        let hidden = path.starts_with(b"secret") || path.starts_with(b"d/.git") || path == b"hidden";
        if hidden { Visit::Skip } else { Visit::Take }
    };
    let filters = filters(Some(&ignore), None);
    let root = world.root("c");
    for source in ["secret", "secret/key", "way", "hidden", "d/.git", "d/inner/key", "wa*"] {
        let error = select(&root, &[source], &filters).unwrap_err();
        assert!(matches!(error, Error::SourceMissing { .. }), "{source}: {error}");
    }
    let selection = select(&root, &["secre*", "hid*", "d"], &filters).unwrap();
    world.copy_with(&selection, "/", &Options::default()).unwrap();
    assert_eq!(world.target(), ["b=B", "inner -> ../secret"]);
}

#[test]
fn times_are_kept_and_made_directories_are_dated_1970() {
    let world = World::new();
    world.file("c/d/sub/file", "");
    set_time(&world.path("c/d/sub/file"), 5_000, 1);
    set_time(&world.path("c/d/sub"), 500, 1);
    world.copy_with(&world.select(&["d"]).unwrap(), "/x/d", &Options::default()).unwrap();
    let time = |path: &str| (meta(world.path(path)).mtime(), meta(world.path(path)).mtime_nsec());
    assert_eq!(
        [time("t/x"), time("t/x/d"), time("t/x/d/sub"), time("t/x/d/sub/file")],
        [(0, 0), (0, 0), (500, 1), (5_000, 1)]
    );
}

#[test]
fn names_are_bytes() {
    let world = World::new();
    let name = OsStr::from_bytes(b"caf\xe9 \n*");
    fs::write(world.path("c").join(name), "N").unwrap();
    let selection = select(&world.root("c"), &[b"caf*".as_slice()], &filters(None, None)).unwrap();
    world.copy_with(&selection, "/d/", &Options::default()).unwrap();
    assert_eq!(fs::read(world.path("t/d").join(name)).unwrap(), b"N");
}

#[test]
fn long_files_keep_their_data_and_their_holes() {
    let world = World::new();
    let file = fs::File::create(world.path("c/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"begin", 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 10 << 20).unwrap();
    file.set_len(64 << 20).unwrap();
    let dense: Vec<u8> = (0..1_000_003_u32).map(|byte| byte.to_le_bytes()[1]).collect();
    fs::write(world.path("c/dense"), &dense).unwrap();
    world.copy(&["sparse", "dense"], "/d/");
    assert_eq!(fs::read(world.path("t/d/dense")).unwrap(), dense);
    assert!(fs::read(world.path("t/d/sparse")).unwrap() == fs::read(world.path("c/sparse")).unwrap());
    assert!(meta(world.path("t/d/sparse")).blocks() <= meta(world.path("c/sparse")).blocks() + 64);
}

#[test]
fn many_files_and_directories_are_copied_whole() {
    let world = World::new();
    for directory in 0..40 {
        for file in 0..50 {
            world.file(&format!("c/d/{directory}/s/{file}"), &format!("{directory} {file}"));
        }
    }
    world.copy(&["d"], "/").copy(&["d"], "/again");
    let (mut expected, mut first) = (Vec::new(), Vec::new());
    list(&world.path("c/d"), "", &mut expected);
    list(&world.path("t/again"), "", &mut first);
    assert_eq!(first, expected);
    fs::remove_dir_all(world.path("t/again")).unwrap();
    assert_eq!(world.target(), expected);
}

#[test]
fn a_source_that_changed_since_it_was_selected_is_refused() {
    let world = World::new();
    world.file("c/d/a", "before");
    let selection = world.select(&["d"]).unwrap();
    for change in ["longer than before", "beforE"] {
        fs::write(world.path("c/d/a"), change).unwrap();
        set_time(&world.path("c/d/a"), 77, 0);
        let error = world.copy_with(&selection, "/", &Options::default()).unwrap_err();
        assert!(matches!(error, Error::SourceChanged { .. }), "{error}");
    }
    fs::remove_file(world.path("c/d/a")).unwrap();
    world.link("c/d/a", "/etc/passwd");
    world.copy_with(&selection, "/", &Options::default()).unwrap_err();
    assert_eq!(world.target(), [""; 0]);
}

#[test]
fn a_whiteout_is_not_a_file_to_copy() {
    let world = World::new();
    let dir = fs::File::open(world.path("c")).unwrap();
    rustix::fs::mknodat(&dir, "w", FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
    let error = world.try_copy(&["w"], "/").unwrap_err();
    assert!(error.to_string().starts_with("`w` cannot be part of a layer"), "{error}");
}

#[test]
fn hostile_links_lead_nowhere_outside() {
    let world = World::new();
    let outside = world.path("outside").display().to_string();
    world.link("c/escape", &outside).link("c/up", "../outside/precious").link("c/loop", "loop");
    world.link("c/one", "two").link("c/two", "one").link("c/pw", "/etc/passwd");
    for source in ["escape", "escape/precious", "up", "pw"] {
        let error = world.select(&[source]).unwrap_err();
        assert!(matches!(error, Error::SourceMissing { .. }), "{source}: {error}");
    }
    for source in ["loop", "one", "loop/x"] {
        assert!(matches!(world.select(&[source]).unwrap_err(), Error::File { act: "resolve", .. }));
    }
    world.file("c/a", "A").link("t/out", &outside).link("t/etc", "../../../../..").link("t/loop", "loop");
    world.copy(&["a"], "/out/precious").copy(&["a"], "/etc/").copy(&["a"], "/../../b");
    assert!(world.try_copy(&["a"], "/loop").is_err());
    assert_eq!(fs::read_to_string(world.path("outside/precious")).unwrap(), "precious");
    assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 1);
    let below = world.path("t").join(outside.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(below.join("precious")).unwrap(), "A");
    assert!(world.path("t/a").exists() && world.path("t/b").exists());
}

/// Whoever shares the target (or the context) may swap a directory for a link at any moment.
#[test]
fn a_directory_that_flips_into_a_link_leads_nowhere_outside() {
    let world = World::new();
    for file in 0..40 {
        world.file(&format!("c/d/flip/{file}"), "new");
    }
    world.file("t/flip/old", "").link("t/link", &world.path("outside").display().to_string());
    let selection = world.select(&["d"]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let target = fs::File::open(world.path("t")).unwrap();
            while !done.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(&target, "flip", &target, "link", exchange).unwrap();
            }
        });
        let (mut refused, mut copied) = (0, 0);
        // Both outcomes come quickly; the bound only keeps a broken copy from running for ever.
        while (refused == 0 || copied == 0) && refused + copied < 20_000 {
            match world.copy_with(&selection, "/", &Options::default()) {
                Ok(_) => copied += 1,
                Err(_) => refused += 1,
            }
        }
        for _ in 0..200 {
            let made = world.root("t").make_dirs(Path::new("/flip/deep/er"), &NewDirectory::default());
            drop(made);
        }
        done.store(true, Ordering::Relaxed);
        assert!(refused > 0);
    });
    assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(world.path("outside/precious")).unwrap(), "precious");
}

/// What a build does: into the merged view of a snapshot, and out of one as `COPY --from` does.
#[test]
fn copies_into_and_out_of_snapshots() {
    let world = World::new();
    world.file("c/d/sub/new", "new").file("c/d/file", "new").mode("c/d/sub", 0o711);
    let store = Store::open(&world.path("store")).unwrap();
    let snapshots = store.snapshots();
    let id = |name: &str| SnapshotId::key(oci::Digest::of(name.as_bytes()));

    let base = snapshots.prepare(None).unwrap();
    let root = Root::duplicate(base.root()).unwrap();
    root.make_dirs(Path::new("/usr/d/sub/old"), &NewDirectory { mode: 0o700, ..Default::default() }).unwrap();
    root.symlink(Path::new("usr"), Path::new("way")).unwrap();
    drop(root.create_file(Path::new("/usr/d/file"), 0o600, Owner::default()).unwrap());
    snapshots.commit(base, &id("base")).unwrap();

    let step = snapshots.prepare(Some(&id("base"))).unwrap();
    let merged = Root::duplicate(step.root()).unwrap();
    let before = merged.metadata(Path::new("/usr/d")).unwrap().unwrap();
    let selection = world.select(&["d"]).unwrap();
    copy(&world.root("c"), &selection, &merged, Path::new("/way/d/"), &Options::default()).unwrap();
    let after = merged.metadata(Path::new("/usr/d")).unwrap().unwrap();
    assert_eq!((after.mode, after.modified), (before.mode, before.modified));
    assert_eq!(merged.metadata(Path::new("/usr/d/sub")).unwrap().unwrap().mode, 0o711);
    drop(merged);
    snapshots.commit(step, &id("step")).unwrap();

    let view = snapshots.view(&id("step")).unwrap();
    let from = Root::duplicate(view.root()).unwrap();
    let selection = select(&from, &["/way"], &filters(None, None)).unwrap();
    copy(&from, &selection, &world.root("t"), Path::new("/"), &Options::default()).unwrap();
    assert_eq!(world.target(), ["d/", "d/file=new", "d/sub/", "d/sub/new=new", "d/sub/old/"]);
    // The layer below is as it was.
    let view = snapshots.view(&id("base")).unwrap();
    let base = Root::duplicate(view.root()).unwrap();
    assert_eq!(base.read_small(Path::new("/way/d/file"), 10).unwrap().unwrap(), b"");
    assert_eq!(base.list(Path::new("/usr/d/sub")).unwrap(), ["old"]);
}
