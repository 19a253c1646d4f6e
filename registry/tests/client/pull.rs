//! Pulling: verified, resumed, and never more than asked for.

use std::time::Duration;

use oci::digest::Mismatch;
use oci::{Descriptor, Digest, Document, Hasher, Index, MAX_DOCUMENT_BYTES, MediaType, Raw, Reference};
use registry::testing::{Act, Fault, Registry, Setup};
use registry::{Client, Error};

use crate::support::{Clock, client, lines, manifest, noise, read, root, status};

fn with_manifest() -> (Registry, Descriptor, Reference) {
    let registry = Registry::start(Setup::default());
    let descriptor = registry.put_manifest("me/app", "1", &MediaType::OciManifest, &manifest("x"));
    let reference = registry.reference("me/app:1");
    (registry, descriptor, reference)
}

#[test]
fn resolves_by_head_alone() {
    let (registry, descriptor, reference) = with_manifest();
    assert_eq!(client().resolve(&reference).unwrap(), descriptor);
    assert_eq!(lines(&registry), ["HEAD /v2/me/app/manifests/1"]);
}

#[test]
fn resolves_by_get_where_head_does_not_tell() {
    for act in [
        Act::Without("docker-content-digest"),
        Act::With("docker-content-digest", "sha512:00".to_owned()),
        Act::With("content-type", "text/plain".to_owned()),
        status(404),
        status(405),
        status(403),
    ] {
        let (registry, descriptor, reference) = with_manifest();
        registry.fault("HEAD", "/manifests/", 1, act.clone());
        assert_eq!(client().resolve(&reference).unwrap(), descriptor, "{act:?}");
        assert_eq!(lines(&registry).len(), 2, "{act:?}");
    }
}

#[test]
fn says_what_is_not_there() {
    let (registry, _, _) = with_manifest();
    let missing = registry.reference("me/app:2");
    for error in [client().resolve(&missing).unwrap_err(), client().document(&missing).unwrap_err()] {
        assert!(error.is_not_found(), "{error}");
        assert!(!error.is_unauthorized() && !error.is_unreachable());
        assert!(error.to_string().ends_with(": 404 MANIFEST_UNKNOWN: manifest unknown"), "{error}");
    }
}

#[test]
fn fetches_documents_of_every_kind() {
    let index = Raw::write(Index::oci(Vec::new())).bytes().to_vec();
    for (media_type, bytes) in [(MediaType::OciManifest, manifest("x")), (MediaType::OciIndex, index.clone())]
    {
        for announced in [media_type.as_str(), "text/plain", "application/json; charset=utf-8"] {
            let registry = Registry::start(Setup::default());
            let descriptor = registry.put_manifest("app", "1", &media_type, &bytes);
            registry.fault("GET", "/manifests/", 1, Act::With("content-type", announced.to_owned()));
            let fetched = client().document(&registry.reference("app:1")).unwrap();
            assert_eq!(fetched.descriptor, descriptor, "{announced}");
            match fetched.document {
                Document::Manifest(raw) => assert_eq!(raw.bytes(), manifest("x")),
                Document::Index(raw) => assert_eq!(raw.bytes(), index),
            }
        }
    }
}

#[test]
fn a_document_is_its_digest() {
    let (registry, descriptor, reference) = with_manifest();
    let pinned = reference.at(descriptor.digest);
    assert_eq!(client().document(&pinned).unwrap().descriptor, descriptor);
    registry.fault("GET", "/manifests/", 1, Act::Corrupt);
    let error = client().document(&pinned).unwrap_err();
    assert!(matches!(error, Error::Verify { source: Mismatch::Digest { .. }, .. }), "{error:?}");
    // By tag, the registry's own promise is what counts.
    registry.fault("GET", "/manifests/", 1, Act::Corrupt);
    let error = client().document(&reference).unwrap_err();
    assert!(matches!(error, Error::Verify { source: Mismatch::Digest { .. }, .. }), "{error:?}");
}

#[test]
fn a_pinned_reference_resolves_to_nothing_else() {
    let (registry, descriptor, reference) = with_manifest();
    let other = Digest::of(b"other").to_string();
    registry.fault("HEAD", "/manifests/", 1, Act::With("docker-content-digest", other));
    let error = client().resolve(&reference.at(descriptor.digest)).unwrap_err();
    assert!(matches!(error, Error::Verify { .. }), "{error:?}");
}

#[test]
fn documents_have_a_limit() {
    let (registry, _, reference) = with_manifest();
    let huge = usize::try_from(MAX_DOCUMENT_BYTES).unwrap();
    for act in [Act::Pad(huge), Act::Flood(huge)] {
        registry.fault("GET", "/manifests/", 1, act.clone());
        let error = client().document(&reference).unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { limit_bytes: MAX_DOCUMENT_BYTES, .. }),
            "{act:?}: {error:?}"
        );
    }
}

#[test]
fn a_document_that_is_none_is_refused() {
    let registry = Registry::start(Setup::default());
    for (bytes, media_type) in [
        (b"<html>".to_vec(), MediaType::OciManifest),
        (b"{}".to_vec(), MediaType::OciManifest),
        (manifest("x"), MediaType::OciIndex),
    ] {
        registry.put_manifest("app", "1", &media_type, &bytes);
        let error = client().document(&registry.reference("app:1")).unwrap_err();
        assert!(matches!(error, Error::Document { .. }), "{error:?}");
    }
}

#[test]
fn tries_again_what_may_pass() {
    for act in [status(500), status(503), status(429), Act::Close, Act::Cut(10)] {
        let (registry, descriptor, reference) = with_manifest();
        let clock = Clock::default();
        registry.fault("GET", "/manifests/", 2, act.clone());
        let fetched = Client::new(clock.options()).document(&reference).unwrap();
        assert_eq!(fetched.descriptor, descriptor, "{act:?}");
        assert_eq!(clock.waits().len(), 2, "{act:?}");
    }
}

#[test]
fn gives_up_in_the_end_and_says_so() {
    let (registry, _, reference) = with_manifest();
    let clock = Clock::default();
    registry.fault("GET", "/manifests/", 99, Act::Close);
    let error = Client::new(clock.options()).document(&reference).unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(error.to_string().ends_with(" in 4 attempts"), "{error}");
    assert_eq!(clock.waits().len(), 3);
}

#[test]
fn does_not_repeat_what_cannot_pass() {
    for refused in [400, 401, 403, 404, 405] {
        let (registry, _, reference) = with_manifest();
        registry.fault("GET", "/manifests/", 99, status(refused));
        let error = client().document(&reference).unwrap_err();
        assert!(matches!(error, Error::Status { status, .. } if status == refused), "{error:?}");
        assert_eq!(lines(&registry).len(), 1, "{refused}");
    }
}

#[test]
fn waits_as_long_as_the_registry_asks() {
    let (registry, _, reference) = with_manifest();
    let clock = Clock::default();
    let retry_after =
        |value: &str| Act::Status(429, vec![("retry-after".to_owned(), value.to_owned())], String::new());
    registry.fault("GET", "/manifests/", 1, retry_after("7"));
    Client::new(clock.options()).document(&reference).unwrap();
    assert_eq!(clock.waits(), [Duration::from_secs(7)]);
    registry.fault("GET", "/manifests/", 1, retry_after("86400"));
    let error = Client::new(clock.options()).document(&reference).unwrap_err();
    assert!(error.is_rate_limited());
    assert!(error.to_string().ends_with("(the registry asks to wait 86400 s)"), "{error}");
}

#[test]
fn nobody_there_is_said_at_once() {
    let gone = {
        let registry = Registry::start(Setup::default());
        registry.reference("app:1")
    };
    let clock = Clock::default();
    let error = Client::new(clock.options()).resolve(&gone).unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    assert!(root(&error).contains("refused"), "{}", root(&error));
    assert_eq!(clock.waits().len(), 0, "who refuses a connection now refuses it a second later");
}

#[test]
fn reads_blobs_whole() {
    let registry = Registry::start(Setup::default());
    for length in [0, 1, 70_000, 3_000_000] {
        let bytes = noise(length);
        let descriptor = registry.put_blob("app", &bytes);
        let reader = client().blob(&registry.reference("app:1"), &descriptor).unwrap();
        assert_eq!(read(reader).unwrap(), bytes);
    }
}

#[test]
fn resumes_where_a_connection_broke() {
    let registry = Registry::start(Setup::default());
    let bytes = noise(300_000);
    let descriptor = registry.put_blob("app", &bytes);
    registry.fault("GET", "/blobs/", 1, Act::Cut(100_000));
    registry.fault("GET", "/blobs/", 1, Act::Cut(50_000));
    registry.fault("GET", "/blobs/", 1, status(503));
    let reader = client().blob(&registry.reference("app:1"), &descriptor).unwrap();
    assert_eq!(read(reader).unwrap(), bytes);
    let seen = registry.seen();
    let ranges: Vec<_> = seen.iter().filter_map(|seen| seen.header("range")).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=150000-", "bytes=150000-"]);
}

#[test]
fn starts_over_where_ranges_are_unknown() {
    let registry = Registry::start(Setup::default());
    let bytes = noise(300_000);
    let descriptor = registry.put_blob("app", &bytes);
    registry.fault("GET", "/blobs/", 1, Act::Cut(100_000));
    registry.fault("GET", "/blobs/", 1, Act::WholeBody);
    let reader = client().blob(&registry.reference("app:1"), &descriptor).unwrap();
    assert_eq!(read(reader).unwrap(), bytes);
}

#[test]
fn a_range_that_begins_elsewhere_is_refused() {
    let registry = Registry::start(Setup::default());
    let descriptor = registry.put_blob("app", &noise(300_000));
    registry.fault("GET", "/blobs/", 1, Act::Cut(100_000));
    registry.fault("GET", "/blobs/", 1, Act::With("content-range", "bytes 0-299999/300000".to_owned()));
    let reader = client().blob(&registry.reference("app:1"), &descriptor).unwrap();
    let error = read(reader).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    assert!(matches!(inner, Some(Error::Answer { .. })), "{error:?}");
}

/// What comes behind the first so many bytes, and where that begins.
fn rest(registry: &Registry, bytes: &[u8], known: usize) -> (u64, std::io::Result<Vec<u8>>) {
    let descriptor = registry.put_blob("app", bytes);
    let mut hasher = Hasher::new();
    hasher.update(&bytes[..known]);
    let reader = client().rest_of_blob(&registry.reference("app:1"), &descriptor, &hasher).unwrap();
    (reader.start(), read(reader))
}

#[test]
fn only_the_rest_of_a_blob_comes() {
    let registry = Registry::start(Setup::default());
    let bytes = noise(300_000);
    registry.fault("GET", "/blobs/", 1, Act::Cut(50_000));
    let (start, found) = rest(&registry, &bytes, 100_000);
    assert_eq!((start, found.unwrap()), (100_000, bytes[100_000..].to_vec()));
    let seen = registry.seen();
    let ranges: Vec<_> = seen.iter().filter_map(|seen| seen.header("range")).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=150000-"]);
    assert_eq!(rest(&registry, &bytes, 299_999).1.unwrap(), bytes[299_999..]);
}

#[test]
fn who_gives_no_part_gives_all() {
    let bytes = noise(300_000);
    let range = |range: &str| Act::With("content-range", range.to_owned());
    for act in [
        Act::WholeBody,
        range("bytes 0-199999/300000"),
        range("bytes 100001-299999/300000"),
        Act::Without("content-range"),
        Act::Pad(5),
        status(416),
    ] {
        let registry = Registry::start(Setup::default());
        registry.fault("GET", "/blobs/", 1, act.clone());
        let (start, found) = rest(&registry, &bytes, 100_000);
        assert_eq!(start, 0, "{act:?}");
        assert_eq!(found.unwrap(), bytes, "{act:?}");
    }
}

#[test]
fn the_rest_of_another_blob_is_refused() {
    let registry = Registry::start(Setup::default());
    let descriptor = registry.put_blob("app", &noise(300_000));
    let mut hasher = Hasher::new();
    hasher.update(&[7; 100_000]);
    let reader = client().rest_of_blob(&registry.reference("app:1"), &descriptor, &hasher).unwrap();
    let error = read(reader).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>());
    assert!(matches!(inner, Some(Mismatch::Digest { .. })), "{error:?}");
}

#[test]
fn stops_resuming_without_progress() {
    let registry = Registry::start(Setup::default());
    let descriptor = registry.put_blob("app", &noise(300_000));
    registry.fault("GET", "/blobs/", 99, Act::Cut(1_000));
    let reader = client().blob(&registry.reference("app:1"), &descriptor).unwrap();
    let error = read(reader).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    assert!(inner.is_some_and(Error::is_unreachable), "{error:?}");
    assert_eq!(lines(&registry).len(), 4);
}

#[test]
fn a_blob_is_its_digest_and_size() {
    let registry = Registry::start(Setup::default());
    let bytes = noise(10_000);
    let descriptor = registry.put_blob("app", &bytes);
    let reference = registry.reference("app:1");

    registry.fault("GET", "/blobs/", 2, Act::Corrupt);
    let error = read(client().blob(&reference, &descriptor).unwrap()).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>());
    assert!(matches!(inner, Some(Mismatch::Digest { .. })), "{error:?}");
    let error = client().blob(&reference, &descriptor).unwrap().bytes().unwrap_err();
    assert!(matches!(error, Error::Verify { source: Mismatch::Digest { .. }, .. }), "{error:?}");
    assert!(error.to_string().contains(&descriptor.digest.to_string()), "{error}");
    registry.fault("GET", "/blobs/", 4, Act::Cut(1_000));
    let error = client().blob(&reference, &descriptor).unwrap().bytes().unwrap_err();
    assert!(matches!(error, Error::Reach { attempts: 4, .. }), "{error:?}");
    assert_eq!(client().blob(&reference, &descriptor).unwrap().bytes().unwrap(), bytes);

    for size in [9_999, 10_001, 0] {
        let wrong = Descriptor { size, ..descriptor.clone() };
        let error = client().blob(&reference, &wrong).err().unwrap();
        assert!(matches!(error, Error::Verify { source: Mismatch::Size { .. }, .. }), "{size}: {error:?}");
    }
    registry.fault("GET", "/blobs/", 1, Act::Pad(5));
    let error = client().blob(&reference, &descriptor).err().unwrap();
    assert!(matches!(error, Error::Verify { source: Mismatch::Size { .. }, .. }), "{error:?}");
    registry.fault("GET", "/blobs/", 1, Act::Flood(1_000_000));
    let error = read(client().blob(&reference, &descriptor).unwrap()).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Mismatch>());
    assert!(matches!(inner, Some(Mismatch::Size { found_bytes: 10_001, .. })), "{error:?}");
}

#[test]
fn reads_what_trickles() {
    let registry = Registry::start(Setup::default());
    let bytes = noise(2_000);
    let descriptor = registry.put_blob("app", &bytes);
    registry.fault("GET", "/blobs/", 1, Act::Trickle);
    let reader = client().blob(&registry.reference("app:1"), &descriptor).unwrap();
    assert_eq!(read(reader).unwrap(), bytes);
}

#[test]
fn reads_side_by_side_within_the_limit() {
    let registry = Registry::start(Setup::default());
    let client = Client::new(registry::Options { transfers_per_host: 2, ..Clock::default().options() });
    let blobs: Vec<_> = (0..8).map(|n| noise(100_000 + n)).collect();
    std::thread::scope(|scope| {
        for bytes in &blobs {
            let (client, registry) = (&client, &registry);
            scope.spawn(move || {
                let descriptor = registry.put_blob("app", bytes);
                let reader = client.blob(&registry.reference("app:1"), &descriptor).unwrap();
                assert_eq!(&read(reader).unwrap(), bytes);
            });
        }
    });
}

#[test]
fn follows_redirects_to_storage() {
    let storage = Registry::start(Setup::default());
    let registry = Registry::start(Setup::default());
    let bytes = noise(5_000);
    let descriptor = storage.put_blob("app", &bytes);
    registry.fault("GET", "/blobs/", 1, Act::Redirect(format!("http://{}", storage.host())));
    let reader = client().blob(&registry.reference("app:1"), &descriptor).unwrap();
    assert_eq!(read(reader).unwrap(), bytes);
}

#[test]
fn redirects_end_and_stay_where_they_may() {
    let registry = Registry::start(Setup::default());
    let descriptor = registry.put_blob("app", b"x");
    let reference = registry.reference("app:1");
    registry.fault("GET", "/blobs/", 99, Act::Redirect(format!("http://{}", registry.host())));
    let error = client().blob(&reference, &descriptor).err().unwrap();
    assert!(matches!(error, Error::Answer { .. }), "{error:?}");

    let registry = Registry::start(Setup::default());
    let reference = registry.reference("app:1");
    registry.fault("GET", "/blobs/", 1, Act::Redirect("http://169.254.169.254".to_owned()));
    let error = client().blob(&reference, &descriptor).err().unwrap();
    assert!(matches!(error, Error::Follow { .. }), "{error:?}");
}

#[test]
fn errors_do_not_tell_signatures() {
    let registry = Registry::start(Setup::default());
    let storage = Registry::start(Setup::default());
    let descriptor = registry.put_blob("app", b"x");
    let location = format!("http://{}/bucket?X-Signature=secret", storage.host());
    let act = Act::Status(307, vec![("location".to_owned(), location)], String::new());
    registry.fault("GET", "/blobs/", 1, act);
    let error = client().blob(&registry.reference("app:1"), &descriptor).err().unwrap();
    assert!(error.to_string().contains("/bucket: 404"), "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    assert!(storage.seen().iter().any(|seen| seen.target == "/bucket?X-Signature=secret"));
}

#[test]
fn faults_can_wait_their_turn() {
    let (registry, _, reference) = with_manifest();
    let act = status(403);
    registry.add_fault(Fault { method: "GET", path: "/manifests/".to_owned(), after: 1, times: 1, act });
    let client = client();
    client.document(&reference).unwrap();
    client.document(&reference).unwrap_err();
    client.document(&reference).unwrap();
}
