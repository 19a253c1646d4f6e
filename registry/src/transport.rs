//! One request over one connection: scheme, TLS, proxies, timeouts, limits. No redirects, no credentials of
//! its own, no second try; a status of any kind is an answer.
//!
//! Invariants: certificates are read by the first TLS connection that checks them, not before; a transfer
//! holds one of the host's permits until its body is dropped; the environment is never read.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use ureq::http::{self, HeaderMap};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Proxy, SendBody};

use crate::gate::{Gate, Permit};
use crate::hosts::{Hosts, Tls};
use crate::url::{Origin, Scheme, Url};
use crate::{Error, Options};

/// Where Linux distributions keep the bundle of certificate authorities.
const CA_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// How long a host that may speak plain HTTP is given to answer a TLS greeting.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The methods that the distribution API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Head,
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Head => "HEAD",
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

/// Header names in lower case and their values.
pub(crate) type Headers = Vec<(&'static str, String)>;

/// What a request carries.
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    /// Exactly this many bytes; the reader must fail rather than end early.
    Stream {
        reader: &'a mut dyn Read,
        bytes: u64,
    },
}

/// Which way a blob goes. Counted apart: a push may read its bytes from a pull of the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Pull,
    Push,
}

/// Sends requests. Shared by threads.
pub(crate) struct Transport {
    options: Options,
    pub(crate) hosts: Hosts,
    agents: Mutex<HashMap<Route, Agent>>,
    roots: OnceLock<Vec<Certificate<'static>>>,
    schemes: Mutex<HashMap<String, Arc<Mutex<Option<Scheme>>>>>,
    gates: Mutex<HashMap<(Origin, Direction), Arc<Gate>>>,
}

/// What connections have in common that one agent may share.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Route {
    trust: Trust,
    proxy: Option<String>,
}

/// Which certificates are good.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Trust {
    /// No TLS at all.
    Plain,
    /// Those that an authority of the system or of the user signed.
    Roots,
    /// Any, as the user said for this host.
    Anyone,
    /// What the user's folders say of this host.
    Own(Tls),
}

impl Transport {
    pub(crate) fn new(options: Options) -> Transport {
        Transport {
            hosts: Hosts::new(options.host_folders.clone()),
            options,
            agents: Mutex::default(),
            roots: OnceLock::new(),
            schemes: Mutex::default(),
            gates: Mutex::default(),
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Sends one request and reads the head of its answer.
    pub(crate) fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> Result<Response, Error> {
        let reach = |error| reach(url, error);
        let agent = self.agent(&url.origin)?;
        let mut request = http::Request::builder().method(method.name()).uri(url.wire());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let length = match &body {
            Body::None => matches!(method, Method::Post | Method::Put).then_some(0),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Stream { bytes, .. } => Some(*bytes),
        };
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let bad_request = |error: http::Error| reach(error.into());
        let answer = match body {
            Body::Stream { reader, bytes } if bytes > 0 => {
                agent.run(request.body(SendBody::from_reader(reader)).map_err(bad_request)?)
            }
            Body::Bytes(mut bytes) if !bytes.is_empty() => {
                agent.run(request.body(SendBody::from_reader(&mut bytes)).map_err(bad_request)?)
            }
            _ => agent.run(request.body(()).map_err(bad_request)?),
        };
        let (head, body) = answer.map_err(reach)?.into_parts();
        Ok(Response { status: head.status.as_u16(), headers: head.headers, url: url.clone(), body })
    }

    /// Waits until one more transfer with the host may run.
    pub(crate) fn permit(&self, origin: &Origin, direction: Direction) -> Permit {
        let most = self.options.transfers_per_host;
        let gate = lock(&self.gates)
            .entry((origin.clone(), direction))
            .or_insert_with(|| Arc::new(Gate::new(most)))
            .clone();
        gate.enter()
    }

    /// Lets fewer transfers run with a host that has had enough.
    pub(crate) fn narrow(&self, origin: &Origin) {
        let gates = lock(&self.gates);
        gates.iter().filter(|((of, _), _)| of == origin).for_each(|(_, gate)| gate.narrow());
    }

    /// Whether the user lifted the rules for this host; an entry without a port is for all of them.
    pub(crate) fn is_insecure(&self, origin: &Origin) -> bool {
        let with_port = format!("{}:{}", origin.host, origin.port);
        let mut entries = self.options.insecure_hosts.iter();
        entries
            .any(|entry| entry.eq_ignore_ascii_case(&origin.host) || entry.eq_ignore_ascii_case(&with_port))
    }

    /// Scheme, host and port of the registry that `authority` names.
    ///
    /// Always TLS, but for loopback and insecure hosts: these are greeted with TLS once, without credentials,
    /// and spoken to in plain HTTP when that is not what they answer.
    pub(crate) fn origin(&self, authority: &str) -> Result<Origin, Error> {
        let https = Origin::new(Scheme::Https, authority).ok_or_else(|| Error::Answer {
            url: authority.to_owned(),
            reason: "expected a registry's host name and port",
        })?;
        if !https.is_loopback() && !self.is_insecure(&https) {
            return Ok(https);
        }
        let known = lock(&self.schemes).entry(authority.to_owned()).or_default().clone();
        // Held while the host is greeted, so that it is greeted once.
        let mut known = lock(&known);
        let scheme = match *known {
            Some(scheme) => scheme,
            None => {
                let (scheme, is_sure) = self.greet(&https)?;
                *known = is_sure.then_some(scheme);
                scheme
            }
        };
        Ok(Origin::new(scheme, authority).unwrap_or(https))
    }

    /// Which scheme the host speaks, and whether it has said so itself.
    fn greet(&self, https: &Origin) -> Result<(Scheme, bool), Error> {
        // Whoever it is, he may want to see the user's certificate before he says anything.
        let own = self.hosts.tls(&https.authority())?.map(|own| Tls { skip_verify: true, ..own });
        let trust = own.map_or(Trust::Anyone, Trust::Own);
        let agent = self.agent_for(Route { trust, proxy: self.proxy(https) })?;
        let request = http::Request::get(Url::new(https, "/v2/").wire()).body(());
        let request = request.map_err(|error| reach(&Url::new(https, "/v2/"), error.into()))?;
        let timeout = Some(PROBE_TIMEOUT.min(self.options.connect_timeout));
        let request = agent.configure_request(request).timeout_global(timeout).build();
        Ok(match agent.run(request) {
            Ok(_) => (Scheme::Https, true),
            Err(error) => match as_io_kind(&error) {
                // Nobody answered; who asks again later may find somebody.
                Some(io::ErrorKind::ConnectionRefused) | None => (Scheme::Http, false),
                Some(_) => (Scheme::Http, true),
            },
        })
    }

    fn agent(&self, origin: &Origin) -> Result<Agent, Error> {
        let trust = match origin.scheme {
            Scheme::Http => Trust::Plain,
            Scheme::Https if self.is_insecure(origin) => Trust::Anyone,
            Scheme::Https => match self.hosts.tls(&origin.authority())? {
                Some(tls) => Trust::Own(tls),
                None => Trust::Roots,
            },
        };
        self.agent_for(Route { trust, proxy: self.proxy(origin) })
    }

    fn agent_for(&self, route: Route) -> Result<Agent, Error> {
        let mut agents = lock(&self.agents);
        if let Some(agent) = agents.get(&route) {
            return Ok(agent.clone());
        }
        let proxy = match &route.proxy {
            Some(address) => {
                Some(Proxy::new(address).map_err(|_| Error::Proxy { address: redact(address) })?)
            }
            None => None,
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let tls = match &route.trust {
            Trust::Roots => tls.root_certs(RootCerts::new_with_certs(self.roots()?)),
            Trust::Anyone => tls.disable_verification(true),
            Trust::Plain => tls,
            Trust::Own(own) => {
                let tls = tls.client_cert(own.client.as_ref().map(client_certificate).transpose()?);
                match own.skip_verify {
                    true => tls.disable_verification(true),
                    false => tls.root_certs(RootCerts::new_with_certs(&self.roots_and(&own.authorities)?)),
                }
            }
        };
        let options = &self.options;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(&options.user_agent)
            .accept_encoding("identity")
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_per_read(Some(options.idle_timeout))
            .timeout_per_write(Some(options.idle_timeout))
            .max_idle_connections_per_host(options.transfers_per_host.max(1))
            .tls_config(tls.build())
            .build()
            .new_agent();
        agents.insert(route, agent.clone());
        Ok(agent)
    }

    fn proxy(&self, origin: &Origin) -> Option<String> {
        let proxies = &self.options.proxies;
        let proxy = match origin.scheme {
            Scheme::Http => proxies.http.as_ref(),
            Scheme::Https => proxies.https.as_ref(),
        };
        let proxy = proxy.filter(|proxy| !proxy.is_empty())?;
        (!origin.is_loopback() && !is_direct(&proxies.no_proxy, origin)).then(|| proxy.clone())
    }

    /// The authorities for all, and these; there may be none but these.
    fn roots_and(&self, files: &[PathBuf]) -> Result<Vec<Certificate<'static>>, Error> {
        let own = files.iter().map(|file| read_bundle(file)).collect::<Result<Vec<_>, _>>()?.concat();
        match self.roots() {
            Err(Error::Certificate { .. }) if !own.is_empty() => Ok(own),
            roots => Ok([roots?, &own].concat()),
        }
    }

    /// The system's authorities and the user's; the system may have none if the user has some.
    fn roots(&self) -> Result<&[Certificate<'static>], Error> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots);
        }
        let mut roots = match &self.options.ca_bundle {
            Some(path) => read_bundle(path)?,
            None => match CA_BUNDLES.iter().map(Path::new).find(|path| path.exists()) {
                Some(path) => read_bundle(path)?,
                None => Vec::new(),
            },
        };
        for pem in &self.options.extra_ca_pem {
            roots.extend(parse_bundle("the extra certificate authorities", pem)?);
        }
        if roots.is_empty() {
            let reason =
                "there is no bundle of certificate authorities; expected the package `ca-certificates`";
            return Err(Error::Certificate { origin: CA_BUNDLES[0].to_owned(), reason });
        }
        Ok(self.roots.get_or_init(|| roots))
    }
}

/// The head of an answer, and its body still to be read.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    body: ureq::Body,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body's length as announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Reads the whole body, which must not be longer than the limit.
    pub(crate) fn bytes(self, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let url = self.url.clone();
        if self.length().is_some_and(|length| length > limit_bytes) {
            return Err(Error::TooLarge { url: url.to_string(), limit_bytes });
        }
        let mut bytes = Vec::new();
        let mut reader = self.reader().take(limit_bytes + 1);
        reader.read_to_end(&mut bytes).map_err(|source| Error::Reach {
            url: url.to_string(),
            attempts: 1,
            source: source.into(),
        })?;
        if bytes.len() as u64 > limit_bytes {
            return Err(Error::TooLarge { url: url.to_string(), limit_bytes });
        }
        Ok(bytes)
    }

    /// The body as a stream; without a limit, which is the caller's to set.
    pub(crate) fn reader(self) -> impl Read + Send + use<> {
        self.body.into_with_config().limit(u64::MAX).reader()
    }
}

/// A poisoned lock here guards a map that is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn reach(url: &Url, error: ureq::Error) -> Error {
    let source: Box<dyn std::error::Error + Send + Sync> = match error {
        ureq::Error::Io(error) => error.into(),
        ureq::Error::Rustls(error) => error.into(),
        other => other.into(),
    };
    Error::Reach { url: url.to_string(), attempts: 1, source }
}

/// What kind of I/O error a failed greeting is; broken TLS counts as invalid data.
fn as_io_kind(error: &ureq::Error) -> Option<io::ErrorKind> {
    match error {
        ureq::Error::Io(error) => Some(error.kind()),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Protocol(_) => {
            Some(io::ErrorKind::InvalidData)
        }
        ureq::Error::Timeout(_) => Some(io::ErrorKind::TimedOut),
        _ => None,
    }
}

fn read_bundle(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    const MAX_BUNDLE_BYTES: u64 = 16 * 1024 * 1024;
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BUNDLE_BYTES).read_to_end(&mut pem))
        .map_err(|source| Error::ReadFile { path: PathBuf::from(path), source })?;
    parse_bundle(&path.display().to_string(), &pem)
}

/// The user's certificate and its key, from two files or one.
fn client_certificate((chain, key): &(PathBuf, PathBuf)) -> Result<ClientCert, Error> {
    let fail = |reason| Error::Certificate { origin: key.display().to_string(), reason };
    let text = std::fs::read(key).map_err(|source| Error::ReadFile { path: key.clone(), source })?;
    let key = PrivateKey::from_pem(&text).map_err(|_| fail("expected PEM text with a private key"))?;
    Ok(ClientCert::new_with_certs(&read_bundle(chain)?, key))
}

fn parse_bundle(origin: &str, pem: &[u8]) -> Result<Vec<Certificate<'static>>, Error> {
    let fail = |reason| Error::Certificate { origin: origin.to_owned(), reason };
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| fail("expected PEM text"))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(fail("expected PEM text with `BEGIN CERTIFICATE`"));
    }
    Ok(certificates)
}

/// A proxy's address without user name and password.
fn redact(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) => format!("{}://{}", &address[..scheme], &address[at + 1..]),
        (None, Some(at)) => address[at + 1..].to_owned(),
        (_, None) => address.to_owned(),
    }
}

/// Whether `no_proxy` lists the host: itself, a domain above it, a network that its address is in, or `*`; with its port
/// if an entry has one.
fn is_direct(no_proxy: &str, origin: &Origin) -> bool {
    no_proxy.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let domain = entry.strip_prefix('*').unwrap_or(&entry);
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let with_port = format!("{}:{}", origin.host, origin.port);
        let is_below =
            |host: &str| host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        let is_in_network = || origin.address().is_some_and(|address| is_within(&entry, address));
        entry == "*" || is_below(&origin.host) || is_below(&with_port) || is_in_network()
    })
}

/// Whether `network`, such as `10.0.0.0/8`, has the address in it.
fn is_within(network: &str, address: IpAddr) -> bool {
    let Some((first, bits)) = network.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u32>() else { return false };
    let differs = match (first.parse(), address) {
        (Ok(IpAddr::V4(first)), IpAddr::V4(address)) if bits <= 32 => {
            u128::from(u32::from(first) ^ u32::from(address)).checked_shr(32 - bits)
        }
        (Ok(IpAddr::V6(first)), IpAddr::V6(address)) if bits <= 128 => {
            Some((u128::from(first) ^ u128::from(address)).checked_shr(128 - bits).unwrap_or(0))
        }
        _ => None,
    };
    differs == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(authority: &str) -> Origin {
        Origin::new(Scheme::Https, authority).unwrap()
    }

    #[test]
    fn no_proxy_lists_hosts_and_domains() {
        for (no_proxy, authority, direct) in [
            ("", "ghcr.io", false),
            ("*", "ghcr.io", true),
            ("ghcr.io", "ghcr.io", true),
            ("GHCR.io", "ghcr.io", true),
            ("io", "ghcr.io", true),
            ("cr.io", "ghcr.io", false),
            (".corp.example", "registry.corp.example", true),
            ("*.corp.example", "registry.corp.example", true),
            ("corp.example", "corp.example.evil", false),
            ("a, b ,ghcr.io", "ghcr.io", true),
            ("ghcr.io:443", "ghcr.io", true),
            ("ghcr.io:8443", "ghcr.io", false),
            ("10.0.0.1", "10.0.0.1:5000", true),
            ("10.0.0.0/8", "10.1.2.3:5000", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "11.0.0.1", true),
            ("11.0.0.1/32", "11.0.0.2", false),
            ("fd00::/8", "[fd12::1]:5000", true),
            ("::/0", "[fd12::1]", true),
            ("fd00::/8", "[fe80::1]", false),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/8", "ghcr.io", false),
        ] {
            assert_eq!(is_direct(no_proxy, &origin(authority)), direct, "{no_proxy} {authority}");
        }
    }

    #[test]
    fn proxies_are_chosen_by_scheme_and_never_for_loopback() {
        let proxies = crate::Proxies {
            http: Some("http://plain:1".to_owned()),
            https: Some("http://secure:1".to_owned()),
            no_proxy: "direct.example".to_owned(),
        };
        let transport = Transport::new(Options { proxies, ..Options::default() });
        let plain = Origin { scheme: Scheme::Http, ..origin("ghcr.io") };
        assert_eq!(transport.proxy(&plain).as_deref(), Some("http://plain:1"));
        assert_eq!(transport.proxy(&origin("ghcr.io")).as_deref(), Some("http://secure:1"));
        for direct in ["localhost:5000", "127.0.0.1", "[::1]:5000", "direct.example", "a.direct.example"] {
            assert_eq!(transport.proxy(&origin(direct)), None, "{direct}");
        }
    }

    #[test]
    fn a_proxys_password_stands_in_no_error() {
        for (address, shown) in [
            ("http://user:secret@proxy:1", "http://proxy:1"),
            ("user:secret@proxy:1", "proxy:1"),
            ("proxy", "proxy"),
        ] {
            assert_eq!(redact(address), shown);
        }
    }

    #[test]
    fn only_named_hosts_and_loopback_leave_tls() {
        let hosts = ["lan.example".to_owned(), "Port.example:5000".to_owned()];
        let transport = Transport::new(Options { insecure_hosts: hosts.to_vec(), ..Options::default() });
        for (authority, insecure) in [
            ("lan.example", true),
            ("lan.example:8080", true),
            ("port.example:5000", true),
            ("port.example", false),
            ("port.example:5001", false),
            ("sub.lan.example", false),
            ("127.0.0.1:5000", false),
        ] {
            assert_eq!(transport.is_insecure(&origin(authority)), insecure, "{authority}");
        }
    }
}
