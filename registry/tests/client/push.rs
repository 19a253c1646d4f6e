//! Pushing: nothing that is there, everything that is not, and nothing twice.

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use oci::digest::Mismatch;
use oci::{Descriptor, Digest, MediaType, Reference};
use registry::testing::{Access, Act, Location, Mounts, Registry, Setup, TokenServer};
use registry::{Client, Error, Pushed};

use crate::support::{client, lines, manifest, noise, status};

fn describe(bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::OciConfig, Digest::of(bytes), bytes.len() as u64)
}

/// Pushes and checks that progress adds up.
fn push(client: &Client, to: &Reference, bytes: &[u8], from: &[Reference]) -> Result<Pushed, Error> {
    let total = AtomicI64::new(0);
    let progress = |delta| {
        let now = total.fetch_add(delta, Ordering::SeqCst) + delta;
        assert!((0..=i64::try_from(bytes.len()).unwrap()).contains(&now), "{now}");
    };
    let result = client.push_blob(to, &describe(bytes), &bytes.to_vec(), from, &progress);
    let expected = if result.is_ok() { bytes.len() } else { 0 };
    assert_eq!(total.load(Ordering::SeqCst), i64::try_from(expected).unwrap());
    result
}

#[test]
fn uploads_once() {
    let registry = Registry::start(Setup::default());
    let to = registry.reference("me/app:1");
    let client = client();
    for length in [0, 1, 100_000, 2_000_000] {
        let bytes = noise(length);
        assert_eq!(push(&client, &to, &bytes, &[]).unwrap(), Pushed::Uploaded);
        assert_eq!(registry.blob("me/app", Digest::of(&bytes)), Some(bytes.clone()));
        assert_eq!(push(&client, &to, &bytes, &[]).unwrap(), Pushed::Existed);
    }
    let puts = registry.seen().into_iter().filter(|seen| seen.method == "PUT");
    let lengths: Vec<_> = puts.map(|seen| seen.header("content-length").unwrap().to_owned()).collect();
    assert_eq!(lengths, ["0", "1", "100000", "2000000"], "one request each, its length announced");
}

#[test]
fn finds_the_session_wherever_it_is() {
    for location in [Location::Path, Location::Absolute, Location::Relative, Location::Query] {
        let registry = Registry::start(Setup { location: location.clone(), ..Setup::default() });
        let bytes = noise(1000);
        push(&client(), &registry.reference("app:1"), &bytes, &[]).unwrap();
        assert_eq!(registry.blob("app", Digest::of(&bytes)), Some(bytes), "{location:?}");
    }
}

#[test]
fn a_session_elsewhere_gets_the_bytes_and_no_credentials() {
    let storage = Registry::start(Setup::default());
    let registry = Registry::start(Setup {
        access: Access::Token(TokenServer::default()),
        location: Location::Host(format!("http://{}", storage.host())),
        ..Setup::default()
    });
    let bytes = noise(1000);
    push(&client(), &registry.reference("app:1"), &bytes, &[]).unwrap();
    assert_eq!(storage.blob("app", Digest::of(&bytes)), Some(bytes));
    assert!(!storage.seen().is_empty());
    assert!(storage.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(registry.seen().iter().any(|seen| seen.header("authorization").is_some()));
}

#[test]
fn a_session_in_the_private_network_is_refused() {
    let location = Location::Host("http://10.0.0.1".to_owned());
    let registry = Registry::start(Setup { location, ..Setup::default() });
    let error = push(&client(), &registry.reference("app:1"), b"x", &[]).unwrap_err();
    assert!(matches!(error, Error::Follow { .. }), "{error:?}");
}

#[test]
fn mounts_what_another_repository_has() {
    for (mounts, pushed, methods) in [
        (Mounts::Done, Pushed::Mounted, "HEAD POST"),
        (Mounts::Session, Pushed::Uploaded, "HEAD POST PUT"),
        (Mounts::Denied, Pushed::Uploaded, "HEAD POST POST PUT"),
    ] {
        let registry = Registry::start(Setup { mounts, ..Setup::default() });
        let bytes = noise(1000);
        registry.put_blob("base", &bytes);
        let elsewhere: Reference = "ghcr.io/base:1".parse().unwrap();
        let to = registry.reference("app:1");
        let from = [elsewhere, to.clone(), registry.reference("base:1")];
        assert_eq!(push(&client(), &to, &bytes, &from).unwrap(), pushed, "{mounts:?}");
        assert_eq!(registry.blob("app", Digest::of(&bytes)), Some(bytes));
        let found: Vec<_> =
            lines(&registry).iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(found.join(" "), methods, "{mounts:?}");
        assert_eq!(registry.open_sessions(), 0, "{mounts:?}");
    }
}

#[test]
fn mounting_asks_for_both_repositories() {
    let registry =
        Registry::start(Setup { access: Access::Token(TokenServer::default()), ..Setup::default() });
    registry.put_blob("base", b"x");
    let from = [registry.reference("base:1")];
    assert_eq!(push(&client(), &registry.reference("app:1"), b"x", &from).unwrap(), Pushed::Mounted);
    let asked =
        registry.seen().into_iter().filter(|seen| seen.target.starts_with("/token")).map(|s| s.target);
    let asked: Vec<_> = asked.collect();
    assert!(
        asked
            .iter()
            .any(|target| { target.contains("scope=repository:app:pull,push&scope=repository:base:pull") }),
        "{asked:?}"
    );
}

#[test]
fn begins_again_with_a_new_session() {
    for act in [status(500), status(503), Act::Close, Act::CutRequest(1000)] {
        let registry = Registry::start(Setup::default());
        let bytes = noise(500_000);
        registry.fault("PUT", "/uploads/", 2, act.clone());
        assert_eq!(push(&client(), &registry.reference("app:1"), &bytes, &[]).unwrap(), Pushed::Uploaded);
        assert_eq!(registry.blob("app", Digest::of(&bytes)), Some(bytes), "{act:?}");
        let puts = registry.seen().into_iter().filter(|seen| seen.method == "PUT").map(|seen| seen.target);
        let puts: Vec<_> = puts.collect();
        assert_eq!(puts.len(), 3, "{act:?}");
        assert!(puts[0] != puts[1] && puts[1] != puts[2], "{puts:?}");
    }
}

#[test]
fn a_lost_answer_is_no_second_upload() {
    let registry = Registry::start(Setup::default());
    registry.fault("PUT", "/uploads/", 1, Act::LoseAnswer);
    assert_eq!(push(&client(), &registry.reference("app:1"), &noise(1000), &[]).unwrap(), Pushed::Uploaded);
    assert_eq!(registry.seen().iter().filter(|seen| seen.method == "PUT").count(), 1);
}

#[test]
fn a_refusal_ends_the_push_and_the_session() {
    let registry = Registry::start(Setup::default());
    let body = r#"{"errors":[{"code":"DENIED","message":"quota"}]}"#.to_owned();
    registry.fault("PUT", "/uploads/", 99, Act::Status(403, Vec::new(), body));
    let error = push(&client(), &registry.reference("app:1"), &noise(1000), &[]).unwrap_err();
    assert!(error.is_unauthorized() && error.to_string().ends_with("403 DENIED: quota"), "{error}");
    assert_eq!(registry.seen().iter().filter(|seen| seen.method == "PUT").count(), 1);
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn after_a_break_the_registry_is_asked_first() {
    let registry = Registry::start(Setup::default());
    registry.fault("PUT", "/uploads/", 1, Act::CutRequest(0));
    registry.fault("PUT", "/uploads/", 1, status(413));
    let error = push(&client(), &registry.reference("app:1"), &noise(8_000_000), &[]).unwrap_err();
    assert!(matches!(error, Error::Status { status: 413, .. }), "{error:?}");
}

#[test]
fn a_source_that_fails_is_named() {
    let registry = Registry::start(Setup::default());
    let to = registry.reference("app:1");
    let descriptor = describe(&noise(1000));
    let short = |_| -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::Cursor::new(noise(999)))) };
    let broken = |_| -> io::Result<Box<dyn Read + Send>> { Err(io::ErrorKind::PermissionDenied.into()) };
    for error in [
        client().push_blob(&to, &descriptor, &short, &[], &|_| {}).unwrap_err(),
        client().push_blob(&to, &descriptor, &broken, &[], &|_| {}).unwrap_err(),
    ] {
        assert!(
            matches!(&error, Error::ReadSource { digest, .. } if *digest == descriptor.digest),
            "{error:?}"
        );
    }
    assert_eq!(registry.seen().iter().filter(|seen| seen.method == "PUT").count(), 1);
}

#[test]
fn a_source_with_other_bytes_is_refused_by_the_registry() {
    let registry = Registry::start(Setup::default());
    let opened = AtomicU32::new(0);
    let other = |_| -> io::Result<Box<dyn Read + Send>> {
        opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(io::Cursor::new(vec![0; 2000])))
    };
    let error = client()
        .push_blob(&registry.reference("app:1"), &describe(&noise(1000)), &other, &[], &|_| {})
        .unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[test]
fn writes_manifests_by_tag_and_by_digest() {
    let registry = Registry::start(Setup::default());
    let bytes = manifest("x");
    let digest = Digest::of(&bytes);
    let by_digest = format!("app@{digest}");
    for (name, target) in [("app:1", "1".to_owned()), (&by_digest, digest.to_string())] {
        let to = registry.reference(name);
        assert_eq!(client().push_manifest(&to, &MediaType::OciManifest, &bytes).unwrap(), digest);
        let (media_type, found) = registry.manifest("app", &target).unwrap();
        assert_eq!((media_type.as_str(), found), (MediaType::OciManifest.as_str(), bytes.clone()));
    }
    let other = registry.reference(&by_digest);
    let error = client().push_manifest(&other, &MediaType::OciManifest, &manifest("y")).unwrap_err();
    assert!(matches!(error, Error::Verify { source: Mismatch::Digest { .. }, .. }), "{error:?}");
    registry.fault("PUT", "/manifests/", 1, Act::With("docker-content-digest", Digest::of(b"").to_string()));
    let error =
        client().push_manifest(&registry.reference("app:1"), &MediaType::OciManifest, &bytes).unwrap_err();
    assert!(matches!(error, Error::Verify { .. }), "{error:?}");
}

#[test]
fn pushes_side_by_side_and_reads_from_the_same_host() {
    let registry = Registry::start(Setup::default());
    let client = Client::new(registry::Options {
        transfers_per_host: 1,
        ..crate::support::Clock::default().options()
    });
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (client, registry, results) = (&client, &registry, &results);
            scope.spawn(move || {
                let descriptor = registry.put_blob("old", &noise(50_000 + n));
                let from = registry.reference("old:1");
                let source = |_| -> io::Result<Box<dyn Read + Send>> {
                    Ok(Box::new(client.blob(&from, &descriptor).map_err(io::Error::other)?))
                };
                let pushed =
                    client.push_blob(&registry.reference("new:1"), &descriptor, &source, &[], &|_| {});
                results.lock().unwrap().push(pushed.unwrap());
            });
        }
    });
    assert_eq!(results.into_inner().unwrap(), [Pushed::Uploaded; 4]);
}

#[test]
fn what_is_too_large_for_one_request_goes_in_chunks() {
    for (takes, patches) in [(None, 3), (Some(30_000), 4)] {
        let registry = Registry::start(Setup { takes, ..Setup::default() });
        registry.fault("PUT", "/uploads/", 1, status(413));
        let options = registry::Options { chunk_bytes: 40_000, ..crate::support::Clock::default().options() };
        let bytes = noise(100_000);
        let pushed = push(&Client::new(options), &registry.reference("app:1"), &bytes, &[]).unwrap();
        assert_eq!(pushed, Pushed::Uploaded);
        assert_eq!(registry.blob("app", Digest::of(&bytes)), Some(bytes));
        assert_eq!(registry.seen().iter().filter(|seen| seen.method == "PATCH").count(), patches);
        assert_eq!(registry.open_sessions(), 0);
    }
}

/// `METHOD content-range` of the requests to upload sessions.
fn session_lines(registry: &Registry) -> Vec<String> {
    let is_session = |seen: &&registry::testing::Seen| seen.target.contains("/blobs/uploads/");
    let line = |seen: &registry::testing::Seen| {
        format!("{} {}", seen.method, seen.header("content-range").unwrap_or("-"))
    };
    registry.seen().iter().filter(is_session).map(line).collect()
}

#[test]
fn goes_on_where_a_connection_broke() {
    let registry = Registry::start(Setup::default());
    let bytes = noise(3_000_000);
    registry.fault("PUT", "/uploads/", 1, Act::HalfRequest(1_000_000));
    registry.fault("PATCH", "/uploads/", 1, Act::HalfRequest(500_000));
    registry.fault("PATCH", "/uploads/", 1, Act::LoseAnswer);
    let options = registry::Options { chunk_bytes: 800_000, ..crate::support::Clock::default().options() };
    assert_eq!(
        push(&Client::new(options), &registry.reference("app:1"), &bytes, &[]).unwrap(),
        Pushed::Uploaded
    );
    assert_eq!(registry.blob("app", Digest::of(&bytes)), Some(bytes));
    let expected = [
        "POST -",
        "PUT -",
        "GET -",
        "PATCH 1000000-1799999",
        "GET -",
        "PATCH 1500000-2299999",
        "GET -",
        "PATCH 2300000-2999999",
        "PUT -",
    ];
    assert_eq!(session_lines(&registry), expected);
    assert_eq!(registry.open_sessions(), 0);
}

#[test]
fn tries_are_counted_anew_when_bytes_arrive() {
    let registry = Registry::start(Setup::default());
    let bytes = noise(20_000_000);
    registry.fault("PUT", "/uploads/", 1, Act::HalfRequest(2_000_000));
    registry.fault("PATCH", "/uploads/", 8, Act::HalfRequest(2_000_000));
    assert_eq!(push(&client(), &registry.reference("app:1"), &bytes, &[]).unwrap(), Pushed::Uploaded);
    registry.fault("PUT", "/uploads/", 99, Act::HalfRequest(1000));
    registry.fault("PATCH", "/uploads/", 99, Act::HalfRequest(1000));
    let error = push(&client(), &registry.reference("app:1"), &noise(1_000_000), &[]).unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
}

#[derive(Debug, Default)]
struct Remembered(Mutex<std::collections::BTreeMap<String, String>>);

impl registry::Sessions for Remembered {
    fn load(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap().get(key).cloned()
    }

    fn save(&self, key: &str, session: &str) {
        self.0.lock().unwrap().insert(key.to_owned(), session.to_owned());
    }

    fn remove(&self, key: &str) {
        self.0.lock().unwrap().remove(key);
    }
}

#[test]
fn another_process_goes_on() {
    let registry = Registry::start(Setup { location: Location::Query, ..Setup::default() });
    let remembered = std::sync::Arc::new(Remembered::default());
    let client = |attempts| {
        let options = crate::support::Clock::default().options();
        let retry = registry::Retry { attempts, ..options.retry };
        Client::new(registry::Options { retry, sessions: Some(remembered.clone()), ..options })
    };
    let (to, bytes) = (registry.reference("app:1"), noise(3_000_000));
    registry.fault("PUT", "/uploads/", 1, Act::HalfRequest(1_000_000));
    push(&client(1), &to, &bytes, &[]).unwrap_err();
    assert_eq!(remembered.0.lock().unwrap().len(), 1);
    let before = session_lines(&registry).len();
    assert_eq!(push(&client(1), &to, &bytes, &[]).unwrap(), Pushed::Uploaded);
    let lines = session_lines(&registry).split_off(before);
    assert_eq!(
        lines.iter().filter(|line| *line != "GET -").collect::<Vec<_>>(),
        ["PATCH 1000000-2999999", "PUT -"]
    );
    assert_eq!(registry.blob("app", Digest::of(&bytes)), Some(bytes));
    assert!(remembered.0.lock().unwrap().is_empty());
    // What the registry has forgotten, or what points where it must not, is begun anew.
    let other = noise(2_000_000);
    let key = {
        registry.fault("PUT", "/uploads/", 1, Act::Close);
        push(&client(1), &to, &other, &[]).unwrap_err();
        remembered.0.lock().unwrap().keys().next().unwrap().clone()
    };
    for session in
        [format!("http://{}/v2/app/blobs/uploads/gone", registry.host()), "http://10.0.0.1/x".to_owned()]
    {
        remembered.0.lock().unwrap().insert(key.clone(), session);
        assert_eq!(push(&client(1), &to, &other, &[]).unwrap(), Pushed::Uploaded);
        assert!(registry.blob("app", Digest::of(&other)).is_some(), "it was pushed");
        registry.forget_blob("app", Digest::of(&other));
    }
}

#[test]
fn chunks_are_as_long_as_the_registry_wants() {
    let registry = Registry::start(Setup { least: Some(50_000), ..Setup::default() });
    registry.fault("PUT", "/uploads/", 1, status(413));
    let options = registry::Options { chunk_bytes: 40_000, ..crate::support::Clock::default().options() };
    push(&Client::new(options), &registry.reference("app:1"), &noise(100_000), &[]).unwrap();
    let patches: Vec<_> =
        session_lines(&registry).into_iter().filter(|line| line.starts_with("PATCH")).collect();
    assert_eq!(patches, ["PATCH 0-49999", "PATCH 50000-99999"]);
}

#[test]
fn a_chunk_that_is_refused_or_lied_about_ends_the_push() {
    for act in [status(413), status(416), Act::With("range", "0-99999999".to_owned())] {
        let registry = Registry::start(Setup::default());
        registry.fault("PUT", "/uploads/", 1, status(413));
        registry.fault("PATCH", "/uploads/", 1, act.clone());
        let options = registry::Options { chunk_bytes: 40_000, ..crate::support::Clock::default().options() };
        let error =
            push(&Client::new(options), &registry.reference("app:1"), &noise(100_000), &[]).unwrap_err();
        assert!(matches!(error, Error::Status { .. } | Error::Answer { .. }), "{act:?}: {error:?}");
        assert_eq!(registry.open_sessions(), 0, "{act:?}");
    }
}
