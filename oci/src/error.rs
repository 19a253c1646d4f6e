//! What can be wrong with a digest, a name or a document. Values only; no I/O happens in this crate.

use std::fmt;

/// A value that does not follow its specification.
#[derive(Debug)]
pub enum Error {
    /// Text that is neither `sha256:` and 64 lower-case hexadecimal digits nor `sha512:` and 128.
    Digest {
        /// The text as given.
        text: String,
    },
    /// Text that is no image reference.
    Reference {
        /// The text as given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Text that is no platform such as `linux/arm64/v8`.
    Platform {
        /// The text as given.
        text: String,
    },
    /// JSON that is not the document it should be.
    Document {
        /// What it should have been: `manifest`, `index`, `image configuration`.
        what: &'static str,
        /// The digest of its bytes.
        digest: crate::Digest,
        /// What the JSON parser says.
        source: serde_json::Error,
    },
    /// A document whose declared kind contradicts its fields (CVE-2021-41190).
    Ambiguous {
        /// The digest of its bytes.
        digest: crate::Digest,
        /// What contradicts what.
        reason: &'static str,
    },
    /// A media type that is neither an image manifest nor an index.
    UnsupportedDocument {
        /// The media type found.
        media_type: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Digest { text } => {
                write!(
                    f,
                    "`{text}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128"
                )
            }
            Error::Reference { text, reason } => write!(f, "`{text}` is not an image reference: {reason}"),
            Error::Platform { text } => {
                write!(
                    f,
                    "`{text}` is not a platform: expected `os/architecture[/variant]`, such as `linux/amd64`"
                )
            }
            Error::Document { what, digest, .. } => write!(f, "`{digest}` is not a valid {what}"),
            Error::Ambiguous { digest, reason } => write!(f, "`{digest}` is ambiguous: {reason}"),
            Error::UnsupportedDocument { media_type } => {
                write!(f, "`{media_type}` is neither an image manifest nor an image index")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Document { source, .. } => Some(source),
            _ => None,
        }
    }
}
