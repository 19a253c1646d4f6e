//! Pushing: blobs first, then the manifest that names them.
//!
//! Order for a blob: ask whether it is there; let the registry mount it from a repository that has it; else
//! open an upload session and stream the bytes in one request. A session that fails is left, and the next try
//! opens a new one, after asking whether the last one arrived after all. Where one request is too large (413),
//! the bytes go in chunks. (OCI distribution-spec, "Push".)
//!
//! Invariants: memory does not grow with the blob; what `progress` is told adds up to the blob's size if the
//! push succeeds, and to nothing if it fails.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::ops::Range;

use oci::digest::Mismatch;
use oci::{Descriptor, Digest, MediaType, Reference};

use crate::exchange::{Call, Content, Exchange, target};
use crate::transport::{Direction, Headers, Method, Response};
use crate::url::Url;
use crate::{Client, Error};

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
        let upload = Upload { exchange, to, descriptor, source, meter: Meter::new(progress) };
        if upload.exists()? {
            upload.meter.settle(descriptor.size);
            return Ok(Pushed::Existed);
        }
        let is_other =
            |from: &&Reference| from.registry() == to.registry() && from.repository() != to.repository();
        let mut session = None;
        for from in mount_from.iter().filter(is_other).take(MAX_MOUNTS) {
            match upload.mount(from) {
                Some(Mount::Done) => {
                    upload.meter.settle(descriptor.size);
                    return Ok(Pushed::Mounted);
                }
                Some(Mount::Session(url)) => {
                    session = Some(url);
                    break;
                }
                None => {}
            }
        }
        let _permit = exchange.transport.permit(&exchange.origin(to)?, Direction::Push);
        exchange.options().retry.run(|tries| {
            // The answer to the last try may be all that was lost.
            if tries > 0 && upload.exists()? {
                upload.meter.settle(descriptor.size);
                return Ok(Pushed::Uploaded);
            }
            let session = session.take().map_or_else(|| upload.begin(), Ok)?;
            match upload.send(session, tries > 0) {
                Err(Error::Status { status: 413, .. })
                    if descriptor.size > exchange.options().chunk_bytes =>
                {
                    upload.send_in_chunks()
                }
                result => result,
            }
        })
    }

    /// Writes a manifest or index under the tag of `to`, or under its digest if it has no tag.
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
        let digest = Digest::of(bytes);
        let target = to.tag().map_or_else(|| to.target(), str::to_owned);
        let url = self.exchange.url(to, &format!("manifests/{target}"))?;
        if let Some(expected) = to.digest().filter(|&expected| expected != digest) {
            let source = Mismatch::Digest { expected, found: digest };
            return Err(Error::Verify { url: url.to_string(), source });
        }
        let call = Call {
            method: Method::Put,
            url,
            reference: to,
            scopes: vec![push_scope(to)],
            headers: Headers::from([("content-type", media_type.as_str().to_owned())]),
            content: Content::Bytes(bytes),
        };
        expect_digest(&self.exchange.persist(&call)?, digest)?;
        Ok(digest)
    }
}

/// What came of asking for a mount.
enum Mount {
    Done,
    /// The registry would rather have the bytes, and has opened a session for them.
    Session(Url),
}

/// One blob on its way.
struct Upload<'a> {
    exchange: &'a Exchange,
    to: &'a Reference,
    descriptor: &'a Descriptor,
    source: &'a dyn BlobSource,
    meter: Meter<'a>,
}

impl<'a> Upload<'a> {
    fn call(&self, method: Method, url: Url) -> Call<'a> {
        let (reference, scopes) = (self.to, vec![push_scope(self.to)]);
        Call { method, url, reference, scopes, headers: Headers::new(), content: Content::None }
    }

    fn exists(&self) -> Result<bool, Error> {
        let url = self.exchange.url(self.to, &format!("blobs/{}", self.descriptor.digest))?;
        match self.exchange.persist(&self.call(Method::Head, url)) {
            Ok(_) => Ok(true),
            // Not there, or a registry that does not answer HEAD; what else is wrong, the upload will tell,
            // with a body that says why.
            Err(error @ Error::Status { .. }) if error.is_temporary() => Err(error),
            Err(Error::Status { status, .. }) if status != 401 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks once; any failure leaves the plain upload, which has its own retries and its own error.
    fn mount(&self, from: &Reference) -> Option<Mount> {
        let url = self.uploads().ok()?;
        let url = url.with_query("mount", &self.descriptor.digest.to_string());
        let mut call = self.call(Method::Post, url.with_query("from", from.repository()));
        call.scopes.push(crate::client::pull_scope(from));
        let response = self.exchange.once(&call).ok()?;
        match response.status {
            201 => Some(Mount::Done),
            _ => self.session(&response).ok().map(Mount::Session),
        }
    }

    fn begin(&self) -> Result<Url, Error> {
        self.session(&self.exchange.once(&self.call(Method::Post, self.uploads()?))?)
    }

    fn uploads(&self) -> Result<Url, Error> {
        self.exchange.url(self.to, "blobs/uploads/")
    }

    fn session(&self, response: &Response) -> Result<Url, Error> {
        target(&self.exchange.transport, &self.exchange.origin(self.to)?, response)
    }

    /// Streams the blob into `session`. `ask_first` gives the registry the chance to refuse before the bytes
    /// flow: a refusal in the middle breaks the connection, and what it said is lost. (RFC 9110, 10.1.1.)
    fn send(&self, session: Url, ask_first: bool) -> Result<Pushed, Error> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        let mut headers = Headers::new();
        if ask_first && size > 0 {
            headers.push(("expect", "100-continue".to_owned()));
        }
        let url = session.clone().with_query("digest", &digest.to_string());
        let result = self.put(Method::Put, url, headers, 0..size);
        self.finish(session, result)
    }

    /// Sends the blob piece by piece, for registries behind a limit on the size of one request.
    ///
    /// The registry's `Range` says how far it has come, which may be less than was sent.
    fn send_in_chunks(&self) -> Result<Pushed, Error> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        let mut session = self.begin()?;
        let mut offset = 0;
        while offset < size {
            let end = size.min(offset.saturating_add(self.exchange.options().chunk_bytes.max(1)));
            let headers = Headers::from([("content-range", format!("{offset}-{}", end - 1))]);
            let chunk = self.put(Method::Patch, session.clone(), headers, offset..end);
            let next = chunk.and_then(|response| {
                let taken = response
                    .header("range")
                    .and_then(parse_range_end)
                    .map_or(end, |last| last.saturating_add(1));
                if taken <= offset || taken > end {
                    let reason = "expected a `Range` that ends within the chunk";
                    return Err(Error::Answer { url: response.url.to_string(), reason });
                }
                Ok((self.session(&response)?, taken))
            });
            match next {
                Ok(next) => (session, offset) = next,
                Err(error) => return self.finish(session, Err(error)),
            }
        }
        let url = session.clone().with_query("digest", &digest.to_string());
        let result = self.exchange.once(&self.call(Method::Put, url));
        self.finish(session, result)
    }

    /// Sends a range of the blob's bytes.
    fn put(
        &self,
        method: Method,
        url: Url,
        mut headers: Headers,
        range: Range<u64>,
    ) -> Result<Response, Error> {
        headers.push(("content-type", "application/octet-stream".to_owned()));
        let failure = RefCell::new(None);
        let bytes = range.end - range.start;
        let open = || -> Result<Box<dyn Read + '_>, Error> {
            self.meter.settle(range.start);
            let reader = self.source.open_at(range.start).map_err(|source| self.unreadable(source))?;
            Ok(Box::new(Exact { reader, left: bytes, meter: &self.meter, failure: &failure }))
        };
        let call =
            Call { headers, content: Content::Stream { open: &open, bytes }, ..self.call(method, url) };
        let result = self.exchange.once(&call);
        match failure.take() {
            Some(source) if result.is_err() => Err(self.unreadable(source)),
            _ => result,
        }
    }

    /// Closes the books on an upload, and its session if the registry still has it open.
    fn finish(&self, session: Url, result: Result<Response, Error>) -> Result<Pushed, Error> {
        let result = result.and_then(|response| expect_digest(&response, self.descriptor.digest));
        let Err(error) = result else {
            self.meter.settle(self.descriptor.size);
            return Ok(Pushed::Uploaded);
        };
        self.meter.settle(0);
        if !error.is_unreachable() {
            // A courtesy, so that the registry need not wait for the session to time out.
            drop(self.exchange.once(&self.call(Method::Delete, session)));
        }
        Err(error)
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::ReadSource { digest: self.descriptor.digest, source }
    }
}

/// Tells how many bytes are there, and takes back what was told.
struct Meter<'a> {
    told: Cell<u64>,
    progress: &'a (dyn Fn(i64) + Sync),
}

impl<'a> Meter<'a> {
    fn new(progress: &'a (dyn Fn(i64) + Sync)) -> Meter<'a> {
        Meter { told: Cell::new(0), progress }
    }

    fn count(&self, bytes: u64) {
        self.settle(self.told.get() + bytes);
    }

    /// Makes what was told be `bytes`.
    fn settle(&self, bytes: u64) {
        let signed = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        let told = self.told.replace(bytes);
        if told != bytes {
            (self.progress)(signed(bytes) - signed(told));
        }
    }
}

/// Exactly so many bytes of a source: fails if it ends early, and reads no further if it does not end.
struct Exact<'a> {
    reader: Box<dyn Read + Send>,
    left: u64,
    meter: &'a Meter<'a>,
    /// The source's own failure, which the connection's error would hide.
    failure: &'a RefCell<Option<io::Error>>,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let error = loop {
            match self.reader.read(&mut buffer[..room]) {
                Ok(0) => {
                    let reason = format!("it ends {} bytes early", self.left);
                    break io::Error::new(io::ErrorKind::UnexpectedEof, reason);
                }
                Ok(read) => {
                    self.left -= read as u64;
                    self.meter.count(read as u64);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let kind = error.kind();
        *self.failure.borrow_mut() = Some(error);
        Err(kind.into())
    }
}

fn push_scope(reference: &Reference) -> String {
    format!("repository:{}:pull,push", reference.repository())
}

/// The last byte of `0-9`, which the distribution API writes without a unit.
fn parse_range_end(text: &str) -> Option<u64> {
    text.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']).split_once('-')?.1.parse().ok()
}

fn expect_digest(response: &Response, expected: Digest) -> Result<(), Error> {
    let answered = response.header("docker-content-digest").and_then(|text| text.parse().ok());
    match answered {
        Some(found) if found != expected => {
            Err(Error::Verify { url: response.url.to_string(), source: Mismatch::Digest { expected, found } })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_a_range_ends() {
        for (text, end) in
            [("0-9", Some(9)), ("bytes=0-9", Some(9)), ("bytes 0-0", Some(0)), ("9", None), ("0-", None)]
        {
            assert_eq!(parse_range_end(text), end, "{text}");
        }
    }
}
