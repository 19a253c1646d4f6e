//! What was done to other clients, by the number that it got. Each test holds this one against the same.

use oci::{Descriptor, Digest, MediaType};
use registry::testing::{Access, Act, Location, Registry, Setup, TokenServer};
use registry::{Client, Credential, Error, Keychain, Options};

use crate::support::{Clock, client, lines, manifest, read};

/// A registry that wants a token, and a client that has an account there.
fn closed(location: Location) -> (Registry, Client) {
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let access = Access::Token(TokenServer { login, ..TokenServer::default() });
    let registry = Registry::start(Setup { access, location, ..Setup::default() });
    let credential = Credential::Basic { username: "me".to_owned(), password: "secret".to_owned() };
    let keychain = Keychain::anonymous().and(&registry.host(), credential);
    let client = Client::new(Options { keychain, ..Clock::default().options() });
    (registry, client)
}

/// containerd sent the registry's credential to whatever host a manifest or an answer named.
#[test]
fn cve_2020_15157_credentials_stay_with_their_registry() {
    let thief = Registry::start(Setup::default());
    let blob = thief.put_blob("app", b"a blob");
    let elsewhere = format!("http://{}", thief.host());
    // An upload session on another host, and one that a registry leads to by a redirect.
    let (registry, client) = closed(Location::Host(elsewhere.clone()));
    let to = registry.reference("app:1");
    let fresh = Descriptor::new(MediaType::OciConfig, Digest::of(b"fresh"), 5);
    client.push_blob(&to, &fresh, &b"fresh".to_vec(), &[], &|_| {}).unwrap();
    registry.put_blob("app", b"a blob");
    registry.fault("GET", "/blobs/", 1, Act::Redirect(elsewhere));
    assert_eq!(read(client.blob(&to, &blob).unwrap()).unwrap(), b"a blob");
    assert!(thief.seen().len() >= 2);
    assert!(thief.seen().iter().all(|seen| seen.header("authorization").is_none()), "{:?}", thief.seen());
    // A challenge of the other host's is not answered with it either.
    let asks = vec![("www-authenticate".to_owned(), "Basic realm=\"x\"".to_owned())];
    registry.fault("GET", "/blobs/", 1, Act::Redirect(format!("http://{}", thief.host())));
    thief.fault("GET", "/blobs/", 1, Act::Status(401, asks, String::new()));
    assert!(client.blob(&to, &blob).err().unwrap().is_unauthorized());
    assert!(thief.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

/// One document that is a manifest to one reader and an index to another.
#[test]
fn cve_2021_41190_a_document_is_one_thing() {
    let part = format!(r#"{{"mediaType":"a/b","digest":"{}","size":1}}"#, Digest::of(b"x"));
    let both = format!(
        r#"{{"schemaVersion":2,"config":{part},"layers":[{part}],"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":1}}]}}"#,
        Digest::of(b"y")
    );
    let registry = Registry::start(Setup::default());
    for media_type in [MediaType::OciManifest, MediaType::OciIndex, MediaType::DockerManifest] {
        registry.put_manifest("app", "1", &media_type, both.as_bytes());
        let error = client().document(&registry.reference("app:1")).unwrap_err();
        assert!(matches!(error, Error::Document { .. }), "{error:?}");
    }
    // Announced as the one, and says of itself that it is the other.
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    registry.put_manifest("app", "1", &MediaType::OciManifest, index.as_bytes());
    assert!(client().document(&registry.reference("app:1")).is_err());
}

/// A digest that is a path became one, on the disk and in the next request.
#[test]
fn cve_2024_3727_a_digest_is_no_path() {
    let registry = Registry::start(Setup::default());
    for digest in ["sha256:../../../../v2/other/blobs/x", "../x", "sha256:%2e%2e", "sha512:00", ""] {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{digest}","size":1}},"layers":[]}}"#
        );
        registry.put_manifest("app", "1", &MediaType::OciManifest, text.as_bytes());
        let error = client().document(&registry.reference("app:1")).unwrap_err();
        assert!(matches!(error, Error::Document { .. }), "{digest}: {error:?}");
    }
    // Nor is what an answer's header says.
    registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
    let header = Act::With("docker-content-digest", "sha256:../../x".to_owned());
    registry.fault("HEAD", "/manifests/", 1, header);
    assert_eq!(client().resolve(&registry.reference("app:1")).unwrap().digest, Digest::of(&manifest("x")));
    assert!(lines(&registry).iter().all(|line| line.ends_with("/v2/app/manifests/1")));
}

/// An answer without an end filled the memory.
#[test]
fn cve_2023_25153_every_answer_has_a_limit() {
    let flood = Act::Flood(20 * 1024 * 1024);
    let registry =
        Registry::start(Setup { access: Access::Token(TokenServer::default()), ..Setup::default() });
    registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
    let app = registry.reference("app:1");
    let is_limit = |error: &Error| {
        let error = match error {
            Error::Authenticate { source, .. } => source,
            error => error,
        };
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    };
    registry.fault("GET", "/token", 1, flood.clone());
    is_limit(&client().document(&app).unwrap_err());
    registry.fault("GET", "/manifests/", 2, flood.clone());
    is_limit(&client().document(&app).unwrap_err());
    let client = client();
    client.document(&app).unwrap();
    registry.fault("GET", "/tags/list", 1, flood.clone());
    is_limit(&client.tags(&app).unwrap_err());
    registry.fault("GET", "/referrers/", 1, flood);
    is_limit(&client.referrers(&app, Digest::of(b"x"), None).unwrap_err());
}

/// A manifest of the wrong shape brought the daemon down.
#[test]
fn cve_2021_21285_a_malformed_manifest_is_an_error() {
    let registry = Registry::start(Setup::default());
    for text in [
        "null",
        "[]",
        "0",
        "\"x\"",
        "{",
        "{\"layers\":{}}",
        "{\"schemaVersion\":2,\"config\":null,\"layers\":[null]}",
        "{\"manifests\":[[]]}",
        "{\"schemaVersion\":2,\"manifests\":null,\"manifests\":[1]}",
    ] {
        registry.put_manifest("app", "1", &MediaType::OciManifest, text.as_bytes());
        assert!(client().document(&registry.reference("app:1")).is_err(), "{text}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    registry.put_manifest("app", "1", &MediaType::OciManifest, deep.as_bytes());
    assert!(client().document(&registry.reference("app:1")).is_err());
}

/// A token server's address, or a redirect, led into the network of whoever asked. (go-containerregistry
/// #2258.)
#[test]
fn nobody_is_led_into_the_private_network() {
    for place in
        ["http://169.254.169.254/latest", "http://10.0.0.1/", "http://[fd00::1]/", "http://2852039166/"]
    {
        let realm = Some(place.to_owned());
        let access = Access::Token(TokenServer { realm, ..TokenServer::default() });
        let registry = Registry::start(Setup { access, ..Setup::default() });
        let error = client().document(&registry.reference("app:1")).unwrap_err();
        assert!(matches!(error, Error::Follow { .. }), "{place}: {error:?}");
        let open = Registry::start(Setup::default());
        open.fault("GET", "/manifests/", 1, Act::Redirect(place.trim_end_matches('/').to_owned()));
        let error = client().document(&open.reference("app:1")).unwrap_err();
        assert!(matches!(error, Error::Follow { .. }), "{place}: {error:?}");
    }
}
