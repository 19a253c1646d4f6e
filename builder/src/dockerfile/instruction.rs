//! The tree of a Dockerfile: its instructions, typed, with the place each came from.
//!
//! Here live the nouns only. Reading them from text is `parse.rs`, replacing variables is `expand.rs`,
//! deciding what an instruction does to an image is the builder's lowering.
//!
//! Invariants:
//! * A [`Word`] holds the text as written: quotes, escapes and `$variables` still stand in it. A field that
//!   is a plain `String` is final: nothing in it is ever expanded.
//! * Flags have been checked: a value of these types never holds an unknown, doubled or misplaced flag.
//! * The first instruction that is not an `ARG` is a `FROM`, and there is at least one `FROM`.

use std::time::Duration;

use super::diagnostic::{Diagnostic, Pos, Span};
pub use super::mount::{Mount, MountKind, MountOption, MountSpec, Sharing};
pub use super::word::Word;

/// A parsed Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives of the first lines.
    pub directives: Directives,
    /// All instructions, in the order of the file.
    pub instructions: Vec<Instruction>,
    /// What is accepted but doubtful.
    pub warnings: Vec<Diagnostic>,
}

/// The parser directives: `# syntax=`, `# escape=`, `# check=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend asked for. lbuild reads every file with its own parser and only remembers this.
    pub syntax: Option<Word>,
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// The settings of the lint rules.
    pub check: Option<Word>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// One instruction with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// From the keyword to the last byte, bodies of heredocs included.
    pub span: Span,
    /// The keyword as written, in the author's casing.
    pub keyword: Word,
    /// The comment lines directly above, without `#` and its blanks.
    pub comments: Vec<String>,
    /// The logical line: continuations joined, comments inside it dropped, heredoc bodies left out.
    pub text: String,
    /// What it says.
    pub kind: InstructionKind,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstructionKind {
    /// `FROM` begins a stage.
    From(FromInstruction),
    /// `RUN` executes a command.
    Run(RunInstruction),
    /// `COPY` copies files from the context, a stage or an image.
    Copy(CopyInstruction),
    /// `ADD` copies files, unpacks archives, fetches URLs.
    Add(AddInstruction),
    /// `ENV` sets variables. Keys and values are expanded against the environment before the instruction.
    Env(Vec<Pair>),
    /// `ARG` declares build arguments.
    Arg(Vec<Argument>),
    /// `LABEL` sets labels. Keys and values are expanded.
    Label(Vec<Pair>),
    /// `USER user[:group]`, expanded.
    User(Word),
    /// `WORKDIR`, expanded.
    Workdir(Word),
    /// `CMD`.
    Cmd(Command),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `EXPOSE`; each is expanded and split into words again afterwards.
    Expose(Vec<Word>),
    /// `VOLUME`; each is expanded.
    Volume(Vec<Word>),
    /// `STOPSIGNAL`, expanded.
    StopSignal(Word),
    /// `SHELL`, at least one argument.
    Shell(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `ONBUILD`.
    OnBuild(OnBuild),
    /// `MAINTAINER`, never expanded.
    Maintainer(Word),
}

impl InstructionKind {
    /// The instruction's name in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::From(_) => "FROM",
            Self::Run(_) => "RUN",
            Self::Copy(_) => "COPY",
            Self::Add(_) => "ADD",
            Self::Env(_) => "ENV",
            Self::Arg(_) => "ARG",
            Self::Label(_) => "LABEL",
            Self::User(_) => "USER",
            Self::Workdir(_) => "WORKDIR",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Expose(_) => "EXPOSE",
            Self::Volume(_) => "VOLUME",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::Shell(_) => "SHELL",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::OnBuild(_) => "ONBUILD",
            Self::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// A command in one of its two forms. Neither is ever expanded by the builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Text for the stage's shell.
    Shell(String),
    /// The argument vector, from a JSON array.
    Exec(Vec<String>),
}

/// `FROM [--platform=P] BASE [AS NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInstruction {
    /// `--platform`, expanded with the global arguments.
    pub platform: Option<Word>,
    /// An image, an earlier stage or `scratch`, expanded with the global arguments.
    pub base: Word,
    /// `AS name`.
    pub name: Option<StageName>,
}

/// The name that `AS` gives to a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageName {
    /// The name in lower case, as it is looked up.
    pub name: String,
    /// The name as written.
    pub written: Word,
    /// The word `AS` as written.
    pub keyword: Word,
}

/// `RUN`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// What is executed.
    pub command: RunCommand,
    /// `--mount`, in the order given.
    pub mounts: Vec<Mount>,
    /// `--network`, if given.
    pub network: Option<NetworkMode>,
    /// `--security`, if given.
    pub security: Option<SecurityMode>,
    /// `--device`.
    pub devices: Vec<Device>,
}

/// The three things that `RUN` can be asked to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// Text for the stage's shell. With heredocs among other words it is the line, then bodies and
    /// terminators.
    Shell(String),
    /// The argument vector, from a JSON array; at least one argument.
    Exec(Vec<String>),
    /// The whole command is one heredoc.
    Script(Script),
}

/// `RUN <<NAME`: the body is the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The heredoc's name; a script with a `#!` line is the file `/dev/pipes/<name>`.
    pub name: String,
    /// The command as written, for example `<<EOF`.
    pub line: String,
    /// The body, its leading tabs dropped if `<<-` asked for that. Never expanded by the builder.
    pub body: String,
    /// Whether the body starts with `#!`: then it is a file to execute, else text for the shell.
    pub shebang: bool,
}

/// `RUN --network`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// The network that the build was started with.
    Default,
    /// Loopback only.
    None,
    /// The host's own.
    Host,
}

/// `RUN --security`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityMode {
    /// The ordinary sandbox.
    Sandbox,
    /// All capabilities; needs an entitlement.
    Insecure,
}

/// `RUN --device=NAME[,required[=BOOL]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The name of a CDI device.
    pub name: Word,
    /// Whether the build fails without it.
    pub required: bool,
}

/// `COPY`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// `--from`: a stage's name or number, an image or a named context.
    pub from: Option<Word>,
    /// `--chown`, expanded.
    pub chown: Option<Word>,
    /// `--chmod`, expanded.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, in the order given.
    pub exclude: Vec<Word>,
    /// What is copied; at least one.
    pub sources: Vec<CopySource>,
    /// Where to, expanded.
    pub destination: Word,
}

/// `ADD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddInstruction {
    /// `--chown`, expanded.
    pub chown: Option<Word>,
    /// `--chmod`, expanded.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--keep-git-dir`, if given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`, expanded.
    pub checksum: Option<Word>,
    /// `--unpack`, if given.
    pub unpack: Option<bool>,
    /// `--exclude`, in the order given.
    pub exclude: Vec<Word>,
    /// What is added; at least one.
    pub sources: Vec<CopySource>,
    /// Where to, expanded.
    pub destination: Word,
}

/// A source of `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, a wildcard or (for `ADD`) a URL; expanded.
    Path(Word),
    /// A file written in the Dockerfile itself.
    Heredoc(Heredoc),
}

/// A heredoc: `[FD]<<[-]NAME`, its body on the lines below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, unquoted: also the terminator and, for `COPY`, the name of the file.
    pub name: String,
    /// Whether variables in the body are expanded: no part of the name was quoted. Always with `\` as the
    /// escape, and with quotes left alone.
    pub expand: bool,
    /// `<<-`: tabs at the head of each line do not belong to the body.
    pub strip_tabs: bool,
    /// The number before `<<`, 0 if there is none.
    pub file_descriptor: u32,
    /// The body as it stands in the file, every line with its end. See [`Heredoc::body`].
    pub content: String,
    /// The body's place in the source.
    pub span: Span,
}

impl Heredoc {
    /// The place of the character at the byte `offset` of [`Heredoc::body`].
    pub fn at(&self, offset: usize) -> Span {
        let mut left = offset;
        let mut source_offset = self.span.start.offset as usize;
        for (line, text) in (self.span.start.line..).zip(self.content.split_inclusive('\n')) {
            let tabs = if self.strip_tabs { text.len() - text.trim_start_matches('\t').len() } else { 0 };
            if left < text.len() - tabs {
                let before = text.get(..tabs + left).unwrap_or(text);
                let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
                let start = Pos {
                    offset: narrow(source_offset + before.len()),
                    line,
                    column: narrow(before.chars().count() + 1),
                };
                let length = text[before.len()..].chars().next().map_or(0, char::len_utf8);
                let end = Pos { offset: start.offset + narrow(length), column: start.column + 1, ..start };
                return Span { start, end };
            }
            left -= text.len() - tabs;
            source_offset += text.len();
        }
        self.span
    }

    /// The body, without the tabs that `<<-` drops.
    pub fn body(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// One `key=value` of `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Word,
    /// The value.
    pub value: Word,
    /// Written as `KEY value` without `=`.
    pub legacy: bool,
}

/// One declaration of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The name. It is expanded as well, so that quotes round it go.
    pub name: Word,
    /// The text after `=`, if there is a `=`; expanded only when it is used.
    pub default: Option<Word>,
}

/// `HEALTHCHECK`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE` disables the check of the base image.
    None,
    /// `HEALTHCHECK [flags] CMD command`
    Check(HealthcheckCommand),
}

/// The command form of `HEALTHCHECK`. An absent or zero time means: inherit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthcheckCommand {
    /// `--interval`
    pub interval: Option<Duration>,
    /// `--timeout`
    pub timeout: Option<Duration>,
    /// `--start-period`
    pub start_period: Option<Duration>,
    /// `--start-interval`
    pub start_interval: Option<Duration>,
    /// `--retries`
    pub retries: Option<u32>,
    /// The command.
    pub test: Command,
}

/// `ONBUILD`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnBuild {
    /// The text stored in the image: the trigger instruction, bodies of heredocs attached.
    pub trigger: String,
    /// The same, parsed; its spans point into this file. Never `FROM`, `MAINTAINER` or `ONBUILD`.
    pub instruction: Box<Instruction>,
}

/// A Dockerfile seen as stages.
#[derive(Debug, Clone)]
pub struct Stages<'a> {
    /// The `ARG` instructions before the first `FROM`.
    pub global_arguments: &'a [Instruction],
    /// The stages, in the order of the file; at least one.
    pub stages: Vec<Stage<'a>>,
}

/// One stage: a `FROM` and all up to the next.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// The stage's number, from 0.
    pub index: usize,
    /// Its name in lower case.
    pub name: Option<&'a str>,
    /// What its `FROM` says.
    pub from: &'a FromInstruction,
    /// The `FROM` instruction, for its span and comments.
    pub head: &'a Instruction,
    /// The instructions after `FROM`.
    pub instructions: &'a [Instruction],
}

impl Dockerfile {
    /// Groups the instructions into stages.
    pub fn stages(&self) -> Stages<'_> {
        let is_from = |instruction: &Instruction| matches!(instruction.kind, InstructionKind::From(_));
        let heads: Vec<usize> =
            (0..self.instructions.len()).filter(|&at| is_from(&self.instructions[at])).collect();
        let mut stages = Vec::with_capacity(heads.len());
        for (index, &at) in heads.iter().enumerate() {
            let end = heads.get(index + 1).copied().unwrap_or(self.instructions.len());
            let head = &self.instructions[at];
            let InstructionKind::From(from) = &head.kind else { continue };
            let name = from.name.as_ref().map(|name| name.name.as_str());
            let instructions = &self.instructions[at + 1..end];
            stages.push(Stage { index, name, from, head, instructions });
        }
        let first = heads.first().copied().unwrap_or(self.instructions.len());
        Stages { global_arguments: &self.instructions[..first], stages }
    }
}
