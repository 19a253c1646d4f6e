//! The client: what can be asked of a registry, each question about a screen.
//!
//! Blobs are in [`pull`](crate::pull) and [`push`](crate::push); how a question is sent is in `exchange`.

use std::fmt;
use std::sync::Arc;

use oci::digest::Mismatch;
use oci::{Algorithm, Descriptor, Digest, Document, MAX_DOCUMENT_BYTES, MediaType, Reference};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::exchange::{Call, Content, Exchange, Way};
use crate::hosts::Can;
use crate::transport::{Headers, Method, Response};
use crate::url::Url;
use crate::{Error, Options, Retry};

/// The documents that are understood, in order of preference.
const DOCUMENTS: [MediaType; 4] =
    [MediaType::OciIndex, MediaType::OciManifest, MediaType::DockerManifestList, MediaType::DockerManifest];

/// A document as the registry has it, verified.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The manifest or index.
    pub document: Document,
    /// Its type, digest and size.
    pub descriptor: Descriptor,
}

/// A client for any number of registries, to be shared by threads. Cheap to create and to clone: certificates
/// are read and connections opened by the first request that needs them.
#[derive(Clone)]
pub struct Client {
    pub(crate) exchange: Arc<Exchange>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client that behaves as `options` say.
    pub fn new(options: Options) -> Client {
        Client { exchange: Arc::new(Exchange::new(options)) }
    }

    /// What `reference` stands for at this moment: its type, digest and size. The Hub counts this as no pull.
    ///
    /// # Errors
    /// [`Error::is_not_found`], [`Error::is_unauthorized`] and [`Error::is_unreachable`] tell the usual ones.
    pub fn resolve(&self, reference: &Reference) -> Result<Descriptor, Error> {
        self.exchange.through(reference, Can::Resolve, |way, retry| self.resolve_by(way, retry, reference))
    }

    fn resolve_by(&self, way: &Way, retry: &Retry, reference: &Reference) -> Result<Descriptor, Error> {
        let call = manifest_call(Method::Head, way, reference);
        match retry.run(|_| self.exchange.once(&call)) {
            Ok(response) => match described(&response).filter(|found| is_comparable(reference, found)) {
                Some(descriptor) => {
                    expect_digest(&response, reference, descriptor.digest)?;
                    Ok(descriptor)
                }
                // Some registries leave out the digest or the length; the document itself tells.
                None => Ok(self.document_by(way, retry, reference)?.descriptor),
            },
            // An answer to HEAD has no body that says why, and some registries do not know HEAD at all.
            Err(Error::Status { status: 400 | 403..=405 | 501, .. }) => {
                Ok(self.document_by(way, retry, reference)?.descriptor)
            }
            Err(error) => Err(error),
        }
    }

    /// The manifest or index of `reference`, by its digest if it has one, verified against it.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::Verify`] and [`Error::Document`] when the registry lies.
    pub fn document(&self, reference: &Reference) -> Result<Fetched, Error> {
        self.exchange.through(reference, Can::Pull, |way, retry| self.document_by(way, retry, reference))
    }

    /// The same by one way alone.
    pub(crate) fn document_by(
        &self,
        way: &Way,
        retry: &Retry,
        reference: &Reference,
    ) -> Result<Fetched, Error> {
        let call = manifest_call(Method::Get, way, reference);
        let (bytes, media_type, digest) = retry.run(|_| {
            let response = self.exchange.once(&call)?;
            let announced = response.header("content-type").map(MediaType::parse);
            let promised = response.header("docker-content-digest").and_then(|text| text.parse().ok());
            let url = response.url.to_string();
            let bytes = response.bytes(MAX_DOCUMENT_BYTES)?;
            let expected = reference.digest().or(promised);
            let found = expected.map_or(Algorithm::Sha256, |expected| expected.algorithm()).digest(&bytes);
            match expected {
                Some(expected) if expected != found => {
                    Err(Error::Verify { url, source: Mismatch::Digest { expected, found } })
                }
                _ => Ok((bytes, announced, found)),
            }
        })?;
        let media_type = match media_type {
            Some(known) if DOCUMENTS.contains(&known) => known,
            other => sniff(&bytes).or(other).unwrap_or(MediaType::OciManifest),
        };
        let descriptor = Descriptor::new(media_type.clone(), digest, bytes.len() as u64);
        let document = Document::parse(bytes, &media_type)
            .map_err(|source| Error::Document { reference: reference.to_string(), source })?;
        Ok(Fetched { document: document.called(digest), descriptor })
    }

    /// Whether the registry of `reference` lets this client in, as far as the registry tells without a repository.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn log_in(&self, reference: &Reference) -> Result<(), Error> {
        let way = self.exchange.way(reference)?;
        let call = Call {
            method: Method::Get,
            url: Url::new(&way.origin, "/v2/"),
            way: &way,
            scopes: Vec::new(),
            headers: Headers::from([("accept", "application/json".to_owned())]),
            content: Content::None,
        };
        self.exchange.persist(&call).map(drop)
    }
}

fn manifest_call<'a>(method: Method, way: &'a Way, reference: &Reference) -> Call<'a> {
    let accept = DOCUMENTS.iter().map(MediaType::as_str).collect::<Vec<_>>().join(", ");
    Call {
        method,
        url: way.url(&format!("manifests/{}", reference.target())),
        way,
        scopes: vec![pull_scope(reference)],
        headers: Headers::from([("accept", accept)]),
        content: Content::None,
    }
}

/// The token scope for reading the repository.
pub(crate) fn pull_scope(reference: &Reference) -> String {
    format!("repository:{}:pull", reference.repository())
}

/// What an answer's headers say about the document, if they say all of it.
fn described(response: &Response) -> Option<Descriptor> {
    let media_type = MediaType::parse(response.header("content-type")?);
    let digest = response.header("docker-content-digest")?.parse().ok()?;
    let size = response.length().filter(|&size| size > 0 && size <= MAX_DOCUMENT_BYTES)?;
    DOCUMENTS.contains(&media_type).then(|| Descriptor::new(media_type, digest, size))
}

/// Whether the digest in an answer is of the kind that was asked for.
fn is_comparable(reference: &Reference, found: &Descriptor) -> bool {
    reference.digest().is_none_or(|wanted| wanted.algorithm() == found.digest.algorithm())
}

fn expect_digest(response: &Response, reference: &Reference, found: Digest) -> Result<(), Error> {
    match reference.digest() {
        Some(expected) if expected != found => {
            Err(Error::Verify { url: response.url.to_string(), source: Mismatch::Digest { expected, found } })
        }
        _ => Ok(()),
    }
}

/// The type that a document gives itself, or that its fields betray, for registries that send
/// `text/plain` or nothing. [`Document::parse`] still refuses what contradicts itself.
fn sniff(bytes: &[u8]) -> Option<MediaType> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<MediaType>,
        manifests: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
    }
    let probe: Probe = serde_json::from_slice(bytes).ok()?;
    match probe {
        Probe { media_type: Some(media_type), .. } => Some(media_type),
        Probe { manifests: Some(_), .. } => Some(MediaType::OciIndex),
        Probe { config: Some(_), .. } => Some(MediaType::OciManifest),
        _ => None,
    }
}
