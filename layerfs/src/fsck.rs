//! Whether a store is whole: what is damaged, and what is merely left over.
//!
//! Quick: the two files of the layout; every document of every image; the names and sizes of what these name; every
//! snapshot with its ancestors; aliases and memos that stand for nothing; things half made. Deep: every blob is
//! hashed as well, and every snapshot that layers were unpacked to is held against them (`unpacked`). The builder's records
//! are its own (crate `builder`), and so is whether a snapshot is still the layer that it was packed to.
//!
//! Repairing puts what is damaged into `quarantine/` and deletes what is left over; nothing is made anew here but the
//! layout's two files. Whoever needs the rest next, a build or a pull, does that.

mod unpacked;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::SystemTime;

use oci::{Descriptor, Digest, Document, Index, Manifest};
use rayon::prelude::*;

use crate::snapshot::{SnapshotId, Snapshotter};
use crate::store::Store;
use crate::{Error, Result, download, ingest, lock, site};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that somebody needs is missing or wrong.
    Damage,
    /// Nobody needs it: killed processes leave such, and the next ones clear it away.
    Leftover,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, relative to the store.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// Whether there is something at `path` to be put away; otherwise it is missing.
    pub is_there: bool,
}

impl Finding {
    /// Something damaged at `path`.
    pub fn damage(path: impl Into<PathBuf>, problem: impl Into<String>) -> Finding {
        Finding { severity: Severity::Damage, path: path.into(), problem: problem.into(), is_there: true }
    }

    /// Something at `path` that nobody needs.
    pub fn leftover(path: impl Into<PathBuf>, problem: impl Into<String>) -> Finding {
        Finding { severity: Severity::Leftover, ..Finding::damage(path, problem) }
    }

    fn missing(path: impl Into<PathBuf>, problem: impl Into<String>) -> Finding {
        Finding { is_there: false, ..Finding::damage(path, problem) }
    }
}

impl Store {
    /// Looks through the store; `deep` hashes every blob and compares what was unpacked as well.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn check(&self, deep: bool) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        self.check_layout(&mut findings)?;
        let whole = self.check_blobs(deep, &mut findings)?;
        self.check_snapshots(&mut findings)?;
        if deep {
            self.check_unpacked(&whole, &mut findings)?;
        }
        for (path, memo) in self.memos()? {
            let is_of_use = memo.is_some_and(|memo| self.size_of(&memo.blob.digest) == Some(memo.blob.size));
            if !is_of_use {
                findings.push(Finding::leftover(self.relative(&path), "remembers a layer that is not here"));
            }
        }
        self.check_half_things(&mut findings)?;
        self.check_downloads(&mut findings)?;
        Ok(findings)
    }

    /// Puts away what was found, unless it is not there at all; says whether it did. A file of the layout that went is
    /// made anew: without them the store is none.
    ///
    /// # Errors
    /// When it cannot be moved or deleted.
    pub fn repair(&self, finding: &Finding) -> Result<bool> {
        let path = self.root().join(&finding.path);
        if !finding.is_there {
            return Ok(false);
        }
        match finding.severity {
            Severity::Damage => self.quarantine(&path)?,
            Severity::Leftover => {
                self.discard(&path)?;
            }
        }
        self.init_layout()?;
        Ok(true)
    }

    fn relative(&self, path: &std::path::Path) -> PathBuf {
        path.strip_prefix(self.root()).unwrap_or(path).to_owned()
    }

    fn check_layout(&self, findings: &mut Vec<Finding>) -> Result<()> {
        let read = |name: &str| std::fs::read(self.root().join(name)).ok();
        // Where nothing is yet, the first build makes it.
        let is_begun = self.names("")?.iter().any(|name| name != site::LOST_AND_FOUND);
        if is_begun && read("oci-layout").as_deref() != Some(crate::layout::LAYOUT) {
            findings.push(Finding::damage("oci-layout", "does not say that this is an OCI image layout"));
        }
        let Some(bytes) = read("index.json") else { return Ok(()) };
        let Ok(index) = serde_json::from_slice::<Index>(&bytes) else {
            findings.push(Finding::damage("index.json", "is no list of images"));
            return Ok(());
        };
        for entry in index.manifests {
            let name = entry.annotations.get(oci::descriptor::REF_NAME).cloned();
            let from = findings.len();
            let is_referrer = crate::layout::is_referrer(&entry);
            self.check_documents(entry, name.as_deref().unwrap_or("<none>"), findings);
            if name.is_none() && !is_referrer {
                // Nobody can ask for it, and the next `prune` takes it off the list.
                findings[from..].iter_mut().filter(|found| !found.is_there).for_each(|found| {
                    found.severity = Severity::Leftover;
                });
            }
        }
        Ok(())
    }

    /// A manifest or an index with all that it names, each once: indexes may be in each other in any number.
    fn check_documents(&self, root: Descriptor, image: &str, findings: &mut Vec<Finding>) {
        let (mut left, mut seen) = (vec![root], BTreeSet::new());
        while let Some(descriptor) = left.pop() {
            if !self.check_named(&descriptor, image, findings) || !seen.insert(descriptor.digest) {
                continue;
            }
            match self.document(&descriptor) {
                Ok(Document::Manifest(manifest)) => self.check_parts(manifest.value(), image, findings),
                Ok(Document::Index(index)) => left.extend(index.value().manifests.iter().rev().cloned()),
                Err(error) => findings.push(self.damaged(&descriptor.digest, image, &error)),
            }
        }
    }

    fn check_parts(&self, manifest: &Manifest, image: &str, findings: &mut Vec<Finding>) {
        let is_here = self.check_named(&manifest.config, image, findings);
        if let (true, Err(error)) = (is_here, self.read_document(&manifest.config)) {
            findings.push(self.damaged(&manifest.config.digest, image, &error));
        }
        for layer in &manifest.layers {
            self.check_named(layer, image, findings);
        }
    }

    fn damaged(&self, digest: &Digest, image: &str, error: &Error) -> Finding {
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        Finding::damage(
            self.relative(&self.blob_path(digest)),
            format!("a document of `{image}`: {error}{cause}"),
        )
    }

    /// Whether the blob is there and as long as was promised.
    fn check_named(&self, named: &Descriptor, image: &str, findings: &mut Vec<Finding>) -> bool {
        let path = self.relative(&self.blob_path(&named.digest));
        let finding = match self.size_of(&named.digest) {
            Some(size) if size == named.size => return true,
            Some(size) => Finding::damage(
                path,
                format!("part of `{image}`: expected {} bytes, found {size}", named.size),
            ),
            None => Finding::missing(path, format!("part of `{image}`, and not in the store")),
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
        false
    }

    /// Gives those that were found to be what they should be.
    fn check_blobs(&self, deep: bool, findings: &mut Vec<Finding>) -> Result<BTreeSet<Digest>> {
        let mut digests = Vec::new();
        for path in self.blob_files()? {
            match Digest::from_blob_path(&path) {
                Some(digest) => digests.push(digest),
                None => findings.push(Finding::leftover(path, "its name is not that of a blob")),
            }
        }
        if !deep {
            return Ok(BTreeSet::new());
        }
        let hashed: Vec<Option<Finding>> = digests.par_iter().map(|digest| self.hash_blob(digest)).collect();
        let whole =
            digests.iter().zip(&hashed).filter(|(_, found)| found.is_none()).map(|(digest, _)| *digest);
        let whole = whole.collect();
        let new = |finding: &Finding| !findings.iter().any(|known| known.path == finding.path);
        let hashed: Vec<Finding> = hashed.into_iter().flatten().filter(new).collect();
        findings.extend(hashed);
        Ok(whole)
    }

    fn hash_blob(&self, digest: &Digest) -> Option<Finding> {
        let path = self.relative(&self.blob_path(digest));
        // What has gone meanwhile is no damage.
        let mut file = self.open_untrusted(digest).ok()?;
        match crate::trust::hash(&mut file, digest.algorithm()) {
            Ok(found) if found == *digest => None,
            Ok(found) => {
                Some(Finding::damage(path, format!("its content is not what its name says: found `{found}`")))
            }
            Err(error) => Some(Finding::damage(path, format!("cannot be read: {error}"))),
        }
    }

    fn check_snapshots(&self, findings: &mut Vec<Finding>) -> Result<()> {
        for all in self.everywhere().each() {
            for name in self.names(all.layout().folder())? {
                findings.extend(self.check_snapshot(all, &name));
            }
        }
        Ok(())
    }

    fn check_snapshot(&self, all: &dyn Snapshotter, name: &str) -> Option<Finding> {
        let path = PathBuf::from(all.layout().folder()).join(name);
        let Ok(id) = name.parse::<SnapshotId>() else {
            return Some(Finding::leftover(path, "its name is not that of a snapshot"));
        };
        if self.root().join(&path).is_symlink() {
            let missing = || Finding::leftover(path, "an alias of a snapshot that is not here");
            return (!all.contains(&id)).then(missing);
        }
        let Ok(ancestors) = all.ancestors(&id) else {
            return Some(Finding::damage(path, "it has no `meta.json`, or one that does not parse"));
        };
        if !self.root().join(&path).join("fs").is_dir() {
            return Some(Finding::damage(path, "it has no files"));
        }
        let missing = ancestors.iter().find(|ancestor| !all.contains(ancestor))?;
        Some(Finding::damage(path, format!("it stands on `{missing}`, which is not here")))
    }

    /// Whoever wants the blob goes on with a download that broke, so that it is no leftover before it is old.
    fn check_downloads(&self, findings: &mut Vec<Finding>) -> Result<()> {
        let forgotten = SystemTime::now() - download::FORGOTTEN;
        for name in self.names(download::FOLDER)? {
            let path = PathBuf::from(download::FOLDER).join(&name);
            let Ok(file) = std::fs::File::open(self.root().join(&path)) else { continue };
            if download::digest_of(&name).is_none() {
                findings.push(Finding::leftover(path, "its name is not that of a download"));
            } else if download::is_older(&file, forgotten) && lock::try_shared(&file) == Ok(true) {
                findings.push(Finding::leftover(path, "a download that nobody goes on with"));
            }
        }
        Ok(())
    }

    /// What is being made or deleted by nobody. Whoever opens the store to change it clears that away, so that there is
    /// nothing to repair.
    fn check_half_things(&self, findings: &mut Vec<Finding>) -> Result<()> {
        for folder in ["ingest", "trash", "leases"] {
            for name in self.names(folder)? {
                let path = PathBuf::from(folder).join(&name);
                let is_held = std::fs::File::open(self.root().join(&path))
                    .is_ok_and(|file| lock::try_shared(&file) == Ok(false));
                let being_deleted = || {
                    let trash = ingest::open_dir(&self.root().join("trash"));
                    folder == "trash" && trash.is_ok_and(|trash| lock::try_shared(&trash) == Ok(false))
                };
                if !is_held && !being_deleted() {
                    let left = Finding::leftover(path, "a killed process left it");
                    findings.push(Finding { is_there: false, ..left });
                }
            }
        }
        Ok(())
    }
}
