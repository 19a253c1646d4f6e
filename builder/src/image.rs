//! The image that a build makes: base, layers and configuration as documents.
//!
//! History as BuildKit writes it: one line an instruction, times from the layers, so that a cached build makes the very
//! bytes of the uncached one.

use layerfs::layer::pack::PackOptions;
use layerfs::snapshot::SnapshotId;
use oci::{ChainId, Descriptor, History, ImageConfig, Manifest, MediaType, Raw, RootFs};

use crate::attest::Facts;
use crate::plan::{Base, ImageRef, Plan, Stage};
use crate::solve::Built;
use crate::source::{BaseImage, Bases};
use crate::{Backends, Error, Request, timestamp};

/// What history says about who wrote it.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// An image whose layers and documents are in the store; those of its base may have to be fetched still.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest, with uncompressed layers.
    pub manifest: Raw<Manifest>,
    /// The configuration.
    pub config: Raw<ImageConfig>,
    /// Points to the manifest.
    pub descriptor: Descriptor,
    /// The image that it was built on.
    pub base: Option<BaseImage>,
    /// What it was made of.
    pub facts: Facts,
    /// How its layers tell what files are like, and so how its files are told without them.
    pub packing: PackOptions,
}

/// Puts the image of the plan's target together and its documents into the store.
///
/// # Errors
/// When the documents cannot be written.
pub fn assemble(
    plan: &Plan,
    bases: &Bases,
    built: &Built,
    request: &Request,
    backends: &Backends<'_>,
) -> Result<Image, Error> {
    let target = &plan.stages[plan.target];
    let base = base_image(plan, target).map(|image| bases.get(image));
    let config = Raw::write(configuration(plan, base, built, request));
    let layers = base.into_iter().flat_map(|base| &base.manifest.value().layers).map(to_oci);
    let layers = layers.chain(built.layers.iter().map(|layer| layer.packed.descriptor.clone())).collect();
    let config_descriptor = Descriptor::new(MediaType::OciConfig, config.digest(), config.size());
    let mut manifest = Manifest::oci(config_descriptor, layers);
    manifest.annotations.extend(request.annotations.iter().cloned());
    let manifest = Raw::write(manifest);
    let store_error = |source| Error::Store { act: "write the image", source };
    backends.store.put_bytes(config.bytes()).map_err(store_error)?;
    let descriptor = backends.store.put_document(&manifest, MediaType::OciManifest).map_err(store_error)?;
    // Whoever runs the image or builds on it finds it unpacked.
    let chain = ChainId::of(&config.value().rootfs.diff_ids);
    if let (Some(snapshot), Some(chain)) = (&built.snapshot, chain) {
        backends.snapshots.alias(snapshot, &SnapshotId::chain(chain)).map_err(store_error)?;
    }
    let facts = Facts::of(request, plan, bases);
    Ok(Image { manifest, config, descriptor, base: base.cloned(), facts, packing: plan.packing() })
}

fn to_oci(layer: &Descriptor) -> Descriptor {
    Descriptor { media_type: layer.media_type.to_oci(), ..layer.clone() }
}

/// The image at the bottom of `stage`.
fn base_image<'a>(plan: &'a Plan, stage: &'a Stage) -> Option<&'a ImageRef> {
    match &stage.base {
        Base::Scratch => None,
        Base::Image(image) => Some(image),
        Base::Stage(id) => base_image(plan, &plan.stages[*id]),
    }
}

/// The stages from the bottom one to the target.
fn chain<'a>(plan: &'a Plan, stage: &'a Stage) -> Vec<&'a Stage> {
    let mut stages = match &stage.base {
        Base::Stage(id) => chain(plan, &plan.stages[*id]),
        _ => Vec::new(),
    };
    stages.push(stage);
    stages
}

fn configuration(plan: &Plan, base: Option<&BaseImage>, built: &Built, request: &Request) -> ImageConfig {
    let target = &plan.stages[plan.target];
    // All that the base says and this crate does not know is kept.
    let mut config = base.map(|base| base.config.value().clone()).unwrap_or_default();
    // Its `os.version` and `os.features` stay: they tell of the base's files. (BuildKit's rule.)
    if base.is_none() || request.platform_is_explicit {
        config.architecture.clone_from(&request.platform.architecture);
        config.os.clone_from(&request.platform.os);
        config.variant.clone_from(&request.platform.variant);
    }
    config.author.clone_from(&target.author);
    config.config = target.config.clone();
    let base_layers = base.map(|base| base.diff_ids().to_vec()).unwrap_or_default();
    let diff_ids =
        base_layers.into_iter().chain(built.layers.iter().map(|layer| layer.packed.diff_id)).collect();
    config.rootfs = RootFs { diff_ids, ..RootFs::default() };
    config.history.extend(history(plan, built, plan.epoch, config.created.as_deref()));
    let last = config.history.last().and_then(|line| line.created.clone());
    config.created = last.or(config.created).map(|time| timestamp::clamp(&time, plan.epoch));
    config
}

/// The target's own lines. A line without a layer has the time of the layer before it; those before the first layer
/// have that one's time, and where there is no layer at all, the base's.
fn history(plan: &Plan, built: &Built, epoch: Option<i64>, base_created: Option<&str>) -> Vec<History> {
    let lines: Vec<_> =
        chain(plan, &plan.stages[plan.target]).into_iter().flat_map(|stage| &stage.history).collect();
    let mut layers = built.layers.iter().map(|layer| layer.created.clone());
    let times: Vec<Option<String>> =
        lines.iter().map(|line| layers.by_ref().take(usize::from(line.has_layer)).next()).collect();
    let first = times.iter().flatten().next().cloned();
    let mut created = first
        .or_else(|| base_created.map(str::to_owned))
        .unwrap_or_else(|| timestamp::at(epoch.unwrap_or(0)));
    let mut history = Vec::with_capacity(lines.len());
    for (line, time) in lines.into_iter().zip(times) {
        created = time.unwrap_or(created);
        history.push(History {
            created: Some(timestamp::clamp(&created, epoch)),
            created_by: Some(line.created_by.clone()),
            comment: Some(COMMENT.to_owned()),
            empty_layer: !line.has_layer,
            ..History::default()
        });
    }
    history
}
