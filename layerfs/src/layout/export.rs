//! Copies of images for elsewhere: a layout as a directory or as a tar, there whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Document, Index, Raw, Reference};

use super::{LAYOUT, named, write_layout_files};
use crate::entry::{Entry, Kind, Time};
use crate::ingest::random_name;
use crate::layer::tar::Writer;
use crate::store::Store;
use crate::{Error, IoResultExt, Result};

/// Where an export goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A layout in a directory, which is replaced if it is one already.
    Directory(&'a Path),
    /// A tar of a layout, in a file. Equal images give equal bytes.
    Archive(&'a Path),
}

impl Store {
    /// Copies the image `descriptor` under the given names to `target`.
    pub fn export(&self, descriptor: &Descriptor, names: &[Reference], target: Target<'_>) -> Result<()> {
        let blobs = self.closure(descriptor)?;
        let entries = match names {
            [] => vec![descriptor.clone()],
            names => names.iter().map(|name| named(descriptor, name)).collect(),
        };
        match target {
            Target::Directory(path) => self.export_directory(path, &blobs, entries),
            Target::Archive(path) => {
                let temporary = beside(path);
                let open = File::options().write(true).create_new(true).mode(0o644).open(&temporary);
                let file = open.at("create", &temporary)?;
                let done = self
                    .export_archive(BufWriter::with_capacity(1 << 20, file), &blobs, entries)
                    .and_then(|()| std::fs::rename(&temporary, path).at("create", path));
                done.inspect_err(|_| {
                    // The error that matters is the one being returned.
                    let _left_over = std::fs::remove_file(&temporary);
                })
            }
        }
    }

    /// Writes the archive of [`Target::Archive`] to any writer.
    pub fn export_to(&self, descriptor: &Descriptor, names: &[Reference], out: impl Write) -> Result<()> {
        let entries = match names {
            [] => vec![descriptor.clone()],
            names => names.iter().map(|name| named(descriptor, name)).collect(),
        };
        self.export_archive(out, &self.closure(descriptor)?, entries)
    }

    /// The blobs that an image or an index of images consists of, with their sizes in bytes.
    fn closure(&self, descriptor: &Descriptor) -> Result<BTreeMap<Digest, u64>> {
        let mut blobs = BTreeMap::new();
        self.add_closure(descriptor, &mut blobs, 0)?;
        Ok(blobs)
    }

    fn add_closure(
        &self,
        descriptor: &Descriptor,
        blobs: &mut BTreeMap<Digest, u64>,
        depth: u8,
    ) -> Result<()> {
        blobs.insert(descriptor.digest, descriptor.size);
        match self.document(descriptor)? {
            Document::Manifest(manifest) => {
                let manifest = manifest.value();
                blobs.extend(
                    manifest.layers.iter().chain([&manifest.config]).map(|part| (part.digest, part.size)),
                );
            }
            // An index within an index is legal, and deeper ones are nobody's.
            Document::Index(index) if depth < 2 => {
                for entry in &index.value().manifests {
                    self.add_closure(entry, blobs, depth + 1)?;
                }
            }
            Document::Index(_) => {
                return Err(oci::Error::Ambiguous {
                    digest: descriptor.digest,
                    reason: "indexes are nested more than twice",
                }
                .into());
            }
        }
        Ok(())
    }

    fn export_directory(
        &self,
        path: &Path,
        blobs: &BTreeMap<Digest, u64>,
        entries: Vec<Descriptor>,
    ) -> Result<()> {
        let temporary = beside(path);
        let result =
            self.fill_directory(&temporary, blobs, entries).and_then(|()| replace_dir(&temporary, path));
        result.inspect_err(|_| {
            // The error that matters is the one being returned.
            let _left_over = std::fs::remove_dir_all(&temporary);
        })
    }

    fn fill_directory(
        &self,
        dir: &Path,
        blobs: &BTreeMap<Digest, u64>,
        entries: Vec<Descriptor>,
    ) -> Result<()> {
        let folder = dir.join("blobs/sha256");
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).at("create", &folder)?;
        for digest in blobs.keys() {
            let (from, to) = (self.blob_path(digest), folder.join(digest.hex()));
            if !from.exists() {
                return Err(Error::MissingBlob { digest: *digest });
            }
            std::fs::copy(from, &to).at("write", &to)?;
        }
        write_layout_files(dir, entries)
    }

    fn export_archive(
        &self,
        out: impl Write,
        blobs: &BTreeMap<Digest, u64>,
        entries: Vec<Descriptor>,
    ) -> Result<()> {
        let failed = |source| Error::WriteLayer { source };
        let mut tar = Writer::new(out);
        for dir in ["blobs", "blobs/sha256"] {
            tar.entry(&entry(dir.to_owned(), Kind::Directory)).map_err(failed)?;
        }
        for (digest, size) in blobs {
            let name = format!("blobs/sha256/{}", digest.hex());
            tar.entry(&entry(name, Kind::File { size: *size })).map_err(failed)?;
            self.copy_blob(digest, *size, &mut tar)?;
        }
        let index = Raw::write(Index::oci(entries));
        for (name, bytes) in [("index.json", index.bytes()), ("oci-layout", LAYOUT)] {
            tar.entry(&entry(name.to_owned(), Kind::File { size: bytes.len() as u64 })).map_err(failed)?;
            tar.write_data(bytes).map_err(failed)?;
        }
        tar.finish().and_then(|mut out| out.flush()).map_err(failed)
    }

    fn copy_blob<W: Write>(&self, digest: &Digest, size: u64, tar: &mut Writer<W>) -> Result<()> {
        let mut blob = oci::Verifier::new(self.open_blob(digest)?, *digest, size);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = blob.read(&mut buffer).map_err(|source: io::Error| {
                self.blame(digest, Error::ReadBlob { digest: *digest, source })
            })?;
            if count == 0 {
                return Ok(());
            }
            tar.write_data(&buffer[..count]).map_err(|source| Error::WriteLayer { source })?;
        }
    }
}

fn entry(path: String, kind: Kind) -> Entry {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let (path, mtime) = (path.into_bytes(), Time::default());
    Entry { path, kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
}

/// A name in the same directory, and so on the same file system.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", random_name()));
    path.with_file_name(name)
}

/// Puts `new` where `path` is; a layout that is there already goes.
fn replace_dir(new: &Path, path: &Path) -> Result<()> {
    if path.join("oci-layout").exists() {
        let old = beside(path);
        std::fs::rename(path, &old).at("replace", path)?;
        std::fs::rename(new, path).at("create", path)?;
        return std::fs::remove_dir_all(&old).at("delete", old);
    }
    // An empty directory is replaced too; one with anything in it is not.
    std::fs::rename(new, path).at("create", path)
}
