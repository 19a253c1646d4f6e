//! Tar to entries, within limits.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::header::Header;
use super::sparse::{self, Lines, Map, Piece, Records};
use super::{BLOCK, BLOCK_BYTES, Limits, Problem, normalise, padding, pax};
use crate::confined::path_of;
use crate::entry::{Entry, Kind, Time};
use crate::{Error, Result};

/// The longest target that the kernel lets a link have: `PATH_MAX` without its NUL (symlink(2)).
const MAX_TARGET_BYTES: usize = 4095;

/// Reads an archive: entry by entry, each file's bytes between.
pub struct Reader<R> {
    source: R,
    limits: Limits,
    entries: u64,
    content_bytes: u64,
    hole_bytes: u64,
    names_bytes: u64,
    /// Bytes of the present file that have not been read, and the zeros behind them.
    pending: u64,
    padding: u64,
    /// Where they belong, if the file is sparse.
    map: Option<Map>,
    ended: bool,
    /// How many bytes of the source have been read, and how many had been where the present entry begins.
    position: u64,
    start: u64,
}

/// What the headers before an entry's own say about it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    sparse: Records,
    seen_pax: bool,
    bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads an archive from `source`.
    pub fn new(source: R, limits: Limits) -> Reader<R> {
        Reader {
            source,
            limits,
            entries: 0,
            content_bytes: 0,
            hole_bytes: 0,
            names_bytes: 0,
            pending: 0,
            padding: 0,
            map: None,
            ended: false,
            position: 0,
            start: 0,
        }
    }

    /// The next entry; none at the end. What was not read of the last one is skipped.
    ///
    /// An archive may end without the two blocks of zeros, as several writers leave them out.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        self.start = self.position;
        let mut extended = Extended::default();
        loop {
            let begun = extended.seen_pax || extended.bytes != 0;
            let Some(block) = self.read_block(begun)? else { return Ok(None) };
            let Some(header) = Header::parse(&block).map_err(refuse)? else {
                self.ended = true;
                return if begun { Err(refuse(Problem::Truncated)) } else { Ok(None) };
            };
            match header.flag {
                b'x' | b'g' | b'L' | b'K' => self.read_extension(&header, &mut extended)?,
                _ => return self.finish_entry(header, &block, extended).map(Some),
            }
        }
    }

    /// Reads bytes of the present file, the zeros of its holes among them; 0 at its end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(map) = &mut self.map else { return self.read_stored(buffer) };
        let (room, is_hole) = match map.next(buffer.len() as u64) {
            Piece::End => return Ok(0),
            Piece::Hole(room) => (room, true),
            Piece::Data(room) => (room, false),
        };
        // Not more than the buffer's length, which is a usize.
        let room = &mut buffer[..usize::try_from(room).unwrap_or(0)];
        if is_hole {
            room.fill(0);
            map.pass(room.len() as u64);
            return Ok(room.len());
        }
        let count = self.read_stored(room)?;
        if let Some(map) = &mut self.map {
            map.pass(count as u64);
        }
        Ok(count)
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let room = buffer.len().min(usize::try_from(self.pending).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let count = self.read_source(&mut buffer[..room])?;
        if count == 0 {
            return Err(refuse(Problem::Truncated));
        }
        self.pending -= count as u64;
        Ok(count)
    }

    /// Whether the present file has holes that the archive does not hold, or could have.
    pub(crate) fn is_sparse(&self) -> bool {
        self.map.is_some()
    }

    /// How many bytes of the archive come before the headers of the present entry: a reader that begins there
    /// finds the same entry.
    pub fn entry_offset(&self) -> u64 {
        self.start
    }

    /// The source, from which nothing that the archive needs may be read.
    pub(crate) fn get_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// The source, behind the end of the archive or wherever reading stopped.
    pub fn into_inner(self) -> R {
        self.source
    }

    fn read_source(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = read_some(&mut self.source, buffer)?;
        self.position += count as u64;
        Ok(count)
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut left = self.pending + self.padding;
        (self.pending, self.padding, self.map) = (0, 0, None);
        let mut buffer = [0; 8192];
        while left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.read_source(&mut buffer[..room])? {
                0 => return Err(refuse(Problem::Truncated)),
                count => left -= count as u64,
            }
        }
        Ok(())
    }

    /// A block; none at the end of the source, unless something must follow.
    fn read_block(&mut self, must_follow: bool) -> Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_source(&mut block[filled..])? {
                0 if filled == 0 && !must_follow => {
                    self.ended = true;
                    return Ok(None);
                }
                0 => return Err(refuse(Problem::Truncated)),
                count => filled += count,
            }
        }
        Ok(Some(block))
    }

    /// A header that is about the next entry, or about all: reads its body.
    fn read_extension(&mut self, header: &Header, extended: &mut Extended) -> Result<()> {
        extended.bytes = extended.bytes.saturating_add(header.size).saturating_add(BLOCK_BYTES);
        if extended.bytes > self.limits.metadata_bytes {
            return Err(refuse(Problem::Metadata));
        }
        let mut body = vec![0; usize::try_from(header.size).map_err(|_| refuse(Problem::Metadata))?];
        self.pending = header.size;
        self.padding = padding(header.size) as u64;
        let mut filled = 0;
        while filled < body.len() {
            filled += self.read_stored(&mut body[filled..])?;
        }
        self.skip_rest()?;
        extended.take(header.flag, &body).map_err(refuse)
    }

    fn finish_entry(&mut self, header: Header, block: &[u8; BLOCK], mut extended: Extended) -> Result<Entry> {
        let own = extended.path.clone().unwrap_or_else(|| header.name.clone());
        let name = extended.sparse.name.take().unwrap_or_else(|| own.clone());
        let named = |problem| Error::Archive { entry: Some(path_of(&name)), problem };
        // Readers differ about what has data if such records stand before anything but a file.
        let is_plain =
            matches!(header.flag, 0 | b'0' | b'7') && !own.ends_with(b"/") && !name.ends_with(b"/");
        if extended.sparse.is_sparse() && !is_plain {
            return Err(named(Problem::Sparse));
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(named(Problem::Entries));
        }
        let stored = extended.size.unwrap_or(header.size);
        // Of the same opinion as `Extended::entry`.
        let is_file = match header.flag {
            0 | b'0' => !name.ends_with(b"/"),
            flag => matches!(flag, b'7' | b'S'),
        };
        // A directory of before POSIX: some readers skip what follows, others take it for the next header.
        if !is_file && matches!(header.flag, 0 | b'0') && stored > 0 {
            return Err(named(Problem::DirectoryContent));
        }
        if is_file {
            self.pending = stored;
            self.padding = padding(stored) as u64;
            let map = self.read_map(&header, block, &mut extended, stored);
            self.map = map.map_err(|error| match error {
                Error::Archive { problem, .. } => named(problem),
                other => other,
            })?;
        }
        let size = self.map.as_ref().map_or(stored, Map::size);
        let entry = extended.entry(&header, &name, size, &self.limits).map_err(named)?;
        self.names_bytes = self.names_bytes.saturating_add(entry.names_bytes() as u64);
        if self.names_bytes > self.limits.names_bytes {
            return Err(named(Problem::Names));
        }
        if let Kind::File { size } = entry.kind {
            self.content_bytes = self.content_bytes.saturating_add(size);
            if self.content_bytes > self.limits.content_bytes {
                return Err(named(Problem::Content));
            }
            self.hole_bytes = self.hole_bytes.saturating_add(self.map.as_ref().map_or(0, Map::holes));
            if self.hole_bytes > self.limits.hole_bytes {
                return Err(named(Problem::Holes));
            }
        }
        Ok(entry)
    }

    /// The map of a sparse file of which `stored` bytes are in the archive; none for another file.
    fn read_map(
        &mut self,
        header: &Header,
        block: &[u8; BLOCK],
        extended: &mut Extended,
        stored: u64,
    ) -> Result<Option<Map>> {
        if header.flag == b'S' {
            let (mut stretches, mut has_more, size) = sparse::old_gnu(block).map_err(refuse)?;
            while has_more {
                let block = self.read_block(true)?.ok_or_else(|| refuse(Problem::Truncated))?;
                has_more = sparse::old_gnu_more(&block, &mut stretches).map_err(refuse)?;
            }
            return Map::new(stretches, size, stored).map(Some).map_err(refuse);
        }
        if !extended.sparse.is_sparse() {
            return Ok(None);
        }
        if extended.sparse.is_version_1 {
            let mut lines = Lines::default();
            extended.sparse.stretches = loop {
                let mut block = [0; BLOCK];
                let mut filled = 0;
                while filled < BLOCK {
                    match self.read_stored(&mut block[filled..])? {
                        0 => return Err(refuse(Problem::Sparse)),
                        count => filled += count,
                    }
                }
                if let Some(stretches) = lines.take(&block).map_err(refuse)? {
                    break stretches;
                }
            };
        }
        let size = extended.sparse.size.ok_or_else(|| refuse(Problem::Sparse))?;
        let stretches = std::mem::take(&mut extended.sparse.stretches);
        Map::new(stretches, size, self.pending).map(Some).map_err(refuse)
    }
}

impl Extended {
    fn take(&mut self, flag: u8, body: &[u8]) -> Result<(), Problem> {
        match flag {
            b'x' => self.take_pax(body),
            b'g' => refuse_global(body),
            b'L' => once(&mut self.path, gnu_name(body)),
            _ => once(&mut self.link, gnu_name(body)),
        }
    }

    fn take_pax(&mut self, body: &[u8]) -> Result<(), Problem> {
        if self.seen_pax {
            return Err(Problem::RepeatedHeader);
        }
        self.seen_pax = true;
        let number = |value, field| pax::decimal(value).ok_or(Problem::Number { field });
        // Of one key the last record counts, so the earlier ones must not collide with GNU's long names.
        let (mut path, mut link) = (None, None);
        for (key, value) in pax::parse(body)? {
            match key {
                b"path" => path = Some(value.to_vec()),
                b"linkpath" => link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value, "size")?),
                b"uid" => self.uid = Some(number(value, "uid")?),
                b"gid" => self.gid = Some(number(value, "gid")?),
                b"mtime" => {
                    self.mtime = Some(pax::time(value).ok_or(Problem::Number { field: "mtime" })?);
                }
                _ => {
                    if let Some(key) = key.strip_prefix(pax::SPARSE) {
                        self.sparse.take(key, value)?;
                    }
                    if let Some(name) = key.strip_prefix(pax::XATTR) {
                        self.xattrs.insert(name.to_vec(), value.to_vec());
                    }
                }
            }
        }
        path.map_or(Ok(()), |path| once(&mut self.path, path))?;
        link.map_or(Ok(()), |link| once(&mut self.link, link))
    }

    fn entry(self, header: &Header, name: &[u8], size: u64, limits: &Limits) -> Result<Entry, Problem> {
        let link = self.link.unwrap_or_else(|| header.link.clone());
        let path = normalise(name, limits)?;
        let kind = match header.flag {
            // Before POSIX a directory was a file whose name ends in a slash.
            0 | b'0' if name.ends_with(b"/") => Kind::Directory,
            // Regular files, sparse ones, and contiguous ones, which Linux does not tell apart.
            0 | b'0' | b'7' | b'S' => Kind::File { size },
            b'1' => Kind::HardLink { target: normalise(&link, limits)? },
            b'2' => Kind::Symlink { target: link },
            b'3' => Kind::CharDevice { major: header.major, minor: header.minor },
            b'4' => Kind::BlockDevice { major: header.major, minor: header.minor },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => return Err(Problem::Kind { flag }),
        };
        match &kind {
            Kind::HardLink { target } if *target == path => return Err(Problem::SelfLink),
            Kind::Symlink { target } if target.is_empty() => return Err(Problem::Nameless),
            Kind::Symlink { target } if target.len() > limits.path_bytes.min(MAX_TARGET_BYTES) => {
                return Err(Problem::LongPath);
            }
            Kind::Symlink { target } if target.contains(&0) => return Err(Problem::Nul),
            Kind::Directory => {}
            _ if name.is_empty() => return Err(Problem::Nameless),
            _ if path.is_empty() => return Err(Problem::Root),
            _ => {}
        }
        Ok(Entry {
            path,
            kind,
            mode: header.mode,
            uid: id(self.uid.unwrap_or(header.uid), "uid")?,
            gid: id(self.gid.unwrap_or(header.gid), "gid")?,
            mtime: self.mtime.unwrap_or(Time::from_seconds(header.mtime)),
            xattrs: self.xattrs,
        })
    }
}

/// The kernel takes 2^32 - 1 for "leave it as it is".
fn id(value: u64, field: &'static str) -> Result<u32, Problem> {
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or(Problem::Number { field })
}

fn once(place: &mut Option<Vec<u8>>, value: Vec<u8>) -> Result<(), Problem> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::RepeatedHeader),
    }
}

/// GNU's long name: the body up to the first NUL.
fn gnu_name(body: &[u8]) -> Vec<u8> {
    body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Global headers carry comments, such as a commit's id; those mean nothing here.
fn refuse_global(body: &[u8]) -> Result<(), Problem> {
    let harmful = |key: &[u8]| matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(pax::SPARSE);
    match pax::parse(body)?.iter().any(|(key, _)| harmful(key)) {
        true => Err(Problem::GlobalHeader),
        false => Ok(()),
    }
}

fn refuse(problem: Problem) -> Error {
    Error::Archive { entry: None, problem }
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|source| Error::ReadArchive { source }),
        }
    }
}
