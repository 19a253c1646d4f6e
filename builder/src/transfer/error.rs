//! What can go wrong between two places.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;

use oci::Digest;

use crate::source::layout::LayoutError;

/// A copy that did not come to its end.
#[derive(Debug)]
pub enum TransferError {
    /// A registry.
    Registry(registry::Error),
    /// The store.
    Store(layerfs::Error),
    /// A layout that is read.
    Layout(LayoutError),
    /// A layout that is written.
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory has something in it, and is no layout.
    NoLayout {
        /// The directory.
        path: PathBuf,
    },
    /// A document that cannot be understood.
    Document(oci::Error),
    /// The store has no image of this name.
    Absent {
        /// The name.
        name: String,
    },
    /// The image is for other platforms.
    Platform {
        /// The platform that was wanted.
        wanted: String,
        /// Those that it has.
        offered: Vec<String>,
    },
    /// Documents that lead to ever more documents.
    Depth {
        /// One of them.
        digest: Digest,
    },
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferError::Registry(error) => error.fmt(f),
            TransferError::Store(error) => error.fmt(f),
            TransferError::Layout(error) => error.fmt(f),
            TransferError::Document(error) => error.fmt(f),
            TransferError::Write { path, .. } => write!(f, "cannot write `{}`", path.display()),
            TransferError::NoLayout { path } => {
                write!(f, "`{}` is not empty, and no OCI image layout", path.display())
            }
            TransferError::Absent { name } => write!(f, "no image `{name}` in the store"),
            TransferError::Platform { wanted, offered } => {
                write!(f, "no image for `{wanted}`: there is {}", offered.join(", "))
            }
            TransferError::Depth { digest } => write!(f, "`{digest}` leads to ever more documents"),
        }
    }
}

impl StdError for TransferError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            TransferError::Registry(error) => error.source(),
            TransferError::Store(error) => error.source(),
            TransferError::Layout(error) => error.source(),
            TransferError::Document(error) => error.source(),
            TransferError::Write { source, .. } => Some(source),
            TransferError::NoLayout { .. }
            | TransferError::Absent { .. }
            | TransferError::Platform { .. }
            | TransferError::Depth { .. } => None,
        }
    }
}

impl From<layerfs::Error> for TransferError {
    fn from(error: layerfs::Error) -> TransferError {
        TransferError::Store(error)
    }
}
