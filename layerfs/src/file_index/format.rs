//! An index as bytes. No I/O.
//!
//! ```text
//! magic, version              8 bytes: `lbfiles` and the version
//! digest of what follows      32 bytes
//! zstd of:
//!   diff id                   32 bytes
//!   size of the tar, number of entries
//!   entries: distance from the one before, path (how much of the last path it begins with, and the rest),
//!            kind, mode, owner, group, time, attributes, what the kind needs
//! ```
//!
//! Numbers are in base 128, the low digits first, the top bit set on all but the last byte; signed ones have their
//! sign in the lowest bit. What does not read back in full is no index: it is made again, never repaired.

use std::collections::BTreeMap;

use oci::{DiffId, Digest};

use super::{FileIndex, Record};
use crate::entry::{Entry, Kind, Time};

/// Count up whenever the form changes, or what is read from a layer.
pub(super) const VERSION: u8 = 1;

const MAGIC: &[u8; 7] = b"lbfiles";

/// Writes an index.
pub(super) fn encode(index: &FileIndex) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(64 * index.records.len());
    out.extend_from_slice(index.diff_id.0.as_bytes());
    put_number(&mut out, index.size_bytes);
    put_number(&mut out, index.records.len() as u64);
    let (mut offset, mut path): (u64, &[u8]) = (0, b"");
    for record in &index.records {
        put_number(&mut out, record.offset.saturating_sub(offset));
        put_entry(&mut out, &record.entry, path);
        if let Some(content) = &record.content {
            out.extend_from_slice(content.as_bytes());
        }
        (offset, path) = (record.offset, &record.entry.path);
    }
    let body = zstd::bulk::compress(&out, 3)?;
    let digest = Digest::of(&body);
    Ok([MAGIC, &[VERSION][..], digest.as_bytes(), &body].concat())
}

/// Reads an index; none for what is damaged or of another version.
pub(super) fn decode(bytes: &[u8]) -> Option<FileIndex> {
    let body = bytes.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    let (digest, body) = body.split_at_checked(32)?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let payload = zstd::stream::decode_all(body).ok()?;
    let mut from = Bytes(&payload);
    let diff_id = DiffId(from.digest()?);
    let size_bytes = from.number()?;
    let count = usize::try_from(from.number()?).ok()?;
    // No entry takes less than a dozen bytes.
    let mut records: Vec<Record> = Vec::with_capacity(count.min(payload.len() / 12));
    for _ in 0..count {
        let last = records.last();
        let offset = last.map_or(0, |last| last.offset).checked_add(from.number()?)?;
        let entry = from.entry(last.map_or(b"", |last| &last.entry.path))?;
        let content = match entry.kind {
            Kind::File { .. } => Some(from.digest()?),
            _ => None,
        };
        records.push(Record { entry, content, offset });
    }
    from.0.is_empty().then_some(FileIndex { diff_id, size_bytes, records })
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, before: &[u8]) {
    let shared = before.iter().zip(&entry.path).take_while(|(one, other)| one == other).count();
    put_number(out, shared as u64);
    put_bytes(out, &entry.path[shared..]);
    out.push(code(&entry.kind));
    for number in [entry.mode, entry.uid, entry.gid] {
        put_number(out, number.into());
    }
    let seconds = entry.mtime.seconds;
    put_number(out, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
    put_number(out, entry.mtime.nanoseconds.into());
    put_number(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
    match &entry.kind {
        Kind::File { size } => put_number(out, *size),
        Kind::Symlink { target } | Kind::HardLink { target } => put_bytes(out, target),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put_number(out, (*major).into());
            put_number(out, (*minor).into());
        }
        Kind::Directory | Kind::Fifo => {}
    }
}

/// Kinds have tar's letters.
fn code(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => b'0',
        Kind::HardLink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharDevice { .. } => b'3',
        Kind::BlockDevice { .. } => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let count = usize::try_from(self.number()?).ok()?;
        Some(self.take(count)?.to_vec())
    }

    fn digest(&mut self) -> Option<Digest> {
        Some(Digest::from_bytes(self.take(32)?.try_into().ok()?))
    }

    fn entry(&mut self, before: &[u8]) -> Option<Entry> {
        let shared = usize::try_from(self.number()?).ok()?;
        let mut path = before.get(..shared)?.to_vec();
        path.extend(self.bytes()?);
        let code = self.take(1)?[0];
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let folded = self.number()?;
        let seconds = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
        let mtime = Time { seconds, nanoseconds: self.small()? };
        let mut xattrs = BTreeMap::new();
        for _ in 0..self.number()? {
            xattrs.insert(self.bytes()?, self.bytes()?);
        }
        let kind = match code {
            b'0' => Kind::File { size: self.number()? },
            b'1' => Kind::HardLink { target: self.bytes()? },
            b'2' => Kind::Symlink { target: self.bytes()? },
            b'3' => Kind::CharDevice { major: self.small()?, minor: self.small()? },
            b'4' => Kind::BlockDevice { major: self.small()?, minor: self.small()? },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => return None,
        };
        Some(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FileIndex {
        let kinds = [
            Kind::Directory,
            Kind::File { size: u64::MAX },
            Kind::Symlink { target: b"\xff/..".to_vec() },
            Kind::HardLink { target: b"a/f".to_vec() },
            Kind::CharDevice { major: u32::MAX, minor: 0 },
            Kind::BlockDevice { major: 8, minor: 1 },
            Kind::Fifo,
        ];
        let record = |(place, kind): (usize, Kind)| {
            let seconds = [0, -1, i64::MIN, i64::MAX][place % 4];
            let entry = Entry {
                path: [&b"a/"[..], &[b'\xfe'; 3], place.to_string().as_bytes()].concat(),
                mode: 0o7777,
                uid: u32::MAX - 1,
                gid: 0,
                mtime: Time { seconds, nanoseconds: 999_999_999 },
                xattrs: BTreeMap::from([(b"user.x".to_vec(), vec![0; place])]),
                kind,
            };
            let content = matches!(entry.kind, Kind::File { .. }).then(|| Digest::of(b"content"));
            Record { entry, content, offset: 512 * place as u64 }
        };
        let records = kinds.into_iter().enumerate().map(record).collect();
        FileIndex { diff_id: DiffId(Digest::of(b"tar")), size_bytes: 1 << 40, records }
    }

    #[test]
    fn what_is_written_is_read() {
        let empty = FileIndex { records: Vec::new(), ..sample() };
        for index in [sample(), empty] {
            assert_eq!(decode(&encode(&index).unwrap()), Some(index));
        }
    }

    #[test]
    fn what_is_damaged_is_no_index() {
        let bytes = encode(&sample()).unwrap();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_eq!(decode(&damaged), None, "{place}");
            assert_eq!(decode(&bytes[..place]), None, "{place}");
        }
    }

    #[test]
    fn no_payload_makes_it_panic() {
        let payload = zstd::stream::decode_all(&encode(&sample()).unwrap()[40..]).unwrap();
        let mut refused = 0;
        for place in 0..payload.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = payload.clone();
                changed[place] = value;
                let body = zstd::bulk::compress(&changed, 1).unwrap();
                let digest = Digest::of(&body);
                refused +=
                    u32::from(decode(&[MAGIC, &[VERSION][..], digest.as_bytes(), &body].concat()).is_none());
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
