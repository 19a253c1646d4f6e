//! Docker's own archive: what `docker save` writes and `docker load` reads.
//! (Docker's image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".)
//!
//! Its list, `manifest.json`, names a configuration and layers by paths. These may be blobs of an OCI layout, so that
//! one archive serves both worlds; or files of its own, whose layers are plain tars, for tools that know nothing newer.
//! It has no place for several platforms: of an index there is the image for this machine, or else the first.

use layerfs::layout::{Part, Target};
use layerfs::store::Store;
use oci::{Digest, Reference};
use serde::{Deserialize, Serialize};

use super::Artifact;
use crate::Error;

/// The list's name.
pub const LIST: &str = "manifest.json";

/// One image of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedImage {
    /// Where the configuration is.
    pub config: String,
    /// `name:tag`
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Where the layers are, bottom first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// The list for an archive that is an OCI layout.
pub(super) fn list(images: &[(Artifact, Vec<Reference>)]) -> Part {
    let blob = |digest: &Digest| digest.blob_path();
    let listed = images.iter().filter_map(|(artifact, names)| {
        let manifest = artifact.representative()?.manifest.value();
        Some(ListedImage {
            config: blob(&manifest.config.digest),
            repo_tags: tags(names),
            layers: Some(manifest.layers.iter().map(|layer| blob(&layer.digest)).collect()),
        })
    });
    part(&listed.collect::<Vec<_>>())
}

/// Writes images, each under its names, as an archive of Docker's alone.
///
/// # Errors
/// When a layer cannot be read or decompressed, or the destination cannot be written.
pub fn docker_archive(
    images: &[(Artifact, Vec<Reference>)],
    to: Target<'_>,
    store: &Store,
) -> Result<(), Error> {
    let fail = |source| Error::Store { act: "write Docker's archive", source };
    let (mut parts, mut listed) = (Vec::new(), Vec::new());
    for (artifact, names) in images {
        let Some(image) = artifact.representative() else { continue };
        let config = &image.manifest.value().config;
        let config_path = format!("{}.json", config.digest.hex());
        parts.push(Part::blob(config_path.clone(), config.digest, config.size));
        let mut layers = Vec::new();
        for (layer, diff_id) in image.layers() {
            let tar = store.decompress(layer, diff_id).map_err(fail)?;
            let path = format!("{}.tar", tar.digest.hex());
            parts.push(Part::blob(path.clone(), tar.digest, tar.size));
            layers.push(path);
        }
        listed.push(ListedImage { config: config_path, repo_tags: tags(names), layers: Some(layers) });
    }
    parts.push(part(&listed));
    parts.sort_by(|one, other| one.path.cmp(&other.path));
    parts.dedup();
    store.write_parts(&parts, to).map_err(fail)
}

fn part(listed: &[ListedImage]) -> Part {
    Part::bytes(LIST, serde_json::to_vec(listed).expect("the list has string keys and no failing parts"))
}

/// Docker tells names without a tag by `null`.
fn tags(names: &[Reference]) -> Option<Vec<String>> {
    let tags: Vec<String> =
        names.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
    (!tags.is_empty()).then_some(tags)
}
