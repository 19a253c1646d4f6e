//! Rules of layers that re-implementations get wrong, a test each; those about deletions and links are in `layer`.
//! (OCI image-spec, layer.md; the issues of containerd, BuildKit and umoci that are named.) Needs root.

mod common;
mod generate;

use std::os::fd::AsFd;

use common::{FILE, TestStore, diff_id, entry, id, link, listing_of, path, run, step, store, tar, view};
use layerfs::Error;
use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::tar::{Limits, Problem, Reader, Writer};
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::Active;

/// The layer that `script` makes on what `base` makes, as its names.
fn layer(base: &str, script: &str) -> String {
    generate::text(&layer_bytes(&store(), base, script))
}

fn layer_bytes(test: &TestStore, base: &str, script: &str) -> Vec<u8> {
    step(&test.store, None, "base", base);
    step(&test.store, Some("base"), "top", script);
    let mut tar = Vec::new();
    pack(&test.store.snapshots().changes(&id("top")).unwrap(), PackOptions::default(), &mut tar).unwrap();
    tar
}

/// What `layer` makes of what `base` makes.
fn applied(test: &TestStore, base: &str, layer: &[u8]) -> Result<Active, Error> {
    step(&test.store, None, base, base);
    let active = test.store.snapshots().prepare(Some(&id(base))).unwrap();
    unpack_layer(layer, &active, diff_id(layer))?;
    Ok(active)
}

/// An archive of these entries, without content.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    entries.iter().for_each(|entry| tar.entry(entry).unwrap());
    tar.finish().unwrap()
}

fn problem(result: Result<Active, Error>) -> Problem {
    match result {
        Err(Error::Archive { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dangling_link_that_is_deleted_is_a_whiteout() {
    // containerd looks through the link, finds nothing, and writes a device 0:0.
    assert_eq!(layer("ln -s nowhere dang", "rm dang"), ".wh.dang\n");
}

#[test]
fn a_directory_whose_owner_or_attributes_alone_changed_is_a_change() {
    // containerd compares size, mode and time.
    assert_eq!(layer("mkdir d; touch -d @5 d", "chown 5 d; touch -d @5 d"), "d/\n");
    assert_eq!(layer("mkdir d; touch -d @5 d", "setfattr -n user.x -v 1 d; touch -d @5 d"), "d/\n");
}

#[test]
fn a_layers_own_file_survives_its_own_whiteout() {
    // containerd deletes it: the order within a layer must not matter.
    let test = store();
    for entries in [[("x", FILE), (".wh.x", FILE)], [(".wh.x", FILE), ("x", FILE)]] {
        let active = applied(&test, "echo old > x", &tar(&entries)).unwrap();
        run(active.root(), "test \"$(cat x)\" = x");
    }
}

#[test]
fn a_whiteout_and_a_directory_of_one_name_make_it_opaque() {
    // containerd shows the lower file again, or fails with EEXIST, as the order is. (BuildKit #2614, #2710.)
    let test = store();
    let (dir, new, gone) = (("dd", Kind::Directory), ("dd/new", FILE), (".wh.dd", FILE));
    for entries in
        [[gone.clone(), dir.clone(), new.clone()], [dir.clone(), new.clone(), gone.clone()], [dir, gone, new]]
    {
        let active = applied(&test, "mkdir dd; echo old > dd/f", &tar(&entries)).unwrap();
        run(active.root(), "test \"$(ls dd)\" = new");
    }
}

#[test]
fn attributes_of_users_travel_and_those_of_machines_do_not() {
    // containerd and BuildKit drop `user.*`.
    let test = store();
    let script = "echo x > f; setfattr -n user.x -v 1 f; setfattr -n trusted.y -v 1 f; setcap cap_chown+ep f";
    let tar = layer_bytes(&test, "true", script);
    let entry = Reader::new(&tar[..], Limits::default()).next_entry().unwrap().unwrap();
    let names: Vec<&[u8]> = entry.xattrs.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b"security.capability"[..], b"user.x"]);
}

#[test]
fn a_file_that_would_delete_at_the_consumer_is_refused() {
    // containerd lets it through as a live whiteout.
    let test = store();
    step(&test.store, None, "evil", "touch .wh.evil");
    let changes = test.store.snapshots().changes(&id("evil")).unwrap();
    let error = pack(&changes, PackOptions::default(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Unpackable { .. }), "{error}");
}

#[test]
fn foreign_attributes_in_an_archive_are_not_set() {
    let test = store();
    let mut file = entry("f", FILE);
    for name in ["trusted.overlay.opaque", "user.overlay.opaque", "security.selinux", "user.kept"] {
        file.xattrs.insert(name.into(), b"y".to_vec());
    }
    let directory = Entry { path: b"d".to_vec(), kind: Kind::Directory, ..file.clone() };
    let active = applied(&test, "mkdir d; touch d/below", &archive(&[file, directory])).unwrap();
    run(
        active.root(),
        "test -e d/below; getfattr -d -m - --absolute-names f d > list; test \"$(grep -c = list)\" = 2",
    );
    run(active.root(), "test \"$(grep -c user.kept list)\" = 2");
}

#[test]
fn a_directory_made_anew_hides_what_it_was() {
    assert_eq!(layer("mkdir d; touch d/1 d/2", "rm -r d; mkdir d; touch d/2"), "d/\nd/.wh.1\nd/2\n");
    assert_eq!(layer("mkdir d; touch d/1", "rm -r d; mkdir d"), "d/\nd/.wh.1\n");
}

#[test]
fn what_changes_its_type_needs_no_whiteout() {
    assert_eq!(layer("mkdir d; touch d/1", "rm -r d; touch d"), "d\n");
    assert_eq!(layer("touch d", "rm d; mkdir d; touch d/1"), "d/\nd/1\n");
    assert_eq!(layer("ln -s x d", "rm d; mknod d c 1 3"), "d\n");
}

#[test]
fn nothing_is_deleted_that_was_not_there() {
    // Docker refuses such whiteouts. (umoci #254.)
    assert_eq!(layer("touch keep", "touch tmp; rm tmp; mkdir d; rmdir d"), "");
}

#[test]
fn whiteouts_are_no_hard_links_of_each_other() {
    // On disk all whiteouts are one inode.
    assert_eq!(layer("touch a b c; echo > k", "rm a b c"), ".wh.a\n.wh.b\n.wh.c\n");
}

#[test]
fn whiteouts_are_the_same_whoever_deletes() {
    let test = store();
    let tar = layer_bytes(&test, "mkdir d; touch d/f; touch -d @5 d", "rm d/f");
    let mut reader = Reader::new(&tar[..], Limits::default());
    assert_eq!(reader.next_entry().unwrap().unwrap().path, b"d");
    let mark = reader.next_entry().unwrap().unwrap();
    assert_eq!((mark.mode, mark.uid, mark.gid, mark.mtime, &mark.kind), (0, 0, 0, Time::default(), &FILE));
}

#[test]
fn a_whiteout_may_have_any_type() {
    let test = store();
    for kind in [FILE, Kind::Directory, link("x"), Kind::CharDevice { major: 0, minor: 0 }, Kind::Fifo] {
        let active = applied(&test, "touch x y", &tar(&[(".wh.x", kind)])).unwrap();
        run(active.root(), "test \"$(ls)\" = y");
    }
}

#[test]
fn a_whiteout_of_nothing_is_refused() {
    let test = store();
    for name in [".wh.", "d/.wh.", ".wh..", ".wh..."] {
        assert_eq!(problem(applied(&test, "touch x", &tar(&[(name, FILE)]))), Problem::Whiteout, "{name}");
    }
}

#[test]
fn leftovers_of_aufs_mean_nothing() {
    let test = store();
    let layer = tar(&[
        (".wh..wh.aufs", FILE),
        (".wh..wh.orph", Kind::Directory),
        (".wh..wh.plnk", Kind::Directory),
        (".wh..wh.plnk/5.7", FILE),
    ]);
    let active = applied(&test, "touch x", &layer).unwrap();
    run(active.root(), "test \"$(ls -A)\" = x");
}

#[test]
fn directories_that_only_links_and_deletions_mention_keep_their_times() {
    let test = store();
    let base = "mkdir -p usr/lib/sub; ln -s usr/lib lib; touch usr/lib/old usr/lib/sub/old; touch -d @7 usr/lib/sub usr/lib usr";
    let layers: [&[(&str, Kind)]; 5] = [
        &[("lib/new", FILE)],
        &[("usr/lib/new/deep/f", FILE)],
        &[("lib/.wh.old", FILE)],
        &[("lib/sub/.wh..wh..opq", FILE)],
        &[("lib/sub/new/f", FILE), ("lib/sub/.wh.old", FILE)],
    ];
    for layer in layers {
        let active = applied(&test, base, &tar(layer)).unwrap();
        let times = "test \"$(stat -c %Y usr usr/lib usr/lib/sub | tr '\\n' ' ')\" = '7 7 7 '";
        run(active.root(), times);
    }
}

#[test]
fn a_time_goes_with_its_directory_not_with_its_name() {
    // `c` becomes a link to `d`: the time that `c/b` should have had is not `d/b`'s.
    let test = store();
    let mut layer = Writer::new(Vec::new());
    for (path, kind) in [("c/b", Kind::Directory), ("c", link("d"))] {
        layer.entry(&entry(path, kind)).unwrap();
    }
    let active = applied(&test, "mkdir -p d/b; touch -d @7 d/b", &layer.finish().unwrap()).unwrap();
    run(active.root(), "test \"$(stat -c %Y d/b)\" = 7");
}

#[test]
fn directories_from_which_a_layer_only_deletes_are_not_its_own() {
    let test = store();
    let base = "mkdir -p d/a/b; touch d/a/b/f d/a/g d/h";
    for layer in [
        &[("d/a/.wh..wh..opq", FILE), (".wh.d", FILE)][..],
        &[("d/a/.wh.b", FILE), ("d/.wh.a", FILE), (".wh.d", FILE)],
        &[(".wh.d", FILE), ("d/a/.wh..wh..opq", FILE)],
        &[("d/a/.wh.b", FILE), (".wh..wh..opq", FILE)],
    ] {
        let active = applied(&test, base, &tar(layer)).unwrap();
        run(active.root(), "test -z \"$(ls -A)\"");
    }
    let own = tar(&[("d/a", Kind::Directory), ("d/a/.wh..wh..opq", FILE), (".wh.d", FILE)]);
    run(applied(&test, base, &own).unwrap().root(), "test \"$(find . | tr '\\n' ' ')\" = '. ./d ./d/a '");
}

#[test]
fn parents_that_an_archive_leaves_out_are_made() {
    let test = store();
    let active = applied(
        &test,
        "echo > file; mkdir -m 750 d; chown 3:4 d",
        &tar(&[("a/b/c", FILE), ("file/x", FILE), ("d/n/x", FILE)]),
    );
    let active = active.unwrap();
    run(active.root(), "test \"$(stat -c '%a %u %g %Y' a a/b file d/n | sort -u)\" = '755 0 0 0'");
    run(active.root(), "test \"$(stat -c '%a %u %g' d)\" = '750 3 4'");
    let active = applied(&test, "mkdir g; chown 5:6 g; chmod 2755 g", &tar(&[("g/new/f", FILE)])).unwrap();
    run(active.root(), "test \"$(stat -c '%a %u %g' g g/new | tr '\\n' ' ')\" = '2755 5 6 755 0 0 '");
}

#[test]
fn the_root_keeps_being_a_directory_and_gets_its_attributes() {
    let test = store();
    let root = Entry { mode: 0o700, uid: 5, ..entry("", Kind::Directory) };
    let active = applied(&test, "touch x", &archive(&[root])).unwrap();
    run(active.root(), "test \"$(stat -c '%a %u %Y' .)\" = '700 5 1000000000'; test -e x");
    for kind in [FILE, link("/tmp"), Kind::Fifo, Kind::HardLink { target: b"x".to_vec() }] {
        assert_eq!(problem(applied(&test, "touch x", &tar(&[(".", kind)]))), Problem::Root);
    }
}

#[test]
fn the_last_of_several_entries_wins() {
    let test = store();
    let layer = tar(&[("x", Kind::Directory), ("x/in", FILE), ("x", FILE), ("x", link("y"))]);
    run(applied(&test, "true", &layer).unwrap().root(), "test \"$(readlink x)\" = y");
}

#[test]
fn attributes_are_set_in_an_order_that_keeps_them() {
    // chown clears set-user-id and capabilities, writing clears them too, and nobody can write into mode 0.
    let test = store();
    let capability = [&[1, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
    let mut program = Entry { mode: 0o6755, uid: 7, gid: 8, ..entry("p", Kind::File { size: 1 }) };
    program.xattrs.insert(b"security.capability".to_vec(), capability);
    let closed = Entry { mode: 0, uid: 7, ..entry("closed", Kind::Directory) };
    let mut layer = Writer::new(Vec::new());
    layer.entry(&program).unwrap();
    layer.write_data(b"x").unwrap();
    layer.entry(&closed).unwrap();
    layer.entry(&entry("closed/f", FILE)).unwrap();
    let active = applied(&test, "true", &layer.finish().unwrap()).unwrap();
    run(active.root(), "test \"$(stat -c '%a %u %g' p closed | tr '\\n' ' ')\" = '6755 7 8 0 7 0 '");
    run(active.root(), "getcap p | grep -q cap_net_bind_service; test \"$(stat -c %Y closed)\" = 1000000000");
}

#[test]
fn a_link_to_a_link_is_a_link() {
    let test = store();
    let layer = tar(&[("s", link("gone")), ("h", Kind::HardLink { target: b"s".to_vec() })]);
    run(
        applied(&test, "true", &layer).unwrap().root(),
        "test \"$(readlink h)\" = gone; test \"$(stat -c %h s)\" = 2",
    );
    assert_eq!(
        self::layer("true", "mknod a c 1 3; ln a b; ln -s x l; ln l m"),
        "a\nb => a\nl -> x\nm => l\n"
    );
}

#[test]
fn names_are_bytes_in_every_spelling() {
    let test = store();
    let layer =
        tar(&[("./a", FILE), ("/b", FILE), ("c//d", FILE), ("e/./f", FILE), ("dir/", Kind::Directory)]);
    let active = applied(&test, "true", &layer).unwrap();
    run(
        active.root(),
        "test \"$(find . -mindepth 1 | sort | tr '\\n' ' ')\" = './a ./b ./c ./c/d ./dir ./e ./e/f '",
    );
}

#[test]
fn times_are_floored_and_may_be_before_1970() {
    let test = store();
    let tar = layer_bytes(
        &test,
        "true",
        "touch -d '1969-12-31 23:59:58.5 UTC' a; touch -d @1.999 b; touch -d @8589934592 c",
    );
    let mut reader = Reader::new(&tar[..], Limits::default());
    let mut times = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        times.push(entry.mtime);
    }
    assert_eq!(times, [-2, 1, 8_589_934_592].map(Time::from_seconds));
}

#[test]
fn owners_beyond_octal_survive_and_nobody_is_refused() {
    let test = store();
    let tar = layer_bytes(&test, "true", "touch a; chown 2097152:4294967294 a");
    let entry = Reader::new(&tar[..], Limits::default()).next_entry().unwrap().unwrap();
    assert_eq!((entry.uid, entry.gid), (2_097_152, u32::MAX - 1));
    // 2^32 - 1 means "leave it" to the kernel. (CVE-2024-40635 is the like.)
    let nobody = Entry { uid: u32::MAX, ..common::entry("f", FILE) };
    assert_eq!(problem(applied(&test, "true", &archive(&[nobody]))), Problem::Number { field: "uid" });
}

#[test]
fn empty_layers_are_layers() {
    let test = store();
    // docker #18170: a blob of no bytes; and the tar of nothing.
    for layer in [Vec::new(), vec![0; 1024]] {
        let active = applied(&test, "touch x", &layer).unwrap();
        assert!(listing_of(active.root()).starts_with("x "));
    }
    let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    step(&test.store, None, "nothing", "true");
    let mut bytes = Vec::new();
    let packed =
        pack(&test.store.snapshots().changes(&id("nothing")).unwrap(), PackOptions::default(), &mut bytes);
    assert_eq!(packed.unwrap().diff_id.to_string(), empty);
}

#[test]
fn bytes_behind_the_end_belong_to_the_digest() {
    // umoci #360: some writers pad.
    let test = store();
    let mut layer = tar(&[("f", FILE)]);
    layer.resize(10 * 1024, 0);
    run(applied(&test, "true", &layer).unwrap().root(), "test -e f");
}

#[test]
fn holes_are_zeros_in_a_layer() {
    let test = store();
    let tar = layer_bytes(&test, "true", "truncate -s 5M sparse; printf end >> sparse");
    let mut reader = Reader::new(&tar[..], Limits::default());
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.kind, Kind::File { size: (5 << 20) + 3 });
    assert!(tar.len() > 5 << 20);
    assert!(path(view(&test.store, "top").root().as_fd()).join("sparse").exists());
}
