//! Downloading files: conditions, credentials, redirects, bodies that end early or never.

use std::io::Read;

use registry::testing::{Access, Act, Registry, Setup};
use registry::{Download, Downloaded, Error};

use crate::support::{Clock, client, noise, read, root};

const LIMIT: u64 = 1 << 20;

fn get(url: &str) -> Result<Vec<u8>, Error> {
    match client().download(&Download { url, limit_bytes: LIMIT, ..Download::default() })? {
        Downloaded::Body(body) => Ok(read(body).unwrap()),
        Downloaded::NotModified => panic!("nothing was asked for on a condition"),
    }
}

/// A server with a file, and the file's address.
fn with_file(bytes: &[u8]) -> (Registry, String) {
    let registry = Registry::start(Setup::default());
    let descriptor = registry.put_blob("app", bytes);
    let url = format!("http://{}/v2/app/blobs/{}", registry.host(), descriptor.digest);
    (registry, url)
}

#[test]
fn brings_a_file_with_what_the_server_says_of_it() {
    let bytes = noise(300_000);
    let (registry, url) = with_file(&bytes);
    registry.fault("GET", "/blobs/", 1, Act::With("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT".into()));
    registry.fault("GET", "/blobs/", 1, Act::With("etag", "W/\"x\"".into()));
    let url = format!("{url}?signature=1");
    for (etag, modified) in [(None, Some(784_111_777)), (Some("W/\"x\""), None)] {
        let request = Download { url: &url, limit_bytes: LIMIT, ..Download::default() };
        let Downloaded::Body(body) = client().download(&request).unwrap() else { panic!("no body") };
        assert_eq!((body.etag.as_deref(), body.last_modified), (etag, modified));
        assert_eq!(body.length, Some(300_000));
        assert_eq!(read(body).unwrap(), bytes);
    }
    assert!(registry.seen().iter().all(|seen| seen.target.ends_with("?signature=1")));
    assert!(registry.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn asks_for_nothing_that_is_here() {
    let (registry, url) = with_file(b"x");
    registry.fault("GET", "/blobs/", 1, Act::Status(304, Vec::new(), String::new()));
    let request = Download { url: &url, etag: Some("\"x\""), limit_bytes: LIMIT, ..Download::default() };
    assert!(matches!(client().download(&request).unwrap(), Downloaded::NotModified));
    let seen = &registry.seen()[0];
    assert_eq!(seen.header("if-none-match"), Some("\"x\""));
    assert_eq!(seen.header("if-modified-since"), None);
    // An answer to a question that nobody asked.
    registry.fault("GET", "/blobs/", 1, Act::Status(304, Vec::new(), String::new()));
    assert!(matches!(get(&url), Err(Error::Status { status: 304, .. })));
}

#[test]
fn sends_a_credential_to_its_own_host_alone() {
    let setup = Setup { access: Access::Basic("me".into(), "secret".into()), ..Setup::default() };
    let closed = Registry::start(setup);
    let digest = closed.put_blob("app", b"closed").digest;
    let path = format!("/v2/app/blobs/{digest}");
    let url = format!("http://me:secret@{}{path}", closed.host());
    assert_eq!(get(&url).unwrap(), b"closed");
    let error = get(&format!("http://{}{path}", closed.host())).unwrap_err();
    assert!(error.is_unauthorized(), "{error}");

    let open = Registry::start(Setup::default());
    open.put_blob("app", b"closed");
    closed.fault("GET", "/blobs/", 1, Act::Redirect(format!("http://{}", open.host())));
    assert_eq!(get(&url).unwrap(), b"closed");
    assert_eq!(open.seen()[0].header("authorization"), None);
}

#[test]
fn an_error_shows_no_secret() {
    let (registry, url) = with_file(b"x");
    let secret = url.replace("http://", "http://me:secret@") + "?token=secret";
    for status in [404, 403, 410] {
        registry.fault("GET", "/blobs/", 1, Act::Status(status, Vec::new(), String::new()));
        let error = get(&secret).unwrap_err();
        assert_eq!(error.to_string(), format!("GET {url}: {status}"));
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn tries_again_before_the_first_byte() {
    let (registry, url) = with_file(b"x");
    registry.fault("GET", "/blobs/", 1, Act::Close);
    registry.fault("GET", "/blobs/", 1, Act::Status(503, Vec::new(), String::new()));
    assert_eq!(get(&url).unwrap(), b"x");
    assert_eq!(registry.seen().len(), 3);
}

#[test]
fn a_body_that_ends_early_is_an_error() {
    let (registry, url) = with_file(&noise(200_000));
    registry.fault("GET", "/blobs/", 1, Act::Cut(100_000));
    let request = Download { url: &url, limit_bytes: LIMIT, ..Download::default() };
    let Downloaded::Body(body) = client().download(&request).unwrap() else { panic!("no body") };
    let error = read(body).unwrap_err();
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).unwrap();
    assert!(error.is_unreachable(), "{error}: {}", root(error));
}

#[test]
fn no_more_is_read_than_the_limit() {
    let (registry, url) = with_file(&noise(1000));
    let request = Download { url: &url, limit_bytes: 999, ..Download::default() };
    assert!(matches!(client().download(&request), Err(Error::TooLarge { limit_bytes: 999, .. })));
    // A length that is not announced.
    registry.fault("GET", "/blobs/", 1, Act::Flood(100));
    let request = Download { url: &url, limit_bytes: 1050, ..Download::default() };
    let Downloaded::Body(mut body) = client().download(&request).unwrap() else { panic!("no body") };
    let error = body.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("1050"), "{error}");
}

#[test]
fn redirects_end() {
    let clock = Clock::default();
    let (registry, url) = with_file(b"x");
    registry.fault("GET", "/blobs/", 100, Act::Redirect(format!("http://{}", registry.host())));
    let client = registry::Client::new(clock.options());
    let request = Download { url: &url, limit_bytes: LIMIT, ..Download::default() };
    assert!(matches!(client.download(&request), Err(Error::Answer { .. })));
    assert_eq!(clock.waits().len(), 0);
}
