//! What comes from outside: files of the web, git repositories, and archives that are build contexts.
//!
//! * Here: the nouns. [`parse`] says which remote a text names, [`Fetcher`] brings it as a [`Tree`], a snapshot
//!   without a parent, [`unpack_context`] does so with an archive that is being read.
//! * `giturl` reads the addresses of repositories; `http` and `git` fetch; `archive` unpacks; `record` remembers, and
//!   `forget` undoes that.
//!
//! What does not live here: HTTP itself (`registry`), files and snapshots (`layerfs`), what a build does with a
//! tree.
//!
//! Order of a fetch: what is asked for is resolved to what identifies it (a commit, a digest); if that is here,
//! this is all; else it is brought into a new snapshot, verified, and committed under its identity.
//!
//! Invariants: a tree is visible only when it is complete and verified; the same identity stands for the same
//! files, times apart; no secret reaches an argument list, a record, an error or a log; what an archive or a
//! repository contains stays below the snapshot's root; a child process ends with the fetch that started it.

mod archive;
mod error;
mod forget;
mod git;
mod giturl;
mod http;
mod record;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use layerfs::snapshot::{SnapshotId, Snapshotter};
use layerfs::store::Store;
use oci::Digest;
use rustix::fs::{Timespec, Timestamps};
use serde::{Deserialize, Serialize};

pub use archive::{empty_context, unpack_context};
pub use error::{FetchError, ParseError};
pub(crate) use forget::forget_repository;
pub use forget::{Repository, forget_all, repositories};
pub use record::references;
pub(crate) use record::trees;

/// Who names a remote: `github.com/x/y` is a path in an instruction, and a repository as a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A source of `ADD`.
    Add,
    /// The build context, or a named one.
    Context,
}

/// An address, user name and password included. It shows itself without them and without a query.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Takes an address as the user wrote it.
    pub fn new(text: String) -> Address {
        Address(text)
    }

    /// The whole of it: for the wire, never for people.
    pub fn wire(&self) -> &str {
        &self.0
    }

    /// Host and, if it has one, port.
    pub fn authority(&self) -> &str {
        match (self.0.split_once("://"), giturl::scp(&self.0)) {
            (Some((_, rest)), _) => {
                let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
                authority.rsplit('@').next().unwrap_or_default()
            }
            (None, Some((host, _))) => host,
            (None, None) => "",
        }
    }

    /// Who answers there.
    fn origin(&self) -> Origin<'_> {
        let scheme = giturl::scheme(&self.0).unwrap_or("ssh");
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            "git" => 9418,
            _ => 22,
        };
        let authority = self.authority();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, "")) => (host, Some(usual)),
            // Of an IPv6 address in brackets the last colon may be a part.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
            _ => (authority, Some(usual)),
        };
        Origin { scheme, host, port, is_usual: port == Some(usual) }
    }

    /// The names under which the user may have given a secret for this host, the most exact first: without a port
    /// it is for the scheme's usual one, since who may listen at another need not be who has the host.
    fn hosts(&self) -> Vec<&str> {
        let (authority, origin) = (self.authority(), self.origin());
        let mut hosts = vec![authority];
        hosts.extend(Some(origin.host).filter(|host| origin.is_usual && *host != authority));
        hosts
    }
}

/// Scheme, host and port: who may know what was given for one address may know it for the others of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
    /// Whether the port is the one that the scheme has unless another is said.
    is_usual: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&registry::download::redact(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// What is fetched from outside: equal values are the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remote {
    /// A file of the web.
    Http(HttpSource),
    /// A git repository at some commit.
    Git(GitSource),
}

/// A file of the web.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpSource {
    /// Where it is.
    pub url: Address,
    /// What it must be.
    pub checksum: Option<Digest>,
    /// What it is for.
    pub form: HttpForm,
}

/// What a file of the web is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpForm {
    /// `ADD`: the tree holds this file alone, 0600, named after the address ([`Tree::name`]).
    File,
    /// A context: an archive is unpacked, anything else is a file `Dockerfile`.
    Context,
}

/// A git repository at some commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitSource {
    /// Where it is.
    pub remote: Address,
    /// A branch, a tag, another reference or a commit; `None` is the default branch.
    pub reference: Option<String>,
    /// The directory of the repository that is meant; `None` is all of it.
    pub subdir: Option<PathBuf>,
    /// The beginning, at least, of the commit that it must be.
    pub checksum: Option<String>,
    /// Whether `.git` stays; `None` where the address does not say.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched too.
    pub submodules: bool,
    /// How files are dated; `None` where the address does not say, which is as [`Mtime::Checkout`].
    pub mtime: Option<Mtime>,
    /// Whether the commit of `checksum` is fetched without asking what the reference stands for.
    pub fetch_by_commit: bool,
}

impl GitSource {
    /// All of the default branch.
    pub fn new(remote: Address) -> GitSource {
        GitSource {
            remote,
            reference: None,
            subdir: None,
            checksum: None,
            keep_git_dir: None,
            submodules: true,
            mtime: None,
            fetch_by_commit: false,
        }
    }
}

/// How the files of a repository are dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mtime {
    /// By when they are checked out.
    Checkout,
    /// By when the commit was made.
    Commit,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Http(source) => source.url.fmt(f),
            Remote::Git(source) => source.remote.fmt(f),
        }
    }
}

impl Remote {
    /// This, and it must be what `text` says: `sha256:<hex>` of a file, or a commit's hash or its beginning.
    ///
    /// # Errors
    /// [`ParseError::Checksum`], and [`ParseError::Conflict`] with what the address says.
    pub fn with_checksum(mut self, text: &str) -> Result<Remote, ParseError> {
        let refuse = || ParseError::Checksum {
            text: text.to_owned(),
            expected: "`sha256:` and 64 hexadecimal digits",
        };
        match &mut self {
            Remote::Http(source) => source.checksum = Some(text.parse().map_err(|_| refuse())?),
            Remote::Git(source) => {
                let second = giturl::checksum(text)?;
                match source.checksum.take() {
                    Some(first) if first != second => {
                        return Err(ParseError::Conflict { name: "checksum", first, second });
                    }
                    _ => source.checksum = Some(second),
                }
            }
        }
        Ok(self)
    }

    /// This, and a repository keeps its `.git` if `keep`; otherwise as its address says.
    pub fn with_keep_git_dir(mut self, keep: bool) -> Remote {
        if let Remote::Git(source) = &mut self
            && keep
        {
            source.keep_git_dir = Some(true);
        }
        self
    }
}

/// Which remote `text` names; `None` for a local path.
///
/// # Errors
/// When it is a remote and something about its address is wrong.
pub fn parse(text: &str, form: Form) -> Result<Option<Remote>, ParseError> {
    if let Some(source) = giturl::parse(text, form)? {
        return Ok(Some(Remote::Git(source)));
    }
    match giturl::scheme(text) {
        Some("http" | "https") => {
            let form = match form {
                Form::Add => HttpForm::File,
                Form::Context => HttpForm::Context,
            };
            Ok(Some(Remote::Http(HttpSource { url: Address::new(text.to_owned()), checksum: None, form })))
        }
        Some(scheme) => Err(ParseError::Scheme {
            address: Address::new(text.to_owned()).to_string(),
            scheme: scheme.to_owned(),
        }),
        None => Ok(None),
    }
}

/// Whether `text` names a remote, a right one or a wrong one.
pub fn is_remote(text: &str, form: Form) -> bool {
    !matches!(parse(text, form), Ok(None))
}

/// A fetched tree, in a snapshot without a parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// What it is: of equal identity are equal files, times apart.
    pub identity: Digest,
    /// Where it is.
    pub snapshot: SnapshotId,
    /// When it was last changed, in Unix seconds: a file's `Last-Modified`, a commit's time.
    pub modified: Option<i64>,
    /// The name of the one file of [`HttpForm::File`]; otherwise empty.
    pub name: String,
    /// The commit, in full.
    pub commit: Option<String>,
}

/// What goes along with a fetch.
#[derive(Clone, Copy)]
pub struct FetchRequest<'a> {
    /// The user's secrets, by their names.
    pub secret: &'a (dyn Fn(&str) -> Option<Vec<u8>> + Sync),
    /// Whether to stop; asked often.
    pub give_up: &'a (dyn Fn() -> bool + Sync),
    /// Told how many bytes have come, and of how many if that is known.
    pub progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

impl FetchRequest<'_> {
    /// A secret as one line of text.
    fn secret_line(&self, name: &str) -> Option<String> {
        let bytes = (self.secret)(name)?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn check(&self) -> Result<(), FetchError> {
        if (self.give_up)() { Err(FetchError::Cancelled) } else { Ok(()) }
    }
}

/// What fetches.
pub trait Fetch: Sync {
    /// Brings `remote`, unless it is here.
    ///
    /// # Errors
    /// See [`FetchError`]; nothing is left behind.
    fn fetch(&self, remote: &Remote, request: &FetchRequest<'_>) -> Result<Tree, FetchError>;
}

/// What git is told from outside.
#[derive(Clone, Debug, Default)]
pub struct FetcherOptions {
    /// The socket of the agent that was lent: ssh may ask it, whatever is fetched.
    pub ssh_auth_sock: Option<PathBuf>,
    /// The repositories that the user named himself, as contexts: for these, and for those of their submodules that
    /// are at the same place, ssh finds the user's own keys and agent.
    pub own: Vec<Address>,
    /// The user's variables. Git and its helpers get `PATH`, the proxies and the certificates of these
    /// (`GIT_SSL_CAINFO`, `SSL_CERT_FILE`, `SSL_CERT_DIR`); ssh also `HOME` and `GIT_SSH_COMMAND` where it may use
    /// an agent or the user's keys, and `SSH_AUTH_SOCK` for [`FetcherOptions::own`].
    pub environment: Vec<(OsString, OsString)>,
}

/// Fetches into a store.
pub struct Fetcher<'a> {
    store: &'a Store,
    snapshots: &'a dyn Snapshotter,
    client: &'a registry::Client,
    options: FetcherOptions,
}

impl<'a> Fetcher<'a> {
    /// What fetches by `client`, and by the system's `git`.
    pub fn new(
        store: &'a Store,
        snapshots: &'a dyn Snapshotter,
        client: &'a registry::Client,
        options: FetcherOptions,
    ) -> Fetcher<'a> {
        Fetcher { store, snapshots, client, options }
    }
}

impl Fetch for Fetcher<'_> {
    fn fetch(&self, remote: &Remote, request: &FetchRequest<'_>) -> Result<Tree, FetchError> {
        request.check()?;
        match remote {
            Remote::Http(source) => http::fetch(self, source, request),
            Remote::Git(source) => git::fetch(self, source, request),
        }
    }
}

/// Both times of a file, at a whole second.
fn timestamps(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_without_a_port_are_for_the_usual_one() {
        for (address, hosts) in [
            ("https://h/x", &["h"][..]),
            ("https://u:p@h:443/x", &["h:443", "h"]),
            ("https://h:/x", &["h:", "h"]),
            ("https://h:8443/x", &["h:8443"]),
            ("https://h:80/x", &["h:80"]),
            ("http://h:80/x", &["h:80", "h"]),
            ("http://h:443/x", &["h:443"]),
            ("https://h:0443443/x", &["h:0443443"]),
            ("https://[::1]/x", &["[::1]"]),
            ("https://[::1]:443/x", &["[::1]:443", "[::1]"]),
        ] {
            assert_eq!(Address::new(address.to_owned()).hosts(), hosts, "{address}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let address = |text: &str| Address::new(text.to_owned());
        for (one, other, is_same) in [
            ("https://h/x.git", "https://h:443/y", true),
            ("git@h:x", "ssh://other@h:22/y", true),
            ("https://h/x", "http://h/x", false),
            ("https://h/x", "https://h:8443/x", false),
            ("https://h/x", "https://h.example/x", false),
            ("git@h:x", "https://h/x", false),
            ("ssh://h/x", "ssh://h:2222/x", false),
        ] {
            assert_eq!(address(one).origin() == address(other).origin(), is_same, "{one} {other}");
        }
    }
}
