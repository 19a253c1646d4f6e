//! What can go wrong with bytes on disk. Each variant names the act, and carries the object and the cause.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use oci::{DiffId, Digest};

use crate::site::Objection;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure to keep, read, unpack, pack or mount something.
#[derive(Debug)]
pub enum Error {
    /// A file-system call on a path of ours or of the user's.
    File {
        /// The verb: `open`, `create`, `rename`, …
        act: &'static str,
        /// The object.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A blob that is not in the store.
    MissingBlob {
        /// Its digest.
        digest: Digest,
    },
    /// Bytes that could not be read to the end, or are not what their digest promises.
    ReadBlob {
        /// The digest they should have.
        digest: Digest,
        /// The cause, an [`oci::digest::Mismatch`] among them.
        source: io::Error,
    },
    /// A document larger than is accepted.
    TooLarge {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A document that does not parse.
    Document {
        /// What is wrong with it.
        source: oci::Error,
    },
    /// A file of the store's own that does not parse.
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A directory that is no place for a store.
    Site {
        /// The directory.
        root: PathBuf,
        /// Why.
        objection: Objection,
    },
    /// A store that a later version of this program has made.
    NewerStore {
        /// The store.
        root: PathBuf,
        /// Its format.
        format: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// The beginning of an id that several images have.
    AmbiguousId {
        /// The digits as given.
        text: String,
    },
    /// A name that cannot be that of a snapshot.
    SnapshotId {
        /// The name as given.
        text: String,
    },
    /// A snapshot that is not there.
    MissingSnapshot {
        /// Its name.
        id: String,
    },
    /// A snapshot that stands on others where one is needed that stands on nothing.
    NotABottom {
        /// Its name.
        id: String,
    },
    /// A mount that the kernel refused.
    Mount {
        /// Which step of it.
        step: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
    /// Overlay file systems are not to be had.
    NoOverlay {
        /// What the kernel says to the first call.
        source: io::Error,
    },
    /// The mount calls are not to be had.
    NoMounts {
        /// What the kernel says to the first call.
        source: io::Error,
    },
    /// More layers than an overlay can have.
    TooManyLayers {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The program `fuse-overlayfs`, or the device that it serves at, is not to be had.
    NoFuseOverlay {
        /// What the kernel says.
        source: io::Error,
    },
    /// The program `fuse-overlayfs` did not serve what it was to.
    FuseOverlay {
        /// What it said of that; may be empty.
        complaint: String,
        /// What the kernel says to who wanted to use it.
        source: io::Error,
    },
    /// An archive that is not a tar, or uses it in a way that is refused.
    Archive {
        /// The entry in question, if its name was already known.
        entry: Option<PathBuf>,
        /// What is wrong with it.
        problem: crate::layer::tar::Problem,
    },
    /// An archive that could not be read on.
    ReadArchive {
        /// What the source of the bytes, or the decompressor, says.
        source: io::Error,
    },
    /// An entry of an archive that could not be made.
    Unpack {
        /// The entry's name.
        entry: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A layer whose uncompressed bytes are not those its image promises.
    DiffId {
        /// What the image promises.
        expected: DiffId,
        /// What came.
        found: DiffId,
    },
    /// A file that could not be packed into a layer.
    Pack {
        /// The file, relative to the root.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A file that a layer cannot hold.
    Unpackable {
        /// The file, relative to the root.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// A layer that could not be written out or compressed.
    WriteLayer {
        /// The cause.
        source: io::Error,
    },
    /// An archive that could not be written out.
    WriteArchive {
        /// The cause.
        source: io::Error,
    },
    /// A file where a directory has to be.
    NotADirectory {
        /// Where, below the root in question.
        path: PathBuf,
    },
    /// Something else where a regular file has to be.
    NotAFile {
        /// Where, below the root in question.
        path: PathBuf,
        /// What is there.
        found: crate::confined::Kind,
    },
    /// A file longer than is accepted.
    FileTooLarge {
        /// The file, below the root in question.
        path: PathBuf,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A source of a copy that is not there, or that a filter hides.
    SourceMissing {
        /// The path as given.
        path: PathBuf,
    },
    /// A source of a copy that became another file after it was selected.
    SourceChanged {
        /// The file, below the root of the source.
        path: PathBuf,
    },
    /// A copy of a file on a directory.
    ReplaceDirectory {
        /// The directory, below the root of the destination.
        path: PathBuf,
    },
    /// Text that is no mode.
    Chmod {
        /// The text as given.
        text: String,
    },
}

impl Error {
    /// The same error, when its path began at `dir` and is to begin where `dir` begins.
    pub(crate) fn below(self, dir: &Path) -> Error {
        match self {
            Error::File { act, path, source } if path.as_os_str().is_empty() => {
                Error::File { act, path: dir.to_owned(), source }
            }
            Error::File { act, path, source } => Error::File { act, path: dir.join(path), source },
            other => other,
        }
    }

    /// What stands in the way of showing a snapshot.
    fn fmt_mount(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Mount { step, .. } => write!(f, "cannot make a mount: {step}"),
            Error::NoOverlay { .. } => {
                write!(f, "overlay file systems are not available: they need root and Linux 5.12 or later")
            }
            Error::NoMounts { .. } => {
                write!(f, "mounts cannot be made: they need root and Linux 5.12 or later")
            }
            Error::TooManyLayers { count, limit } => {
                write!(f, "{count} layers are too many for an overlay: expected at most {limit}")
            }
            Error::NoFuseOverlay { .. } => {
                write!(
                    f,
                    "`fuse-overlayfs` is not available: it needs root, `/dev/fuse` and the program itself"
                )
            }
            Error::FuseOverlay { complaint, .. } if complaint.is_empty() => {
                write!(f, "`fuse-overlayfs` does not serve the snapshot")
            }
            Error::FuseOverlay { complaint, .. } => {
                write!(f, "`fuse-overlayfs` does not serve the snapshot: it says `{complaint}`")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File { act, path, .. } => write!(f, "cannot {act} `{}`", shown(path)),
            Error::MissingBlob { digest } => write!(f, "`{digest}` is not in the store"),
            Error::ReadBlob { digest, .. } => write!(f, "cannot read `{digest}`"),
            Error::TooLarge { digest, size_bytes, limit_bytes } => {
                write!(f, "`{digest}` has {size_bytes} bytes: expected at most {limit_bytes}")
            }
            Error::Document { source } => write!(f, "{source}"),
            Error::State { path, .. } => write!(f, "`{}` is damaged", shown(path)),
            Error::Site { root, objection } => write!(f, "`{}` {objection}", shown(root)),
            Error::NewerStore { root, format, known } => write!(
                f,
                "`{}` was made by a later lbuild: its format is {format}, and this one knows {known}",
                shown(root)
            ),
            Error::AmbiguousId { text } => write!(f, "`{text}` is the beginning of several image ids"),
            Error::SnapshotId { text } => {
                write!(f, "`{text}` is not a snapshot: expected `chain-` or `key-` and 64 hexadecimal digits")
            }
            Error::MissingSnapshot { id } => write!(f, "snapshot `{id}` is not in the store"),
            Error::NotABottom { id } => {
                write!(f, "snapshot `{id}` cannot be put on top of another one: it has ancestors of its own")
            }
            Error::Mount { .. }
            | Error::NoOverlay { .. }
            | Error::NoMounts { .. }
            | Error::TooManyLayers { .. }
            | Error::NoFuseOverlay { .. }
            | Error::FuseOverlay { .. } => self.fmt_mount(f),
            Error::Archive { entry: Some(entry), problem } => {
                write!(f, "the archive's entry `{}` is refused: {problem}", shown(entry))
            }
            Error::Archive { entry: None, problem } => write!(f, "the archive is refused: {problem}"),
            Error::ReadArchive { .. } => write!(f, "cannot read the archive"),
            Error::Unpack { entry, .. } => write!(f, "cannot unpack `{}`", shown(entry)),
            Error::DiffId { expected, found } => {
                write!(
                    f,
                    "the layer's content differs from its image: expected `{expected}`, found `{found}`"
                )
            }
            Error::Pack { path, .. } => write!(f, "cannot pack `{}`", shown(path)),
            Error::Unpackable { path, reason } => {
                write!(f, "`{}` cannot be part of a layer: {reason}", shown(path))
            }
            Error::WriteLayer { .. } => write!(f, "cannot write the layer"),
            Error::WriteArchive { .. } => write!(f, "cannot write the archive"),
            Error::NotADirectory { path } => write!(f, "`{}` is not a directory", shown(path)),
            Error::NotAFile { path, found } => {
                write!(f, "`{}` is not a file: found a {}", shown(path), found.name())
            }
            Error::FileTooLarge { path, limit_bytes } => {
                write!(f, "`{}` is too long: expected at most {limit_bytes} bytes", shown(path))
            }
            Error::SourceMissing { path } => write!(f, "`{}` is not there to be copied", shown(path)),
            Error::SourceChanged { path } => {
                write!(f, "`{}` changed while it was being read", shown(path))
            }
            Error::ReplaceDirectory { path } => {
                write!(f, "cannot replace the directory `{}` with a file", shown(path))
            }
            Error::Chmod { text } => write!(
                f,
                "`{text}` is not a mode: expected octal digits up to `7777`, or symbols such as `u=rwX,go=rX`"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::File { source, .. }
            | Error::ReadBlob { source, .. }
            | Error::Mount { source, .. }
            | Error::NoOverlay { source }
            | Error::NoMounts { source }
            | Error::NoFuseOverlay { source }
            | Error::FuseOverlay { source, .. }
            | Error::ReadArchive { source }
            | Error::Unpack { source, .. }
            | Error::Pack { source, .. }
            | Error::WriteArchive { source }
            | Error::WriteLayer { source } => Some(source),
            Error::State { source, .. } => Some(source),
            // `Document` prints as its source, so the chain goes on behind it.
            Error::Document { source } => source.source(),
            _ => None,
        }
    }
}

impl From<oci::Error> for Error {
    fn from(source: oci::Error) -> Error {
        Error::Document { source }
    }
}

/// Paths longer than this are shown by their beginning and their end, in characters.
const SHOWN: usize = 240;

/// A path for a message, which must stay readable however deep a hostile tree is.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let count = text.chars().count();
    if count <= SHOWN {
        return text;
    }
    let begin: String = text.chars().take(SHOWN / 2).collect();
    let end: String = text.chars().skip(count - SHOWN / 2).collect();
    format!("{begin}…{end}")
}

/// Names the act and the path that an io error belongs to.
pub trait IoResultExt<T> {
    /// `act` is a verb for "cannot … `path`".
    fn at(self, act: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoResultExt<T> for std::result::Result<T, E> {
    fn at(self, act: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::File { act, path: path.as_ref().to_owned(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_shortened() {
        let path = Path::new("a").join("é/".repeat(5000)).join("end");
        let text = Error::NotADirectory { path }.to_string();
        assert!(text.starts_with("`a/é/") && text.ends_with("é/end` is not a directory"), "{text}");
        assert!(text.contains('…') && text.len() < 500, "{text}");
        assert_eq!(shown(Path::new("short")), "short");
    }
}
