//! Trees deeper than a path can be long, a thread's stack can be high, or a process can have files open. Needs
//! root.

mod common;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use common::{FILE, diff_id, id, link, nest, run, store, tar, view};
use layerfs::Error;
use layerfs::checksum;
use layerfs::confined::Root;
use layerfs::copy::{self, Filters};
use layerfs::entry::Kind;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::unpack::unpack_layer;
use layerfs::walk::{self, everything};

/// `d/d/d/…`
fn deep(levels: usize) -> String {
    vec!["d"; levels].join("/")
}

/// Every path but those that are `d` alone, with the number of levels above.
fn leaves(root: BorrowedFd<'_>) -> Vec<(usize, String)> {
    let entries = walk::walk(root, &everything).unwrap();
    let others = entries.iter().filter(|entry| entry.name() != b"d");
    let levels = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
    others.map(|entry| (levels(&entry.path), String::from_utf8(entry.name().to_vec()).unwrap())).collect()
}

fn leaf(levels: usize, name: &str) -> (usize, String) {
    (levels, name.to_owned())
}

#[test]
fn a_deep_snapshot_is_dropped_and_cleared() {
    let test = store();
    let active = test.store.snapshots().prepare(None).unwrap();
    drop(nest(active.root(), 6000));
    drop(active);
    let ingest = test.store.root().join("ingest");
    assert_eq!(std::fs::read_dir(&ingest).unwrap().count(), 0);
    // What a killed process left.
    let left = ingest.join("left");
    std::fs::create_dir(&left).unwrap();
    drop(nest(Root::open(&left).unwrap().as_fd(), 6000));
    drop(layerfs::store::Store::open(test.store.root()).unwrap());
    assert!(!left.exists());
}

#[test]
fn a_deep_layer_is_packed_and_unpacked() {
    let test = store();
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(None).unwrap();
    run(nest(active.root(), 2200).as_fd(), "echo a > a; echo b > b");
    snapshots.commit(active, &id("base")).unwrap();
    let active = snapshots.prepare(Some(&id("base"))).unwrap();
    run(nest(active.root(), 2200).as_fd(), "rm a; echo more >> b");
    // What comes after the depths, far up.
    run(nest(active.root(), 3).as_fd(), "echo e > e");
    snapshots.commit(active, &id("top")).unwrap();

    let mut parent = None;
    let mut unpack = |name: &str| {
        let mut bytes = Vec::new();
        let changes = snapshots.changes(&id(name)).unwrap();
        let packed = pack(&changes, PackOptions::default(), &mut bytes).unwrap();
        let active = snapshots.prepare(parent.as_ref()).unwrap();
        unpack_layer(&bytes[..], &active, packed.diff_id).unwrap();
        let again = id(&format!("{name} again"));
        snapshots.commit(active, &again).unwrap();
        parent = Some(again);
        (packed.entries, leaves(view(&test.store, &format!("{name} again")).root()))
    };
    assert_eq!(unpack("base"), (2202, vec![leaf(2200, "a"), leaf(2200, "b")]));
    // Deletions too, and what is above the change.
    assert_eq!(unpack("top"), (2203, vec![leaf(2200, "b"), leaf(3, "e")]));
}

#[test]
fn a_layer_that_nobody_could_unpack_is_refused() {
    let test = store();
    let active = test.store.snapshots().prepare(None).unwrap();
    drop(nest(active.root(), 9000));
    test.store.snapshots().commit(active, &id("a")).unwrap();
    let changes = test.store.snapshots().changes(&id("a")).unwrap();
    let error = pack(&changes, PackOptions::default(), &mut std::io::sink()).unwrap_err();
    assert!(matches!(error, Error::Unpackable { .. }) && error.to_string().len() < 400, "{error}");
    let error = walk::walk(view(&test.store, "a").root(), &everything).unwrap_err();
    assert!(matches!(error, Error::File { act: "list", .. }) && error.to_string().len() < 400, "{error}");
}

#[test]
fn deletions_reach_the_depths() {
    let test = store();
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(None).unwrap();
    run(nest(active.root(), 2200).as_fd(), "echo lower > lower");
    snapshots.commit(active, &id("base")).unwrap();
    let new = format!("{}/new", deep(2200));
    for (layer, expected) in [
        (tar(&[(&new, FILE), (".wh.d", FILE)]), vec![leaf(2200, "new")]),
        (tar(&[(".wh.d", FILE), (&new, FILE)]), vec![leaf(2200, "new")]),
        (tar(&[(".wh.d", FILE), ("f", FILE)]), vec![leaf(0, "f")]),
        (tar(&[("d", FILE), ("d", link("e"))]), vec![]),
    ] {
        let active = snapshots.prepare(Some(&id("base"))).unwrap();
        unpack_layer(&layer[..], &active, diff_id(&layer)).unwrap();
        assert_eq!(leaves(active.root()), expected);
    }
}

#[test]
fn links_are_followed_in_paths_too_long_for_one_call() {
    let test = store();
    let layer = tar(&[
        ("real", Kind::Directory),
        ("link", link("/real")),
        (&format!("link/{}/f", deep(2200)), FILE),
        (&format!("real/{}/up", deep(2200)), link("..")),
        (&format!("link/{}/up/g", deep(2200)), FILE),
    ]);
    let active = test.store.snapshots().prepare(None).unwrap();
    unpack_layer(&layer[..], &active, diff_id(&layer)).unwrap();
    let found = leaves(active.root());
    assert_eq!(found, [leaf(0, "link"), leaf(0, "real"), leaf(2201, "f"), leaf(2201, "up"), leaf(2200, "g")]);
}

#[test]
fn a_deep_tree_is_copied() {
    let test = store();
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(None).unwrap();
    run(nest(active.root(), 2200).as_fd(), "echo a > a; ln a b; ln -s a c");
    snapshots.commit(active, &id("a")).unwrap();
    let view = view(&test.store, "a");
    let source = Root::duplicate(view.root()).unwrap();
    let filters = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    let whole = copy::select(&source, &["/d"], &filters).unwrap();
    checksum::digest(&source, &whole, checksum::Options::default()).unwrap();
    let active = snapshots.prepare(None).unwrap();
    let target = Root::duplicate(active.root()).unwrap();
    copy::copy(&source, &whole, &target, Path::new("/to/"), &copy::Options::default()).unwrap();
    assert_eq!(leaves(active.root()).len(), 4, "three files and `to`");
    run(nest(target.descend(Path::new("to")).unwrap().as_fd(), 2199).as_fd(), "test a -ef b; test -L c");
    // One file, by its whole path, to a path as long.
    let name = format!("/{}/a", deep(2200));
    let one = copy::select(&source, &[&name], &filters).unwrap();
    checksum::digest(&source, &one, checksum::Options::default()).unwrap();
    copy::copy(&source, &one, &target, Path::new(&name), &copy::Options::default()).unwrap();
    run(nest(target.as_fd(), 2200).as_fd(), "test \"$(cat a)\" = a");
}
