//! What a build is asked for: plain data, resolved from what was typed before it comes here.
//!
//! Nothing here is looked up: paths are absolute, files are read, the environment has been consulted.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use oci::Platform;

use crate::ignore::Ignore;

/// One build of one target for one platform.
pub struct Request {
    /// The Dockerfile's name, as messages show it.
    pub dockerfile_name: String,
    /// The Dockerfile's text.
    pub dockerfile: String,
    /// What `COPY` and `ADD` read.
    pub context: Context,
    /// The stage to build; the last one if none is named.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, in the order given.
    pub labels: Vec<(String, String)>,
    /// The platform to build for.
    pub platform: Platform,
    /// Execute every step, whatever the cache holds.
    pub no_cache: bool,
    /// Ask the registry for every base image, even where the store has one of that name.
    pub pull: bool,
    /// The network of `RUN` steps.
    pub network: Network,
    /// Limits of each `RUN` step.
    pub limits: runner::Limits,
    /// `SOURCE_DATE_EPOCH`: no time in the image is later than this, in seconds since 1970.
    pub epoch: Option<i64>,
    /// How many steps execute at once.
    pub jobs: NonZeroUsize,
    /// What `RUN` steps see as `/etc/hosts` and `/etc/resolv.conf`.
    pub host_files: HostFiles,
}

/// The build context.
pub struct Context {
    /// Its root, absolute.
    pub root: PathBuf,
    /// What is left out.
    pub ignore: Ignore,
    /// The name of the file that says so, as messages show it.
    pub ignore_name: String,
    /// The text of that file.
    pub ignore_text: String,
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
