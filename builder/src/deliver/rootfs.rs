//! The files of images, without the images: as a tar or in a directory, each platform in a folder of its own where
//! there are several.

use std::io::Write;
use std::path::Path;

use layerfs::confined::Root;
use layerfs::entry::{Entry, Kind, Time};
use layerfs::flat::{self, Flat};
use layerfs::layer::pack::PackOptions;
use layerfs::layer::tar::Writer;
use layerfs::layout::replacing_file;
use layerfs::snapshot::{Snapshotter, View};

use super::Complete;
use crate::source::{ImageSource, layout, progress_events};
use crate::{Error, Events, VertexId};

/// The file system of one image.
#[derive(Debug)]
pub struct Tree {
    /// The folder that it is put in; empty for none.
    folder: String,
    /// None for an image without layers.
    view: Option<View>,
    /// How it is told what its files are like, as for a layer; by default, as they are.
    pub packing: PackOptions,
    /// Files that are put beside those of the image.
    extra: Vec<(String, Vec<u8>)>,
}

/// Where files go.
pub enum Place<'a> {
    /// A tar, in a file.
    Archive(&'a Path),
    /// A tar, to any writer.
    Stream(&'a mut (dyn Write + Send)),
    /// A directory, whose files all get this owner and group; what would act on this machine is left out.
    Directory(&'a Path, (u32, u32)),
}

/// Opens the file systems of images, which are unpacked where that was not done before.
///
/// # Errors
/// When a layer is missing or cannot be unpacked.
pub fn open(
    images: &[Complete],
    is_split: bool,
    source: Source<'_>,
    line: (VertexId, Events<'_>),
) -> Result<Vec<Tree>, Error> {
    images.iter().map(|image| Tree::open(image, is_split, source, line)).collect()
}

/// Where file systems come from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// What unpacks images.
    pub images: &'a dyn ImageSource,
    /// Where they are unpacked.
    pub snapshots: &'a dyn Snapshotter,
}

impl Tree {
    fn open(
        image: &Complete,
        is_split: bool,
        source: Source<'_>,
        (vertex, events): (VertexId, Events<'_>),
    ) -> Result<Tree, Error> {
        let reference = image.base.clone().unwrap_or_else(|| layout::nowhere(image.descriptor.digest));
        let fail = |source| Error::Image { reference: reference.clone(), span: None, stage: None, source };
        let base = image.as_base(reference.clone()).map_err(fail)?;
        let snapshot = source.images.snapshot(&base, &progress_events(vertex, events)).map_err(fail)?;
        let view = snapshot.map(|id| source.snapshots.view(&id)).transpose();
        let view = view.map_err(|source| Error::Store { act: "open the image's files", source })?;
        let folder = match is_split {
            true => image.config.value().platform().to_string().replace('/', "_"),
            false => String::new(),
        };
        Ok(Tree { folder, view, packing: PackOptions::default(), extra: Vec::new() })
    }

    /// The root of the file system; none for an image without layers.
    ///
    /// # Errors
    /// When it cannot be opened again.
    pub fn root(&self) -> layerfs::Result<Option<Root>> {
        self.view.as_ref().map(|view| Root::duplicate(view.root())).transpose()
    }

    /// Puts a file beside those of the image.
    pub fn add(&mut self, name: String, bytes: Vec<u8>) {
        self.extra.push((name, bytes));
    }
}

/// Writes the files of `trees` to `place`.
///
/// # Errors
/// When a file cannot be read, or the place cannot be written.
pub fn write(trees: &[Tree], place: Place<'_>) -> Result<(), Error> {
    let written = match place {
        Place::Archive(path) => replacing_file(path, &mut |out| archive(trees, None, out)),
        Place::Stream(out) => archive(trees, None, out),
        Place::Directory(path, owner) => flat::fill_directory(path, |out| archive(trees, Some(owner), out)),
    };
    written.map_err(|source| Error::Store { act: "write the files", source })
}

fn archive(trees: &[Tree], inert: Option<(u32, u32)>, out: &mut dyn Write) -> layerfs::Result<()> {
    let failed = |source| layerfs::Error::WriteArchive { source };
    let mut tar = Writer::new(out);
    for tree in trees {
        let PackOptions { epoch, acls } = tree.packing;
        let flat = Flat { folder: tree.folder.clone().into_bytes(), epoch, acls, inert };
        if !tree.folder.is_empty() {
            tar.entry(&entry(&tree.folder, Kind::Directory, inert)).map_err(failed)?;
        }
        if let Some(view) = &tree.view {
            flat::write(view, &flat, &mut tar)?;
        }
        for (name, bytes) in &tree.extra {
            let path = if tree.folder.is_empty() { name.clone() } else { format!("{}/{name}", tree.folder) };
            let kind = Kind::File { size: bytes.len() as u64 };
            tar.entry(&entry(&path, kind, inert)).map_err(failed)?;
            tar.write_data(bytes).map_err(failed)?;
        }
    }
    tar.finish().and_then(|out| out.flush()).map_err(failed)
}

/// What no image has; dated 1970.
fn entry(path: &str, kind: Kind, owner: Option<(u32, u32)>) -> Entry {
    let (uid, gid) = owner.unwrap_or_default();
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let (path, mtime) = (path.as_bytes().to_vec(), Time::default());
    Entry { path, kind, mode, uid, gid, mtime, xattrs: std::collections::BTreeMap::new() }
}
