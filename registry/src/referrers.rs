//! What refers to a manifest: signatures, bills of materials, attestations. (OCI distribution-spec, "Listing Referrers",
//! "Pushing Manifests with Subject", "Referrers Tag Schema".)
//!
//! Registries of today list them at an end-point of its own. Those of yesterday know nothing of it: there the list is an
//! index under a tag that is made of the subject's digest, and whoever pushes a referrer writes it.

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, Document, Index, MAX_DOCUMENT_BYTES, MediaType, Raw, Reference};
use serde::Deserialize;
use serde_json::Value;

use crate::lists::List;
use crate::transport::lock;
use crate::{Client, Error, Fetched};

/// The end-point's list.
const REFERRERS: List = List {
    accept: "application/vnd.oci.image.index.v1+json",
    max_page_bytes: MAX_DOCUMENT_BYTES,
    max_pages: 1000,
};

/// The manifest or index that `bytes` says it is about. (OCI image-spec, manifest.md, "subject".)
///
/// # Errors
/// When there is one that is no descriptor.
pub fn subject(bytes: &[u8]) -> Result<Option<Descriptor>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Shape {
        subject: Option<Descriptor>,
    }
    serde_json::from_slice::<Shape>(bytes).map(|shape| shape.subject)
}

/// How the manifest `bytes`, to which `descriptor` points, is listed with what refers to its subject: with its artifact
/// type and its annotations.
pub fn entry(descriptor: &Descriptor, bytes: &[u8]) -> Descriptor {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        artifact_type: Option<String>,
        config: Option<Descriptor>,
        annotations: Option<BTreeMap<String, String>>,
    }
    let mut entry = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
    let Ok(shape) = serde_json::from_slice::<Shape>(bytes) else { return entry };
    let kind = shape.artifact_type.filter(|kind| !kind.is_empty());
    let kind = kind.or_else(|| Some(shape.config?.media_type.as_str().to_owned()));
    entry.annotations = shape.annotations.unwrap_or_default();
    entry.extra.extend(kind.map(|kind| ("artifactType".to_owned(), Value::String(kind))));
    entry
}

/// The name of the list of what refers to `subject`, in the repository of `near`: the algorithm and the first 64 digits.
pub fn list_name(near: &Reference, subject: Digest) -> Reference {
    let name = format!("{}:{}-{}", near.name(), subject.algorithm().name(), &subject.hex()[..64]);
    name.parse().expect("a repository's name and a good tag are a reference")
}

impl Client {
    /// What refers to `subject` in the repository of `near`: all of it, or what has the artifact type `kind`.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::Answer`] for a list that does not end; that there is nothing is none.
    pub fn referrers(
        &self,
        near: &Reference,
        subject: Digest,
        kind: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut all = match self.listed_referrers(near, subject, kind) {
            // A registry that does not know the question, or one in front of which something does not.
            Err(Error::Status { status: 400 | 404 | 405 | 501, .. }) => {
                index(self.document(&list_name(near, subject)))?
                    .map_or_else(Vec::new, |index| index.manifests)
            }
            result => result?,
        };
        // Not all registries filter, and the tag has everything.
        if let Some(kind) = kind {
            all.retain(|entry| entry.extra.get("artifactType").and_then(Value::as_str) == Some(kind));
        }
        Ok(all)
    }

    fn listed_referrers(
        &self,
        near: &Reference,
        subject: Digest,
        kind: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let way = self.exchange.way(near)?;
        let mut url = way.url(&format!("referrers/{subject}"));
        if let Some(kind) = kind {
            url = url.with_query("artifactType", kind);
        }
        self.pages(&REFERRERS, &way, near, url, |url, bytes| {
            let document = Document::parse(bytes, &MediaType::OciIndex)
                .map_err(|source| Error::Document { reference: url.to_string(), source })?;
            Ok(match document {
                Document::Index(index) => index.value().manifests.clone(),
                Document::Manifest(_) => Vec::new(),
            })
        })
    }

    /// Adds to the list under the subject's tag, for a registry that keeps none itself.
    pub(crate) fn tag_referrer(
        &self,
        near: &Reference,
        subject: Digest,
        entry: Descriptor,
    ) -> Result<(), Error> {
        // Two of this process would otherwise read the same list and each write it with its own addition.
        let _writing = lock(&self.exchange.lists);
        let name = list_name(near, subject);
        // Read where it is written: a mirror may have an older one.
        let way = self.exchange.push_way(&name)?;
        let found = self.document_by(&way, &self.exchange.options().retry, &name);
        let mut index = index(found)?.unwrap_or_else(|| Index::oci(Vec::new()));
        if index.manifests.iter().any(|other| other.digest == entry.digest) {
            return Ok(());
        }
        index.manifests.push(entry);
        let index = Raw::write(index);
        self.put_document(&name, &MediaType::OciIndex, index.bytes()).map(drop)
    }
}

/// The list that was asked for under a subject's tag; `None` where there is none.
fn index(found: Result<Fetched, Error>) -> Result<Option<Index>, Error> {
    match found {
        Ok(Fetched { document: Document::Index(index), .. }) => Ok(Some(index.value().clone())),
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
