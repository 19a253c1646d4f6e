//! Why an archive cannot be loaded.

use std::{fmt, io};

use oci::Digest;

use crate::source::layout::LayoutError;

/// An archive or a directory that cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// It cannot be read.
    Read(io::Error),
    /// A blob cannot be written.
    Write(io::Error),
    /// It is neither a layout nor Docker's.
    Neither,
    /// It is of a Docker before 1.10.
    Legacy,
    /// There is no image in it.
    Empty,
    /// A list that is larger than is accepted.
    TooLarge {
        /// Its name.
        path: &'static str,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A document that does not parse.
    List(oci::Error),
    /// Docker's list does not parse.
    DockerList(serde_json::Error),
    /// A file that is called by a digest and has another.
    Digest {
        /// Its path.
        path: String,
        /// The digest that it is called by.
        expected: Digest,
        /// Its own.
        found: Digest,
    },
    /// A file that is named and not there.
    Absent {
        /// Its path.
        path: String,
    },
    /// Documents that lead to ever more documents.
    Depth {
        /// One of them.
        digest: Digest,
    },
    /// An image's documents disagree about the layers.
    Layers {
        /// Layers of the manifest or the list.
        in_manifest: usize,
        /// Diff ids of the configuration.
        in_config: usize,
    },
    /// A name that is none.
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: oci::Error,
    },
    /// The directory is no layout, or is damaged.
    Layout(LayoutError),
    /// The store did not keep it, or an archive's layer is not what its image promises.
    Store(layerfs::Error),
}

impl LoadError {
    /// Whether something is not there that may be left out.
    pub(super) fn is_absence(&self) -> bool {
        match self {
            LoadError::Absent { .. } => true,
            LoadError::Layout(LayoutError::Read { source, .. }) => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether it is this machine that refuses, and not the archive.
    pub fn is_environment(&self) -> bool {
        matches!(self, LoadError::Write(_) | LoadError::Store(layerfs::Error::File { .. }))
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read(_) => f.write_str("it cannot be read"),
            LoadError::Write(_) => f.write_str("a blob cannot be written"),
            LoadError::Neither => f.write_str(
                "it is neither an OCI layout nor Docker's archive: it has no `index.json` and no `manifest.json`",
            ),
            LoadError::Legacy => f.write_str("it is an archive of Docker before 1.10, without `manifest.json`"),
            LoadError::Empty => f.write_str("there is no image in it"),
            LoadError::TooLarge { path, limit_bytes } => {
                write!(f, "`{path}` is too large: expected at most {limit_bytes} bytes")
            }
            LoadError::List(source) => source.fmt(f),
            LoadError::DockerList(_) => f.write_str("`manifest.json` is no list of images"),
            LoadError::Digest { path, expected, found } => {
                write!(f, "`{path}` is damaged: expected `{expected}`, found `{found}`")
            }
            LoadError::Absent { path } => write!(f, "`{path}` is not in it"),
            LoadError::Depth { digest } => write!(f, "`{digest}` leads to ever more documents"),
            LoadError::Layers { in_manifest, in_config } => {
                write!(f, "an image has {in_manifest} layers, and its configuration {in_config}")
            }
            LoadError::Name { text, .. } => write!(f, "an image is called `{text}`"),
            LoadError::Layout(source) => source.fmt(f),
            LoadError::Store(source) => source.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoadError::Read(source) | LoadError::Write(source) => Some(source),
            LoadError::DockerList(source) => Some(source),
            LoadError::Name { source, .. } => Some(source),
            // These print as their sources, so the chain goes on behind them.
            LoadError::List(source) => source.source(),
            LoadError::Layout(source) => source.source(),
            LoadError::Store(source) => source.source(),
            _ => None,
        }
    }
}

impl From<layerfs::Error> for LoadError {
    fn from(source: layerfs::Error) -> LoadError {
        LoadError::Store(source)
    }
}

impl From<LayoutError> for LoadError {
    fn from(source: LayoutError) -> LoadError {
        LoadError::Layout(source)
    }
}
