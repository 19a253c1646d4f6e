//! Entries to tar, deterministically.
//!
//! Only fields that do not fit their place in the header go into an extended header, in order of their keys.
//! Users and groups have no names, times are whole seconds, and nothing follows the two blocks at the end.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::header::{Header, MAX_ID, MAX_LONG, MAX_NAME};
use super::{BLOCK, BLOCK_BYTES, pax};
use crate::entry::{Entry, Kind};

/// Extended headers have this name for everybody who does not know what they are.
const PAX_NAME: &[u8] = b"PaxHeaders.0";

/// Writes an archive.
pub struct Writer<W> {
    out: W,
    /// Bytes of the present entry that have not come yet, and the zeros that must follow.
    pending: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// An archive that goes to `out`.
    pub fn new(out: W) -> Writer<W> {
        Writer { out, pending: 0, padding: 0 }
    }

    /// Begins an entry; the bytes of a file follow by [`Writer::write_data`].
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.finish_entry()?;
        self.out.write_all(&headers(entry))?;
        if let Kind::File { size } = entry.kind {
            self.pending = size;
            self.padding = padding(size);
        }
        Ok(())
    }

    /// Writes bytes of the present file: in all as many as its entry said.
    pub fn write_data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending = self
            .pending
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "more bytes than the entry's size"))?;
        self.out.write_all(bytes)
    }

    /// Ends the archive and gives `out` back.
    pub fn finish(mut self) -> io::Result<W> {
        self.finish_entry()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn finish_entry(&mut self) -> io::Result<()> {
        if self.pending != 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "fewer bytes than the entry's size"));
        }
        self.out.write_all(&[0; BLOCK][..self.padding])?;
        self.padding = 0;
        Ok(())
    }
}

/// How many zeros follow `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    usize::try_from(size % BLOCK_BYTES).map_or(0, |over| (BLOCK - over) % BLOCK)
}

/// An entry's header, after its extended header if it needs one.
pub(crate) fn headers(entry: &Entry) -> Vec<u8> {
    let mut header = Header {
        name: entry.path.clone(),
        mode: entry.mode,
        uid: entry.uid.into(),
        gid: entry.gid.into(),
        mtime: entry.mtime.seconds,
        ..Header::default()
    };
    header.flag = match &entry.kind {
        Kind::File { size } => {
            header.size = *size;
            b'0'
        }
        Kind::HardLink { target } => {
            header.link.clone_from(target);
            b'1'
        }
        Kind::Symlink { target } => {
            header.link.clone_from(target);
            b'2'
        }
        Kind::CharDevice { major, minor } => {
            (header.major, header.minor) = (*major, *minor);
            b'3'
        }
        Kind::BlockDevice { major, minor } => {
            (header.major, header.minor) = (*major, *minor);
            b'4'
        }
        Kind::Directory => {
            header.name.push(b'/');
            b'5'
        }
        Kind::Fifo => b'6',
    };
    let records = records(&header, entry);
    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let mut body = Vec::new();
        for (key, value) in &records {
            pax::push(&mut body, key, value);
        }
        let size = body.len() as u64;
        let extended = Header { name: PAX_NAME.to_vec(), mode: 0o644, size, flag: b'x', ..Header::default() };
        bytes.extend_from_slice(&extended.to_block());
        bytes.extend_from_slice(&body);
        bytes.resize(bytes.len() + padding(size), 0);
        // Readers that know no PAX see a name that they can at least print.
        header.name.retain(u8::is_ascii);
        header.link.retain(u8::is_ascii);
    }
    bytes.extend_from_slice(&header.to_block());
    bytes
}

/// What of an entry its header cannot hold.
fn records(header: &Header, entry: &Entry) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    let mut number = |key: &str, value: i128, fits: bool| {
        if !fits {
            records.insert(key.as_bytes().to_vec(), value.to_string().into_bytes());
        }
    };
    number("uid", header.uid.into(), header.uid <= MAX_ID.into());
    number("gid", header.gid.into(), header.gid <= MAX_ID.into());
    number("size", header.size.into(), header.size <= MAX_LONG);
    number("mtime", header.mtime.into(), u64::try_from(header.mtime).is_ok_and(|mtime| mtime <= MAX_LONG));
    let mut text = |key: &str, value: &[u8]| {
        if value.len() > MAX_NAME || !value.is_ascii() {
            records.insert(key.as_bytes().to_vec(), value.to_vec());
        }
    };
    text("path", &header.name);
    text("linkpath", &header.link);
    for (name, value) in &entry.xattrs {
        records.insert([pax::XATTR, name].concat(), value.clone());
    }
    records
}
