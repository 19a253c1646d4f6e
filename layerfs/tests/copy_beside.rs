//! A copy beside its parent makes the very layer that a copy onto the merged view makes, or is refused. Needs root.

mod common;
mod world;

use std::path::Path;

use common::{id, listing_of, run, step, store, view};
use layerfs::confined::{Owner, Root};
use layerfs::copy::{Options, bring_up, copy, select};
use layerfs::layer::pack::{PackOptions, Packed};
use layerfs::store::Store;
use world::filters;

/// The parent: directories of all kinds, links, and what a middle layer deleted or made anew.
const BOTTOM: &str = "
    mkdir -p usr/lib/deep opt/app/sub gone/inner anew/old etc; chmod 1777 opt; chmod 711 opt/app/sub
    echo 1 > usr/lib/lib; echo 1 > etc/conf; echo 1 > anew/old/file; echo 1 > opt/app/file; echo 1 > gone/inner/f
    ln -s usr/lib lib; ln -s conf etc/link; ln -s nowhere dangling; ln -s ../../etc opt/app/etc; ln -s loop loop
    chown 7:8 opt/app; setfattr -n user.kind -v app opt/app
    touch -d @1000000000 usr usr/lib opt opt/app opt/app/sub etc .";
const MIDDLE: &str = "rm -r gone; rm -r anew; mkdir -p anew; echo 2 > anew/other; touch -d @1100000000 anew";

/// What is copied.
const CONTEXT: &str = "
    mkdir -p tree/sub/more tree/new tree/empty links
    echo a > file; echo b > tree/top; echo c > tree/sub/x; echo d > tree/sub/more/y; echo e > tree/new/z
    mkdir -p clash/sub; echo f > clash/file; mkdir kind; echo g > kind/sub; mkdir -p dirlink/etc; echo h > dirlink/etc/h
    ln -s /etc links/l; ln tree/top tree/again; chmod 4755 file; chmod 750 tree/sub; echo i > usr
    find . -exec touch -h -d @1200000000 {} +";

fn options() -> Options {
    Options { owner: Some(Owner { uid: 5, gid: 6 }), ..Options::default() }
}

fn packed(store: &Store, name: &str) -> Packed {
    let changes = store.snapshots().changes(&id(name)).unwrap();
    store.put_layer(&changes, PackOptions::default()).unwrap()
}

/// Copies both ways; says whether the way beside was taken, and checks that it made the same.
fn compare(sources: &[&str], destination: &str) -> bool {
    let test = store();
    let (store, snapshots) = (&test.store, test.store.snapshots());
    step(store, None, "bottom", BOTTOM);
    step(store, Some("bottom"), "parent", MIDDLE);
    let context = tempfile::tempdir().unwrap();
    let source = Root::open(context.path()).unwrap();
    run(std::os::fd::AsFd::as_fd(&source), CONTEXT);
    let selection = select(&source, sources, &filters(None, None)).unwrap();

    let merged = snapshots.prepare(Some(&id("parent"))).unwrap();
    let target = Root::duplicate(merged.root()).unwrap();
    let result = copy(&source, &selection, &target, Path::new(destination), &options());
    drop(target);

    let beside = snapshots.prepare_beside(&id("parent")).unwrap();
    let target = Root::duplicate(beside.root()).unwrap();
    let below = Root::duplicate(view(store, "parent").root()).unwrap();
    let place = bring_up(&below, &target, &selection, Path::new(destination)).unwrap();
    let Some(place) = place else { return false };
    copy(&source, &selection, &target, &place, &options()).unwrap();
    result.expect("what is copied beside can be copied onto the merged view");
    drop(target);

    snapshots.commit(merged, &id("merged")).unwrap();
    snapshots.commit(beside, &id("beside")).unwrap();
    assert_eq!(packed(store, "beside"), packed(store, "merged"), "{sources:?} to {destination}");
    let tree = |name: &str| {
        // A directory that something was made in has the time of that, both ways.
        let listing = listing_of(view(store, name).root());
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 10_000;
        let settle =
            |line: &str| line.split(' ').map(|word| word.replace(&now.to_string(), "now ")).collect();
        listing.lines().map(settle).map(|line: Vec<String>| line.join(" ")).collect::<Vec<_>>()
    };
    let short = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().map(|line| line.split("now ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(short(tree("beside")), short(tree("merged")), "{sources:?} to {destination}");
    true
}

#[test]
fn a_copy_beside_makes_the_same_layer() {
    let cases: [(&[&str], &str); 17] = [
        (&["file"], "/new"),
        (&["file"], "/opt/app/"),
        (&["file"], "/opt/app/file"),
        (&["file"], "/opt/app/missing/deep/name"),
        (&["file"], "/opt/app/missing/deep/"),
        (&["file"], "/lib/lib"),
        (&["file"], "/lib/new"),
        (&["file"], "/etc/link"),
        (&["file", "tree/top"], "/opt/app/etc/"),
        (&["tree"], "/"),
        (&["tree"], "/opt/app"),
        (&["tree"], "/gone"),
        (&["tree"], "/gone/inner/"),
        (&["tree"], "/anew/old"),
        (&["links", "tree"], "/anew"),
        (&["tree"], "/lib/deep/more"),
        (&["tree/sub", "tree/new"], "opt/./app//sub"),
    ];
    for (sources, destination) in cases {
        assert!(compare(sources, destination), "{sources:?} to {destination} is simple");
    }
}

#[test]
fn what_is_not_simple_is_left_to_the_merged_view() {
    let cases: [(&[&str], &str); 11] = [
        (&["file"], "/dangling"),
        (&["file"], "/dangling/name"),
        (&["file"], "/loop"),
        (&["file"], "/etc/conf/"),
        (&["file"], "/etc/conf/name"),
        (&["file"], "/opt/../etc/name"),
        (&["tree"], "/etc/conf"),
        (&["usr"], "/"),
        (&["clash"], "/opt/app/file/x"),
        (&["kind"], "/opt/app"),
        (&["dirlink"], "/opt/app"),
    ];
    for (sources, destination) in cases {
        assert!(!compare(sources, destination), "{sources:?} to {destination}");
    }
}

#[test]
fn attributes_that_cannot_be_carried_over_are_left_to_the_kernel() {
    let test = store();
    step(
        &test.store,
        None,
        "parent",
        "mkdir opt; setfacl -m u:7:rx opt || setfattr -n security.other -v x opt",
    );
    let snapshots = test.store.snapshots();
    let beside = snapshots.prepare_beside(&id("parent")).unwrap();
    let target = Root::duplicate(beside.root()).unwrap();
    let below = Root::duplicate(view(&test.store, "parent").root()).unwrap();
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("file"), "").unwrap();
    let source = Root::open(context.path()).unwrap();
    let selection = select(&source, &["file"], &filters(None, None)).unwrap();
    assert_eq!(bring_up(&below, &target, &selection, Path::new("/opt/")).unwrap(), None);
    assert!(bring_up(&below, &target, &selection, Path::new("/new/")).unwrap().is_some());
}
