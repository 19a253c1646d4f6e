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
use oci::reference::HUB;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::auth::{Authority, Need};
use crate::error::Code;
use crate::hosts::{Can, Host};
use crate::retry::parse_retry_after;
use crate::transport::{Body, Headers, Method, Response, Transport};
use crate::url::{Origin, Url};
use crate::{Error, Options, Retry};

const MAX_REDIRECTS: usize = 10;
const MAX_ERROR_BYTES: u64 = 64 * 1024;
const MAX_CODES: usize = 4;
/// The Hub's name is not the name of its registry.
const HUB_HOST: &str = "registry-1.docker.io";

/// What is asked of a registry.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// To whom it goes.
    pub(crate) way: &'a Way,
    /// What a token must allow.
    pub(crate) scopes: Vec<String>,
    pub(crate) headers: Headers,
    pub(crate) content: Content<'a>,
}

/// A way to a registry: itself, or a host that stands for it.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Whom the credential is for.
    pub(crate) origin: Origin,
    /// What stands before the repository.
    prefix: String,
    /// Names the credential and the repository.
    pub(crate) reference: Reference,
    /// The registry that a mirror is asked for.
    stands_for: Option<String>,
    /// What the user wants it to be told with every request.
    headers: Vec<(String, String)>,
}

impl Way {
    /// The address of `path` below the repository.
    pub(crate) fn url(&self, path: &str) -> Url {
        let path = format!("{}/{}/{path}", self.prefix, self.reference.repository());
        let url = Url::new(&self.origin, &path);
        match &self.stands_for {
            Some(registry) => url.with_query("ns", registry),
            None => url,
        }
    }
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

    /// The way to the registry itself.
    pub(crate) fn way(&self, reference: &Reference) -> Result<Way, Error> {
        let known = self.transport.hosts.of(reference.registry())?;
        if let Some(server) = &known.server {
            return self.way_to(server, reference, None);
        }
        let authority = match reference.registry() {
            HUB => HUB_HOST,
            host => host,
        };
        let origin = self.transport.origin(authority)?;
        let (prefix, reference) = ("/v2".to_owned(), reference.clone());
        Ok(Way { origin, prefix, reference, stands_for: None, headers: Vec::new() })
    }

    /// The way that pushes take: a host that the user named for that, or the registry itself.
    pub(crate) fn push_way(&self, reference: &Reference) -> Result<Way, Error> {
        let known = self.transport.hosts.of(reference.registry())?;
        match known.mirrors.iter().find(|host| host.can(Can::Push)) {
            Some(host) => self.way_to(host, reference, None),
            None => self.way(reference),
        }
    }

    /// Asks the hosts that stand for the registry, in order, and then the registry itself, whose failure counts. A
    /// mirror has one try: what it cannot do now, the registry can.
    pub(crate) fn through<T>(
        &self,
        reference: &Reference,
        act: Can,
        mut ask: impl FnMut(&Way, &Retry) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let retry = &self.options().retry;
        let once = Retry { attempts: 1, ..retry.clone() };
        let known = self.transport.hosts.of(reference.registry())?;
        for mirror in known.mirrors.iter().filter(|host| host.can(act)) {
            let way = self.way_to(mirror, reference, Some(reference.registry()))?;
            if let Ok(answer) = ask(&way, &once) {
                return Ok(answer);
            }
        }
        ask(&self.way(reference)?, retry)
    }

    fn way_to(&self, host: &Host, reference: &Reference, stands_for: Option<&str>) -> Result<Way, Error> {
        let Host { scheme, authority, prefix, headers, .. } = host;
        let origin = match scheme {
            Some(scheme) => Origin::new(*scheme, authority),
            None => Some(self.transport.origin(authority)?),
        };
        let fail = || Error::Answer { url: authority.clone(), reason: "expected a host's name and port" };
        let origin = origin.ok_or_else(fail)?;
        // Its credential is the host's own, never that of the registry that it stands for. The Hub has several names.
        let own = format!("{authority}/{}", reference.repository()).parse::<Reference>();
        let own = own.ok().filter(|own| {
            let is_alias =
                own.registry() == reference.registry() && own.repository() == reference.repository();
            own.registry() == authority || is_alias
        });
        let reference = own.or_else(|| match authority == reference.registry() {
            true => Some(reference.clone()),
            // A host that no reference can name has no credential.
            false => format!("host.invalid/{}", reference.repository()).parse().ok(),
        });
        Ok(Way {
            origin,
            prefix: prefix.clone(),
            reference: reference.ok_or_else(fail)?,
            stands_for: stands_for.map(str::to_owned),
            headers: headers.clone(),
        })
    }

    /// Sends `call` until it has an answer or retries are used up.
    pub(crate) fn persist(&self, call: &Call<'_>) -> Result<Response, Error> {
        self.options().retry.run(|_| self.once(call))
    }

    /// Sends `call` once, or twice if the registry wants a new authorisation.
    pub(crate) fn once(&self, call: &Call<'_>) -> Result<Response, Error> {
        let origin = &call.way.origin;
        let need = Need { origin, reference: &call.way.reference, scopes: &call.scopes };
        let is_own = call.url.origin == *origin;
        let known = if is_own { self.authority.known(&self.transport, &need)? } else { None };
        let response = self.send(call, known.as_deref())?;
        if response.status != 401 || response.url.origin != *origin {
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
        let mut own: Vec<(&str, &str)> =
            authorization.map(|value| ("authorization", value)).into_iter().collect();
        if call.url.origin == call.way.origin {
            own.extend(call.way.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        let response = follow(&self.transport, call.method, &call.url, &call.headers, &own, &call.content)?;
        if response.status == 429 {
            self.transport.narrow(&call.way.origin);
        }
        Ok(response)
    }
}

/// Sends a request through its redirects; the headers `own`, a credential among them, go to the first address's origin
/// alone.
///
/// Only what keeps method and body is followed where there is a body: 307 and 308. (RFC 9110, 15.4.)
pub(crate) fn follow(
    transport: &Transport,
    method: Method,
    first: &Url,
    headers: &Headers,
    own: &[(&str, &str)],
    content: &Content<'_>,
) -> Result<Response, Error> {
    let is_read = matches!(method, Method::Get | Method::Head);
    let mut url = first.clone();
    for _ in 0..=MAX_REDIRECTS {
        let mut sent: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if url.origin == first.origin {
            sent.extend(own);
        }
        let response = match content {
            Content::None => transport.send(method, &url, &sent, Body::None)?,
            Content::Bytes(bytes) => transport.send(method, &url, &sent, Body::Bytes(bytes))?,
            Content::Stream { open, bytes } => {
                let body = Body::Stream { reader: &mut *open()?, bytes: *bytes };
                transport.send(method, &url, &sent, body)?
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
    fn a_host_has_its_own_credential() {
        let folder = tempfile::tempdir().unwrap();
        let text = "server = \"https://registry-1.docker.io\"\n[host.\"https://mirror\"]\n[host.\"https://m.example:1\"]\n";
        std::fs::create_dir(folder.path().join("docker.io")).unwrap();
        std::fs::write(folder.path().join("docker.io/hosts.toml"), text).unwrap();
        let options = Options { host_folders: vec![folder.path().to_owned()], ..Options::default() };
        let exchange = Exchange::new(options);
        let mut asked = Vec::new();
        let refused = || Error::Answer { url: String::new(), reason: "" };
        let answer: Result<(), Error> = exchange.through(&"debian".parse().unwrap(), Can::Pull, |way, _| {
            asked.push((way.url("x").wire(), way.reference.name()));
            Err(refused())
        });
        answer.unwrap_err();
        let expected = [
            ("https://mirror/v2/library/debian/x?ns=docker.io", "host.invalid/library/debian"),
            ("https://m.example:1/v2/library/debian/x?ns=docker.io", "m.example:1/library/debian"),
            ("https://registry-1.docker.io/v2/library/debian/x", "docker.io/library/debian"),
        ];
        let asked: Vec<_> = asked.iter().map(|(url, name)| (url.as_str(), name.as_str())).collect();
        assert_eq!(asked, expected);
    }

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
