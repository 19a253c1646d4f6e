//! What a build is asked for: plain data, resolved from what was typed before it comes here.
//!
//! Nothing here is looked up: directories are open, files are read, the environment has been consulted. Two things are
//! looked up later because they must be: what a secret holds, and what stands behind a remote context.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use layerfs::confined::Root;
use oci::{Platform, Reference};

use crate::deliver::LayerForm;
use crate::ignore::Ignore;
use crate::remote::{Remote, Tree};

/// One build of one target for one platform.
pub struct Request {
    /// The Dockerfile's name, as messages show it.
    pub dockerfile_name: String,
    /// The Dockerfile's text.
    pub dockerfile: String,
    /// What `COPY` and `ADD` read.
    pub context: Files,
    /// Where the context was fetched from, without credentials, if it was.
    pub context_uri: Option<String>,
    /// `--build-context`, by name; names are in lower case.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The stage to build; the last one if none is named.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in the order given.
    pub labels: Vec<(String, String)>,
    /// `--annotation` for the manifest, in the order given.
    pub annotations: Vec<(String, String)>,
    /// The platform to build for.
    pub platform: Platform,
    /// Whether the platform was asked for by name: then the image says it is for that one, whatever its base says.
    pub platform_is_explicit: bool,
    /// Which steps execute whatever the cache holds.
    pub no_cache: NoCache,
    /// Ask the registry for every base image, even where the store has one of that name.
    pub pull: bool,
    /// How `RUN` steps execute.
    pub run: RunSettings,
    /// `--secret`, by id.
    pub secrets: Secrets,
    /// `--ssh`: the socket of an agent, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// `--allow security.insecure`: whether `RUN --security=insecure` may be.
    pub allow_insecure: bool,
    /// `--allow network.host`: whether `RUN --network=host` may be where the build's own network is none.
    pub allow_network_host: bool,
    /// `SOURCE_DATE_EPOCH`: no time in the image is later than this, in seconds since 1970. The Dockerfile may set it
    /// where this is none.
    pub epoch: Option<i64>,
    /// The form in which layers are to leave the store, if that is known: they are brought into it while later steps
    /// execute.
    pub layers_leave_as: Option<LayerForm>,
    /// `--acls`: whether access control lists are in the image's layers.
    pub acls: bool,
    /// How many steps execute at once.
    pub jobs: NonZeroUsize,
}

impl Request {
    /// A build of the last stage of `dockerfile` for this machine, with nothing asked for.
    pub fn new(dockerfile: impl Into<String>, context: Files) -> Request {
        Request {
            dockerfile_name: "Dockerfile".to_owned(),
            dockerfile: dockerfile.into(),
            context,
            context_uri: None,
            contexts: BTreeMap::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            annotations: Vec::new(),
            platform: Platform::host(),
            platform_is_explicit: false,
            no_cache: NoCache::Never,
            pull: false,
            run: RunSettings::default(),
            secrets: Secrets::default(),
            ssh: BTreeMap::new(),
            allow_insecure: false,
            allow_network_host: false,
            epoch: None,
            layers_leave_as: None,
            acls: false,
            jobs: NonZeroUsize::MIN,
        }
    }
}

/// Which steps execute whatever the cache holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoCache {
    /// None of them.
    #[default]
    Never,
    /// All of them.
    Always,
    /// Those of these stages, by name in lower case or by number.
    Stages(Vec<String>),
}

/// How all `RUN` steps of a build execute.
pub struct RunSettings {
    /// The network, where the instruction does not say.
    pub network: Network,
    /// Limits of each step; they do not enter the key.
    pub limits: runner::Limits,
    /// What steps see as `/etc/hosts` and `/etc/resolv.conf`.
    pub host_files: HostFiles,
    /// The names of `--add-host`: they enter the key, their addresses do not.
    pub extra_hosts: Vec<String>,
    /// The size of `/dev/shm`.
    pub shm_size_bytes: u64,
    /// `--ulimit`
    pub ulimits: Vec<runner::Rlimit>,
    /// `--cgroup-parent`
    pub cgroup_parent: Option<String>,
}

impl Default for RunSettings {
    fn default() -> RunSettings {
        RunSettings {
            network: Network::Host,
            limits: runner::Limits::default(),
            host_files: HostFiles::default(),
            extra_hosts: Vec::new(),
            shm_size_bytes: runner::Sandbox::SHM_SIZE_BYTES,
            ulimits: Vec::new(),
            cgroup_parent: None,
        }
    }
}

/// Files that a build reads: the build context, or a named one.
#[derive(Clone, Debug)]
pub enum Files {
    /// A directory of this machine.
    Directory(Context),
    /// What was fetched from elsewhere or came by standard input: nothing is left out of it.
    Tree(Tree),
}

impl Files {
    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Context> {
        match self {
            Files::Directory(context) => Some(context),
            Files::Tree(_) => None,
        }
    }

    /// What was fetched, if it is no directory of this machine.
    pub fn tree(&self) -> Option<&Tree> {
        match self {
            Files::Directory(_) => None,
            Files::Tree(tree) => Some(tree),
        }
    }
}

/// A directory that `COPY` and `ADD` read. It is opened once: whoever may rename it while the build runs cannot put
/// another one in its place.
#[derive(Clone, Debug)]
pub struct Context {
    /// The path that it was opened by, absolute; for messages.
    pub root: PathBuf,
    files: Arc<Root>,
    /// What is left out.
    pub ignore: Ignore,
    /// The name of the file that says so, as messages show it.
    pub ignore_name: String,
    /// The text of that file.
    pub ignore_text: String,
}

impl Context {
    /// Opens the directory at `root`, of which nothing is left out.
    ///
    /// # Errors
    /// When it is not there, or is no directory.
    pub fn open(root: PathBuf) -> layerfs::Result<Context> {
        let files = Arc::new(Root::open(&root)?);
        let ignore_name = ".dockerignore".to_owned();
        Ok(Context { root, files, ignore: Ignore::default(), ignore_name, ignore_text: String::new() })
    }

    /// What is in it.
    pub fn files(&self) -> &Root {
        &self.files
    }
}

/// What `--build-context` lets a name stand for.
#[derive(Clone, Debug)]
pub enum NamedContext {
    /// A directory.
    Directory(Context),
    /// An image: `docker-image://`, or `oci-layout://` once it is in the store.
    Image(Reference),
    /// A repository or an archive to fetch, if a stage needs it.
    Remote(Remote),
}

/// The network of `RUN` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The host's own.
    Host,
    /// Loopback only.
    None,
}

/// Files that come from outside the image and never enter a layer.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    /// `/etc/hosts`
    pub hosts: Vec<u8>,
    /// `/etc/resolv.conf`
    pub resolv_conf: Vec<u8>,
}

/// `--secret`, by id. What they hold is read where it is used, and shown by nothing.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, SecretSource>);

/// Where a secret's value is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// Here; it was in the environment.
    Value(Vec<u8>),
}

/// A secret is a small thing (BuildKit's limit).
const MAX_SECRET_BYTES: u64 = 500 * 1024;

impl Secrets {
    /// The ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether `id` is known.
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// What `id` holds; none if there is no such secret.
    ///
    /// # Errors
    /// When its file cannot be read, or is larger than 500 KiB.
    pub fn read(&self, id: &str) -> std::io::Result<Option<Vec<u8>>> {
        use std::io::Read;
        match self.0.get(id) {
            None => Ok(None),
            Some(SecretSource::Value(value)) => Ok(Some(value.clone())),
            Some(SecretSource::File(path)) => {
                let mut value = Vec::new();
                std::fs::File::open(path)?.take(MAX_SECRET_BYTES + 1).read_to_end(&mut value)?;
                match value.len() as u64 > MAX_SECRET_BYTES {
                    true => Err(std::io::Error::other("expected a secret of at most 500 KiB")),
                    false => Ok(Some(value)),
                }
            }
        }
    }
}

impl FromIterator<(String, SecretSource)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, SecretSource)>>(secrets: I) -> Secrets {
        Secrets(secrets.into_iter().collect())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
