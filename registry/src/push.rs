//! Pushing: blobs first, then the manifest that names them.
//!
//! Order for a blob: ask whether it is there; go on with an upload that another process could not finish; let the
//! registry mount it from a repository that has it; else send its bytes (`upload`). (OCI distribution-spec, "Push".)
//!
//! Invariants: memory does not grow with the blob; what `progress` is told adds up to the blob's size if the
//! push succeeds, and to nothing if it fails; a manifest is sent by whoever has sent what it names.

mod meter;
mod upload;

use std::fmt;
use std::io::{self, Read};

use oci::digest::Mismatch;
use oci::{Algorithm, Descriptor, Digest, MediaType, Reference};

use crate::exchange::{Call, Content};
use crate::transport::{Direction, Headers, Method, Response};
use crate::{Client, Error, referrers};
use upload::{Mount, Upload};

/// Each refused mount costs a request; past these, sending the bytes is the better try.
const MAX_MOUNTS: usize = 3;

/// Where a blob's bytes come from, as often as an upload has to begin again.
pub trait BlobSource: Sync {
    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// Whatever opening meets; it ends the push.
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

impl<F: Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync> BlobSource for F {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        self(offset)
    }
}

impl BlobSource for Vec<u8> {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(Box::new(io::Cursor::new(self[offset..].to_vec())))
    }
}

/// Remembers uploads that are not finished, so that another process can go on with them.
///
/// What is remembered is an address with the registry's own state in it, which may be a secret. Nothing that goes wrong
/// here ends a push: what is forgotten is sent again.
pub trait Sessions: fmt::Debug + Send + Sync {
    /// What was saved under `key`, which is a good file name.
    fn load(&self, key: &str) -> Option<String>;
    /// Saves `session` under `key`.
    fn save(&self, key: &str, session: &str);
    /// Forgets `key`.
    fn remove(&self, key: &str);
}

/// How a blob came to be in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another repository.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

impl Client {
    /// Brings a blob into the repository of `to`, by sending its bytes only if nothing else will do.
    ///
    /// `mount_from` are repositories that may have it; those on other registries are passed over. `progress`
    /// is told how many bytes more, or after a failed try fewer, are there.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::ReadSource`] if `source` fails or has fewer bytes than it should.
    pub fn push_blob(
        &self,
        to: &Reference,
        descriptor: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[Reference],
        progress: &(dyn Fn(i64) + Sync),
    ) -> Result<Pushed, Error> {
        let exchange = &*self.exchange;
        let way = exchange.push_way(to)?;
        let upload = Upload::new(exchange, &way, descriptor, source, progress);
        let _permit = exchange.transport.permit(&way.origin, Direction::Push);
        if upload.exists()? {
            return Ok(upload.done(Pushed::Existed));
        }
        if !upload.recall() {
            let is_other =
                |from: &&Reference| from.registry() == to.registry() && from.repository() != to.repository();
            for from in mount_from.iter().filter(is_other).take(MAX_MOUNTS) {
                match upload.mount(from) {
                    Some(Mount::Done) => return Ok(upload.done(Pushed::Mounted)),
                    Some(Mount::Session) => break,
                    None => {}
                }
            }
        }
        upload.run()
    }

    /// Writes a manifest or index under the tag of `to`, or under its digest if it has no tag. One that is about another
    /// manifest is listed with that one's referrers, by this client where the registry does not.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::Verify`] if the bytes or the registry's answer do not have the digest
    /// that `to` promises.
    pub fn push_manifest(
        &self,
        to: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        let response = self.put_document(to, media_type, bytes)?;
        let digest = called(to).digest(bytes);
        // What is no descriptor the registry has to refuse, not this client.
        let subject = referrers::subject(bytes).ok().flatten();
        if let Some(subject) = subject.filter(|_| response.header("oci-subject").is_none()) {
            let descriptor = Descriptor::new(media_type.clone(), digest, bytes.len() as u64);
            self.tag_referrer(to, subject.digest, referrers::entry(&descriptor, bytes))?;
        }
        Ok(digest)
    }

    pub(crate) fn put_document(
        &self,
        to: &Reference,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Response, Error> {
        let digest = called(to).digest(bytes);
        let target = to.tag().map_or_else(|| to.target(), str::to_owned);
        let way = self.exchange.push_way(to)?;
        let url = way.url(&format!("manifests/{target}"));
        if let Some(expected) = to.digest().filter(|&expected| expected != digest) {
            let source = Mismatch::Digest { expected, found: digest };
            return Err(Error::Verify { url: url.to_string(), source });
        }
        let call = Call {
            method: Method::Put,
            url,
            way: &way,
            scopes: vec![push_scope(to)],
            headers: Headers::from([("content-type", media_type.as_str().to_owned())]),
            content: Content::Bytes(bytes),
        };
        let response = self.exchange.persist(&call)?;
        expect_digest(&response, digest)?;
        Ok(response)
    }
}

pub(crate) fn push_scope(reference: &Reference) -> String {
    format!("repository:{}:pull,push", reference.repository())
}

/// What a document is called by that goes to `to`.
fn called(to: &Reference) -> Algorithm {
    to.digest().map_or(Algorithm::Sha256, |digest| digest.algorithm())
}

/// A digest of another algorithm says nothing that could be compared.
fn expect_digest(response: &Response, expected: Digest) -> Result<(), Error> {
    let answered = response.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    match answered.filter(|found| found.algorithm() == expected.algorithm()) {
        Some(found) if found != expected => {
            Err(Error::Verify { url: response.url.to_string(), source: Mismatch::Digest { expected, found } })
        }
        _ => Ok(()),
    }
}
