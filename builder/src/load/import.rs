//! An image of one layer, out of a file system that was none: `docker import`.
//!
//! An archive becomes the layer as it is, decompressed; a directory is packed as a build would. Either way the layer is
//! unpacked or seen here once, so that an archive that could not be run is refused.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use layerfs::IoResultExt;
use layerfs::copy::any_decoder;
use layerfs::layer::pack::{PackOptions, Packed};
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::{Changes, Layout, SnapshotId, Snapshotter};
use layerfs::store::Store;
use oci::{
    ChainId, ContainerConfig, Descriptor, DiffId, History, ImageConfig, Manifest, MediaType, Platform, Raw,
    RootFs,
};

use super::LoadError;
use crate::plan::StepKind;
use crate::request::{Context, Files};
use crate::source::ImageSource;
use crate::{Error, Request, lower, stage, timestamp};

/// A file system that is to be an image.
pub enum Tree<'a> {
    /// A tar, compressed or not.
    Archive(&'a mut (dyn Read + Send)),
    /// A directory of this machine.
    Directory(&'a Path),
}

/// What the image says of itself.
#[derive(Clone, Debug)]
pub struct Import {
    /// What its programs run on.
    pub platform: Platform,
    /// How to run it: see [`configuration`].
    pub config: ContainerConfig,
    /// Its line of history.
    pub message: String,
    /// When it was made, in seconds since 1970; now where nothing is said. No file of a directory is later.
    pub epoch: Option<i64>,
}

/// Makes the image; it is in the store afterwards, under no name.
///
/// # Errors
/// When the tree cannot be read, or is no file system.
pub fn import(
    tree: Tree<'_>,
    about: Import,
    store: &Store,
    snapshots: &dyn Snapshotter,
) -> Result<Descriptor, LoadError> {
    let layer = match tree {
        Tree::Archive(source) => keep(source, store, snapshots)?,
        Tree::Directory(path) => {
            let upper = File::open(path).at("open", path)?.into();
            let options = PackOptions { epoch: about.epoch, ..PackOptions::default() };
            store.put_layer(&Changes { upper, layout: Layout::Layers, lower: None }, options)?.descriptor()
        }
    };
    let created = about.epoch.map_or_else(timestamp::now, timestamp::at);
    let history =
        History { created: Some(created.clone()), comment: Some(about.message), ..History::default() };
    let config = Raw::write(ImageConfig {
        architecture: about.platform.architecture,
        os: about.platform.os,
        variant: about.platform.variant,
        created: Some(created),
        config: about.config,
        rootfs: RootFs { diff_ids: vec![DiffId(layer.digest)], ..RootFs::default() },
        history: vec![history],
        ..ImageConfig::default()
    });
    let config = store.put_document(&config, MediaType::OciConfig)?;
    let manifest = Raw::write(Manifest::oci(config, vec![layer]));
    Ok(store.put_document(&manifest, MediaType::OciManifest)?)
}

fn keep(
    source: &mut (dyn Read + Send),
    store: &Store,
    snapshots: &dyn Snapshotter,
) -> Result<Descriptor, LoadError> {
    let mut decoder = any_decoder(source).map_err(LoadError::Read)?;
    let mut blob = store.writer()?;
    io::copy(&mut decoder, &mut blob).map_err(LoadError::Read)?;
    let (digest, size_bytes) = blob.commit()?;
    let diff_id = DiffId(digest);
    let active = snapshots.prepare(None)?;
    let unpacked = unpack_layer(store.open_blob(&digest)?, &active, diff_id)?;
    if unpacked.entries == 0 {
        return Err(LoadError::Empty);
    }
    // Whoever runs the image finds it unpacked.
    snapshots.commit(active, &SnapshotId::chain(ChainId::bottom(diff_id)))?;
    Ok(Packed { diff_id, size_bytes, entries: unpacked.entries }.descriptor())
}

/// The text that `changes` stand in, for messages: each is a line, after the first.
pub fn dockerfile(changes: &[String]) -> String {
    let mut text = "FROM scratch\n".to_owned();
    for change in changes {
        text.push_str(change);
        text.push('\n');
    }
    text
}

/// What instructions say about how to run an image: `CMD`, `ENV`, `USER` and all others that make no layer.
///
/// # Errors
/// What is wrong with them, or that one of them is of another kind.
pub fn configuration(
    changes: &[String],
    platform: &Platform,
    images: &dyn ImageSource,
) -> Result<ContainerConfig, Error> {
    let context = Context::open("/".into()).map_err(|source| Error::Store { act: "open `/`", source })?;
    let request = Request {
        platform: platform.clone(),
        ..Request::new(dockerfile(changes), Files::Directory(context))
    };
    let parsed = stage::parse(&request)?;
    let (stages, bases) = stage::resolve(&parsed, &request, images, stage::Scope::Target)?;
    let plan = lower::lower(&stages, &bases, &request, &mut Vec::new())?;
    let target = &plan.stages[plan.target];
    let refuse = |span| {
        let message = "it makes a layer: expected CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, \
                       STOPSIGNAL, USER, VOLUME or WORKDIR";
        let diagnostics = vec![crate::dockerfile::diagnostic::Diagnostic::error(span, message)];
        Err(Error::Dockerfile { diagnostics })
    };
    if plan.stages_in_file > 1 {
        return refuse(target.span);
    }
    match target.steps.iter().find(|step| !matches!(step.kind, StepKind::Workdir(_))) {
        Some(step) => refuse(step.span),
        None => Ok(target.config.clone()),
    }
}
