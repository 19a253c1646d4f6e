//! Access control lists: a layer gives its files theirs and no others, and has some only when that was asked for. Needs
//! root, and a file system that keeps such lists.

mod common;
mod generate;

use std::collections::BTreeMap;
use std::path::Path;

use common::{TestStore, diff_id, entry, id, path, store};
use generate::Chance;
use layerfs::Error;
use layerfs::entry::{Entry, Kind};
use layerfs::file_index::{FileTree, scan};
use layerfs::layer::pack::{PackOptions, Packed, pack};
use layerfs::layer::tar::Writer;
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::SnapshotId;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const WITH_ACLS: PackOptions = PackOptions { epoch: None, acls: true };

/// A list in the kernel's form (linux/posix_acl_xattr.h): the owner may `mode`'s first digit, the user `uid` what the
/// mask lets through, the group nothing, others `mode`'s last digit.
fn list(mode: u32, uid: u32) -> Vec<u8> {
    let [owner, mask, other] = [mode >> 6 & 7, mode >> 3 & 7, mode & 7];
    let entry = |tag: u16, bits: u32, id: u32| {
        let bits = u16::try_from(bits).unwrap().to_le_bytes();
        [&tag.to_le_bytes()[..], &bits, &id.to_le_bytes()].concat()
    };
    let nobody = u32::MAX;
    let entries = [
        entry(1, owner, nobody),
        entry(2, 7, uid),
        entry(4, 0, nobody),
        entry(0x10, mask, nobody),
        entry(0x20, other, nobody),
    ];
    [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
}

fn with(mut entry: Entry, name: &str, value: Vec<u8>) -> Entry {
    entry.xattrs.insert(name.as_bytes().to_vec(), value);
    entry
}

fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    entries.iter().for_each(|entry| tar.entry(entry).unwrap());
    tar.finish().unwrap()
}

/// Unpacks a layer as the snapshot `name`.
fn unpacked(test: &TestStore, layer: &[u8], parent: Option<&SnapshotId>, name: &str) -> SnapshotId {
    let active = test.store.snapshots().prepare(parent).unwrap();
    unpack_layer(layer, &active, diff_id(layer)).unwrap();
    test.store.snapshots().commit(active, &id(name)).unwrap();
    id(name)
}

fn packed(test: &TestStore, snapshot: &SnapshotId, options: PackOptions) -> (Packed, Vec<u8>) {
    let mut tar = Vec::new();
    let packed = pack(&test.store.snapshots().changes(snapshot).unwrap(), options, &mut tar).unwrap();
    (packed, tar)
}

type Lists = BTreeMap<(String, &'static str), Vec<u8>>;

/// All lists of a snapshot, by path and name.
fn lists(test: &TestStore, snapshot: &SnapshotId) -> Lists {
    let view = test.store.snapshots().view(snapshot).unwrap();
    let (root, mut found) = (path(view.root()), Lists::new());
    let mut left = vec![root.clone()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            found.extend(lists_of(&path).into_iter().map(|(name, list)| ((shown.clone(), name), list)));
            if path.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

fn lists_of(path: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let get = |name: &'static str| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
        Some((name, value[..length].to_vec()))
    };
    [ACCESS, DEFAULT].into_iter().filter_map(get).collect()
}

/// A tree by chance, and the lists it must have.
fn tree(chance: &mut Chance) -> (Vec<Entry>, Lists) {
    let (mut entries, mut expected) = (Vec::new(), Lists::new());
    let mut dirs = vec![String::new()];
    for number in 0..3 + chance.below(12) {
        let is_dir = chance.once_in(2);
        let path = format!("{}{number}", chance.one_of(&dirs));
        let mut made = entry(&path, if is_dir { Kind::Directory } else { Kind::File { size: 0 } });
        made.mode = u32::try_from(chance.below(0o1000)).unwrap();
        if chance.once_in(2) {
            let list = list(made.mode, 1000 + u32::try_from(number).unwrap());
            made = with(made, ACCESS, list.clone());
            expected.insert((path.clone(), ACCESS), list);
        }
        if is_dir && chance.once_in(2) {
            let list = list(u32::try_from(chance.below(0o1000)).unwrap(), 77);
            made = with(made, DEFAULT, list.clone());
            expected.insert((path.clone(), DEFAULT), list);
        }
        if is_dir {
            dirs.push(format!("{path}/"));
        }
        entries.push(made);
    }
    (entries, expected)
}

#[test]
fn trees_with_lists_survive_packing_and_unpacking() {
    let test = store();
    let mut some = 0;
    for round in 0..100 {
        let (entries, expected) = tree(&mut Chance::new(round));
        let first = unpacked(&test, &tar(&entries), None, &format!("a{round}"));
        assert_eq!(lists(&test, &first), expected, "round {round}: a directory's default is no file's own");
        let (_, layer) = packed(&test, &first, WITH_ACLS);
        let again = unpacked(&test, &layer, None, &format!("b{round}"));
        assert_eq!(lists(&test, &again), expected, "round {round}");
        assert!(packed(&test, &again, WITH_ACLS).1 == layer, "round {round}: other bytes");
        // The same on top of what has lists of its own by the same names.
        let (lower, _) = tree(&mut Chance::new(round + 1000));
        let below = unpacked(&test, &tar(&lower), None, &format!("c{round}"));
        let above = unpacked(&test, &layer, Some(&below), &format!("d{round}"));
        let mut found = lists(&test, &above);
        found.retain(|(path, _), _| entries.iter().any(|entry| entry.path == path.as_bytes()));
        assert_eq!(found, expected, "round {round}");
        // What is not asked for is not there.
        let (_, plain) = packed(&test, &first, PackOptions::default());
        assert!(!plain.windows(9).any(|bytes| bytes == b"posix_acl"), "round {round}");
        some += expected.len();
    }
    assert!(some > 300, "{some}");
}

#[test]
fn an_index_knows_the_lists_too() {
    let (entries, expected) = tree(&mut Chance::new(7));
    let layer = tar(&entries);
    let tree = FileTree::of(&[scan(&layer[..], diff_id(&layer)).unwrap()]).unwrap();
    let nodes = tree.below(tree.root());
    let count: usize = nodes.map(|(_, _, node)| node.xattrs.len()).sum();
    assert!(count > 0);
    assert_eq!(count, expected.len());
}

#[test]
fn a_list_alone_is_a_change_where_it_counts() {
    let test = store();
    let base = unpacked(&test, &tar(&[entry("f", Kind::File { size: 0 })]), None, "base");
    let active = test.store.snapshots().prepare(Some(&base)).unwrap();
    let file = path(active.root()).join("f");
    rustix::fs::setxattr(&file, ACCESS, &list(0o644, 5), rustix::fs::XattrFlags::empty()).unwrap();
    test.store.snapshots().commit(active, &id("top")).unwrap();
    assert_eq!(packed(&test, &id("top"), WITH_ACLS).0.entries, 1);
    assert_eq!(packed(&test, &id("top"), PackOptions::default()).0.entries, 0);
}

#[test]
fn what_is_no_list_is_refused_by_name() {
    let test = store();
    let layer =
        tar(&[with(entry("d/f", Kind::File { size: 0 }), ACCESS, [list(0o644, 5), vec![9; 8]].concat())]);
    let active = test.store.snapshots().prepare(None).unwrap();
    let error = unpack_layer(&layer[..], &active, diff_id(&layer)).unwrap_err();
    assert!(matches!(&error, Error::Unpack { entry, .. } if entry == Path::new("d/f")), "{error}");
}
