//! The plan: stages of explicit steps. No string in it still needs parsing or expanding.
//!
//! Made by `lower`, carried out by `solve`. Only what makes a layer is a step; everything else an instruction
//! does is already in the stage's configuration and history.

use std::path::PathBuf;

use oci::{ContainerConfig, Reference};

use crate::dockerfile::diagnostic::Span;
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
}

/// One stage.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name, or its number in the file.
    pub name: String,
    /// What it starts from.
    pub base: Base,
    /// What makes its layers, in order.
    pub steps: Vec<Step>,
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
    /// The number of a step as people count, and how many there are: the base is the first, if there is one.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let base = usize::from(self.base != Base::Scratch);
        (at + 1 + base, self.steps.len() + base)
    }
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image.
    Image(Reference),
    /// An earlier stage.
    Stage(StageId),
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
}

/// An executable file that is there for one command and in no layer.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

/// Files from elsewhere.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Where from.
    pub origin: Origin,
    /// `--from` as written.
    pub from: Option<String>,
    /// Paths and wildcards, as expanded, each with its place.
    pub sources: Vec<(String, Span)>,
    /// Where to: absolute, its trailing slash kept.
    pub destination: String,
    /// `--chown`; the source's owner (for the context, root) if there is none.
    pub owner: Option<String>,
    /// `--chmod`
    pub mode: Option<String>,
    /// `ADD`: local archives are unpacked.
    pub unpack: bool,
}

/// Where `COPY` takes files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The build context.
    Context,
    /// An earlier stage.
    Stage(StageId),
    /// An image.
    Image(Reference),
}

/// A directory that must exist.
#[derive(Debug, Clone)]
pub struct Workdir {
    /// The path, absolute and clean.
    pub path: PathBuf,
    /// Who owns it if it is made.
    pub user: String,
}
