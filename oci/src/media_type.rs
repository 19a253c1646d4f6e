//! Media types of the OCI and Docker families, and how a layer's type names its compression.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// The tar as it is.
    None,
    /// RFC 1952, possibly of several members.
    Gzip,
    /// RFC 8878, possibly of several frames.
    Zstd,
}

/// What a descriptor points to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    OciManifest,
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.oci.image.config.v1+json`
    OciConfig,
    /// `application/vnd.oci.image.layer.v1.tar` and its compressed forms.
    OciLayer(Compression),
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerManifest,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerManifestList,
    /// `application/vnd.docker.container.image.v1+json`
    DockerConfig,
    /// `application/vnd.docker.image.rootfs.diff.tar` and its gzip form.
    DockerLayer(Compression),
    /// Anything else, as it was written.
    Other(String),
}

impl MediaType {
    /// Reads a media type; parameters after `;` are dropped.
    pub fn parse(text: &str) -> MediaType {
        use Compression::{Gzip, None, Zstd};
        let text = text.split(';').next().unwrap_or_default().trim();
        match text {
            "application/vnd.oci.image.manifest.v1+json" => MediaType::OciManifest,
            "application/vnd.oci.image.index.v1+json" => MediaType::OciIndex,
            "application/vnd.oci.image.config.v1+json" => MediaType::OciConfig,
            "application/vnd.oci.image.layer.v1.tar" => MediaType::OciLayer(None),
            "application/vnd.oci.image.layer.v1.tar+gzip" => MediaType::OciLayer(Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd" => MediaType::OciLayer(Zstd),
            "application/vnd.docker.distribution.manifest.v2+json" => MediaType::DockerManifest,
            "application/vnd.docker.distribution.manifest.list.v2+json" => MediaType::DockerManifestList,
            "application/vnd.docker.container.image.v1+json" => MediaType::DockerConfig,
            "application/vnd.docker.image.rootfs.diff.tar" => MediaType::DockerLayer(None),
            "application/vnd.docker.image.rootfs.diff.tar.gzip" => MediaType::DockerLayer(Gzip),
            other => MediaType::Other(other.to_owned()),
        }
    }

    /// The type as it stands in JSON and in HTTP headers.
    pub fn as_str(&self) -> &str {
        use Compression::{Gzip, None, Zstd};
        match self {
            MediaType::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            MediaType::OciIndex => "application/vnd.oci.image.index.v1+json",
            MediaType::OciConfig => "application/vnd.oci.image.config.v1+json",
            MediaType::OciLayer(None) => "application/vnd.oci.image.layer.v1.tar",
            MediaType::OciLayer(Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            MediaType::OciLayer(Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            MediaType::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            MediaType::DockerManifestList => "application/vnd.docker.distribution.manifest.list.v2+json",
            MediaType::DockerConfig => "application/vnd.docker.container.image.v1+json",
            MediaType::DockerLayer(None) => "application/vnd.docker.image.rootfs.diff.tar",
            // Docker has no zstd type; whoever needs one must write an OCI manifest.
            MediaType::DockerLayer(_) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            MediaType::Other(text) => text,
        }
    }

    /// Whether this is a manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self, MediaType::OciManifest | MediaType::DockerManifest)
    }

    /// Whether this is a list of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self, MediaType::OciIndex | MediaType::DockerManifestList)
    }

    /// The compression that a layer's type names; `None` for what is not a layer.
    pub fn layer_compression(&self) -> Option<Compression> {
        match self {
            MediaType::OciLayer(compression) | MediaType::DockerLayer(compression) => Some(*compression),
            _ => None,
        }
    }

    /// The OCI counterpart of a Docker type, which has the same bytes behind it; others as they are.
    pub fn to_oci(&self) -> MediaType {
        match self {
            MediaType::DockerManifest => MediaType::OciManifest,
            MediaType::DockerManifestList => MediaType::OciIndex,
            MediaType::DockerConfig => MediaType::OciConfig,
            MediaType::DockerLayer(compression) => MediaType::OciLayer(*compression),
            other => other.clone(),
        }
    }

    /// The Docker counterpart of an OCI type, which has the same bytes behind it; others as they are. A zstd layer has
    /// none.
    pub fn to_docker(&self) -> Option<MediaType> {
        Some(match self {
            MediaType::OciManifest => MediaType::DockerManifest,
            MediaType::OciIndex => MediaType::DockerManifestList,
            MediaType::OciConfig => MediaType::DockerConfig,
            MediaType::OciLayer(Compression::Zstd) => return None,
            MediaType::OciLayer(compression) => MediaType::DockerLayer(*compression),
            other => other.clone(),
        })
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MediaType, D::Error> {
        Ok(MediaType::parse(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back() {
        use Compression::{Gzip, None, Zstd};
        for media_type in [
            MediaType::OciManifest,
            MediaType::OciIndex,
            MediaType::OciConfig,
            MediaType::OciLayer(None),
            MediaType::OciLayer(Gzip),
            MediaType::OciLayer(Zstd),
            MediaType::DockerManifest,
            MediaType::DockerManifestList,
            MediaType::DockerConfig,
            MediaType::DockerLayer(None),
            MediaType::DockerLayer(Gzip),
            MediaType::Other("application/json".to_owned()),
        ] {
            assert_eq!(MediaType::parse(media_type.as_str()), media_type);
        }
        for media_type in [MediaType::OciManifest, MediaType::OciIndex, MediaType::OciLayer(Gzip)] {
            assert_eq!(media_type.to_docker().unwrap().to_oci(), media_type);
        }
        assert_eq!(MediaType::OciLayer(Zstd).to_docker(), Option::None);
        assert_eq!(MediaType::parse("application/json; charset=utf-8").as_str(), "application/json");
    }
}
