//! One call to a registry, until it has an answer: authorisation, redirects, refusals.
//!
//! Order of a try: the authorisation that is known; the request, through its redirects; after a 401 once more
//! with a new authorisation; then a status below 300 is an answer and all else an error. [`Exchange::persist`]
//! tries again what may pass.
//!
//! Invariant: the `Authorization` value leaves for the registry's own scheme, host and port alone, whatever
//! redirect or `Location` says.

use std::io::Read;
use std::sync::Mutex;

use oci::Reference;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::auth::{Authority, Need};
use crate::error::Code;
use crate::retry::parse_retry_after;
use crate::transport::{Body, Headers, Method, Response, Transport};
use crate::url::{Origin, Url};
use crate::{Error, Options};

const MAX_REDIRECTS: usize = 10;
const MAX_ERROR_BYTES: u64 = 64 * 1024;
const MAX_CODES: usize = 4;
/// The Hub's name is not the name of its registry.
const HUB_HOST: &str = "registry-1.docker.io";

/// What is asked of a registry.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Names the registry and the credential.
    pub(crate) reference: &'a Reference,
    /// What a token must allow.
    pub(crate) scopes: Vec<String>,
    pub(crate) headers: Headers,
    pub(crate) content: Content<'a>,
}

/// What a call carries, in a form that can be sent again.
pub(crate) enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// A stream that can be opened anew.
    Stream {
        open: &'a dyn Fn() -> Result<Box<dyn Read + 'a>, Error>,
        bytes: u64,
    },
}

/// Everything that calls share: connections, challenges and tokens.
pub(crate) struct Exchange {
    pub(crate) transport: Transport,
    authority: Authority,
    /// Held while a list of referrers is read and written.
    pub(crate) lists: Mutex<()>,
}

impl Exchange {
    pub(crate) fn new(options: Options) -> Exchange {
        Exchange {
            transport: Transport::new(options),
            authority: Authority::default(),
            lists: Mutex::default(),
        }
    }

    pub(crate) fn options(&self) -> &Options {
        self.transport.options()
    }

    /// The registry's own scheme, host and port.
    pub(crate) fn origin(&self, reference: &Reference) -> Result<Origin, Error> {
        match reference.registry() {
            oci::reference::HUB => self.transport.origin(HUB_HOST),
            host => self.transport.origin(host),
        }
    }

    /// The address of `path` below the repository.
    pub(crate) fn url(&self, reference: &Reference, path: &str) -> Result<Url, Error> {
        let origin = self.origin(reference)?;
        Ok(Url::new(&origin, &format!("/v2/{}/{path}", reference.repository())))
    }

    /// Sends `call` until it has an answer or retries are used up.
    pub(crate) fn persist(&self, call: &Call<'_>) -> Result<Response, Error> {
        self.options().retry.run(|_| self.once(call))
    }

    /// Sends `call` once, or twice if the registry wants a new authorisation.
    pub(crate) fn once(&self, call: &Call<'_>) -> Result<Response, Error> {
        let origin = self.origin(call.reference)?;
        let need = Need { origin: &origin, reference: call.reference, scopes: &call.scopes };
        let is_own = call.url.origin == origin;
        let known = if is_own { self.authority.known(&self.transport, &need)? } else { None };
        let response = self.send(call, known.as_deref())?;
        if response.status != 401 || response.url.origin != origin {
            return check(call.method, response);
        }
        match self.authority.answer(&self.transport, &need, &response, known.as_deref())? {
            Some(renewed) => {
                drop(response);
                check(call.method, self.send(call, Some(&renewed))?)
            }
            None => check(call.method, response),
        }
    }

    fn send(&self, call: &Call<'_>, authorization: Option<&str>) -> Result<Response, Error> {
        let response =
            follow(&self.transport, call.method, &call.url, &call.headers, authorization, &call.content)?;
        if response.status == 429 {
            self.transport.narrow(&self.origin(call.reference)?);
        }
        Ok(response)
    }
}

/// Sends a request through its redirects; `authorization` goes to the first address's origin alone.
///
/// Only what keeps method and body is followed where there is a body: 307 and 308. (RFC 9110, 15.4.)
pub(crate) fn follow(
    transport: &Transport,
    method: Method,
    first: &Url,
    headers: &Headers,
    authorization: Option<&str>,
    content: &Content<'_>,
) -> Result<Response, Error> {
    let is_read = matches!(method, Method::Get | Method::Head);
    let mut url = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let mut headers = headers.clone();
        if let Some(value) = authorization.filter(|_| url.origin == first.origin) {
            headers.push(("authorization", value.to_owned()));
        }
        let response = match content {
            Content::None => transport.send(method, &url, &headers, Body::None)?,
            Content::Bytes(bytes) => transport.send(method, &url, &headers, Body::Bytes(bytes))?,
            Content::Stream { open, bytes } => {
                let body = Body::Stream { reader: &mut *open()?, bytes: *bytes };
                transport.send(method, &url, &headers, body)?
            }
        };
        let is_redirect = match response.status {
            307 | 308 => true,
            301..=303 => is_read,
            _ => false,
        };
        if !is_redirect {
            return Ok(response);
        }
        url = target(transport, &first.origin, &response)?;
    }
    Err(Error::Answer { url: first.to_string(), reason: "expected an end of its redirects" })
}

/// Where an answer's `Location` points, if `origin`, who gave it, may point there.
pub(crate) fn target(transport: &Transport, origin: &Origin, response: &Response) -> Result<Url, Error> {
    let url = &response.url;
    let fail = |reason| Error::Answer { url: url.to_string(), reason };
    let location = response.header("location").ok_or_else(|| fail("expected a `Location` header"))?;
    let to = url.join(location).ok_or_else(|| fail("its `Location` header is no HTTP address"))?;
    match origin.objection(&to.origin) {
        Some(reason) if !transport.is_insecure(&to.origin) => {
            Err(Error::Follow { from: url.to_string(), to: to.to_string(), reason })
        }
        _ => Ok(to),
    }
}

/// Reads a refusal's codes; any status below 300 passes.
pub(crate) fn check(method: Method, response: Response) -> Result<Response, Error> {
    if response.status < 300 {
        return Ok(response);
    }
    let retry_after =
        response.header("retry-after").and_then(|text| parse_retry_after(text, OffsetDateTime::now_utc()));
    let (url, status) = (response.url.to_string(), response.status);
    // A body that cannot be read leaves the status, which says enough.
    let body = response.bytes(MAX_ERROR_BYTES).unwrap_or_default();
    Err(Error::Status { method: method.name(), url, status, codes: parse_codes(&body), retry_after })
}

/// The codes of an error body: the registries' form, and the two that token servers use.
fn parse_codes(body: &[u8]) -> Vec<Code> {
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    #[derive(Deserialize)]
    struct Shape {
        #[serde(default)]
        errors: Vec<Entry>,
        error: Option<String>,
        error_description: Option<String>,
        details: Option<String>,
    }
    let Ok(shape) = serde_json::from_slice::<Shape>(body) else { return Vec::new() };
    let mut entries = shape.errors;
    let message = shape.error_description.or(shape.details);
    if shape.error.is_some() || message.is_some() {
        let (code, message) = (shape.error.unwrap_or_default(), message.unwrap_or_default());
        entries.push(Entry { code, message });
    }
    let entries = entries.into_iter().take(MAX_CODES);
    entries.map(|entry| Code { code: printable(&entry.code), message: printable(&entry.message) }).collect()
}

/// A registry's text, fit for a terminal: one line, no control characters, not endless.
fn printable(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    text.chars().take(MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_codes_of_every_form() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\nentry","detail":{}}]}"#,
                vec![("DENIED", "no [31m entry")],
            ),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, vec![("A", ""), ("", "b")]),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                vec![("invalid_grant", "expired")],
            ),
            (r#"{"details":"incorrect username or password"}"#, vec![("", "incorrect username or password")]),
            (r#"{"errors":"x"}"#, vec![]),
            ("<html>", vec![]),
            ("", vec![]),
        ] {
            let codes = parse_codes(body.as_bytes());
            let found: Vec<_> = codes.iter().map(|c| (c.code.as_str(), c.message.as_str())).collect();
            assert_eq!(found, expected, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"code":"A","message":"{}"}}]}}"#, "x".repeat(10_000));
        assert_eq!(parse_codes(long.as_bytes())[0].message.len(), 300);
    }
}
