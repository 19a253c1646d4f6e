//! A registry in the process, with faults on demand: for the tests of this crate and of those above it.
//!
//! What lives here: the product's own server ([`crate::server`]) over a storage in memory, and in front of it what
//! tests want of a registry that errs: basic and token authentication, quirks that real ones have, a plan of
//! [`Fault`]s, and a record of every request, so that a test can say what was *not* sent. Dropping the [`Registry`]
//! ends it.

#![allow(clippy::missing_panics_doc)]

mod access;
mod faults;
mod memory;
pub mod parsers;
pub mod raw;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};

use oci::{Descriptor, Digest, MediaType, Reference};

use crate::server::api::Api;
use crate::server::storage::StoredManifest;
use crate::server::{self, Server};
use memory::Memory;

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
    pub takes: Option<u64>,
    /// How many bytes a chunk must have, unless it is the last; it says so.
    pub least: Option<u64>,
    /// Whether the end-point of referrers is unknown to it.
    pub without_referrers: bool,
    /// Whether it refuses manifests whose parts it does not have.
    pub is_strict: bool,
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
    /// The registry sees so many bytes of the request's body, and then the connection breaks.
    HalfRequest(usize),
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
    _server: Server,
}

/// The product's registry, and what stands in front of it.
struct Shared {
    setup: Setup,
    address: SocketAddr,
    api: Api,
    memory: Memory,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tokens: HashMap<String, (Vec<String>, u32)>,
    faults: Vec<Fault>,
    seen: Vec<Seen>,
}

impl Registry {
    /// Starts a registry on a free loopback port.
    pub fn start(setup: Setup) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let memory = Memory::default();
        let api = Api::new(Arc::new(memory.clone()), server::Limits::default());
        let api = if setup.is_strict { api } else { api.sparse() };
        let tls = setup.tls.clone().map(|(chain, key)| (chain.into_bytes(), key.into_bytes()));
        let shared = Arc::new(Shared { setup, address, api, memory, state: Mutex::default() });
        let setup = server::Setup { tls, ..server::Setup::default() };
        let server = Server::start_with(listener, shared.clone(), setup);
        Registry { address, shared, _server: server.expect("a test's certificate is a good one") }
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
        let key = (repository.to_owned(), digest.to_string());
        self.shared.memory.shelves().blobs.insert(key, bytes.to_vec());
        Descriptor::new(MediaType::Other("application/octet-stream".to_owned()), digest, bytes.len() as u64)
    }

    /// The bytes of a blob in a repository.
    pub fn blob(&self, repository: &str, digest: Digest) -> Option<Vec<u8>> {
        self.shared.memory.shelves().blobs.get(&(repository.to_owned(), digest.to_string())).cloned()
    }

    /// Takes a blob out of a repository.
    pub fn forget_blob(&self, repository: &str, digest: Digest) {
        self.shared.memory.shelves().blobs.remove(&(repository.to_owned(), digest.to_string()));
    }

    /// Puts a document into a repository, under its digest and under `tag`, whatever it is.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Descriptor {
        let digest = Digest::of(bytes);
        let manifest = StoredManifest { media_type: media_type.clone(), bytes: bytes.to_vec(), digest };
        let names = [tag.to_owned(), digest.to_string()];
        let entries = names.map(|name| ((repository.to_owned(), name), manifest.clone()));
        self.shared.memory.shelves().manifests.extend(entries);
        Descriptor::new(media_type.clone(), digest, bytes.len() as u64)
    }

    /// The type and bytes of a document in a repository, by tag or digest.
    pub fn manifest(&self, repository: &str, target: &str) -> Option<(String, Vec<u8>)> {
        let shelves = self.shared.memory.shelves();
        let found = shelves.manifests.get(&(repository.to_owned(), target.to_owned()))?;
        Some((found.media_type.to_string(), found.bytes.clone()))
    }

    /// Lets `act` befall the next `times` requests of `method` whose path has `path` in it.
    pub fn fault(&self, method: &'static str, path: &str, times: u32, act: Act) {
        self.shared.state().faults.push(Fault { method, path: path.to_owned(), after: 0, times, act });
    }

    /// Adds a fault in full.
    pub fn add_fault(&self, fault: Fault) {
        self.shared.state().faults.push(fault);
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// All requests so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// Upload sessions that were opened and neither finished nor deleted.
    pub fn open_sessions(&self) -> usize {
        self.shared.api.open_uploads()
    }

    /// Makes every token that was given out invalid.
    pub fn revoke_tokens(&self) {
        self.shared.state().tokens.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        crate::transport::lock(&self.state)
    }

    fn base(&self) -> String {
        let scheme = if self.setup.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}
