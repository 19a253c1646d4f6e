//! Archives that broke others: each published weakness of reading archives, by its number. Needs root.

mod common;
mod hold;

use std::path::PathBuf;

use common::{FILE, TestStore, diff_id, entry, link, listing_of, path, run, store, tar};
use hold::header;
use layerfs::Error;
use layerfs::entry::{Entry, Kind};
use layerfs::gc::Roots;
use layerfs::layer::tar::{Limits, Problem, Writer};
use layerfs::layer::unpack::{Destination, Options, unpack, unpack_layer};
use layerfs::snapshot::Below;
use oci::{Index, MediaType, Raw};

/// A file of the host's, which no archive may touch.
struct Victim {
    test: TestStore,
    file: PathBuf,
}

impl Victim {
    fn new() -> Victim {
        let test = store();
        let file = test.dir.path().join("victim");
        std::fs::write(&file, "safe").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        Victim { test, file }
    }

    /// Its directory, as an archive would name it.
    fn dir(&self) -> &str {
        self.test.dir.path().to_str().unwrap()
    }

    /// Unpacks a layer; gives what there is then. The victim is as it was, and nothing is left over.
    fn unpack(&self, layer: &[u8]) -> Result<String, Error> {
        let snapshots = self.test.store.snapshots();
        let active = snapshots.prepare(None).unwrap();
        let result = unpack_layer(layer, &active, diff_id(layer)).map(|_| listing_of(active.root()));
        drop(active);
        assert_eq!(std::fs::read_to_string(&self.file).unwrap(), "safe");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&self.file).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o640);
        let around: Vec<_> = std::fs::read_dir(self.test.dir.path()).unwrap().collect();
        assert_eq!(around.len(), 2, "{around:?}");
        assert_eq!(std::fs::read_dir(self.test.store.root().join("ingest")).unwrap().count(), 0);
        result
    }

    fn problem(&self, layer: &[u8]) -> Problem {
        match self.unpack(layer) {
            Err(Error::Archive { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }
}

fn hard(target: &str) -> Kind {
    Kind::HardLink { target: target.into() }
}

#[test]
fn cve_2018_15664_a_link_swapped_in_between_leads_nowhere_else() {
    let victim = Victim::new();
    let dir = victim.dir();
    let layer = tar(&[
        ("d", Kind::Directory),
        ("d/a", FILE),
        ("d", link(dir)),
        ("d/victim", FILE),
        ("d", Kind::Directory),
    ]);
    assert!(victim.unpack(&layer).unwrap().contains("/victim "));
}

#[test]
fn cve_2021_29136_the_root_does_not_become_a_link() {
    let victim = Victim::new();
    for name in ["/", ".", "./", "", "//."] {
        let found = victim.problem(&tar(&[(name, link(victim.dir())), ("victim", FILE)]));
        assert!(matches!(found, Problem::Root | Problem::Nameless), "{name}: {found:?}");
    }
}

#[test]
fn cve_2021_32760_modes_are_not_set_through_links() {
    let victim = Victim::new();
    let target = victim.file.to_str().unwrap();
    let mut layer = Writer::new(Vec::new());
    layer.entry(&entry("l", link(target))).unwrap();
    layer.entry(&Entry { mode: 0o777, ..entry("l", hard("l2")) }).unwrap();
    let layer = layer.finish().unwrap();
    // The link to nothing is refused; through a link that is there nothing is reached.
    assert!(victim.unpack(&layer).is_err());
    let through = tar(&[("l", link(target)), ("h", hard("l")), ("l", FILE), ("h", FILE)]);
    assert!(victim.unpack(&through).unwrap().contains("h "));
}

#[test]
fn cve_2001_1267_names_do_not_climb() {
    let victim = Victim::new();
    for name in ["../victim", "a/../../victim", "/../victim", "a/.."] {
        assert_eq!(victim.problem(&tar(&[(name, FILE)])), Problem::ParentDirectory, "{name}");
    }
    assert_eq!(victim.problem(&tar(&[("a", FILE), ("b", hard("../victim"))])), Problem::ParentDirectory);
}

#[test]
fn cve_2025_58183_a_map_of_holes_is_bounded() {
    let victim = Victim::new();
    // Version 1.0 says how many stretches follow; the reader must not believe it.
    for count in ["99999999999", "10001", "18446744073709551615"] {
        let map = format!("{count}\n0\n1\n");
        let layer = sparse_1_0(&[("GNU.sparse.realsize", "1000")], map.as_bytes());
        assert_eq!(victim.problem(&layer), Problem::Sparse, "{count}");
    }
}

#[test]
fn cve_2025_62518_cve_2026_33055_an_extended_size_always_counts() {
    let victim = Victim::new();
    let smuggled = tar(&[("smuggled", FILE)]);
    let mut layer = extended(&[("size", &(smuggled.len() - 1024).to_string())]);
    layer.extend(header(b"outer", b'0', 0));
    layer.extend(&smuggled[..smuggled.len() - 1024]);
    layer.extend([0; 1024]);
    let listing = victim.unpack(&layer).unwrap();
    assert!(listing.starts_with("outer ") && !listing.contains("smuggled"), "{listing}");
}

#[test]
fn ghsa_3cv2_h65g_fgmm_an_extended_header_is_for_the_next_real_entry() {
    let victim = Victim::new();
    let mut layer = extended(&[("size", "0")]);
    layer.extend(header(b"././@LongLink", b'L', 5));
    layer.extend([&b"long\0"[..], &[0; 507]].concat());
    layer.extend(header(b"short", b'0', 0));
    layer.extend(header(b"next", b'0', 0));
    let listing = victim.unpack(&layer).unwrap();
    let names: Vec<&str> = listing.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["long", "next"]);
}

#[test]
fn cve_2026_33056_a_directory_over_a_link_is_not_the_links() {
    let victim = Victim::new();
    let mut layer = Writer::new(Vec::new());
    layer.entry(&entry("l", link(victim.dir()))).unwrap();
    layer.entry(&Entry { mode: 0o777, ..entry("l", Kind::Directory) }).unwrap();
    let before = std::fs::metadata(victim.dir()).unwrap().permissions();
    assert!(victim.unpack(&layer.finish().unwrap()).unwrap().starts_with("l dir 777"));
    assert_eq!(std::fs::metadata(victim.dir()).unwrap().permissions(), before);
}

#[test]
fn cve_2026_42574_cve_2026_46703_a_link_of_a_lower_layer_leads_nowhere_else() {
    let victim = Victim::new();
    let (lower, upper) = (tar(&[("l", link(victim.dir()))]), tar(&[("l/victim", FILE), ("l/new", FILE)]));
    let snapshots = victim.test.store.snapshots();
    let active = snapshots.prepare(None).unwrap();
    unpack_layer(&lower[..], &active, diff_id(&lower)).unwrap();
    snapshots.commit(active, &common::id("lower")).unwrap();
    let active = snapshots.prepare(Some(&common::id("lower"))).unwrap();
    unpack_layer(&upper[..], &active, diff_id(&upper)).unwrap();
    run(active.root(), &format!("test -e .{}/new", victim.dir()));
    assert_eq!(std::fs::read_to_string(&victim.file).unwrap(), "safe");
    assert!(!victim.test.dir.path().join("new").exists());
}

#[test]
fn a_directory_of_before_posix_hides_no_entries() {
    let victim = Victim::new();
    for flag in [b'0', 0] {
        assert!(victim.unpack(&header(b"d/", flag, 0)).unwrap().starts_with("d dir "));
        let mut layer = header(b"d/", flag, 512);
        layer.extend(header(b"smuggled", b'0', 0));
        assert_eq!(victim.problem(&layer), Problem::DirectoryContent);
        let mut layer = extended(&[("size", "512")]);
        layer.extend(header(b"d/", flag, 0));
        layer.extend(header(b"smuggled", b'0', 0));
        assert_eq!(victim.problem(&layer), Problem::DirectoryContent);
    }
}

#[test]
fn a_chain_of_documents_may_be_longer_than_the_stack() {
    let mut victim = Victim::new();
    let store = &mut victim.test.store;
    let bottom = store.put_bytes(b"bottom").unwrap();
    let chain = (0..20_000)
        .fold(bottom, |below, _| store.put_bytes(format!("{{\"below\": \"{below}\"}}").as_bytes()).unwrap());
    store.release();
    store.collect(|_| Ok(Roots { blobs: vec![chain], ..Roots::default() })).unwrap();
    assert!(store.has(&chain) && store.has(&bottom));
}

#[test]
fn indexes_that_name_each_other_many_times_are_looked_at_once() {
    let victim = Victim::new();
    let store = &victim.test.store;
    let index = |entries| store.put_document(&Raw::write(Index::oci(entries)), MediaType::OciIndex).unwrap();
    // Followed one by one, these are 2^64.
    let top = (0..64).fold(index(Vec::new()), |below, _| index(vec![below.clone(), below]));
    store.tag(&"many:1".parse().unwrap(), &top).unwrap();
    assert_eq!(store.check(false).unwrap(), []);
}

#[test]
fn devices_that_mark_deletions_are_refused() {
    let victim = Victim::new();
    assert_eq!(
        victim.problem(&tar(&[("n", Kind::CharDevice { major: 0, minor: 0 })])),
        Problem::WhiteoutDevice
    );
}

#[test]
fn limits_end_in_an_error_and_leave_nothing() {
    let victim = Victim::new();
    let default = Limits::default();
    let many: Vec<(String, Kind)> = (0..20).map(|number| (number.to_string(), FILE)).collect();
    let many: Vec<(&str, Kind)> = many.iter().map(|(name, kind)| (name.as_str(), kind.clone())).collect();
    let mut attributes = entry("x", FILE);
    attributes.xattrs.insert(b"user.x".to_vec(), vec![b'x'; 5000]);
    let mut attributed = Writer::new(Vec::new());
    attributed.entry(&attributes).unwrap();
    let records: Vec<(String, String)> =
        (0..25_001).map(|number| (format!("k{number}"), String::new())).collect();
    let records: Vec<(&str, &str)> =
        records.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let holes = sparse_1_0(&[("GNU.sparse.realsize", "20000000000")], b"1\n0\n0\n");
    let table = [
        (tar(&many), Limits { entries: 19, ..default }, Problem::Entries),
        (tar(&[("long/name", FILE)]), Limits { path_bytes: 8, ..default }, Problem::LongPath),
        (tar(&[("l", link("long/target"))]), Limits { path_bytes: 8, ..default }, Problem::LongPath),
        (tar(&[(&"x".repeat(256), FILE)]), default, Problem::LongPath),
        (tar(&many), Limits { names_bytes: 29, ..default }, Problem::Names),
        (tar(&[("content", FILE)]), Limits { content_bytes: 6, ..default }, Problem::Content),
        (attributed.finish().unwrap(), Limits { metadata_bytes: 5000, ..default }, Problem::Metadata),
        (extended(&records), default, Problem::ExtendedHeader),
        (holes.clone(), default, Problem::Holes),
        (holes, Limits { hole_bytes: 1 << 40, content_bytes: 1 << 30, ..default }, Problem::Content),
    ];
    for (bytes, limits, expected) in table {
        let active = victim.test.store.snapshots().prepare(None).unwrap();
        let destination = Destination { root: active.root(), below: Below::Nothing };
        match unpack(&bytes[..], destination, &Options { limits, ..Options::default() }) {
            Err(Error::Archive { problem, .. }) => assert_eq!(problem, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
        drop(active);
        assert_eq!(std::fs::read_dir(victim.test.store.root().join("ingest")).unwrap().count(), 0);
    }
    assert!(path(victim.test.store.snapshots().prepare(None).unwrap().root()).exists());
}

/// An extended header with these records.
fn extended(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap();
        body.extend(format!("{length} {key}={value}\n").bytes());
    }
    let mut bytes = header(b"PaxHeaders.0", b'x', body.len());
    bytes.extend(&body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A sparse file of version 1.0 with this map and no data.
fn sparse_1_0(records: &[(&str, &str)], map: &[u8]) -> Vec<u8> {
    let head = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s")];
    let mut bytes = extended(&[&head[..], records].concat());
    bytes.extend(header(b"GNUSparseFile.0/s", b'0', 512));
    bytes.extend(map);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}
