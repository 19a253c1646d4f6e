//! What was typed. The comments on the fields are the help text; no work is done here.
//!
//! `lbuild CONTEXT` without a verb builds: [`parse`] puts the verb in where the first word is none. The options of
//! `build` are in a file of their own.

mod archive;
mod build;
mod files;
mod guide;
mod registry;
mod store;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use builder::dockerfile::diagnostic::suggest;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use layerfs::snapshot::Choice;
use oci::{Platform, Reference};

pub(crate) use archive::{CompressionArgs, ExportArgs, ImportArgs, LoadArgs, SaveArgs, SaveFormat};
pub(crate) use build::{AttestAs, BuildArgs, OutputArgs, StepArgs};
pub(crate) use files::{CatArgs, DiffArgs, LayerRange, LsArgs, MadeArgs, RebaseArgs, SquashArgs};
pub(crate) use registry::{
    CopyArgs, LoginArgs, LogoutArgs, ManifestAnnotateArgs, ManifestCreateArgs, ManifestInspectArgs,
    ManifestPushArgs, ManifestRmArgs, ManifestVerb, ServeArgs, TagsArgs,
};
pub(crate) use store::{DuArgs, FsckArgs, PruneArgs};

use crate::value::{Bytes, CacheFilter, NanoCpus, Pair, Volume};

/// Builds container images from Dockerfiles, moves them, and runs them. No daemon.
///
/// `lbuild CONTEXT` is short for `lbuild build CONTEXT`.
#[derive(Debug, Parser)]
#[command(name = "lbuild", version, propagate_version = false, arg_required_else_help = true)]
pub(crate) struct CommandLine {
    /// Where images, layers and the cache are kept [default: $LBUILD_ROOT, else /var/lib/lbuild as root and
    /// the XDG data directory otherwise]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// What makes the file systems of steps and containers: overlay, fuse-overlayfs, copy, or auto for the first that
    /// works here [default: $LBUILD_SNAPSHOTTER, else auto]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) snapshotter: Option<Choice>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Run a program in a new container
    Run(Box<RunArgs>),
    /// Send an image to a registry
    Push(PushArgs),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// List the images in the store
    Images(ImagesArgs),
    /// Remove images from the store
    Rmi(RmiArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Show all that is known of images, as JSON
    Inspect(InspectArgs),
    /// List files of an image
    Ls(LsArgs),
    /// Print files of an image
    Cat(CatArgs),
    /// Show what differs between images, or what an image adds to its base
    Diff(DiffArgs),
    /// Make one layer of several
    Squash(SquashArgs),
    /// Put an image on another base
    Rebase(RebaseArgs),
    /// Write images of the store to an archive or a directory
    Save(SaveArgs),
    /// Read images from an archive or a directory
    Load(LoadArgs),
    /// Make an image of a file system
    Import(ImportArgs),
    /// Write the files of an image to an archive
    Export(ExportArgs),
    /// Copy an image between registries, layouts and the store
    Copy(CopyArgs),
    /// List the tags of a repository
    Tags(TagsArgs),
    /// Make an index of images that are in registries
    #[command(subcommand)]
    Manifest(ManifestVerb),
    /// Keep a registry's account
    Login(LoginArgs),
    /// Forget a registry's account
    Logout(LogoutArgs),
    /// Be a registry: push to the store, and pull from it
    Serve(ServeArgs),
    /// Show and free what builds keep for later ones
    #[command(subcommand)]
    Cache(CacheVerb),
    /// Free what builds keep for later ones, and what nothing refers to
    Prune(PruneArgs),
    /// Show what takes the disk
    Du(DuArgs),
    /// Look for damage in the store
    Fsck(FsckArgs),
    /// Show the version
    Version(VersionArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// List the directories of `RUN --mount=type=cache`
    Ls(CacheLsArgs),
    /// Remove the directories of `RUN --mount=type=cache` that no build uses
    Prune(CachePruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Remove the container when it ends; for now this is always so
    #[arg(long)]
    pub(crate) rm: bool,
    /// Pass standard input on to the program
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Environment variable; `NAME` alone takes it from the environment; may be repeated
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<Pair>,
    /// Directory or file of the host to show in the container; may be repeated
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    pub(crate) volumes: Vec<Volume>,
    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
    /// User to run as: a name or number, and a group after a colon
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Program to run in place of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Network of the container
    #[arg(long, value_enum, default_value_t = Network::Host)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// How many processes and threads there may be
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Let the container change nothing in its root file system
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Capability to add, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Capability to drop, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Host name of the container [default: made up]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Platform to pull where the image is absent
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Name, id or digest of the image; then a program and arguments in place of the image's
    // One argument of clap's: what stands behind the image is the program's, whatever it looks like.
    #[arg(value_names = ["IMAGE", "CMD"], num_args = 1.., required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl RunArgs {
    /// Name, id or digest of the image.
    pub(crate) fn image(&self) -> &str {
        &self.words[0]
    }

    /// Program and arguments in place of the image's.
    pub(crate) fn command(&self) -> &[String] {
        &self.words[1..]
    }
}

#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Memory limit, such as 512m
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<Bytes>,
    /// Processor limit, such as 1.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<NanoCpus>,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RegistryArgs {
    /// Certificate authorities to trust beside the system's, in PEM; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Vec<PathBuf>,
    /// Registry that may speak plain HTTP or have any certificate; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// Name of the image in the store and in the registry
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Reference,
    /// How often a request that failed is tried again [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) push_retry: Option<u32>,
    #[command(flatten)]
    pub(crate) compression: CompressionArgs,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Name of the image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) name: Reference,
    /// Platform to fetch [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Keep what refers to it, too: signatures, bills of materials; `push`, `save` and `copy` then send them along
    #[arg(long)]
    pub(crate) referrers: bool,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,
    /// Print the image's digest and nothing else
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Only images of this name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
    /// Print ids alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Names, ids or digests
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Remove an image with all its names; one that does not exist is no error
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Its further name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Reference,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Name, id or digest of the image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Print ids and commands whole
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show what each layer holds, what it hides of lower ones, and what is wasted by that
    #[arg(long)]
    pub(crate) sizes: bool,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names, ids or digests; with `--raw` also `docker://NAME` and `oci:DIR[:TAG]`
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Show the manifest or index, byte for byte
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    /// Form of the answer; there is one
    #[arg(long, value_enum, default_value_t = JsonOnly::Json)]
    pub(crate) format: JsonOnly,
}

#[derive(Debug, Args)]
pub(crate) struct CacheLsArgs {
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CachePruneArgs {
    /// Only the directory of this id; may be repeated
    #[arg(long = "id", value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Also forget all steps that are part of no image
    #[arg(short, long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// `id=ID` or `type=exec.cachemount`, as Docker has it; may be repeated
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<CacheFilter>,
    /// Accepted because Docker has it: nothing is asked anyhow
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// The host's own
    #[value(alias = "default")]
    Host,
    /// Loopback only
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A live display on a terminal, plain lines elsewhere
    Auto,
    /// Lines, each with its step's number
    Plain,
    /// A live display
    Tty,
    /// Nothing
    Quiet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonOnly {
    /// For programs
    Json,
}

/// Reads a command line, program name first.
///
/// # Errors
/// clap's, help and version among them.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let implied = verb_place(&words);
    if let Some(at) = implied {
        words.insert(at, "build".into());
    }
    let mut line = CommandLine::try_parse_from(&words).map_err(|error| match implied {
        Some(at) if error.exit_code() != 0 => misspelt(&words[at + 1]).unwrap_or(error),
        _ => guide::guide(error, is_run(words.iter().cloned())),
    })?;
    if let Verb::Build(build) = &mut line.verb {
        build.verb_implied = implied.is_some();
    }
    Ok(line)
}

/// Where the verb `build` is missing; none if there is a verb, or nothing that wants one.
fn verb_place(words: &[OsString]) -> Option<usize> {
    let at = first_word(words)?;
    let is_complete = |word: &str| matches!(word, "-h" | "--help" | "-V" | "--version") || is_verb(word);
    (!words[at].to_str().is_some_and(is_complete)).then_some(at)
}

/// Where the verb is, or what stands in its place.
///
/// Only `--root` and `--snapshotter` may stand before a verb, so that the value of another option is never taken for
/// one.
fn first_word(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        match words.get(at)?.to_str() {
            Some("--root" | "--snapshotter") => at += 2,
            Some(word) if word.starts_with("--root=") || word.starts_with("--snapshotter=") => at += 1,
            _ => return Some(at),
        }
    }
}

/// A better error than clap's for a line that does not parse as a build, if its first word is like a verb.
fn misspelt(word: &OsStr) -> Option<clap::Error> {
    let word = word.to_str()?;
    let verbs = verbs();
    let verb = suggest(word, verbs.iter().map(String::as_str))?;
    let message = format!("unknown verb `{word}`: did you mean `lbuild {verb}`?");
    Some(CommandLine::command().error(ErrorKind::InvalidSubcommand, message))
}

/// All verbs, for the question whether a word was meant to be one.
pub(crate) fn verbs() -> Vec<String> {
    CommandLine::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect()
}

fn is_verb(word: &str) -> bool {
    word == "help" || CommandLine::command().get_subcommands().any(|verb| verb.get_name() == word)
}

/// Whether a command line that clap refused was for `run`, whose own failures have Docker's code.
pub(crate) fn is_run(words: impl IntoIterator<Item = OsString>) -> bool {
    let words: Vec<OsString> = words.into_iter().collect();
    first_word(&words).is_some_and(|at| words[at] == "run")
}

#[cfg(test)]
mod tests;
