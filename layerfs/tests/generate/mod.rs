//! Layers by chance, from a seed: few names, so that entries meet; and the text of a layer, for failures.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fmt::Write as _;

use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::tar::{Limits, Reader, Writer};

/// A sequence of numbers that looks like chance (Marsaglia's xorshift); equal seeds give equal sequences.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        let mut chance = Chance((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        // The first numbers still show the seed.
        for _ in 0..4 {
            chance.next();
        }
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`, which is not 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// True once in `of` times.
    pub(crate) fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// Few names, so that entries meet.
pub(crate) const PLAIN: &[&[u8]] = &[b"a", b"b", b"c", b"d"];

/// Names that ask more of a format: no text, long ones, signs that formats use themselves.
pub(crate) const ODD: &[&[u8]] =
    &[b"a", b"b", b"\xff\xfe", b"sp ace\n=", &[b'n'; 200], b"PaxHeaders.0", b"\xc3\xa9", b"-r"];

/// Paths of up to three components.
fn path(chance: &mut Chance, names: &[&[u8]]) -> Vec<u8> {
    let parts: Vec<&[u8]> = (0..=chance.below(3)).map(|_| *chance.one_of(names)).collect();
    parts.join(&b'/')
}

/// One layer, the `place`th of its stack; upper ones delete what may be below.
pub(crate) fn layer(chance: &mut Chance, place: usize, names: &[&[u8]]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    let mut made: Vec<Vec<u8>> = Vec::new();
    for number in 0..=chance.below(8) {
        let path = path(chance, names);
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..=slash], &path[slash + 1..]),
            None => (&b""[..], &path[..]),
        };
        let kind = match chance.below(if place == 0 { 8 } else { 11 }) {
            0..=2 => Kind::File { size: 0 },
            3 | 4 => Kind::Directory,
            5 => Kind::Symlink { target: link(chance, names) },
            // To what a lower layer may have, which some writers do.
            6 if place > 0 && chance.once_in(3) => Kind::HardLink { target: self::path(chance, names) },
            // To what the layer has made, as the specification has it.
            6 if !made.is_empty() => Kind::HardLink { target: chance.one_of(&made).clone() },
            6 => Kind::Fifo,
            7 => Kind::CharDevice { major: 1 + u32::try_from(chance.below(200)).unwrap(), minor: 3 },
            8 | 9 => {
                put(&mut tar, &[dir, b".wh.", name].concat(), Kind::File { size: 0 }, None, chance);
                continue;
            }
            _ => {
                put(&mut tar, &[&path, &b"/.wh..wh..opq"[..]].concat(), Kind::File { size: 0 }, None, chance);
                continue;
            }
        };
        if matches!(&kind, Kind::HardLink { target } if *target == path) {
            continue;
        }
        if matches!(kind, Kind::File { .. }) {
            made.push(path.clone());
        }
        put(&mut tar, &path, kind, Some(place * 100 + number), chance);
    }
    tar.finish().unwrap()
}

/// Where a link may lead: to names that may be there, in every form.
fn link(chance: &mut Chance, names: &[&[u8]]) -> Vec<u8> {
    let path = path(chance, names);
    match chance.below(4) {
        0 => [b"/", &path[..]].concat(),
        1 => [b"../", &path[..]].concat(),
        2 => [b"./", &path[..], b"/."].concat(),
        _ => path,
    }
}

/// Writes an entry whose attributes and content are its number's, or a mark without a number.
fn put(tar: &mut Writer<Vec<u8>>, path: &[u8], kind: Kind, number: Option<usize>, chance: &mut Chance) {
    let number = number.map(|number| u32::try_from(number).unwrap());
    let content = number.map_or(Vec::new(), |number| [path, number.to_string().as_bytes()].concat());
    let kind = match kind {
        Kind::File { .. } => Kind::File { size: content.len() as u64 },
        kind => kind,
    };
    let number = number.unwrap_or_default();
    let mut xattrs = std::collections::BTreeMap::new();
    if number % 5 == 1 {
        xattrs.insert(b"user.number".to_vec(), vec![0, b'=', b'\n', b'x']);
        xattrs.insert(b"security.other".to_vec(), b"stays behind".to_vec());
    }
    if number % 7 == 2 && matches!(kind, Kind::File { .. }) {
        xattrs.insert(b"security.capability".to_vec(), [&[1, 0, 0, 2][..], &[7; 16]].concat());
    }
    let entry = Entry {
        path: path.to_vec(),
        mode: *chance.one_of(&[0o755, 0o644, 0o1777, 0o4711, 0, 0o2750]),
        uid: *chance.one_of(&[0, 1, 65_534, 3_000_000, u32::MAX - 1]),
        gid: *chance.one_of(&[0, 7, 2_097_152]),
        mtime: Time::from_seconds(*chance.one_of(&[0, -1, 1 << 33, -(1 << 30)]) + i64::from(number)),
        xattrs,
        kind,
    };
    tar.entry(&entry).unwrap();
    if let Kind::File { .. } = entry.kind {
        tar.write_data(&content).unwrap();
    }
}

/// The names in a tar, a line each: `dir/`, `link -> target`, `name => first name`.
pub(crate) fn text(tar: &[u8]) -> String {
    let mut reader = Reader::new(tar, Limits::default());
    let mut out = String::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let path = entry.path.escape_ascii();
        match &entry.kind {
            Kind::Directory => writeln!(out, "{path}/"),
            Kind::Symlink { target } => writeln!(out, "{path} -> {}", target.escape_ascii()),
            Kind::HardLink { target } => writeln!(out, "{path} => {}", target.escape_ascii()),
            _ => writeln!(out, "{path}"),
        }
        .unwrap();
    }
    out
}
