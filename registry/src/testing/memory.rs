//! A registry's content in memory. Blobs and manifests are what a test says they are, checked or not.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use oci::{Descriptor, Digest};

use crate::server::Storage;
use crate::server::storage::{Content, Repository, StoredManifest, Target, Upload};
use crate::transport::lock;

/// What is where: a repository and a digest, or a tag.
type Shelf<T> = BTreeMap<(String, String), T>;

#[derive(Clone, Default)]
pub(super) struct Memory {
    shelves: Arc<Mutex<Shelves>>,
}

#[derive(Default)]
pub(super) struct Shelves {
    pub(super) blobs: Shelf<Vec<u8>>,
    pub(super) manifests: Shelf<StoredManifest>,
    referrers: Shelf<Vec<Descriptor>>,
}

impl Memory {
    pub(super) fn shelves(&self) -> MutexGuard<'_, Shelves> {
        lock(&self.shelves)
    }
}

fn key(repository: &Repository, name: impl ToString) -> (String, String) {
    (repository.name.clone(), name.to_string())
}

fn target_key(repository: &Repository, target: &Target) -> (String, String) {
    match target {
        Target::Tag(tag) => key(repository, tag),
        Target::Digest(digest) => key(repository, digest),
    }
}

impl Storage for Memory {
    fn blob(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Content>> {
        Ok(self.shelves().blobs.get(&key(repository, digest)).cloned().map(Content::Bytes))
    }

    fn mount(&self, from: Option<&str>, to: &Repository, digest: &Digest) -> io::Result<bool> {
        let mut shelves = self.shelves();
        let is_there =
            |(of, name): &(String, String)| from.is_none_or(|from| of == from) && *name == digest.to_string();
        let found = shelves.blobs.iter().find(|(key, _)| is_there(key)).map(|(_, bytes)| bytes.clone());
        let is_found = found.is_some();
        shelves.blobs.extend(found.map(|bytes| (key(to, digest), bytes)));
        Ok(is_found)
    }

    fn remove_blob(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        Ok(self.shelves().blobs.remove(&key(repository, digest)).is_some())
    }

    fn begin(&self, _: &Repository) -> io::Result<Box<dyn Upload>> {
        Ok(Box::new(Incoming { bytes: Vec::new(), memory: self.clone() }))
    }

    fn manifest(&self, repository: &Repository, target: &Target) -> io::Result<Option<StoredManifest>> {
        Ok(self.shelves().manifests.get(&target_key(repository, target)).cloned())
    }

    fn put_manifest(
        &self,
        repository: &Repository,
        tag: Option<&str>,
        manifest: &StoredManifest,
    ) -> io::Result<()> {
        let names = tag.map(str::to_owned).into_iter().chain([manifest.digest.to_string()]);
        self.shelves().manifests.extend(names.map(|name| (key(repository, name), manifest.clone())));
        Ok(())
    }

    fn remove_manifest(&self, repository: &Repository, target: &Target) -> io::Result<bool> {
        let mut shelves = self.shelves();
        let found = shelves.manifests.remove(&target_key(repository, target));
        if let (Some(found), Target::Digest(_)) = (&found, target) {
            shelves.manifests.retain(|(of, _), other| *of != repository.name || other != found);
        }
        Ok(found.is_some())
    }

    fn tags(&self, repository: &Repository) -> io::Result<Option<Vec<String>>> {
        let shelves = self.shelves();
        let all: Vec<_> = shelves.manifests.keys().filter(|(of, _)| *of == repository.name).collect();
        let tags = all.iter().map(|(_, name)| name.clone()).filter(|name| !name.contains(':'));
        Ok((!all.is_empty()).then(|| tags.collect()))
    }

    fn repositories(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(self.shelves().manifests.keys().map(|(of, _)| of.clone()).collect())
    }

    fn add_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        referrer: &Descriptor,
    ) -> io::Result<()> {
        let mut shelves = self.shelves();
        let all = shelves.referrers.entry(key(repository, subject)).or_default();
        all.retain(|other| other.digest != referrer.digest);
        all.push(referrer.clone());
        Ok(())
    }

    fn referrers(&self, repository: &Repository, subject: &Digest) -> io::Result<Vec<Descriptor>> {
        let shelves = self.shelves();
        let is_there = |entry: &&Descriptor| shelves.manifests.contains_key(&key(repository, entry.digest));
        let all = shelves.referrers.get(&key(repository, subject));
        Ok(all.into_iter().flatten().filter(is_there).cloned().collect())
    }
}

struct Incoming {
    bytes: Vec<u8>,
    memory: Memory,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for Incoming {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn commit(self: Box<Self>, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        let fits = digest.algorithm().digest(&self.bytes) == *digest;
        if fits {
            self.memory.shelves().blobs.insert(key(repository, digest), self.bytes);
        }
        Ok(fits)
    }
}
