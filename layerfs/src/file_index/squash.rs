//! Several layers as one: what a tree has beyond another that it was made from, as a tar.
//!
//! Neither is unpacked: attributes come from the trees, contents out of the layers' tars. Order and rules are those
//! of [`diff`](crate::diff): bytewise by component, deletions before their siblings, a directory before what is in
//! it, every ancestor of a change is a change, names of one object are one object. But a directory that differs by its
//! time alone is a change here, so that the new layer shows what the old ones showed, to the second.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};

use oci::{Descriptor, DiffId};

use super::tree::{FileTree, Node, NodeId};
use super::{FileIndex, compare, content};
use crate::entry::{Entry, Kind};
use crate::layer::pack::{Packed, mark};
use crate::layer::tar::Writer;
use crate::store::{BlobWriter, Store};
use crate::walk::join;
use crate::whiteout;
use crate::{Error, Result};

/// Puts `layers` without the lowest `below` of them into the store as one layer, which shows the same on top of those.
/// `indexes` are theirs, in their order. Equal layers give equal bytes.
///
/// # Errors
/// When a layer is not in the store, or the layers do not fit on each other.
pub fn squash(
    store: &Store,
    layers: &[(Descriptor, DiffId)],
    indexes: &[FileIndex],
    below: usize,
) -> Result<Packed> {
    let base = FileTree::of(&indexes[..below])?;
    let mut whole = base.clone();
    indexes[below..].iter().try_for_each(|index| whole.apply(index))?;
    let mut blob = store.writer()?;
    let entries = {
        let sources =
            layers.iter().zip(indexes).map(|((layer, _), index)| Source { layer, index, tar: None });
        let mut squashing = Squashing {
            store,
            base: &base,
            whole: &whole,
            sources: sources.collect(),
            groups: groups(&base, &whole),
            unsaid: Vec::new(),
            out: Writer::new(BufWriter::with_capacity(256 * 1024, &mut blob)),
            entries: 0,
            buffer: vec![0; 256 * 1024],
        };
        squashing.walk()?;
        squashing.out.finish().and_then(|mut out| out.flush()).map_err(written)?;
        squashing.entries
    };
    let (digest, size_bytes) = blob.commit()?;
    Ok(Packed { diff_id: DiffId(digest), size_bytes, entries })
}

/// An object with several names.
struct Group {
    /// Whether not all of them are names of it in the base too.
    is_changed: bool,
    /// The first one that was written.
    first: Option<Vec<u8>>,
}

/// A layer that content is taken from; opened when the first is.
struct Source<'a> {
    layer: &'a Descriptor,
    index: &'a FileIndex,
    tar: Option<File>,
}

struct Squashing<'a> {
    store: &'a Store,
    base: &'a FileTree,
    whole: &'a FileTree,
    sources: Vec<Source<'a>>,
    groups: HashMap<NodeId, Group>,
    /// Ancestors of the present place that are as in the base.
    unsaid: Vec<Entry>,
    out: Writer<BufWriter<&'a mut BlobWriter>>,
    entries: u64,
    buffer: Vec<u8>,
}

/// A directory on the way to the present place.
struct Level {
    path: Vec<u8>,
    base: Option<NodeId>,
    left: std::vec::IntoIter<(Vec<u8>, NodeId)>,
    /// How many ancestors were unsaid before this one.
    unsaid: usize,
}

fn groups(base: &FileTree, whole: &FileTree) -> HashMap<NodeId, Group> {
    let mut groups: HashMap<NodeId, Group> = HashMap::new();
    for (path, id, node) in whole.below(whole.root()) {
        if node.names > 1 && node.kind != Kind::Directory {
            let is_new = base.find(&path, false).is_none_or(|(found, old)| found != path || old != id);
            groups.entry(id).or_insert(Group { is_changed: false, first: None }).is_changed |= is_new;
        }
    }
    groups
}

impl Squashing<'_> {
    fn walk(&mut self) -> Result<()> {
        let mut levels = vec![self.enter(Vec::new(), Some(self.base.root()), self.whole.root(), 0)?];
        while let Some(level) = levels.last_mut() {
            let Some((name, id)) = level.left.next() else {
                self.unsaid.truncate(level.unsaid);
                levels.pop();
                continue;
            };
            let path = join(&level.path, &name);
            let base = level.base.and_then(|dir| Some(self.base.node(dir).children.get(&name)?.node));
            if self.whole.node(id).kind == Kind::Directory {
                let unsaid = self.unsaid.len();
                let base = self.visit_dir(&path, base, id)?;
                let inner = self.enter(path, base, id, unsaid)?;
                levels.push(inner);
            } else {
                self.visit_other(path, base, id)?;
            }
        }
        Ok(())
    }

    /// Says what is deleted from a directory.
    fn enter(&mut self, path: Vec<u8>, base: Option<NodeId>, dir: NodeId, unsaid: usize) -> Result<Level> {
        let (below, whole) = (self.base, self.whole);
        for (name, _) in base.into_iter().flat_map(|base| below.children(base)) {
            if !whole.node(dir).children.contains_key(name) {
                self.say(&mark(whiteout::whiteout_path(&path, name)))?;
            }
        }
        let left: Vec<_> = whole.children(dir).map(|(name, id)| (name.to_vec(), id)).collect();
        Ok(Level { path, base, left: left.into_iter(), unsaid })
    }

    /// Gives the directory that the base has there.
    fn visit_dir(&mut self, path: &[u8], base: Option<NodeId>, id: NodeId) -> Result<Option<NodeId>> {
        let node = self.whole.node(id);
        let entry = entry(path.to_vec(), node);
        let base = base.filter(|id| self.base.node(*id).kind == Kind::Directory);
        match base.map(|id| self.base.node(id)) {
            Some(old) if compare::aspects(old, node, true).is_empty() => self.unsaid.push(entry),
            _ => self.say(&entry)?,
        }
        Ok(base)
    }

    fn visit_other(&mut self, path: Vec<u8>, base: Option<NodeId>, id: NodeId) -> Result<()> {
        let node = self.whole.node(id);
        let mut entry = entry(path, node);
        if let Some(group) = self.groups.get_mut(&id) {
            if !group.is_changed {
                return Ok(());
            }
            if let Some(first) = &group.first {
                entry.kind = Kind::HardLink { target: first.clone() };
                return self.say(&entry);
            }
            group.first = Some(entry.path.clone());
        } else if base.is_some_and(|old| compare::aspects(self.base.node(old), node, true).is_empty()) {
            return Ok(());
        }
        self.say(&entry)?;
        self.copy(node)
    }

    /// Writes an entry, after the ancestors that have not been mentioned.
    fn say(&mut self, entry: &Entry) -> Result<()> {
        for ancestor in self.unsaid.drain(..) {
            self.out.entry(&ancestor).map_err(written)?;
            self.entries += 1;
        }
        self.entries += 1;
        self.out.entry(entry).map_err(written)
    }

    /// Writes the content of a file that was just mentioned.
    fn copy(&mut self, node: &Node) -> Result<()> {
        let (Kind::File { .. }, Some(place)) = (&node.kind, node.place) else { return Ok(()) };
        let source = &mut self.sources[node.layer];
        let (record, diff_id) = (&source.index.records[place], source.index.diff_id);
        let fail = |source| Error::ReadBlob { digest: diff_id.0, source };
        let tar = match &mut source.tar {
            Some(tar) => tar,
            none => none.insert(self.store.tar(source.layer, diff_id)?),
        };
        tar.seek(SeekFrom::Start(record.offset)).map_err(fail)?;
        let mut content = content::content(tar, record)?;
        loop {
            match content.read(&mut self.buffer).map_err(fail)? {
                0 => return Ok(()),
                count => self.out.write_data(&self.buffer[..count]).map_err(written)?,
            }
        }
    }
}

fn entry(path: Vec<u8>, node: &Node) -> Entry {
    Entry {
        path,
        kind: node.kind.clone(),
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        xattrs: node.xattrs.clone(),
    }
}

fn written(source: std::io::Error) -> Error {
    Error::WriteLayer { source }
}
