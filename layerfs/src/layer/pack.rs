//! Changes to a layer: a tar whose bytes depend on the changes alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use oci::{Algorithm, Compression, Descriptor, DiffId, MediaType};

use super::tar::Writer;
use crate::confined::path_of;
use crate::diff::{self, Change, read_exactly};
use crate::entry::{Entry, Kind, Time};
use crate::hash::SideHasher;
use crate::snapshot::Changes;
use crate::store::Store;
use crate::walk::split;
use crate::{Error, Result, whiteout};

/// Changes whenever the same tree would give other bytes, compressed or not: it belongs into every key under
/// which a layer is remembered.
pub const LAYER_FORMAT: u32 = 3;

/// Up to this length in bytes a file is read by the walk.
const SHORT: u64 = 64 * 1024;
/// Entries go from the walk to the archive in batches: so many, or of so many bytes. Waking a thread for each costs more
/// than what it does then.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 1024 * 1024;
/// How many batches the walk may be ahead.
const QUEUE: usize = 4;
const BUFFER: usize = 256 * 1024;

/// How to pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// The latest time that may stand in the layer, in seconds since 1970: `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// Whether access control lists are in the layer; those that a base layer has stay in that in any case.
    pub acls: bool,
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
    let mut out = Hashing { hasher: SideHasher::new(Algorithm::Sha256), out };
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
    hasher: SideHasher,
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

/// An entry on its way from the walk to the archive.
enum Item {
    /// One without content, or whose content is read here and now.
    Short(Entry, Vec<u8>),
    /// A file that is too long to be kept in memory.
    Long(Entry, u64, File),
}

/// Says how many entries there are. The walk and the reading of short files go on in a thread of their own, ahead of
/// the writing.
fn write_tar(changes: &Changes, options: PackOptions, out: &mut dyn Write) -> Result<u64> {
    let (items, queue) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        let walk = scope.spawn(move || {
            let mut batch = Batch { items: Vec::with_capacity(BATCH), bytes: 0, queue: &items };
            diff::walk(changes, options.acls, &mut |change| batch.push(item(change, options)?))?;
            batch.send()
        });
        let written = write_items(queue, out);
        let walked = walk.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A walk that nobody listens to ends because of what went wrong here.
        written.and_then(|entries| walked.map(|()| entries))
    })
}

/// Entries that wait for more to come with them.
struct Batch<'a> {
    items: Vec<Item>,
    bytes: usize,
    queue: &'a SyncSender<Vec<Item>>,
}

impl Batch<'_> {
    fn push(&mut self, item: Item) -> Result<()> {
        if let Item::Short(_, content) = &item {
            self.bytes += content.len();
        }
        self.items.push(item);
        if self.items.len() == BATCH || self.bytes >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        self.bytes = 0;
        let items = std::mem::replace(&mut self.items, Vec::with_capacity(BATCH));
        // Nobody listens after a failure to write, which is the error that counts.
        self.queue.send(items).map_err(|_| Error::WriteLayer { source: io::ErrorKind::BrokenPipe.into() })
    }
}

/// Ends the archive when no more items come, which is also what a walk that failed looks like from here.
fn write_items(queue: Receiver<Vec<Item>>, out: &mut dyn Write) -> Result<u64> {
    let written = |source| Error::WriteLayer { source };
    let mut tar = Writer::new(BufWriter::with_capacity(BUFFER, out));
    let mut buffer = Vec::new();
    let mut entries = 0;
    for item in queue.into_iter().flatten() {
        entries += 1;
        match item {
            Item::Short(entry, content) => {
                tar.entry(&entry).and_then(|()| tar.write_data(&content)).map_err(written)?;
            }
            Item::Long(entry, size, mut file) => {
                tar.entry(&entry).map_err(written)?;
                buffer.resize(BUFFER, 0);
                read_exactly(&mut file, size, &mut buffer, |piece| tar.write_data(piece))
                    .map_err(|source| Error::Pack { path: path_of(&entry.path), source })?;
            }
        }
    }
    tar.finish().and_then(|mut out| out.flush()).map_err(written)?;
    Ok(entries)
}

fn item(change: Change, options: PackOptions) -> Result<Item> {
    let (mut entry, content) = match change {
        Change::Delete { path } => {
            let (dir, name) = split(&path);
            return Ok(Item::Short(mark(whiteout::whiteout_path(dir, name)), Vec::new()));
        }
        Change::Opaque { dir } => return Ok(Item::Short(mark(whiteout::opaque_path(&dir)), Vec::new())),
        Change::Put { entry, content } => (entry, content),
    };
    entry.mtime.seconds = options.epoch.map_or(entry.mtime.seconds, |epoch| epoch.min(entry.mtime.seconds));
    match (&entry.kind, content) {
        (&Kind::File { size }, Some(file)) if size > SHORT => Ok(Item::Long(entry, size, file)),
        (&Kind::File { size }, Some(mut file)) => {
            let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
            let read = file.read_exact(&mut content);
            read.map_err(|source| Error::Pack { path: path_of(&entry.path), source })?;
            Ok(Item::Short(entry, content))
        }
        _ => Ok(Item::Short(entry, Vec::new())),
    }
}

/// A deletion's entry is an empty file, the same whoever deletes and whenever.
pub(crate) fn mark(path: Vec<u8>) -> Entry {
    let (kind, mtime) = (Kind::File { size: 0 }, Time::default());
    Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}
