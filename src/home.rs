//! Where state lives, and the only reader of the environment.
//!
//! [`Environment`] is a copy of the process's variables, taken once; what a variable means to lbuild is one
//! method each. [`Home`] is the opened state directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use builder::remote::{Address, FetcherOptions};
use layerfs::layout::StoredImage;
use layerfs::snapshot::Choice;
use oci::{Digest, Document};

use crate::args::RegistryArgs;
use crate::failure::{Facts, Failure};
use crate::uploads::Uploads;
use crate::value::Bytes;

/// Where root's state is kept when nobody says otherwise.
const SYSTEM_ROOT: &str = "/var/lib/lbuild";

/// The variables that lbuild was started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

/// How much builds keep for later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepStorage {
    /// What [`builder::prune::keep_within_usual`] allows, looked at once a day.
    Usual,
    /// This much, looked at by every build.
    Within(Bytes),
    /// All of it.
    Unlimited,
}

impl Environment {
    /// Those of this process.
    #[expect(clippy::disallowed_methods, reason = "this is the only reader of the environment")]
    pub(crate) fn of_process() -> Environment {
        Environment(std::env::vars_os().collect())
    }

    /// These and no others.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(variables: [(&str, &str); N]) -> Environment {
        Environment(variables.map(|(name, value)| (name.into(), value.into())).into())
    }

    /// A variable as text; one that is no UTF-8 counts as unset.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(OsStr::new(name)).and_then(|value| value.to_str())
    }

    /// A variable as it is.
    pub(crate) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(OsStr::new(name)).map(|value| value.as_bytes())
    }

    /// Whether a variable says yes, as Go's `strconv.ParseBool` has it.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    /// A variable that names a path; an empty one counts as unset.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// The state directory: `--root`, `$LBUILD_ROOT`, else the system's for root and the user's for others.
    fn root(&self, flag: Option<&Path>, is_superuser: bool) -> Option<PathBuf> {
        let users = || {
            let data = self.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
            data.or_else(|| Some(self.path("HOME")?.join(".local/share"))).map(|data| data.join("lbuild"))
        };
        flag.map(Path::to_owned)
            .or_else(|| self.path("LBUILD_ROOT"))
            .or_else(|| if is_superuser { Some(PathBuf::from(SYSTEM_ROOT)) } else { users() })
    }

    /// What makes snapshots: `--snapshotter`, else `$LBUILD_SNAPSHOTTER`, else what works. Its program is in `$PATH`.
    ///
    /// # Errors
    /// When the variable names none.
    pub(crate) fn snapshotter(&self, flag: Option<&Choice>) -> Result<Choice, Failure> {
        let text = self.get("LBUILD_SNAPSHOTTER").filter(|text| !text.is_empty());
        let wanted = match (flag, text) {
            (Some(flag), _) => flag.clone(),
            (None, Some(text)) => text.parse().map_err(|expected| {
                Failure::usage(format!("`$LBUILD_SNAPSHOTTER` is `{text}`: {expected}"))
            })?,
            (None, None) => Choice::default(),
        };
        let path = self.0.get(OsStr::new("PATH")).map(OsString::as_os_str).unwrap_or_default();
        let programs = std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect();
        Ok(Choice { programs, ..wanted })
    }

    /// `$LBUILD_KEEP_STORAGE`: how much builds may keep for later ones.
    ///
    /// # Errors
    /// When it is neither a size nor `unlimited`.
    pub(crate) fn keep_storage(&self) -> Result<KeepStorage, Failure> {
        match self.get("LBUILD_KEEP_STORAGE").unwrap_or_default() {
            "" => Ok(KeepStorage::Usual),
            "unlimited" => Ok(KeepStorage::Unlimited),
            text => text.parse().map(KeepStorage::Within).map_err(|expected| {
                Failure::usage(format!("`$LBUILD_KEEP_STORAGE` is no size: {expected}, `unlimited`"))
            }),
        }
    }

    /// Files that may hold registry credentials, the first that knows a registry wins.
    fn credential_files(&self) -> Vec<PathBuf> {
        let user = rustix::process::geteuid().as_raw();
        let runtime = self.path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        let config = self.path("XDG_CONFIG_HOME").or_else(|| Some(self.path("HOME")?.join(".config")));
        [
            self.path("REGISTRY_AUTH_FILE"),
            self.docker_config(),
            runtime.or_else(|| Some(PathBuf::from(format!("/run/containers/{user}/auth.json")))),
            config.map(|dir| dir.join("containers/auth.json")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn docker_config(&self) -> Option<PathBuf> {
        let dir = self.path("DOCKER_CONFIG").or_else(|| Some(self.path("HOME")?.join(".docker")));
        dir.map(|dir| dir.join("config.json"))
    }

    /// Folders that say how registries are reached: the user's, then containerd's, Docker's and podman's.
    fn host_folders(&self) -> Vec<PathBuf> {
        let config = self.path("XDG_CONFIG_HOME").or_else(|| Some(self.path("HOME")?.join(".config")));
        let own =
            config.into_iter().flat_map(|config| ["containers", "docker"].map(|name| config.join(name)));
        let all = ["/etc/containerd", "/etc/docker", "/etc/containers"].map(PathBuf::from);
        own.chain(all).map(|folder| folder.join("certs.d")).collect()
    }

    /// The file in which a new credential is kept.
    pub(crate) fn login_file(&self) -> Option<PathBuf> {
        self.path("REGISTRY_AUTH_FILE").or_else(|| self.docker_config())
    }

    /// The first of these variables that is set and not empty, in lower or in upper case.
    fn either_case(&self, names: &[&str]) -> Option<String> {
        names
            .iter()
            .flat_map(|name| [self.get(name), self.get(&name.to_uppercase())])
            .flatten()
            .find(|value| !value.is_empty())
            .map(str::to_owned)
    }

    /// How contexts are fetched. `agent` is the socket of the one that was lent, `own` are the repositories that the
    /// user named.
    pub(crate) fn fetching(&self, agent: Option<PathBuf>, own: Vec<Address>) -> FetcherOptions {
        let environment = self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        FetcherOptions { ssh_auth_sock: agent, own, environment }
    }

    fn proxies(&self) -> registry::Proxies {
        registry::Proxies {
            http: self.either_case(&["http_proxy", "all_proxy"]),
            https: self.either_case(&["https_proxy", "all_proxy"]),
            no_proxy: self.either_case(&["no_proxy"]).unwrap_or_default(),
        }
    }
}

/// The client for all registries, and who the user is to them.
pub(crate) struct Registries {
    pub(crate) client: registry::Client,
    pub(crate) keychain: registry::Keychain,
}

impl Registries {
    /// Reads credentials and certificates; connects to nothing yet.
    ///
    /// # Errors
    /// When one of these files cannot be read.
    pub(crate) fn new(args: &RegistryArgs, environment: &Environment) -> Result<Registries, Failure> {
        let keychain = registry::Keychain::from_files(&environment.credential_files())
            .map_err(|error| Failure::environment(&error))?;
        Registries::with_options(keychain, args, environment, registry::Options::default())
    }

    /// The same for pushes: what does not come to its end is remembered in `home`, and a request is tried again so
    /// often.
    ///
    /// # Errors
    /// As [`Registries::new`].
    pub(crate) fn for_push(
        args: &RegistryArgs,
        retries: Option<u32>,
        environment: &Environment,
        home: &Home,
    ) -> Result<Registries, Failure> {
        let keychain = registry::Keychain::from_files(&environment.credential_files())
            .map_err(|error| Failure::environment(&error))?;
        let sessions = Some(Arc::new(Uploads::of(home.store.root())) as Arc<dyn registry::Sessions>);
        let mut options = registry::Options { sessions, ..registry::Options::default() };
        if let Some(retries) = retries {
            options.retry.attempts = retries.saturating_add(1);
        }
        Registries::with_options(keychain, args, environment, options)
    }

    /// The same with these credentials and no others.
    ///
    /// # Errors
    /// When a file of certificates cannot be read.
    pub(crate) fn with_keychain(
        keychain: registry::Keychain,
        args: &RegistryArgs,
        environment: &Environment,
    ) -> Result<Registries, Failure> {
        Registries::with_options(keychain, args, environment, registry::Options::default())
    }

    fn with_options(
        keychain: registry::Keychain,
        args: &RegistryArgs,
        environment: &Environment,
        options: registry::Options,
    ) -> Result<Registries, Failure> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| Failure::file("read the certificates", path, &error))
        };
        let client = registry::Client::new(registry::Options {
            insecure_hosts: args.insecure_registry.clone(),
            extra_ca_pem: args.cacert.iter().map(read).collect::<Result<_, _>>()?,
            ca_bundle: environment.path("SSL_CERT_FILE"),
            host_folders: environment.host_folders(),
            keychain: keychain.clone(),
            proxies: environment.proxies(),
            ..options
        });
        Ok(Registries { client, keychain })
    }
}

/// The state directory, opened.
pub(crate) struct Home {
    pub(crate) store: layerfs::store::Store,
}

impl Home {
    /// Opens the state directory, which is made if it is missing.
    ///
    /// # Errors
    /// When there is no such place, or it cannot be used.
    pub(crate) fn open(flag: Option<&Path>, environment: &Environment) -> Result<Home, Failure> {
        Home::of(layerfs::store::Store::open, flag, environment)
    }

    /// Opens the state directory only to look at it: it may be missing, or on a read-only file system.
    ///
    /// # Errors
    /// When there is no place for one, or what is there cannot be read.
    pub(crate) fn look(flag: Option<&Path>, environment: &Environment) -> Result<Home, Failure> {
        Home::of(layerfs::store::Store::look, flag, environment)
    }

    fn of(
        open: fn(&Path) -> layerfs::Result<layerfs::store::Store>,
        flag: Option<&Path>,
        environment: &Environment,
    ) -> Result<Home, Failure> {
        let root = environment.root(flag, is_superuser()).ok_or_else(|| {
            Failure::usage("no place for images: `$HOME` is not set")
                .hint("say `--root DIR` or set `$LBUILD_ROOT`")
        })?;
        let store = open(&root).map_err(|error| Failure::store("open the store", &error, &root))?;
        Ok(Home { store })
    }

    /// The store's failure as the user's.
    pub(crate) fn failure(&self, act: &str) -> impl Fn(layerfs::Error) -> Failure {
        move |error| Failure::store(act, &error, self.store.root())
    }

    /// What hints may look at where no registry is asked.
    pub(crate) fn root_facts(&self) -> Facts<'_> {
        Facts { root: Some(self.store.root()), keychain: None }
    }

    /// What hints may look at.
    pub(crate) fn facts<'a>(&'a self, registries: &'a Registries) -> Facts<'a> {
        Facts { root: Some(self.store.root()), keychain: Some(&registries.keychain) }
    }

    /// The image that `text` names or begins the id of.
    ///
    /// # Errors
    /// When there is none, or several.
    pub(crate) fn find(&self, text: &str) -> Result<StoredImage, Failure> {
        let found = self.store.find(text).map_err(self.failure("find the image"))?;
        found.ok_or_else(|| Failure::no_such_image(text))
    }

    /// The entries of the store that are this image, under whatever name; `image` is among them.
    ///
    /// # Errors
    /// When the store's list cannot be read.
    pub(crate) fn twins(&self, image: &StoredImage) -> Result<Vec<StoredImage>, Failure> {
        let mut all = self.store.images().map_err(self.failure("list the images"))?;
        all.retain(|other| self.store.is_same_image(&other.descriptor, &image.descriptor));
        Ok(all)
    }
}

/// An image's id: the digest of its configuration. The same image may be there twice, with its layers
/// compressed and not, as it is in a registry and as it was built. The id of an index is its own digest.
pub(crate) fn image_id(store: &layerfs::store::Store, image: &StoredImage) -> Option<Digest> {
    // What is damaged has no id.
    match store.document(&image.descriptor).ok()? {
        Document::Manifest(manifest) => Some(manifest.value().config.digest),
        Document::Index(_) => Some(image.descriptor.digest),
    }
}

/// Whether this process may do everything.
fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

/// # Errors
/// Unless this process is root's. `what` is a plural: `steps`.
pub(crate) fn need_root(what: &str) -> Result<(), Failure> {
    if is_superuser() {
        return Ok(());
    }
    let user = rustix::process::geteuid().as_raw();
    Err(Failure::environment_because(
        format!("lbuild needs root for {what}"),
        format!("containers are made of mounts and namespaces, and this is user {user}"),
    )
    .hint("run the same command with `sudo`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_what_was_said_nearest() {
        let home = ("HOME", "/home/me");
        let data = ("XDG_DATA_HOME", "/data");
        let all = Environment::of([("LBUILD_ROOT", "/env"), data, home]);
        let user = Environment::of([data, home]);
        let useless = Environment::of([("LBUILD_ROOT", ""), ("XDG_DATA_HOME", "relative")]);
        for (flag, environment, is_superuser, expected) in [
            (Some("/flag"), &all, true, Some("/flag")),
            (None, &all, true, Some("/env")),
            (None, &user, true, Some(SYSTEM_ROOT)),
            (None, &user, false, Some("/data/lbuild")),
            (None, &Environment::of([home]), false, Some("/home/me/.local/share/lbuild")),
            (None, &useless, false, None),
        ] {
            let root = environment.root(flag.map(Path::new), is_superuser);
            assert_eq!(root, expected.map(PathBuf::from), "{flag:?} {environment:?}");
        }
    }

    #[test]
    fn the_snapshotter_is_what_was_said_nearest() {
        let environment = Environment::of([("LBUILD_SNAPSHOTTER", "vfs"), ("PATH", "/bin:relative:/sbin")]);
        let [copy, overlay]: [Choice; 2] = ["copy", "overlay"].map(|name| name.parse().unwrap());
        let programs = ["/bin", "/sbin"].map(PathBuf::from).to_vec();
        let found = environment.snapshotter(None).unwrap();
        assert_eq!(found, Choice { programs: programs.clone(), ..copy });
        let found = environment.snapshotter(Some(&overlay)).unwrap();
        assert_eq!(found, Choice { programs, ..overlay });
        assert_eq!(Environment::default().snapshotter(None).unwrap(), Choice::default());
        let error = Environment::of([("LBUILD_SNAPSHOTTER", "zfs")]).snapshotter(None).unwrap_err();
        assert!(error.to_string().contains("`$LBUILD_SNAPSHOTTER` is `zfs`: expected `auto`"), "{error}");
    }

    #[test]
    fn credentials_and_proxies_are_where_others_keep_them() {
        let environment = Environment::of([
            ("HOME", "/home/me"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "http://lower:1"),
            ("ALL_PROXY", "http://all:1"),
            ("NO_PROXY", "localhost"),
        ]);
        let files = [
            "/home/me/.docker/config.json",
            "/run/user/7/containers/auth.json",
            "/home/me/.config/containers/auth.json",
        ];
        assert_eq!(environment.credential_files(), files.map(PathBuf::from));
        let proxies = environment.proxies();
        assert_eq!(proxies.https.as_deref(), Some("http://lower:1"));
        assert_eq!(proxies.http.as_deref(), Some("http://all:1"));
        assert_eq!(proxies.no_proxy, "localhost");
    }
}
