//! The reader and the writer against each other, and against bytes made by hand.

use std::collections::BTreeMap;

use super::header::Header;
use super::*;
use crate::entry::{Entry, Kind, Time};

fn header(name: &str, flag: u8, size: u64) -> Vec<u8> {
    Header { name: name.into(), mode: 0o644, size, flag, ..Header::default() }.to_block().to_vec()
}

/// A header and its body.
fn with_body(name: &str, flag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, flag, body.len() as u64);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn extended(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        pax::push(&mut body, key.as_bytes(), value.as_bytes());
    }
    with_body("PaxHeaders.0", b'x', &body)
}

/// Every entry with its content, or what is wrong with the archive.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Problem> {
    let problem = |error| match error {
        crate::Error::Archive { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let mut reader = Reader::new(bytes, Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(problem)? {
        let mut content = Vec::new();
        let mut buffer = [0; 100];
        loop {
            match reader.read_data(&mut buffer).map_err(problem)? {
                0 => break,
                count => content.extend_from_slice(&buffer[..count]),
            }
        }
        entries.push((entry, content));
    }
    Ok(entries)
}

fn seen(bytes: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(read(bytes)?.iter().map(|(entry, content)| (text(&entry.path), text(content))).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Result<Vec<(String, String)>, Problem> {
    Ok(expected.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect())
}

#[test]
fn what_is_written_is_read() {
    let kinds = [
        Kind::File { size: 3 },
        Kind::Directory,
        Kind::Symlink { target: vec![b'\xff'; 300] },
        Kind::HardLink { target: b"other".to_vec() },
        Kind::CharDevice { major: 1, minor: 3 },
        Kind::BlockDevice { major: 4095, minor: 1_048_575 },
        Kind::Fifo,
    ];
    let names =
        [b"a".to_vec(), b"x".repeat(100), [&b"d/".repeat(60)[..], b"x"].concat(), b"\xff\xfe\n =".to_vec()];
    let times = [Time::from_seconds(0), Time::from_seconds(-1), Time::from_seconds(1 << 40)];
    for kind in &kinds {
        for path in &names {
            for mtime in times {
                let xattrs = BTreeMap::from([(b"user.x".to_vec(), b"\0=\n".to_vec())]);
                for (uid, xattrs) in [(0, BTreeMap::new()), (u32::MAX - 1, xattrs)] {
                    let (path, kind) = (path.clone(), kind.clone());
                    let entry = Entry { path, kind, mode: 0o7755, uid, gid: uid, mtime, xattrs };
                    let mut tar = Writer::new(Vec::new());
                    tar.entry(&entry).unwrap();
                    let content = if entry.kind == (Kind::File { size: 3 }) { &b"abc"[..] } else { b"" };
                    tar.write_data(content).unwrap();
                    let bytes = tar.finish().unwrap();
                    assert_eq!(bytes.len() % BLOCK, 0);
                    assert_eq!(read(&bytes).unwrap(), [(entry, content.to_vec())]);
                }
            }
        }
    }
}

#[test]
fn large_files_have_their_size_in_an_extended_header() {
    let size = (1 << 33) + 1;
    let (path, kind) = (b"big".to_vec(), Kind::File { size });
    let entry =
        Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime: Time::default(), xattrs: BTreeMap::new() };
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).entry(&entry).unwrap();
    assert_eq!(bytes.len(), 3 * BLOCK);
    assert_eq!(Reader::new(&bytes[..], Limits::default()).next_entry().unwrap(), Some(entry));
}

#[test]
fn an_extended_size_always_counts() {
    // A reader that goes by the header's size sees `smuggled` as an entry (CVE-2025-62518, CVE-2026-33055).
    let smuggled = with_body("smuggled", b'0', b"");
    for header_size in [0, 1] {
        let mut bytes = extended(&[("size", "512")]);
        bytes.extend(header("outer", b'0', header_size));
        bytes.extend(&smuggled);
        let entries = read(&bytes).unwrap();
        assert_eq!(entries.len(), 1, "{header_size}");
        assert_eq!(entries[0].1, smuggled);
    }
}

#[test]
fn an_extended_header_is_about_the_next_real_entry() {
    let long = "n/".repeat(100) + "end";
    // GHSA-3cv2-h65g-fgmm: the size must not apply to the long name's header.
    let mut bytes = extended(&[("size", "2")]);
    bytes.extend(with_body("././@LongLink", b'L', format!("{long}\0").as_bytes()));
    bytes.extend(with_body("short", b'0', b"ok"));
    bytes.extend(with_body("next", b'0', b"x"));
    assert_eq!(seen(&bytes), pairs(&[(&long, "ok"), ("next", "x")]));
}

#[test]
fn what_readers_disagree_about_is_refused() {
    let file = with_body("f", b'0', b"x");
    let table = [
        ([extended(&[("size", "1")]), extended(&[("path", "g")])].concat(), Problem::RepeatedHeader),
        ([extended(&[("path", "g")]), with_body("L", b'L', b"h\0")].concat(), Problem::RepeatedHeader),
        (with_body("g", b'g', b"11 path=ab\n"), Problem::GlobalHeader),
        (extended(&[("GNU.sparse.major", "1")]), Problem::Sparse),
        (extended(&[("GNU.sparse.unknown", "1")]), Problem::Sparse),
        (header("m", b'M', 0), Problem::Kind { flag: b'M' }),
        (with_body("x", b'x', b"99 path=g\n"), Problem::ExtendedHeader),
        (with_body("x", b'x', b"7 path=\n"), Problem::ExtendedHeader),
        (with_body("x", b'x', b"0 \n"), Problem::ExtendedHeader),
        (extended(&[("size", "-1")]), Problem::Number { field: "size" }),
        (extended(&[("uid", "4294967295")]), Problem::Number { field: "uid" }),
        (extended(&[("path", "a\0b")]), Problem::Nul),
        (header("", b'0', 0), Problem::Nameless),
        (header("l", b'2', 0), Problem::Nameless),
    ];
    for (mut bytes, expected) in table {
        bytes.extend(&file);
        assert_eq!(seen(&bytes), Err(expected));
    }
    assert_eq!(seen(&extended(&[("path", "g")])), Err(Problem::Truncated));
    let mut damaged = file;
    damaged[0] ^= 1;
    assert_eq!(seen(&damaged), Err(Problem::Checksum));
}

#[test]
fn only_plain_files_are_sparse() {
    // Data that one reader skips and another takes for headers is where archives smuggle.
    let records = |name| [("GNU.sparse.map", "0,512"), ("GNU.sparse.size", "512"), ("GNU.sparse.name", name)];
    for (name, own, flag, is_read) in [
        ("s", "f", b'0', true),
        ("s", "f/", b'0', false),
        ("s/", "f", b'0', false),
        ("s", "f", b'5', false),
        ("s", "f", b'2', false),
        ("s", "f", b'S', false),
    ] {
        let mut bytes = extended(&records(name));
        bytes.extend(header(own, flag, 512));
        bytes.extend(with_body("inner", b'0', b""));
        match seen(&bytes) {
            Ok(entries) => assert!(is_read && entries.len() == 1 && entries[0].0 == "s", "{name} {own}"),
            Err(problem) => assert!(!is_read && problem == Problem::Sparse, "{name} {own}: {problem}"),
        }
    }
}

#[test]
fn old_forms_are_read() {
    let mut comment = with_body("pax_global_header", b'g', b"13 comment=x\n");
    comment.extend(with_body("dir/", b'0', b""));
    comment.extend(with_body("old", 0, b"x"));
    assert_eq!(seen(&comment), pairs(&[("dir", ""), ("old", "x")]));
    // A prefix counts in POSIX's form only.
    for (magic, expected) in [(b"ustar\x0000", "pre/name"), (b"ustar  \0", "name")] {
        let mut block: [u8; BLOCK] = header("name", b'0', 0).try_into().unwrap();
        block[257..265].copy_from_slice(magic);
        block[345..348].copy_from_slice(b"pre");
        resum(&mut block);
        assert_eq!(seen(&block), pairs(&[(expected, "")]));
    }
    // GNU's numbers in base 256, the negative time among them.
    let mut block: [u8; BLOCK] = header("name", b'0', 0).try_into().unwrap();
    block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
    block[136..148].copy_from_slice(&[0xff; 12]);
    resum(&mut block);
    let entry = &read(&block).unwrap()[0].0;
    assert_eq!((entry.uid, entry.mtime.seconds), (u32::MAX - 1, -1));
    block[108..116].copy_from_slice(&[0xff; 8]);
    resum(&mut block);
    assert_eq!(seen(&block), Err(Problem::Number { field: "uid" }));
}

fn resum(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn times_with_fractions() {
    let time = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
    for (text, expected) in [
        ("12", time(12, 0)),
        ("12.5", time(12, 500_000_000)),
        ("12.0000000019", time(12, 1)),
        ("-1", time(-1, 0)),
        ("-0.25", time(-1, 750_000_000)),
        ("-1.5", time(-2, 500_000_000)),
        ("", None),
        ("1.x", None),
        ("+1", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(pax::time(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn names_are_normalised() {
    for (path, expected) in [
        ("/a//b/./c/", Ok("a/b/c")),
        ("./", Ok("")),
        ("a/..", Err(Problem::ParentDirectory)),
        ("..a/b..", Ok("..a/b..")),
    ] {
        let expected = expected.map(|text| text.as_bytes().to_vec());
        assert_eq!(normalise(path.as_bytes(), &Limits::default()), expected, "{path}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut valid = extended(&[("path", "p"), ("mtime", "1.5"), ("size", "3")]);
    valid.extend(with_body("f", b'0', b"abc"));
    valid.extend(with_body("././@LongLink", b'K', b"target\0"));
    valid.extend(header("l", b'2', 0));
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    let mut refused = 0;
    for _ in 0..5_000 {
        let mut bytes = valid.clone();
        for _ in 0..1 + random() % 4 {
            let place = random() % bytes.len();
            bytes[place] = u8::try_from(random() % 256).unwrap();
        }
        // With fitting checksums the changes get further.
        for start in (0..bytes.len()).step_by(BLOCK) {
            let block: &mut [u8; BLOCK] = (&mut bytes[start..start + BLOCK]).try_into().unwrap();
            if &block[257..262] == b"ustar" {
                resum(block);
            }
        }
        bytes.truncate(random() % (bytes.len() + 1));
        refused += u32::from(read(&bytes).is_err());
    }
    assert!(refused > 500, "{refused}");
}
