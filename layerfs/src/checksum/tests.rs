//! What changes a digest and what does not. Runs as root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use rustix::fs::{FileType, Mode, XattrFlags};

use super::*;
use crate::copy::{Filters, select};
use crate::walk::{join, split};

/// A context with one of everything.
fn context() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    fs::create_dir_all(at("src/sub")).unwrap();
    fs::write(at("src/a.rs"), "fn a() {}").unwrap();
    fs::write(at("src/sub/b.rs"), "fn b() {}").unwrap();
    symlink("a.rs", at("src/link")).unwrap();
    let src = File::open(at("src")).unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(&src, "null", FileType::CharacterDevice, Mode::RUSR, null).unwrap();
    for path in ["src", "src/sub", "src/a.rs", "src/sub/b.rs"] {
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o750)).unwrap();
    }
    dir
}

/// What a selection contains.
#[derive(Debug, PartialEq, Eq)]
struct Listing {
    digest: Digest,
    /// The record of each file.
    files: BTreeMap<Vec<u8>, Digest>,
}

fn listing(dir: &Path, sources: &[&str], owner: Option<Owner>) -> Listing {
    let root = Root::open(dir).unwrap();
    // A pattern with one `*` at its end is all that is needed here.
    let matches = |pattern: &[u8], name: &[u8]| name.starts_with(pattern.strip_suffix(b"*").unwrap());
    let filters = Filters { matches: &matches, ignore: None, exclude: None };
    let selection = select(&root, sources, &filters).unwrap();
    let options = Options { owner, known: None };
    let mut files = BTreeMap::new();
    for selected in &selection.sources {
        let found = Found::of(&root, selected, options).unwrap();
        let path = selected.path.as_os_str().as_bytes();
        let base = if found.is_directory() { path } else { split(path).0 };
        let records = found.records.iter().enumerate();
        files.extend(records.map(|(nth, record)| (join(base, found.path(nth)), *record)));
    }
    Listing { digest: digest(&root, &selection, options).unwrap(), files }
}

fn run(dir: &Path, change: &str) {
    let path = |name: &str| dir.join(name);
    let mode = |name, mode| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    let attribute = |name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path("src/a.rs"), name, value, XattrFlags::empty()).unwrap();
    };
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    match change {
        "time" => File::open(path("src/a.rs")).unwrap().set_times(old).unwrap(),
        "time of a directory" => File::open(path("src/sub")).unwrap().set_times(old).unwrap(),
        "inode" => {
            fs::copy(path("src/a.rs"), path("new")).unwrap();
            fs::rename(path("new"), path("src/a.rs")).unwrap();
        }
        "another name outside" => fs::hard_link(path("src/a.rs"), path("other")).unwrap(),
        "parent" => fs::rename(path("src"), path("moved")).unwrap(),
        "mode of the root" => mode("src", 0o700),
        "attribute of the system" => attribute("trusted.overlay.opaque", b"y"),
        "data" => fs::write(path("src/a.rs"), "fn A() {}").unwrap(),
        "mode" => mode("src/a.rs", 0o640),
        "set-user-id" => mode("src/a.rs", 0o4750),
        "mode of a directory" => mode("src/sub", 0o700),
        "owner" => chown(path("src/a.rs"), Some(7), None).unwrap(),
        "group" => chown(path("src/a.rs"), None, Some(7)).unwrap(),
        "attribute" => attribute("user.x", b"1"),
        "target of a link" => {
            fs::remove_file(path("src/link")).unwrap();
            symlink("sub", path("src/link")).unwrap();
        }
        "device" => {
            fs::remove_file(path("src/null")).unwrap();
            let zero = rustix::fs::makedev(1, 5);
            let src = File::open(path("src")).unwrap();
            rustix::fs::mknodat(&src, "null", FileType::CharacterDevice, Mode::RUSR, zero).unwrap();
        }
        "type" => {
            fs::remove_file(path("src/link")).unwrap();
            fs::write(path("src/link"), "a.rs").unwrap();
        }
        "name" => fs::rename(path("src/a.rs"), path("src/c.rs")).unwrap(),
        "directory" => fs::rename(path("src/sub/b.rs"), path("src/b.rs")).unwrap(),
        "new" => fs::write(path("src/sub/new"), "").unwrap(),
        "new directory" => fs::create_dir(path("src/sub/new")).unwrap(),
        "gone" => fs::remove_file(path("src/sub/b.rs")).unwrap(),
        other => panic!("{other}"),
    }
}

/// What happened to a file between two listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Modified,
}

/// The first file, in the order of paths, that is another one than it was.
fn first_difference(before: &Listing, after: &Listing) -> Option<(String, Change)> {
    let (before, after) = (&before.files, &after.files);
    let paths: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    paths.into_iter().find_map(|path| {
        let change = match (before.get(path), after.get(path)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (was, is) => (was != is).then_some(Change::Modified)?,
        };
        Some((String::from_utf8(path.clone()).unwrap(), change))
    })
}

#[test]
fn sees_what_is_copied_and_nothing_else() {
    for (change, difference) in [
        ("time", None),
        ("time of a directory", None),
        ("inode", None),
        ("another name outside", None),
        ("parent", None),
        ("mode of the root", None),
        ("attribute of the system", None),
        ("data", Some(("src/a.rs", Change::Modified))),
        ("mode", Some(("src/a.rs", Change::Modified))),
        ("set-user-id", Some(("src/a.rs", Change::Modified))),
        ("mode of a directory", Some(("src/sub", Change::Modified))),
        ("owner", Some(("src/a.rs", Change::Modified))),
        ("group", Some(("src/a.rs", Change::Modified))),
        ("attribute", Some(("src/a.rs", Change::Modified))),
        ("target of a link", Some(("src/link", Change::Modified))),
        ("device", Some(("src/null", Change::Modified))),
        ("type", Some(("src/link", Change::Modified))),
        ("name", Some(("src/a.rs", Change::Removed))),
        ("directory", Some(("src/b.rs", Change::Added))),
        ("new", Some(("src/sub/new", Change::Added))),
        ("new directory", Some(("src/sub/new", Change::Added))),
        ("gone", Some(("src/sub/b.rs", Change::Removed))),
    ] {
        let dir = context();
        let before = listing(dir.path(), &["src"], None);
        run(dir.path(), change);
        let moved = change == "parent";
        let after = listing(dir.path(), &[if moved { "moved" } else { "src" }], None);
        assert_eq!(before.digest != after.digest, difference.is_some(), "{change}");
        if !moved {
            let found = first_difference(&before, &after);
            let found = found.as_ref().map(|(path, change)| (path.as_str(), *change));
            assert_eq!(found, difference, "{change}");
        }
    }
}

#[test]
fn an_owner_given_counts_in_place_of_the_files_own() {
    let dir = context();
    let root = Some(Owner::default());
    let before = listing(dir.path(), &["src"], root);
    assert_ne!(before.digest, listing(dir.path(), &["src"], Some(Owner { uid: 0, gid: 1 })).digest);
    run(dir.path(), "owner");
    assert_eq!(before.digest, listing(dir.path(), &["src"], root).digest);
}

#[test]
fn the_name_of_a_selected_file_counts_and_its_directory_does_not() {
    let dir = context();
    let digest = |sources: &[&str]| listing(dir.path(), sources, None).digest;
    let before = digest(&["src/a*"]);
    assert_eq!(before, digest(&["src/a.rs"]));
    fs::rename(dir.path().join("src"), dir.path().join("moved")).unwrap();
    assert_eq!(before, digest(&["moved/a*"]));
    // In a destination directory it would be another file: a hit would be wrong.
    fs::rename(dir.path().join("moved/a.rs"), dir.path().join("moved/a2.rs")).unwrap();
    assert_ne!(before, digest(&["moved/a*"]));
    // The name is that of the link, the data those of its target.
    fs::hard_link(dir.path().join("moved/a2.rs"), dir.path().join("a2.rs")).unwrap();
    let target = digest(&["moved/a2.rs"]);
    assert_eq!(target, digest(&["a2.rs"]));
    fs::remove_file(dir.path().join("a2.rs")).unwrap();
    symlink("moved/a2.rs", dir.path().join("a2.rs")).unwrap();
    assert_eq!(target, digest(&["a2.rs"]));
}

#[test]
fn the_order_and_the_bounds_of_sources_count() {
    let dir = context();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let digest = |sources: &[&str]| listing(dir.path(), sources, None).digest;
    let selections =
        [&["src", "src/a.rs"][..], &["src/a.rs", "src"], &["src"], &["src", "empty"], &["empty", "src"], &[]];
    for (index, one) in selections.iter().enumerate() {
        for other in &selections[index + 1..] {
            assert_ne!(digest(one), digest(other), "{one:?} {other:?}");
        }
    }
}

#[test]
fn hard_links_count_as_the_file_and_a_fixed_tree_has_a_fixed_digest() {
    let dir = tempfile::tempdir().unwrap();
    for (name, data) in [("one", "data"), ("two", "data")] {
        fs::write(dir.path().join(name), data).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let apart = listing(dir.path(), &["."], Some(Owner::default()));
    fs::remove_file(dir.path().join("two")).unwrap();
    fs::hard_link(dir.path().join("one"), dir.path().join("two")).unwrap();
    let linked = listing(dir.path(), &["."], Some(Owner::default()));
    assert_eq!(apart, linked);
    // Another value means that every cache of every user misses: change `RECORD` or `LISTING` with it.
    assert_eq!(linked.digest.hex(), "a0ed17e850f76d53280be2b6edd22e49dc0d772722d936a262d3066ee20dd013");
}

#[test]
fn a_file_that_changed_since_it_was_selected_is_refused() {
    let dir = context();
    let root = Root::open(dir.path()).unwrap();
    let filters = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    let selection = select(&root, &["src"], &filters).unwrap();
    fs::write(dir.path().join("src/a.rs"), "longer than it was").unwrap();
    let error = digest(&root, &selection, Options::default()).unwrap_err();
    assert_eq!(error.to_string(), "`src/a.rs` changed while it was being read");
}
