//! Downloading a file from any web server: `ADD https://…`, and build contexts behind an address.
//!
//! What lives here: one GET, asked to send nothing if nothing changed, and its body. What does not: what the
//! file is for, where it is kept, how it is verified. Nothing of the distribution API is used, and plain HTTP
//! is as good as the user asks for it.
//!
//! Order: the address is split into what goes over the wire and what is a credential; the request goes through
//! its redirects, and is tried again as long as no byte of the body was given out; then the caller reads.
//!
//! Invariants: the credential leaves for the address's own scheme, host and port alone; neither a user name,
//! nor a password, nor a query stands in an error; a body that ends before its announced length is an error.

use std::io::{self, Read};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::exchange::{Content, check, follow};
use crate::gate::Permit;
use crate::transport::{Direction, Headers, Method};
use crate::url::Url;
use crate::{Client, Error};

/// What to download.
#[derive(Clone, Default)]
pub struct Download<'a> {
    /// The address: `http` or `https`. A user name and a password in it become an `Authorization` header.
    pub url: &'a str,
    /// The `ETag` of what is here already. Its date would be no condition: what is put back from a backup is older than
    /// what it replaces, and what is written twice in a second is no newer.
    pub etag: Option<&'a str>,
    /// The `Authorization` header, before any that the address implies.
    pub authorization: Option<String>,
    /// How long the body may be, in bytes.
    pub limit_bytes: u64,
}

/// What the server said.
pub enum Downloaded {
    /// What is here already is what the server has.
    NotModified,
    /// The file.
    Body(Body),
}

/// A file that is coming. Reading fails with an [`io::Error`] that carries an [`Error`].
pub struct Body {
    /// The `ETag` header.
    pub etag: Option<String>,
    /// The `Last-Modified` header, in Unix seconds.
    pub last_modified: Option<i64>,
    /// The length in bytes, if it was announced.
    pub length: Option<u64>,
    url: String,
    limit_bytes: u64,
    count: u64,
    reader: Box<dyn Read + Send>,
    _permit: Permit,
}

impl Client {
    /// Asks for a file. Waits while [`Options::transfers_per_host`](crate::Options::transfers_per_host) bodies of
    /// this host are alive.
    ///
    /// # Errors
    /// [`Error::Address`]; [`Error::Status`] for any answer but a file; [`Error::Reach`] after all retries;
    /// [`Error::Follow`] where a redirect leaves TLS or leads into the private network; [`Error::TooLarge`].
    pub fn download(&self, request: &Download<'_>) -> Result<Downloaded, Error> {
        let (url, login) = address(request.url)?;
        let authorization = request.authorization.clone().or(login);
        let own = authorization.as_deref().map(|value| ("authorization", value));
        let headers = headers(request);
        let is_conditional = request.etag.is_some();
        let exchange = &self.exchange;
        let permit = exchange.transport.permit(&url.origin, Direction::Pull);
        let response = exchange.options().retry.run(|_| {
            let (method, none) = (Method::Get, Content::None);
            let response = follow(&exchange.transport, method, &url, &headers, own.as_slice(), &none)?;
            match response.status {
                304 if is_conditional => Ok(response),
                _ => check(method, response),
            }
        })?;
        if response.status == 304 {
            return Ok(Downloaded::NotModified);
        }
        let (url, limit_bytes, length) = (response.url.to_string(), request.limit_bytes, response.length());
        if length.is_some_and(|length| length > limit_bytes) {
            return Err(Error::TooLarge { url, limit_bytes });
        }
        Ok(Downloaded::Body(Body {
            etag: response.header("etag").map(str::to_owned),
            last_modified: response.header("last-modified").and_then(parse_date),
            length,
            url,
            limit_bytes,
            count: 0,
            reader: Box::new(response.reader()),
            _permit: permit,
        }))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let lost = |url: &str, source: io::Error| {
            io::Error::other(Error::Reach { url: url.to_owned(), attempts: 1, source: source.into() })
        };
        let count = loop {
            match self.reader.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&self.url, error)),
                Ok(count) => break count,
            }
        };
        self.count += count as u64;
        if self.count > self.limit_bytes {
            let (url, limit_bytes) = (self.url.clone(), self.limit_bytes);
            return Err(io::Error::other(Error::TooLarge { url, limit_bytes }));
        }
        let ended = count == 0 && !buffer.is_empty();
        match self.length {
            Some(length) if ended && self.count < length => {
                Err(lost(&self.url, io::ErrorKind::UnexpectedEof.into()))
            }
            _ => Ok(count),
        }
    }
}

/// An address fit to be shown: without user name, password, query and fragment.
pub fn redact(address: &str) -> String {
    let shown = &address[..address.find(['?', '#']).unwrap_or(address.len())];
    let Some((scheme, rest)) = shown.split_once("://") else { return shown.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// The address for the wire, and the `Authorization` that its user name and password make.
fn address(text: &str) -> Result<(Url, Option<String>), Error> {
    let fail = |reason| Error::Address { url: redact(text), reason };
    if text.chars().any(char::is_control) {
        return Err(fail("it contains a control character"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(fail("expected `http://` or `https://`"));
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let url = Url::parse(&format!("{scheme}://{host}{}", graphic(path)));
    let url = url.ok_or_else(|| fail("expected `http://HOST/PATH` or `https://HOST/PATH`"))?;
    Ok((url, login(text)))
}

/// Percent-encodes what may not stand in a request line; what is encoded already stays.
fn graphic(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The `Authorization` header that the user name and the password in an address make.
pub fn login(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (login, _) = authority.rsplit_once('@')?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    Some(basic(&decode(user), &decode(password)))
}

/// An `Authorization` header of the `Basic` kind. (RFC 7617.)
pub fn basic(user: &[u8], password: &[u8]) -> String {
    format!("Basic {}", BASE64_STANDARD.encode([user, b":", password].concat()))
}

/// Undoes percent-encoding; what is none stays as it is.
pub fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        rest = after;
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                rest = &after[2..];
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

fn headers(request: &Download<'_>) -> Headers {
    let mut headers = Headers::from([("accept", "*/*".to_owned())]);
    if let Some(etag) = request.etag {
        headers.push(("if-none-match", etag.to_owned()));
    }
    headers
}

/// Reads an HTTP date as Unix seconds. (RFC 9110, 5.6.7; the obsolete forms are taken for none.)
fn parse_date(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text.trim(), &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_credentials() {
        for (text, wire, authorization) in [
            ("https://host/a?b=c#d", "https://host/a?b=c", None),
            ("http://host", "http://host/", None),
            ("https://user:pass@host/a", "https://host/a", Some("user:pass")),
            ("https://token@host/a", "https://host/a", Some("token:")),
            ("https://u%40x:p%3Aq@host/", "https://host/", Some("u@x:p:q")),
            ("https://a@b@host/", "https://host/", Some("a@b:")),
            ("https://host/a b/ü", "https://host/a%20b/%C3%BC", None),
            ("https://host/@v1?x=a@b", "https://host/@v1?x=a@b", None),
            ("https://u:100%@host/", "https://host/", Some("u:100%")),
        ] {
            let (url, found) = address(text).unwrap();
            assert_eq!(url.wire(), wire, "{text}");
            let expected = authorization.map(|login| format!("Basic {}", BASE64_STANDARD.encode(login)));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secrets() {
        for (text, shown) in [
            ("ftp://user:secret@host/a?secret", "ftp://host/a"),
            ("https://user:secret@/a", "https:///a"),
            ("https://host/\r\nX: secret?", "https://host/\r\nX: secret"),
            ("host/path?secret", "host/path"),
            ("https://user:secret@host:port/#secret", "https://host:port/"),
        ] {
            match address(text) {
                Err(Error::Address { url, .. }) => assert_eq!(url, shown, "{text}"),
                other => panic!("{text}: {:?}", other.is_ok()),
            }
        }
    }

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(parse_date(text), seconds, "{text}");
        }
    }
}
