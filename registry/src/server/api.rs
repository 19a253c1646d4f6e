//! What each request means: the end-points of the distribution API and their refusals. (OCI distribution-spec 1.1,
//! "Endpoints" and "Error Codes".)
//!
//! Order: the host; the path, split at its last keyword, so that a repository may be called `manifests`; then the
//! end-point's own module.

use std::io;
use std::sync::Arc;

use oci::Reference;

use super::http::{Head, Outcome, Reply, Request, decode};
use super::storage::{Repository, Storage};
use super::uploads::Uploads;
use super::{Handler, Limits};

/// The registry.
pub(crate) struct Api {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) uploads: Uploads,
    /// Whether a manifest may name blobs that are not here.
    pub(super) is_sparse: bool,
}

/// How an end-point ends other than by an answer of its own.
pub(super) enum Refusal {
    Reply(Reply),
    /// The client is gone.
    Gone,
}

impl From<Reply> for Refusal {
    fn from(reply: Reply) -> Refusal {
        Refusal::Reply(reply)
    }
}

impl From<io::Error> for Refusal {
    /// A storage that fails. What is full stays full: a status that clients try again is none for it.
    fn from(error: io::Error) -> Refusal {
        let (status, code) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (507, "UNKNOWN"),
            io::ErrorKind::FileTooLarge => (413, "SIZE_INVALID"),
            _ => (500, "UNKNOWN"),
        };
        Refusal::Reply(refuse(status, code, &error.to_string()))
    }
}

pub(super) type Answer = Result<Reply, Refusal>;

impl Api {
    pub(crate) fn new(storage: Arc<dyn Storage>, limits: Limits) -> Api {
        Api { storage, uploads: Uploads::new(limits), is_sparse: false }
    }

    /// The same, but manifests may name blobs that are not here.
    #[cfg(feature = "testing")]
    pub(crate) fn sparse(self) -> Api {
        Api { is_sparse: true, ..self }
    }

    /// How many uploads are open.
    #[cfg(feature = "testing")]
    pub(crate) fn open_uploads(&self) -> usize {
        self.uploads.count()
    }

    /// Whether an upload of this id is open.
    #[cfg(feature = "testing")]
    pub(crate) fn has_upload(&self, id: &str) -> bool {
        self.uploads.find(id).is_some()
    }

    fn route(&self, mut request: Request<'_>) -> Answer {
        // Several hosts are no host. (RFC 9112, 3.2.)
        let Ok(host) = request.head.host().map(str::to_ascii_lowercase) else { return Ok(Reply::new(400)) };
        if let Some(reason) = self.storage.objection(&host) {
            return Ok(refuse(421, "DENIED", &reason));
        }
        // A browser says whose page it acts for; no registry's client does.
        if request.head.header("origin").is_some() && read_only(&request.head).is_some() {
            return Ok(refuse(403, "DENIED", "a web page may not write here"));
        }
        let path = decode(request.head.path());
        let Some(rest) = path.strip_prefix("/v2/").or_else(|| (path == "/v2").then_some("")) else {
            return Ok(refuse(404, "UNSUPPORTED", "this is a registry: its paths begin with `/v2/`"));
        };
        match rest {
            "" => return read_only(&request.head).unwrap_or_else(|| Ok(json(200, "{}"))),
            "_catalog" => {
                return read_only(&request.head).unwrap_or_else(|| self.catalog(&request.head, &host));
            }
            _ => {}
        }
        let Some((name, end_point, last)) = split(rest) else {
            return Ok(refuse(404, "NAME_UNKNOWN", "no such end-point"));
        };
        let repository = Repository { host, name: name.to_owned() };
        if !is_repository(name) {
            let reason = "a repository is components of lower-case letters and digits between slashes";
            return Ok(refuse(400, "NAME_INVALID", reason));
        }
        match end_point {
            "manifests" => self.manifests(&mut request, &repository, last),
            "blobs" => self.blobs(&request.head, &repository, last),
            "blobs/uploads" => self.upload(&mut request, &repository, last),
            "referrers" => {
                read_only(&request.head).unwrap_or_else(|| self.referrers(&request.head, &repository, last))
            }
            _ if last == "list" => {
                read_only(&request.head).unwrap_or_else(|| self.tags(&request.head, &repository))
            }
            _ => Ok(refuse(404, "NAME_UNKNOWN", "no such end-point")),
        }
    }
}

impl Handler for Api {
    fn handle(&self, request: Request<'_>) -> Outcome {
        let reply = match self.route(request) {
            Ok(reply) | Err(Refusal::Reply(reply)) => reply,
            Err(Refusal::Gone) => return Outcome::Close,
        };
        Outcome::Reply(
            reply
                .with("docker-distribution-api-version", "registry/2.0")
                .with("x-content-type-options", "nosniff"),
        )
    }

    fn tidy(&self) {
        self.uploads.forget_idle();
    }
}

/// A repository, the end-point, and what stands last: a tag, a digest, an upload.
fn split(path: &str) -> Option<(&str, &'static str, &str)> {
    let (before, last) = path.rsplit_once('/')?;
    // `blobs/uploads/` before `blobs/`; an upload has no name before it begins.
    if let Some(name) = before.strip_suffix("/blobs/uploads") {
        return Some((name, "blobs/uploads", last));
    }
    if let Some(name) = path.strip_suffix("/blobs/uploads") {
        return Some((name, "blobs/uploads", ""));
    }
    let (name, end_point) = before.rsplit_once('/')?;
    let known = ["manifests", "blobs", "referrers", "tags"];
    known.into_iter().find(|known| *known == end_point).map(|end_point| (name, end_point, last))
}

/// Whether `name` may stand behind a registry's host.
pub(super) fn is_repository(name: &str) -> bool {
    let parsed = format!("registry.invalid/{name}").parse::<Reference>();
    parsed.is_ok_and(|reference| reference.repository() == name)
}

/// The refusal of whatever method is neither GET nor HEAD.
pub(super) fn read_only(head: &Head) -> Option<Answer> {
    (!matches!(head.method.as_str(), "GET" | "HEAD")).then(|| Ok(wrong_method("GET, HEAD")))
}

pub(super) fn wrong_method(allowed: &str) -> Reply {
    refuse(405, "UNSUPPORTED", &format!("expected one of {allowed}")).with("allow", allowed)
}

/// An answer in JSON.
pub(super) fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply::new(status).with("content-type", "application/json").body(body)
}

/// A refusal, with the specification's code and words for people.
pub(crate) fn refuse(status: u16, code: &str, message: &str) -> Reply {
    let body = serde_json::json!({"errors": [{"code": code, "message": message, "detail": null}]});
    json(status, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::http::Content;
    use super::*;

    #[test]
    fn paths_split_at_their_last_keyword() {
        for (path, expected) in [
            ("a/manifests/1", Some(("a", "manifests", "1"))),
            ("manifests/manifests/blobs/manifests/1", Some(("manifests/manifests/blobs", "manifests", "1"))),
            ("a/b/blobs/sha256:0", Some(("a/b", "blobs", "sha256:0"))),
            ("a/blobs/uploads/", Some(("a", "blobs/uploads", ""))),
            ("a/blobs/uploads", Some(("a", "blobs/uploads", ""))),
            ("a/blobs/uploads/x", Some(("a", "blobs/uploads", "x"))),
            ("a/tags/list", Some(("a", "tags", "list"))),
            ("a/referrers/sha256:0", Some(("a", "referrers", "sha256:0"))),
            ("a", None),
            ("a/b", None),
            ("a/b/c", None),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn a_full_disk_is_no_busy_server() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, 507),
            (io::ErrorKind::QuotaExceeded, 507),
            (io::ErrorKind::FileTooLarge, 413),
            (io::ErrorKind::PermissionDenied, 500),
        ] {
            let Refusal::Reply(reply) = Refusal::from(io::Error::new(kind, "why")) else { panic!("{kind}") };
            assert_eq!(reply.status, expected, "{kind}");
            assert!(
                matches!(reply.body, Content::Bytes(text) if String::from_utf8_lossy(&text).contains("why"))
            );
        }
    }

    #[test]
    fn names_of_repositories_are_those_of_references() {
        for (name, good) in [
            ("a", true),
            ("a/b-c/d__e.f", true),
            ("library/debian", true),
            ("A", false),
            ("a//b", false),
            ("../a", false),
            ("a/", false),
            ("a:1", false),
            ("a@b", false),
            ("", false),
        ] {
            assert_eq!(is_repository(name), good, "{name}");
        }
    }
}
