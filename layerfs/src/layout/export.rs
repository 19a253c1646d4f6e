//! Copies of images for elsewhere: a layout as a directory or as a tar, there whole or not at all.
//!
//! What is written is a list of [`Part`]s: the layout's own, and whatever a caller adds to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Document, Index, MAX_INDEX_DEPTH, Raw, Reference};
use rustix::io::Errno;

use super::{LAYOUT, named};
use crate::entry::{Entry, Kind, Time};
use crate::ingest::random_name;
use crate::layer::tar::Writer;
use crate::store::Store;
use crate::{Error, IoResultExt, Result};

/// Where an export goes.
pub enum Target<'a> {
    /// A directory, which is replaced if it is a layout already.
    Directory(&'a Path),
    /// A tar, in a file. Equal images give equal bytes.
    Archive(&'a Path),
    /// The same tar, to any writer.
    Stream(&'a mut dyn Write),
}

/// What of that which refers to images goes with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrers {
    /// Nothing, unless it is given as an image is.
    Given,
    /// Whatever the store lists.
    Listed,
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Relative to the export's root.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A blob of the store.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size_bytes: u64,
    },
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Part {
    /// A file with these bytes.
    pub fn bytes(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Part {
        Part { path: path.into(), content: Content::Bytes(bytes.into()) }
    }

    /// A file that is a blob of the store.
    pub fn blob(path: impl Into<String>, digest: Digest, size_bytes: u64) -> Part {
        Part { path: path.into(), content: Content::Blob { digest, size_bytes } }
    }

    fn size_bytes(&self) -> u64 {
        match &self.content {
            Content::Blob { size_bytes, .. } => *size_bytes,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

impl Store {
    /// Copies the image `descriptor` under the given names to `target`, as a layout, with what refers to it.
    pub fn export(&self, descriptor: &Descriptor, names: &[Reference], target: Target<'_>) -> Result<()> {
        self.write_parts(
            &self.layout_parts(&[(descriptor.clone(), names.to_vec())], Referrers::Listed)?,
            target,
        )
    }

    /// The files of a layout with these images, each under its names; a blob that several have is one file.
    pub fn layout_parts(
        &self,
        images: &[(Descriptor, Vec<Reference>)],
        referrers: Referrers,
    ) -> Result<Vec<Part>> {
        let (mut blobs, mut documents) = (BTreeMap::new(), BTreeSet::new());
        let mut entries = Vec::new();
        for (descriptor, names) in images {
            self.add_closure(descriptor, &mut blobs, &mut documents, 0)?;
            match &names[..] {
                [] => entries.push(descriptor.clone()),
                names => entries.extend(names.iter().map(|name| named(descriptor, name))),
            }
        }
        let mut listed = match referrers {
            Referrers::Given => Vec::new(),
            Referrers::Listed => self.referrers_of(&blobs)?,
        };
        listed.retain(|entry| entries.iter().all(|given| given.digest != entry.digest));
        for entry in listed {
            self.add_closure(&entry, &mut blobs, &mut documents, 0)?;
            entries.push(entry);
        }
        let blob = |(digest, size): (Digest, u64)| Part::blob(digest.blob_path(), digest, size);
        let mut parts: Vec<Part> = blobs.into_iter().map(blob).collect();
        parts.push(Part::bytes("index.json", Raw::write(Index::oci(entries)).bytes()));
        parts.push(Part::bytes("oci-layout", LAYOUT));
        Ok(parts)
    }

    /// Writes the files to `target`; each blob is verified on its way.
    pub fn write_parts(&self, parts: &[Part], target: Target<'_>) -> Result<()> {
        match target {
            Target::Directory(path) => {
                let temporary = beside(path);
                let done =
                    self.fill_directory(&temporary, parts).and_then(|()| replace_dir(&temporary, path));
                done.inspect_err(|_| {
                    // The error that matters is the one being returned.
                    let _left_over = std::fs::remove_dir_all(&temporary);
                })
            }
            Target::Archive(path) => replacing_file(path, &mut |file| self.write_archive(file, parts)),
            Target::Stream(out) => self.write_archive(out, parts),
        }
    }

    /// Adds the blobs that an image or an index of images consists of, with their sizes in bytes.
    fn add_closure(
        &self,
        descriptor: &Descriptor,
        blobs: &mut BTreeMap<Digest, u64>,
        documents: &mut BTreeSet<Digest>,
        depth: u8,
    ) -> Result<()> {
        if depth > MAX_INDEX_DEPTH {
            let reason = "there are too many indexes above it";
            return Err(oci::Error::Ambiguous { digest: descriptor.digest, reason }.into());
        }
        if !documents.insert(descriptor.digest) {
            return Ok(());
        }
        blobs.insert(descriptor.digest, descriptor.size);
        match self.document(descriptor)? {
            Document::Manifest(manifest) => {
                let manifest = manifest.value();
                blobs.extend(
                    manifest.layers.iter().chain([&manifest.config]).map(|part| (part.digest, part.size)),
                );
            }
            Document::Index(index) => {
                for entry in &index.value().manifests {
                    self.add_closure(entry, blobs, documents, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn fill_directory(&self, dir: &Path, parts: &[Part]) -> Result<()> {
        let mut make = std::fs::DirBuilder::new();
        make.recursive(true).mode(0o755);
        make.create(dir).at("create", dir)?;
        for folder in folders(parts) {
            let folder = dir.join(folder);
            make.create(&folder).at("create", &folder)?;
        }
        for part in parts {
            let path = dir.join(&part.path);
            match &part.content {
                Content::Bytes(bytes) => std::fs::write(&path, bytes).at("write", &path)?,
                // A new file: the mode of a blob says what the store knows of it.
                Content::Blob { digest, size_bytes } => {
                    let mut file = File::create_new(&path).at("create", &path)?;
                    self.copy_blob(digest, *size_bytes, &mut |bytes| {
                        file.write_all(bytes).at("write", &path)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn write_archive(&self, out: &mut dyn Write, parts: &[Part]) -> Result<()> {
        let failed = |source| Error::WriteArchive { source };
        let mut tar = Writer::new(out);
        for dir in folders(parts) {
            tar.entry(&entry(dir, Kind::Directory)).map_err(failed)?;
        }
        for part in parts {
            let kind = Kind::File { size: part.size_bytes() };
            tar.entry(&entry(part.path.clone(), kind)).map_err(failed)?;
            match &part.content {
                Content::Bytes(bytes) => tar.write_data(bytes).map_err(failed)?,
                Content::Blob { digest, size_bytes } => {
                    self.copy_blob(digest, *size_bytes, &mut |bytes| tar.write_data(bytes).map_err(failed))?
                }
            }
        }
        tar.finish().and_then(|out| out.flush()).map_err(failed)
    }

    /// Gives the bytes of a blob to `write`, verified on their way.
    fn copy_blob(
        &self,
        digest: &Digest,
        size: u64,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut blob = oci::Verifier::new(self.open_blob(digest)?, *digest, size);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = blob.read(&mut buffer).map_err(|source: io::Error| {
                self.blame(digest, Error::ReadBlob { digest: *digest, source })
            })?;
            if count == 0 {
                return Ok(());
            }
            write(&buffer[..count])?;
        }
    }
}

fn entry(path: String, kind: Kind) -> Entry {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let (path, mtime) = (path.into_bytes(), Time::default());
    Entry { path, kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

/// The folders of the files, each after those above it.
fn folders(parts: &[Part]) -> BTreeSet<String> {
    let above = |part: &Part| {
        let slashes: Vec<usize> = part.path.match_indices('/').map(|(at, _)| at).collect();
        slashes.into_iter().map(|at| part.path[..at].to_owned()).collect::<Vec<_>>()
    };
    parts.iter().flat_map(above).collect()
}

/// Writes a file beside `path` and, when it is complete, puts it there: a reader sees the old file or the new one.
/// A device or a pipe that is there is written to.
///
/// # Errors
/// What `write` says, or that the file cannot be made.
pub fn replacing_file(path: &Path, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<()> {
    let found = std::fs::metadata(path).map(|found| found.file_type());
    if found.is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        let mut file = File::options().write(true).open(path).at("open", path)?;
        return write(&mut file);
    }
    let temporary = beside(path);
    let open = File::options().write(true).create_new(true).mode(0o644).open(&temporary);
    let mut file = BufWriter::with_capacity(1 << 20, open.at("create", path)?);
    let done = write(&mut file)
        .and_then(|()| file.flush().at("write", path))
        .and_then(|()| std::fs::rename(&temporary, path).at("create", path));
    done.inspect_err(|_| {
        // The error that matters is the one being returned.
        let _left_over = std::fs::remove_file(&temporary);
    })
}

/// A name in the same directory, and so on the same file system.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", random_name()));
    path.with_file_name(name)
}

/// What a layout has, and what Docker's archives have beside it.
const OF_LAYOUTS: [&str; 5] = ["oci-layout", "index.json", "blobs", "manifest.json", "repositories"];

/// Puts `new` where `path` is; a layout that is there already goes, unless there is anything else in its directory: a
/// store of images, for one, is a layout too.
fn replace_dir(new: &Path, path: &Path) -> Result<()> {
    if path.join("oci-layout").exists() {
        for entry in std::fs::read_dir(path).at("list", path)? {
            let name = entry.at("list", path)?.file_name();
            if !OF_LAYOUTS.iter().any(|known| name.as_os_str() == *known) {
                return Err(Errno::NOTEMPTY).at("replace", path);
            }
        }
        let old = beside(path);
        std::fs::rename(path, &old).at("replace", path)?;
        std::fs::rename(new, path).at("create", path)?;
        return std::fs::remove_dir_all(&old).at("delete", old);
    }
    // An empty directory is replaced too; one with anything in it is not.
    std::fs::rename(new, path).at("create", path)
}
