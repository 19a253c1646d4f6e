//! Where an image came from, in the words of SLSA and in the form of BuildKit's.
//! (<https://slsa.dev/spec/v1.0/provenance>, <https://slsa.dev/spec/v0.2/provenance>;
//! <https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md>.)
//!
//! A build keeps [`Facts`]; how much of them is told is for [`Mode`] to say. The least tells nothing that was given to
//! the build as a value: no build arguments, no labels, no names of secrets. What secrets hold is in neither.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oci::{Platform, Reference};
use serde_json::{Value, json};

use super::Statement;
use crate::Request;
use crate::plan::{Origin, Plan};
use crate::source::Bases;

/// How a provenance is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// How much it tells.
    pub mode: Mode,
    /// In whose words.
    pub version: Version,
    /// Who built: an address, or nothing.
    pub builder_id: String,
    /// Whether whoever asks for it says that the build can be repeated; nothing here can know.
    pub reproducible: bool,
    /// Whether it is for images alone, and is no file where only files are written.
    pub inline_only: bool,
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What the image was made of, and by which kind of build.
    Min,
    /// Also the arguments, the names of secrets, and the Dockerfile.
    Max,
}

/// A version of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// v0.2
    V02,
    /// v1
    V1,
}

/// What a build was asked for and what it was made of.
#[derive(Clone, Debug)]
pub struct Facts {
    dockerfile_name: String,
    dockerfile: String,
    /// The arguments of BuildKit's frontend, which is what its readers know.
    args: BTreeMap<String, String>,
    secrets: Vec<String>,
    agents: Vec<String>,
    platform: Platform,
    /// Where the context came from, if it is no directory of this machine.
    context: Option<Material>,
    materials: Vec<Material>,
}

/// Something that an image was made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Material {
    uri: String,
    /// Algorithm and hexadecimal digits, if it is known.
    digest: Option<(&'static str, String)>,
}

impl Material {
    fn value(&self) -> Value {
        match &self.digest {
            Some((algorithm, digest)) => json!({"uri": self.uri, "digest": {*algorithm: digest}}),
            None => json!({"uri": self.uri}),
        }
    }
}

impl Facts {
    /// What `plan`, made for `request` on `bases`, is made of.
    pub(crate) fn of(request: &Request, plan: &Plan, bases: &Bases) -> Facts {
        let mut args = BTreeMap::new();
        args.extend(request.target.clone().map(|target| ("target".to_owned(), target)));
        args.extend(
            request.build_args.iter().map(|(name, value)| (format!("build-arg:{name}"), value.clone())),
        );
        args.extend(request.labels.iter().map(|(name, value)| (format!("label:{name}"), value.clone())));
        let context = request.context_uri.clone().map(|uri| {
            let commit = request.context.tree().and_then(|tree| tree.commit.clone());
            Material { uri, digest: commit.map(|commit| ("sha1", commit)) }
        });
        let image = |base: &crate::source::BaseImage| Material {
            uri: purl(&base.reference, &base.config.value().platform()),
            digest: Some((base.descriptor.digest.algorithm().name(), base.descriptor.digest.hex())),
        };
        let inputs = plan.stages.iter().flat_map(|stage| &stage.steps).flat_map(|step| step.inputs());
        let fetched = inputs.filter_map(|input| match &input.origin {
            Origin::Remote(remote) => Some(Material { uri: remote.to_string(), digest: None }),
            _ => None,
        });
        let mut materials: Vec<Material> =
            bases.iter().map(image).chain(fetched).chain(context.clone()).collect();
        materials.sort();
        materials.dedup();
        Facts {
            dockerfile_name: request.dockerfile_name.clone(),
            dockerfile: request.dockerfile.clone(),
            args,
            secrets: request.secrets.ids().map(str::to_owned).collect(),
            agents: request.ssh.keys().cloned().collect(),
            platform: request.platform.clone(),
            context,
            materials,
        }
    }

    /// The statement; `created` is when the image was made, in RFC 3339.
    pub fn statement(&self, how: &Provenance, created: Option<&str>) -> Statement {
        match how.version {
            Version::V1 => Statement {
                predicate_type: "https://slsa.dev/provenance/v1",
                predicate: self.v1(how, created),
            },
            Version::V02 => Statement {
                predicate_type: "https://slsa.dev/provenance/v0.2",
                predicate: self.v02(how, created),
            },
        }
    }

    /// What the frontend was asked for.
    fn request(&self, mode: Mode) -> Value {
        let is_told = |key: &str| mode == Mode::Max || key == "target";
        let args: BTreeMap<_, _> = self.args.iter().filter(|(key, _)| is_told(key)).collect();
        let mut request = json!({"frontend": "dockerfile.v0", "args": args});
        if self.context.is_none() {
            request["locals"] = json!([{"name": "context"}, {"name": "dockerfile"}]);
        }
        if mode == Mode::Max {
            let ids = |ids: &[String]| ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>();
            for (key, list) in [("secrets", ids(&self.secrets)), ("ssh", ids(&self.agents))] {
                if !list.is_empty() {
                    request[key] = list.into();
                }
            }
        }
        request
    }

    /// The Dockerfile itself, as far as it is told.
    fn metadata(&self, mode: Mode) -> Option<Value> {
        let info = || {
            json!({
                "filename": self.dockerfile_name,
                "language": "Dockerfile",
                "data": STANDARD.encode(&self.dockerfile),
            })
        };
        (mode == Mode::Max).then(|| json!({"source": {"infos": [info()]}}))
    }

    fn v1(&self, how: &Provenance, created: Option<&str>) -> Value {
        let mut source = json!({"path": self.dockerfile_name});
        if let Some(context) = &self.context {
            source = context.value();
            source["path"] = self.dockerfile_name.clone().into();
        }
        let materials: Vec<Value> = self.materials.iter().map(Material::value).collect();
        let mut metadata = json!({
            "buildkit_completeness": {"request": how.mode == Mode::Max, "resolvedDependencies": self.is_complete()},
            "buildkit_reproducible": how.reproducible,
        });
        times(&mut metadata, ["startedOn", "finishedOn"], created);
        if let Some(told) = self.metadata(how.mode) {
            metadata["buildkit_metadata"] = told;
        }
        json!({
            "buildDefinition": {
                "buildType": "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md",
                "externalParameters": {"configSource": source, "request": self.request(how.mode)},
                "internalParameters": {"builderPlatform": self.platform.to_string()},
                "resolvedDependencies": materials,
            },
            "runDetails": {"builder": {"id": how.builder_id}, "metadata": metadata},
        })
    }

    fn v02(&self, how: &Provenance, created: Option<&str>) -> Value {
        let mut source = json!({"entryPoint": self.dockerfile_name});
        if let Some(context) = &self.context {
            source = context.value();
            source["entryPoint"] = self.dockerfile_name.clone().into();
        }
        let materials: Vec<Value> = self.materials.iter().map(Material::value).collect();
        let mut metadata = json!({
            "completeness": {
                "parameters": how.mode == Mode::Max, "environment": true, "materials": self.is_complete(),
            },
            "reproducible": how.reproducible,
        });
        times(&mut metadata, ["buildStartedOn", "buildFinishedOn"], created);
        if let Some(told) = self.metadata(how.mode) {
            metadata["https://mobyproject.org/buildkit@v1#metadata"] = told;
        }
        json!({
            "builder": {"id": how.builder_id},
            "buildType": "https://mobyproject.org/buildkit@v1",
            "materials": materials,
            "invocation": {
                "configSource": source,
                "parameters": self.request(how.mode),
                "environment": {"platform": self.platform.to_string()},
            },
            "metadata": metadata,
        })
    }

    /// Whether all that the image was made of is known by its digest.
    fn is_complete(&self) -> bool {
        self.context.is_some() && self.materials.iter().all(|material| material.digest.is_some())
    }
}

fn times(metadata: &mut Value, keys: [&str; 2], created: Option<&str>) {
    if let Some(created) = created {
        keys.into_iter().for_each(|key| metadata[key] = created.into());
    }
}

/// An image's name as a package URL: `pkg:docker/debian@12?platform=linux%2Famd64`.
pub(super) fn purl(name: &Reference, platform: &Platform) -> String {
    let familiar = name.familiar();
    let without_digest = familiar.split('@').next().unwrap_or_default();
    let bare = match name.tag() {
        Some(tag) => without_digest.strip_suffix(&format!(":{tag}")).unwrap_or(without_digest),
        None => without_digest,
    };
    let tag = name.tag().map(|tag| format!("@{}", escape(tag, ""))).unwrap_or_default();
    let digest = name.digest().map(|digest| format!("digest={}&", escape(&digest.to_string(), ":")));
    let platform = escape(&platform.to_string(), "");
    format!("pkg:docker/{}{tag}?{}platform={platform}", escape(bare, "/"), digest.unwrap_or_default())
}

/// Percent-encodes everything but unreserved characters and those of `kept`. (RFC 3986, 2.)
pub(super) fn escape(text: &str, kept: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "-._~".contains(c) || kept.contains(c) {
            escaped.push(c);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_package_urls() {
        let platform: Platform = "linux/arm/v7".parse().unwrap();
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (name, expected) in [
            ("debian:12", "pkg:docker/debian@12?platform=linux%2Farm%2Fv7"),
            ("me/app", "pkg:docker/me/app@latest?platform=linux%2Farm%2Fv7"),
            ("ghcr.io/me/app:1.0", "pkg:docker/ghcr.io/me/app@1.0?platform=linux%2Farm%2Fv7"),
            ("127.0.0.1:5000/x:1", "pkg:docker/127.0.0.1%3A5000/x@1?platform=linux%2Farm%2Fv7"),
        ] {
            assert_eq!(purl(&name.parse().unwrap(), &platform), expected);
        }
        let pinned = format!("debian@sha256:{hex}");
        let expected = format!("pkg:docker/debian?digest=sha256:{hex}&platform=linux%2Farm%2Fv7");
        assert_eq!(purl(&pinned.parse().unwrap(), &platform), expected);
    }
}
