//! Archives as contexts: from a server, and from a reader.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::process::{Command, Stdio};

use builder::remote::{FetchError, Form, unpack_context};
use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::tar::Writer;
use registry::testing::{Registry, Setup};

use crate::support::{Place, remote, tree};

fn entry(path: &str, kind: Kind, mtime: i64) -> Entry {
    let (path, mtime) = (path.as_bytes().to_vec(), Time::from_seconds(mtime));
    Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

/// A tar of some files, at some time.
fn tar(files: &[(&str, &str)], mtime: i64) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, text) in files {
        let kind = match text.strip_prefix("-> ") {
            Some(target) => Kind::Symlink { target: target.as_bytes().to_vec() },
            None => Kind::File { size: text.len() as u64 },
        };
        let is_file = matches!(kind, Kind::File { .. });
        writer.entry(&entry(path, kind, mtime)).unwrap();
        if is_file {
            writer.write_data(text.as_bytes()).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// What a program makes of some bytes.
fn through(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut input, &bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output.stdout
}

const FILES: [(&str, &str); 3] = [("Dockerfile", "FROM x\n"), ("dir/a", "text"), ("tree", "-> dir/a")];

fn unpacked() -> BTreeMap<String, String> {
    tree(&[("Dockerfile", "FROM x\n"), ("dir", "/"), ("dir/a", "text"), ("tree", "-> dir/a")])
}

#[test]
fn archives_of_every_compression_are_contexts() {
    let plain = tar(&FILES, 0);
    let place = Place::new();
    let mut identities = Vec::new();
    for bytes in [
        plain.clone(),
        through("gzip", &plain),
        through("bzip2", &plain),
        through("xz", &plain),
        through("zstd", &plain),
        tar(&FILES, 1_000_000),
    ] {
        let found = unpack_context(&mut Cursor::new(bytes), &place.store, &*place.snapshots).unwrap();
        assert_eq!(place.files(&found), unpacked());
        identities.push(found.identity);
    }
    identities.dedup();
    assert_eq!(identities.len(), 1, "the same files are the same context, whenever and however packed");
    let other = tar(&[("Dockerfile", "FROM y\n")], 0);
    let other = unpack_context(&mut Cursor::new(other), &place.store, &*place.snapshots).unwrap();
    assert_ne!(other.identity, identities[0]);
    assert!(place.is_clean());
}

#[test]
fn what_is_no_archive_is_given_back() {
    let place = Place::new();
    let gzip = through("gzip", b"FROM x\n");
    for bytes in [b"FROM x\nRUN y\n".to_vec(), Vec::new(), gzip, vec![0xff; 100_000]] {
        let result = unpack_context(&mut Cursor::new(bytes.clone()), &place.store, &*place.snapshots);
        match result {
            Err(FetchError::NotAnArchive { head }) => assert!(head == bytes),
            other => panic!("{other:?}"),
        }
    }
    let mut long = Cursor::new(b"FROM x\n".to_vec()).chain(std::io::repeat(b'#').take(20 << 20));
    let result = unpack_context(&mut long, &place.store, &*place.snapshots);
    assert!(matches!(result, Err(FetchError::ContextTooLarge { .. })), "{result:?}");
    assert!(place.is_clean());
}

#[test]
fn a_hostile_archive_stays_inside() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = format!("-> {}", outside.display());
    let absolute = format!("{}/a", outside.display());
    for files in [
        vec![("../../../../../../../outside/a", "x")],
        vec![(absolute.as_str(), "x")],
        vec![("l", link.as_str()), ("l/a", "x")],
        vec![("l", "-> ../../../../outside"), ("l/a", "x")],
        vec![("l", "-> /"), ("l/outside", "x")],
        vec![("tree", link.as_str()), ("tree/a", "x")],
    ] {
        // Refused or confined, whichever: nothing appears outside.
        let bytes = tar(&files, 0);
        drop(unpack_context(&mut Cursor::new(bytes), &place.store, &*place.snapshots));
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{files:?}");
        assert!(place.is_clean(), "{files:?}");
    }
}

#[test]
fn a_damaged_archive_is_an_error() {
    let place = Place::new();
    let mut bytes = through("gzip", &tar(&[("a", &"x".repeat(100_000))], 0));
    bytes.truncate(bytes.len() / 2);
    let result = unpack_context(&mut Cursor::new(bytes), &place.store, &*place.snapshots);
    assert!(matches!(result, Err(FetchError::Store { .. })), "{result:?}");
    assert!(place.is_clean());
}

#[test]
fn a_server_has_archives_and_dockerfiles() {
    let server = Registry::start(Setup::default());
    let address = |bytes: &[u8]| {
        format!("http://{}/v2/app/blobs/{}", server.host(), server.put_blob("app", bytes).digest)
    };
    let place = Place::new();
    let (archive, text) = (through("gzip", &tar(&FILES, 0)), b"FROM x\n");
    let found = place.fetch(&remote(&address(&archive), Form::Context)).unwrap();
    assert_eq!(place.files(&found), unpacked());
    assert_eq!(found.name, "");
    let found = place.fetch(&remote(&address(text), Form::Context)).unwrap();
    assert_eq!(place.files(&found), tree(&[("Dockerfile", "FROM x\n")]));
    // As a source of ADD the same archive stays one.
    let found = place.fetch(&remote(&address(&archive), Form::Add)).unwrap();
    assert_eq!(place.files(&found).len(), 1);
    assert!(place.is_clean());
}
