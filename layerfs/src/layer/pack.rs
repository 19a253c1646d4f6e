//! Changes to a layer: a tar whose bytes depend on the changes alone.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use oci::{Compression, Descriptor, DiffId, Hasher, MediaType};

use super::tar::Writer;
use crate::diff::{self, Change, path_of, read_exactly};
use crate::entry::{Entry, Kind, Time};
use crate::snapshot::Changes;
use crate::store::Store;
use crate::{Error, Result, whiteout};

/// Changes whenever the same tree would give other bytes, compressed or not: it belongs into every key under
/// which a layer is remembered.
pub const LAYER_FORMAT: u32 = 1;

/// How to pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// The latest time that may stand in the layer, in seconds since 1970: `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
}

/// A layer that was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The digest of the tar.
    pub diff_id: DiffId,
    /// The size of the tar in bytes.
    pub size_bytes: u64,
    /// How many entries it has; 0 for a step that changed nothing.
    pub entries: u64,
}

impl Packed {
    /// Points to the tar in the store.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(MediaType::OciLayer(Compression::None), self.diff_id.0, self.size_bytes)
    }
}

/// Writes `changes` as a tar to `out`.
pub fn pack(changes: &Changes, options: PackOptions, out: &mut dyn Write) -> Result<Packed> {
    let mut out = Hashing { hasher: Hasher::new(), out };
    let entries = write_tar(changes, options, &mut out)?;
    let size_bytes = out.hasher.bytes();
    Ok(Packed { diff_id: DiffId(out.hasher.finish()), size_bytes, entries })
}

impl Store {
    /// Packs `changes` and keeps the tar.
    pub fn put_layer(&self, changes: &Changes, options: PackOptions) -> Result<Packed> {
        let mut blob = self.writer()?;
        let entries = write_tar(changes, options, &mut blob)?;
        let (digest, size_bytes) = blob.commit()?;
        Ok(Packed { diff_id: DiffId(digest), size_bytes, entries })
    }
}

struct Hashing<'a> {
    hasher: Hasher,
    out: &'a mut dyn Write,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Says how many entries there are.
fn write_tar(changes: &Changes, options: PackOptions, out: &mut dyn Write) -> Result<u64> {
    let written = |source| Error::WriteLayer { source };
    let mut tar = Writer::new(BufWriter::with_capacity(256 * 1024, out));
    let mut buffer = vec![0; 256 * 1024];
    let mut entries = 0;
    diff::walk(changes, &mut |change| {
        entries += 1;
        match change {
            Change::Delete { path } => {
                let (dir, name) = split(&path);
                tar.entry(&mark(whiteout::whiteout_path(dir, name))).map_err(written)
            }
            Change::Opaque { dir } => tar.entry(&mark(whiteout::opaque_path(&dir))).map_err(written),
            Change::Put { mut entry, content } => {
                entry.mtime.seconds =
                    options.epoch.map_or(entry.mtime.seconds, |epoch| epoch.min(entry.mtime.seconds));
                check(&entry)?;
                tar.entry(&entry).map_err(written)?;
                let (Kind::File { size }, Some(mut file)) = (&entry.kind, content) else { return Ok(()) };
                read_exactly(&mut file, *size, &mut buffer, |piece| tar.write_data(piece))
                    .map_err(|source| Error::Pack { path: path_of(&entry.path), source })
            }
        }
    })?;
    tar.finish().and_then(|mut out| out.flush()).map_err(written)?;
    Ok(entries)
}

/// A deletion's entry is an empty file, the same whoever deletes and whenever.
pub(crate) fn mark(path: Vec<u8>) -> Entry {
    let (kind, mtime) = (Kind::File { size: 0 }, Time::default());
    Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

/// What a file system can hold and PAX records cannot.
fn check(entry: &Entry) -> Result<()> {
    if entry.xattrs.keys().any(|name| name.contains(&b'=')) {
        let reason = "an archive cannot hold extended attributes with `=` in their names";
        return Err(Error::Unpackable { path: path_of(&entry.path), reason });
    }
    Ok(())
}

/// Directory (empty for the root) and name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
