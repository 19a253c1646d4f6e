//! eStargz: a gzip layer out of which single files can be read.
//! (<https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md>.)
//!
//! The archive is cut into pieces, each a gzip member of its own: what stands before a file's content and each chunk of
//! the content begin a new one. Behind the last entry comes one more, the table of contents, in JSON; and behind that a
//! member without content, the footer, which says where the table's member begins. Any gunzip reads the whole.
//!
//! Order: pieces are gathered until there is a batch, compressed side by side, written in order; a table line waits
//! until the offset of its piece is known, and then goes into a file without a name. So memory is that of a batch,
//! whatever the size of the layer, and equal archives give equal bytes whatever the number of threads.
//!
//! The headers are copied as they are, but for those of sparse files: they tell of what is stored, and a chunk is what
//! the file shows. The table and the landmark are entries of the archive, so its digest is another: what has them already
//! loses them first.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use oci::{Compression, Digest, Hasher};
use rayon::prelude::*;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::codec::{Codec, gzip_member};
use super::deflate::Deflate;
use super::tar::{BLOCK, Limits, Reader, headers, padding};
use crate::entry::{Entry, Kind, Time};
use crate::hash::Hashed;
use crate::{Error, Result};

/// The annotation of a layer that holds the digest of its table, by which all else in it can be verified.
pub const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The annotation of a layer that holds the size of its archive in bytes.
pub const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// The entry that is the table.
const TOC: &str = "stargz.index.json";

/// The entry that says that no files are to be fetched ahead of others; its content is one byte.
const LANDMARK: &str = ".no.prefetch.landmark";
const LANDMARK_CONTENT: u8 = 0xf;

/// The entry that says where those end that are.
const PREFETCH_LANDMARK: &str = ".prefetch.landmark";

/// The longest piece of a file's content, in bytes; other pieces are not longer. Part of the format.
const CHUNK_BYTES: usize = 4 << 20;

/// How much is compressed at once: bytes, and pieces.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_PIECES: usize = 4096;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The digest of the table.
    pub(crate) toc: Digest,
    /// The digest of the archive with the table in it.
    pub(crate) diff_id: Digest,
    /// The size of that archive in bytes.
    pub(crate) size_bytes: u64,
}

/// Writes the archive `source` as eStargz to `out`; the table is kept in `spool` meanwhile, a new file.
pub(crate) fn write(source: &mut dyn Read, out: &mut dyn Write, spool: File, level: u32) -> Result<Written> {
    let mut reader = Reader::new(Recorder { source, seen: Vec::new() }, Limits::default());
    let mut pieces = Pieces::new(out, spool, level);
    pieces.landmark()?;
    while let Some(entry) = reader.next_entry()? {
        let seen = std::mem::take(&mut reader.get_mut().seen);
        let Kind::File { size } = entry.kind else {
            pieces.headers(&seen)?;
            pieces.other(&entry);
            continue;
        };
        if is_own(&entry.path) {
            io::copy(&mut Content(&mut reader), &mut io::sink()).map_err(read_error)?;
            continue;
        }
        match reader.is_sparse() {
            true => pieces.headers(&headers(&entry))?,
            false => pieces.headers(&seen)?,
        }
        pieces.file(&entry, size, &mut reader)?;
    }
    // What follows the archive's end is left out, and read: only at its own end a source says that it was damaged.
    io::copy(reader.into_inner().source, &mut io::sink()).map_err(read_error)?;
    pieces.finish()
}

/// Whether an entry is what this format adds to an archive.
fn is_own(path: &[u8]) -> bool {
    [TOC, LANDMARK, PREFETCH_LANDMARK].iter().any(|name| path == name.as_bytes())
}

/// One of them.
fn own_entry(name: &str, size: u64) -> Entry {
    let (path, kind, mtime) = (name.as_bytes().to_vec(), Kind::File { size }, Time::default());
    Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

/// Keeps what passes, until it is taken.
struct Recorder<'a> {
    source: &'a mut dyn Read,
    seen: Vec<u8>,
}

impl Read for Recorder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.seen.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// The content of the present entry.
struct Content<'r, 'a>(&'r mut Reader<Recorder<'a>>);

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read_data(buffer).map_err(io::Error::other)?;
        self.0.get_mut().seen.clear();
        Ok(count)
    }
}

/// A line of the table. The names are the format's.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero_u32")]
    dev_major: u32,
    #[serde(skip_serializing_if = "is_zero_u32")]
    dev_minor: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

impl Line {
    fn of(entry: &Entry) -> Line {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut line = Line {
            name: text(&entry.path),
            modified: (entry.mtime != Time::default()).then(|| rfc3339(entry.mtime.seconds)).flatten(),
            mode: Some(entry.mode),
            uid: Some(entry.uid),
            gid: Some(entry.gid),
            xattrs: entry.xattrs.iter().map(|(name, value)| (text(name), BASE64.encode(value))).collect(),
            ..Line::default()
        };
        line.kind = match &entry.kind {
            Kind::File { size } => {
                line.size = *size;
                "reg"
            }
            Kind::Directory => {
                line.name.push('/');
                "dir"
            }
            Kind::Symlink { target } => {
                line.link_name = Some(text(target));
                "symlink"
            }
            Kind::HardLink { target } => {
                line.link_name = Some(text(target));
                "hardlink"
            }
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                (line.dev_major, line.dev_minor) = (*major, *minor);
                if matches!(entry.kind, Kind::CharDevice { .. }) { "char" } else { "block" }
            }
            Kind::Fifo => "fifo",
        };
        line
    }
}

/// The archive in pieces, on its way out.
struct Pieces<'a> {
    out: &'a mut dyn Write,
    level: u32,
    /// The piece in the making.
    piece: Vec<u8>,
    batch: Vec<Vec<u8>>,
    batch_bytes: usize,
    /// Where each piece that was written begins.
    offsets: Vec<u64>,
    written: u64,
    archive: Hasher,
    /// Lines whose pieces have not been written, and the numbers of these.
    waiting: VecDeque<(Option<usize>, Line)>,
    table: Table,
}

impl<'a> Pieces<'a> {
    fn new(out: &'a mut dyn Write, spool: File, level: u32) -> Pieces<'a> {
        Pieces {
            out,
            level,
            piece: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            offsets: Vec::new(),
            written: 0,
            archive: Hasher::new(),
            waiting: VecDeque::new(),
            table: Table::new(spool),
        }
    }

    /// Adds bytes to the piece in the making.
    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.archive.update(bytes);
        while !bytes.is_empty() {
            let room = CHUNK_BYTES + BLOCK - self.piece.len();
            if room == 0 {
                self.begin()?;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Begins a new piece; gives its number.
    fn begin(&mut self) -> Result<usize> {
        if !self.piece.is_empty() {
            let piece = std::mem::take(&mut self.piece);
            self.batch_bytes += piece.len();
            self.batch.push(piece);
        }
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_PIECES {
            self.flush()?;
        }
        Ok(self.offsets.len() + self.batch.len())
    }

    /// Writes what is complete, and the lines that waited for it.
    fn flush(&mut self) -> Result<()> {
        let level = self.level;
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let members: Vec<Vec<u8>> = batch
            .into_par_iter()
            .map_init(|| Deflate::new(level), |deflate, piece| gzip_member(deflate, &piece))
            .collect();
        for member in members {
            self.offsets.push(self.written);
            self.written += member.len() as u64;
            self.out.write_all(&member).map_err(write_error)?;
        }
        while let Some((piece, _)) = self.waiting.front() {
            let offset = match piece {
                None => 0,
                Some(number) => match self.offsets.get(*number) {
                    None => break,
                    Some(offset) => *offset,
                },
            };
            let (_, mut line) = self.waiting.pop_front().expect("it is at the front");
            line.offset = offset;
            self.table.push(&line).map_err(write_error)?;
        }
        Ok(())
    }

    /// Adds the zeros that fill the last block of what there is.
    fn pad(&mut self) -> Result<()> {
        self.add(&[0; BLOCK][..padding(self.archive.bytes())])
    }

    /// Adds headers; what comes before their first block belongs to the entry before, which may be another one here.
    fn headers(&mut self, blocks: &[u8]) -> Result<()> {
        self.pad()?;
        self.add(&blocks[blocks.len() % BLOCK..])
    }

    fn landmark(&mut self) -> Result<()> {
        let entry = own_entry(LANDMARK, 1);
        self.headers(&headers(&entry))?;
        let piece = self.begin()?;
        self.add(&[LANDMARK_CONTENT])?;
        let digest = Digest::of(&[LANDMARK_CONTENT]);
        let line = Line { digest: Some(digest), chunk_digest: Some(digest), ..Line::of(&entry) };
        self.waiting.push_back((Some(piece), line));
        Ok(())
    }

    /// The line of an entry that has no content.
    fn other(&mut self, entry: &Entry) {
        self.waiting.push_back((None, Line::of(entry)));
    }

    /// The content of a file whose header was added, and its lines.
    fn file(&mut self, entry: &Entry, size: u64, reader: &mut Reader<Recorder<'_>>) -> Result<()> {
        let mut line = Line::of(entry);
        if size == 0 {
            line.digest = Some(Digest::of(b""));
            self.waiting.push_back((None, line));
            return Ok(());
        }
        let mut whole = Hasher::new();
        let mut lines = Vec::new();
        let mut done: u64 = 0;
        while done < size {
            let number = self.begin()?;
            let chunk_bytes = usize::try_from(size - done).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let mut chunk = vec![0; chunk_bytes];
            Content(reader).read_exact(&mut chunk).map_err(read_error)?;
            whole.update(&chunk);
            self.add(&chunk)?;
            line.chunk_offset = done;
            // The last chunk is what is left.
            line.chunk_size = if chunk_bytes == CHUNK_BYTES { CHUNK_BYTES as u64 } else { 0 };
            line.chunk_digest = Some(Digest::of(&chunk));
            let next = Line { name: line.name.clone(), kind: "chunk", ..Line::default() };
            lines.push((Some(number), std::mem::replace(&mut line, next)));
            done += chunk_bytes as u64;
        }
        lines[0].1.digest = Some(whole.finish());
        self.waiting.extend(lines);
        Ok(())
    }

    /// The table and the footer.
    fn finish(mut self) -> Result<Written> {
        self.pad()?;
        self.begin()?;
        self.flush()?;
        let begin = self.written;
        let (table, toc_bytes, toc) = self.table.finish().map_err(write_error)?;
        let headers = headers(&own_entry(TOC, toc_bytes));
        // The zeros of its last block, and the two that end the archive.
        let zeros = [0; 3 * BLOCK];
        let zeros = &zeros[..padding(toc_bytes) + 2 * BLOCK];
        let source = headers.as_slice().chain(table).chain(zeros);
        let mut source = Hashed { source, hasher: self.archive };
        let codec = Codec { compression: Compression::Gzip, level: self.level };
        codec.compress(&mut source, self.out, rayon::current_num_threads()).map_err(write_error)?;
        self.out.write_all(&footer(begin)).map_err(write_error)?;
        let size_bytes = source.hasher.bytes();
        Ok(Written { toc, diff_id: source.hasher.finish(), size_bytes })
    }
}

/// The table of contents, in a file without a name.
struct Table {
    out: io::BufWriter<File>,
    hasher: Hasher,
    is_empty: bool,
}

impl Table {
    fn new(file: File) -> Table {
        Table { out: io::BufWriter::with_capacity(64 * 1024, file), hasher: Hasher::new(), is_empty: true }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn push(&mut self, line: &Line) -> io::Result<()> {
        let head: &[u8] = if self.is_empty { b"{\"version\":1,\"entries\":[" } else { b"," };
        self.put(head)?;
        self.is_empty = false;
        self.put(&serde_json::to_vec(line)?)
    }

    /// The file from its beginning, how many bytes it has, and their digest.
    fn finish(mut self) -> io::Result<(File, u64, Digest)> {
        self.put(b"]}")?;
        let mut file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok((file, self.hasher.bytes(), self.hasher.finish()))
    }
}

/// A member without content, 51 bytes long, whose extra field says where the table's member begins.
fn footer(toc_offset: u64) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, b'S', b'G', 22, 0];
    bytes.extend_from_slice(format!("{toc_offset:016x}STARGZ").as_bytes());
    // One empty stored block, the last one; then checksum and length of nothing.
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// None for a year that the form has no room for.
fn rfc3339(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

fn read_error(source: io::Error) -> Error {
    Error::ReadArchive { source }
}

fn write_error(source: io::Error) -> Error {
    Error::WriteLayer { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_has_51_bytes_that_any_gunzip_reads() {
        let bytes = footer(0x1234);
        assert_eq!(bytes.len(), 51);
        let mut content = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut content).unwrap();
        assert!(content.is_empty());
        assert_eq!(&bytes[16..38], b"0000000000001234STARGZ");
    }

    #[test]
    fn times_and_values_are_written_as_others_write_them() {
        for (seconds, expected) in [
            (0, Some("1970-01-01T00:00:00Z")),
            (951_827_696, Some("2000-02-29T12:34:56Z")),
            (1_000_000_000, Some("2001-09-09T01:46:40Z")),
            (4_107_542_399, Some("2100-02-28T23:59:59Z")),
            (-1, Some("1969-12-31T23:59:59Z")),
            (253_402_300_799, Some("9999-12-31T23:59:59Z")),
            (253_402_300_800, None),
            (i64::MIN, None),
        ] {
            assert_eq!(rfc3339(seconds).as_deref(), expected);
        }
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\xfc", "//79/A=="),
        ] {
            assert_eq!(BASE64.encode(bytes), expected);
        }
    }
}
