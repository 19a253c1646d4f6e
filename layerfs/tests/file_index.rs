//! What the index of layers says, held against what unpacking the same layers makes. Needs root.

mod common;
mod generate;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Read;

use common::{FILE, TestStore, diff_id, id, link, listing, listing_of, path, store, tar};
use generate::Chance;
use layerfs::Error;
use layerfs::entry::Kind;
use layerfs::file_index::{Aspect, FileTree, NodeId, compare, scan, squash};
use layerfs::gc::Roots;
use layerfs::layer::codec::Codec;
use layerfs::layer::tar::Problem;
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::{Compression, Descriptor, DiffId, Digest, MediaType};

/// Puts tars into the store as layers.
fn layers(test: &TestStore, tars: &[Vec<u8>]) -> Vec<(Descriptor, DiffId)> {
    let put = |tar: &Vec<u8>| {
        let digest = test.store.put_bytes(tar).unwrap();
        (Descriptor::new(MediaType::OciLayer(Compression::None), digest, tar.len() as u64), DiffId(digest))
    };
    tars.iter().map(put).collect()
}

/// Unpacks layers on each other; gives the snapshot, or what was wrong.
fn unpacked(test: &TestStore, tars: &[Vec<u8>]) -> Result<SnapshotId, Error> {
    let snapshots = test.store.snapshots();
    let mut parent: Option<SnapshotId> = None;
    for place in 0..tars.len() {
        let name = id(&Digest::of(&tars[..=place].concat()).to_string());
        if !snapshots.contains(&name) {
            let active = snapshots.prepare(parent.as_ref())?;
            unpack_layer(&tars[place][..], &active, diff_id(&tars[place]))?;
            snapshots.commit(active, &name)?;
        }
        parent = Some(name);
    }
    Ok(parent.unwrap())
}

/// A tree in the form of `common::listing`.
fn listing_of_tree(tree: &FileTree) -> String {
    let mut out = String::new();
    let mut firsts: HashMap<NodeId, String> = HashMap::new();
    for (path, id, node) in tree.below(tree.root()) {
        let name = path.escape_ascii().to_string();
        let what = match &node.kind {
            Kind::File { .. } => node.content.unwrap().short(),
            Kind::Directory => "dir".to_owned(),
            Kind::Symlink { target } => format!("-> {}", target.escape_ascii()),
            Kind::Fifo => "fifo".to_owned(),
            Kind::CharDevice { major, minor } => format!("device true {:x}", major << 8 | minor),
            Kind::BlockDevice { major, minor } => format!("device false {:x}", major << 8 | minor),
            Kind::HardLink { .. } => unreachable!("a tree has none"),
        };
        let same = match node.names {
            1 => String::new(),
            _ => firsts.entry(id).or_insert_with(|| name.clone()).clone(),
        };
        let mode = if matches!(node.kind, Kind::Symlink { .. }) { 0o777 } else { node.mode };
        let xattrs: BTreeMap<String, &Vec<u8>> = node
            .xattrs
            .iter()
            .map(|(name, value)| (String::from_utf8(name.clone()).unwrap(), value))
            .collect();
        let (uid, gid, mtime) = (node.uid, node.gid, node.mtime.seconds);
        writeln!(out, "{name} {what} {mode:o} {uid}:{gid} {mtime} {xattrs:?} ={same}").unwrap();
    }
    out
}

/// Overlayfs ends the sharing of an inode between layers when it copies a file up.
fn without_links(listing: &str) -> String {
    let cut = |line: &str| format!("{}\n", &line[..line.rfind(" =").unwrap()]);
    listing.lines().map(cut).collect()
}

fn tree(test: &TestStore, tars: &[Vec<u8>]) -> FileTree {
    test.store.file_tree(&layers(test, tars)).unwrap()
}

fn view_listing(test: &TestStore, id: &SnapshotId) -> String {
    listing_of(test.store.snapshots().view(id).unwrap().root())
}

#[test]
fn a_tree_shows_what_unpacking_shows() {
    let test = store();
    let script = "mkdir -p usr/bin etc 'sp ace' deep/er; chmod 1777 etc
        printf hello > usr/bin/hello; chmod 4755 usr/bin/hello; chown 1:2 usr/bin/hello; chmod u+s usr/bin/hello
        ln usr/bin/hello deep/third; ln -s usr/lib lib; ln -s usr/bin/hello link; mkfifo pipe; mknod null c 1 3
        printf x > \"$(printf 'bad\\377name')\"; printf cap > capable; setcap cap_net_raw+ep capable
        printf big > huge; chown 3000000:4294967294 huge; printf old > old; touch -d '1950-01-02 03:04:05.678' old";
    common::step(&test.store, None, "a", script);
    let snapshots = test.store.snapshots();
    let packed = test.store.put_layer(&snapshots.changes(&id("a")).unwrap(), Default::default()).unwrap();
    let tree = test.store.file_tree(&[(packed.descriptor(), packed.diff_id)]).unwrap();
    assert_eq!(listing_of_tree(&tree), view_listing(&test, &id("a")));
}

/// Holds the index of a random stack of layers against unpacking it, and the same squashed; says whether both refuse
/// it, or what they disagree about.
fn disagreement(test: &TestStore, round: u64) -> Result<bool, String> {
    let mut chance = Chance::new(round);
    let tars: Vec<Vec<u8>> =
        (0..=chance.below(3)).map(|place| generate::layer(&mut chance, place, generate::PLAIN)).collect();
    let shown =
        |tars: &[Vec<u8>]| -> String { tars.iter().map(|tar| generate::text(tar) + "--\n").collect() };
    let layers = layers(test, &tars);
    let indexes = test.store.file_indexes(&layers).unwrap();
    let (real, tree) = match (unpacked(test, &tars), FileTree::of(&indexes)) {
        (Ok(real), Ok(tree)) => (real, tree),
        (Err(_), Err(_)) => return Ok(true),
        (real, tree) => return Err(format!("{:?} but {:?}\n{}", real.err(), tree.err(), shown(&tars))),
    };
    let expected = without_links(&view_listing(test, &real));
    let found = without_links(&listing_of_tree(&tree));
    if found != expected {
        return Err(format!("{}unpacked:\n{expected}index:\n{found}", shown(&tars)));
    }
    // The upper layers as one show the same, to the index and to the kernel.
    let below = chance.below(tars.len() + 1);
    let packed = squash(&test.store, &layers, &indexes, below).unwrap();
    let mut bytes = Vec::new();
    test.store.open_blob(&packed.diff_id.0).unwrap().read_to_end(&mut bytes).unwrap();
    let mut fewer = tars[..below].to_vec();
    fewer.push(bytes);
    let squashed = self::tree(test, &fewer);
    let differences = compare(&tree, &squashed, true);
    if !differences.is_empty() {
        return Err(format!("{}squashed:\n{}{differences:#?}", shown(&tars), shown(&fewer)));
    }
    let found = without_links(&view_listing(test, &unpacked(test, &fewer).unwrap()));
    if found != expected {
        return Err(format!("{}squashed and unpacked:\n{found}", shown(&tars)));
    }
    Ok(false)
}

#[test]
fn random_stacks_show_what_unpacking_shows_and_squash_to_the_same() {
    let test = store();
    let mut refused = 0;
    let mut wrong = Vec::new();
    for round in 0..400 {
        match disagreement(&test, round) {
            Ok(is_refused) => refused += u32::from(is_refused),
            Err(what) => wrong.push(format!("round {round}: {what}")),
        }
    }
    assert!(wrong.is_empty(), "{} rounds\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    assert!(refused < 200, "{refused} of 400 were refused");
}

#[test]
fn an_index_is_kept_checked_and_made_again() {
    let test = store();
    let tar = tar(&[("d", Kind::Directory), ("d/f", FILE), ("l", link("d"))]);
    let layers = layers(&test, std::slice::from_ref(&tar));
    let (layer, diff_id) = &layers[0];
    let index = test.store.file_index(layer, *diff_id).unwrap();
    assert_eq!((index.records.len(), index.size_bytes), (3, tar.len() as u64));
    let files: Vec<_> = std::fs::read_dir(test.store.root().join("files")).unwrap().collect();
    let file = files[0].as_ref().unwrap().path();
    let bytes = std::fs::read(&file).unwrap();
    // It is read without the layer, and not believed when it is damaged.
    std::fs::remove_file(test.store.blob_path(&diff_id.0)).unwrap();
    assert_eq!(test.store.file_index(layer, *diff_id).unwrap(), index);
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    assert!(matches!(test.store.file_index(layer, *diff_id), Err(Error::MissingBlob { .. })));
    test.store.put_bytes(&tar).unwrap();
    assert_eq!(test.store.file_index(layer, *diff_id).unwrap(), index);
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // Another layer's index under this name is none.
    let other = DiffId(Digest::of(b"other"));
    std::fs::copy(&file, test.store.root().join("files").join(format!("{}-1", other.0.hex()))).unwrap();
    assert!(matches!(
        test.store.file_index(layer, other),
        Err(Error::DiffId { .. } | Error::MissingBlob { .. })
    ));
}

#[test]
fn a_tar_that_the_power_took_is_read_out_of_its_layer() {
    let mut test = store();
    let tar = tar(&[("d", Kind::Directory), ("d/f", FILE)]);
    let (plain, diff_id) = layers(&test, std::slice::from_ref(&tar)).remove(0);
    let gzip = test.store.compressed(diff_id, Codec::new(Compression::Gzip), 1).unwrap();
    std::fs::write(test.store.blob_path(&plain.digest), vec![0; tar.len()]).unwrap();
    let root = test.store.root().to_owned();
    std::fs::write(root.join("state.json"), "{\"format\":1,\"boot\":\"another\"}").unwrap();
    test.store = Store::open(&root).unwrap();
    let index = test.store.file_index(&gzip, diff_id).unwrap();
    let mut text = String::new();
    test.store.content(&gzip, diff_id, &index.records[1]).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "d/f");
}

#[test]
fn every_compression_gives_the_same_index() {
    let tar = tar(&[("d", Kind::Directory), ("d/f", FILE)]);
    let plain = scan(&tar[..], diff_id(&tar)).unwrap();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut blob = Vec::new();
        Codec::new(compression).compress(&mut &tar[..], &mut blob, 1).unwrap();
        assert_eq!(scan(&blob[..], diff_id(&tar)).unwrap(), plain);
        let error = scan(&blob[..], diff_id(b"another")).unwrap_err();
        assert!(matches!(error, Error::DiffId { .. }), "{error}");
    }
    // An empty blob is an empty layer.
    assert!(scan(&b""[..], diff_id(b"")).unwrap().records.is_empty());
}

#[test]
fn content_comes_out_of_its_layer() {
    let test = store();
    let tar = tar(&[("d", Kind::Directory), ("d/f", FILE), ("d/second", FILE)]);
    let plain = layers(&test, std::slice::from_ref(&tar)).remove(0);
    let index = test.store.file_index(&plain.0, plain.1).unwrap();
    let read = |layer: &Descriptor| {
        let mut text = String::new();
        test.store.content(layer, plain.1, &index.records[2]).unwrap().read_to_string(&mut text).map(|_| text)
    };
    assert_eq!(read(&plain.0).unwrap(), "d/second");
    let mut blob = Vec::new();
    Codec::new(Compression::Gzip).compress(&mut &tar[..], &mut blob, 1).unwrap();
    let digest = test.store.put_bytes(&blob).unwrap();
    let gzip = Descriptor::new(MediaType::OciLayer(Compression::Gzip), digest, blob.len() as u64);
    std::fs::remove_file(test.store.blob_path(&plain.1.0)).unwrap();
    assert_eq!(read(&gzip).unwrap(), "d/second");
    // A damaged layer is noticed.
    let mut damaged = tar.clone();
    let place = damaged.windows(8).position(|bytes| bytes == b"d/second").unwrap() + 512;
    damaged[place] ^= 1;
    std::fs::write(test.store.blob_path(&plain.1.0), &damaged).unwrap();
    assert!(read(&plain.0).is_err());
}

#[test]
fn links_are_followed_inside_the_tree() {
    let test = store();
    let tree = tree(
        &test,
        &[tar(&[
            ("usr", Kind::Directory),
            ("usr/lib", Kind::Directory),
            ("usr/lib/f", FILE),
            ("lib", link("usr/lib")),
            ("abs", link("/lib/f")),
            ("up", link("../../usr/../lib/f")),
            ("loop", link("loop")),
            ("gone", link("nowhere")),
        ])],
    );
    for (path, follow, expected) in [
        ("usr/lib/f", false, Some("usr/lib/f")),
        ("lib/f", false, Some("usr/lib/f")),
        ("/lib/../lib/./f", false, Some("usr/lib/f")),
        ("lib", false, Some("lib")),
        ("lib", true, Some("usr/lib")),
        ("lib/", false, Some("usr/lib")),
        ("abs", true, Some("usr/lib/f")),
        ("up", true, Some("usr/lib/f")),
        ("abs", false, Some("abs")),
        ("abs/", true, None),
        ("loop", false, Some("loop")),
        ("loop", true, None),
        ("loop/x", true, None),
        ("gone", true, None),
        ("", true, Some("")),
        ("/..", true, Some("")),
        ("usr/lib/..", true, Some("usr")),
        ("usr/lib/f/x", true, None),
    ] {
        let found = tree.find(path.as_bytes(), follow).map(|(path, _)| String::from_utf8(path).unwrap());
        assert_eq!(found.as_deref(), expected, "{path} {follow}");
    }
}

#[test]
fn differences_say_what_differs() {
    let test = store();
    let base = tar(&[
        ("d", Kind::Directory),
        ("d/gone", FILE),
        ("same", FILE),
        ("l", link("same")),
        ("n", Kind::CharDevice { major: 1, minor: 3 }),
        ("t", Kind::Directory),
        ("t/below", FILE),
    ]);
    let top = tar(&[
        ("d/.wh.gone", FILE),
        ("new", FILE),
        ("l", link("d")),
        ("n", Kind::CharDevice { major: 1, minor: 5 }),
        ("t", FILE),
    ]);
    let before = tree(&test, std::slice::from_ref(&base));
    let after = tree(&test, &[base, top]);
    let found: Vec<(String, bool, bool, Vec<Aspect>)> = compare(&before, &after, false)
        .into_iter()
        .map(|one| {
            let path = String::from_utf8(one.path).unwrap();
            (path, one.before.is_some(), one.after.is_some(), one.aspects)
        })
        .collect();
    let row =
        |path: &str, before, after, aspects: &[Aspect]| (path.to_owned(), before, after, aspects.to_vec());
    let expected = [
        row("d/gone", true, false, &[]),
        row("l", true, true, &[Aspect::Target]),
        row("n", true, true, &[Aspect::Device]),
        row("new", false, true, &[]),
        row("t", true, true, &[Aspect::Type, Aspect::Mode]),
        row("t/below", true, false, &[]),
    ];
    assert_eq!(found, expected);
    assert_eq!((after.removed_by(b"d/gone"), after.removed_by(b"d")), (Some(1), None));
}

#[test]
fn what_upper_layers_hide_is_counted() {
    let test = store();
    let base = tar(&[("keep", FILE), ("gone", FILE), ("over", FILE), ("d", Kind::Directory), ("d/x", FILE)]);
    let top = tar(&[(".wh.gone", FILE), ("over", FILE), (".wh.d", FILE), ("top", FILE)]);
    let sums = tree(&test, &[base, top]).sums();
    let hidden = ("gone".len() + "over".len() + "d/x".len()) as u64;
    assert_eq!(
        (sums[0].files, sums[0].bytes, sums[0].hidden_bytes, sums[0].hides_bytes),
        (4, hidden + 4, hidden, 0)
    );
    assert_eq!((sums[1].files, sums[1].bytes, sums[1].hidden_bytes, sums[1].hides_bytes), (2, 7, 0, hidden));
}

#[test]
fn layers_that_do_not_fit_are_refused_like_by_unpacking() {
    let test = store();
    let to = |target: &str| Kind::HardLink { target: target.into() };
    for (entries, expected) in [
        (&[("a", to("nothing"))][..], Problem::LinkTarget),
        (&[("d", Kind::Directory), ("a", to("d"))], Problem::LinkTarget),
        (&[("n", Kind::CharDevice { major: 0, minor: 0 })], Problem::WhiteoutDevice),
        (&[(".wh.", FILE)], Problem::Whiteout),
    ] {
        let tar = tar(entries);
        assert!(unpacked(&test, std::slice::from_ref(&tar)).is_err(), "{entries:?}");
        match test.store.file_tree(&layers(&test, &[tar])) {
            Err(Error::Archive { problem, .. }) => assert_eq!(problem, expected),
            other => panic!("{entries:?}: {other:?}"),
        }
    }
}

#[test]
fn indexes_go_with_their_layers() {
    let mut test = store();
    let tar = tar(&[("f", FILE)]);
    let layers = layers(&test, &[tar]);
    test.store.file_index(&layers[0].0, layers[0].1).unwrap();
    let count = |test: &TestStore| std::fs::read_dir(test.store.root().join("files")).unwrap().count();
    let roots = Roots { blobs: vec![layers[0].1.0], ..Roots::default() };
    test.store.release();
    test.store.collect(|_| Ok(roots)).unwrap();
    assert_eq!(count(&test), 1);
    test.store.collect(|_| Ok(Roots::default())).unwrap();
    assert_eq!(count(&test), 0);
}

#[test]
fn a_squashed_layer_keeps_links_and_needs_no_plain_tar() {
    let test = store();
    let to = |target: &str| Kind::HardLink { target: target.into() };
    let base = tar(&[("a", FILE), ("d", Kind::Directory), ("d/old", FILE), ("d/keep", FILE)]);
    let one = tar(&[("b", to("a")), ("d/.wh.old", FILE), ("x", FILE)]);
    let two = tar(&[("c", to("x")), (".wh.x", FILE), ("d/new", FILE)]);
    let plain = layers(&test, &[base, one, two]);
    let indexes = test.store.file_indexes(&plain).unwrap();
    let packed = squash(&test.store, &plain, &indexes, 1).unwrap();
    let mut bytes = Vec::new();
    test.store.open_blob(&packed.diff_id.0).unwrap().read_to_end(&mut bytes).unwrap();
    // All names of an object that got another one are there, and those of one that lost its first.
    assert_eq!(generate::text(&bytes), "a\nb => a\nc\nd/\nd/.wh.old\nd/new\n");
    // The same out of compressed layers, byte for byte.
    let compressed: Vec<(Descriptor, DiffId)> = plain
        .iter()
        .map(|(_, diff_id)| {
            (test.store.compressed(*diff_id, Codec::new(Compression::Zstd), 1).unwrap(), *diff_id)
        })
        .collect();
    for (_, diff_id) in &plain {
        std::fs::remove_file(test.store.blob_path(&diff_id.0)).unwrap();
    }
    let again = squash(&test.store, &compressed, &indexes, 1).unwrap();
    assert_eq!(again, packed);
    let left = std::fs::read_dir(test.store.root().join("ingest")).unwrap().count();
    assert_eq!(left, 0);
    assert!(listing(&path(test.store.snapshots().prepare(None).unwrap().root())).is_empty());
}
