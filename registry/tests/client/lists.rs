//! Tags in pages, and what refers to a manifest, on registries of today and of yesterday.

use oci::{Descriptor, Digest, Document, Manifest, MediaType, Raw};
use registry::testing::{Access, Act, Registry, Setup, TokenServer};
use registry::{Error, referrers};
use serde_json::json;

use crate::support::{client, lines, manifest};

#[test]
fn tags_of_all_pages_are_read() {
    let registry =
        Registry::start(Setup { access: Access::Token(TokenServer::default()), ..Setup::default() });
    let mut expected: Vec<String> = (0..2500).map(|n| format!("t{n}")).collect();
    for tag in &expected {
        registry.put_manifest("app", tag, &MediaType::OciManifest, &manifest("x"));
    }
    expected.sort();
    assert_eq!(client().tags(&registry.reference("app")).unwrap(), expected);
    assert_eq!(
        lines(&registry).iter().filter(|line| *line == "GET /v2/app/tags/list").count(),
        4,
        "and a 401"
    );
    assert!(client().tags(&registry.reference("other")).unwrap_err().is_not_found());
}

#[test]
fn pages_that_lead_astray_are_refused() {
    let elsewhere = Registry::start(Setup::default());
    for (link, is_circle) in [
        ("</v2/app/tags/list?n=1000>; rel=\"next\"".to_owned(), true),
        (format!("<http://{}/v2/app/tags/list>; rel=\"next\"", elsewhere.host()), false),
        ("<http://10.0.0.1/>; rel=\"next\"".to_owned(), false),
    ] {
        let registry = Registry::start(Setup::default());
        registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
        registry.fault("GET", "/tags/list", 99, Act::With("link", link.clone()));
        let error = client().tags(&registry.reference("app")).unwrap_err();
        match is_circle {
            true => assert!(matches!(error, Error::Answer { .. }), "{link}: {error:?}"),
            false => assert!(matches!(error, Error::Follow { .. }), "{link}: {error:?}"),
        }
        assert!(lines(&registry).len() <= 2, "{link}");
    }
    assert_eq!(lines(&elsewhere), [""; 0]);
    let registry = Registry::start(Setup::default());
    let nothing = Act::Status(200, Vec::new(), r#"{"name":"app","tags":null}"#.to_owned());
    registry.fault("GET", "/tags/list", 1, nothing);
    assert_eq!(client().tags(&registry.reference("app")).unwrap(), [""; 0]);
    let subject = Digest::of(b"subject");
    let paths = ["/tags/list".to_owned(), format!("/referrers/{subject}")];
    let circle: Vec<&str> = ["a", "b"].into_iter().cycle().take(20).collect();
    let endless: Vec<String> = (0..1010).map(|page| page.to_string()).collect();
    let endless: Vec<&str> = endless.iter().map(String::as_str).collect();
    for (path, pages, most) in [(&paths[0], &circle, 3), (&paths[1], &circle, 3), (&paths[1], &endless, 1000)]
    {
        let registry = Registry::start(Setup::default());
        registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
        for page in pages {
            let link = format!("</v2/app{path}?page={page}>; rel=\"next\"");
            registry.fault("GET", path, 1, Act::With("link", link));
        }
        let (client, near) = (client(), registry.reference("app"));
        let error = match path.starts_with("/tags") {
            true => client.tags(&near).map(drop),
            false => client.referrers(&near, subject, None).map(drop),
        };
        assert!(matches!(error, Err(Error::Answer { .. })), "{path}: {error:?}");
        assert_eq!(lines(&registry).len(), most, "{path}");
    }
}

/// A manifest of this kind about `subject`.
fn about(subject: &Descriptor, kind: &str) -> Raw<Manifest> {
    let config = Descriptor::new(MediaType::OciConfig, Digest::of(b"{}"), 2);
    let mut manifest = Manifest::oci(config, Vec::new());
    manifest.extra.insert("artifactType".into(), json!(kind));
    manifest.extra.insert("subject".into(), serde_json::to_value(subject).unwrap());
    manifest.annotations.insert("kind".into(), kind.into());
    Raw::write(manifest)
}

#[test]
fn what_refers_to_a_manifest_is_found_on_every_registry() {
    for without_referrers in [false, true] {
        let registry = Registry::start(Setup { without_referrers, ..Setup::default() });
        let subject = registry.put_manifest("app", "1", &MediaType::OciManifest, &manifest("x"));
        let near = registry.reference("app:1");
        let client = client();
        assert_eq!(client.referrers(&near, subject.digest, None).unwrap(), []);
        let pushed: Vec<_> = ["a/sbom", "a/signature"].iter().map(|kind| about(&subject, kind)).collect();
        std::thread::scope(|scope| {
            for manifest in pushed.iter().chain(&pushed) {
                let (client, near) = (&client, &near);
                scope.spawn(move || {
                    let to = near.at(manifest.digest());
                    client.push_manifest(&to, &MediaType::OciManifest, manifest.bytes()).unwrap();
                });
            }
        });
        let mut found = client.referrers(&near, subject.digest, None).unwrap();
        found.sort_by_key(|entry| entry.annotations["kind"].clone());
        let digests: Vec<_> = found.iter().map(|entry| entry.digest).collect();
        assert_eq!(digests, pushed.iter().map(Raw::digest).collect::<Vec<_>>(), "{without_referrers}");
        let some = client.referrers(&near, subject.digest, Some("a/sbom")).unwrap();
        assert_eq!(some.iter().map(|entry| entry.digest).collect::<Vec<_>>(), [pushed[0].digest()]);
        assert_eq!(some[0].extra["artifactType"], "a/sbom");
        let tag = referrers::list_name(&near, subject.digest);
        match client.document(&tag) {
            Ok(list) => assert!(without_referrers && matches!(list.document, Document::Index(_))),
            Err(error) => assert!(!without_referrers && error.is_not_found(), "{error}"),
        }
    }
}
