//! One blob on its way: an upload session from its beginning to its end, over as many connections as it takes.
//!
//! Order of a try: ask the registry how far the session of the last one has come, and go on there; else open a new one.
//! A blob goes in one request; where that was too large (413), or after a break, in chunks. The registry's `Range` is
//! what counts, not what was sent.
//!
//! Invariants: a session that this client will not use again is deleted, if the registry can be reached; one that
//! another process may use is remembered and left; tries are counted anew whenever bytes have arrived.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::ops::Range;

use oci::{Descriptor, Digest, Reference};

use super::meter::{Exact, Meter};
use super::{BlobSource, Pushed, expect_digest, push_scope};
use crate::Error;
use crate::exchange::{Call, Content, Exchange, Way, target};
use crate::transport::{Headers, Method, Response};
use crate::url::Url;

/// A break after this much has earned another round of tries, and a session with less is not worth remembering.
const PROGRESS_BYTES: u64 = 1024 * 1024;

/// What came of asking for a mount.
pub(super) enum Mount {
    Done,
    /// The registry would rather have the bytes, and has opened a session for them.
    Session,
}

/// An upload session.
#[derive(Clone)]
struct Place {
    session: Url,
    /// How many bytes the registry has.
    offset: u64,
    /// How long a chunk must be at least, unless it is the last.
    least: u64,
    /// Whether it is of an earlier try or of another process, so that the registry may have forgotten it.
    is_old: bool,
}

/// One blob on its way.
pub(super) struct Upload<'a> {
    exchange: &'a Exchange,
    way: &'a Way,
    descriptor: &'a Descriptor,
    source: &'a dyn BlobSource,
    meter: Meter<'a>,
    /// Where the next try goes on.
    place: RefCell<Option<Place>>,
    in_chunks: Cell<bool>,
    /// The most bytes that the registry had.
    furthest: Cell<u64>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        exchange: &'a Exchange,
        way: &'a Way,
        descriptor: &'a Descriptor,
        source: &'a dyn BlobSource,
        progress: &'a (dyn Fn(i64) + Sync),
    ) -> Upload<'a> {
        let meter = Meter::new(progress);
        let (place, in_chunks, furthest) = (RefCell::default(), Cell::default(), Cell::default());
        Upload { exchange, way, descriptor, source, meter, place, in_chunks, furthest }
    }

    /// The blob is there, however it came.
    pub(super) fn done(&self, how: Pushed) -> Pushed {
        self.meter.settle(self.descriptor.size);
        how
    }

    fn call(&self, method: Method, url: Url) -> Call<'a> {
        let scopes = vec![push_scope(&self.way.reference)];
        Call { method, url, way: self.way, scopes, headers: Headers::new(), content: Content::None }
    }

    pub(super) fn exists(&self) -> Result<bool, Error> {
        let url = self.way.url(&format!("blobs/{}", self.descriptor.digest));
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
    pub(super) fn mount(&self, from: &Reference) -> Option<Mount> {
        let url = self.uploads();
        let url = url.with_query("mount", &self.descriptor.digest.to_string());
        let mut call = self.call(Method::Post, url.with_query("from", from.repository()));
        call.scopes.push(crate::client::pull_scope(from));
        let response = self.exchange.once(&call).ok()?;
        if response.status == 201 {
            return Some(Mount::Done);
        }
        let place = self.opened(&response).ok()?;
        self.place.replace(Some(place));
        Some(Mount::Session)
    }

    /// Takes up what another process left; says whether the registry still has it.
    pub(super) fn recall(&self) -> bool {
        let sessions = self.exchange.options().sessions.as_ref();
        let saved = sessions.and_then(|sessions| sessions.load(&self.key()));
        let Some(session) = saved.and_then(|saved| Url::parse(&saved)) else { return false };
        // Whoever can write where sessions are kept shall not make this client send anything anywhere.
        let is_allowed = self.way.origin.objection(&session.origin).is_none()
            || self.exchange.transport.is_insecure(&session.origin);
        let place = Place { session, offset: 0, least: 0, is_old: true };
        let asked = if is_allowed { self.ask(place).ok().flatten() } else { None };
        let is_there = asked.is_some();
        self.place.replace(asked);
        is_there
    }

    /// Sends the blob until it is there, fails for good, or no more bytes arrive.
    pub(super) fn run(&self) -> Result<Pushed, Error> {
        loop {
            let before = self.furthest.get();
            let result = self.exchange.options().retry.run(|tries| {
                // The answer to the last try may be all that was lost.
                if tries > 0 && self.exists()? {
                    return Ok(());
                }
                self.attempt(tries > 0)
            });
            let error = match result {
                Ok(()) => {
                    self.forget();
                    return Ok(self.done(Pushed::Uploaded));
                }
                Err(error) => error,
            };
            if error.is_temporary() && self.furthest.get() >= before + PROGRESS_BYTES {
                continue;
            }
            self.meter.settle(0);
            if !error.is_temporary() {
                self.abandon();
            }
            return Err(error);
        }
    }

    fn attempt(&self, is_again: bool) -> Result<(), Error> {
        let known = self.place.borrow().clone();
        let place = match known {
            Some(place) if place.is_old => self.ask(place)?,
            place => place,
        };
        let place = place.map_or_else(|| self.begin(), Ok)?;
        let (is_old, is_whole) = (place.is_old, place.offset == 0 && !self.in_chunks.get());
        let result = if is_whole { self.send(place, is_again) } else { self.send_in_chunks(place) };
        match result {
            Err(Error::Status { status: 413, .. })
                if is_whole && self.descriptor.size > self.exchange.options().chunk_bytes =>
            {
                self.abandon();
                self.in_chunks.set(true);
                self.send_in_chunks(self.begin()?)
            }
            // A session that the registry knew, and then did not; nothing is lost but what it held.
            Err(Error::Status { status: 400 | 404 | 410 | 416, .. }) if is_old => {
                self.abandon();
                self.send(self.begin()?, true)
            }
            result => result,
        }
    }

    fn begin(&self) -> Result<Place, Error> {
        let response = self.exchange.once(&self.call(Method::Post, self.uploads()))?;
        let place = self.opened(&response)?;
        self.keep(&place);
        Ok(place)
    }

    fn opened(&self, response: &Response) -> Result<Place, Error> {
        let least = response.header("oci-chunk-min-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Place { session: self.session(response)?, offset: 0, least, is_old: false })
    }

    fn uploads(&self) -> Url {
        self.way.url("blobs/uploads/")
    }

    fn session(&self, response: &Response) -> Result<Url, Error> {
        target(&self.exchange.transport, &self.way.origin, response)
    }

    /// How far an old session has come; `None` where it is of no use. One without a byte is as good as none: nobody
    /// knows what state it is in.
    fn ask(&self, place: Place) -> Result<Option<Place>, Error> {
        let response = match self.exchange.once(&self.call(Method::Get, place.session.clone())) {
            Ok(response) => response,
            Err(error) if error.is_temporary() => return Err(error),
            Err(_) => {
                self.forget();
                return Ok(None);
            }
        };
        let offset = taken(&response).unwrap_or(0);
        if offset < 2 || offset > self.descriptor.size {
            self.abandon();
            return Ok(None);
        }
        // Not all registries say again where it is.
        let session = self.session(&response).unwrap_or_else(|_| place.session.clone());
        let place = Place { session, offset, ..place };
        self.keep(&place);
        Ok(Some(place))
    }

    /// Streams the blob into a session. `ask_first` gives the registry the chance to refuse before the bytes
    /// flow: a refusal in the middle breaks the connection, and what it said is lost. (RFC 9110, 10.1.1.)
    fn send(&self, place: Place, ask_first: bool) -> Result<(), Error> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        let mut headers = Headers::new();
        if ask_first && size > 0 {
            headers.push(("expect", "100-continue".to_owned()));
        }
        let url = place.session.clone().with_query("digest", &digest.to_string());
        self.place.replace(Some(Place { is_old: true, ..place }));
        expect_digest(&self.put(Method::Put, url, headers, 0..size)?, digest)
    }

    /// Sends what is missing piece by piece: for registries behind a limit on the size of one request, and to go on
    /// after a break.
    fn send_in_chunks(&self, mut place: Place) -> Result<(), Error> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        let most = self.exchange.options().chunk_bytes.max(1).max(place.least);
        while place.offset < size {
            let end = size.min(place.offset.saturating_add(most));
            let range = place.offset..end;
            let headers = Headers::from([("content-range", format!("{}-{}", range.start, range.end - 1))]);
            self.place.replace(Some(Place { is_old: true, ..place.clone() }));
            let response = match self.put(Method::Patch, place.session.clone(), headers, range.clone()) {
                Ok(response) => response,
                // The registry has another number of bytes than this client believes.
                Err(error @ Error::Status { status: 416, .. }) => match self.ask(place)? {
                    Some(asked) if asked.offset != range.start => {
                        place = asked;
                        continue;
                    }
                    _ => return Err(error),
                },
                Err(error) => return Err(error),
            };
            let offset = taken(&response).unwrap_or(end);
            if offset <= range.start || offset > end {
                let reason = "expected a `Range` that ends within the chunk";
                return Err(Error::Answer { url: response.url.to_string(), reason });
            }
            place = Place { session: self.session(&response)?, offset, ..place };
            self.keep(&place);
        }
        let url = place.session.clone().with_query("digest", &digest.to_string());
        self.place.replace(Some(Place { is_old: true, ..place }));
        expect_digest(&self.exchange.once(&self.call(Method::Put, url))?, digest)
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

    fn unreadable(&self, source: io::Error) -> Error {
        Error::ReadSource { digest: self.descriptor.digest, source }
    }

    /// Under which name the session is remembered.
    fn key(&self) -> String {
        let name = format!("{}\n{}", self.way.reference.name(), self.descriptor.digest);
        Digest::of(name.as_bytes()).hex()
    }

    /// Notes how far the session has come, here and for other processes.
    fn keep(&self, place: &Place) {
        self.furthest.set(self.furthest.get().max(place.offset));
        self.meter.settle(place.offset);
        if let Some(sessions) = &self.exchange.options().sessions
            && self.descriptor.size >= PROGRESS_BYTES
        {
            sessions.save(&self.key(), &place.session.wire());
        }
    }

    fn forget(&self) {
        self.place.replace(None);
        if let Some(sessions) = &self.exchange.options().sessions {
            sessions.remove(&self.key());
        }
    }

    /// Ends the session, if there is one: a courtesy, so that the registry need not wait for it to time out.
    fn abandon(&self) {
        let place = self.place.borrow().clone();
        if let Some(place) = place {
            drop(self.exchange.once(&self.call(Method::Delete, place.session)));
        }
        self.forget();
    }
}

/// How many bytes an answer says the registry has.
fn taken(response: &Response) -> Option<u64> {
    response.header("range").and_then(parse_range_end).map(|last| last.saturating_add(1))
}

/// The last byte of `0-9`, which the distribution API writes without a unit.
fn parse_range_end(text: &str) -> Option<u64> {
    text.trim().trim_start_matches("bytes").trim_start_matches(['=', ' ']).split_once('-')?.1.parse().ok()
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
