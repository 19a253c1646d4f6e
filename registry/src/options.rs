//! What a client is told from outside, as plain data: nothing here is read from the environment.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Keychain, Sessions};

/// How a [`Client`](crate::Client) behaves. The default is anonymous, direct and strict.
#[derive(Clone, Debug)]
pub struct Options {
    /// Registries, `HOST` or `HOST:PORT`, whose certificates are not checked and which may speak plain HTTP.
    pub insecure_hosts: Vec<String>,
    /// Further certificate authorities to trust, each PEM text of one or more certificates.
    pub extra_ca_pem: Vec<Vec<u8>>,
    /// Folders with one folder a registry in them: `hosts.toml`, certificates; see `hosts`.
    pub host_folders: Vec<PathBuf>,
    /// The system's bundle of certificate authorities; `None` looks where distributions keep it.
    pub ca_bundle: Option<PathBuf>,
    /// Who the user is, by registry.
    pub keychain: Keychain,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Proxies, and what to reach without them.
    pub proxies: Proxies,
    /// How long name resolution, connection and TLS handshake may take together.
    pub connect_timeout: Duration,
    /// How long a connection may stay without a byte in either direction.
    pub idle_timeout: Duration,
    /// When to try again.
    pub retry: Retry,
    /// How many blobs are transferred at once with one host, in each direction; fewer where the host refuses.
    pub transfers_per_host: usize,
    /// How large a request may be, in bytes, once a registry has refused a larger one.
    pub chunk_bytes: u64,
    /// Where uploads are remembered that are not finished.
    pub sessions: Option<Arc<dyn Sessions>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            insecure_hosts: Vec::new(),
            extra_ca_pem: Vec::new(),
            host_folders: Vec::new(),
            ca_bundle: None,
            keychain: Keychain::default(),
            user_agent: concat!("lbuild/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            retry: Retry::default(),
            transfers_per_host: 6,
            chunk_bytes: 64 * 1024 * 1024,
            sessions: None,
        }
    }
}

/// HTTP proxies, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` addresses.
    pub http: Option<String>,
    /// For `https://` addresses.
    pub https: Option<String>,
    /// Hosts and domains to reach directly, separated by commas; `*` is all. Loopback is always direct.
    pub no_proxy: String,
}

/// Exponential back-off with full jitter.
#[derive(Clone)]
pub struct Retry {
    /// How often one call is tried in all; at least once.
    pub attempts: u32,
    /// The first wait's upper bound, doubled after each try.
    pub base: Duration,
    /// The longest wait. A registry that asks for a longer one (`Retry-After`) ends the call instead.
    pub cap: Duration,
    /// What waits: [`std::thread::sleep`], or a test's recorder.
    pub sleep: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 6,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(60),
            sleep: Arc::new(std::thread::sleep),
        }
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("base", &self.base)
            .field("cap", &self.cap)
            .finish_non_exhaustive()
    }
}
