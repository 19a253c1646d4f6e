//! What the user's folders say of a registry: other hosts that stand for it, certificates, who may be trusted blindly.
//!
//! Two kinds of folders, both with one folder a registry, `HOST` or `HOST:PORT` (or `HOST_PORT_`, as containerd has it):
//! containerd's, with a `hosts.toml`, of which `_default` is for all that have none of their own; and Docker's and
//! podman's, with `*.crt` of authorities, and `*.cert` and `*.key` of the user. (containerd: docs/hosts.md; Docker:
//! "Verify repository client with certificates"; podman: containers-certs.d(5).)
//!
//! Invariants: a host is a name, never a path; mirrors are asked in the file's order and before the registry itself;
//! what a file says wrongly is an error with its name, for a mirror that is silently not asked is a surprise.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use toml::{Table, Value};

use crate::Error;
use crate::file::read_if_there;
use crate::transport::lock;
use crate::url::{Origin, Scheme, Url};

/// What may be asked of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Can {
    Pull,
    Resolve,
    Push,
}

/// A host that stands for a registry, or the registry itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Scheme and authority, as the file has them: a scheme that is not said is found out.
    pub(crate) scheme: Option<Scheme>,
    pub(crate) authority: String,
    /// What stands before a repository's name: `/v2`.
    pub(crate) prefix: String,
    /// What it is told with every request.
    pub(crate) headers: Vec<(String, String)>,
    can: [bool; 3],
}

impl Host {
    /// Whether it is there for this.
    pub(crate) fn can(&self, act: Can) -> bool {
        self.can[act as usize]
    }
}

/// How a host's TLS differs from that of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tls {
    /// Authorities to trust beside the system's.
    pub(crate) authorities: Vec<PathBuf>,
    /// The user's certificate and its key, which may be in one file.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate will do.
    pub(crate) skip_verify: bool,
}

/// What the folders say of one registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Hosts that stand for it, in order.
    pub(crate) mirrors: Vec<Host>,
    /// The registry itself, if it is to be asked elsewhere than its name says.
    pub(crate) server: Option<Host>,
    /// By [`key`].
    tls: HashMap<String, Tls>,
}

/// All folders.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    folders: Vec<PathBuf>,
    known: Mutex<HashMap<String, Arc<Known>>>,
}

impl Hosts {
    pub(crate) fn new(folders: Vec<PathBuf>) -> Hosts {
        Hosts { folders, known: Mutex::default() }
    }

    /// What is known of `registry`, `HOST` or `HOST:PORT`.
    pub(crate) fn of(&self, registry: &str) -> Result<Arc<Known>, Error> {
        let mut known = lock(&self.known);
        if let Some(found) = known.get(registry) {
            return Ok(found.clone());
        }
        let found = Arc::new(self.read(registry)?);
        known.insert(registry.to_owned(), found.clone());
        Ok(found)
    }

    /// How TLS with `authority` differs, whichever registry it stands for.
    pub(crate) fn tls(&self, authority: &str) -> Result<Option<Tls>, Error> {
        let key = key(authority);
        let own = self.of(authority)?.tls.get(&key).cloned();
        Ok(own.or_else(|| lock(&self.known).values().find_map(|known| known.tls.get(&key).cloned())))
    }

    fn read(&self, registry: &str) -> Result<Known, Error> {
        let mut known = Known::default();
        let is_name = registry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
            && !registry.starts_with('.');
        if !is_name {
            return Ok(known);
        }
        let mut names = vec![registry.to_owned()];
        names.extend(registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_")));
        for folder in &self.folders {
            let own = names.iter().map(|name| folder.join(name)).find(|folder| folder.is_dir());
            let folder = own.clone().unwrap_or_else(|| folder.join("_default"));
            let has_hosts = !known.mirrors.is_empty() || known.server.is_some();
            if !has_hosts && let Some(text) = read_if_there(&folder.join("hosts.toml"))? {
                parse(&folder.join("hosts.toml"), &text, registry, &mut known)?;
            }
            if let Some(own) = own {
                certificates(&own, known.tls.entry(key(registry)).or_default())?;
            }
        }
        known.tls.retain(|_, tls| *tls != Tls::default());
        Ok(known)
    }
}

/// What an authority is called once it is connected to: files have capitals, and the port that goes without saying.
fn key(authority: &str) -> String {
    let origin = Origin::new(Scheme::Https, authority);
    origin.map_or_else(|| authority.to_owned(), |origin| origin.authority())
}

/// Docker's files: authorities, and the user's certificate with its key.
fn certificates(folder: &Path, tls: &mut Tls) -> Result<(), Error> {
    let fail = |source| Error::ReadFile { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        paths.push(entry.map_err(fail)?.path());
    }
    paths.sort();
    let with = |extension: &'static str| {
        paths.iter().filter(move |path| path.extension().is_some_and(|found| found == extension))
    };
    tls.authorities.extend(with("crt").cloned());
    let pair =
        with("cert").map(|path| (path.clone(), path.with_extension("key"))).find(|(_, key)| key.exists());
    tls.client = tls.client.take().or(pair);
    Ok(())
}

/// Reads a `hosts.toml`.
fn parse(path: &Path, text: &str, registry: &str, known: &mut Known) -> Result<(), Error> {
    let fail = |reason: String| Error::ParseHosts { path: path.to_owned(), reason };
    let table: Table = text.parse().map_err(|error: toml::de::Error| fail(error.message().to_owned()))?;
    if let Some(server) = table.get("server") {
        let address = server.as_str().ok_or_else(|| fail("`server` is no text".to_owned()))?;
        let host =
            host(address, &table, registry).ok_or_else(|| fail(format!("`{address}` is no address")))?;
        add_tls(path, &host, &table, known).map_err(fail)?;
        known.server = Some(host);
    }
    let hosts =
        table.get("host").map(|hosts| hosts.as_table().ok_or_else(|| fail("`host` is no table".into())));
    for (address, settings) in hosts.transpose()?.into_iter().flatten() {
        let settings = settings.as_table().ok_or_else(|| fail(format!("`{address}` is no table")))?;
        let host =
            host(address, settings, registry).ok_or_else(|| fail(format!("`{address}` is no address")))?;
        add_tls(path, &host, settings, known).map_err(fail)?;
        known.mirrors.push(host);
    }
    Ok(())
}

/// A host of the file: an address, or an authority alone.
fn host(address: &str, settings: &Table, registry: &str) -> Option<Host> {
    let (scheme, rest) = match address.split_once("://") {
        Some(("http", rest)) => (Some(Scheme::Http), rest),
        Some(("https", rest)) => (Some(Scheme::Https), rest),
        Some(_) => return None,
        None => (None, address),
    };
    let url = Url::parse(&format!("https://{rest}"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = path.trim_end_matches('/');
    let overrides = settings.get("override_path").and_then(Value::as_bool).unwrap_or(false);
    let prefix = if overrides || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
    let named = settings.get("capabilities").and_then(Value::as_array);
    let is_self = authority.eq_ignore_ascii_case(registry);
    let can = ["pull", "resolve", "push"].map(|name| match named {
        Some(named) => named.iter().any(|value| value.as_str() == Some(name)),
        // What nothing is said of can do everything, but nobody pushes to what merely stands for the registry.
        None => name != "push" || is_self || settings.contains_key("server"),
    });
    // A query or a fragment is no part of a host.
    (url.to_string() == url.wire()).then(|| Host {
        scheme,
        authority: authority.to_owned(),
        prefix,
        headers: headers(settings),
        can,
    })
}

/// The table `header`: names, and a text or a list of texts each.
fn headers(settings: &Table) -> Vec<(String, String)> {
    let texts = |value: &Value| match value {
        Value::Array(all) => all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        one => one.as_str().map(str::to_owned).into_iter().collect::<Vec<_>>(),
    };
    let all = settings.get("header").and_then(Value::as_table).into_iter().flatten();
    all.flat_map(|(name, value)| texts(value).into_iter().map(move |text| (name.clone(), text))).collect()
}

fn add_tls(path: &Path, host: &Host, settings: &Table, known: &mut Known) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let file = |value: &Value| value.as_str().map(|name| folder.join(name));
    let tls = known.tls.entry(key(&host.authority)).or_default();
    match settings.get("ca") {
        None => {}
        Some(Value::Array(all)) => tls.authorities.extend(all.iter().filter_map(file)),
        Some(one) => tls.authorities.extend(file(one)),
    }
    tls.client = match settings.get("client") {
        None => tls.client.take(),
        Some(Value::Array(all)) => match all.first() {
            Some(Value::Array(pair)) => {
                let certificate = pair.first().and_then(file).ok_or("`client` names no file")?;
                let key = pair.get(1).and_then(file).unwrap_or_else(|| certificate.clone());
                Some((certificate, key))
            }
            Some(one) => file(one).map(|both| (both.clone(), both)),
            None => None,
        },
        Some(one) => file(one).map(|both| (both.clone(), both)),
    };
    tls.skip_verify |= settings.get("skip_verify").and_then(Value::as_bool).unwrap_or(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(files: &[(&str, &str)]) -> (tempfile::TempDir, Hosts) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let hosts = Hosts::new(vec![folder.path().join("absent"), folder.path().to_owned()]);
        (folder, hosts)
    }

    #[test]
    fn reads_what_containerd_reads() {
        let text = r#"
            server = "https://registry-1.example"
            [host."http://mirror.example:5000"]
              capabilities = ["pull", "resolve"]
              skip_verify = true
            [host."https://cache.example/v2/hub"]
              override_path = true
              ca = ["a.pem", "/etc/b.pem"]
              client = [["c.cert", "c.key"]]
            [host."plain.example"]
              capabilities = ["pull", "push"]
        "#;
        let (folder, hosts) = hosts(&[("registry.example/hosts.toml", text)]);
        let known = hosts.of("registry.example").unwrap();
        let shown: Vec<_> = known
            .mirrors
            .iter()
            .map(|host| {
                (host.scheme.map(Scheme::name), host.authority.as_str(), host.prefix.as_str(), host.can)
            })
            .collect();
        assert_eq!(
            shown,
            [
                (Some("http"), "mirror.example:5000", "/v2", [true, true, false]),
                (Some("https"), "cache.example", "/v2/hub", [true, true, false]),
                (None, "plain.example", "/v2", [true, false, true]),
            ]
        );
        assert_eq!(known.server.as_ref().unwrap().authority, "registry-1.example");
        assert!(known.server.as_ref().unwrap().can(Can::Push));
        assert!(hosts.tls("mirror.example:5000").unwrap().unwrap().skip_verify);
        let tls = hosts.tls("cache.example").unwrap().unwrap();
        let own = folder.path().join("registry.example");
        assert_eq!(tls.authorities, [own.join("a.pem"), "/etc/b.pem".into()]);
        assert_eq!(tls.client, Some((own.join("c.cert"), own.join("c.key"))));
        assert_eq!(hosts.tls("plain.example").unwrap(), None);
    }

    #[test]
    fn reads_what_docker_reads_and_what_is_for_all() {
        let (folder, hosts) = hosts(&[
            ("r.example:5000/ca.crt", ""),
            ("r.example:5000/me.cert", ""),
            ("r.example:5000/me.key", ""),
            ("other.example_443_/lone.cert", ""),
            ("_default/hosts.toml", "[host.\"https://all.example\"]"),
        ]);
        let own = folder.path().join("r.example:5000");
        let tls = hosts.tls("r.example:5000").unwrap().unwrap();
        assert_eq!(tls.authorities, [own.join("ca.crt")]);
        assert_eq!(tls.client, Some((own.join("me.cert"), own.join("me.key"))));
        assert_eq!(hosts.tls("other.example:443").unwrap(), None, "a certificate without its key");
        assert_eq!(hosts.of("any.example").unwrap().mirrors[0].authority, "all.example");
        assert!(hosts.of("other.example:443").unwrap().mirrors.is_empty(), "it has a folder of its own");
    }

    #[test]
    fn whoever_is_connected_to_has_the_settings_of_every_way_to_write_him() {
        let text = "[host.\"https://Mirror.Example\"]\nskip_verify = true\n\
                    [host.\"cache.example:443\"]\nskip_verify = true\n";
        let (folder, hosts) = hosts(&[
            ("a.example:443/ca.crt", ""),
            ("b.example_443_/ca.crt", ""),
            ("C.Example/ca.crt", ""),
            ("Hub.Example:443/hosts.toml", text),
        ]);
        let tls = |authority: &str| {
            let origin = Origin::new(Scheme::Https, authority).unwrap();
            hosts.tls(&origin.authority()).unwrap().unwrap_or_else(|| panic!("{authority} has settings"))
        };
        for (registry, place) in [
            ("a.example:443", "a.example:443"),
            ("b.example:443", "b.example_443_"),
            ("C.Example", "C.Example"),
        ] {
            hosts.of(registry).unwrap();
            assert_eq!(tls(registry).authorities, [folder.path().join(place).join("ca.crt")]);
        }
        hosts.of("Hub.Example:443").unwrap();
        for host in ["Mirror.Example", "mirror.example:443", "cache.example:443", "Cache.Example"] {
            assert!(tls(host).skip_verify, "{host}");
        }
        assert_eq!(hosts.tls("mirror.example:444").unwrap(), None, "another port is another host");
    }

    #[test]
    fn a_name_is_no_path_and_a_mistake_is_named() {
        let (_folder, hosts) =
            hosts(&[("bad.example/hosts.toml", "server = 1"), ("worse/hosts.toml", "[[[")]);
        for name in ["..", "a/b", "", "../x"] {
            assert!(hosts.of(name).is_ok(), "{name}");
        }
        for name in ["bad.example", "worse"] {
            let error = hosts.of(name).unwrap_err();
            assert!(
                matches!(&error, Error::ParseHosts { path, .. } if path.ends_with("hosts.toml")),
                "{error}"
            );
        }
    }
}
