//! Talking to registries: the OCI distribution API, from the client's side, and in [`server`] from the other.
//!
//! What lives here: naming a registry's address, authentication, verified pulling, streaming pushing, retries.
//! What does not: where blobs are kept (`layerfs`), what an image is (`oci`), and what users read (`lbuild`).
//! Nothing here prints, reads the environment or exits; whoever calls hands in proxies, certificates and
//! credential files by [`Options`].
//!
//! [`download`] fetches any file of the web by the same transport.
//!
//! A call's way, from top to bottom:
//! 1. [`client`] says what to ask: [`Client::resolve`], [`Client::document`], and [`pull`] and [`push`];
//! 2. `exchange` sends one call until it has an answer: authorisation, redirects, retries with back-off;
//! 3. [`auth`] turns a `WWW-Authenticate` challenge and the user's credentials into an `Authorization` value;
//! 4. `transport` sends one request over one connection.
//!
//! Invariants: every byte of a blob or document is checked against its digest and size before a caller can
//! take it for whole; a credential goes only to the scheme, host and port it is for, or to the token server
//! that this host names; every body is read up to a limit; a query string, which may carry a signature, never
//! stands in an error.
//!
//! HTTP is `ureq` over rustls with ring, blocking and on the caller's thread, rather than reqwest: transfers are few and
//! large, so threads serve them as well as a runtime would; it brings a third of the crates, nothing to start
//! before the first byte, and its redirects, environment proxies and status errors can all be switched off,
//! since this crate must decide them itself.
#![forbid(unsafe_code)]

pub mod auth;
pub mod client;
pub mod download;
mod error;
mod exchange;
mod file;
mod gate;
mod hosts;
mod lists;
mod options;
pub mod pull;
pub mod push;
pub mod referrers;
mod retry;
pub mod server;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;
mod url;

pub use auth::config_file::{ConfigFile, Kept};
pub use auth::keychain::{Credential, Keychain};
pub use client::{Client, Fetched};
pub use download::{Download, Downloaded};
pub use error::{Code, Error};
pub use options::{Options, Proxies, Retry};
pub use pull::BlobReader;
pub use push::{BlobSource, Pushed, Sessions};
