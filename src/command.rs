//! The verbs: one file each, whose path spells it. What several of them do is here.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod cat;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod export;
mod files;
pub(crate) mod fsck;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod ls;
mod made;
pub(crate) mod manifest;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rebase;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod serve;
pub(crate) mod squash;
pub(crate) mod tag;
pub(crate) mod tags;
pub(crate) mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use builder::deliver::{self, Artifact, Complete};
use builder::error::ImageError;
use builder::source;
use builder::{Event, VertexId};
use layerfs::snapshot::Choice;
use layerfs::store::Store;
use oci::{Descriptor, Digest, Platform, Reference};

use crate::failure::Failure;
use crate::home::{Environment, Home};
use crate::progress::Progress;
use crate::text;

/// What every verb starts from.
pub(crate) struct Session {
    root: Option<PathBuf>,
    snapshotter: Option<Choice>,
    environment: Environment,
}

impl Session {
    pub(crate) fn new(root: Option<PathBuf>, snapshotter: Option<Choice>) -> Session {
        Session { root, snapshotter, environment: Environment::of_process() }
    }

    fn open_home(&self) -> Result<Home, Failure> {
        self.with_snapshotter(Home::open)
    }

    fn with_snapshotter(
        &self,
        open: fn(Option<&Path>, &Environment) -> Result<Home, Failure>,
    ) -> Result<Home, Failure> {
        let choice = self.environment.snapshotter(self.snapshotter.as_ref())?;
        let mut home = open(self.root.as_deref(), &self.environment)?;
        home.store.choose(choice);
        Ok(home)
    }

    /// For verbs that change nothing.
    fn look_home(&self) -> Result<Home, Failure> {
        self.with_snapshotter(Home::look)
    }
}

/// Numbers of progress lines that are not the builder's, which counts from 0.
const FIRST_VERTEX: VertexId = VertexId::MAX / 2;

/// Does `work` as a line of progress called `name`, the `nth` of this command.
pub(crate) fn line<T, E>(
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
    if to.digest != from.digest {
        let fail = |source| builder::Error::Store { act: "name the image", source };
        store.forget_nameless(&from.digest).map_err(fail)?;
    }
    Ok(())
}

/// One line that says what an image is: its digest, its names, how much of it there is.
fn summary(artifact: &Artifact, names: &[String]) -> String {
    let names: String = names.iter().map(|name| format!(" {name}")).collect();
    let layers = layers(artifact);
    let count = match artifact.images() {
        [_] => text::count(layers.len() as u64, "layer"),
        several => text::count(several.len() as u64, "platform"),
    };
    let bytes = layers.values().sum();
    format!("{}{names} ({}, {count})", artifact.descriptor().digest, text::size(bytes))
}

/// The layers of all images, each once, with their sizes in bytes as they are stored.
fn layers(artifact: &Artifact) -> BTreeMap<Digest, u64> {
    let layers = artifact.images().iter().flat_map(|image| &image.manifest.value().layers);
    layers.map(|layer| (layer.digest, layer.size)).collect()
}

/// The one image of a store's entry that `platform` runs, of an index; a single image for whatever platform. `act` is
/// what it is wanted for.
fn image_for(home: &Home, stored: &Descriptor, platform: &Platform, act: &str) -> Result<Complete, Failure> {
    let picked = pick(home, stored, platform, act)?;
    Complete::load(&home.store, &picked).map_err(home.failure("read the image"))
}

/// What points to that image.
fn pick(home: &Home, stored: &Descriptor, platform: &Platform, act: &str) -> Result<Descriptor, Failure> {
    source::pick(&home.store, stored, platform).map_err(|error| match error {
        ImageError::Store(error) => home.failure("read the image")(error),
        error => Failure::environment_because(format!("cannot {act}"), error.to_string()),
    })
}
