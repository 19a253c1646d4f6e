//! The plan: stages of explicit steps. No string in it still needs parsing or expanding.
//!
//! Made by `lower`, carried out by `solve`. Only what makes a layer is a step; everything else an instruction
//! does is already in the stage's configuration and history.

use std::path::PathBuf;

use layerfs::layer::pack::PackOptions;
use oci::{ContainerConfig, Platform, Reference};

use crate::dockerfile::diagnostic::Span;
use crate::dockerfile::instruction::Sharing;
use crate::remote::Remote;
use crate::request::Network;

/// An index into [`Plan::stages`].
pub type StageId = usize;

/// All stages that the target needs, each after those it stands on.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stages.
    pub stages: Vec<Stage>,
    /// The one that was asked for.
    pub target: StageId,
    /// How many stages the Dockerfile has.
    pub stages_in_file: usize,
    /// No time in the image is later than this, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Whether access control lists are in the image's layers.
    pub acls: bool,
}

impl Plan {
    /// How snapshots become layers.
    pub fn packing(&self) -> PackOptions {
        PackOptions { epoch: self.epoch, acls: self.acls }
    }
}

/// One stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name, or its number in the file.
    pub name: String,
    /// The platform that its commands run on.
    pub platform: Platform,
    /// What it starts from.
    pub base: Base,
    /// What makes its layers, in order.
    pub steps: Vec<Step>,
    /// Whether its steps execute whatever the cache holds.
    pub no_cache: bool,
    /// How to run the image that it makes.
    pub config: ContainerConfig,
    /// `MAINTAINER`
    pub author: Option<String>,
    /// Its own lines of history, in order; those of its base come before them.
    pub history: Vec<HistoryLine>,
    /// Where its `FROM` stands.
    pub span: Span,
}

impl Stage {
    /// The number of a step as people count, and how many there are: a base image is the first.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let base = usize::from(matches!(self.base, Base::Image(_)));
        (at + 1 + base, self.steps.len() + base)
    }
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image.
    Image(ImageRef),
    /// An earlier stage.
    Stage(StageId),
}

/// An image of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Its name.
    pub reference: Reference,
    /// Which of the images of that name.
    pub platform: Platform,
}

/// One line of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// The instruction, as BuildKit writes it.
    pub created_by: String,
    /// Whether one of the steps belongs to it.
    pub has_layer: bool,
}

/// Something that makes a layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// The instruction.
    pub span: Span,
    /// The instruction's text on one line, for progress and errors.
    pub text: String,
    /// What is done.
    pub kind: StepKind,
}

impl Step {
    /// Gives everything in it the place `span`.
    pub fn relocate(&mut self, span: Span) {
        self.span = span;
        let inputs: Vec<&mut Input> = match &mut self.kind {
            StepKind::Run(run) => {
                run.mounts.iter_mut().for_each(|mount| mount.span = span);
                run.mounts.iter_mut().filter_map(Mount::input_mut).collect()
            }
            StepKind::Copy(copy) => copy.inputs.iter_mut().collect(),
            StepKind::Workdir(_) => Vec::new(),
        };
        for (_, place) in inputs.into_iter().flat_map(|input| &mut input.paths) {
            *place = span;
        }
    }

    /// The files from elsewhere that it reads.
    pub fn inputs(&self) -> Vec<&Input> {
        match &self.kind {
            StepKind::Run(run) => run.mounts.iter().filter_map(|mount| mount.input()).collect(),
            StepKind::Copy(copy) => copy.inputs.iter().collect(),
            StepKind::Workdir(_) => Vec::new(),
        }
    }
}

/// The kinds of steps.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// `RUN`
    Run(Run),
    /// `COPY` and `ADD`
    Copy(Copy),
    /// `WORKDIR`
    Workdir(Workdir),
}

/// Files from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Where from.
    pub origin: Origin,
    /// `--from` as written.
    pub from: Option<String>,
    /// Paths and wildcards, as expanded, each with its place.
    pub paths: Vec<(String, Span)>,
    /// Archives among them are unpacked.
    pub unpack: bool,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The build context.
    Context,
    /// A directory that `--build-context` names.
    Named(String),
    /// Nothing.
    Scratch,
    /// An earlier stage.
    Stage(StageId),
    /// An image.
    Image(ImageRef),
    /// A URL or a repository.
    Remote(Remote),
    /// The Dockerfile itself: heredocs.
    Inline(Vec<InlineFile>),
}

/// A file written in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub content: String,
}

/// A command.
#[derive(Debug, Clone)]
pub struct Run {
    /// The argument vector.
    pub args: Vec<String>,
    /// A heredoc with a `#!` line: a file that the command finds at a path of its own.
    pub script: Option<Script>,
    /// The environment, in order of definition.
    pub env: Vec<(String, String)>,
    /// Proxy settings that were not declared: in the environment, but neither in the key nor in history.
    pub proxy_env: Vec<(String, String)>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// The network.
    pub network: Network,
    /// `--security=insecure`, where the request allows it.
    pub insecure: bool,
    /// `--mount`
    pub mounts: Vec<Mount>,
}

/// An executable file that is there for one command and in no layer.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Something that one command finds in its file system and that is in no layer.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The flag.
    pub span: Span,
    /// What.
    pub kind: MountKind,
}

impl Mount {
    /// The files from elsewhere that it shows or starts with.
    pub fn input(&self) -> Option<&Input> {
        match &self.kind {
            MountKind::Bind { input, .. } => Some(input),
            MountKind::Cache { seed, .. } => seed.as_ref(),
            MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        }
    }

    fn input_mut(&mut self) -> Option<&mut Input> {
        match &mut self.kind {
            MountKind::Bind { input, .. } => Some(input),
            MountKind::Cache { seed, .. } => seed.as_mut(),
            MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        }
    }
}

/// Permissions and owner of a file or directory that a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The kinds of mounts; all targets are absolute and clean.
#[derive(Debug, Clone)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where.
        target: PathBuf,
        /// Which: one path.
        input: Input,
        /// Writes are possible, and thrown away.
        writable: bool,
    },
    /// A directory that is kept between builds.
    Cache {
        /// Where.
        target: PathBuf,
        /// Its name.
        id: String,
        /// What a new one starts with.
        seed: Option<Input>,
        /// The directory in it that is shown.
        source: PathBuf,
        /// Writes are refused.
        read_only: bool,
        /// Who may use it at once.
        sharing: Sharing,
        /// How a new one's root is made.
        access: Access,
    },
    /// Memory.
    Tmpfs {
        /// Where.
        target: PathBuf,
        /// How much.
        size_bytes: Option<u64>,
    },
    /// A secret.
    Secret {
        /// Which.
        id: String,
        /// The file that holds it.
        target: Option<PathBuf>,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether it is an error that there is none.
        required: bool,
        /// How the file is made.
        access: Access,
    },
    /// The socket of an agent.
    Ssh {
        /// Which.
        id: String,
        /// Where.
        target: PathBuf,
        /// Whether it is an error that there is none.
        required: bool,
        /// How the socket is made.
        access: Access,
    },
}

/// Files from elsewhere, into the image.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Which files, in the order in which they are copied.
    pub inputs: Vec<Input>,
    /// Where to: absolute, its trailing slash kept.
    pub destination: String,
    /// `--chown`; the source's owner (for what is no file system of an image, root) if there is none.
    pub owner: Option<String>,
    /// `--chmod`
    pub mode: Option<String>,
    /// `--link`: the layer does not depend on what is below it.
    pub link: bool,
    /// `--parents`: sources keep their paths.
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<String>,
}

impl Copy {
    /// Whether its layer depends on nothing below it. `--chmod` undoes `--link`, as in BuildKit.
    pub fn is_independent(&self) -> bool {
        self.link && self.mode.is_none()
    }
}

/// A directory that must exist.
#[derive(Debug, Clone)]
pub struct Workdir {
    /// The path, absolute and clean.
    pub path: PathBuf,
    /// Who owns it if it is made.
    pub user: String,
}
