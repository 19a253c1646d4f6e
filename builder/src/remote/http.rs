//! Files of the web.
//!
//! Order: a checksum alone may already lead to what is here, without the network; else the server is asked whether
//! what is here is still what it has; else the file comes into a new snapshot, is hashed on its way, compared with
//! the checksum, dated and committed. A transfer that breaks is started anew.
//!
//! The file is root's, 0600, dated by `Last-Modified` or else 1970 (study of BuildKit, 1.6, point 19).

use std::io::{Read, Write};
use std::path::Path;

use layerfs::IoResultExt;
use layerfs::confined::{Owner, Root};
use layerfs::snapshot::{Active, SnapshotId};
use oci::{Digest, Hasher};
use registry::download::Body;
use registry::{Download, Downloaded};

use super::record::{self, Answer};
use super::{FetchError, FetchRequest, Fetcher, HttpForm, HttpSource, Tree, archive, timestamps};

/// Longer files are refused: a server must not be able to fill any disk.
const MAX_FILE_BYTES: u64 = 1 << 36;
const ATTEMPTS: u32 = 3;
const NAMELESS: &str = "__unnamed__";
const DOCKERFILE: &str = "Dockerfile";

pub(super) fn fetch(
    fetcher: &Fetcher<'_>,
    source: &HttpSource,
    request: &FetchRequest<'_>,
) -> Result<Tree, FetchError> {
    let known = |identity| record::tree(fetcher.store, fetcher.snapshots, identity);
    if let Some(checksum) = source.checksum
        && let Some(tree) = known(identity(source, checksum, None))
    {
        return Ok(tree);
    }
    let key = record::digest_of(&[b"lbuild http 1", source.url.wire().as_bytes(), form(source)]);
    let before = record::answer(fetcher.store, key);
    let before = before.and_then(|answer| known(answer.identity).map(|tree| (answer, tree)));
    let mut attempt = 1;
    loop {
        let asked = before.as_ref().map(|(answer, _)| answer);
        let body = match ask(fetcher, source, request, asked)? {
            Downloaded::Body(body) => body,
            Downloaded::NotModified => {
                // An answer is only asked to be confirmed when there is one.
                let Some((answer, tree)) = before else { continue };
                expect(source, answer.digest)?;
                return Ok(tree);
            }
        };
        let (etag, last_modified) = (body.etag.clone(), body.last_modified);
        match receive(fetcher, source, request, body)? {
            Received::Whole { active, digest } => {
                let tree = keep(fetcher, source, active, digest, last_modified)?;
                let answer = Answer { etag, last_modified, digest, identity: tree.identity };
                record::put_answer(fetcher.store, key, &answer)?;
                return Ok(tree);
            }
            Received::Part(error) if attempt == ATTEMPTS => {
                let (address, attempts) = (source.url.to_string(), attempt);
                return Err(FetchError::Interrupted { address, attempts, source: error });
            }
            Received::Part(_) => attempt += 1,
        }
    }
}

/// Sends the request, on the condition that something has changed since `before`.
fn ask(
    fetcher: &Fetcher<'_>,
    source: &HttpSource,
    request: &FetchRequest<'_>,
    before: Option<&Answer>,
) -> Result<Downloaded, FetchError> {
    let download = Download {
        url: source.url.wire(),
        etag: before.and_then(|answer| answer.etag.as_deref()),
        authorization: authorization(source, request),
        limit_bytes: MAX_FILE_BYTES,
    };
    request.check()?;
    fetcher.client.download(&download).map_err(|source| FetchError::Download { source })
}

/// What the user gave for the host: a header as it is, or a token (study of BuildKit, 1.6, point 23).
fn authorization(source: &HttpSource, request: &FetchRequest<'_>) -> Option<String> {
    source.url.hosts().into_iter().find_map(|host| {
        request.secret_line(&format!("HTTP_AUTH_HEADER_{host}")).or_else(|| {
            let token = request.secret_line(&format!("HTTP_AUTH_TOKEN_{host}"))?;
            Some(format!("Bearer {token}"))
        })
    })
}

/// What came of a transfer.
enum Received {
    /// The file is in the snapshot.
    Whole { active: Active, digest: Digest },
    /// The connection broke.
    Part(std::io::Error),
}

fn receive(
    fetcher: &Fetcher<'_>,
    source: &HttpSource,
    request: &FetchRequest<'_>,
    mut body: Body,
) -> Result<Received, FetchError> {
    let stored = FetchError::store("keep what is downloaded");
    let name = file_name(source);
    let active = fetcher.snapshots.prepare(None).map_err(&stored)?;
    let root = Root::duplicate(active.root()).map_err(&stored)?;
    let mut file = root.create_file(Path::new(&name), 0o600, Owner::default()).map_err(&stored)?;
    let (total, mut hasher) = (body.length, Hasher::new());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        request.check()?;
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => match error.downcast::<registry::Error>() {
                Ok(source) if !source.is_unreachable() => return Err(FetchError::Download { source }),
                Ok(error) => return Ok(Received::Part(std::io::Error::other(error))),
                Err(error) => return Ok(Received::Part(error)),
            },
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).at("write", &name).map_err(&stored)?;
        (request.progress)(hasher.bytes(), total);
    }
    let digest = hasher.finish();
    expect(source, digest)?;
    let times = timestamps(body.last_modified.unwrap_or(0));
    rustix::fs::futimens(&file, &times).at("date", &name).map_err(&stored)?;
    Ok(Received::Whole { active, digest })
}

/// Commits what came, unpacked if it is an archive and is to be a context.
fn keep(
    fetcher: &Fetcher<'_>,
    source: &HttpSource,
    active: Active,
    digest: Digest,
    modified: Option<i64>,
) -> Result<Tree, FetchError> {
    let identity = identity(source, digest, modified);
    let snapshot = SnapshotId::key(identity);
    let active = match source.form {
        HttpForm::File => active,
        HttpForm::Context => archive::unpack(&active, DOCKERFILE, fetcher.snapshots)?.unwrap_or(active),
    };
    fetcher.snapshots.commit(active, &snapshot).map_err(FetchError::store("keep what is downloaded"))?;
    let name = match source.form {
        HttpForm::File => file_name(source),
        HttpForm::Context => String::new(),
    };
    let tree = Tree { identity, snapshot, modified, name, commit: None };
    record::put_tree(fetcher.store, &tree)?;
    Ok(tree)
}

fn expect(source: &HttpSource, found: Digest) -> Result<(), FetchError> {
    match source.checksum {
        Some(expected) if expected != found => Err(FetchError::Checksum {
            address: source.url.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

/// What the tree is: the bytes and the name, and the time unless the user has said which bytes they must be.
/// (Study of BuildKit, 1.11.)
fn identity(source: &HttpSource, digest: Digest, modified: Option<i64>) -> Digest {
    let modified = match source.checksum {
        Some(_) => String::new(),
        None => modified.map(|seconds| seconds.to_string()).unwrap_or_default(),
    };
    let name = file_name(source);
    let file = [name.as_bytes(), b"0600 0:0", modified.as_bytes()];
    record::digest_of(&[b"lbuild http tree 1", form(source), digest.as_bytes(), file[0], file[1], file[2]])
}

fn form(source: &HttpSource) -> &'static [u8] {
    match source.form {
        HttpForm::File => b"file",
        HttpForm::Context => b"context",
    }
}

/// The last component of the address's path, decoded; a context's file is a Dockerfile until it is unpacked.
fn file_name(source: &HttpSource) -> String {
    if source.form == HttpForm::Context {
        return DOCKERFILE.to_owned();
    }
    let url = source.url.wire();
    let path = &url[..url.find(['?', '#']).unwrap_or(url.len())];
    let path = path.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let path = registry::download::decode(path);
    let name = path.split(|&byte| byte == b'/').rfind(|part| !part.is_empty()).unwrap_or_default();
    match std::str::from_utf8(name) {
        Ok(name) if !matches!(name, "" | "." | "..") && !name.contains('\0') => name.to_owned(),
        _ => NAMELESS.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Form, Remote, parse};
    use super::*;

    #[test]
    fn a_file_is_named_by_the_path_alone() {
        for (url, name) in [
            ("https://host/a/b.tar.gz", "b.tar.gz"),
            ("https://host/a/b?c=/d", "b"),
            ("https://host/a/b#/c", "b"),
            ("https://host/a/b/", "b"),
            ("https://host/a//b//", "b"),
            ("https://host/a%20b", "a b"),
            ("https://host/a%2Fb", "b"),
            ("https://host/%C3%BC", "ü"),
            ("https://host/%zz", "%zz"),
            ("https://host", NAMELESS),
            ("https://host/", NAMELESS),
            ("https://host?x=y/z", NAMELESS),
            ("https://host/a/..", NAMELESS),
            ("https://host/%2e%2e", NAMELESS),
            ("https://host/.", NAMELESS),
            ("https://host/a%00b", NAMELESS),
            ("https://host/%FF", NAMELESS),
            ("https://u:p@host/@a", "@a"),
        ] {
            let Ok(Some(Remote::Http(source))) = parse(url, Form::Add) else { panic!("{url}") };
            assert_eq!(file_name(&source), name, "{url}");
        }
    }

    #[test]
    fn what_is_pinned_is_itself_at_any_time() {
        let digest = Digest::of(b"x");
        let source = |checksum, form| {
            let url = super::super::Address::new("https://host/a".to_owned());
            HttpSource { url, checksum, form }
        };
        let (free, pinned) = (source(None, HttpForm::File), source(Some(digest), HttpForm::File));
        assert_ne!(identity(&free, digest, Some(1)), identity(&free, digest, Some(2)));
        assert_eq!(identity(&pinned, digest, Some(1)), identity(&pinned, digest, None));
        assert_ne!(identity(&pinned, digest, None), identity(&pinned, Digest::of(b"y"), None));
        let context = source(Some(digest), HttpForm::Context);
        assert_ne!(identity(&pinned, digest, None), identity(&context, digest, None));
    }
}
