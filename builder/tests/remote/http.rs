//! Files of the web.

use builder::remote::{FetchError, FetchRequest, Form, Remote};
use oci::Digest;
use registry::testing::{Access, Act, Registry, Setup};

use crate::support::{Place, remote, tree};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const SECONDS: i64 = 784_111_777;

/// A server with one file, and the file's address.
fn with_file(bytes: &[u8]) -> (Registry, String) {
    let server = Registry::start(Setup::default());
    let digest = server.put_blob("app", bytes).digest;
    let url = format!("http://{}/v2/app/blobs/{digest}", server.host());
    (server, url)
}

fn file(url: &str) -> Remote {
    remote(url, Form::Add)
}

fn not_modified() -> Act {
    Act::Status(304, Vec::new(), String::new())
}

#[test]
fn a_file_is_roots_and_dated_by_the_server() {
    let (server, url) = with_file(b"hello");
    let name = url.rsplit('/').next().unwrap().to_owned();
    let place = Place::new();
    server.fault("GET", "/blobs/", 1, Act::With("last-modified", MODIFIED.to_owned()));
    let dated = place.fetch(&file(&format!("{url}?x=/y"))).unwrap();
    assert_eq!((dated.modified, dated.name.as_str()), (Some(SECONDS), name.as_str()));
    assert_eq!(place.files(&dated), tree(&[(&name, "hello")]));
    let metadata = place.metadata(&dated, &name);
    assert_eq!((metadata.mode, metadata.owner.uid, metadata.owner.gid), (0o600, 0, 0));
    assert_eq!((metadata.modified.seconds, metadata.modified.nanoseconds), (SECONDS, 0));

    let undated = place.fetch(&file(&url)).unwrap();
    assert_eq!(undated.modified, None);
    assert_ne!(undated.identity, dated.identity);
    assert_eq!(place.metadata(&undated, &name).modified.seconds, 0);
    assert!(place.is_clean());
    assert_eq!(builder::remote::references(&place.store).unwrap().len(), 2);
}

#[test]
fn what_is_here_is_not_sent_again() {
    let (server, url) = with_file(b"hello");
    let place = Place::new();
    server.fault("GET", "/blobs/", 1, Act::With("etag", "\"1\"".to_owned()));
    let first = place.fetch(&file(&url)).unwrap();
    server.fault("GET", "/blobs/", 1, not_modified());
    assert_eq!(place.fetch(&file(&url)).unwrap(), first);
    let asked: Vec<_> = server.seen().iter().map(|seen| seen.header("if-none-match").is_some()).collect();
    assert_eq!(asked, [false, true]);
    // Without its snapshot a record is worth nothing, and nothing is asked on a condition.
    place.snapshots.remove(&first.snapshot).unwrap();
    assert_eq!(place.fetch(&file(&url)).unwrap().identity, first.identity);
    assert_eq!(server.seen()[2].header("if-none-match"), None);
}

#[test]
fn a_file_that_changed_is_another_tree() {
    let (server, url) = with_file(b"hello");
    let place = Place::new();
    let answer = |etag: &str, text: &str| {
        Act::Status(200, vec![("etag".to_owned(), etag.to_owned())], text.to_owned())
    };
    server.fault("GET", "/blobs/", 1, answer("1", "one"));
    server.fault("GET", "/blobs/", 1, answer("2", "two"));
    let (first, second) = (place.fetch(&file(&url)).unwrap(), place.fetch(&file(&url)).unwrap());
    assert_ne!(first.identity, second.identity);
    let name = second.name.clone();
    assert_eq!(place.files(&second), tree(&[(&name, "two")]));
    assert_eq!(server.seen()[1].header("if-none-match"), Some("1"));
}

#[test]
fn a_checksum_that_is_here_needs_no_network() {
    let (server, url) = with_file(b"hello");
    let place = Place::new();
    let pinned = file(&url).with_checksum(&Digest::of(b"hello").to_string()).unwrap();
    let first = place.fetch(&pinned).unwrap();
    assert_eq!(place.fetch(&pinned).unwrap(), first);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_wrong_checksum_names_both_and_keeps_nothing() {
    let (server, url) = with_file(b"hello");
    let place = Place::new();
    let (wrong, right) = (Digest::of(b"other").to_string(), Digest::of(b"hello").to_string());
    let pinned = file(&url).with_checksum(&wrong).unwrap();
    for _ in 0..2 {
        match place.fetch(&pinned).unwrap_err() {
            FetchError::Checksum { address, expected, found } => {
                assert_eq!((address, expected, found), (url.clone(), wrong.clone(), right.clone()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(place.is_clean());
    // Also where the server says that nothing has changed.
    server.fault("GET", "/blobs/", 1, Act::With("etag", "1".to_owned()));
    place.fetch(&file(&url)).unwrap();
    server.fault("GET", "/blobs/", 1, not_modified());
    assert!(matches!(place.fetch(&pinned), Err(FetchError::Checksum { .. })));
}

#[test]
fn a_transfer_that_breaks_starts_anew_or_leaves_nothing() {
    let bytes = vec![b'x'; 300_000];
    let (server, url) = with_file(&bytes);
    let place = Place::new();
    server.fault("GET", "/blobs/", 2, Act::Cut(100_000));
    let whole = place.fetch(&file(&url)).unwrap();
    assert_eq!(place.metadata(&whole, &whole.name).size_bytes, 300_000);
    let place = Place::new();
    server.fault("GET", "/blobs/", 3, Act::Cut(100_000));
    match place.fetch(&file(&url)).unwrap_err() {
        FetchError::Interrupted { address, attempts: 3, .. } => assert_eq!(address, url),
        other => panic!("{other:?}"),
    }
    assert!(place.is_clean());
    assert!(builder::remote::references(&place.store).unwrap().is_empty());
}

#[test]
fn a_missing_file_is_an_error_with_its_address() {
    let (_server, url) = with_file(b"x");
    let place = Place::new();
    let missing = format!("{}0?token=secret", &url[..url.len() - 1]).replace("http://", "http://u:secret@");
    let error = place.fetch(&file(&missing)).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(error.to_string().contains("404") && error.to_string().contains("/v2/app/"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    assert!(place.is_clean());
}

#[test]
fn redirects_are_followed_and_the_name_stays() {
    let (other, url) = with_file(b"hello");
    let server = Registry::start(Setup::default());
    server.fault("GET", "/v2/", 1, Act::Redirect(format!("http://{}", other.host())));
    let place = Place::new();
    let found = place.fetch(&file(&url.replace(&other.host(), &server.host()))).unwrap();
    assert_eq!(place.files(&found), tree(&[(&found.name, "hello")]));
}

#[test]
fn secrets_open_what_is_closed_and_stay_secret() {
    let access = Access::Basic("me".to_owned(), "pass-word".to_owned());
    let server = Registry::start(Setup { access, ..Setup::default() });
    let digest = server.put_blob("app", b"hello").digest;
    let path = format!("{}/v2/app/blobs/{digest}", server.host());
    let header = "Basic bWU6cGFzcy13b3Jk\n";
    let named = |kind: &str| format!("HTTP_AUTH_{kind}_{}", server.host());
    let (by_header, by_token) = (named("HEADER"), named("TOKEN"));
    for (url, secrets) in [
        (format!("http://me:pass-word@{path}"), vec![]),
        (format!("http://{path}"), vec![(by_header.as_str(), header)]),
    ] {
        let place = Place::new();
        place.fetch_with(&file(&url), &secrets).unwrap();
        assert!(!place.mentions("pass-word") && !place.mentions("bWU6cGFzcy13b3Jk"));
    }
    let place = Place::new();
    let closed = file(&format!("http://{path}"));
    let error = place.fetch_with(&closed, &[(by_token.as_str(), "to-ken")]).unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    assert_eq!(server.seen().last().unwrap().header("authorization"), Some("Bearer to-ken"));
    assert!(!format!("{error:?}").contains("to-ken"));
    // Without the port it is for the usual one, where somebody else may listen.
    for other in ["HTTP_AUTH_HEADER_other", "HTTP_AUTH_HEADER_127.0.0.1"] {
        place.fetch_with(&closed, &[(other, header)]).unwrap_err();
        assert_eq!(server.seen().last().unwrap().header("authorization"), None, "{other}");
    }
}

#[test]
fn who_gives_up_is_obeyed() {
    let (_server, url) = with_file(&vec![0; 1 << 20]);
    let place = Place::new();
    let come = std::sync::atomic::AtomicU64::new(0);
    let request = FetchRequest {
        secret: &|_| None,
        give_up: &|| come.load(std::sync::atomic::Ordering::Relaxed) > 0,
        progress: &|bytes, total| {
            assert_eq!(total, Some(1 << 20));
            come.store(bytes, std::sync::atomic::Ordering::Relaxed);
        },
    };
    assert!(matches!(place.fetch_as(&file(&url), &request), Err(FetchError::Cancelled)));
    assert!(place.is_clean());
}
