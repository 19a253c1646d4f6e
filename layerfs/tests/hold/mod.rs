//! What must hold for every archive whatever: each function takes bytes and panics where it does not. Nothing that is
//! read may panic itself, lead out of the root, or be read in two ways.
//!
//! Called by `layerfs/tests/fuzz.rs` with bytes of its own making, and by the targets of `fuzz/`.
#![allow(dead_code, unreachable_pub, reason = "each target of `fuzz/` takes one function of this file")]

use std::io::Read;

use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::tar::{Limits, Reader, Writer};

/// Small enough that a bomb costs no time.
const LIMITS: Limits = Limits {
    entries: 1000,
    content_bytes: 1 << 22,
    hole_bytes: 1 << 21,
    metadata_bytes: 1 << 20,
    path_bytes: 4096,
    names_bytes: 1 << 22,
};

type Entries = Vec<(Entry, Vec<u8>, u64)>;

/// A source that gives few bytes at a time.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(&mut buffer[..most])
    }
}

/// Entries with their contents and places, up to the first that is refused; whether any was.
fn read(source: impl Read, piece: usize) -> (Entries, bool) {
    let mut reader = Reader::new(source, LIMITS);
    let mut entries = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match reader.next_entry() {
            Ok(None) => return (entries, false),
            Err(_) => return (entries, true),
            Ok(Some(entry)) => {
                let mut content = Vec::new();
                loop {
                    match reader.read_data(&mut buffer) {
                        Ok(0) => break,
                        Ok(count) => content.extend_from_slice(&buffer[..count]),
                        Err(_) => return (entries, true),
                    }
                }
                entries.push((entry, content, reader.entry_offset()));
            }
        }
    }
}

/// An archive.
pub fn archive(bytes: &[u8]) {
    let (entries, is_refused) = read(bytes, 4096);
    // However the bytes come, they mean the same.
    assert!(read(Slow(bytes, 7), 13) == (entries.clone(), is_refused), "read in two ways");
    for (entry, content, offset) in &entries {
        check(entry, content);
        let there = &bytes[usize::try_from(*offset).expect("a place in the archive")..];
        let again = Reader::new(there, LIMITS).next_entry().expect("it was read before");
        assert_eq!(again.as_ref(), Some(entry), "another entry at its own place");
    }
    // What was read can be written, and then is the same, to the second.
    let mut tar = Writer::new(Vec::new());
    for (entry, content, _) in &entries {
        let name = |name: &Vec<u8>| !name.contains(&b'=') && !name.is_empty();
        if entry.xattrs.keys().all(name) {
            tar.entry(entry).expect("memory is large enough");
            tar.write_data(content).expect("as much as the entry says");
        }
    }
    let (again, is_refused) = read(&tar.finish().expect("whole entries")[..], 4096);
    assert!(!is_refused, "what was written is refused");
    let writable = entries
        .into_iter()
        .filter(|(entry, ..)| entry.xattrs.keys().all(|name| !name.contains(&b'=') && !name.is_empty()));
    for ((mut entry, content, _), (found, found_content, _)) in writable.zip(again) {
        entry.mtime = Time::from_seconds(entry.mtime.seconds);
        assert_eq!((entry, content), (found, found_content), "other than it was written");
    }
}

fn check(entry: &Entry, content: &[u8]) {
    assert!(is_inside(&entry.path), "{:?}", entry.path);
    assert!(entry.mode <= 0o7777 && entry.uid != u32::MAX && entry.gid != u32::MAX);
    assert!(entry.mtime.nanoseconds < 1_000_000_000);
    assert!(!entry.path.is_empty() || entry.kind == Kind::Directory);
    match &entry.kind {
        Kind::File { size } => assert_eq!(*size, content.len() as u64),
        Kind::HardLink { target } => assert!(is_inside(target) && *target != entry.path),
        Kind::Symlink { target } => assert!(!target.is_empty() && !target.contains(&0)),
        _ => assert!(content.is_empty()),
    }
}

/// A path that leads nowhere out of the root, in the form of [`Entry::path`].
fn is_inside(path: &[u8]) -> bool {
    let is_name =
        |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0) && name.len() <= 259;
    path.is_empty() || path.split(|byte| *byte == b'/').all(is_name)
}

/// The records of an extended header, before a file and before a link.
pub fn records(bytes: &[u8]) {
    for flag in [b'0', b'2'] {
        let mut all = header(b"PaxHeaders.0", b'x', bytes.len());
        all.extend_from_slice(bytes);
        all.resize(all.len().next_multiple_of(512), 0);
        let mut file = header(b"name", flag, if flag == b'0' { 1024 } else { 0 });
        file[157] = b't';
        sum(&mut file);
        all.extend_from_slice(&file);
        all.extend_from_slice(b"2\n0\n1\n600\n2\n");
        all.resize(all.len().next_multiple_of(512) + 512, 0);
        archive(&all);
    }
}

/// A header block.
pub fn header(name: &[u8], flag: u8, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    for (place, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000")] {
        block[place..place + text.len()].copy_from_slice(text.as_bytes());
    }
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut block);
    block
}

/// Makes the checksum of a header fit.
pub fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Whatever is compressed comes back, as one block and as several. The first byte says the level, the second how often
/// the rest is repeated, the third where it is cut.
pub fn deflate(data: &[u8]) {
    let [level, times, cut, rest @ ..] = data else { return };
    let bytes = rest.repeat(usize::from(*times).min((1 << 18) / rest.len().max(1)) + 1);
    let bytes = &bytes[..bytes.len().min(layerfs::layer::deflate::MOST)];
    let (before, block) = bytes.split_at(bytes.len() * usize::from(*cut) / 256);
    let mut compressor = layerfs::layer::deflate::Deflate::new(u32::from(level % 10));
    let mut packed = compressor.block(&[], before, false);
    packed.extend(compressor.block(before, block, true));
    packed.extend(compressor.block(&[], bytes, true));
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut decoder = flate2::bufread::DeflateDecoder::new(&packed[..]);
    decoder.read_to_end(&mut first).expect("a stream of two blocks");
    let mut decoder = flate2::bufread::DeflateDecoder::new(decoder.into_inner());
    decoder.read_to_end(&mut second).expect("a stream of one");
    assert!(decoder.into_inner().is_empty(), "nothing is left over");
    assert!(first == bytes && second == bytes, "what was compressed comes back");
}
