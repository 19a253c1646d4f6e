//! Where a COPY puts files, on a real file system: one test for each point of the study of BuildKit that concerns
//! it, and hostile roots. Which files it means is `copy_select.rs`, archives are `copy_archive.rs`. Runs as root.

mod world;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use layerfs::confined::{NewDirectory, Owner, Root};
use layerfs::copy::{Copied, Options, copy, select};
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use layerfs::{Error, checksum};
use rustix::fs::{FileType, Mode, XattrFlags};
use world::{World, filters, list, meta, mode_of, set_time};

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

/// Waits until the file system's clock, which may tick as rarely as a hundred times a second, gives another time.
fn tick(dir: &Path) {
    let now = || meta(tempfile::NamedTempFile::new_in(dir).unwrap().path().to_owned());
    let stamp = |meta: fs::Metadata| (meta.ctime(), meta.ctime_nsec());
    let before = stamp(now());
    while stamp(now()) == before {}
}

/// Writes over a file of the same length, and sets the time back to what it was.
fn overwrite(path: &Path, text: &str) {
    tick(path.parent().unwrap());
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn a_source_that_was_written_over_and_dated_back_is_refused() {
    let world = World::new();
    world.file("c/d/a", "before").link("c/d/link", "a");
    let selection = world.select(&["d"]).unwrap();
    overwrite(&world.path("c/d/a"), "beforE");
    let error = world.copy_with(&selection, "/", &Options::default()).unwrap_err();
    assert!(matches!(error, Error::SourceChanged { .. }), "{error}");
    let root = Root::open(&world.path("c")).unwrap();
    let error = checksum::digest(&root, &selection, checksum::Options::default()).unwrap_err();
    assert!(matches!(error, Error::SourceChanged { .. }), "{error}");

    let selection = world.select(&["d"]).unwrap();
    tick(&world.path("c"));
    fs::remove_file(world.path("c/d/link")).unwrap();
    world.link("c/d/link", "b");
    let error = world.copy_with(&selection, "/link", &Options::default()).unwrap_err();
    assert!(matches!(error, Error::SourceChanged { .. }), "{error}");
    let error = checksum::digest(&root, &selection, checksum::Options::default()).unwrap_err();
    assert!(matches!(error, Error::SourceChanged { .. }), "{error}");
}

#[test]
fn what_is_put_into_a_selected_directory_meanwhile_is_no_change() {
    let world = World::new();
    world.file("c/d/e/a", "A");
    let selection = world.select(&["d"]).unwrap();
    tick(&world.path("c/d/e"));
    world.file("c/d/e/new", "");
    world.copy_with(&selection, "/", &Options::default()).unwrap();
    let root = Root::open(&world.path("c")).unwrap();
    checksum::digest(&root, &selection, checksum::Options::default()).unwrap();
    assert!(!world.path("t/e/new").exists());
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
