//! Layers on a real overlay: what is packed, what is unpacked, what is refused. Needs root.

mod common;

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use common::{FILE, TestStore, diff_id, entry, id, link, listing_of, path, run, step, store, tar, view};
use layerfs::Error;
use layerfs::diff::{self, Change};
use layerfs::entry::{Kind, Time};
use layerfs::flat::{self, Flat};
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::tar::{Limits, Problem, Reader, Writer};
use layerfs::layer::unpack::{Destination, Options, Whiteouts, unpack, unpack_layer};
use layerfs::snapshot::Below;
use oci::Digest;

/// Every kind of object.
const TREE: &str = r#"
mkdir -p usr/bin etc empty 'sp ace' deep/er/est; chmod 1777 empty; chmod 02750 etc
printf hello > usr/bin/hello; chmod 4755 usr/bin/hello; chown 1:2 usr/bin/hello; chmod u+s usr/bin/hello
ln usr/bin/hello usr/bin/again; ln usr/bin/hello deep/third
ln -s usr/lib lib; ln -s /etc/nothing dangling; ln -s usr/bin/hello link; ln link link2 2>/dev/null || true
mkfifo pipe; mknod null c 1 3; mknod disk b 8 1; chmod 600 disk
printf x > "$(printf 'bad\377name')"; printf y > 'new
line'
long=$(printf 'n%.0s' $(seq 1 200)); mkdir -p $long/$long; printf z > $long/$long/$long; ln -s $long/$long/$long longlink
printf cap > capable; setcap cap_net_raw+ep capable
truncate -s 5M sparse; printf end >> sparse
printf big > huge; chown 3000000:4294967294 huge
printf old > old; touch -d '1950-01-02 03:04:05.678' old; printf sub > sub; touch -d '2020-01-02 03:04:05.999' sub
touch -d '2001-01-01' empty etc
"#;

/// Commits [`TREE`] as `name`, with what a shell cannot make.
fn every_kind(test: &TestStore, name: &str) {
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(None).unwrap();
    run(active.root(), TREE);
    let root = path(active.root());
    for (file, attribute, value) in [("old", "user.comment", &b"\0\xff=\n"[..]), ("etc", "user.dir", b"d")] {
        rustix::fs::setxattr(root.join(file), attribute, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    snapshots.commit(active, &id(name)).unwrap();
}

/// Packs the snapshot `from` and unpacks it as `to` on `parent`.
fn through_tar(test: &TestStore, from: &str, parent: Option<&str>, to: &str) -> Vec<u8> {
    let snapshots = test.store.snapshots();
    let mut tar = Vec::new();
    let packed = pack(&snapshots.changes(&id(from)).unwrap(), PackOptions::default(), &mut tar).unwrap();
    assert_eq!(packed.diff_id, diff_id(&tar));
    assert_eq!(packed.size_bytes, tar.len() as u64);
    let parent = parent.map(id);
    let active = snapshots.prepare(parent.as_ref()).unwrap();
    unpack_layer(&tar[..], &active, packed.diff_id).unwrap();
    snapshots.commit(active, &id(to)).unwrap();
    tar
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(tar, Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(entry.path.escape_ascii().to_string());
    }
    names
}

#[test]
fn a_tree_of_every_kind_survives() {
    let test = store();
    every_kind(&test, "a");
    let first = through_tar(&test, "a", None, "b");
    run(view(&test.store, "a").root(), "test -S socket");
    let without_socket: String = listing_of(view(&test.store, "a").root())
        .lines()
        .filter(|line| !line.starts_with("socket "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(listing_of(view(&test.store, "b").root()), without_socket);
    let second = through_tar(&test, "b", None, "c");
    assert!(first == second, "a layer of an unpacked layer differs");
}

#[test]
fn changes_on_a_parent_survive() {
    let test = store();
    step(
        &test.store,
        None,
        "base",
        "mkdir -p d/sub e f g/inner h keep; for n in d/1 d/2 d/sub/old e/1 f/1 g/inner/1 keep/k h/1; do echo $n > $n; done
         echo file > tofile; mkdir todir.d; echo x > todir; ln -s nowhere dangling; echo l > l1; ln l1 l2; touch -d 2001-01-01 d e f g h keep .",
    );
    step(
        &test.store,
        Some("base"),
        "top",
        "rm d/1 dangling; rm -r e; rm -r f; mkdir f; rm -r g; mkdir -p g/inner; echo new > g/inner/2; chmod 700 h
         rm todir; mkdir todir; echo in > todir/in; rm -r todir.d; echo now > todir.d; echo more >> l1; ln tofile tofile2; chown 5:5 keep",
    );
    let tar = through_tar(&test, "top", Some("base"), "again");
    // In `d` nothing but its children changed, so its time did not change either.
    let aside = |name| {
        let listing = listing_of(view(&test.store, name).root());
        listing.lines().filter(|line| !line.starts_with("d dir ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(aside("again"), aside("top"));
    let expected = [
        ".wh.dangling",
        ".wh.e",
        "d",
        "d/.wh.1",
        "f",
        "f/.wh.1",
        "g",
        "g/inner",
        "g/inner/.wh.1",
        "g/inner/2",
        "h",
        "keep",
        "l1",
        "todir",
        "todir/in",
        "todir.d",
        "tofile",
        "tofile2",
    ];
    assert_eq!(names(&tar), expected);
}

#[test]
fn what_was_only_touched_is_no_change() {
    let test = store();
    step(
        &test.store,
        None,
        "base",
        "mkdir -p d tmp; echo 1 > d/1; echo 2 > d/2; chmod 640 d/2; touch -d 2001-01-01 tmp d",
    );
    step(
        &test.store,
        Some("base"),
        "top",
        "exec 3<>d/1; exec 3>&-; chmod 640 d/2; touch tmp/x; rm tmp/x; touch -r d/2 d/1x; rm d/1x",
    );
    let packed = test
        .store
        .put_layer(&test.store.snapshots().changes(&id("top")).unwrap(), PackOptions::default())
        .unwrap();
    assert_eq!(packed.entries, 0);
    let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(packed.diff_id.to_string(), empty);
    assert!(test.store.has(&packed.diff_id.0));
    // An ancestor of a change has its parent's time when nothing else about it changed.
    step(&test.store, Some("base"), "child", "echo 3 > d/3");
    let mut times = Vec::new();
    diff::walk(&test.store.snapshots().changes(&id("child")).unwrap(), false, &mut |change| {
        if let Change::Put { entry, .. } = change {
            times.push((entry.path.clone(), entry.mtime.seconds == 978_307_200));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(times, [(b"d".to_vec(), true), (b"d/3".to_vec(), false)]);
}

#[test]
fn many_deletions_become_an_opaque_mark() {
    let test = store();
    step(&test.store, None, "base", "mkdir d; cd d; seq 1500 | xargs touch; mkdir s; touch s/x");
    step(&test.store, Some("base"), "top", "rm -r d; mkdir -p d/s; touch d/s/y d/7");
    let tar = through_tar(&test, "top", Some("base"), "again");
    assert_eq!(names(&tar), ["d", "d/.wh..wh..opq", "d/7", "d/s", "d/s/y"]);
    assert_eq!(listing_of(view(&test.store, "again").root()), listing_of(view(&test.store, "top").root()));
}

#[test]
fn names_that_mean_deletions_cannot_be_packed() {
    let test = store();
    step(&test.store, None, "a", "mkdir d; touch d/.wh.evil");
    let error =
        pack(&test.store.snapshots().changes(&id("a")).unwrap(), PackOptions::default(), &mut Vec::new());
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Unpackable { path, .. } if path.as_os_str() == "d/.wh.evil"), "{error}");
}

#[test]
fn attributes_that_records_would_cut_are_in_no_archive() {
    let test = store();
    step(&test.store, None, "base", "mkdir d e; touch e/f; setfattr -n user.a=b -v c d");
    step(&test.store, Some("base"), "below", "touch d/x");
    step(&test.store, Some("base"), "file", "setfattr -n user.a=b -v c e/f");
    let changes = |name| test.store.snapshots().changes(&id(name)).unwrap();
    let packed = |name| pack(&changes(name), PackOptions::default(), &mut Vec::new()).map(drop);
    let flat = |name| flat::write(&view(&test.store, name), &Flat::default(), &mut Writer::new(Vec::new()));
    for (written, place) in [
        (packed("base"), "d"),
        (packed("below"), "d"),
        (packed("file"), "e/f"),
        (flat("base"), "d"),
        (flat("file"), "d"),
    ] {
        let error = written.unwrap_err();
        assert!(matches!(&error, Error::Unpackable { path, .. } if path.as_os_str() == place), "{error}");
    }
}

#[test]
fn times_are_clamped_and_bytes_are_fixed() {
    let test = store();
    let script = "umask 022; mkdir -p d; printf hello > d/f; ln d/f d/g; ln -s f d/s; mkfifo p; touch -d @1700000000 d/f p; touch -h -d @5 d/s; touch -d @1700000001 d";
    step(&test.store, None, "a", script);
    let changes = test.store.snapshots().changes(&id("a")).unwrap();
    let mut tar = Vec::new();
    pack(&changes, PackOptions { epoch: Some(1_000_000_000), ..PackOptions::default() }, &mut tar).unwrap();
    let mut reader = Reader::new(&tar[..], Limits::default());
    while let Some(entry) = reader.next_entry().unwrap() {
        let expected = if entry.path == b"d/s" { 5 } else { 1_000_000_000 };
        assert_eq!(entry.mtime, Time::from_seconds(expected), "{}", entry.path.escape_ascii());
    }
    // Other bytes for the same tree are another `LAYER_FORMAT`.
    let golden = "sha256:b78f6e43852aa17a248514f7478eb0315743e48afbd6c4faf173e6cc4a09ef26";
    assert_eq!(Digest::of(&tar).to_string(), golden);
}

#[test]
fn other_programs_read_what_we_write() {
    let test = store();
    every_kind(&test, "a");
    let tar = through_tar(&test, "a", None, "b");
    let file = test.dir.path().join("layer.tar");
    std::fs::write(&file, &tar).unwrap();
    let out = test.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let status = std::process::Command::new("tar")
        .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"])
        .args([&file, std::path::Path::new("-C"), &out])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(common::listing(&out), listing_of(view(&test.store, "b").root()));
    let listed = std::process::Command::new("python3")
        .args(["-c", "import tarfile,sys\nfor m in tarfile.open(sys.argv[1]): sys.stdout.buffer.write(m.name.encode('utf-8','surrogateescape')+b'\\0')"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(listed.status.success());
    let found: Vec<String> = listed
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| name.escape_ascii().to_string())
        .collect();
    assert_eq!(found, names(&tar));
}

#[test]
fn what_other_programs_write_is_read() {
    let test = store();
    every_kind(&test, "a");
    let from = view(&test.store, "a");
    for format in ["gnu", "posix", "ustar", "oldgnu"] {
        let file = test.dir.path().join(format!("{format}.tar.gz"));
        let mut tar = std::process::Command::new("tar");
        tar.args(["--numeric-owner", "-czf"]).arg(&file).arg(format!("--format={format}"));
        if format == "posix" {
            tar.args(["--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"]);
        }
        // The old formats know no such numbers and names.
        let limited = ["./huge", "./old", "./n*", "./longlink"];
        tar.args(limited.iter().filter(|_| format == "ustar").map(|name| format!("--exclude={name}")));
        let made = tar.arg(".").current_dir(path(from.root())).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let active = test.store.snapshots().prepare(None).unwrap();
        let destination = Destination { root: active.root(), below: Below::Nothing };
        unpack(std::fs::File::open(&file).unwrap(), destination, &Options::default()).unwrap();
        if format == "posix" {
            let expected = listing_of(from.root());
            let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with("socket ")).collect();
            assert_eq!(listing_of(active.root()).lines().collect::<Vec<_>>(), expected);
        } else {
            run(active.root(), "test \"$(cat deep/third)\" = hello; test -p pipe; test -u usr/bin/again");
        }
    }
}

/// Unpacks `layers` one on the other and gives the paths that are seen.
fn stacked(test: &TestStore, layers: &[Vec<u8>]) -> String {
    let snapshots = test.store.snapshots();
    let mut parent = None;
    for (place, layer) in layers.iter().enumerate() {
        let active = snapshots.prepare(parent.as_ref()).unwrap();
        unpack_layer(&layer[..], &active, diff_id(layer)).unwrap();
        let name = id(&format!("{place}{}", Digest::of(&layers.concat())));
        snapshots.commit(active, &name).unwrap();
        parent = Some(name);
    }
    let view = snapshots.view(&parent.unwrap()).unwrap();
    let out = std::process::Command::new("find")
        .args([".", "-mindepth", "1", "-printf", "%P%y "])
        .current_dir(path(view.root()))
        .output()
        .unwrap();
    let mut words: Vec<String> =
        String::from_utf8(out.stdout).unwrap().split_whitespace().map(str::to_owned).collect();
    words.sort();
    words.join(" ")
}

#[test]
fn deletions_are_about_lower_layers_whatever_their_order() {
    let test = store();
    let base = tar(&[
        ("dd", Kind::Directory),
        ("dd/f", FILE),
        ("dd/s", Kind::Directory),
        ("dd/s/o", FILE),
        ("x", FILE),
        ("y", FILE),
    ]);
    let dir = Kind::Directory;
    let to = |target: &str| Kind::HardLink { target: target.into() };
    let table: [(&[(&str, Kind)], &str); 19] = [
        (&[(".wh.x", FILE)], "ddd dd/ff dd/sd dd/s/of yf"),
        (&[("x", FILE), (".wh.x", FILE)], "ddd dd/ff dd/sd dd/s/of xf yf"),
        (&[(".wh.x", FILE), ("x", FILE)], "ddd dd/ff dd/sd dd/s/of xf yf"),
        (&[(".wh.dd", FILE), ("dd", dir.clone()), ("dd/new", FILE)], "ddd dd/newf xf yf"),
        (&[("dd", dir.clone()), ("dd/new", FILE), (".wh.dd", FILE)], "ddd dd/newf xf yf"),
        (&[("dd/new", FILE), (".wh.dd", FILE)], "ddd dd/newf xf yf"),
        (&[("dd", dir.clone()), ("dd/.wh..wh..opq", FILE), ("dd/s", dir.clone())], "ddd dd/sd xf yf"),
        (&[("dd/s/n", FILE), ("dd/.wh..wh..opq", FILE)], "ddd dd/sd dd/s/nf xf yf"),
        (&[(".wh.dd", FILE), ("dd/.wh.f", FILE)], "xf yf"),
        (&[(".wh.absent", FILE), ("no/.wh.x", FILE)], "ddd dd/ff dd/sd dd/s/of xf yf"),
        (&[("dd", FILE)], "ddf xf yf"),
        (&[("x", dir.clone())], "ddd dd/ff dd/sd dd/s/of xd yf"),
        (&[("dd/f", dir.clone()), ("dd/f/g", FILE)], "ddd dd/fd dd/f/gf dd/sd dd/s/of xf yf"),
        (&[("new", to("x")), (".wh.x", FILE)], "ddd dd/ff dd/sd dd/s/of newf yf"),
        (&[(".wh.x", FILE), ("new", to("x"))], "ddd dd/ff dd/sd dd/s/of newf yf"),
        (&[("new", to("x")), (".wh.x", FILE), ("x", dir.clone())], "ddd dd/ff dd/sd dd/s/of newf xd yf"),
        (&[("new", to("x")), ("x", FILE), (".wh.x", FILE)], "ddd dd/ff dd/sd dd/s/of newf xf yf"),
        (&[("dd/new", to("dd/f")), ("dd/.wh..wh..opq", FILE)], "ddd dd/newf xf yf"),
        (&[(".wh..wh.plnk", dir.clone()), (".wh..wh.plnk/1", FILE), (".wh..wh..opq", FILE)], ""),
    ];
    for (layer, expected) in table {
        let mut expected: Vec<&str> = expected.split(' ').filter(|word| !word.is_empty()).collect();
        expected.sort_unstable();
        assert_eq!(stacked(&test, &[base.clone(), tar(layer)]), expected.join(" "), "{layer:?}");
    }
}

#[test]
fn a_deletion_does_not_follow_a_link_that_came_later() {
    let test = store();
    let base = tar(&[
        ("a", Kind::Directory),
        ("a/f", FILE),
        ("b", Kind::Directory),
        ("b/f", FILE),
        ("l", link("b/f")),
    ]);
    let top = tar(&[("a/.wh.f", FILE), ("a", link("b")), ("l/.wh.f", FILE)]);
    assert_eq!(stacked(&test, &[base, top]), "al b/ff bd ll");
}

#[test]
fn the_longest_names_can_be_deleted() {
    let test = store();
    let name = "n".repeat(255);
    step(&test.store, None, "base", &format!("echo 1 > {name}; echo 2 > f"));
    step(&test.store, Some("base"), "top", &format!("rm {name}"));
    let tar = through_tar(&test, "top", Some("base"), "again");
    assert_eq!(names(&tar), [format!(".wh.{name}")]);
    run(view(&test.store, "again").root(), "test \"$(ls)\" = f");
}

#[test]
fn links_of_lower_layers_are_followed_inside() {
    let test = store();
    let base = tar(&[
        ("usr", Kind::Directory),
        ("usr/lib", Kind::Directory),
        ("lib", link("usr/lib")),
        ("run", link("/var/run")),
        ("up", link("../../..")),
    ]);
    let top = tar(&[("lib/a", FILE), ("run/b", FILE), ("up/c", FILE), ("lib/.wh.none", FILE)]);
    let seen = stacked(&test, &[base, top]);
    assert_eq!(seen, "cf libl runl upl usr/lib/af usr/libd usrd var/run/bf var/rund vard");
}

#[test]
fn directories_that_are_not_mentioned_keep_their_times() {
    let test = store();
    step(
        &test.store,
        None,
        "base",
        "mkdir -p d; touch d/x d/y; chmod 750 d; chown 3:4 d; touch -d 2001-01-01 d; touch -d 2002-02-02 .",
    );
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(Some(&id("base"))).unwrap();
    let layer = tar(&[("d/new", FILE), ("d/.wh.x", FILE)]);
    unpack_layer(&layer[..], &active, diff_id(&layer)).unwrap();
    run(
        active.root(),
        "test \"$(stat -c '%Y %a %u:%g' d)\" = '978307200 750 3:4'; test \"$(stat -c %Y .)\" = 1012608000",
    );
}

#[test]
fn hostile_archives_are_refused_or_confined() {
    let test = store();
    let outside = test.dir.path().join("victim");
    std::fs::write(&outside, "safe").unwrap();
    let victim = outside.to_str().unwrap();
    let unpacked = |layer: &[u8]| {
        let snapshots = test.store.snapshots();
        let active = snapshots.prepare(None).unwrap();
        let result = unpack_layer(layer, &active, diff_id(layer)).map(|_| listing_of(active.root()));
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "safe");
        result
    };
    let problem = |layer: &[u8]| match unpacked(layer) {
        Err(Error::Archive { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(problem(&tar(&[("a/../../b", FILE)])), Problem::ParentDirectory);
    assert_eq!(
        problem(&tar(&[("a", FILE), ("b", Kind::HardLink { target: b"../../etc/passwd".to_vec() })])),
        Problem::ParentDirectory
    );
    assert_eq!(problem(&tar(&[("n", Kind::CharDevice { major: 0, minor: 0 })])), Problem::WhiteoutDevice);
    assert_eq!(problem(&tar(&[(".wh.", FILE)])), Problem::Whiteout);
    assert_eq!(problem(&tar(&[("a", Kind::HardLink { target: b"a".to_vec() })])), Problem::SelfLink);
    assert_eq!(problem(&tar(&[(&"x".repeat(256), FILE)])), Problem::LongPath);
    assert_eq!(problem(&tar(&[("/.", link("/tmp"))])), Problem::Root);
    let whole = tar(&[("a", FILE), ("b", FILE)]);
    for length in [300, 513, 1000, 1024 + 512 + 1] {
        assert_eq!(problem(&whole[..length]), Problem::Truncated, "{length}");
    }
    assert_eq!(problem(&[7; 1024]), Problem::Number { field: "checksum" });
    // Absolute names and links begin at the root of the image.
    let parent = outside.parent().unwrap().to_str().unwrap();
    let confined = unpacked(&tar(&[
        (victim, FILE),
        ("l", link(parent)),
        ("l/victim", FILE),
        ("d", link("..")),
        ("d/e", FILE),
    ]))
    .unwrap();
    assert!(confined.contains("\ne ") || confined.starts_with("e "), "{confined}");
    // Replacing a directory by a link between two entries does not lead the second elsewhere.
    unpacked(&tar(&[("t", Kind::Directory), ("t/a", FILE), ("t", link(parent)), ("t/victim", FILE)]))
        .unwrap();
    // A hard link leads to the link itself, and nowhere out of the root.
    let error =
        unpacked(&tar(&[("l", link(parent)), ("h", Kind::HardLink { target: b"l/victim".to_vec() })]))
            .unwrap_err();
    assert!(matches!(error, Error::Unpack { .. }), "{error}");
    let layer = tar(&[
        ("s", link(victim)),
        ("h", Kind::HardLink { target: b"s".to_vec() }),
        ("s", FILE),
        ("h", FILE),
        ("h", FILE),
    ]);
    assert!(unpacked(&layer).unwrap().contains("h "));
    // The promise is about all bytes.
    let active = test.store.snapshots().prepare(None).unwrap();
    let mut longer = whole.clone();
    longer.push(0);
    assert!(matches!(unpack_layer(&longer[..], &active, diff_id(&whole)), Err(Error::DiffId { .. })));
}

#[test]
fn limits_hold() {
    let test = store();
    let active = test.store.snapshots().prepare(None).unwrap();
    let destination = Destination { root: active.root(), below: Below::Nothing };
    let mut xattrs = entry("x", FILE);
    xattrs.xattrs.insert(b"user.x".to_vec(), vec![b'x'; 2 << 20]);
    let mut long = Writer::new(Vec::new());
    long.entry(&xattrs).unwrap();
    let few = Limits { entries: 1, ..Limits::default() };
    let mut bomb = Vec::new();
    // A header is all there is of it.
    Writer::new(&mut bomb).entry(&entry("bomb", Kind::File { size: 1 << 41 })).unwrap();
    let table = [
        (bomb, Limits::default(), Problem::Content),
        (long.finish().unwrap(), Limits::default(), Problem::Metadata),
        (tar(&[("a", FILE), ("b", FILE)]), few, Problem::Entries),
    ];
    for (bytes, limits, expected) in table {
        let result = unpack(&bytes[..], destination, &Options { limits, ..Options::default() });
        match result {
            Err(Error::Archive { problem, .. }) => assert_eq!(problem, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

#[test]
fn archives_for_add() {
    let test = store();
    step(&test.store, None, "base", "mkdir -p real/dest");
    let active = test.store.snapshots().prepare(Some(&id("base"))).unwrap();
    let below = std::fs::File::open(path(active.root()).join("real/dest")).unwrap();
    let destination = Destination { root: below.as_fd(), below: Below::Nothing };
    let options = Options { whiteouts: Whiteouts::Literal, owner: Some((7, 8)), ..Options::default() };
    let archive = tar(&[("a", FILE), ("b", Kind::HardLink { target: b"a".to_vec() }), (".wh.c", FILE)]);
    let mut gz = Vec::new();
    layerfs::layer::codec::Codec::new(oci::Compression::Gzip)
        .compress(&mut &archive[..], &mut gz, 2)
        .unwrap();
    unpack(&gz[..], destination, &options).unwrap();
    run(
        active.root(),
        "cd real/dest; test \"$(stat -c %u:%g:%h a b .wh.c | tr '\\n' ' ')\" = '7:8:2 7:8:2 7:8:1 '",
    );
    let name = std::ffi::OsStr::from_bytes(b"a");
    assert!(path(active.root()).join("real/dest").join(name).exists());
}
