//! What can go wrong with a registry, by act. Addresses in these errors carry no query string.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use oci::Digest;
use oci::digest::Mismatch;

/// One entry of a registry's error body. (OCI distribution-spec, "Error Codes".)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The code, such as `MANIFEST_UNKNOWN`.
    pub code: String,
    /// The registry's words for people, possibly empty.
    pub message: String,
}

/// A conversation with a registry that did not end as it should.
#[derive(Debug)]
pub enum Error {
    /// No answer came: name resolution, connection, TLS, a reset or a timeout, after all retries.
    Reach {
        /// What was asked for.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// What the last try met.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The registry answered, with a refusal or a failure.
    Status {
        /// The request's method.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The codes of the error body, if it had any.
        codes: Vec<Code>,
        /// How long the registry asks to wait before the next request.
        retry_after: Option<Duration>,
    },
    /// The token server gave no token for the registry.
    Authenticate {
        /// The registry's host.
        registry: String,
        /// What the token server answered.
        source: Box<Error>,
    },
    /// The registry asks for a kind of authentication that this client does not have.
    Challenge {
        /// The registry's host.
        registry: String,
        /// The `WWW-Authenticate` header.
        header: String,
    },
    /// The registry points to an address that must not be followed.
    Follow {
        /// Who points.
        from: String,
        /// The address pointed to.
        to: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// What was to be downloaded has no address that this client can ask.
    Address {
        /// The address, without user name, password and query.
        url: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The answer does not follow the distribution specification.
    Answer {
        /// What was asked for.
        url: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The answer is longer than this client reads.
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// What came is not what the digest promises.
    Verify {
        /// What was asked for.
        url: String,
        /// What differs.
        source: Mismatch,
    },
    /// What came is no image document.
    Document {
        /// The reference asked for, in full.
        reference: String,
        /// What is wrong with it.
        source: oci::Error,
    },
    /// The blob to be pushed could not be read.
    ReadSource {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A file of credentials or certificates could not be read.
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of credentials could not be written.
    WriteFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of credentials is not the JSON that it should be.
    ParseKeychain {
        /// The file.
        path: PathBuf,
        /// What the JSON parser says.
        source: serde_json::Error,
    },
    /// A file that says how a registry is reached says something else.
    ParseHosts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry of a credential file does not decode.
    DecodeCredential {
        /// The file.
        path: PathBuf,
        /// The entry's key.
        registry: String,
    },
    /// A credential helper could not be asked.
    RunHelper {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A credential helper answered with a failure.
    AskHelper {
        /// The program.
        program: String,
        /// Its output, shortened.
        output: String,
    },
    /// An account of a part of a registry is to be kept by a helper, which keeps those of whole registries.
    KeepNamespace {
        /// The program.
        program: String,
        /// The part: `HOST/NAMESPACE`.
        registry: String,
    },
    /// A certificate is not PEM, or there is none to trust.
    Certificate {
        /// Where it comes from.
        origin: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A server cannot take connections.
    Listen {
        /// Why.
        source: io::Error,
    },
    /// A proxy's address is not one.
    Proxy {
        /// The address as given, without a password.
        address: String,
    },
}

impl Error {
    /// Whether the registry says that the image, blob or repository is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Status { status: 404, .. })
    }

    /// Whether credentials are missing or do not suffice.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Error::Status { status, .. } => matches!(status, 401 | 403),
            Error::Authenticate { source, .. } => source.is_unauthorized(),
            _ => false,
        }
    }

    /// Whether no answer came at all.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Error::Reach { .. } => true,
            Error::Authenticate { source, .. } => source.is_unreachable(),
            _ => false,
        }
    }

    /// Whether the registry has had enough of this client for now.
    pub fn is_rate_limited(&self) -> bool {
        matches!(self, Error::Status { status: 429, .. })
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Error::Reach { source, .. } => !is_settled(&**source),
            Error::Status { status, .. } => is_temporary(*status),
            _ => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The same failure with the number of tries that it ended.
    pub(crate) fn after(self, tries: u32) -> Error {
        match self {
            Error::Reach { url, source, .. } => Error::Reach { url, attempts: tries, source },
            other => other,
        }
    }
}

/// Whether a second try would meet the same: nobody listens, no such name, a certificate to refuse.
fn is_settled(source: &(dyn StdError + 'static)) -> bool {
    let refuses = |error: &rustls::Error| {
        use rustls::Error::{InvalidCertificate, NoCertificatesPresented, UnsupportedNameType};
        matches!(error, InvalidCertificate(_) | NoCertificatesPresented | UnsupportedNameType)
    };
    if let Some(error) = source.downcast_ref::<io::Error>() {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        return error.kind() == io::ErrorKind::ConnectionRefused
            || is_no_name(error)
            || inner.is_some_and(refuses);
    }
    if let Some(error) = source.downcast_ref::<rustls::Error>() {
        return refuses(error);
    }
    matches!(
        source.downcast_ref::<ureq::Error>(),
        Some(ureq::Error::HostNotFound | ureq::Error::Tls(_) | ureq::Error::Http(_) | ureq::Error::BadUri(_))
    )
}

/// Whether nobody has the name. The standard library tells it from a name server that does not answer by the text
/// alone, which is glibc's or musl's.
fn is_no_name(error: &io::Error) -> bool {
    let text = error.to_string();
    ["Name or service not known", "Name does not resolve"].iter().any(|said| text.ends_with(said))
}

/// Statuses that tell of load or of a broken middle, not of the request.
pub(crate) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=524)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Reach { url, attempts: 1, .. } => write!(f, "no answer from {url}"),
            Error::Reach { url, attempts, .. } => write!(f, "no answer from {url} in {attempts} attempts"),
            Error::Status { method, url, status, codes, retry_after } => {
                write!(f, "{method} {url}: {status}")?;
                for Code { code, message } in codes {
                    write!(f, " {code}")?;
                    if !message.is_empty() {
                        write!(f, ": {message}")?;
                    }
                }
                match retry_after {
                    Some(wait) => write!(f, " (the registry asks to wait {} s)", wait.as_secs()),
                    None => Ok(()),
                }
            }
            Error::Authenticate { registry, .. } => write!(f, "no token for `{registry}`"),
            Error::Challenge { registry, header } => {
                write!(
                    f,
                    "`{registry}` asks for an unknown kind of authentication: expected `Basic` or `Bearer`, found `{header}`"
                )
            }
            Error::Follow { from, to, reason } => write!(f, "{from} points to {to}: {reason}"),
            Error::Address { url, reason } => write!(f, "`{url}` cannot be fetched: {reason}"),
            Error::Answer { url, reason } => write!(f, "unexpected answer from {url}: {reason}"),
            Error::TooLarge { url, limit_bytes } => {
                write!(f, "the answer from {url} is longer than the limit of {limit_bytes} bytes")
            }
            Error::Verify { url, .. } => write!(f, "{url} is not what was asked for"),
            Error::Document { reference, .. } => write!(f, "`{reference}` is not an image that can be read"),
            Error::ReadSource { digest, .. } => write!(f, "cannot read blob `{digest}` to push it"),
            Error::ReadFile { path, .. } => write!(f, "cannot read `{}`", path.display()),
            Error::WriteFile { path, .. } => write!(f, "cannot write `{}`", path.display()),
            Error::ParseKeychain { path, .. } => {
                write!(f, "`{}` is not a credential file", path.display())
            }
            Error::ParseHosts { path, reason } => {
                write!(f, "`{}` is no hosts file: {reason}", path.display())
            }
            Error::DecodeCredential { path, registry } => {
                write!(
                    f,
                    "the entry `{registry}` of `{}` does not decode: expected base64 of `user:password` in `auth`",
                    path.display()
                )
            }
            Error::RunHelper { program, .. } => write!(f, "cannot run the credential helper `{program}`"),
            Error::AskHelper { program, output } => {
                write!(f, "the credential helper `{program}` gave no credentials: {output}")
            }
            Error::KeepNamespace { program, registry } => write!(
                f,
                "the credential helper `{program}` keeps accounts of whole registries, and `{registry}` is a part of one"
            ),
            Error::Certificate { origin, reason } => write!(f, "no certificates from `{origin}`: {reason}"),
            Error::Listen { .. } => f.write_str("cannot take connections"),
            Error::Proxy { address } => {
                write!(f, "`{address}` is not a proxy: expected `http://HOST:PORT`")
            }
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::Reach { source, .. } => Some(&**source),
            Error::Authenticate { source, .. } => Some(&**source),
            Error::Verify { source, .. } => Some(source),
            Error::Document { source, .. } => Some(source),
            Error::Listen { source }
            | Error::ReadSource { source, .. }
            | Error::ReadFile { source, .. }
            | Error::WriteFile { source, .. }
            | Error::RunHelper { source, .. } => Some(source),
            Error::ParseKeychain { source, .. } => Some(source),
            Error::Status { .. }
            | Error::Challenge { .. }
            | Error::Follow { .. }
            | Error::Address { .. }
            | Error::Answer { .. }
            | Error::TooLarge { .. }
            | Error::ParseHosts { .. }
            | Error::DecodeCredential { .. }
            | Error::AskHelper { .. }
            | Error::KeepNamespace { .. }
            | Error::Certificate { .. }
            | Error::Proxy { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has_is_asked_for_once() {
        for (said, is_temporary) in [
            ("failed to lookup address information: Name or service not known", false),
            ("failed to lookup address information: Name does not resolve", false),
            ("failed to lookup address information: Temporary failure in name resolution", true),
            ("connection reset by peer", true),
        ] {
            let source = io::Error::other(said).into();
            let error = Error::Reach { url: String::new(), attempts: 1, source };
            assert_eq!(error.is_temporary(), is_temporary, "{said}");
        }
    }
}
