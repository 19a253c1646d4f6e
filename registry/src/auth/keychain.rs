//! Credentials by registry, from Docker's `config.json` and podman's `auth.json`.
//!
//! What lives here: which entry of which file is for a repository. What does not: where these files are (the command
//! knows), how a `helper` is asked, how a `config_file` is written, and what a credential is exchanged for (`token`).
//!
//! Order: the first file that knows the registry wins. Within a file a helper of the registry's own
//! (`credHelpers`) goes before `auths`, and `auths` before the general helper (`credsStore`). In `auths` the
//! longest key wins: `ghcr.io/me/app`, then `ghcr.io/me`, then `ghcr.io`. (Docker: `docker login`; podman:
//! containers-auth.json(5).)

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci::Reference;
use oci::reference::HUB;
use serde::Deserialize;

use super::helper;
use crate::Error;
use crate::file::read_if_there;

/// Under which name Docker keeps the Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What proves who the user is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing does.
    Anonymous,
    /// A name and a password, or an access token that is used like one.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth 2 refresh token, to be exchanged for a bearer token.
    Identity {
        /// The user's name, if the file has one.
        username: String,
        /// The refresh token.
        token: String,
    },
    /// A bearer token, to be sent as it is.
    Bearer {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for Credential {
    /// The kind alone: secrets stand in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Anonymous => "Anonymous",
            Credential::Basic { .. } => "Basic",
            Credential::Identity { .. } => "Identity",
            Credential::Bearer { .. } => "Bearer",
        })
    }
}

/// Credentials by registry. Cheap to clone; a helper is asked once for each registry.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    given: BTreeMap<String, Credential>,
    files: Vec<File>,
    asked: Arc<Mutex<HashMap<(String, String), Credential>>>,
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

#[derive(Clone, Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity: String,
    #[serde(default, rename = "registrytoken")]
    bearer: String,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

impl Keychain {
    /// No credentials at all.
    pub fn anonymous() -> Keychain {
        Keychain::default()
    }

    /// Reads `paths` in order; files that do not exist are passed over.
    ///
    /// # Errors
    /// [`Error::ReadFile`] and [`Error::ParseKeychain`].
    pub fn from_files(paths: &[PathBuf]) -> Result<Keychain, Error> {
        let mut keychain = Keychain::default();
        for path in paths {
            if let Some(text) = read_if_there(path)? {
                keychain.files.push(File::parse(path, &text)?);
            }
        }
        Ok(keychain)
    }

    /// Adds the text of one file, after those that are there; `path` names it in errors.
    ///
    /// # Errors
    /// [`Error::ParseKeychain`].
    pub fn and_text(mut self, path: &Path, text: &str) -> Result<Keychain, Error> {
        self.files.push(File::parse(path, text)?);
        Ok(self)
    }

    /// Adds a credential for `registry` (`HOST`, `HOST:PORT` or `HOST/NAMESPACE`) that goes before all files.
    pub fn and(mut self, registry: &str, credential: Credential) -> Keychain {
        self.given.insert(normal(registry), credential);
        self
    }

    /// The credential for the repository of `reference`.
    ///
    /// # Errors
    /// [`Error::DecodeCredential`], [`Error::RunHelper`] and [`Error::AskHelper`].
    pub fn lookup(&self, reference: &Reference) -> Result<Credential, Error> {
        let keys = prefixes(&reference.name());
        if let Some(given) = keys.iter().find_map(|key| self.given.get(key)) {
            return Ok(given.clone());
        }
        for file in &self.files {
            let found = self.lookup_in(file, reference.registry(), &keys)?;
            if found != Credential::Anonymous {
                return Ok(found);
            }
        }
        Ok(Credential::Anonymous)
    }

    fn lookup_in(&self, file: &File, host: &str, keys: &[String]) -> Result<Credential, Error> {
        let server = server(&file.path, host);
        let own = keys.iter().find_map(|key| file.helpers.get(key));
        // As Docker has it, a helper without a name is the file itself.
        if let Some(helper) = own.filter(|helper| !helper.is_empty()) {
            return self.ask(helper, server);
        }
        for key in keys {
            let found = match file.auths.get(key) {
                Some(entry) => entry.credential(&file.path, key)?,
                None => continue,
            };
            // Docker leaves an empty entry as a mark that the store has the secret.
            if found != Credential::Anonymous {
                return Ok(found);
            }
        }
        match file.store.as_ref().filter(|_| own.is_none()) {
            Some(helper) => self.ask(helper, server),
            None => Ok(Credential::Anonymous),
        }
    }

    /// Asks `docker-credential-HELPER`, once for each registry.
    fn ask(&self, helper: &str, server: &str) -> Result<Credential, Error> {
        let key = (helper.to_owned(), server.to_owned());
        // Held while the helper runs: a helper may ask the user, who is not to be asked twice.
        let mut asked = self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = asked.get(&key) {
            return Ok(known.clone());
        }
        let answer = helper::get(helper, server)?;
        asked.insert(key, answer.clone());
        Ok(answer)
    }
}

impl File {
    fn parse(path: &Path, text: &str) -> Result<File, Error> {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Shape {
            auths: Option<BTreeMap<String, Option<Entry>>>,
            cred_helpers: Option<BTreeMap<String, String>>,
            creds_store: Option<String>,
        }
        let shape: Shape = match text.trim() {
            "" => Shape::default(),
            text => serde_json::from_str(text)
                .map_err(|source| Error::ParseKeychain { path: path.to_owned(), source })?,
        };
        let auths = shape.auths.unwrap_or_default().into_iter();
        let helpers = shape.cred_helpers.unwrap_or_default().into_iter();
        Ok(File {
            path: path.to_owned(),
            auths: auths.map(|(key, entry)| (normal(&key), entry.unwrap_or_default())).collect(),
            helpers: helpers.map(|(key, helper)| (normal(&key), helper)).collect(),
            store: shape.creds_store.filter(|store| !store.is_empty()),
        })
    }
}

impl Entry {
    fn credential(&self, path: &Path, key: &str) -> Result<Credential, Error> {
        let fail = || Error::DecodeCredential { path: path.to_owned(), registry: key.to_owned() };
        let (mut username, mut password) = (self.username.clone(), self.password.clone());
        if !self.auth.is_empty() {
            let decoded = STANDARD.decode(self.auth.trim()).map_err(|_| fail())?;
            let decoded = String::from_utf8(decoded).map_err(|_| fail())?;
            let (name, secret) = decoded.split_once(':').ok_or_else(fail)?;
            // Old versions of Docker pad the secret with zero bytes.
            (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
        }
        Ok(if !self.bearer.is_empty() {
            Credential::Bearer { token: self.bearer.clone() }
        } else if !self.identity.is_empty() {
            Credential::Identity { username, token: self.identity.clone() }
        } else if username.is_empty() && password.is_empty() {
            Credential::Anonymous
        } else {
            Credential::Basic { username, password }
        })
    }
}

/// Keys that may hold the credential of a repository or a namespace, the most special first.
pub(super) fn prefixes(name: &str) -> Vec<String> {
    let cuts = name.rmatch_indices('/').map(|(at, _)| name[..at].to_owned());
    std::iter::once(name.to_owned()).chain(cuts).collect()
}

/// What the file at `path`, and the helpers that it names, call a registry: Docker has a name of its own for the Hub,
/// podman has not. A helper knows whole hosts only, whatever key names the helper. (Docker: docker-credential-helpers;
/// podman: containers-auth.json(5).)
pub(super) fn server<'a>(path: &Path, name: &'a str) -> &'a str {
    let is_podmans = path.file_name().is_some_and(|name| name == "auth.json");
    if name == HUB && !is_podmans { HUB_KEY } else { name }
}

/// A registry (`HOST`, `HOST:PORT` or `HOST/NAMESPACE`), however Docker's users and files write it: without scheme,
/// without the API version that Docker's old keys end with, and the Hub by one of its names.
pub fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => HUB,
        other => other,
    };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}
