//! The verbs: one file each, whose path spells it. What several of them do is here.

pub(crate) mod build;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod tag;
pub(crate) mod version;

use std::path::PathBuf;
use std::time::Instant;

use builder::deliver::{self, Complete};
use builder::{Event, VertexId};
use layerfs::layout::StoredImage;
use layerfs::store::Store;
use oci::{Descriptor, Reference};

use crate::failure::Failure;
use crate::home::{Environment, Home};
use crate::progress::Progress;
use crate::text;

/// What every verb starts from.
pub(crate) struct Session {
    root: Option<PathBuf>,
    environment: Environment,
}

impl Session {
    pub(crate) fn new(root: Option<PathBuf>) -> Session {
        Session { root, environment: Environment::of_process() }
    }

    fn open_home(&self) -> Result<Home, Failure> {
        Home::open(self.root.as_deref(), &self.environment)
    }
}

/// Numbers of progress lines that are not the builder's, which counts from 0.
const FIRST_VERTEX: VertexId = VertexId::MAX / 2;

/// Does `work` as a line of progress called `name`, the `nth` of this command.
fn line<T, E>(
    progress: &Progress,
    nth: usize,
    name: String,
    work: impl FnOnce(VertexId, builder::Events<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let vertex = FIRST_VERTEX + nth;
    let started = Instant::now();
    progress.show(Event::Started { vertex, name });
    let result = work(vertex, &|event| progress.show(event));
    let elapsed = started.elapsed();
    progress.show(match &result {
        Ok(_) => Event::Finished { vertex, elapsed },
        Err(_) => Event::Failed { vertex, elapsed },
    });
    result
}

/// Lets `names` stand for `to`, which is the image `from` as it went out: its layers are compressed. Unless another
/// name has it, `from` goes off the list.
fn rename(
    store: &Store,
    from: &Descriptor,
    to: &Descriptor,
    names: &[Reference],
) -> Result<(), builder::Error> {
    deliver::name(store, to, names)?;
    let fail = |source| builder::Error::Store { act: "name the image", source };
    let has_name = |image: &StoredImage| image.reference.is_some() && image.descriptor.digest == from.digest;
    if to.digest != from.digest && !store.images().map_err(fail)?.iter().any(has_name) {
        store.forget(&from.digest).map_err(fail)?;
    }
    Ok(())
}

/// One line that says what an image is: its digest, its names, how much of it there is.
fn summary(image: &Complete, names: &[String]) -> String {
    let layers = &image.manifest.value().layers;
    let bytes = layers.iter().map(|layer| layer.size).sum();
    let names: String = names.iter().map(|name| format!(" {name}")).collect();
    let count = text::count(layers.len() as u64, "layer");
    format!("{}{names} ({}, {count})", image.descriptor.digest, text::size(bytes))
}

/// The image of a store's entry, to be delivered.
fn complete(home: &Home, descriptor: &Descriptor) -> layerfs::Result<Complete> {
    let manifest = home.store.manifest(descriptor)?;
    let config = home.store.config(manifest.value())?;
    Ok(Complete { manifest, config, descriptor: descriptor.clone(), base: None })
}
