//! Collection: what nothing refers to and nobody holds goes.
//!
//! Steps: shut the gate (see `lease`); mark, from `index.json`, from every digest that stands in a file of
//! `resolved/`, from what the caller names, and from what living users hold, with what refers to any of it; move what is not marked to `trash/`;
//! open the gate; delete. A process that is killed in between leaves a store in which everything visible is whole.
//!
//! Marking follows documents to what they name, whatever kind they are: any JSON blob is searched for digests.
//! So an image keeps its layers, the tars of its diff ids and the snapshots of its chain. Cache mounts are nobody's
//! part, and stay until they are removed. Downloads that broke stay for a day.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci::{ChainId, Digest, ImageConfig, MAX_DOCUMENT_BYTES};
use serde_json::Value;

use crate::ingest::{open_dir, random_name};
use crate::lease::{self, Held};
use crate::memo::Memo;
use crate::remove::remove_tree;
use crate::snapshot::{Everywhere, SnapshotId, Snapshotter};
use crate::store::Store;
use crate::{IoResultExt, Result, download, lock};

/// What must stay, beside what the store itself knows of.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// Blobs, with all that they refer to.
    pub blobs: Vec<Digest>,
    /// Snapshots, with their ancestors.
    pub snapshots: Vec<SnapshotId>,
    /// Snapshots that go although an image consists of them, unless something else needs them: they can be unpacked
    /// again.
    pub forsaken: BTreeSet<SnapshotId>,
    /// Images without names that are about to go off the list.
    pub forgotten: BTreeSet<Digest>,
    /// Downloads that nobody is at go if nothing has come since, beside those of yesterday.
    pub downloads_before: Option<SystemTime>,
}

/// What a collection freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many blobs went.
    pub blobs: u64,
    /// How many snapshots went.
    pub snapshots: u64,
    /// How many bytes of disk that freed.
    pub bytes: u64,
}

/// What is of use to somebody.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Blobs.
    pub blobs: BTreeSet<Digest>,
    /// Snapshots and aliases.
    pub snapshots: BTreeSet<SnapshotId>,
}

impl Store {
    /// Frees everything that is not reachable from the list of images, from `resolved/`, from the roots, or from what
    /// anybody holds, this store included: [`Store::release`] it first if that is of no more use.
    ///
    /// `roots` is called with what is held while nobody can come to hold more, so what it reads, and what it deletes
    /// of the caller's records, is so when the marking begins. Others wait for as long as it takes.
    ///
    /// # Errors
    /// Those of `roots`, and what cannot be read or moved. Whatever has been moved by then is deleted by the next.
    pub fn collect(&self, roots: impl FnOnce(&Marks) -> Result<Roots>) -> Result<Collected> {
        let shut = lease::shut(self.root())?;
        let mut marking = Marking::begin(self)?;
        marking.add_held(shut.held(self.root())?)?;
        let Roots { blobs, snapshots, forsaken, forgotten, downloads_before } = roots(&marking.marks)?;
        marking.add(&blobs, snapshots)?;
        let forsaken = forsaken.difference(&marking.marks.snapshots).copied().collect();
        marking.add_listed(&forgotten)?;
        self.mark_referrers(&mut marking.marks)?;
        let swept = self.sweep(&marking, &forsaken);
        drop(shut);
        let (blobs, snapshots) = swept?;
        self.forget_lost_referrers()?;
        let forgotten = SystemTime::now() - download::FORGOTTEN;
        self.sweep_downloads(downloads_before.map_or(forgotten, |before| before.max(forgotten)))?;
        let bytes = self.empty_trash()?;
        Ok(Collected { blobs, snapshots, bytes })
    }

    /// What living users hold just now, with all that belongs to it. For showing: it may change at once.
    ///
    /// # Errors
    /// When something that is held cannot be read.
    pub fn in_use(&self) -> Result<Marks> {
        let mut marking = Marking::begin(self)?;
        marking.add_held(lease::held_now(self.root()))?;
        Ok(marking.marks)
    }

    /// The blobs and the snapshots that `document` names, itself included, as they are named.
    ///
    /// # Errors
    /// When something that it names cannot be read.
    pub fn reachable(&self, document: &Digest) -> Result<Marks> {
        let mut marks = Marks::default();
        self.mark_blob(document, &mut marks)?;
        Ok(marks)
    }

    /// Marks a blob and all that it leads to, one after the other: a chain of documents may be longer than the stack.
    pub(crate) fn mark_blob(&self, digest: &Digest, marks: &mut Marks) -> Result<()> {
        let mut left = vec![*digest];
        while let Some(digest) = left.pop() {
            if marks.blobs.insert(digest) {
                self.mark_named(&digest, &mut left, marks)?;
            }
        }
        Ok(())
    }

    /// Adds what a blob names, if it is a document, to `left`; the snapshots of a configuration are marked at once.
    fn mark_named(&self, digest: &Digest, left: &mut Vec<Digest>, marks: &mut Marks) -> Result<()> {
        if self.size_of(digest).is_none_or(|size| size > MAX_DOCUMENT_BYTES) {
            return Ok(());
        }
        let bytes = read(&self.blob_path(digest))?.filter(|bytes| bytes.first() == Some(&b'{'));
        let document = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let Some(document) = document else { return Ok(()) };
        digests(&document, &mut |digest| left.push(digest));
        if let Ok(config) = serde_json::from_value::<ImageConfig>(document) {
            marks.snapshots.extend(ChainId::each(&config.rootfs.diff_ids).map(SnapshotId::chain));
        }
        Ok(())
    }

    /// Moves what is not marked to the trash; says how many blobs and snapshots that were.
    fn sweep(&self, marking: &Marking<'_>, forsaken: &BTreeSet<SnapshotId>) -> Result<(u64, u64)> {
        let Marking { marks, memos, everywhere, .. } = marking;
        let (mut blobs, mut snapshots) = (0, 0);
        for all in everywhere.each() {
            let folder = self.root().join(all.layout().folder());
            for id in self.doomed(all, marks, forsaken)? {
                snapshots += u64::from(self.discard(&folder.join(id.to_string()))?);
            }
        }
        for path in self.blob_files()? {
            if Digest::from_blob_path(&path).is_some_and(|digest| !marks.blobs.contains(&digest)) {
                blobs += u64::from(self.discard(&self.root().join(path))?);
            }
        }
        for (path, memo) in memos {
            if memo.as_ref().is_none_or(|memo| !marks.blobs.contains(&memo.blob.digest)) {
                self.discard(path)?;
            }
        }
        self.sweep_file_indexes(|diff_id| marks.blobs.contains(diff_id))?;
        self.sweep_contexts()?;
        Ok((blobs, snapshots))
    }

    /// The snapshots of a layout that go, each before what it stands on: whoever is killed in between leaves none without.
    fn doomed(
        &self,
        all: &dyn Snapshotter,
        marks: &Marks,
        forsaken: &BTreeSet<SnapshotId>,
    ) -> Result<Vec<SnapshotId>> {
        let names = self.names(all.layout().folder())?;
        let mut doomed: Vec<SnapshotId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        // An alias goes with what it stands for.
        doomed.retain(|id| !marks.snapshots.contains(id) || forsaken.contains(&all.resolve(id)));
        doomed.sort_by_cached_key(|id| Reverse(all.ancestors(id).map_or(0, |ancestors| ancestors.len())));
        Ok(doomed)
    }

    /// What is known of directories goes when it has not been added to for long: most of them are gone as well.
    fn sweep_contexts(&self) -> Result<()> {
        const LONG: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        for path in self.records("contexts")? {
            let age = path.metadata().and_then(|metadata| metadata.modified()).ok();
            if age.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age > LONG) {
                self.discard(&path)?;
            }
        }
        Ok(())
    }

    /// Takes something out of sight; says whether it was there.
    pub(crate) fn discard(&self, path: &Path) -> Result<bool> {
        match std::fs::rename(path, self.root().join("trash").join(random_name())) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            moved => moved.at("delete", path).map(|()| true),
        }
    }

    fn empty_trash(&self) -> Result<u64> {
        let path = self.root().join("trash");
        let trash = open_dir(&path).at("open", &path)?;
        // So that others know that somebody is at it.
        let _is_alone = lock::try_exclusive(&trash).at("lock", &path)?;
        let mut bytes = 0;
        for name in self.records(&path)? {
            let name = name.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
            bytes += remove_tree(&trash, &name).at("empty", &path)?;
        }
        Ok(bytes)
    }
}

/// What is marked so far, and what marking reads but once: meanwhile others wait.
struct Marking<'a> {
    store: &'a Store,
    memos: Vec<(PathBuf, Option<Memo>)>,
    everywhere: Everywhere,
    /// Closed after each addition: with what is in it, all that this stands on.
    marks: Marks,
}

impl<'a> Marking<'a> {
    fn begin(store: &'a Store) -> Result<Marking<'a>> {
        let (memos, everywhere) = (store.memos()?, store.everywhere());
        Ok(Marking { store, memos, everywhere, marks: Marks::default() })
    }

    fn add_held(&mut self, held: BTreeSet<Held>) -> Result<()> {
        let (mut blobs, mut snapshots) = (Vec::new(), Vec::new());
        for thing in held {
            match thing {
                Held::Blob(digest) => blobs.push(digest),
                Held::Snapshot(id) => snapshots.push(id),
            }
        }
        self.add(&blobs, snapshots)
    }

    /// Adds what is on a list that everybody reads.
    fn add_listed(&mut self, forgotten: &BTreeSet<Digest>) -> Result<()> {
        let mut listed = self.store.images()?;
        listed.retain(|image| image.reference.is_some() || !forgotten.contains(&image.descriptor.digest));
        let mut blobs: Vec<Digest> = listed.iter().map(|image| image.descriptor.digest).collect();
        for path in self.store.records("resolved")? {
            // A record that cannot be read is of use to nobody, so it keeps nothing.
            if let Some(record) = read(&path)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                digests(&record, &mut |digest| blobs.push(digest));
            }
        }
        self.add(&blobs, Vec::new())
    }

    fn add(&mut self, blobs: &[Digest], snapshots: Vec<SnapshotId>) -> Result<()> {
        let Marking { store, memos, everywhere, marks } = self;
        let before = marks.snapshots.clone();
        for digest in blobs {
            store.mark_blob(digest, marks)?;
        }
        // What a layer was compressed to stays as long as the layer, and gives nothing a longer life.
        for memo in memos.iter().filter_map(|(_, memo)| memo.as_ref()) {
            if marks.blobs.contains(&memo.diff_id.0) {
                marks.blobs.insert(memo.blob.digest);
            }
        }
        marks.snapshots.extend(snapshots);
        let mut left: Vec<SnapshotId> = marks.snapshots.difference(&before).copied().collect();
        while let Some(id) = left.pop() {
            for all in everywhere.each() {
                let Ok(ancestors) = all.ancestors(&id) else { continue };
                let below = ancestors.iter().chain([&id]).map(|id| all.resolve(id));
                left.extend(below.filter(|id| marks.snapshots.insert(*id)));
            }
        }
        Ok(())
    }
}

/// Whatever stands as a digest anywhere in `value`.
fn digests(value: &Value, found: &mut dyn FnMut(Digest)) {
    match value {
        Value::String(text) => text.parse().into_iter().for_each(found),
        Value::Array(values) => values.iter().for_each(|value| digests(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| digests(value, found)),
        _ => {}
    }
}

/// The bytes of a file; none if it is gone: not everybody who deletes is a collector.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        bytes => bytes.at("read", path).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_on_something_goes_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let snapshots = store.snapshots();
        let ids: Vec<SnapshotId> = (0..8u8).map(|at| SnapshotId::key(Digest::of(&[at]))).collect();
        for (at, id) in ids.iter().enumerate() {
            let parent = at.checked_sub(1).map(|below| &ids[below]);
            snapshots.commit(snapshots.prepare(parent).unwrap(), id).unwrap();
        }
        let marks = Marks { snapshots: ids[..2].iter().copied().collect(), ..Marks::default() };
        let doomed = store.doomed(&*snapshots, &marks, &BTreeSet::new()).unwrap();
        assert_eq!(doomed, [7, 6, 5, 4, 3, 2].map(|at: usize| ids[at]));
    }
}
