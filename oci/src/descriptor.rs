//! The descriptor: a typed, sized, verified pointer. (OCI image-spec, descriptor.md.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Digest, MediaType, Platform};

/// Points to a blob or a document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it points to.
    pub media_type: MediaType,
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many bytes there are. Negative sizes do not parse.
    pub size: u64,
    /// For an entry of an index: the platform it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free key-value pairs.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::raw::null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this crate does not know, kept as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The annotation by which an OCI layout names an image. (OCI image-spec, annotations.md.)
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// containerd's annotation for the full image name in a layout.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// BuildKit's annotation for what an entry of an index is that is no image.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// BuildKit's annotation for the image that such an entry is about: the digest of its manifest.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// The value of [`REFERENCE_TYPE`] that says that the entry attests something of an image.
pub const ATTESTATION_MANIFEST: &str = "attestation-manifest";

impl Descriptor {
    /// A descriptor with nothing optional in it.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type,
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// Whether this is a layer that no registry may give away, and that says where it is. (OCI image-spec, layer.md,
    /// "Non-Distributable Layers".)
    pub fn is_elsewhere(&self) -> bool {
        let media_type = self.media_type.as_str();
        self.extra.contains_key("urls")
            && (media_type.contains("nondistributable") || media_type.contains("rootfs.foreign"))
    }

    /// Whether BuildKit wrote this entry of an index for an attestation, which is no image to run.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get(REFERENCE_TYPE).is_some_and(|kind| kind == ATTESTATION_MANIFEST)
    }
}
