//! `oci-layout://PATH[:TAG|@DIGEST]`: images out of a directory that is an OCI image layout.
//! (OCI image-spec, image-layout.md.)
//!
//! Order: find what is meant, in `index.json` or among the blobs; copy its documents into the store, then the blobs
//! of the images that the build may want, each verified. What comes out is a reference to the copy. The directory may
//! be anybody's: of its texts only digests become paths.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use layerfs::store::Store;
use oci::descriptor::{IMAGE_NAME, REF_NAME};

use crate::attest::ARTIFACT_TYPE;
use oci::{Descriptor, Digest, Document, Index, MAX_DOCUMENT_BYTES, Platform, Raw, Reference};

/// The registry of what came out of layouts: none, by RFC 2606. Whoever finds it in a name asks nobody.
pub(super) const REGISTRY: &str = "oci-layout.invalid";

/// What is meant when nothing is said, if there is such a tag.
const DEFAULT_TAG: &str = "latest";

/// An image of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutImage {
    /// The directory.
    pub path: PathBuf,
    /// Which of its images.
    pub selector: Selector,
}

/// Which image of a layout is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one with the tag `latest`, or the only one.
    Any,
    /// The one with this tag.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
}

/// An image cannot be had from a layout.
#[derive(Debug)]
pub enum LayoutError {
    /// The text is no `PATH[:TAG|@DIGEST]`.
    Text {
        /// The text.
        text: String,
        /// Why.
        reason: &'static str,
    },
    /// A file of the layout cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of images is none.
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: oci::Error,
    },
    /// There is no such image.
    Absent {
        /// The layout.
        path: PathBuf,
        /// The tag or digest.
        wanted: String,
        /// The tags, or for what has none, the digests.
        offered: Vec<String>,
    },
    /// It has several images, and nothing says which one is meant.
    Several {
        /// The layout.
        path: PathBuf,
        /// Their tags, or for what has none, their digests.
        offered: Vec<String>,
    },
    /// The image is for other platforms.
    Platform {
        /// The platforms that were wanted.
        wanted: Vec<String>,
        /// Those that it has.
        offered: Vec<String>,
    },
    /// The store did not keep it: what the layout has is not what it promises, or there is no space.
    Store(layerfs::Error),
}

impl FromStr for LayoutImage {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<LayoutImage, LayoutError> {
        let fail = |reason| LayoutError::Text { text: text.to_owned(), reason };
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) if digest.starts_with("sha256:") || digest.starts_with("sha512:") => {
                let digest = digest.parse().map_err(|_| fail("what follows `@` is not a digest"))?;
                (rest, Some(digest))
            }
            _ => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((_, "")) => return Err(fail("expected a tag behind `:`")),
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if path.is_empty() {
            return Err(fail("expected the path of a directory"));
        }
        let selector = match (digest, tag) {
            // The digest is what counts, as in any name.
            (Some(digest), _) => Selector::Digest(digest),
            (None, Some(tag)) => Selector::Tag(tag.to_owned()),
            (None, None) => Selector::Any,
        };
        Ok(LayoutImage { path: path.into(), selector })
    }
}

/// Copies `image` into `store`: of an index, what serves any of `platforms`, the first of which is wanted most. Gives
/// the name by which [`Images`](super::Images) has it, on no registry.
///
/// Nothing keeps the copy but the store's being open; what is built of it does.
///
/// # Errors
/// When there is no such image, it serves none of the platforms, or a blob is missing or damaged.
pub fn import(store: &Store, image: &LayoutImage, platforms: &[Platform]) -> Result<Reference, LayoutError> {
    let layout = Layout::at(&image.path);
    let found = layout.find(&image.selector, platforms)?;
    layout.copy(&found, store)?;
    match store.document(&found).map_err(LayoutError::Store)? {
        Document::Manifest(_) => layout.copy_image(&found, store)?,
        Document::Index(index) => {
            let picked: Vec<_> =
                platforms.iter().filter_map(|platform| index.value().pick(platform)).collect();
            if picked.is_empty() {
                let wanted = platforms.iter().map(Platform::to_string).collect();
                let offered = index.value().platforms().map(Platform::to_string).collect();
                return Err(LayoutError::Platform { wanted, offered });
            }
            picked.into_iter().try_for_each(|entry| layout.copy_image(entry, store))?;
        }
    }
    Ok(name(&image.path, found.digest))
}

/// A name that says where it came from, as far as a name can.
fn name(path: &Path, digest: Digest) -> Reference {
    let folder = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    let named = |repository: &str| format!("{REGISTRY}/{repository}@{digest}").parse();
    named(&folder).or_else(|_| named("image")).expect("a host, a word and a digest are a reference")
}

/// A name for what is in the store or nowhere: no registry is asked for what is missing.
pub fn nowhere(digest: Digest) -> Reference {
    name(Path::new(""), digest)
}

/// A layout that others wrote.
pub(crate) struct Layout<'a> {
    pub(crate) path: &'a Path,
}

impl<'a> Layout<'a> {
    pub(crate) fn at(path: &'a Path) -> Layout<'a> {
        Layout { path }
    }

    /// All entries of its list.
    pub(crate) fn entries(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let path = self.path.join("index.json");
        let list = Raw::<Index>::parse(self.read(&path)?, "index")
            .map_err(|source| LayoutError::List { path, source })?;
        Ok(list.value().manifests.clone())
    }

    pub(crate) fn find(
        &self,
        selector: &Selector,
        platforms: &[Platform],
    ) -> Result<Descriptor, LayoutError> {
        let entries = &self.entries()?;
        let tagged = |tag: &str| entries.iter().filter(|entry| has_tag(entry, tag)).collect::<Vec<_>>();
        let found = match selector {
            Selector::Digest(digest) => return self.find_blob(digest, entries),
            Selector::Tag(tag) => tagged(tag),
            Selector::Any => match tagged(DEFAULT_TAG) {
                // What only refers to an image is none.
                none if none.is_empty() => {
                    entries.iter().filter(|entry| !entry.extra.contains_key(ARTIFACT_TYPE)).collect()
                }
                found => found,
            },
        };
        match (&found[..], selector) {
            ([one], _) => Ok((*one).clone()),
            ([], Selector::Tag(tag)) => Err(self.absent(tag.clone(), entries)),
            ([], _) => Err(self.absent(DEFAULT_TAG.to_owned(), entries)),
            // One name for several platforms without an index round them.
            (several, _) => {
                let several = Index::oci(several.iter().map(|entry| (*entry).clone()).collect());
                let picked = platforms.iter().find_map(|wanted| several.pick(wanted)).cloned();
                let is_one_image = several.platforms().count() == several.manifests.len()
                    && names(&several.manifests).windows(2).all(|pair| pair[0] == pair[1]);
                picked.filter(|_| is_one_image).ok_or_else(|| LayoutError::Several {
                    path: self.path.to_owned(),
                    offered: names(&several.manifests),
                })
            }
        }
    }

    /// A digest need not stand in the list: it may be that of an image of an index.
    fn find_blob(&self, digest: &Digest, entries: &[Descriptor]) -> Result<Descriptor, LayoutError> {
        if let Some(entry) = entries.iter().find(|entry| entry.digest == *digest) {
            return Ok(entry.clone());
        }
        let bytes = self.read(&self.blob_path(digest));
        // Whoever damaged it has another digest.
        let bytes = bytes.ok().filter(|bytes| digest.algorithm().digest(bytes) == *digest);
        let document = bytes.and_then(|bytes| Document::recognise(bytes).ok());
        let descriptor = document.map(|document| document.called(*digest).descriptor());
        descriptor.ok_or_else(|| self.absent(digest.to_string(), entries))
    }

    fn absent(&self, wanted: String, entries: &[Descriptor]) -> LayoutError {
        LayoutError::Absent { path: self.path.to_owned(), wanted, offered: names(entries) }
    }

    fn copy_image(&self, manifest: &Descriptor, store: &Store) -> Result<(), LayoutError> {
        self.copy(manifest, store)?;
        let manifest = store.manifest(manifest).map_err(LayoutError::Store)?;
        let manifest = manifest.value();
        manifest.layers.iter().chain([&manifest.config]).try_for_each(|blob| self.copy(blob, store))
    }

    /// Copies a blob into the store, unless it is there.
    pub(crate) fn copy(&self, blob: &Descriptor, store: &Store) -> Result<(), LayoutError> {
        if store.size_of(&blob.digest) == Some(blob.size) {
            return Ok(());
        }
        let mut file = self.open(&self.blob_path(&blob.digest))?;
        store.put_verified(&mut file, blob).map_err(LayoutError::Store)
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.blob_path())
    }

    pub(crate) fn open(&self, path: &Path) -> Result<File, LayoutError> {
        let fail = |source| LayoutError::Read { path: path.to_owned(), source };
        // A pipe would wait for a writer.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(fail)?;
        match file.metadata().map_err(fail)?.is_file() {
            true => Ok(file),
            false => Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file"))),
        }
    }

    /// A document, whole.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, LayoutError> {
        let fail = |source| LayoutError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        self.open(path)?.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
        match bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            true => Err(fail(io::Error::new(io::ErrorKind::FileTooLarge, "expected at most 4 MiB"))),
            false => Ok(bytes),
        }
    }
}

/// Whether an entry goes by this tag: some tools write the tag alone, others the whole name.
fn has_tag(entry: &Descriptor, tag: &str) -> bool {
    let is_tag = |name: &String| match name.contains([':', '/']) {
        true => name.parse::<Reference>().is_ok_and(|name| name.tag() == Some(tag)),
        false => name == tag,
    };
    let names = [REF_NAME, IMAGE_NAME].into_iter().filter_map(|key| entry.annotations.get(key));
    names.into_iter().any(is_tag)
}

fn names(entries: &[Descriptor]) -> Vec<String> {
    let name = |entry: &Descriptor| entry.annotations.get(REF_NAME).cloned();
    entries.iter().map(|entry| name(entry).unwrap_or_else(|| entry.digest.to_string())).collect()
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => "nothing".to_owned(),
            names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        };
        match self {
            LayoutError::Text { text, reason } => write!(f, "`{text}` is no image of a layout: {reason}"),
            LayoutError::Read { path, .. } => write!(f, "cannot read `{}` of an OCI layout", path.display()),
            LayoutError::List { path, .. } => write!(f, "`{}` is no list of images", path.display()),
            LayoutError::Absent { path, wanted, offered } => {
                write!(f, "`{wanted}` is not in the layout `{}`: it has {}", path.display(), list(offered))
            }
            LayoutError::Several { path, offered } => write!(
                f,
                "the layout `{}` has several images: expected one of {} behind its path",
                path.display(),
                list(offered)
            ),
            LayoutError::Platform { wanted, offered } => {
                write!(f, "it has no image for {}, only for {}", list(wanted), list(offered))
            }
            LayoutError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LayoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LayoutError::Read { source, .. } => Some(source),
            LayoutError::List { source, .. } => Some(source),
            LayoutError::Store(error) => error.source(),
            LayoutError::Text { .. }
            | LayoutError::Absent { .. }
            | LayoutError::Several { .. }
            | LayoutError::Platform { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;
