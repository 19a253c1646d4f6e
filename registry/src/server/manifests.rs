//! Manifests and indexes: put once they are understood and complete, served as the very bytes that came.
//! (OCI distribution-spec, "Pushing Manifests", "Pushing Manifests with Subject".)

use std::io::Read as _;

use oci::{Algorithm, Descriptor, Document, MAX_DOCUMENT_BYTES, MediaType, Reference};

use super::api::{Answer, Api, Refusal, refuse, wrong_method};
use super::blobs::parse_digest;
use super::http::{Reply, Request};
use super::storage::{Repository, StoredManifest, Target};
use crate::referrers;

impl Api {
    pub(super) fn manifests(
        &self,
        request: &mut Request<'_>,
        repository: &Repository,
        target: &str,
    ) -> Answer {
        let is_put = request.head.method == "PUT";
        let target = parse_target(target, is_put)?;
        let unknown = || refuse(404, "MANIFEST_UNKNOWN", "manifest unknown");
        match request.head.method.as_str() {
            "GET" | "HEAD" => {
                let found = self.storage.manifest(repository, &target)?.ok_or_else(unknown)?;
                let digest = found.digest;
                Ok(Reply::new(200)
                    .with("content-type", &found.media_type)
                    .with("docker-content-digest", digest)
                    .with("etag", format!("\"{digest}\""))
                    .body(found.bytes))
            }
            "PUT" => self.put(request, repository, &target),
            "DELETE" if self.storage.remove_manifest(repository, &target)? => Ok(Reply::new(202)),
            "DELETE" => Err(unknown().into()),
            _ => Ok(wrong_method("GET, HEAD, PUT, DELETE")),
        }
    }

    fn put(&self, request: &mut Request<'_>, repository: &Repository, target: &Target) -> Answer {
        let bytes = read(request)?;
        let called = match target {
            Target::Digest(expected) => expected.algorithm(),
            Target::Tag(_) => Algorithm::Sha256,
        };
        let digest = called.digest(&bytes);
        let tag = match target {
            Target::Tag(tag) => Some(tag.as_str()),
            Target::Digest(expected) if *expected == digest => None,
            Target::Digest(_) => {
                return Ok(refuse(400, "DIGEST_INVALID", "the manifest has another digest than its address"));
            }
        };
        let announced = request.head.header("content-type").map(MediaType::parse);
        let announced = announced.filter(|media_type| media_type.is_manifest() || media_type.is_index());
        let document = match &announced {
            Some(media_type) => Document::parse(bytes.clone(), media_type),
            None => Document::recognise(bytes.clone()),
        };
        let document = document.map_err(|error| refuse(400, "MANIFEST_INVALID", &error.to_string()))?;
        if !self.is_sparse {
            self.need_parts(repository, &document)?;
        }
        let mut descriptor = document.called(digest).descriptor();
        descriptor.media_type = announced.unwrap_or(descriptor.media_type);
        let subject = subject(&bytes)?;
        let manifest = StoredManifest { media_type: descriptor.media_type.clone(), bytes, digest };
        self.storage.put_manifest(repository, tag, &manifest)?;
        let reply = Reply::new(201)
            .with("location", format!("/v2/{}/manifests/{digest}", repository.name))
            .with("docker-content-digest", digest);
        let Some(subject) = subject else { return Ok(reply) };
        let referrer = referrers::entry(&descriptor, &manifest.bytes);
        self.storage.add_referrer(repository, &subject.digest, &referrer)?;
        Ok(reply.with("oci-subject", subject.digest))
    }

    /// Whatever a manifest names must be there, unless it says itself that it is elsewhere.
    fn need_parts(&self, repository: &Repository, document: &Document) -> Result<(), Refusal> {
        let missing = |part: &Descriptor| {
            let message = format!("{} is not here: push it first", part.digest);
            Refusal::from(refuse(404, "MANIFEST_BLOB_UNKNOWN", &message))
        };
        match document {
            Document::Manifest(manifest) => {
                let manifest = manifest.value();
                let parts = manifest.layers.iter().filter(|layer| !layer.is_elsewhere());
                for part in parts.chain([&manifest.config]) {
                    let found = self.storage.blob(repository, &part.digest)?;
                    if found.is_none_or(|content| content.length() != part.size) {
                        return Err(missing(part));
                    }
                }
            }
            Document::Index(index) => {
                for entry in &index.value().manifests {
                    let target = Target::Digest(entry.digest);
                    let found = self.storage.manifest(repository, &target)?.is_some()
                        || self.storage.blob(repository, &entry.digest)?.is_some();
                    if !found {
                        return Err(missing(entry));
                    }
                }
            }
        }
        Ok(())
    }
}

fn parse_target(text: &str, is_put: bool) -> Result<Target, Refusal> {
    if text.contains(':') {
        return parse_digest(text).map(Target::Digest);
    }
    let reason = "a tag has up to 128 letters, digits, `_`, `.` and `-`";
    match format!("registry.invalid/a:{text}").parse::<Reference>() {
        Ok(reference) if reference.tag() == Some(text) => Ok(Target::Tag(text.to_owned())),
        _ if is_put => Err(refuse(400, "MANIFEST_INVALID", reason).into()),
        // Whoever asks for what cannot be there is told that it is not.
        _ => Err(refuse(404, "MANIFEST_UNKNOWN", reason).into()),
    }
}

fn read(request: &mut Request<'_>) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let read = (&mut *request.body).take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|_| Refusal::Gone)?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        let message = format!("a manifest has up to {MAX_DOCUMENT_BYTES} bytes");
        return Err(refuse(413, "SIZE_INVALID", &message).into());
    }
    Ok(bytes)
}

fn subject(bytes: &[u8]) -> Result<Option<Descriptor>, Refusal> {
    let invalid =
        |error: serde_json::Error| refuse(400, "MANIFEST_INVALID", &format!("its subject: {error}"));
    referrers::subject(bytes).map_err(|error| invalid(error).into())
}
