//! What can be wrong with the name of a remote, and with fetching it. Addresses in these errors carry no user name,
//! no password and no query.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A name of a remote that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// Its scheme is not one that anything is fetched by.
    Scheme {
        /// The address.
        address: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// It is not made like an address.
    Address {
        /// The address.
        address: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// It has a `%` that is not followed by two hexadecimal digits, or that makes no UTF-8.
    Encoding {
        /// The part in question.
        text: String,
    },
    /// Git does not allow references like this one.
    Reference {
        /// The reference.
        reference: String,
    },
    /// The subdirectory may lie outside of the repository.
    Subdirectory {
        /// The path as written.
        path: String,
    },
    /// The checksum is none.
    Checksum {
        /// The checksum as written.
        text: String,
        /// What it would have to be.
        expected: &'static str,
    },
    /// The query has a name that means nothing.
    UnknownQuery {
        /// The name.
        name: String,
    },
    /// The query has a name twice.
    RepeatedQuery {
        /// The name.
        name: String,
    },
    /// The query gives a name a value that it cannot have.
    QueryValue {
        /// The name.
        name: String,
        /// Its value.
        value: String,
        /// What it would have to be.
        expected: &'static str,
    },
    /// Two places say different things.
    Conflict {
        /// About what.
        name: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Scheme { address, scheme } => write!(
                f,
                "nothing is fetched by `{scheme}`, as `{address}` wants: expected `https`, `http`, `ssh` or `git`"
            ),
            ParseError::Address { address, reason } => write!(f, "`{address}` is no address: {reason}"),
            ParseError::Encoding { text } => {
                write!(f, "`{text}` does not decode: expected two hexadecimal digits behind each `%`")
            }
            ParseError::Reference { reference } => {
                write!(
                    f,
                    "`{reference}` cannot be a reference of git: expected a branch, a tag or a commit's hash"
                )
            }
            ParseError::Subdirectory { path } => {
                write!(f, "the subdirectory `{path}` may leave the repository: expected a path without `..`")
            }
            ParseError::Checksum { text, expected } => {
                write!(f, "`{text}` is no checksum: expected {expected}")
            }
            ParseError::UnknownQuery { name } => write!(
                f,
                "`{name}` means nothing in the query of a repository: expected `ref`, `tag`, `branch`, `subdir`, \
                 `checksum`, `commit`, `keep-git-dir`, `submodules`, `mtime` or `fetch-by-commit`"
            ),
            ParseError::RepeatedQuery { name } => write!(f, "`{name}` stands twice in the query"),
            ParseError::QueryValue { name, value, expected } => {
                write!(f, "`{name}` of the query cannot be `{value}`: expected {expected}")
            }
            ParseError::Conflict { name, first, second } => {
                write!(f, "two values for {name}: `{first}` and `{second}`")
            }
        }
    }
}

impl Error for ParseError {}

/// A fetch that failed.
#[derive(Debug)]
pub enum FetchError {
    /// The server did not give the file, or not all of it.
    Download {
        /// What the client says; it names the address.
        source: registry::Error,
    },
    /// The file did not come whole, in as many attempts.
    Interrupted {
        /// The address.
        address: String,
        /// How often it was tried.
        attempts: u32,
        /// What the last one met.
        source: io::Error,
    },
    /// What came is not what was asked for.
    Checksum {
        /// The address.
        address: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The store failed, or what came cannot be unpacked.
    Store {
        /// What was done.
        act: &'static str,
        /// Why it failed.
        source: layerfs::Error,
    },
    /// What was to be a context is no archive.
    NotAnArchive {
        /// All of it.
        head: Vec<u8>,
    },
    /// What was to be a context is no archive, and too long for a Dockerfile.
    ContextTooLarge {
        /// How long it may be, in bytes.
        limit_bytes: u64,
    },
    /// The context could not be read.
    ReadContext {
        /// Why.
        source: io::Error,
    },
    /// The program `git` cannot be run.
    RunGit {
        /// Why.
        source: io::Error,
    },
    /// Git failed.
    Git {
        /// What it should do.
        act: &'static str,
        /// The repository.
        address: String,
        /// What it said, shortened.
        output: String,
    },
    /// The repository does not have the reference.
    Reference {
        /// The repository.
        address: String,
        /// The reference; `HEAD` for the default branch.
        reference: String,
    },
    /// The commit does not have the directory.
    Subdirectory {
        /// The repository.
        address: String,
        /// The directory.
        path: PathBuf,
    },
    /// A submodule cannot be fetched from where the repository says.
    SubmoduleAddress {
        /// Its path.
        path: String,
        /// Why.
        source: ParseError,
    },
    /// A submodule cannot be had.
    Submodule {
        /// Its path.
        path: String,
        /// Why.
        source: Box<FetchError>,
    },
    /// Submodules lie in each other too deeply, or are too many.
    TooManySubmodules {
        /// The repository.
        address: String,
        /// How many there may be.
        limit: usize,
    },
    /// Someone asked to stop.
    Cancelled,
}

impl FetchError {
    /// For `map_err`: the store failed at `act`.
    pub(super) fn store(act: &'static str) -> impl Fn(layerfs::Error) -> FetchError {
        move |source| FetchError::Store { act, source }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Download { source } => source.fmt(f),
            FetchError::Interrupted { address, attempts, .. } => {
                write!(f, "`{address}` did not come whole in {attempts} attempts")
            }
            FetchError::Checksum { address, expected, found } => {
                write!(f, "`{address}` is not what was asked for: expected `{expected}`, found `{found}`")
            }
            FetchError::Store { act, .. } => write!(f, "cannot {act}"),
            FetchError::NotAnArchive { .. } => f.write_str("the build context is no archive"),
            FetchError::ContextTooLarge { limit_bytes } => write!(
                f,
                "the build context is no archive, and longer than a Dockerfile may be ({limit_bytes} bytes)"
            ),
            FetchError::ReadContext { .. } => f.write_str("cannot read the build context"),
            FetchError::RunGit { source } if source.kind() == io::ErrorKind::NotFound => {
                f.write_str("there is no program `git`, which fetches repositories")
            }
            FetchError::RunGit { .. } => f.write_str("cannot run the program `git`"),
            FetchError::Git { act, address, output } => {
                write!(f, "git cannot {act} `{address}`")?;
                if output.is_empty() { Ok(()) } else { write!(f, ": {output}") }
            }
            FetchError::Reference { address, reference } => {
                write!(f, "`{address}` has no branch, tag or commit `{reference}`")
            }
            FetchError::Subdirectory { address, path } => {
                write!(f, "`{address}` has no directory `{}` at this commit", path.display())
            }
            FetchError::SubmoduleAddress { path, .. } | FetchError::Submodule { path, .. } => {
                write!(f, "cannot fetch the submodule `{path}`")
            }
            FetchError::TooManySubmodules { address, limit } => {
                write!(f, "`{address}` has more than {limit} submodules, or as deep in each other")
            }
            FetchError::Cancelled => f.write_str("the build was interrupted"),
        }
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            FetchError::Download { source } => source.source(),
            FetchError::Store { source, .. } => Some(source),
            FetchError::Interrupted { source, .. } | FetchError::ReadContext { source } => Some(source),
            FetchError::RunGit { source } if source.kind() != io::ErrorKind::NotFound => Some(source),
            FetchError::SubmoduleAddress { source, .. } => Some(source),
            FetchError::Submodule { source, .. } => Some(source),
            _ => None,
        }
    }
}
