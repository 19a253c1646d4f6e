//! Addresses: the few parts of a URL that the distribution API needs, and who may point where.
//!
//! Sans-IO. Only `http` and `https`; user names and fragments are dropped, since nobody may smuggle a
//! credential into an address. Printing leaves the query out, which may carry a signature.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Scheme, host and port: whom a credential is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// Lower case; an IPv6 address with its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Of `HOST` or `HOST:PORT`.
    pub(crate) fn new(scheme: Scheme, authority: &str) -> Option<Origin> {
        let after_address = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_address..].find(':') {
            Some(at) => {
                let (host, port) = authority.split_at(after_address + at);
                (host, port[1..].parse().ok()?)
            }
            None => (authority, scheme.port()),
        };
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
            None => {
                let is_byte = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
                !host.is_empty() && host.bytes().all(is_byte)
            }
        };
        is_host.then(|| Origin { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// The host, and the port if it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        match self.port == self.scheme.port() {
            true => self.host.clone(),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The address that the host is written as, if it is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// Whether this can only be the machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }

    /// Whether the host is written as an address that only a private network has.
    fn is_internal(&self) -> bool {
        let v4 = |address: std::net::Ipv4Addr| {
            address.is_private()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_loopback()
                || (address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64)
        };
        self.is_loopback()
            || match self.address() {
                Some(IpAddr::V4(address)) => v4(address),
                Some(IpAddr::V6(address)) => {
                    address.is_unspecified()
                        || address.is_unique_local()
                        || address.is_unicast_link_local()
                        || address.to_ipv4_mapped().is_some_and(v4)
                }
                // Numbers that resolvers read as an address: `0x7f.1`, `2130706433`.
                None => self.host.rsplit('.').next().is_some_and(|label| {
                    label.starts_with("0x")
                        || (!label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()))
                }),
            }
    }

    /// Why `to` must not be followed when this origin names it, if so.
    ///
    /// A registry may point to its token server, its storage and its content network, but must not make this
    /// client leave TLS, nor reach into the network it runs in. (CVE-2020-15157 and its relatives.)
    pub(crate) fn objection(&self, to: &Origin) -> Option<&'static str> {
        if self.scheme == Scheme::Https && to.scheme == Scheme::Http {
            return Some("an encrypted connection does not go on in plain HTTP");
        }
        let is_near = self.host == to.host || (self.is_loopback() && to.is_loopback());
        (!is_near && to.is_internal()).then_some("a server must not point into the private network")
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port == self.scheme.port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// An absolute address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// Begins with `/`.
    path: String,
    /// Without `?`.
    query: Option<String>,
}

impl Url {
    /// `path` on `origin`; the path may carry a query.
    pub(crate) fn new(origin: &Origin, path: &str) -> Url {
        let (path, query) = split_query(path);
        Url { origin: origin.clone(), path, query }
    }

    /// Reads an absolute address.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let origin = Origin::new(scheme, authority)?;
        is_clean(path).then(|| Url::new(&origin, path))
    }

    /// Reads `target` as this address's answers mean it: absolute, or relative to this. (RFC 3986, 5.2.)
    pub(crate) fn join(&self, target: &str) -> Option<Url> {
        if let Some(rest) = target.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.origin.scheme.name()));
        }
        let before_path = &target[..target.find(['/', '?', '#']).unwrap_or(target.len())];
        if before_path.contains(':') {
            return Url::parse(target);
        }
        if !is_clean(target) {
            return None;
        }
        if target.starts_with('/') {
            return Some(Url::new(&self.origin, target));
        }
        if target.is_empty() || target.starts_with(['?', '#']) {
            return Some(Url::new(&self.origin, &format!("{}{target}", self.path)));
        }
        let folder = &self.path[..=self.path.rfind('/').unwrap_or(0)];
        Some(Url::new(&self.origin, &format!("{folder}{target}")))
    }

    /// This address with `name=value` added to its query.
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Url {
        let pair = format!("{name}={}", encode(value));
        self.query = Some(match self.query.take() {
            Some(query) if !query.is_empty() => format!("{query}&{pair}"),
            _ => pair,
        });
        self
    }

    /// The whole address, query included: for the wire, never for people.
    pub(crate) fn wire(&self) -> String {
        match &self.query {
            Some(query) => format!("{}{}?{query}", self.origin, self.path),
            None => format!("{}{}", self.origin, self.path),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

fn split_query(text: &str) -> (String, Option<String>) {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (text, None),
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    (path, query)
}

/// Nothing that would break a request line.
fn is_clean(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Percent-encodes all but RFC 3986's unreserved characters and those that scopes and digests are full of.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn reads_addresses() {
        for (text, wire) in [
            ("https://Ghcr.io/v2/", "https://ghcr.io/v2/"),
            ("https://ghcr.io:443/v2/?a=b", "https://ghcr.io/v2/?a=b"),
            ("http://[::1]:5000", "http://[::1]:5000/"),
            ("http://host?x#fragment", "http://host/?x"),
        ] {
            assert_eq!(url(text).wire(), wire);
        }
        for text in [
            "ghcr.io/v2/",
            "ftp://ghcr.io/",
            "https://user:secret@ghcr.io/",
            "https:///v2/",
            "https://host:99999/",
            "https://host/a b",
            "https://host/\r\nX: y",
            "https://[::g]/",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn joins_locations() {
        let base = url("https://host:8443/v2/a/blobs/uploads/?old=1");
        for (target, wire) in [
            ("https://other/x?y=1", "https://other/x?y=1"),
            ("//other/x", "https://other/x"),
            ("/v2/u/1?s=%3D", "https://host:8443/v2/u/1?s=%3D"),
            ("1?s=2", "https://host:8443/v2/a/blobs/uploads/1?s=2"),
            ("?s=2", "https://host:8443/v2/a/blobs/uploads/?s=2"),
            ("x/a:b", "https://host:8443/v2/a/blobs/uploads/x/a:b"),
        ] {
            assert_eq!(base.join(target).map(|url| url.wire()).as_deref(), Some(wire), "{target}");
        }
        for target in ["file:///etc/passwd", "javascript:1", "/a\nb", "https://a@b/"] {
            assert_eq!(base.join(target), None, "{target}");
        }
    }

    #[test]
    fn adds_to_the_query_and_hides_it() {
        let url = url("https://host/u?state=a%3D").with_query("digest", "sha256:00").with_query("x", "a b&c");
        assert_eq!(url.wire(), "https://host/u?state=a%3D&digest=sha256:00&x=a%20b%26c");
        assert_eq!(url.to_string(), "https://host/u");
    }

    #[test]
    fn guards_the_private_network_and_tls() {
        for (from, to, allowed) in [
            ("https://ghcr.io", "https://storage.example", true),
            ("https://ghcr.io", "http://storage.example", false),
            ("https://ghcr.io", "https://169.254.169.254", false),
            ("https://ghcr.io", "https://10.0.0.1", false),
            ("https://ghcr.io", "https://[::ffff:10.0.0.1]", false),
            ("https://ghcr.io", "https://localhost", false),
            ("https://ghcr.io", "https://2130706433", false),
            ("https://ghcr.io", "https://0x7f.0x1", false),
            ("https://ghcr.io", "https://100.64.0.1", false),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001", true),
            ("http://localhost:5000", "http://[::1]:5001", true),
            ("http://10.0.0.1:5000", "http://10.0.0.1:6000", true),
            ("http://10.0.0.1:5000", "http://10.0.0.2", false),
            ("http://127.0.0.1:5000", "https://8.8.8.8", true),
        ] {
            let objection = url(from).origin.objection(&url(to).origin);
            assert_eq!(objection.is_none(), allowed, "{from} to {to}: {objection:?}");
        }
    }
}
