//! Manifests and indexes. (OCI image-spec, manifest.md and image-index.md; Docker's schema 2.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Descriptor, Digest, Error, MediaType, Platform, Raw};

/// One image: its configuration and its layers, bottom first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI manifests may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(deserialize_with = "crate::raw::null_as_default")]
    pub layers: Vec<Descriptor>,
    /// Free key-value pairs.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::raw::null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this crate does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// An OCI manifest of these parts.
    pub fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: Some(MediaType::OciManifest),
            config,
            layers,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }
}

/// Several images under one name, one a platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The document's own type; OCI indexes may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The images, in order of preference.
    #[serde(deserialize_with = "crate::raw::null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// Free key-value pairs.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::raw::null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this crate does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Index {
    /// An OCI index of these images.
    pub fn oci(manifests: Vec<Descriptor>) -> Index {
        Index {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            manifests,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// The entries that are images to run, in order: attestations are left out.
    pub fn images(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().filter(|entry| !entry.is_attestation())
    }

    /// The platforms of the images, in order.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.images().filter_map(|entry| entry.platform.as_ref())
    }

    /// The image for `wanted`, or the nearest that runs there; an entry without a platform matches when nothing
    /// else does.
    pub fn pick(&self, wanted: &Platform) -> Option<&Descriptor> {
        let is_for = |entry: &&Descriptor, platform: &Platform| {
            entry.platform.as_ref().is_some_and(|offered| platform.accepts(offered))
        };
        let runnable = wanted.runnable();
        let exact = runnable.iter().find_map(|platform| self.images().find(|entry| is_for(entry, platform)));
        exact.or_else(|| self.images().find(|entry| entry.platform.is_none()))
    }
}

/// What a reference resolves to.
#[derive(Clone, Debug)]
pub enum Document {
    /// One image.
    Manifest(Box<Raw<Manifest>>),
    /// Several images.
    Index(Raw<Index>),
}

impl Document {
    /// Parses a document that was announced as `media_type`.
    ///
    /// The announced type, the type inside and the fields must agree: a document that can be read as both a
    /// manifest and an index is refused (CVE-2021-41190).
    pub fn parse(bytes: Vec<u8>, media_type: &MediaType) -> Result<Document, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            media_type: Option<MediaType>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let what = if media_type.is_index() { "index" } else { "manifest" };
        let probe = Raw::<Value>::parse(bytes, what)?;
        let digest = probe.digest();
        let fields: Probe = serde_json::from_value(probe.value().clone())
            .map_err(|source| Error::Document { what, digest, source })?;
        let ambiguous = |reason| Err(Error::Ambiguous { digest, reason });
        if fields.manifests.is_some() && (fields.layers.is_some() || fields.config.is_some()) {
            return ambiguous("it has the fields of a manifest and those of an index");
        }
        let declared = fields.media_type.unwrap_or_else(|| media_type.clone());
        if (declared.is_index() && media_type.is_manifest())
            || (declared.is_manifest() && media_type.is_index())
        {
            return ambiguous("its `mediaType` contradicts the type it was announced as");
        }
        let declared = match declared {
            MediaType::Other(_) if fields.manifests.is_some() => MediaType::OciIndex,
            MediaType::Other(_) if fields.layers.is_some() => MediaType::OciManifest,
            declared => declared,
        };
        if declared.is_index() {
            Ok(Document::Index(Raw::parse(probe.bytes().to_vec(), "index")?))
        } else if declared.is_manifest() {
            Ok(Document::Manifest(Box::new(Raw::parse(probe.bytes().to_vec(), "manifest")?)))
        } else {
            Err(Error::UnsupportedDocument { media_type: declared.to_string() })
        }
    }

    /// Parses a document that nobody announced: it says itself what it is, or its fields do.
    pub fn recognise(bytes: Vec<u8>) -> Result<Document, Error> {
        Document::parse(bytes, &MediaType::Other("application/json".to_owned()))
    }

    /// The same, called by another digest that its bytes have: see [`Raw::called`].
    pub fn called(self, digest: Digest) -> Document {
        match self {
            Document::Manifest(raw) => Document::Manifest(Box::new(raw.called(digest))),
            Document::Index(raw) => Document::Index(raw.called(digest)),
        }
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Document::Manifest(raw) => raw.bytes(),
            Document::Index(raw) => raw.bytes(),
        }
    }

    /// Points to the document.
    pub fn descriptor(&self) -> Descriptor {
        match self {
            Document::Manifest(raw) => {
                let media_type = raw.value().media_type.clone().unwrap_or(MediaType::OciManifest);
                Descriptor::new(media_type, raw.digest(), raw.size())
            }
            Document::Index(raw) => {
                let media_type = raw.value().media_type.clone().unwrap_or(MediaType::OciIndex);
                Descriptor::new(media_type, raw.digest(), raw.size())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn image(architecture: &str, variant: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::new(MediaType::OciManifest, Digest::of(architecture.as_bytes()), 1);
        entry.platform = Some(Platform::new("linux", architecture, variant));
        entry
    }

    #[test]
    fn unknown_fields_survive() {
        let text = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"data":"e30="},"layers":[],"subject":{"x":1}}"#;
        let Document::Manifest(raw) = Document::parse(text.into(), &MediaType::OciManifest).unwrap() else {
            panic!("not a manifest")
        };
        assert_eq!(raw.bytes(), text.as_bytes());
        let again: Value = serde_json::from_slice(Raw::write(raw.value().clone()).bytes()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn ambiguous_documents_are_refused() {
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        let lying =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        for text in [both, lying] {
            let error = Document::parse(text.into(), &MediaType::OciManifest).unwrap_err();
            assert!(matches!(error, Error::Ambiguous { .. }), "{error}");
        }
    }

    #[test]
    fn recognises_what_nobody_announced() {
        let digest = Digest::of(b"");
        let config = format!(r#"{{"mediaType":"{}","digest":"{digest}","size":0}}"#, MediaType::OciConfig);
        for (text, expected) in [
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#), Some(MediaType::OciManifest)),
            (r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), Some(MediaType::OciIndex)),
            (
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
                    MediaType::DockerManifestList
                ),
                Some(MediaType::DockerManifestList),
            ),
            ("{}".to_owned(), None),
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#.to_owned(), None),
        ] {
            let found = Document::recognise(text.clone().into_bytes()).ok();
            let found = found.map(|document| document.descriptor());
            assert_eq!(found.as_ref().map(|found| found.media_type.clone()), expected, "{text}");
            assert!(found.is_none_or(|found| found.digest == Digest::of(text.as_bytes())));
        }
    }

    #[test]
    fn negative_sizes_and_bad_digests_are_refused() {
        for descriptor in [
            r#"{"mediaType":"a","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":-1}"#,
            r#"{"mediaType":"a","digest":"sha256:../../../etc/passwd","size":1}"#,
        ] {
            assert!(serde_json::from_str::<Descriptor>(descriptor).is_err(), "{descriptor}");
        }
    }

    #[test]
    fn picks_the_first_match() {
        let mut attestation = image("amd64", None);
        attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        let index = Index::oci(vec![attestation, image("arm64", Some("v8")), image("amd64", None)]);
        let pick = |text: &str| {
            index.pick(&text.parse().unwrap()).and_then(|entry| entry.platform.clone()).map(|p| p.to_string())
        };
        assert_eq!(pick("linux/amd64").as_deref(), Some("linux/amd64"));
        assert!(index.pick(&"linux/amd64".parse().unwrap()).is_some_and(|entry| !entry.is_attestation()));
        assert_eq!(pick("linux/arm64").as_deref(), Some("linux/arm64"));
        assert_eq!(pick("linux/amd64/v3").as_deref(), Some("linux/amd64"));
        assert_eq!(pick("linux/s390x"), None);
        let arm = Index::oci(vec![image("arm", Some("v5")), image("arm", Some("v6"))]);
        let found = arm.pick(&"linux/arm64".parse().unwrap()).unwrap();
        assert_eq!(found.platform.as_ref().unwrap().to_string(), "linux/arm/v6");
    }
}
