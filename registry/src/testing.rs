//! A registry in the process, with faults on demand: for the tests of this crate and of those above it.
//!
//! What lives here: the distribution API over loopback, in memory, with basic and token authentication; a plan
//! of [`Fault`]s; and a record of every request, so that a test can say what was *not* sent. What does not:
//! anything that must be fast or complete. Listing and deleting are not here.
//!
//! Every connection has a thread; dropping the [`Registry`] closes all connections and joins all threads.

#![allow(clippy::missing_panics_doc)]

mod access;
mod http;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use oci::{Descriptor, Digest, MediaType, Reference};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use http::{Head, Reply, Wire};

/// How the registry behaves from the start. The default is open to all, over plain HTTP.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Speaks TLS with this certificate chain and key, both PEM.
    pub tls: Option<(String, String)>,
    /// Whom it lets in.
    pub access: Access,
    /// What it does when asked to mount.
    pub mounts: Mounts,
    /// Where upload sessions are said to be.
    pub location: Location,
    /// How many bytes of one chunk it takes at most.
    pub takes: Option<usize>,
}

/// Whom the registry lets in.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everyone.
    #[default]
    Open,
    /// This user name and password, by `Basic`.
    Basic(String, String),
    /// Bearers of tokens from `/token` on the same port.
    Token(TokenServer),
}

/// How the token server gives out tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenServer {
    /// The user name and password it wants; everyone gets a token if there is none.
    pub login: Option<(String, String)>,
    /// The refresh token it takes by POST.
    pub refresh: Option<String>,
    /// How many requests a token is good for.
    pub uses: Option<u32>,
    /// A realm to name instead of its own.
    pub realm: Option<String>,
    /// Whether GET is unknown to it.
    pub post_only: bool,
}

/// What the registry does when asked to mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mounts {
    /// Mounts, if it has the blob.
    #[default]
    Done,
    /// Opens an upload session instead (202).
    Session,
    /// Refuses (403).
    Denied,
}

/// Where upload sessions are said to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Location {
    /// An absolute path.
    #[default]
    Path,
    /// A whole address.
    Absolute,
    /// Relative to the request's address.
    Relative,
    /// A path with a query that must come back unchanged.
    Query,
    /// On another host, such as `http://127.0.0.1:1`.
    Host(String),
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The method it befalls.
    pub method: &'static str,
    /// A part of the path it befalls.
    pub path: String,
    /// How many such requests pass before.
    pub after: u32,
    /// How many it then befalls.
    pub times: u32,
    /// What happens.
    pub act: Act,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Act {
    /// This status, headers and body instead of the answer.
    Status(u16, Vec<(String, String)>, String),
    /// The connection closes before an answer.
    Close,
    /// The answer's body ends after so many bytes, and the connection with it.
    Cut(usize),
    /// One bit of the answer's body is another.
    Corrupt,
    /// So many bytes follow the answer's body, and `Content-Length` counts them.
    Pad(usize),
    /// So many bytes follow the answer's body, whose length is not announced; the connection ends it.
    Flood(usize),
    /// The answer comes byte by byte.
    Trickle,
    /// A header is missing from the answer.
    Without(&'static str),
    /// A header of the answer is another.
    With(&'static str, String),
    /// `Range` is not known: the whole blob comes.
    WholeBody,
    /// The answer is a 307 to the same path at this base address.
    Redirect(String),
    /// The connection closes after so many bytes of the request's body, without an answer.
    CutRequest(usize),
    /// The request is done, but the connection closes instead of saying so.
    LoseAnswer,
}

/// What the registry has seen of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A registry that runs until it is dropped.
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    setup: Setup,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<(String, String), Vec<u8>>,
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    sessions: u32,
    open_sessions: BTreeMap<String, Vec<u8>>,
    tokens: HashMap<String, (Vec<String>, u32)>,
    faults: Vec<Fault>,
    seen: Vec<Seen>,
    connections: BTreeMap<usize, TcpStream>,
    is_closed: bool,
}

impl Registry {
    /// Starts a registry on a free loopback port.
    pub fn start(setup: Setup) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let tls = setup.tls.as_ref().map(|(chain, key)| Arc::new(server_config(chain, key)));
        let shared = Arc::new(Shared { setup, address, tls, state: Mutex::default() });
        let listener = {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Registry { address, shared, listener: Some(listener) }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A reference to this registry: `NAME` is a repository with a tag or a digest.
    pub fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.address).parse().expect("a test's repository is a good one")
    }

    /// Puts a blob into a repository.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        self.state().blobs.insert((repository.to_owned(), digest.to_string()), bytes.to_vec());
        Descriptor::new(MediaType::Other("application/octet-stream".to_owned()), digest, bytes.len() as u64)
    }

    /// The bytes of a blob in a repository.
    pub fn blob(&self, repository: &str, digest: Digest) -> Option<Vec<u8>> {
        self.state().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    /// Puts a document into a repository, under its digest and under `tag`.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Descriptor {
        let digest = Digest::of(bytes);
        self.state().put_manifest(repository, &[tag, &digest.to_string()], media_type.as_str(), bytes);
        Descriptor::new(media_type.clone(), digest, bytes.len() as u64)
    }

    /// The type and bytes of a document in a repository, by tag or digest.
    pub fn manifest(&self, repository: &str, target: &str) -> Option<(String, Vec<u8>)> {
        self.state().manifests.get(&(repository.to_owned(), target.to_owned())).cloned()
    }

    /// Lets `act` befall the next `times` requests of `method` whose path has `path` in it.
    pub fn fault(&self, method: &'static str, path: &str, times: u32, act: Act) {
        self.state().faults.push(Fault { method, path: path.to_owned(), after: 0, times, act });
    }

    /// Adds a fault in full.
    pub fn add_fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// All requests so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// Upload sessions that were opened and neither finished nor deleted.
    pub fn open_sessions(&self) -> usize {
        self.state().open_sessions.len()
    }

    /// Makes every token that was given out invalid.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        {
            let mut state = self.state();
            state.is_closed = true;
            for connection in state.connections.values() {
                connection.shutdown(Shutdown::Both).ok();
            }
        }
        // Wakes the listener, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        crate::transport::lock(&self.state)
    }

    fn base(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

fn server_config(chain: &str, key: &str) -> ServerConfig {
    let chain =
        CertificateDer::pem_slice_iter(chain.as_bytes()).map(|c| c.expect("a PEM certificate")).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a PEM key");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("key and certificate belong together")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for (id, connection) in listener.incoming().enumerate() {
        let Ok(connection) = connection else { continue };
        {
            let mut state = shared.state();
            if state.is_closed {
                break;
            }
            let Ok(handle) = connection.try_clone() else { continue };
            state.connections.insert(id, handle);
        }
        let shared = shared.clone();
        threads.push(std::thread::spawn(move || {
            connection.set_nodelay(true).ok();
            // A connection that breaks is the client's affair; the record shows what came of it.
            match &shared.tls {
                Some(config) => match ServerConnection::new(config.clone()) {
                    Ok(tls) => serve(StreamOwned::new(tls, connection), &shared).ok(),
                    Err(_) => None,
                },
                None => serve(connection, &shared).ok(),
            };
            // The last handle: closing it, rather than shutting it down, resets what is still being sent.
            drop(shared.state().connections.remove(&id));
        }));
    }
    for thread in threads {
        thread.join().ok();
    }
}

/// Answers one connection's requests until a fault or the client ends it.
fn serve<S: Read + Write>(stream: S, shared: &Shared) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    loop {
        let head = match wire.head() {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(()),
            // What Go's server says to a TLS greeting.
            Err(_) => return wire.reply(&Reply::new(400), false, 0, 1),
        };
        let act = {
            let mut state = shared.state();
            let Head { method, target, headers } = head.clone();
            state.seen.push(Seen { method, target, headers });
            state.next_fault(&head)
        };
        let is_head = head.method == "HEAD";
        match &act {
            Some(Act::Close) => return Ok(()),
            Some(Act::CutRequest(bytes)) => return wire.body((*bytes).min(head.length())).map(drop),
            Some(Act::Status(status, headers, body)) => {
                let mut reply = Reply::new(*status).body(body.as_bytes());
                reply.headers.clone_from(headers);
                let asks_first = head.header("expect").is_some();
                if !asks_first {
                    wire.body(head.length())?;
                }
                wire.reply(&reply, is_head, usize::MAX, usize::MAX)?;
                if asks_first {
                    return Ok(());
                }
                continue;
            }
            Some(Act::Redirect(base)) => {
                let reply = Reply::new(307).with("location", format!("{base}{}", head.target));
                wire.body(head.length())?;
                wire.reply(&reply, is_head, usize::MAX, usize::MAX)?;
                continue;
            }
            _ => {}
        }
        if head.header("expect").is_some() {
            wire.go_on()?;
        }
        let body = wire.body(head.length())?;
        let ranged = !matches!(act, Some(Act::WholeBody));
        let mut reply = answer(shared, &head, body, ranged);
        let (mut shown, mut piece) = (usize::MAX, usize::MAX);
        match &act {
            Some(Act::Cut(bytes)) => shown = *bytes,
            Some(Act::Corrupt) => reply.body.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            Some(Act::Pad(bytes) | Act::Flood(bytes)) => {
                reply.headers.retain(|(name, _)| name != "content-length");
                reply.body.extend(std::iter::repeat_n(b' ', *bytes));
                if matches!(act, Some(Act::Flood(_))) {
                    reply = reply.with("connection", "close");
                }
            }
            Some(Act::Trickle) => piece = 1,
            Some(Act::Without(name)) => reply.headers.retain(|(key, _)| key != name),
            Some(Act::With(name, value)) => reply = reply.with(name, value),
            Some(Act::LoseAnswer) => return Ok(()),
            _ => {}
        }
        wire.reply(&reply, is_head, shown, piece)?;
        if shown < reply.body.len() || matches!(act, Some(Act::Flood(_))) {
            return Ok(());
        }
    }
}

/// What the registry says to a whole request.
fn answer(shared: &Shared, head: &Head, body: Vec<u8>, ranged: bool) -> Reply {
    if head.path() == "/token" {
        return access::give_token(shared, head, &body);
    }
    if let Some(refusal) = access::refuse(shared, head) {
        return refusal;
    }
    let Some(rest) = head.path().strip_prefix("/v2/") else { return Reply::new(404) };
    if rest.is_empty() {
        return Reply::new(200).body("{}");
    }
    if let Some((repository, target)) = rest.rsplit_once("/manifests/") {
        return shared.state().manifest(head, repository, target, body);
    }
    if let Some((repository, session)) = rest.split_once("/blobs/uploads/") {
        return upload(shared, head, repository, session, body);
    }
    match rest.rsplit_once("/blobs/") {
        Some((repository, digest)) => shared.state().blob(head, repository, digest, ranged),
        None => Reply::new(404),
    }
}

impl State {
    fn next_fault(&mut self, head: &Head) -> Option<Act> {
        let fits = |fault: &&mut Fault| {
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

    fn put_manifest(&mut self, repository: &str, targets: &[&str], media_type: &str, bytes: &[u8]) {
        for target in targets {
            let key = (repository.to_owned(), (*target).to_owned());
            self.manifests.insert(key, (media_type.to_owned(), bytes.to_vec()));
        }
    }

    fn manifest(&mut self, head: &Head, repository: &str, target: &str, body: Vec<u8>) -> Reply {
        if head.method == "PUT" {
            let digest = Digest::of(&body).to_string();
            let media_type = head.header("content-type").unwrap_or_default().to_owned();
            self.put_manifest(repository, &[target, &digest], &media_type, &body);
            return Reply::new(201).with("docker-content-digest", digest);
        }
        match self.manifests.get(&(repository.to_owned(), target.to_owned())) {
            Some((media_type, bytes)) => Reply::new(200)
                .with("content-type", media_type)
                .with("docker-content-digest", Digest::of(bytes))
                .with("content-length", bytes.len())
                .body(bytes.clone()),
            None => refusal(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn blob(&self, head: &Head, repository: &str, digest: &str, ranged: bool) -> Reply {
        let Some(bytes) = self.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
            return refusal(404, "BLOB_UNKNOWN", "blob unknown");
        };
        let start = head
            .header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match start {
            Some(start) if ranged && start < bytes.len() => Reply::new(206)
                .with("content-range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))
                .body(&bytes[start..]),
            Some(_) if ranged => Reply::new(416),
            _ => Reply::new(200).body(bytes.clone()),
        }
    }
}

fn upload(shared: &Shared, head: &Head, repository: &str, session: &str, body: Vec<u8>) -> Reply {
    let mut state = shared.state();
    match head.method.as_str() {
        "POST" => {
            if let (Some(digest), Some(from)) = (head.query("mount"), head.query("from")) {
                let found = state.blobs.get(&(from, digest.clone())).cloned();
                match (shared.setup.mounts, found) {
                    (Mounts::Denied, _) => return refusal(403, "DENIED", "no mounts"),
                    (Mounts::Done, Some(bytes)) => {
                        state.blobs.insert((repository.to_owned(), digest), bytes);
                        return Reply::new(201);
                    }
                    _ => {}
                }
            }
            state.sessions += 1;
            let id = format!("u{}", state.sessions);
            state.open_sessions.insert(id.clone(), Vec::new());
            let path = format!("/v2/{repository}/blobs/uploads/{id}");
            let location = match &shared.setup.location {
                Location::Path => path,
                Location::Absolute => format!("{}{path}", shared.base()),
                Location::Relative => id,
                Location::Query => format!("{path}?_state=a%2Bb%3D&n={}", state.sessions),
                Location::Host(base) => format!("{base}{path}"),
            };
            Reply::new(202).with("location", location)
        }
        "PUT" => {
            let expected = head.query("digest").unwrap_or_default();
            let needs_state = shared.setup.location == Location::Query;
            // A session of another registry (`Location::Host`) is taken as it comes.
            if needs_state && head.query("_state").as_deref() != Some("a+b=") {
                return refusal(400, "BLOB_UPLOAD_INVALID", "the session's state is lost");
            }
            let mut whole = state.open_sessions.remove(session).unwrap_or_default();
            whole.extend(body);
            let body = whole;
            if Digest::of(&body).to_string() != expected {
                return refusal(400, "DIGEST_INVALID", "the bytes have another digest");
            }
            state.blobs.insert((repository.to_owned(), expected.clone()), body);
            Reply::new(201).with("docker-content-digest", expected)
        }
        "PATCH" => {
            let Some(held) = state.open_sessions.get_mut(session) else { return Reply::new(404) };
            let range = head.header("content-range").and_then(|range| range.split_once('-'));
            if range.is_none_or(|(start, _)| start != held.len().to_string()) {
                return Reply::new(416);
            }
            held.extend_from_slice(&body[..body.len().min(shared.setup.takes.unwrap_or(usize::MAX))]);
            Reply::new(202)
                .with("location", format!("/v2/{repository}/blobs/uploads/{session}"))
                .with("range", format!("0-{}", held.len() - 1))
        }
        "DELETE" => {
            state.open_sessions.remove(session);
            Reply::new(204)
        }
        _ => Reply::new(405),
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
    Reply::new(status).with("content-type", "application/json").body(body)
}
