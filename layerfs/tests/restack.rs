//! Snapshots that were made on nothing, shown on top of others. Needs root.

mod common;

use std::os::fd::AsFd;

use common::{TestStore, id, listing_of, run, step, store, view};
use layerfs::Error;
use layerfs::confined::Root;
use layerfs::copy::{self, Filters};
use layerfs::gc::Roots;
use layerfs::layer::pack::PackOptions;

/// A base, a layer that was made on nothing, and `top`: the layer on the base.
fn restacked() -> TestStore {
    let test = store();
    step(&test.store, None, "bottom", "mkdir -p etc var/lib; echo base > etc/conf; echo base > etc/kept");
    step(&test.store, Some("bottom"), "base", "rm etc/kept; echo more > etc/more; chmod 711 etc .; mkdir x");
    step(&test.store, None, "layer", "mkdir etc; echo layer > etc/conf; echo layer > etc/kept; echo f > x");
    test.store.snapshots().restack(Some(&id("base")), &id("layer"), &id("top")).unwrap();
    test
}

const SEEN: &str = "
    test \"$(cat etc/conf)\" = layer; test \"$(cat etc/kept)\" = layer; test \"$(cat etc/more)\" = more
    test \"$(cat x)\" = f; test -d var/lib; test \"$(stat -c %a etc)\" = 755; test \"$(stat -c %a .)\" = 711";

#[test]
fn a_layer_shows_on_top_of_any_parent() {
    let test = restacked();
    let snapshots = test.store.snapshots();
    run(view(&test.store, "top").root(), SEEN);
    assert_eq!(snapshots.ancestors(&id("top")).unwrap(), [id("layer"), id("base"), id("bottom")]);
    // Without a parent it is the layer itself.
    snapshots.restack(None, &id("layer"), &id("alone")).unwrap();
    assert_eq!(listing_of(view(&test.store, "alone").root()), listing_of(view(&test.store, "layer").root()));
    // What was there first stays.
    snapshots.restack(None, &id("layer"), &id("top")).unwrap();
    run(view(&test.store, "top").root(), SEEN);
    assert_eq!(std::fs::read_dir(test.store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn steps_go_on_from_it() {
    let test = restacked();
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(Some(&id("top"))).unwrap();
    // As a container does, by a mount of its own.
    let clone = active.try_clone_root().unwrap();
    run(clone.as_fd(), SEEN);
    run(clone.as_fd(), "rm etc/conf etc/more; echo next > etc/next; rm x; mkdir x");
    drop(clone);
    snapshots.commit(active, &id("next")).unwrap();
    let next = view(&test.store, "next");
    run(next.root(), "test \"$(ls etc | tr '\\n' ' ')\" = 'kept next '; test -d x; test -d var/lib");
    // What it changed is told from all that is below, the layer among it.
    let changes = snapshots.changes(&id("next")).unwrap();
    let packed = test.store.put_layer(&changes, PackOptions::default()).unwrap();
    let tar = std::fs::read(test.store.blob_path(&packed.diff_id.0)).unwrap();
    let has = |name: &[u8]| tar.windows(name.len()).any(|window| window == name);
    assert!(has(b"etc/.wh.conf") && has(b"etc/.wh.more") && has(b"etc/next") && !has(b"etc/kept"));
    // And another layer on top of that one.
    step(&test.store, None, "other", "mkdir etc; echo other > etc/conf");
    snapshots.restack(Some(&id("next")), &id("other"), &id("last")).unwrap();
    run(
        view(&test.store, "last").root(),
        "test \"$(cat etc/conf)\" = other; test \"$(cat etc/kept)\" = layer",
    );
    run(view(&test.store, "last").root(), "test ! -e etc/more");
}

#[test]
fn its_changes_are_the_layers_own() {
    let test = restacked();
    let pack = |name: &str| {
        let changes = test.store.snapshots().changes(&id(name)).unwrap();
        assert!(changes.lower.is_none());
        test.store.put_layer(&changes, PackOptions::default()).unwrap().diff_id
    };
    assert_eq!(pack("top"), pack("layer"));
}

/// Point 15 of the study of BuildKit: a COPY into nothing, then put on the base, follows no link of the base, and its
/// directories are as a COPY makes them.
#[test]
fn point_15_a_linked_copy_knows_nothing_of_its_base() {
    let test = store();
    let snapshots = test.store.snapshots();
    step(
        &test.store,
        None,
        "base",
        "mkdir -p usr/lib opt; echo base > usr/lib/x; ln -s usr/lib lib; chmod 700 opt",
    );
    let context = test.dir.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("a"), "A").unwrap();
    let context = Root::open(&context).unwrap();
    let filters = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    let selection = copy::select(&context, &["a"], &filters).unwrap();
    let active = snapshots.prepare(None).unwrap();
    let target = Root::duplicate(active.root()).unwrap();
    for destination in ["/lib/", "/opt/"] {
        copy::copy(&context, &selection, &target, destination.as_ref(), &copy::Options::default()).unwrap();
    }
    drop(target);
    snapshots.commit(active, &id("copied")).unwrap();
    snapshots.restack(Some(&id("base")), &id("copied"), &id("linked")).unwrap();
    let script = "test ! -L lib; test \"$(ls lib)\" = a; test \"$(ls usr/lib)\" = x; test \"$(stat -c %a:%Y opt)\" = 755:0";
    run(view(&test.store, "linked").root(), script);
}

#[test]
fn one_layer_may_come_twice() {
    let test = restacked();
    let snapshots = test.store.snapshots();
    step(&test.store, Some("top"), "changed", "rm etc/conf; echo x > etc/kept");
    snapshots.restack(Some(&id("changed")), &id("layer"), &id("again")).unwrap();
    run(view(&test.store, "again").root(), SEEN);
    snapshots.restack(Some(&id("layer")), &id("layer"), &id("twice")).unwrap();
    assert_eq!(listing_of(view(&test.store, "twice").root()), listing_of(view(&test.store, "layer").root()));
    run(snapshots.prepare(Some(&id("again"))).unwrap().root(), SEEN);
}

#[test]
fn only_what_stands_on_nothing_is_put_on_something() {
    let test = restacked();
    let snapshots = test.store.snapshots();
    for not_a_bottom in ["base", "top"] {
        let error = snapshots.restack(None, &id(not_a_bottom), &id("new")).unwrap_err();
        assert!(matches!(error, Error::NotABottom { .. }), "{error}");
    }
    for (parent, layer) in [("none", "layer"), ("base", "none")] {
        let error = snapshots.restack(Some(&id(parent)), &id(layer), &id("new")).unwrap_err();
        assert!(matches!(error, Error::MissingSnapshot { .. }), "{error}");
    }
    assert!(!snapshots.contains(&id("new")));
}

#[test]
fn it_keeps_what_it_shows_alive_under_any_name() {
    let mut test = restacked();
    let snapshots = test.store.snapshots();
    snapshots.alias(&id("base"), &id("base alias")).unwrap();
    snapshots.alias(&id("layer"), &id("layer alias")).unwrap();
    snapshots.restack(Some(&id("base alias")), &id("layer alias"), &id("by alias")).unwrap();
    let ancestors = [id("layer"), id("base"), id("bottom")];
    assert_eq!(snapshots.ancestors(&id("by alias")).unwrap(), ancestors);
    let active = snapshots.prepare(Some(&id("base alias"))).unwrap();
    snapshots.commit(active, &id("on alias")).unwrap();
    assert_eq!(snapshots.ancestors(&id("on alias")).unwrap(), [id("base"), id("bottom")]);
    drop(snapshots);

    let roots = Roots { snapshots: vec![id("by alias"), id("on alias")], ..Roots::default() };
    test.store.release();
    assert_eq!(test.store.collect(|_| Ok(roots)).unwrap().snapshots, 3);
    run(view(&test.store, "by alias").root(), SEEN);
    assert!(!test.store.snapshots().contains(&id("top")));
    // Its removal takes nothing with it.
    assert!(test.store.snapshots().remove(&id("by alias")).unwrap() > 0);
    run(view(&test.store, "layer").root(), "test -e x");
    run(view(&test.store, "base").root(), "test -d x");
}
