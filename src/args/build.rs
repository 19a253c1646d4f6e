//! What may be typed behind `lbuild build`, group by group. Names, forms and defaults are `docker buildx build`'s;
//! kaniko's names stand beside them where they mean the same.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use oci::Reference;

use super::{CompressionArgs, LimitArgs, Network, Progress, RegistryArgs};
use crate::value::{
    Act, Agent, Annotation, Attest, Bytes, Call, ContextArg, Entitlement, ExtraHost, Output, Pair,
    ProvenanceArg, Resources, SbomArg, Secret, Target, Ulimit,
};

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) step: StepArgs,
    #[command(flatten)]
    pub(crate) course: CourseArgs,
    #[command(flatten)]
    pub(crate) registry: BuildRegistryArgs,
    #[command(flatten)]
    pub(crate) unsupported: UnsupportedArgs,
    /// Whether the verb was left out.
    #[arg(skip)]
    pub(crate) verb_implied: bool,
}

impl BuildArgs {
    /// `--call`, or `--check` for short.
    pub(crate) fn call(&self) -> Call {
        if self.input.check { Call { act: Act::Check, is_json: false } } else { self.input.call }
    }

    /// How registries are talked to.
    pub(crate) fn registries(&self) -> RegistryArgs {
        let mut registries = self.registry.all.clone();
        if self.registry.skip_tls_verify {
            let names = self.image.tags.iter().chain(&self.image.destinations);
            registries.insecure_registry.extend(names.map(|name| name.registry().to_owned()));
        }
        registries
    }
}

/// What is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(crate) struct InputArgs {
    /// What COPY and ADD read from: a directory, the address of a repository or an archive, or `-` for an
    /// archive or a Dockerfile on standard input
    #[arg(value_name = "CONTEXT", required_unless_present = "context_option", help_heading = None)]
    context: Option<PathBuf>,
    /// CONTEXT, by kaniko's name for it: `dir://PATH` and `tar://stdin` are understood
    #[arg(id = "context_option", long = "context", value_name = "CONTEXT", conflicts_with = "context")]
    context_option: Option<PathBuf>,
    /// The Dockerfile: a path, an address, or `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, visible_alias = "dockerfile", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Name for a directory, `docker-image://NAME`, `oci-layout://PATH[:TAG|@DIGEST]`, or the address of a
    /// repository or archive, which FROM and `--from` may use; may be repeated
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    pub(crate) contexts: Vec<ContextArg>,
    /// Value of an ARG; `NAME` alone takes it from the environment; may be repeated
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub(crate) build_args: Vec<Pair>,
    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Platform to build for, or several: the image then is an index of them [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH,…", value_delimiter = ',')]
    pub(crate) platforms: Vec<Target>,
    /// What to do: build, check, outline, targets or ast, the last four as text or as JSON
    #[arg(long, value_name = "CALL[,format=json]", default_value = "build", hide_default_value = true)]
    pub(crate) call: Call,
    /// Look for mistakes and do not build; short for `--call check`
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
}

impl InputArgs {
    /// The context, under whichever name it was given; kaniko's `dir://` and `tar://stdin` are a path and `-`.
    pub(crate) fn context(&self) -> &Path {
        if let Some(context) = &self.context {
            return context;
        }
        let context = self.context_option.as_deref().expect("clap requires one of the two");
        match context.to_str() {
            Some("tar://stdin") => Path::new("-"),
            text => text.and_then(|text| text.strip_prefix("dir://")).map_or(context, Path::new),
        }
    }
}

/// What the image is and is called.
#[derive(Debug, Args)]
#[command(next_help_heading = "Image")]
#[command(group(ArgGroup::new("names").multiple(true)))]
pub(crate) struct ImageArgs {
    /// Name of the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME:TAG", group = "names")]
    pub(crate) tags: Vec<Reference>,
    /// Name of the image, which is also sent there unless `--no-push` is given, as kaniko does; may be repeated
    #[arg(long = "destination", value_name = "NAME:TAG", group = "names")]
    pub(crate) destinations: Vec<Reference>,
    /// Label of the image; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<Pair>,
    /// Note on the manifest, or on the `index`, `manifest-descriptor` or `index-descriptor`; may be repeated
    #[arg(long = "annotation", value_name = "[TYPE:]NAME=VALUE")]
    pub(crate) annotations: Vec<Annotation>,
    /// No time in the image is later than this, in seconds since 1970 [default: $SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) source_date_epoch: Option<i64>,
    /// Put access control lists into the layers, as `tar --acls` does
    #[arg(long)]
    pub(crate) acls: bool,
}

/// Where the image goes, and what is said of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Send the image to the registry of each of its names when it is built
    #[arg(long, requires = "names", conflicts_with = "no_push")]
    pub(crate) push: bool,
    /// Send the image nowhere, whatever `--destination` says
    #[arg(long)]
    pub(crate) no_push: bool,
    /// How often a request to a registry that failed is tried again [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) push_retry: Option<u32>,
    /// Keep the image in the store, which is always done
    #[arg(long)]
    pub(crate) load: bool,
    /// What to do with the image: `type=image`, `registry`, `oci`, `docker`, `local`, `tar` or `cacheonly`, and fields
    /// such as `dest=PATH`; DIR alone takes its files, `-` is a tar of them on standard output; may be repeated
    #[arg(short, long = "output", value_name = "OUTPUT")]
    pub(crate) outputs: Vec<Output>,
    /// Write the image to a file as Docker's archive, as kaniko does; short for `-o type=docker,dest=FILE`
    #[arg(long, alias = "tarPath", value_name = "FILE")]
    pub(crate) tar_path: Option<PathBuf>,
    /// Write the image to a directory as an OCI layout, as kaniko does; short for `-o type=oci,tar=false,dest=DIR`
    #[arg(long, value_name = "DIR")]
    pub(crate) oci_layout_path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compression: CompressionArgs,
    /// Say beside the image where it came from: `min`, `max`, `true`, `false`, or `mode=…,version=v1|v0.2` [default: false]
    #[arg(long, value_name = "PROVENANCE")]
    pub(crate) provenance: Option<ProvenanceArg>,
    /// Say beside the image which packages are in it, as SPDX [default: false]
    #[arg(long, value_name = "BOOL")]
    pub(crate) sbom: Option<SbomArg>,
    /// The same in one option: `type=provenance,mode=…` or `type=sbom`; may be repeated
    #[arg(long = "attest", value_name = "type=TYPE,…")]
    pub(crate) attest: Vec<Attest>,
    /// Where that stands: in the index beside the image, or in manifests that refer to it
    #[arg(long, value_enum, default_value_t = AttestAs::Index)]
    pub(crate) attest_as: AttestAs,
    /// Write the image's digest to a file
    #[arg(long, visible_alias = "digest-file", value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,
    /// Print the image's digest and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttestAs {
    /// As BuildKit has it
    Index,
    /// The image is pushed as it is without them; registries list them by it
    Referrers,
}

/// What RUN steps see and may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "RUN steps")]
pub(crate) struct StepArgs {
    /// Network
    #[arg(long, value_enum, default_value_t = Network::Host)]
    pub(crate) network: Network,
    /// Line of /etc/hosts: a name and an address, or `host-gateway` for this machine; may be repeated
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(crate) extra_hosts: Vec<ExtraHost>,
    /// Secret for `RUN --mount=type=secret`: `id=ID,src=FILE` or `id=ID,env=NAME`; may be repeated
    #[arg(long = "secret", value_name = "SECRET")]
    pub(crate) secrets: Vec<Secret>,
    /// Agent for `RUN --mount=type=ssh`: `default`, or `ID=SOCKET`; may be repeated
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub(crate) agents: Vec<Agent>,
    /// Let a step do what it otherwise may not: `security.insecure`, `network.host`; may be repeated
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<Entitlement>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Further limits: memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems
    #[arg(long = "resource", value_name = "NAME=VALUE,…")]
    pub(crate) resources: Vec<Resources>,
    /// Limit of a process, such as nofile=1024:2048; may be repeated
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", allow_hyphen_values = true)]
    pub(crate) ulimits: Vec<Ulimit>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<Bytes>,
    /// Control group that theirs are made in
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
}

/// How the build goes about it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cache and course")]
pub(crate) struct CourseArgs {
    /// Execute every step, whatever the cache holds
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Execute every step of these stages
    #[arg(long, value_name = "STAGE,…", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registry for every base image, even where the store has it
    #[arg(long)]
    pub(crate) pull: bool,
    /// How many steps execute at once [default: four for each processor]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) jobs: Option<NonZeroUsize>,
}

fn count(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "expected a number from 1 on")
}

/// Where images come from and go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Registries")]
pub(crate) struct BuildRegistryArgs {
    #[command(flatten)]
    all: RegistryArgs,
    /// Registry to ask for Docker Hub's images before the Hub; may be repeated
    #[arg(long = "registry-mirror", value_name = "HOST[:PORT]")]
    pub(crate) mirrors: Vec<String>,
    /// Take no certificate amiss, and plain HTTP, from the registries of the image's names
    #[arg(long)]
    skip_tls_verify: bool,
}

/// What others have and this version has not: to say so is better than not to know it.
#[derive(Debug, Args)]
pub(crate) struct UnsupportedArgs {
    #[arg(long, hide = true, num_args = 1)]
    cache_from: Vec<String>,
    #[arg(long, hide = true, num_args = 1)]
    cache_to: Vec<String>,
}

impl UnsupportedArgs {
    /// The first option that cannot be served, and what may serve instead.
    pub(crate) fn first(&self) -> Option<(&'static str, &'static str)> {
        const CACHE: &str = "steps come from the store of `--root` wherever they can";
        [
            (!self.cache_from.is_empty(), "--cache-from", CACHE),
            (!self.cache_to.is_empty(), "--cache-to", CACHE),
        ]
        .into_iter()
        .find_map(|(is_there, option, instead)| is_there.then_some((option, instead)))
    }
}
