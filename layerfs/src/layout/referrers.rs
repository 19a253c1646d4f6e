//! What refers to images: signatures, bills of materials, attestations. (OCI image-spec, manifest.md, "subject".)
//!
//! A referrer is an entry of `index.json` without a name, as OCI layouts have them, with its artifact type and the
//! annotations of its manifest. An annotation of our own says what it refers to, so that the list is enough to find it.
//! It is no image: it is on no list of these, and it stays for as long as its subject does. Nobody need have the
//! subject when it is listed, since registries take them in any order.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Descriptor, Digest};

use crate::Result;
use crate::gc::Marks;
use crate::store::Store;

/// The annotation of an entry of `index.json` that says what it refers to.
pub(super) const SUBJECT: &str = "io.lbuild.subject";

/// Whether an entry of the list is a referrer.
pub(crate) fn is_referrer(entry: &Descriptor) -> bool {
    entry.annotations.contains_key(SUBJECT)
}

/// What an entry refers to, and the entry as others list it.
fn read(entry: &Descriptor) -> Option<(Digest, Descriptor)> {
    let mut entry = entry.clone();
    let subject = entry.annotations.remove(SUBJECT)?.parse().ok()?;
    Some((subject, entry))
}

impl Store {
    /// What refers to `subject`, as it was listed.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let all = self.all_referrers()?.into_iter();
        Ok(all.filter(|(of, _)| of == subject).map(|(_, entry)| entry).collect())
    }

    /// Lists `entry` with what refers to `subject`: from now on it stays for as long as that does.
    ///
    /// # Errors
    /// [`MissingBlob`](crate::Error::MissingBlob) if its document is not here, among others.
    pub fn add_referrer(&self, subject: &Digest, entry: &Descriptor) -> Result<()> {
        self.must_have(entry)?;
        let mut entry = entry.clone();
        entry.annotations.insert(SUBJECT.to_owned(), subject.to_string());
        self.edit_entries(|entries| {
            // Each once, where it was.
            match entries.iter_mut().find(|other| is_referrer(other) && other.digest == entry.digest) {
                Some(known) => *known = entry,
                None => entries.push(entry),
            }
        })
    }

    /// Takes a referrer off the list; says whether it was there.
    ///
    /// # Errors
    /// When the list cannot be written.
    pub fn forget_referrer(&self, digest: &Digest) -> Result<bool> {
        self.edit_entries(|entries| {
            let before = entries.len();
            entries.retain(|entry| !is_referrer(entry) || entry.digest != *digest);
            entries.len() < before
        })
    }

    /// What refers to whatever is in `documents`, and what refers to that.
    pub(super) fn referrers_of(&self, documents: &BTreeMap<Digest, u64>) -> Result<Vec<Descriptor>> {
        let (mut left, mut found) = (self.all_referrers()?, Vec::<Descriptor>::new());
        loop {
            let is_of_these = |(subject, _): &mut (Digest, Descriptor)| {
                documents.contains_key(subject) || found.iter().any(|entry| entry.digest == *subject)
            };
            let next: Vec<_> = left.extract_if(.., is_of_these).collect();
            if next.is_empty() {
                return Ok(found);
            }
            found.extend(next.into_iter().map(|(_, entry)| entry));
        }
    }

    /// These blobs, and those of what refers to any of them.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn with_referrers(&self, blobs: BTreeSet<Digest>) -> Result<BTreeSet<Digest>> {
        let mut marks = Marks { blobs, ..Marks::default() };
        self.mark_referrers(&mut marks)?;
        Ok(marks.blobs)
    }

    /// Marks what refers to whatever is marked.
    pub(crate) fn mark_referrers(&self, marks: &mut Marks) -> Result<()> {
        let mut left = self.all_referrers()?;
        loop {
            let next: Vec<_> = left.extract_if(.., |(subject, _)| marks.blobs.contains(subject)).collect();
            if next.is_empty() {
                return Ok(());
            }
            for (_, entry) in next {
                self.mark_blob(&entry.digest, marks)?;
            }
        }
    }

    /// Takes off the list what a collection has taken.
    pub(crate) fn forget_lost_referrers(&self) -> Result<()> {
        let is_lost = |entry: &Descriptor| is_referrer(entry) && !self.has(&entry.digest);
        if !self.entries()?.iter().any(is_lost) {
            return Ok(());
        }
        self.edit_entries(|entries| entries.retain(|entry| !is_lost(entry)))
    }

    fn all_referrers(&self) -> Result<Vec<(Digest, Descriptor)>> {
        Ok(self.entries()?.iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use oci::{Manifest, MediaType, Raw};

    use super::*;
    use crate::Error;
    use crate::gc::Roots;
    use crate::layout::Target;

    struct World {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl World {
        fn new() -> World {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("store")).unwrap();
            World { folder, store }
        }

        fn document(&self, note: &str) -> Descriptor {
            let config = Descriptor::new(MediaType::OciConfig, self.store.put_bytes(b"{}").unwrap(), 2);
            let mut manifest = Manifest::oci(config, Vec::new());
            manifest.annotations.insert("note".to_owned(), note.to_owned());
            self.store.put_document(&Raw::write(manifest), MediaType::OciManifest).unwrap()
        }

        fn collect(&mut self) {
            self.store.release();
            self.store.collect(|_| Ok(Roots::default())).unwrap();
        }

        fn listed(&self) -> usize {
            self.store.entries().unwrap().len()
        }
    }

    #[test]
    fn referrers_live_as_long_as_their_subject() {
        let mut world = World::new();
        let (image, signature, on_it) = (world.document("image"), world.document("s"), world.document("t"));
        let stray = world.document("about what is not here");
        let name = "it:1".parse().unwrap();
        world.store.tag(&name, &image).unwrap();
        world.store.add_referrer(&signature.digest, &on_it).unwrap();
        world.store.add_referrer(&image.digest, &signature).unwrap();
        world.store.add_referrer(&image.digest, &signature).unwrap();
        world.store.add_referrer(&Digest::of(b"nowhere"), &stray).unwrap();
        assert_eq!(world.store.referrers(&image.digest).unwrap(), std::slice::from_ref(&signature));
        assert_eq!(world.store.images().unwrap().len(), 1, "they are no images");
        world.collect();
        assert_eq!(world.store.referrers(&image.digest).unwrap(), std::slice::from_ref(&signature));
        assert_eq!(world.store.referrers(&signature.digest).unwrap(), std::slice::from_ref(&on_it));
        assert!(!world.store.has(&stray.digest));
        assert_eq!(world.listed(), 3);
        world.store.untag(&name).unwrap();
        world.collect();
        assert_eq!(world.listed(), 0);
        assert!(![&image, &signature, &on_it].iter().any(|one| world.store.has(&one.digest)));
    }

    #[test]
    fn exports_have_them() {
        let world = World::new();
        let (image, signature, on_it) = (world.document("image"), world.document("s"), world.document("t"));
        world.store.add_referrer(&image.digest, &signature).unwrap();
        world.store.add_referrer(&signature.digest, &on_it).unwrap();
        let path = world.folder.path().join("layout");
        world.store.export(&image, &[], Target::Directory(&path)).unwrap();
        let list: oci::Index =
            serde_json::from_slice(&std::fs::read(path.join("index.json")).unwrap()).unwrap();
        let digests: BTreeSet<_> = list.manifests.iter().map(|entry| entry.digest).collect();
        assert_eq!(digests, BTreeSet::from([image.digest, signature.digest, on_it.digest]));
        assert!(!list.manifests.iter().any(is_referrer), "our own annotation is ours");
        assert!(world.store.forget_referrer(&signature.digest).unwrap());
        assert!(!world.store.forget_referrer(&signature.digest).unwrap());
        assert_eq!(world.store.referrers(&image.digest).unwrap(), []);
    }

    #[test]
    fn what_is_not_here_is_not_listed() {
        let world = World::new();
        let image = world.document("image");
        let absent = Descriptor::new(MediaType::OciManifest, Digest::of(b"absent"), 6);
        let error = world.store.add_referrer(&image.digest, &absent).unwrap_err();
        assert!(matches!(error, Error::MissingBlob { .. }), "{error:?}");
    }
}
