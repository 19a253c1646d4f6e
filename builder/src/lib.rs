//! Dockerfile in, image out: the only crate that knows all the others.
//!
//! The straight line is [`build`]: parse, resolve the stages that the target needs and their base images'
//! configurations, lower the instructions to a plan, solve the plan, assemble the image. Delivering it
//! somewhere is [`deliver`]; what others wrote comes in by [`load`]. Nothing here prints or reads the environment.
//!
//! Invariants: a step's key is known before anything is unpacked for it; a fully cached build downloads and
//! unpacks nothing; what is in the store under a name is complete.
#![forbid(unsafe_code)]

pub mod dockerfile;
pub mod ignore;

pub mod attest;
pub mod cache;
pub mod call;
pub mod deliver;
pub mod error;
pub mod event;
pub mod exec;
pub mod image;
pub mod lint;
pub mod load;
pub mod lower;
pub mod plan;
pub mod prune;
pub mod remote;
pub mod request;
pub mod rework;
pub mod solve;
pub mod source;
pub mod stage;
mod step;
mod timestamp;
pub mod transfer;
pub mod usage;
mod workers;

pub use error::Error;
pub use event::{Event, Events, VertexId};
pub use image::Image;
pub use request::{Context, Files, HostFiles, NamedContext, Network, NoCache, Request, RunSettings, Secrets};
pub use solve::Cancel;

/// What a build works with.
#[derive(Clone, Copy)]
pub struct Backends<'a> {
    /// Blobs, images and snapshots.
    pub store: &'a layerfs::store::Store,
    /// File systems to work in.
    pub snapshots: &'a dyn layerfs::snapshot::Snapshotter,
    /// Base images.
    pub images: &'a dyn source::ImageSource,
    /// Where commands run.
    pub executor: &'a dyn exec::Executor,
    /// Results of earlier builds.
    pub cache: &'a dyn cache::CacheBackend,
    /// What `ADD` and contexts fetch.
    pub remotes: &'a dyn remote::Fetch,
}

/// Builds the target of `request`. The image's layers and documents are in the store afterwards, under no name.
///
/// # Errors
/// Everything that is wrong with the Dockerfile at once, or the first step that failed.
pub fn build(
    request: &Request,
    backends: &Backends<'_>,
    cancel: &Cancel,
    events: Events<'_>,
) -> Result<Image, Error> {
    let dockerfile = stage::parse(request)?;
    let (stages, bases) = stage::resolve(&dockerfile, request, backends.images, stage::Scope::Target)?;
    let mut found = Vec::new();
    let plan = lower::lower(&stages, &bases, request, &mut found)?;
    lint::judge(found, &dockerfile, (&stages, &bases), request, events)?;
    let built = solve::solve(&plan, &bases, request, backends, cancel, events)?;
    image::assemble(&plan, &bases, &built, request, backends)
}
