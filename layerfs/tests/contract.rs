//! What every driver promises ([`layerfs::snapshot`]), each case with each of them. Needs root and `fuse-overlayfs`.

mod common;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use common::{TestStore, id, listing_of, nest, run, step, store_of, view};
use layerfs::Error;
use layerfs::confined::{Owner, Root};
use layerfs::copy::{self, Filters, Options};
use layerfs::gc::Roots;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::Driver;
use layerfs::store::Store;
use oci::{DiffId, Digest};

macro_rules! with_each_driver {
    ($($case:ident),* $(,)?) => {
        mod overlay { $(#[test] fn $case() { super::$case(&super::store_of(super::Driver::Overlay)); })* }
        mod classic_overlay { $(#[test] fn $case() { super::$case(&super::store_of(super::Driver::ClassicOverlay)); })* }
        mod fuse_overlayfs { $(#[test] fn $case() { super::$case(&super::store_of(super::Driver::FuseOverlayfs)); })* }
        mod copies { $(#[test] fn $case() { super::$case(&super::store_of(super::Driver::Copy)); })* }
    };
}

with_each_driver! {
    a_snapshot_begins_as_its_parent,
    what_is_abandoned_leaves_nothing,
    the_first_commit_stays,
    a_committed_snapshot_never_changes,
    layers_are_those_of_overlays,
    a_layer_on_its_parent_gives_the_snapshot,
    names_of_one_file_stay_together,
    directories_made_anew_hide_the_old_ones,
    a_layer_shows_on_top_of_any_parent,
    access_control_lists_are_as_they_were,
    a_copy_beside_is_a_copy_onto,
    an_alias_stands_for_its_snapshot,
    hundreds_of_layers_are_one_tree,
    what_is_removed_is_gone,
    collectors_know_all_layouts,
    what_was_not_synced_goes_with_the_power,
    what_killed_processes_left_is_cleared,
    devices_do_nothing,
    the_depths_are_reached,
}

/// All kinds of files, all of one time.
const BASE: &str = "
    mkdir -p etc usr/lib var/cache/old opt/app/deep tmp
    echo conf > etc/conf; echo pass > etc/passwd; echo lib > usr/lib/lib.so; echo stale > var/cache/old/file
    echo app > opt/app/run; echo d > opt/app/deep/file; ln -s usr/lib lib; ln -s nowhere dangling
    ln opt/app/run opt/app/again; mkfifo tmp/pipe; mknod tmp/null c 1 3; chmod 4755 opt/app/run; chown 7:8 etc/conf
    chmod 1777 tmp; setfattr -n user.kind -v base opt; setfattr -n user.kind -v file etc/conf; chmod 711 .
    find . -exec touch -h -d @1000000000 {} +";

/// Steps on top of that, one for each way in which a layer can come to differ from its parent.
const STEPS: [&str; 24] = [
    ":",
    "echo new > etc/new",
    "echo changed > etc/conf",
    "chmod 600 etc/passwd",
    "chown 9:9 etc/passwd",
    "setfattr -n user.kind -v other etc/conf",
    "setfattr -x user.kind opt",
    "touch etc/passwd",
    "touch -d @1000000000 etc/passwd; touch usr",
    "cat etc/passwd > same; cat same > etc/passwd; rm same; touch -d @1000000000 etc/passwd",
    "printf 'pasX\\n' > etc/passwd; touch -d @1000000000 etc/passwd",
    "rm etc/passwd",
    "rm -r var/cache",
    "rm -r opt; mkdir opt",
    "rm -r opt; mkdir -p opt/app; echo other > opt/app/run",
    "rm -r usr/lib; echo file > usr/lib",
    "rm etc/conf; mkdir -p etc/conf/d; echo x > etc/conf/d/x",
    "rm dangling; ln -s elsewhere dangling",
    "rm tmp/pipe tmp/null; mkfifo tmp/null; mknod tmp/pipe b 7 1",
    "mv var/cache/old var/cache/young",
    "mv etc old; mkdir etc; echo a > etc/a",
    "rm opt/app/again",
    "chmod 700 .; touch tmp/t; rm tmp/t",
    "echo 1 > a; ln a b; mkdir -p d; ln a d/c; ln -s a l; ln l m",
];

const EPOCH: PackOptions = PackOptions { epoch: Some(1_000_000_000), acls: false };

fn layer(store: &Store, name: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    pack(&store.snapshots().changes(&id(name)).unwrap(), EPOCH, &mut tar).unwrap();
    tar
}

/// The names in a layer.
fn names(tar: &[u8]) -> Vec<String> {
    let mut reader = layerfs::layer::tar::Reader::new(tar, layerfs::layer::tar::Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    names
}

/// A tree without the times of directories: where only children changed a layer does not tell of them.
fn tree(root: BorrowedFd<'_>) -> String {
    let without_time = |line: &str| match line.split_once(" dir ") {
        Some((name, rest)) => {
            let words: Vec<&str> = rest.split(' ').collect();
            format!("{name} dir {} {} {}", words[0], words[1], words[3..].join(" "))
        }
        None => line.to_owned(),
    };
    listing_of(root).lines().map(without_time).collect::<Vec<_>>().join("\n")
}

fn a_snapshot_begins_as_its_parent(test: &TestStore) {
    let script = "chmod 750 .; chown 3:4 .; setfattr -n user.root -v r .; echo a > a; touch -d @1234567890 .";
    step(&test.store, None, "base", script);
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(Some(&id("base"))).unwrap();
    assert_eq!(active.parent(), Some(&id("base")));
    let seen = "test \"$(stat -c %a:%u:%g:%Y .)\" = 750:3:4:1234567890; test \"$(cat a)\" = a; getfattr -n user.root .";
    run(active.root(), seen);
    run(active.try_clone_root().unwrap().as_fd(), seen);
    run(active.root(), "echo b > b");
    run(active.try_clone_root().unwrap().as_fd(), "test \"$(cat b)\" = b; rm a");
    snapshots.commit(active, &id("top")).unwrap();
    run(
        view(&test.store, "top").root(),
        "test ! -e a; test \"$(cat b)\" = b; test \"$(stat -c %a .)\" = 750",
    );
    assert_eq!(snapshots.ancestors(&id("top")).unwrap(), [id("base")]);
    let missing = snapshots.prepare(Some(&id("none"))).unwrap_err();
    assert!(matches!(missing, Error::MissingSnapshot { .. }), "{missing}");
}

fn what_is_abandoned_leaves_nothing(test: &TestStore) {
    step(&test.store, None, "base", BASE);
    let active = test.store.snapshots().prepare(Some(&id("base"))).unwrap();
    run(active.root(), "echo b > b; rm -r etc");
    drop(active);
    assert_eq!(std::fs::read_dir(test.store.root().join("ingest")).unwrap().count(), 0);
    run(view(&test.store, "base").root(), "test ! -e b; test -e etc/conf");
}

fn the_first_commit_stays(test: &TestStore) {
    let snapshots = test.store.snapshots();
    step(&test.store, None, "base", "echo 0 > f");
    let both = [1, 2].map(|nth| {
        let active = snapshots.prepare(Some(&id("base"))).unwrap();
        run(active.root(), &format!("echo {nth} > f"));
        active
    });
    for active in both {
        snapshots.commit(active, &id("top")).unwrap();
    }
    run(view(&test.store, "top").root(), "test \"$(cat f)\" = 1");
    assert_eq!(std::fs::read_dir(test.store.root().join("ingest")).unwrap().count(), 0);
    // What a power cut damaged makes way.
    let place = test.store.root().join(snapshots.layout().folder()).join(id("top").to_string());
    std::fs::write(place.join("meta.json"), "").unwrap();
    assert!(!snapshots.contains(&id("top")));
    step(&test.store, Some("base"), "top", "echo 3 > f");
    run(view(&test.store, "top").root(), "test \"$(cat f)\" = 3");
}

fn a_committed_snapshot_never_changes(test: &TestStore) {
    step(&test.store, None, "base", BASE);
    step(&test.store, Some("base"), "middle", "echo m > etc/m; ln etc/m etc/n");
    let before = ["base", "middle"].map(|name| listing_of(view(&test.store, name).root()));
    // fuse-overlayfs cannot change pipes and devices of lower layers, only delete them.
    let everything = "rm tmp/pipe tmp/null
        find . -type f -exec sh -c 'echo more >> \"$0\"' {} \\;
        find . -exec touch -h {} +; chmod -R o+w .; chown -R 99 .; rm -r var; mv opt/app away; chmod 777 .";
    step(&test.store, Some("middle"), "top", everything);
    let view = view(&test.store, "base");
    assert_eq!(rustix::fs::mkdirat(view.root(), "x", 0o755.into()), Err(rustix::io::Errno::ROFS));
    drop(view);
    let after = ["base", "middle"].map(|name| listing_of(common::view(&test.store, name).root()));
    assert_eq!(before, after);
}

fn layers_are_those_of_overlays(test: &TestStore) {
    let other = store_of(Driver::Overlay);
    let both = [&test.store, &other.store];
    let base = both.map(|store| {
        step(store, None, "base", BASE);
        layer(store, "base")
    });
    assert_eq!(names(&base[0]), names(&base[1]));
    assert!(base[0] == base[1]);
    for script in STEPS {
        let [found, expected] = both.map(|store| {
            step(store, Some("base"), script, script);
            layer(store, script)
        });
        assert_eq!(names(&found), names(&expected), "{script}");
        assert!(found == expected, "{script}");
    }
    assert!(names(&layer(&test.store, STEPS[0])).is_empty());
}

fn a_layer_on_its_parent_gives_the_snapshot(test: &TestStore) {
    let snapshots = test.store.snapshots();
    step(&test.store, None, "base", BASE);
    // With what a driver may do its own way: names that are written to, and new names of what was there. fuse-overlayfs
    // shows the latter as files of their own.
    let linked: &[&str] = if test.store.driver() == Driver::FuseOverlayfs {
        &[]
    } else {
        &["echo x >> opt/app/run", "ln opt/app/run third", "chmod 600 opt/app/again; ln etc/conf e"]
    };
    for script in STEPS.iter().chain(linked) {
        step(&test.store, Some("base"), script, script);
        let mut tar = Vec::new();
        let changes = snapshots.changes(&id(script)).unwrap();
        let packed = pack(&changes, PackOptions::default(), &mut tar).unwrap();
        let active = snapshots.prepare(Some(&id("base"))).unwrap();
        unpack_layer(&tar[..], &active, packed.diff_id).unwrap();
        assert_eq!(tree(active.root()), tree(view(&test.store, script).root()), "{script}");
        let again = format!("{script} again");
        snapshots.commit(active, &id(&again)).unwrap();
        assert_eq!(names(&layer(&test.store, &again)), names(&tar), "{script}");
        assert!(layer(&test.store, &again) == layer(&test.store, script), "{script}");
    }
}

fn names_of_one_file_stay_together(test: &TestStore) {
    step(&test.store, None, "base", "mkdir d; echo a > a; ln a b; ln a d/c");
    step(&test.store, Some("base"), "same", "test a -ef b; test a -ef d/c; echo x > x");
    assert_eq!(names(&layer(&test.store, "same")), ["x"]);
    step(&test.store, Some("same"), "fewer", "rm b; test a -ef d/c");
    assert_eq!(names(&layer(&test.store, "fewer")), [".wh.b"]);
    // fuse-overlayfs separates them when one goes, as overlayfs does when one is written to.
    let is_one = if test.store.driver() == Driver::FuseOverlayfs { ":" } else { "test a -ef d/c" };
    run(view(&test.store, "fewer").root(), &format!("{is_one}; test \"$(cat d/c)\" = a"));
}

fn directories_made_anew_hide_the_old_ones(test: &TestStore) {
    let many = "mkdir d e; i=0; while test $i -lt 1200; do : > d/$i; : > e/$i; i=$((i+1)); done";
    step(&test.store, None, "base", many);
    step(&test.store, Some("base"), "anew", "rm -r d; mkdir d; echo n > d/n; find e -type f -delete");
    let found = names(&layer(&test.store, "anew"));
    assert_eq!(found[..3], ["d", "d/.wh..wh..opq", "d/n"]);
    assert_eq!((found[3].as_str(), found.len()), ("e", 3 + 1 + 1200), "the other is the old one");
    run(view(&test.store, "anew").root(), "test \"$(ls d)\" = n; test -z \"$(ls e)\"");
    step(&test.store, Some("anew"), "next", "mkdir d/sub; echo o > e/o");
    assert_eq!(names(&layer(&test.store, "next")), ["d", "d/sub", "e", "e/o"]);
}

fn a_layer_shows_on_top_of_any_parent(test: &TestStore) {
    let snapshots = test.store.snapshots();
    step(
        &test.store,
        None,
        "base",
        "mkdir -p etc x/y kept; echo base > etc/conf; echo f > file; chmod 711 .; touch -d @1234567890 .",
    );
    step(&test.store, None, "layer", "mkdir -p etc file; chmod 700 etc; echo layer > etc/conf; echo f > x");
    snapshots.restack(Some(&id("base")), &id("layer"), &id("top")).unwrap();
    let seen = "test \"$(cat etc/conf)\" = layer; test -d file; test \"$(cat x)\" = f; test -d kept
        test \"$(stat -c %a etc)\" = 700; test \"$(stat -c %a .)\" = 711";
    run(view(&test.store, "top").root(), &format!("{seen}; test $(stat -c %Y .) = 1234567890"));
    assert_eq!(snapshots.ancestors(&id("top")).unwrap(), [id("layer"), id("base")]);
    assert!(layer(&test.store, "top") == layer(&test.store, "layer"));
    step(&test.store, Some("top"), "next", "rm x; echo n > etc/n");
    assert_eq!(names(&layer(&test.store, "next")), [".wh.x", "etc", "etc/n"]);
    snapshots.restack(Some(&id("next")), &id("layer"), &id("again")).unwrap();
    run(view(&test.store, "again").root(), &format!("{seen}; test \"$(cat etc/n)\" = n"));
    let error = snapshots.restack(None, &id("next"), &id("new")).unwrap_err();
    assert!(matches!(error, Error::NotABottom { .. }), "{error}");
    assert!(!snapshots.contains(&id("new")));
}

fn access_control_lists_are_as_they_were(test: &TestStore) {
    let snapshots = test.store.snapshots();
    let lists = "mkdir d e; echo a > d/a; setfacl -m u:7:rwx d d/a; setfacl -d -m u:7:rwx d e; echo b > d/b; ln -s a d/l";
    step(&test.store, None, "base", lists);
    step(&test.store, Some("base"), "next", "echo x > x");
    let with_lists = |name: &str| {
        let mut tar = Vec::new();
        let options = PackOptions { acls: true, ..EPOCH };
        pack(&snapshots.changes(&id(name)).unwrap(), options, &mut tar).unwrap();
        tar
    };
    assert_eq!(names(&with_lists("next")), ["x"]);
    // What is put on top has its own lists, and none because of where it comes to be.
    step(&test.store, None, "layer", "mkdir d e; echo n > d/n; echo n > e/n; setfacl -m u:8:r e/n");
    snapshots.restack(Some(&id("base")), &id("layer"), &id("top")).unwrap();
    // fuse-overlayfs shows no lists.
    if test.store.driver() != Driver::FuseOverlayfs {
        let seen = "getfacl -sn d d/a d/b d/n e e/n | grep file: | tr '\\n' ' '";
        let expected = "# file: d/a # file: d/b # file: e/n ";
        run(view(&test.store, "top").root(), &format!("test \"$({seen})\" = '{expected}'"));
    }
}

fn a_copy_beside_is_a_copy_onto(test: &TestStore) {
    let snapshots = test.store.snapshots();
    step(&test.store, None, "base", BASE);
    let context = tempfile::tempdir().unwrap();
    let source = Root::open(context.path()).unwrap();
    run(source.as_fd(), "mkdir -p app/deep; echo new > app/run; echo m > app/deep/more; chmod 700 app/deep");
    let filters = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    let selection = copy::select(&source, &["app"], &filters).unwrap();
    let options = Options { owner: Some(Owner { uid: 5, gid: 6 }), ..Options::default() };
    let beside = snapshots.prepare_beside(&id("base")).unwrap();
    let target = Root::duplicate(beside.root()).unwrap();
    let below = Root::duplicate(view(&test.store, "base").root()).unwrap();
    let place = copy::bring_up(&below, &target, &selection, Path::new("/opt/app/")).unwrap().unwrap();
    copy::copy(&source, &selection, &target, &place, &options).unwrap();
    drop(target);
    snapshots.commit(beside, &id("beside")).unwrap();
    let onto = snapshots.prepare(Some(&id("base"))).unwrap();
    let target = Root::duplicate(onto.root()).unwrap();
    copy::copy(&source, &selection, &target, Path::new("/opt/app/"), &options).unwrap();
    drop(target);
    snapshots.commit(onto, &id("onto")).unwrap();
    let expected = ["opt", "opt/app", "opt/app/deep", "opt/app/deep/more", "opt/app/run"];
    assert_eq!(names(&layer(&test.store, "beside")), expected);
    assert!(layer(&test.store, "beside") == layer(&test.store, "onto"));
    assert_eq!(tree(view(&test.store, "beside").root()), tree(view(&test.store, "onto").root()));
}

fn an_alias_stands_for_its_snapshot(test: &TestStore) {
    let snapshots = test.store.snapshots();
    step(&test.store, None, "base", "echo a > a");
    snapshots.alias(&id("base"), &id("alias")).unwrap();
    assert_eq!(snapshots.resolve(&id("alias")), id("base"));
    let active = snapshots.prepare(Some(&id("alias"))).unwrap();
    run(active.root(), "test \"$(cat a)\" = a");
    snapshots.commit(active, &id("top")).unwrap();
    assert_eq!(snapshots.ancestors(&id("top")).unwrap(), [id("base")]);
    assert_eq!(test.store.resolve(&id("alias")), id("base"), "for collectors as well");
}

fn hundreds_of_layers_are_one_tree(test: &TestStore) {
    let snapshots = test.store.snapshots();
    let name = |nth: u32| id(&format!("layer {nth}"));
    for nth in 0..500 {
        let active = match nth {
            0 => snapshots.prepare(None).unwrap(),
            nth => snapshots.prepare_beside(&name(nth - 1)).unwrap(),
        };
        let write = |file: String| std::fs::write(common::path(active.root()).join(file), nth.to_string());
        write("last".to_owned()).unwrap();
        if nth % 100 == 0 {
            write(format!("f{nth}")).unwrap();
        }
        snapshots.commit(active, &name(nth)).unwrap();
    }
    let seen = "test \"$(cat last)\" = 499; test \"$(cat f0 f400)\" = 0400; test $(ls | wc -l) = 6";
    run(snapshots.view(&name(499)).unwrap().root(), seen);
    let active = snapshots.prepare(Some(&name(499))).unwrap();
    run(active.root(), &format!("{seen}; rm f0; echo new > last"));
    snapshots.commit(active, &id("top")).unwrap();
    // One more is too many for the kernel, which the next must say; for others it is not.
    match (snapshots.prepare(Some(&id("top"))), test.store.driver()) {
        (Err(error), Driver::Overlay | Driver::ClassicOverlay) => {
            assert!(matches!(error, Error::TooManyLayers { count: 501, limit: 500 }), "{error}");
        }
        (active, Driver::FuseOverlayfs | Driver::Copy) => {
            run(active.unwrap().root(), "test ! -e f0; test \"$(cat last)\" = new");
        }
        (Ok(_), driver) => panic!("{driver} has no limit"),
    }
}

fn what_is_removed_is_gone(test: &TestStore) {
    let snapshots = test.store.snapshots();
    step(&test.store, None, "base", "head -c 100000 /dev/zero > f");
    step(&test.store, Some("base"), "top", "rm f; echo x > x");
    let usage = test.store.snapshot_usage().unwrap();
    assert_eq!(usage.len(), 2);
    assert!(usage.iter().all(|usage| usage.bytes > 0));
    assert!(snapshots.remove(&id("top")).unwrap() > 0);
    assert!(!snapshots.contains(&id("top")) && snapshots.contains(&id("base")));
    assert_eq!(snapshots.remove(&id("top")).unwrap(), 0);
    assert!(snapshots.remove(&id("base")).unwrap() >= 100_000);
    assert_eq!(test.store.snapshot_usage().unwrap(), []);
}

fn collectors_know_all_layouts(test: &TestStore) {
    for name in ["base", "other"] {
        step(&test.store, None, name, "echo a > a");
    }
    step(&test.store, Some("base"), "top", "echo b > b");
    // What is just being deleted is no damage.
    let damage = |finding: &layerfs::fsck::Finding| finding.severity == layerfs::fsck::Severity::Damage;
    assert!(!test.store.check(true).unwrap().iter().any(damage));
    // Another process, to which no driver was named.
    let root = test.store.root().to_owned();
    let mut store = Store::open(&root).unwrap();
    assert!(store.has_snapshot(&id("top")));
    assert_eq!(store.ancestors(&id("top")), [id("base")]);
    let held = store.collect(|_| Ok(Roots::default())).unwrap();
    assert_eq!(held.snapshots, 0, "the first one holds them");
    store.release();
    let folder = root.join(test.store.snapshots().layout().folder());
    let count = || std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(count(), 3);
    std::fs::remove_dir_all(folder.join(id("base").to_string())).unwrap();
    let findings: Vec<_> = store.check(false).unwrap().into_iter().filter(damage).collect();
    assert!(findings[0].problem.starts_with("it stands on `key-"), "{findings:?}");
    store.repair(&findings[0]).unwrap();
    assert_eq!(count(), 1);
}

fn what_was_not_synced_goes_with_the_power(test: &TestStore) {
    step(&test.store, None, "synced", "echo a > a");
    test.store.settle().unwrap();
    step(&test.store, Some("synced"), "lost", "echo b > b");
    let state = test.store.root().join("state.json");
    let other_boot = std::fs::read_to_string(&state).unwrap().replace("\"boot\":\"", "\"boot\":\"before");
    std::fs::write(&state, other_boot).unwrap();
    let store = Store::open(test.store.root()).unwrap();
    assert!(store.has_snapshot(&id("synced")) && !store.has_snapshot(&id("lost")));
}

fn what_killed_processes_left_is_cleared(test: &TestStore) {
    step(&test.store, None, "base", BASE);
    let active = test.store.snapshots().prepare(Some(&id("base"))).unwrap();
    run(active.root(), "echo half > half");
    // One that is being made is left alone, and one that nobody has locked is not.
    let ingest = test.store.root().join("ingest");
    std::fs::create_dir_all(ingest.join("dead/fs/etc")).unwrap();
    drop(Store::open(test.store.root()).unwrap());
    assert_eq!(std::fs::read_dir(&ingest).unwrap().count(), 1);
    run(active.root(), "test \"$(cat half)\" = half");
}

fn devices_do_nothing(test: &TestStore) {
    step(&test.store, None, "base", "mknod zero c 1 5");
    let active = test.store.snapshots().prepare(Some(&id("base"))).unwrap();
    run(active.root(), "test -c zero; ! head -c 1 zero; mknod new c 1 5; ! head -c 1 new");
    run(view(&test.store, "base").root(), "! head -c 1 zero");
}

fn the_depths_are_reached(test: &TestStore) {
    // fuse-overlayfs resolves whole paths, which are no longer than a system call takes.
    let levels = if test.store.driver() == Driver::FuseOverlayfs { 100 } else { 2200 };
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(None).unwrap();
    run(nest(active.root(), levels).as_fd(), "echo a > a; echo b > b");
    snapshots.commit(active, &id("base")).unwrap();
    let active = snapshots.prepare(Some(&id("base"))).unwrap();
    run(nest(active.root(), levels).as_fd(), "rm a; echo more >> b");
    snapshots.commit(active, &id("top")).unwrap();
    let found = layer(&test.store, "top");
    assert_eq!(names(&found).len(), levels + 2);
    let active = snapshots.prepare(Some(&id("base"))).unwrap();
    unpack_layer(&found[..], &active, DiffId(Digest::of(&found))).unwrap();
    run(nest(active.root(), levels).as_fd(), "test ! -e a; grep -q more b");
}
