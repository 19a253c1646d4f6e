//! Which files a COPY means, on a real file system: one test for each point of the study of BuildKit that concerns it.
//! Runs as root.

mod world;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::Mutex;

use layerfs::Error;
use layerfs::checksum;
use layerfs::confined::Owner;
use layerfs::copy::{Filters, Options, Selection, select, select_parents};
use layerfs::walk::Visit;
use world::{World, filters, meta, mode_of, set_time};

#[test]
fn point_2_sources_are_below_the_root_however_they_begin() {
    for source in ["a/b", "/a/b", "./a/b", "../a/b", "../../a//./b/", "x/../a/b", "/../a/b"] {
        let world = World::new();
        world.file("c/a/b", "B").copy(&[source], "/d");
        assert_eq!(world.target(), ["d=B"], "{source}");
    }
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
    world.file("c/a", "A").copy(&["nomatch*", "a/*"], "/d/");
    assert_eq!(world.target(), [""; 0]);
    for missing in ["x", "a/x", "./x", "nodir/*", "a/nodir/*/x"] {
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
fn names_are_bytes() {
    let world = World::new();
    let name = OsStr::from_bytes(b"caf\xe9 \n*");
    fs::write(world.path("c").join(name), "N").unwrap();
    let selection = select(&world.root("c"), &[b"caf*".as_slice()], &filters(None, None)).unwrap();
    world.copy_with(&selection, "/d/", &Options::default()).unwrap();
    assert_eq!(fs::read(world.path("t/d").join(name)).unwrap(), b"N");
}

#[test]
fn point_17_an_excluded_directory_comes_back_for_what_is_taken_back_in_it() {
    let world = World::new();
    world
        .file("c/d/logs/a/old", "")
        .file("c/d/logs/a/keep", "K")
        .file("c/d/logs/b/old", "")
        .file("c/d/x", "X");
    let asked = Mutex::new(BTreeSet::new());
    // `logs/*/*`, save `logs/a/keep`; of `logs/b` nothing can come back.
    let exclude = |path: &[u8], _: bool| {
        asked.lock().unwrap().insert(String::from_utf8(path.to_vec()).unwrap());
        match path {
            b"logs" | b"logs/a" => Visit::SkipButDescend,
            b"logs/a/keep" => Visit::Take,
            path if path.starts_with(b"logs") => Visit::Skip,
            _ => Visit::Take,
        }
    };
    chown(world.path("c/d/logs"), Some(7), Some(7)).unwrap();
    world.mode("c/d/logs", 0o711).file("t/logs/there", "").mode("t/logs", 0o700);
    set_time(&world.path("t/logs"), 1000, 5);
    let selection = select(&world.root("c"), &["d"], &filters(None, Some(&exclude))).unwrap();
    world.copy_with(&selection, "/", &Options::default()).unwrap();
    assert_eq!(world.target(), ["logs/", "logs/a/", "logs/a/keep=K", "logs/there=", "x=X"]);
    // What is excluded is not looked into.
    let seen: Vec<String> = asked.into_inner().unwrap().into_iter().collect();
    assert_eq!(seen, ["logs", "logs/a", "logs/a/keep", "logs/a/old", "logs/b", "x"]);
    // A directory that was there and is only passed through takes the mode alone.
    let logs = meta(world.path("t/logs"));
    assert_eq!((logs.mode() & 0o7777, logs.uid(), logs.mtime(), logs.mtime_nsec()), (0o711, 0, 1000, 5));
}

#[test]
fn point_17_nothing_may_be_left() {
    let world = World::new();
    world.file("c/a.txt", "A").file("c/b.md", "B").file("c/d/a.txt", "A");
    let exclude = |path: &[u8], _: bool| if path.ends_with(b".txt") { Visit::Skip } else { Visit::Take };
    let left = |sources: &[&str]| {
        let selection = select(&world.root("c"), sources, &filters(None, Some(&exclude))).unwrap();
        world.copy_with(&selection, "/new/", &Options::default()).unwrap();
        selection.len()
    };
    assert_eq!(left(&["a.txt", "*.txt"]), 0);
    assert_eq!(world.target(), [""; 0]);
    // A directory is there without what was in it.
    assert_eq!(left(&["d"]), 1);
    assert_eq!(world.target(), ["new/"]);
    assert_eq!(left(&["*.txt", "b*", "d"]), 2);
    assert_eq!(world.target(), ["new/", "new/b.md=B"]);
}

fn parents(world: &World, sources: &[&str]) -> Result<Selection, Error> {
    select_parents(&world.root("c"), sources, &filters(None, None))
}

#[test]
fn point_16_parents_keep_the_path_from_the_pivot() {
    for (sources, expected) in [
        (&["a/b/x"][..], &["a/", "a/b/", "a/b/x=X"][..]),
        (&["/a/b/x", "a/y"], &["a/", "a/b/", "a/b/x=X", "a/y=Y"]),
        (&["./a/b"], &["a/", "a/b/", "a/b/e/", "a/b/x=X"]),
        (&["../z/../a/b/"], &["a/", "a/b/", "a/b/e/", "a/b/x=X"]),
        (&["a/./b/x"], &["b/", "b/x=X"]),
        (&["a/././b/./x"], &["b/", "b/x=X"]),
        (&["/./a/y"], &["a/", "a/y=Y"]),
        (&["a/./y", "w/one/./p"], &["p/", "p/x=P", "y=Y"]),
        (&["w/one/./"], &["p/", "p/x=P", "q=Q"]),
        (&["w/*/./p"], &["p/", "p/x=P"]),
        (&["link/./b/x"], &["b/", "b/x=X"]),
        (&["*/y"], &["a/", "a/y=Y"]),
        (&["a/*/x"], &["a/", "a/b/", "a/b/x=X"]),
        (&["**/x"], &["a/", "a/b/", "a/b/x=X", "w/", "w/one/", "w/one/p/", "w/one/p/x=P"]),
        (&["a/**/y"], &["a/", "a/y=Y"]),
        (&["w/./**/p/**"], &["one/", "one/p/", "one/p/x=P"]),
        (&["**/e"], &["a/", "a/b/", "a/b/e/"]),
        (&["nothing*", "**/nothing", "a/??/./x", "a/?/nothing"], &[]),
    ] {
        let world = World::new();
        world.file("c/a/b/x", "X").file("c/a/y", "Y").file("c/w/one/p/x", "P").file("c/w/one/q", "Q");
        world.link("c/link", "a").file("c/w/two", "");
        fs::create_dir(world.path("c/a/b/e")).unwrap();
        fs::create_dir(world.path("t/d")).unwrap();
        // With a last slash or without, there or not: it is a directory.
        for destination in ["/d", "/new", "/new/"] {
            let selection = parents(&world, sources).unwrap();
            world.copy_with(&selection, destination, &Options::default()).unwrap();
        }
        let below = |top: &str| expected.iter().map(|line| format!("{top}/{line}")).collect::<Vec<_>>();
        let mut all = vec!["d/".to_owned()];
        all.extend(below("d"));
        if !expected.is_empty() {
            all.push("new/".to_owned());
            all.extend(below("new"));
        }
        assert_eq!(world.target(), all, "{sources:?}");
    }
}

#[test]
fn point_16_only_a_source_without_wildcards_must_be_there() {
    let world = World::new();
    world.file("c/a/b/x", "").link("c/a/link", "b").link("c/a/gone", "nowhere").file("c/hidden/x", "");
    for (source, path) in [
        ("no", "no"),
        ("a/no", "a/no"),
        ("/a/./no", "a/no"),
        ("no/./b", "no/b"),
        ("a/b/x/./y", "a/b/x/y"),
        ("a/b/x/y", "a/b/x/y"),
        // What stands before the first wildcard before the pivot is a name too.
        ("no/*/./x", "no"),
        // Links behind the pivot are not followed.
        ("a/link/x", "a/link/x"),
    ] {
        match parents(&world, &["a", source]).unwrap_err() {
            Error::SourceMissing { path: missing } => assert_eq!(missing, OsStr::new(path), "{source}"),
            other => panic!("{source}: {other}"),
        }
    }
    parents(&world, &["a/b/x", "no*/x", "a/l*/./no", "**/no"]).unwrap();
    world.copy_with(&parents(&world, &["a/link", "a/./gone"]).unwrap(), "/", &Options::default()).unwrap();
    assert_eq!(world.target(), ["a/", "a/link -> b", "gone -> nowhere"]);

    let ignore = |path: &[u8], _: bool| match path {
        b"hidden" => Visit::SkipButDescend,
        path if path.starts_with(b"hidden") => Visit::Skip,
        _ => Visit::Take,
    };
    for source in ["hidden", "hidden/x", "hidden/./x"] {
        let error = select_parents(&world.root("c"), &[source], &filters(Some(&ignore), None)).unwrap_err();
        assert!(matches!(error, Error::SourceMissing { .. }), "{source}: {error}");
    }
    let selection = select_parents(&world.root("c"), &["hidd*"], &filters(Some(&ignore), None)).unwrap();
    assert!(selection.is_empty());
}

#[test]
fn point_16_directories_on_the_way_are_like_the_sources() {
    let world = World::new();
    world.file("c/a/b/x", "X").mode("c/a", 0o2711).mode("c/a/b", 0o750);
    for (path, seconds) in [("c/a", 1000), ("c/a/b", 2000)] {
        chown(world.path(path), Some(7), Some(8)).unwrap();
        set_time(&world.path(path), seconds, 5);
    }
    let owned = Options { owner: Some(Owner { uid: 3, gid: 4 }), ..Options::default() };
    world.copy_with(&parents(&world, &["a/b/x"]).unwrap(), "/new", &Options::default()).unwrap();
    world.copy_with(&parents(&world, &["a/b/x"]).unwrap(), "/owned", &owned).unwrap();
    let seen = |path: &str| {
        let meta = meta(world.path(path));
        (mode_of(world.path(path)), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!(seen("t/new/a"), (0o2711, 7, 8, 1000, 5));
    assert_eq!(seen("t/new/a/b"), (0o750, 7, 8, 2000, 5));
    assert_eq!(seen("t/owned/a"), (0o2711, 3, 4, 1000, 5));
    assert_eq!(seen("t/new"), (0o755, 0, 0, 0, 0));
    // Those that are there take the mode alone; one that is a source itself takes all.
    for (sources, b) in [(["a/b/x"], (0o750, 1, 1, 9, 9)), (["a/b"], (0o750, 3, 4, 2000, 5))] {
        let destination = format!("t/there{}", sources[0].len());
        world.file(&format!("{destination}/a/b/old"), "");
        for path in ["a/b", "a"] {
            let path = world.path(&format!("{destination}/{path}"));
            chown(&path, Some(1), Some(1)).unwrap();
            set_time(&path, 9, 9);
        }
        world.copy_with(&parents(&world, &sources).unwrap(), &destination[1..], &owned).unwrap();
        assert_eq!(seen(&format!("{destination}/a")), (0o2711, 1, 1, 9, 9));
        assert_eq!(seen(&format!("{destination}/a/b")), b);
    }
    let world = World::new();
    world.file("c/a/b/x", "X").file("t/a", "F").link("t/d/a", "b").file("t/d/b/x", "");
    for destination in ["/", "/d"] {
        let error = world.copy_with(&parents(&world, &["a/b/x"]).unwrap(), destination, &Options::default());
        assert!(matches!(error, Err(Error::NotADirectory { .. })), "no link on the way is followed");
    }
}

#[test]
fn points_16_and_17_exclusions_begin_at_the_pivot() {
    let world = World::new();
    world.file("c/a/b/x", "").file("c/a/b/y", "").file("c/a/skip/z", "").file("c/b/x", "");
    let below = |sources: &[&str], exclude: &(dyn Fn(&[u8], bool) -> Visit + Sync)| {
        let selection = select_parents(&world.root("c"), sources, &filters(None, Some(exclude))).unwrap();
        let paths = |entry: &layerfs::walk::Entry| String::from_utf8(entry.path.clone()).unwrap();
        selection.sources.iter().flat_map(|source| source.entries.iter().map(paths)).collect::<Vec<_>>()
    };
    let without = |hidden: &'static [u8]| {
        move |path: &[u8], _: bool| if path == hidden { Visit::Skip } else { Visit::Take }
    };
    assert_eq!(below(&["a/b"], &without(b"b/x")), ["a", "a/b", "a/b/x", "a/b/y"]);
    assert_eq!(below(&["a/b"], &without(b"a/b/x")), ["a", "a/b", "a/b/y"]);
    assert_eq!(below(&["a/./b"], &without(b"b/x")), ["b", "b/y"]);
    assert_eq!(below(&["a/b/x"], &without(b"a/b/x")), [""; 0]);
    assert_eq!(below(&["**/x"], &without(b"a")), ["b", "b/x"]);
}

#[test]
fn point_16_the_path_that_is_kept_is_part_of_the_digest() {
    let world = World::new();
    world.file("c/a/b/x", "X").file("c/a/c/x", "X");
    for path in ["c/a", "c/a/b", "c/a/c", "c/a/b/x", "c/a/c/x"] {
        set_time(&world.path(path), 1000, 0);
    }
    let digest = |source: &str| {
        let selection = parents(&world, &[source]).unwrap();
        checksum::digest(&world.root("c"), &selection, checksum::Options::default()).unwrap()
    };
    assert_eq!(digest("a/b/x"), digest("a/b/*"));
    assert_ne!(digest("a/b/x"), digest("a/./b/x"));
    assert_ne!(digest("a/b/x"), digest("a/c/x"));
}

/// A pattern prunes what it cannot match, so a directory beside the way costs nothing.
#[test]
fn point_16_nothing_beside_the_way_is_looked_into() {
    let world = World::new();
    world.file("c/a/b/x", "").file("c/a/c/deep/x", "").file("c/z/deep/x", "");
    let asked = Mutex::new(BTreeSet::new());
    let ignore = |path: &[u8], _: bool| {
        asked.lock().unwrap().insert(String::from_utf8(path.to_vec()).unwrap());
        Visit::Take
    };
    let filters = Filters { ignore: Some(&ignore), ..filters(None, None) };
    select_parents(&world.root("c"), &["a/b/*", "a/*/y"], &filters).unwrap();
    let seen: Vec<String> = asked.into_inner().unwrap().into_iter().collect();
    assert_eq!(seen, ["a", "a/b", "a/b/x", "a/c"]);
}
