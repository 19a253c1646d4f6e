//! eStargz, judged by a reader of its own that knows the specification and nothing of the writer. Needs root, for the
//! store. (<https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md>.)

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use flate2::bufread::{GzDecoder, MultiGzDecoder};
use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::estargz::{TOC_DIGEST, UNCOMPRESSED_SIZE};
use layerfs::layer::tar::{Limits, Reader, Writer};
use layerfs::store::Store;
use oci::{Descriptor, DiffId, Digest};
use serde_json::Value;

const CHUNK: usize = 4 << 20;

fn entry(path: &str, kind: Kind) -> Entry {
    let mtime = Time::from_seconds(if path.ends_with("old") { 0 } else { 1_000_000_000 });
    let xattrs = match path {
        "d/capable" => BTreeMap::from([(b"security.capability".to_vec(), vec![0, 255, 1])]),
        _ => BTreeMap::new(),
    };
    Entry { path: path.into(), kind, mode: 0o4755, uid: 1000, gid: 70_000, mtime, xattrs }
}

/// Bytes that do not compress to nothing.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] & 0x3f
    };
    (0..length).map(next).collect()
}

/// A layer with everything that a layer can have.
fn layer() -> Vec<u8> {
    let long = format!("d/{}", "long/".repeat(40));
    let files = [
        ("d/capable", noise(10)),
        ("d/empty", Vec::new()),
        ("d/exact", noise(CHUNK)),
        ("d/large", noise(2 * CHUNK + 12_345)),
        ("d/many-old", noise(513)),
        ("d/.wh.gone", Vec::new()),
        (&long[..long.len() - 1], noise(512)),
    ];
    let mut tar = Writer::new(Vec::new());
    tar.entry(&entry("d", Kind::Directory)).unwrap();
    for (path, content) in files {
        tar.entry(&entry(path, Kind::File { size: content.len() as u64 })).unwrap();
        tar.write_data(&content).unwrap();
    }
    let target = || b"d/large".to_vec();
    for (path, kind) in [
        ("hard", Kind::HardLink { target: target() }),
        ("soft", Kind::Symlink { target: target() }),
        ("null", Kind::CharDevice { major: 1, minor: 3 }),
        ("disk", Kind::BlockDevice { major: 8, minor: 0 }),
        ("pipe", Kind::Fifo),
        ("last", Kind::File { size: 3 }),
    ] {
        tar.entry(&entry(path, kind.clone())).unwrap();
        if kind == (Kind::File { size: 3 }) {
            tar.write_data(b"abc").unwrap();
        }
    }
    tar.finish().unwrap()
}

fn stored(tar: &[u8]) -> (tempfile::TempDir, Store, DiffId) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let diff_id = DiffId(store.put_bytes(tar).unwrap());
    (dir, store, diff_id)
}

fn entries(tar: &[u8]) -> Vec<(Entry, Vec<u8>)> {
    let mut reader = Reader::new(tar, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let (mut content, mut buffer) = (Vec::new(), vec![0; 65536]);
        loop {
            match reader.read_data(&mut buffer).unwrap() {
                0 => break,
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
        entries.push((entry, content));
    }
    entries
}

/// One gzip member.
fn member(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
    content
}

/// The footer's word for where the table begins.
fn toc_offset(blob: &[u8]) -> usize {
    let footer = &blob[blob.len() - 51..];
    assert_eq!(footer[..4], [0x1f, 0x8b, 8, 4], "gzip with an extra field");
    assert_eq!(footer[10..16], [26, 0, b'S', b'G', 22, 0], "the subfield");
    assert_eq!(&footer[32..38], b"STARGZ");
    assert!(member(footer).is_empty());
    usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap()
}

/// The table; it must be the last entry, alone in its member, and be what the annotation promises.
fn table(blob: &[u8], layer: &Descriptor) -> Value {
    let tail = member(&blob[toc_offset(blob)..]);
    let [(entry, json)] = &entries(&tail)[..] else { panic!("one entry") };
    assert_eq!(entry.path, b"stargz.index.json");
    assert_eq!(Digest::of(json).to_string(), layer.annotations[TOC_DIGEST]);
    let table: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(table["version"], 1);
    table
}

/// Reads every file through the table and holds it against the archive.
fn check(blob: &[u8], layer: &Descriptor, archive: &[u8]) {
    let table = table(blob, layer);
    let mut lines = table["entries"].as_array().unwrap().iter().peekable();
    let mut archived = entries(archive);
    archived.pop();
    assert_eq!(archived[0].0.path, b".no.prefetch.landmark");
    assert_eq!(archived[0].1, [0xf]);
    for (entry, content) in archived {
        let line = lines.next().expect("a line for each entry");
        let name = String::from_utf8(entry.path.clone()).unwrap();
        let (kind, name) = match entry.kind {
            Kind::File { .. } => ("reg", name),
            Kind::Directory => ("dir", name + "/"),
            Kind::HardLink { .. } => ("hardlink", name),
            Kind::Symlink { .. } => ("symlink", name),
            Kind::CharDevice { .. } => ("char", name),
            Kind::BlockDevice { .. } => ("block", name),
            Kind::Fifo => ("fifo", name),
        };
        assert_eq!((line["type"].as_str(), line["name"].as_str()), (Some(kind), Some(&name[..])));
        assert_eq!(
            (line["mode"].as_u64(), line["uid"].as_u64()),
            (Some(entry.mode.into()), Some(entry.uid.into()))
        );
        match entry.mtime.seconds {
            0 => assert!(line["modtime"].is_null()),
            _ => assert_eq!(line["modtime"], "2001-09-09T01:46:40Z"),
        }
        if let Kind::HardLink { target } | Kind::Symlink { target } = &entry.kind {
            assert_eq!(line["linkName"].as_str().unwrap().as_bytes(), target);
        }
        if let Kind::BlockDevice { major, .. } = entry.kind {
            assert_eq!(line["devMajor"], major);
        }
        if !entry.xattrs.is_empty() {
            assert_eq!(line["xattrs"]["security.capability"], "AP8B");
        }
        if !matches!(entry.kind, Kind::File { .. }) {
            continue;
        }
        assert_eq!(line["digest"].as_str().unwrap(), Digest::of(&content).to_string(), "{name}");
        assert_eq!(line["size"].as_u64().unwrap_or(0), content.len() as u64);
        let mut chunk = line;
        let mut at = 0;
        while at < content.len() {
            let offset = usize::try_from(chunk["offset"].as_u64().unwrap()).unwrap();
            assert_eq!(chunk["chunkOffset"].as_u64().unwrap_or(0), at as u64);
            let rest = content.len() - at;
            let size = chunk["chunkSize"].as_u64().map_or(rest, |size| usize::try_from(size).unwrap());
            let bytes = member(&blob[offset..]);
            assert_eq!(bytes[..size], content[at..at + size], "{name} at {at}");
            assert_eq!(chunk["chunkDigest"].as_str().unwrap(), Digest::of(&bytes[..size]).to_string());
            at += size;
            if at < content.len() {
                chunk = lines.next().expect("a line for each chunk");
                assert_eq!(
                    (chunk["type"].as_str(), chunk["name"].as_str()),
                    (Some("chunk"), Some(&name[..]))
                );
            }
        }
    }
    assert!(lines.next().is_none(), "no line without an entry");
}

#[test]
fn every_file_can_be_read_alone_and_all_of_them_together() {
    let tar = layer();
    let (_dir, store, diff_id) = stored(&tar);
    let (made, content) = store.estargz(diff_id, 6).unwrap();
    let blob = fs::read(store.blob_path(&made.digest)).unwrap();
    let mut archive = Vec::new();
    MultiGzDecoder::new(&blob[..]).read_to_end(&mut archive).unwrap();
    assert_eq!(DiffId(Digest::of(&archive)), content);
    assert_eq!(made.annotations[UNCOMPRESSED_SIZE], archive.len().to_string());
    check(&blob, &made, &archive);
    // But for what the format adds it is the same archive, byte for byte.
    assert_eq!(archive[1024..1024 + tar.len() - 1024], tar[..tar.len() - 1024]);
    // Other bytes of the same layer are another `LAYER_FORMAT`.
    assert_eq!(
        made.digest.to_string(),
        "sha256:963ffaaceb0300ce894c67b77f34b95d10eb9e79e832f8da3250dd1dc1963a4d"
    );
    // Whoever makes it again finds it.
    assert_eq!(store.estargz(diff_id, 6).unwrap(), (made.clone(), content));
    // What has a table already loses it first.
    let again = DiffId(store.put_bytes(&archive).unwrap());
    let (twice, its_content) = store.estargz(again, 6).unwrap();
    assert_eq!((twice.digest, its_content), (made.digest, content));
}

#[test]
fn the_table_knows_what_a_sparse_file_shows() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("files");
    fs::create_dir(&place).unwrap();
    let write = |name: &str, content: &[u8], offset: usize, size: usize| {
        let file = fs::File::create(place.join(name)).unwrap();
        file.set_len(size as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, content, offset as u64).unwrap();
    };
    write("early", &noise(1000), 4096, 2 * CHUNK + 77);
    write("late", b"end", CHUNK, CHUNK + 3);
    write("nothing", b"", 0, 100_000);
    write("stargz.index.json", b"{}", 5000, 10_000);
    write("usual", &noise(777), 0, 777);
    for format in ["gnu", "posix"] {
        let archive = dir.path().join("archive");
        let options = ["--sparse", "--hole-detection=raw", "--mtime=@1000000000", "--sort=name"];
        let mut tar = std::process::Command::new("tar");
        tar.arg("-cf").arg(&archive).args(options).arg(format!("--format={format}"));
        let names = ["early", "late", "nothing", "stargz.index.json", "usual"];
        assert!(tar.arg("-C").arg(&place).args(names).status().unwrap().success());
        let tar = fs::read(&archive).unwrap();
        assert!(tar.len() < CHUNK / 2, "{format}: nothing sparse about {} bytes", tar.len());
        let (_dir, store, diff_id) = stored(&tar);
        let (made, _) = store.estargz(diff_id, 6).unwrap();
        let blob = fs::read(store.blob_path(&made.digest)).unwrap();
        let mut archive = Vec::new();
        MultiGzDecoder::new(&blob[..]).read_to_end(&mut archive).unwrap();
        check(&blob, &made, &archive);
        let found = entries(&archive).into_iter().map(|(entry, content)| (entry.path, content));
        let expected = ["early", "late", "nothing", "usual"]
            .map(|name| (name.into(), fs::read(place.join(name)).unwrap()));
        assert!(found.skip(1).take(4).eq(expected), "{format}");
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let tar = layer();
    let made = |threads| {
        let (_dir, store, diff_id) = stored(&tar);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| store.estargz(diff_id, 6).unwrap())
    };
    let one = made(1);
    for threads in [2, 3, 8] {
        assert_eq!(made(threads), one, "{threads}");
    }
}

#[test]
fn an_empty_layer_and_one_without_files_are_layers_too() {
    let mut dirs = Writer::new(Vec::new());
    for number in 0..20_000 {
        dirs.entry(&entry(&format!("{number}"), Kind::Directory)).unwrap();
    }
    for tar in [Writer::new(Vec::new()).finish().unwrap(), dirs.finish().unwrap(), Vec::new()] {
        let (_dir, store, diff_id) = stored(&tar);
        let (made, content) = store.estargz(diff_id, 1).unwrap();
        let blob = fs::read(store.blob_path(&made.digest)).unwrap();
        let mut archive = Vec::new();
        MultiGzDecoder::new(&blob[..]).read_to_end(&mut archive).unwrap();
        assert_eq!(DiffId(Digest::of(&archive)), content);
        check(&blob, &made, &archive);
    }
    let (_dir, store, diff_id) = stored(&layer()[..700]);
    assert!(store.estargz(diff_id, 6).is_err(), "an archive that is cut short");
}
