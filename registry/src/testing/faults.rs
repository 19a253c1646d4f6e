//! What goes wrong in front of the registry: quirks that it always has, and faults of the plan.
//!
//! Order: the request is recorded; a fault that needs no answer acts; who may not pass is refused; the request is
//! bent; the registry answers; quirks and faults bend the answer.

use std::io::{self, Read};

use super::{Act, Location, Mounts, Seen, Shared, State, access};
use crate::server::Handler;
use crate::server::api::refuse;
use crate::server::http::{Head, Outcome, Reply, Request};

const UPLOADS: &str = "/blobs/uploads/";

impl Handler for Shared {
    fn handle(&self, mut request: Request<'_>) -> Outcome {
        let act = {
            let mut state = self.state();
            let Head { method, target, headers, .. } = request.head.clone();
            state.seen.push(Seen { method, target, headers });
            state.next_fault(&request.head)
        };
        if let Some(outcome) = act.as_ref().and_then(|act| before(act, &mut request)) {
            return outcome;
        }
        if matches!(act, Some(Act::WholeBody)) {
            request.head.headers.retain(|(name, _)| name != "range");
        }
        let path = request.head.path().to_owned();
        let reply = if path == "/token" {
            access::give_token(self, &mut request)
        } else if let Some(refusal) =
            access::refusal(self, &request.head).or_else(|| self.quirk(&mut request))
        {
            refusal
        } else {
            let method = request.head.method.clone();
            let mut broken;
            let mut limited;
            let body: &mut dyn Read = match act {
                Some(Act::HalfRequest(bytes)) => {
                    broken = (&mut *request.body).take(bytes as u64).chain(Broken);
                    &mut broken
                }
                _ => {
                    limited = (&mut *request.body).take(self.takes(&method));
                    &mut limited
                }
            };
            match self.api.handle(Request { head: request.head, body }) {
                Outcome::Reply(reply) => self.place(reply, &method, &path),
                Outcome::Close => return Outcome::Close,
            }
        };
        match act {
            Some(act) => after(&act, reply),
            None => Outcome::Reply(reply),
        }
    }
}

/// What a connection gives that broke.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// A fault that befalls the request itself.
fn before(act: &Act, request: &mut Request<'_>) -> Option<Outcome> {
    match act {
        Act::Close => Some(Outcome::Close),
        Act::CutRequest(bytes) => {
            // Whatever comes of it: the connection is over.
            io::copy(&mut (&mut *request.body).take(*bytes as u64), &mut io::sink()).ok();
            Some(Outcome::Close)
        }
        Act::Status(status, headers, body) => {
            let reply = Reply { headers: headers.clone(), ..Reply::new(*status) };
            Some(Outcome::Reply(reply.body(body.as_bytes())))
        }
        Act::Redirect(base) => {
            let location = format!("{base}{}", request.head.target);
            Some(Outcome::Reply(Reply::new(307).with("location", location)))
        }
        _ => None,
    }
}

/// A fault that befalls the answer.
fn after(act: &Act, mut reply: Reply) -> Outcome {
    match act {
        Act::Cut(bytes) => reply.delivery.shown = *bytes,
        Act::Corrupt => edit(&mut reply, |body| body.iter_mut().take(1).for_each(|byte| *byte ^= 1)),
        Act::Pad(bytes) => edit(&mut reply, |body| body.extend(std::iter::repeat_n(b' ', *bytes))),
        Act::Flood(bytes) => {
            edit(&mut reply, |body| body.extend(std::iter::repeat_n(b' ', *bytes)));
            reply = reply.with("connection", "close");
        }
        Act::Trickle => reply.delivery.piece = 1,
        Act::Without(name) => reply.headers.retain(|(key, _)| key != name),
        Act::With(name, value) => reply = reply.with(name, value),
        Act::LoseAnswer => return Outcome::Close,
        _ => {}
    }
    Outcome::Reply(reply)
}

fn edit(reply: &mut Reply, change: impl FnOnce(&mut Vec<u8>)) {
    if let Ok(bytes) = reply.body.bytes() {
        change(bytes);
    }
}

impl State {
    fn next_fault(&mut self, head: &Head) -> Option<Act> {
        let fits = |fault: &&mut super::Fault| {
            fault.times > 0 && fault.method == head.method && head.path().contains(&fault.path)
        };
        let fault = self.faults.iter_mut().find(fits)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.act.clone())
    }
}

impl Shared {
    /// How much of a request's body the registry looks at.
    fn takes(&self, method: &str) -> u64 {
        self.setup.takes.filter(|_| method == "PATCH").unwrap_or(u64::MAX)
    }

    /// What this registry does otherwise than it should: bends the request, or answers it.
    fn quirk(&self, request: &mut Request<'_>) -> Option<Reply> {
        let head = &mut request.head;
        if self.setup.without_referrers && head.path().contains("/referrers/") {
            return Some(Reply::new(404));
        }
        let (repository, id) = head.path().strip_prefix("/v2/")?.rsplit_once(UPLOADS)?;
        let (repository, id) = (repository.to_owned(), id.to_owned());
        if head.method == "POST" && head.query("mount").is_some() {
            match self.setup.mounts {
                Mounts::Done => {}
                Mounts::Session => head.target = head.path().to_owned(),
                Mounts::Denied => return Some(refuse(403, "DENIED", "no mounts")),
            }
        }
        if self.setup.location == Location::Query
            && !id.is_empty()
            && head.query("_state").as_deref() != Some("a+b=")
        {
            return Some(refuse(400, "BLOB_UPLOAD_INVALID", "the session's state is lost"));
        }
        // A session of another registry (`Location::Host`) is taken as it comes.
        if head.method == "PUT" && !id.is_empty() && !self.api.has_upload(&id) {
            let digest = head.query("digest").unwrap_or_default();
            head.method = "POST".to_owned();
            head.target = format!("/v2/{repository}{UPLOADS}?digest={digest}");
        }
        if self.setup.takes.is_some() && head.method == "PATCH" {
            // The chunk is as long as its client says, but not all of it is taken.
            head.headers.retain(|(name, _)| name != "content-length");
            let start = head.header("content-range").and_then(|range| range.split('-').next()?.parse().ok());
            let start: u64 = start.unwrap_or(0);
            head.headers.retain(|(name, _)| name != "content-range");
            head.headers.push(("content-range".to_owned(), format!("{start}-{start}")));
        }
        self.too_small(&request.head)
    }

    /// The refusal of a chunk that is shorter than this registry likes; the last one is not known by its length.
    fn too_small(&self, head: &Head) -> Option<Reply> {
        let least = self.setup.least.filter(|_| head.method == "PATCH")?;
        let length: u64 = head.header("content-length")?.parse().ok()?;
        (length < least).then(|| refuse(400, "SIZE_INVALID", "the chunk is too small"))
    }

    /// Says where the session is in this registry's way.
    fn place(&self, reply: Reply, method: &str, path: &str) -> Reply {
        // A test that wants an `ETag` says which.
        let is_hidden =
            |name: &str| name == "etag" || (name == "oci-subject" && self.setup.without_referrers);
        let mut reply = reply;
        reply.headers.retain(|(name, _)| !is_hidden(name));
        if !matches!(reply.status, 202 | 204) || !path.contains(UPLOADS) {
            return reply;
        }
        let location = reply.headers.iter().find(|(name, _)| name == "location");
        let Some((_, own)) = location.cloned() else { return reply };
        let id = own.rsplit('/').next().unwrap_or_default().to_owned();
        let reply = match self.setup.least.filter(|_| method == "POST") {
            Some(least) => reply.with("oci-chunk-min-length", least),
            None => reply,
        };
        match &self.setup.location {
            Location::Path => reply,
            Location::Absolute => reply.with("location", format!("{}{own}", self.base())),
            Location::Relative => reply.with("location", id),
            Location::Query => reply.with("location", format!("{own}?_state=a%2Bb%3D&n=1")),
            Location::Host(base) => reply.with("location", format!("{base}{own}")),
        }
    }
}
