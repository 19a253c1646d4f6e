//! What is attested of an image: where it came from ([`provenance`]) and what is in it ([`sbom`]), as in-toto statements
//! that stand beside it in an index, as BuildKit puts them there.
//! (<https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>.)
//!
//! Nothing here looks at a clock or makes up a number: times are the image's own, so that what is attested of equal
//! images is equal.

pub mod provenance;
pub mod sbom;

use std::collections::BTreeMap;
use std::io::Read;

use layerfs::store::Store;
use oci::descriptor::{ATTESTATION_MANIFEST, REFERENCE_DIGEST, REFERENCE_TYPE};
use oci::{Descriptor, Digest, Manifest, MediaType, Platform, Raw, Reference};
use serde_json::{Value, json};

use crate::Error;
use crate::deliver::{Companion, Complete};

pub use provenance::{Facts, Mode, Provenance};

/// What is stated of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// What kind of statement it is.
    pub predicate_type: &'static str,
    /// What it says.
    pub predicate: Value,
}

const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v0.1";
const ATTESTATIONS: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// The field of a manifest, and of what points to it, that says that it is no image.
pub(crate) const ARTIFACT_TYPE: &str = "artifactType";

/// The configuration of what is no image. (OCI image-spec, manifest.md, "Guidance for an Empty Descriptor".)
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Puts statements about `image` into the store; gives the entry of an index that holds them.
///
/// # Errors
/// When the store cannot be written.
pub fn companion(
    image: &Complete,
    statements: &[Statement],
    names: &[Reference],
    store: &Store,
) -> Result<Companion, Error> {
    let fail = |source| Error::Store { act: "write the attestations", source };
    let platform = image.config.value().platform();
    let digest = image.descriptor.digest;
    let subject = |name: String| json!({"name": name, "digest": {digest.algorithm().name(): digest.hex()}});
    let mut subjects: Vec<Value> =
        names.iter().map(|name| subject(provenance::purl(name, &platform))).collect();
    if subjects.is_empty() {
        subjects.push(subject("_".to_owned()));
    }
    let layers = statements.iter().map(|statement| {
        let statement_bytes = serde_json::to_vec(&json!({
            "_type": STATEMENT_TYPE,
            "predicateType": statement.predicate_type,
            "subject": subjects,
            "predicate": statement.predicate,
        }))
        .expect("a value is JSON");
        let media_type = MediaType::Other(STATEMENT.to_owned());
        let written = store.put_bytes(&statement_bytes).map_err(fail)?;
        let mut layer = Descriptor::new(media_type, written, statement_bytes.len() as u64);
        layer.annotations.insert(PREDICATE_TYPE.to_owned(), statement.predicate_type.to_owned());
        Ok(layer)
    });
    let layers = layers.collect::<Result<_, Error>>()?;
    let empty = store.put_bytes(b"{}").map_err(fail)?;
    let config = Descriptor::new(MediaType::Other(EMPTY.to_owned()), empty, 2);
    let mut manifest = Manifest::oci(config, layers);
    let subject = Descriptor::new(image.descriptor.media_type.clone(), digest, image.descriptor.size);
    manifest.extra.insert(ARTIFACT_TYPE.to_owned(), ATTESTATIONS.into());
    manifest.extra.insert("subject".to_owned(), json!(subject));
    let manifest = Raw::write(manifest);
    let mut descriptor = store.put_document(&manifest, MediaType::OciManifest).map_err(fail)?;
    descriptor.platform = Some(Platform::new("unknown", "unknown", None));
    descriptor.annotations = about(&digest);
    Ok(Companion { manifest, descriptor })
}

/// The annotations by which the entry of an index says that it attests something of the image `digest`.
pub(crate) fn about(digest: &Digest) -> BTreeMap<String, String> {
    let about = [(REFERENCE_TYPE, ATTESTATION_MANIFEST.to_owned()), (REFERENCE_DIGEST, digest.to_string())];
    about.map(|(key, value)| (key.to_owned(), value)).into()
}

/// Whether a referrer is of the kind that is made here.
pub(crate) fn is_own(referrer: &Descriptor) -> bool {
    referrer.extra.get(ARTIFACT_TYPE).is_some_and(|kind| kind == ATTESTATIONS)
}

/// The file that a provenance is, for those who take files.
pub const PROVENANCE_FILE: &str = "provenance.json";

/// The statements of a companion as files, for those who take the files of an image without the image.
///
/// # Errors
/// When a statement is missing or damaged.
pub fn files(companion: &Companion, store: &Store) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let fail = |source| Error::Store { act: "read the attestations", source };
    let file = |layer: &Descriptor| {
        let name = match layer.annotations.get(PREDICATE_TYPE).map(String::as_str) {
            Some(sbom::PREDICATE_TYPE) => "sbom.spdx.json",
            _ => PROVENANCE_FILE,
        };
        Ok((name.to_owned(), read(layer, store).map_err(fail)?))
    };
    companion.manifest.value().layers.iter().map(file).collect()
}

/// Statements larger than this are nobody's, in bytes.
const MAX_STATEMENT_BYTES: u64 = 256 << 20;

/// The bytes of a statement, which is a layer of a companion.
pub(crate) fn read(layer: &Descriptor, store: &Store) -> layerfs::Result<Vec<u8>> {
    let Descriptor { digest, size, .. } = *layer;
    if size > MAX_STATEMENT_BYTES {
        let limit_bytes = MAX_STATEMENT_BYTES;
        return Err(layerfs::Error::TooLarge { digest, size_bytes: size, limit_bytes });
    }
    let mut bytes = Vec::new();
    let read = store.verified(layer)?.read_to_end(&mut bytes);
    read.map_err(|source| layerfs::Error::ReadBlob { digest, source })?;
    Ok(bytes)
}
