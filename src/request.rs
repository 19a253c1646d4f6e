//! What was typed, resolved to what it means: paths opened, files read, defaults filled in.
//!
//! In two steps. [`Order::of`] needs neither the store nor the network: it finds what is on this machine, so that
//! most mistakes are told before anything begins. [`Order::gather`] fetches the rest. Then there is one
//! [`builder::Request`] for each platform, and a [`Delivery`] that says what becomes of the images.

mod deliver;
mod gather;
mod lent;
mod named;
mod place;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;

use builder::deliver::Level;
use builder::remote::{FetcherOptions, Remote};
use builder::{Files, HostFiles, NamedContext, NoCache, RunSettings, Secrets};
use oci::Platform;

use crate::args::{self, BuildArgs, LimitArgs, StepArgs};
use crate::failure::Failure;
use crate::home::Environment;
use crate::host;
use crate::value::{Annotation, Bytes, Entitlement, NanoCpus, Pair, Resources, Target, Ulimit};
use named::NamedPlace;
use place::{ContextPlace, DockerfilePlace};

pub(crate) use deliver::Delivery;
pub(crate) use gather::Gatherer;
pub(crate) use text::Dockerfile;

/// The build argument and variable that limits times; <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What `lbuild build` was asked for, as far as this machine can tell.
pub(crate) struct Order<'a> {
    args: &'a BuildArgs,
    context: ContextPlace,
    dockerfile: DockerfilePlace,
    contexts: Vec<(String, Option<Platform>, NamedPlace)>,
    build_args: BTreeMap<String, String>,
    epoch: Option<i64>,
    secrets: Secrets,
    agents: BTreeMap<String, PathBuf>,
    platforms: Vec<Platform>,
}

/// What a build reads, all of it here.
pub(crate) struct Material {
    pub(crate) dockerfile: Dockerfile,
    context: Files,
    contexts: Vec<(String, Option<Platform>, NamedContext)>,
}

impl<'a> Order<'a> {
    /// Resolves the arguments of `lbuild build`.
    ///
    /// # Errors
    /// The first path or value that is not what it should be.
    pub(crate) fn of(args: &'a BuildArgs, environment: &Environment) -> Result<Order<'a>, Failure> {
        if let Some((option, instead)) = args.unsupported.first() {
            return Err(Failure::usage(format!("`{option}` is not supported yet")).hint(instead));
        }
        let mut build_args = build_args(&args.input.build_args, environment);
        let (context, dockerfile) = place::locate(args, &build_args)?;
        let named = args.input.contexts.iter();
        let contexts = named.map(|arg| Ok((arg.name.clone(), arg.platform.clone(), named::locate(arg)?)));
        let contexts = contexts.collect::<Result<_, Failure>>()?;
        let epoch = epoch(args.image.source_date_epoch, &build_args, environment)?;
        if let Some(seconds) = epoch {
            // A Dockerfile that declares it sees it, wherever it was said.
            build_args.entry(EPOCH.to_owned()).or_insert_with(|| seconds.to_string());
        }
        step_limits(&args.step).check().map_err(Failure::usage)?;
        Ok(Order {
            args,
            context,
            dockerfile,
            contexts,
            build_args,
            epoch,
            secrets: lent::secrets(&args.step.secrets, environment)?,
            agents: lent::agents(&args.step.agents, environment)?,
            platforms: platforms(&args.input.platforms),
        })
    }

    /// What to build for; never empty, without repetition.
    pub(crate) fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// How to fetch: with the agent that was lent, and as the user from the repositories that are contexts.
    pub(crate) fn fetching(&self, environment: &Environment) -> FetcherOptions {
        let named = self.contexts.iter().filter_map(|(_, _, place)| place.remote());
        let repository = |remote: &Remote| match remote {
            Remote::Git(source) => Some(source.remote.clone()),
            Remote::Http(_) => None,
        };
        let own = self.context.remote().into_iter().chain(named).filter_map(repository).collect();
        environment.fetching(self.agents.get("default").cloned(), own)
    }

    /// What the builder is asked for `platform`.
    pub(crate) fn request(&self, material: &Material, platform: &Platform) -> builder::Request {
        let args = self.args;
        builder::Request {
            dockerfile_name: material.dockerfile.name.clone(),
            dockerfile: material.dockerfile.text.clone(),
            context: material.context.clone(),
            context_uri: self.context.remote().map(Remote::to_string),
            contexts: material.contexts_for(platform),
            target: args.input.target.clone(),
            build_args: self.build_args.clone(),
            labels: args.image.labels.iter().map(label).collect(),
            annotations: annotations(&args.image.annotations, Level::Manifest, Some(platform)),
            platform: platform.clone(),
            platform_is_explicit: !args.input.platforms.is_empty(),
            no_cache: match (args.course.no_cache, &args.course.no_cache_filter) {
                (true, _) => NoCache::Always,
                (false, stages) if stages.is_empty() => NoCache::Never,
                (false, stages) => NoCache::Stages(stages.iter().map(|name| name.to_lowercase()).collect()),
            },
            pull: args.course.pull,
            run: run_settings(&args.step),
            secrets: self.secrets.clone(),
            ssh: self.agents.clone(),
            allow_insecure: args.step.allow.contains(&Entitlement::SecurityInsecure),
            allow_network_host: args.step.allow.contains(&Entitlement::NetworkHost),
            epoch: self.epoch,
            layers_leave_as: None,
            acls: args.image.acls,
            jobs: args.course.jobs.unwrap_or_else(default_jobs),
        }
    }
}

/// Many steps wait for networks and disks, so there are more of them than processors; but a build with a hundred
/// stages must not start a hundred compilers.
fn default_jobs() -> NonZeroUsize {
    let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    processors.saturating_mul(NonZeroUsize::MIN.saturating_add(3))
}

impl Material {
    /// A name that was given for one platform goes before the same name for all.
    fn contexts_for(&self, platform: &Platform) -> BTreeMap<String, NamedContext> {
        let of = |only: Option<&Platform>| {
            let wanted = self.contexts.iter().filter(move |(_, found, _)| found.as_ref() == only);
            wanted.map(|(name, _, context)| (name.clone(), context.clone())).collect::<Vec<_>>()
        };
        of(None).into_iter().chain(of(Some(platform))).collect()
    }
}

impl fmt::Display for ContextPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContextPlace::Directory(root) => write!(f, "`{}`", root.display()),
            ContextPlace::Nothing | ContextPlace::Archive { .. } => {
                f.write_str("the archive on standard input")
            }
            ContextPlace::Remote(remote) => write!(f, "`{remote}`"),
        }
    }
}

fn label(Pair { name, value }: &Pair) -> (String, String) {
    (name.clone(), value.clone().unwrap_or_default())
}

/// Puts on the index's entry for an image what `--annotation manifest-descriptor:` says.
pub(crate) fn annotate_entry(order: &Order<'_>, platform: &Platform, entry: &mut oci::Descriptor) {
    let asked = &order.args.image.annotations;
    entry.annotations.extend(annotations(asked, Level::ManifestDescriptor, Some(platform)));
}

/// The annotations of `level` that are for `platform` or for all.
fn annotations(asked: &[Annotation], level: Level, platform: Option<&Platform>) -> Vec<(String, String)> {
    let is_meant = |annotation: &&Annotation| {
        let mut levels = annotation.levels.iter().filter(|(found, _)| *found == level);
        levels.any(|(_, only)| only.is_none() || only.as_ref() == platform)
    };
    asked.iter().filter(is_meant).map(|Annotation { key, value, .. }| (key.clone(), value.clone())).collect()
}

/// A name without a value takes the environment's; without that it is not set at all.
fn build_args(pairs: &[Pair], environment: &Environment) -> BTreeMap<String, String> {
    let value = |pair: &Pair| pair.value.clone().or_else(|| environment.get(&pair.name).map(str::to_owned));
    pairs.iter().filter_map(|pair| Some((pair.name.clone(), value(pair)?))).collect()
}

/// The flag, else the build argument, else the environment.
fn epoch(
    flag: Option<i64>,
    build_args: &BTreeMap<String, String>,
    environment: &Environment,
) -> Result<Option<i64>, Failure> {
    if flag.is_some() {
        return Ok(flag);
    }
    // What a build argument says may be more than a number: the builder reads it.
    if let Some(text) = build_args.get(EPOCH) {
        return Ok(text.parse().ok());
    }
    epoch_of_environment(environment)
}

/// What the environment says, where nothing else can.
///
/// # Errors
/// When it is no number.
pub(crate) fn epoch_of_environment(environment: &Environment) -> Result<Option<i64>, Failure> {
    let text = environment.get(EPOCH);
    let seconds = |text: &str| {
        text.parse()
            .map_err(|_| Failure::usage(format!("expected `{EPOCH}` in seconds since 1970, found `{text}`")))
    };
    text.filter(|text| !text.is_empty()).map(seconds).transpose()
}

/// Each once, in the order given; this machine's where none is.
fn platforms(asked: &[Target]) -> Vec<Platform> {
    let mut platforms: Vec<Platform> = Vec::new();
    for Target(platform) in asked {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    platforms
}

/// As Docker has it, 0 is no limit, and so is a negative number of processes.
pub(crate) fn limits(args: &LimitArgs, pids: Option<i64>) -> runner::Limits {
    runner::Limits {
        memory_bytes: args.memory.map(|Bytes(bytes)| bytes).filter(|bytes| *bytes > 0),
        nano_cpus: args.cpus.map(|NanoCpus(nanos)| nanos),
        pids: pids.and_then(|pids| u64::try_from(pids).ok()).filter(|pids| *pids > 0),
        ..runner::Limits::default()
    }
}

/// `--memory` and `--cpus`, with what `--resource` says besides; the last word counts.
fn step_limits(args: &StepArgs) -> runner::Limits {
    let positive = |number: &u64| *number > 0;
    let mut limits = limits(&args.limits, None);
    for resources in &args.resources {
        let Resources {
            memory_bytes,
            memory_swap_bytes,
            cpu_shares,
            cpu_period_micros,
            cpu_quota_micros,
            cpuset_cpus,
            cpuset_mems,
        } = resources.clone();
        limits.memory_bytes = memory_bytes.filter(positive).or(limits.memory_bytes);
        limits.memory_swap_bytes = memory_swap_bytes.filter(|bytes| *bytes != 0).or(limits.memory_swap_bytes);
        limits.cpu_shares = cpu_shares.filter(positive).or(limits.cpu_shares);
        limits.cpu_period_micros = cpu_period_micros.filter(positive).or(limits.cpu_period_micros);
        limits.cpu_quota_micros = cpu_quota_micros.filter(|micros| *micros != 0).or(limits.cpu_quota_micros);
        limits.cpuset_cpus = cpuset_cpus.or(limits.cpuset_cpus);
        limits.cpuset_mems = cpuset_mems.or(limits.cpuset_mems);
    }
    limits
}

fn run_settings(args: &StepArgs) -> RunSettings {
    let network = match args.network {
        args::Network::Host => builder::Network::Host,
        args::Network::None => builder::Network::None,
    };
    RunSettings {
        network,
        limits: step_limits(args),
        host_files: HostFiles {
            hosts: host::hosts(args.network, builder::exec::HOSTNAME, &args.extra_hosts),
            resolv_conf: host::resolv_conf(args.network),
        },
        extra_hosts: args.extra_hosts.iter().map(|host| host.name.clone()).collect(),
        // As Docker has it, 0 is the default.
        shm_size_bytes: args
            .shm_size
            .map(|Bytes(bytes)| bytes)
            .filter(|bytes| *bytes > 0)
            .unwrap_or(runner::Sandbox::SHM_SIZE_BYTES),
        ulimits: args.ulimits.iter().map(|Ulimit(limit)| *limit).collect(),
        cgroup_parent: args.cgroup_parent.clone(),
    }
}

#[cfg(test)]
mod tests;
