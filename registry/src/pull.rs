//! Pulling a blob: a verified stream that survives a dropped connection.
//!
//! Order: the first request is sent by [`Client::blob`], so that its errors come before the first byte; a
//! connection that breaks is replaced by one that goes on where it broke (`Range`); the [`Verifier`] on top
//! sees one stream, and fails at its end unless digest and size are those of the descriptor. What an earlier transfer
//! has brought need not come again: [`Client::rest_of_blob`] begins behind it.
//!
//! Invariant: no more than the promised size is ever read, and nothing but the whole blob ends without error.

use std::io::{self, Read};
use std::sync::Arc;

use oci::digest::Mismatch;
use oci::{Descriptor, Digest, Hasher, Reference, Verifier};

use crate::client::pull_scope;
use crate::exchange::{Call, Content, Exchange, Way};
use crate::gate::Permit;
use crate::hosts::Can;
use crate::transport::{Direction, Headers, Method, Response};
use crate::url::Url;
use crate::{Client, Error, Retry};

/// A connection that brought this much before it broke has earned another try.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// A blob's bytes, verified: reading to the end succeeds only if digest and size are as promised.
///
/// An [`io::Error`] carries an [`Error`] when the registry failed, and a [`Mismatch`] when it lied. The
/// reader holds one of the host's transfers until it is dropped.
pub struct BlobReader {
    verifier: Verifier<Resuming>,
    start: u64,
    url: String,
}

impl BlobReader {
    /// Where in the blob the bytes begin: behind what was known, or at 0 where the registry gives the whole.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The bytes in memory: as many as the descriptor promises, which the caller has looked at.
    ///
    /// # Errors
    /// [`Error::Verify`] when the registry lied; else as [`Client::blob`].
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        match self.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(match error.downcast::<Mismatch>() {
                Ok(source) => Error::Verify { url: self.url, source },
                Err(error) => error.downcast().unwrap_or_else(|error| lost(self.url, error)),
            }),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.verifier.read(buffer)
    }
}

impl Client {
    /// The blob that `descriptor` points to, from the repository of `reference`.
    ///
    /// Waits while [`Options::transfers_per_host`](crate::Options::transfers_per_host) readers of this
    /// registry are alive; a thread that keeps so many open must drop one before it asks for another.
    ///
    /// # Errors
    /// As [`Client::resolve`]; [`Error::Verify`] if the registry announces another size.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<BlobReader, Error> {
        self.rest_of_blob(reference, descriptor, &Hasher::of(descriptor.digest.algorithm()))
    }

    /// As [`Client::blob`], behind the bytes that `known` has taken in, by the digest's
    /// algorithm. A registry that gives no part of a blob, or
    /// another one than it was asked for, is asked for the whole: [`BlobReader::start`] tells.
    ///
    /// # Errors
    /// As [`Client::blob`].
    pub fn rest_of_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        known: &Hasher,
    ) -> Result<BlobReader, Error> {
        let source = self.exchange.through(reference, Can::Pull, |way, retry| {
            let mut source = Resuming {
                exchange: self.exchange.clone(),
                way: way.clone(),
                digest: descriptor.digest,
                size: descriptor.size,
                offset: known.bytes(),
                body: None,
                tries: 0,
                tried_at: known.bytes(),
                _permit: self.exchange.transport.permit(&way.origin, Direction::Pull),
            };
            source.begin(retry)?;
            Ok(source)
        })?;
        let (start, url) = (source.offset, source.url().to_string());
        let verifier = match start {
            0 => Verifier::new(source, descriptor.digest, descriptor.size),
            _ => Verifier::behind(known.clone(), source, descriptor.digest, descriptor.size),
        };
        Ok(BlobReader { verifier, start, url })
    }
}

/// The blob's bytes as they come, over as many connections as it takes.
struct Resuming {
    exchange: Arc<Exchange>,
    way: Way,
    digest: Digest,
    size: u64,
    offset: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Connections that broke since there was progress.
    tries: u32,
    /// Where the first of these broke.
    tried_at: u64,
    _permit: Permit,
}

impl Resuming {
    fn url(&self) -> Url {
        self.way.url(&format!("blobs/{}", self.digest))
    }

    /// Asks for what is missing, and takes the whole if that is what comes.
    fn begin(&mut self, retry: &Retry) -> Result<(), Error> {
        let mut begun = retry.run(|_| self.ask());
        let is_unfit = |error: &Error| {
            matches!(error, Error::Answer { .. } | Error::Verify { .. } | Error::Status { status: 416, .. })
        };
        if self.offset > 0 && begun.as_ref().is_err_and(is_unfit) {
            self.offset = 0;
            begun = retry.run(|_| self.ask());
        }
        let (response, start) = begun?;
        self.body = Some(Box::new(response.reader()));
        self.offset = start;
        Ok(())
    }

    /// Asks for what is missing, and reads up to it where the whole comes.
    fn open(&self) -> Result<Box<dyn Read + Send>, Error> {
        let (response, skipped) = self.ask()?;
        let url = response.url.to_string();
        let mut body: Box<dyn Read + Send> = Box::new(response.reader());
        let missing = self.offset - skipped;
        let passed = io::copy(&mut (&mut body).take(missing), &mut io::sink());
        match passed {
            Ok(passed) if passed == missing => Ok(body),
            Ok(_) => Err(lost(url, io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(lost(url, error)),
        }
    }

    /// An answer that has what is missing, and how many bytes of the blob it leaves out.
    fn ask(&self) -> Result<(Response, u64), Error> {
        let mut headers = Headers::from([("accept", "*/*".to_owned())]);
        if self.offset > 0 {
            headers.push(("range", format!("bytes={}-", self.offset)));
        }
        let call = Call {
            method: Method::Get,
            url: self.url(),
            way: &self.way,
            scopes: vec![pull_scope(&self.way.reference)],
            headers,
            content: Content::None,
        };
        let response = self.exchange.once(&call)?;
        let skipped = self.skipped(&response)?;
        match response.length().map(|length| skipped.saturating_add(length)) {
            Some(found_bytes) if found_bytes != self.size => {
                let (digest, expected_bytes) = (self.digest, self.size);
                let source = Mismatch::Size { digest, expected_bytes, found_bytes };
                Err(Error::Verify { url: response.url.to_string(), source })
            }
            _ => Ok((response, skipped)),
        }
    }

    /// How many bytes of the blob the answer leaves out: all that are here, or none if `Range` is not known.
    fn skipped(&self, response: &Response) -> Result<u64, Error> {
        if response.status != 206 {
            return Ok(0);
        }
        let range = response.header("content-range").and_then(parse_range_start);
        match range {
            Some(start) if start == self.offset => Ok(start),
            _ => {
                let reason = "expected a `Content-Range` that begins where the transfer broke";
                Err(Error::Answer { url: response.url.to_string(), reason })
            }
        }
    }

    /// Replaces a connection that broke, unless that happened too often without progress.
    fn resume(&mut self, cause: io::Error) -> io::Result<()> {
        self.body = None;
        if self.offset >= self.tried_at + PROGRESS_BYTES {
            self.tries = 0;
        }
        if self.tries == 0 {
            self.tried_at = self.offset;
        }
        self.tries += 1;
        let retry = &self.exchange.options().retry;
        if self.tries >= retry.attempts {
            return Err(io::Error::other(lost(self.url().to_string(), cause).after(self.tries)));
        }
        (retry.sleep)(retry.pause(self.tries - 1));
        self.body = Some(retry.run(|_| self.open()).map_err(io::Error::other)?);
        Ok(())
    }
}

impl Read for Resuming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(body) = self.body.as_mut() else { return Ok(0) };
            let cause = match body.read(buffer) {
                Ok(0) if self.offset < self.size && !buffer.is_empty() => io::ErrorKind::UnexpectedEof.into(),
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // All that was promised is here; how the connection ends no longer matters.
                Err(_) if self.offset >= self.size => return Ok(0),
                Err(error) => error,
            };
            self.resume(cause)?;
        }
    }
}

fn lost(url: String, source: io::Error) -> Error {
    Error::Reach { url, attempts: 1, source: source.into() }
}

/// The first byte of `bytes 5-9/10`. (RFC 9110, 14.4.)
fn parse_range_start(text: &str) -> Option<u64> {
    text.trim().strip_prefix("bytes")?.trim_start().split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_a_range_begins() {
        for (text, start) in [
            ("bytes 5-9/10", Some(5)),
            (" bytes 0-0/*", Some(0)),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes -9/10", None),
        ] {
            assert_eq!(parse_range_start(text), start, "{text}");
        }
    }
}
