//! Why a build failed. The words for the user's terminal and the hints are the command's; here are the facts.

use std::fmt;
use std::path::PathBuf;

use oci::{Platform, Reference};

use crate::dockerfile::diagnostic::{Diagnostic, Span};
use crate::remote::FetchError;

/// A build that failed.
#[derive(Debug)]
pub enum Error {
    /// The Dockerfile is wrong, or says what this version cannot do: all that was found, with places.
    Dockerfile {
        /// What is wrong; never empty.
        diagnostics: Vec<Diagnostic>,
    },
    /// An image that the build needs cannot be had.
    Image {
        /// Its name.
        reference: Reference,
        /// Where the Dockerfile names it.
        span: Option<Span>,
        /// A stage of nearly that name, which may be what was meant.
        stage: Option<String>,
        /// Why.
        source: ImageError,
    },
    /// A command ended with another status than 0.
    Command(Box<CommandFailed>),
    /// The sandbox of a command could not be made.
    Sandbox {
        /// The instruction.
        span: Span,
        /// What it was to run on.
        platform: Platform,
        /// Why.
        source: runner::Error,
    },
    /// A secret that a command needs is not there, or cannot be read.
    Secret {
        /// The mount.
        span: Span,
        /// Which.
        id: String,
        /// Why it cannot be read; none if nobody gave it.
        source: Option<std::io::Error>,
    },
    /// An agent that a command needs is not there, or cannot be reached.
    Agent {
        /// The mount.
        span: Span,
        /// Which.
        id: String,
        /// Why it cannot be reached; none if nobody gave it.
        source: Option<std::io::Error>,
    },
    /// What an `ADD` names cannot be fetched.
    Fetch {
        /// The instruction.
        span: Span,
        /// What, without credentials.
        remote: String,
        /// Why.
        source: FetchError,
    },
    /// A `COPY` or `ADD` source does not exist.
    MissingSource {
        /// The word of the instruction.
        span: Span,
        /// The path as written.
        path: String,
        /// Where it was looked for.
        place: Place,
        /// What may explain it.
        reason: MissingReason,
    },
    /// Another failure of a file-system step.
    Step {
        /// The instruction.
        span: Span,
        /// What was done.
        act: &'static str,
        /// Why it failed.
        source: layerfs::Error,
    },
    /// A step names a user or a group that the image does not have, or cannot be read from it.
    User {
        /// The instruction.
        span: Span,
        /// Why.
        source: runner::Error,
    },
    /// The store failed.
    Store {
        /// What was done: `write the image`, `open the cache`.
        act: &'static str,
        /// Why it failed.
        source: layerfs::Error,
    },
    /// The image cannot be pushed.
    Push {
        /// Where to.
        reference: Reference,
        /// Why.
        source: registry::Error,
    },
    /// What refers to the image cannot be pushed with it.
    Referrers {
        /// Where to.
        reference: Reference,
        /// Why.
        source: Box<crate::transfer::TransferError>,
    },
    /// Someone asked to stop.
    Cancelled,
}

/// Why an image cannot be had.
#[derive(Debug)]
pub enum ImageError {
    /// The registry did not give it.
    Registry(registry::Error),
    /// The store did not keep or find it.
    Store(layerfs::Error),
    /// What came is no image.
    Document(oci::Error),
    /// It is for other platforms.
    Platform {
        /// The platform that was wanted.
        wanted: String,
        /// Those that it has.
        offered: Vec<String>,
    },
    /// Its configuration and its manifest disagree about the layers.
    Layers {
        /// Layers of the manifest.
        in_manifest: usize,
        /// Diff ids of the configuration.
        in_config: usize,
    },
}

impl From<layerfs::Error> for ImageError {
    fn from(error: layerfs::Error) -> ImageError {
        ImageError::Store(error)
    }
}

/// A `RUN` whose command failed.
#[derive(Debug)]
pub struct CommandFailed {
    /// The stage's name or number.
    pub stage: String,
    /// The step's number within the stage, from 1, and how many there are.
    pub step: (usize, usize),
    /// The instruction.
    pub span: Span,
    /// The instruction's text.
    pub text: String,
    /// How it ended.
    pub exit: runner::Exit,
    /// The last lines of its output.
    pub tail: Vec<u8>,
}

/// Where a `COPY` source was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The build context, with its root.
    Context(PathBuf),
    /// The build context, which was fetched or came by standard input.
    SentContext,
    /// A stage, by name or number.
    Stage(String),
    /// An image.
    Image(Reference),
    /// What was fetched, by name.
    Fetched(String),
}

/// What may explain a missing source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingReason {
    /// Nothing is known.
    Absent,
    /// It exists, and a line of the ignore file leaves it out.
    Ignored {
        /// The ignore file.
        file: String,
        /// The line's number, from 1.
        line: usize,
        /// The line's text.
        pattern: String,
    },
    /// It is a link that leads nowhere inside of where it was looked for.
    Link {
        /// What it says.
        target: PathBuf,
    },
    /// A name like it exists.
    Near(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Dockerfile { diagnostics } => {
                let first = diagnostics.first().map_or("the Dockerfile is not valid", |d| d.message.as_str());
                f.write_str(first)
            }
            Error::Image { reference, .. } => write!(f, "cannot use the image `{}`", reference.familiar()),
            Error::Command(failed) => failed.fmt(f),
            Error::Sandbox { .. } => f.write_str("cannot start the command"),
            Error::MissingSource { path, place, .. } => match place {
                Place::Context(_) | Place::SentContext => write!(f, "`{path}` is not in the build context"),
                Place::Stage(name) => write!(f, "`{path}` is not in the stage `{name}`"),
                Place::Image(reference) => {
                    write!(f, "`{path}` is not in the image `{}`", reference.familiar())
                }
                Place::Fetched(name) => write!(f, "`{path}` is not in `{name}`"),
            },
            Error::Secret { id, source: None, .. } => write!(f, "the secret `{id}` was not given"),
            Error::Secret { id, .. } => write!(f, "cannot read the secret `{id}`"),
            Error::Agent { id, source: None, .. } => write!(f, "the SSH agent `{id}` was not given"),
            Error::Agent { id, .. } => write!(f, "cannot reach the SSH agent `{id}`"),
            Error::Fetch { remote, .. } => write!(f, "cannot fetch `{remote}`"),
            Error::Step { act, .. } | Error::Store { act, .. } => write!(f, "cannot {act}"),
            Error::User { .. } => f.write_str("cannot find the user in the image"),
            Error::Push { reference, .. } => write!(f, "cannot push `{}`", reference.familiar()),
            Error::Referrers { reference, .. } => {
                write!(f, "cannot push what refers to `{}`", reference.familiar())
            }
            Error::Cancelled => f.write_str("the build was interrupted"),
        }
    }
}

impl fmt::Display for CommandFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, steps) = self.step;
        write!(f, "step {step}/{steps} of stage `{}` ", self.stage)?;
        match (self.exit.oom_limit_bytes, self.exit.status) {
            (Some(bytes), _) => write!(f, "ran out of memory: its limit is {}", human_bytes(bytes)),
            (None, runner::Status::Code(code)) => write!(f, "exited with code {code}"),
            (None, runner::Status::Signal(signal)) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// A size as people type it: the largest unit that divides it evenly.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    UNITS
        .iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{} {name}", bytes / unit))
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Image { source, .. } => Some(source),
            Error::Sandbox { source, .. } | Error::User { source, .. } => Some(source),
            Error::Step { source, .. } | Error::Store { source, .. } => Some(source),
            Error::Push { source, .. } => Some(source),
            Error::Referrers { source, .. } => Some(&**source),
            Error::Fetch { source, .. } => Some(source),
            Error::Secret { source, .. } | Error::Agent { source, .. } => {
                source.as_ref().map(|source| source as &(dyn std::error::Error + 'static))
            }
            Error::Dockerfile { .. } | Error::Command(_) | Error::MissingSource { .. } | Error::Cancelled => {
                None
            }
        }
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Registry(error) => error.fmt(f),
            ImageError::Store(error) => error.fmt(f),
            ImageError::Document(error) => error.fmt(f),
            ImageError::Platform { wanted, offered } => {
                write!(f, "it has no image for `{wanted}`, only for {}", offered.join(", "))
            }
            ImageError::Layers { in_manifest, in_config } => {
                write!(f, "its manifest has {in_manifest} layers and its configuration {in_config} diff ids")
            }
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImageError::Registry(error) => error.source(),
            ImageError::Store(error) => error.source(),
            ImageError::Document(error) => error.source(),
            ImageError::Platform { .. } | ImageError::Layers { .. } => None,
        }
    }
}
