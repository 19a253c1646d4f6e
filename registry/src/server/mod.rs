//! Being a registry: the OCI distribution API 1.1, from the server's side.
//!
//! What lives here: connections and their limits. [`storage`] says what a registry is made of, `api` what each request
//! means, `http` how it is written. What does not live here: where bytes are kept; whoever starts a [`Server`] brings a
//! [`Storage`]. Nobody is asked who he is: such a server is for this machine and for networks that are trusted.
//!
//! A connection has a thread, as transfers are few and large. Dropping the [`Server`] closes all connections and joins
//! all threads.
//!
//! Invariants: nothing that a client sends is held in memory beyond a head and a manifest; every wait has an end; there
//! are never more connections than [`Limits::connections`].

pub(crate) mod api;
mod blobs;
pub(crate) mod http;
mod lists;
mod manifests;
pub mod storage;
mod uploads;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub use storage::Storage;

use crate::Error;
use crate::transport::lock;
use http::{NoHead, Outcome, Reply, Request, Wire};

/// What a server grants a client. The defaults serve a build farm and survive a scan.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections there are at once; who comes then waits in the kernel's queue.
    pub connections: usize,
    /// How large the head of a request may be, in bytes.
    pub head_bytes: u64,
    /// How long it may take to send a head that has begun.
    pub head_time: Duration,
    /// How long a connection may be silent, in a request or between two.
    pub idle_time: Duration,
    /// How many uploads may be open at once.
    pub uploads: usize,
    /// How long an upload may be left alone; then it is forgotten with its bytes.
    pub upload_idle_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 512,
            head_bytes: 64 * 1024,
            head_time: Duration::from_secs(20),
            idle_time: Duration::from_secs(120),
            uploads: 1024,
            upload_idle_time: Duration::from_secs(3600),
        }
    }
}

/// A request that was answered, for a log.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Who asked.
    pub peer: SocketAddr,
    /// The method.
    pub method: &'a str,
    /// The path, without its query.
    pub path: &'a str,
    /// The status.
    pub status: u16,
}

/// Told of every answer.
pub type Log = Box<dyn Fn(&Answered<'_>) + Send + Sync>;

/// How a server behaves.
#[derive(Default)]
pub struct Setup {
    /// What clients are granted.
    pub limits: Limits,
    /// Speaks TLS with this certificate chain and key, both PEM.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
    /// Is told of every answer.
    pub log: Option<Log>,
}

/// What answers requests.
pub(crate) trait Handler: Send + Sync {
    fn handle(&self, request: Request<'_>) -> Outcome;

    /// Lets go of what clients have left.
    fn tidy(&self) {}
}

/// A registry that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    handler: Arc<dyn Handler>,
    limits: Limits,
    tls: Option<Arc<ServerConfig>>,
    log: Option<Log>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connections: HashMap<u64, TcpStream>,
    is_closed: bool,
}

impl Server {
    /// Serves `storage` on `listener`.
    ///
    /// # Errors
    /// [`Error::Certificate`] for a certificate or key that is none; [`Error::Listen`] where there can be no thread.
    pub fn start(listener: TcpListener, storage: Arc<dyn Storage>, setup: Setup) -> Result<Server, Error> {
        let api = api::Api::new(storage, setup.limits);
        Server::start_with(listener, Arc::new(api), setup)
    }

    pub(crate) fn start_with(
        listener: TcpListener,
        handler: Arc<dyn Handler>,
        setup: Setup,
    ) -> Result<Server, Error> {
        let address = listener.local_addr().map_err(|source| Error::Listen { source })?;
        let Setup { limits, tls, log } = setup;
        let tls = tls.map(|(chain, key)| tls_config(&chain, &key)).transpose()?.map(Arc::new);
        let shared = Arc::new(Shared { handler, limits, tls, log, open: Mutex::default() });
        let thread = std::thread::Builder::new().name("registry".to_owned());
        let accepted = shared.clone();
        let listener =
            thread.spawn(move || accept(&listener, &accepted)).map_err(|source| Error::Listen { source })?;
        Ok(Server { address, shared, listener: Some(listener) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forgets uploads that were left, with their bytes. To be called now and then; a new upload does so as well.
    pub fn tidy(&self) {
        self.shared.handler.tidy();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        {
            let mut open = lock(&self.shared.open);
            open.is_closed = true;
            for connection in open.connections.values() {
                connection.shutdown(Shutdown::Both).ok();
            }
        }
        // Wakes the listener, which then sees that it is over.
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        drop(TcpStream::connect_timeout(&address, Duration::from_secs(1)));
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

fn tls_config(chain: &[u8], key: &[u8]) -> Result<ServerConfig, Error> {
    let fail = |origin: &str, reason| Error::Certificate { origin: origin.to_owned(), reason };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|_| fail("the server's certificate", "expected PEM text"))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| fail("the server's key", "expected PEM text with a private key"))?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(certificates, key))
        .map_err(|_| fail("the server's certificate", "certificate and key do not belong together"))
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (id, connection) in (0..).zip(listener.incoming()) {
        // What fails here is one client's connection, or a machine out of descriptors, which needs a pause.
        let Ok(connection) = connection else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        threads.retain(|thread| !thread.is_finished());
        while threads.len() >= shared.limits.connections.max(1) {
            std::thread::sleep(Duration::from_millis(10));
            threads.retain(|thread| !thread.is_finished());
            if lock(&shared.open).is_closed {
                break;
            }
        }
        {
            let mut open = lock(&shared.open);
            if open.is_closed {
                break;
            }
            let Ok(handle) = connection.try_clone() else { continue };
            open.connections.insert(id, handle);
        }
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("registry-connection".to_owned());
        match thread.spawn(move || serve_one(id, connection, &theirs)) {
            Ok(thread) => threads.push(thread),
            Err(_) => drop(lock(&shared.open).connections.remove(&id)),
        }
    }
    for thread in threads {
        thread.join().ok();
    }
}

/// A connection's place among the open ones, which it leaves however its thread ends.
struct Place<'a> {
    id: u64,
    shared: &'a Shared,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // The last handle: closing it, rather than shutting it down, resets what is still being sent.
        drop(lock(&self.shared.open).connections.remove(&self.id));
    }
}

fn serve_one(id: u64, connection: TcpStream, shared: &Shared) {
    let _place = Place { id, shared };
    // Both can fail only for a socket that is gone already, which the first read notices.
    connection.set_nodelay(true).ok();
    connection.set_read_timeout(Some(shared.limits.idle_time)).ok();
    connection.set_write_timeout(Some(shared.limits.idle_time)).ok();
    if let Ok(peer) = connection.peer_addr() {
        // A connection that breaks is the client's affair.
        match &shared.tls {
            Some(config) => match ServerConnection::new(config.clone()) {
                Ok(tls) => serve(StreamOwned::new(tls, connection), peer, shared).ok(),
                Err(_) => None,
            },
            None => serve(connection, peer, shared).ok(),
        };
    }
}

/// Answers one connection's requests until either side ends it.
fn serve<S: Read + Write>(stream: S, peer: SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut wire = Wire::new(stream, shared.limits);
    loop {
        let head = match wire.head() {
            Ok(head) => head,
            Err(NoHead::End) => return Ok(()),
            Err(NoHead::Malformed(status)) => return wire.reply(None, Reply::new(status), false).map(drop),
        };
        let Some(mut body) = wire.body(&head) else {
            return wire.reply(Some(&head), Reply::new(400), false).map(drop);
        };
        let request = Request { head: head.clone(), body: &mut body };
        let Outcome::Reply(reply) = shared.handler.handle(request) else { return Ok(()) };
        let goes_on = body.drain();
        if let Some(log) = &shared.log {
            log(&Answered { peer, method: &head.method, path: head.path(), status: reply.status });
        }
        if !wire.reply(Some(&head), reply, goes_on)? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing;

    impl Handler for Failing {
        fn handle(&self, request: Request<'_>) -> Outcome {
            assert!(request.head.path() != "/panic", "on purpose");
            Outcome::Reply(Reply::new(204))
        }
    }

    #[test]
    fn a_request_that_ends_its_thread_ends_its_connection_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::start_with(listener, Arc::new(Failing), Setup::default()).unwrap();
        let ask = |path: &str| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        assert_eq!(ask("/panic").unwrap_or_default(), "");
        assert!(ask("/").unwrap().starts_with("HTTP/1.1 204 "));
    }
}
