//! `lbuild serve` and the distribution specification 1.1: its end-points, end-1 to end-13, in the order of its
//! conformance tests: pull, push, content discovery, content management. The requests are written by hand, so that no
//! client stands between the specification and the server.

use oci::{Algorithm, Descriptor, Digest, Index, Manifest, MediaType, Raw};
use registry::testing::raw::{Answer, ask};
use serde_json::json;

use crate::harness::World;
use crate::serve::Serving;

/// The repository of these tests.
const NAME: &str = "conformance/of/serve";

struct Site {
    _world: World,
    serving: Serving,
}

impl Site {
    fn new() -> Site {
        let world = World::new();
        let serving = Serving::start(&world, &[]);
        Site { _world: world, serving }
    }

    /// `target` is a path, or what follows the repository's name.
    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/v2/{NAME}/{target}") };
        ask(&self.serving.host, method, &target, headers, body)
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"")
    }

    fn head(&self, target: &str) -> Answer {
        self.ask("HEAD", target, &[], b"")
    }

    fn delete(&self, target: &str) -> Answer {
        self.ask("DELETE", target, &[], b"")
    }

    /// end-4a
    #[track_caller]
    fn begin(&self) -> String {
        let answer = self.ask("POST", "blobs/uploads/", &[], b"").is(202);
        // What is smallest is for a registry to say, and this one has no smallest.
        assert_eq!(answer.header("oci-chunk-min-length"), None);
        answer.must("location").to_owned()
    }

    /// end-4b
    #[track_caller]
    fn blob(&self, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        let answer = self.ask("POST", &format!("blobs/uploads/?digest={digest}"), &[], bytes).is(201);
        assert_eq!(answer.must("location"), format!("/v2/{NAME}/blobs/{digest}"));
        Descriptor::new(MediaType::Other("application/octet-stream".to_owned()), digest, bytes.len() as u64)
    }

    /// end-7
    fn put(&self, target: &str, media_type: &MediaType, bytes: &[u8]) -> Answer {
        self.ask("PUT", &format!("manifests/{target}"), &[("content-type", media_type.as_str())], bytes)
    }

    #[track_caller]
    fn image(&self, tag: &str, change: impl FnOnce(&mut Manifest)) -> Raw<Manifest> {
        let config = Descriptor { media_type: MediaType::OciConfig, ..self.blob(b"{}") };
        let mut manifest = Manifest::oci(config, vec![self.blob(b"a layer")]);
        change(&mut manifest);
        let manifest = Raw::write(manifest);
        let put = self.put(tag, &MediaType::OciManifest, manifest.bytes()).is(201);
        assert_eq!(put.must("location"), format!("/v2/{NAME}/manifests/{}", manifest.digest()));
        assert_eq!(put.must("docker-content-digest"), manifest.digest().to_string());
        manifest
    }
}

#[test]
fn pull() {
    let site = Site::new();
    // end-1
    site.get("/v2/").is(200);
    // Nothing is there.
    let absent = Digest::of(b"absent");
    site.head(&format!("blobs/{absent}")).is(404);
    site.get(&format!("blobs/{absent}")).refuses(404, "BLOB_UNKNOWN");
    site.head("manifests/absent").is(404);
    site.get("manifests/absent").refuses(404, "MANIFEST_UNKNOWN");
    site.get(&format!("manifests/{absent}")).refuses(404, "MANIFEST_UNKNOWN");
    site.get("blobs/sha256:totallywrong").refuses(400, "DIGEST_INVALID");
    site.get("/v2/Upper/Case/manifests/1").refuses(400, "NAME_INVALID");
    let manifest = site.image("1", |_| ());
    // end-2
    let layer = &manifest.value().layers[0];
    let head = site.head(&format!("blobs/{}", layer.digest)).is(200);
    assert_eq!(head.must("content-length"), layer.size.to_string());
    assert_eq!(head.must("docker-content-digest"), layer.digest.to_string());
    assert!(head.body.is_empty());
    let get = site.get(&format!("blobs/{}", layer.digest)).is(200);
    assert_eq!(
        (get.must("docker-content-digest"), &get.body[..]),
        (&*layer.digest.to_string(), &b"a layer"[..])
    );
    // end-3
    for target in ["1".to_owned(), manifest.digest().to_string()] {
        for method in ["HEAD", "GET"] {
            let accept = [("accept", MediaType::OciManifest.as_str())];
            let answer = site.ask(method, &format!("manifests/{target}"), &accept, b"").is(200);
            assert_eq!(answer.must("content-type"), MediaType::OciManifest.as_str());
            assert_eq!(answer.must("docker-content-digest"), manifest.digest().to_string());
            assert_eq!(answer.must("content-length"), manifest.size().to_string());
            assert!(method == "HEAD" || answer.body == manifest.bytes());
        }
    }
}

#[test]
fn pull_in_parts() {
    let site = Site::new();
    let bytes: Vec<u8> = (0..=250).cycle().take(5000).collect();
    let target = format!("blobs/{}", site.blob(&bytes).digest);
    for (range, expected) in [
        ("500-1499", Some(500..1500)),
        ("500-", Some(500..5000)),
        ("-500", Some(4500..5000)),
        ("4000-9000", Some(4000..5000)),
        ("0-0", Some(0..1)),
        ("500-0", None),
        ("5000-10000", None),
    ] {
        let answer = site.ask("GET", &target, &[("range", &format!("bytes={range}"))], b"");
        let Some(part) = expected else {
            assert_eq!(answer.refuses(416, "RANGE_INVALID").must("content-range"), "bytes */5000");
            continue;
        };
        let answer = answer.is(206);
        assert_eq!(answer.must("content-range"), format!("bytes {}-{}/5000", part.start, part.end - 1));
        assert_eq!(answer.body, bytes[part], "{range}");
    }
}

#[test]
fn push_blobs() {
    let site = Site::new();
    let bytes: Vec<u8> = (0..=250).cycle().take(3000).collect();
    for algorithm in Algorithm::ALL {
        let digest = algorithm.digest(&bytes);
        let there = |how: &str| {
            let answer = site.get(&format!("blobs/{digest}")).is(200);
            assert_eq!(answer.must("docker-content-digest"), digest.to_string());
            assert!(answer.body == bytes, "{how}");
            site.delete(&format!("blobs/{digest}")).is(202);
        };
        let finish = |at: &str, body: &[u8]| {
            let put = site.ask("PUT", &format!("{at}?digest={digest}"), &[], body).is(201);
            assert_eq!(put.must("location"), format!("/v2/{NAME}/blobs/{digest}"));
            // A session that has ended is none.
            site.get(at).refuses(404, "BLOB_UPLOAD_UNKNOWN");
        };
        // end-4b, end-4a with end-6.
        site.ask("POST", &format!("blobs/uploads/?digest={digest}"), &[], &bytes).is(201);
        there("at once");
        finish(&site.begin(), &bytes);
        there("in two");
        // end-5, with end-13 between; however small a chunk is.
        let at = site.begin();
        for (start, end) in [(0, 1000), (1000, 1001), (1001, 2500)] {
            let range = format!("{start}-{}", end - 1);
            let chunk = site.ask("PATCH", &at, &[("content-range", &range)], &bytes[start..end]).is(202);
            assert_eq!(chunk.must("range"), format!("0-{}", end - 1));
            assert!(chunk.must("location").contains("/blobs/uploads/"));
            let state = site.get(&at).is(204);
            assert_eq!(state.must("range"), format!("0-{}", end - 1));
            assert_eq!(state.must("location"), at);
        }
        let out_of_order = site.ask("PATCH", &at, &[("content-range", "2600-2999")], &bytes[2600..]);
        assert_eq!(out_of_order.refuses(416, "RANGE_INVALID").must("range"), "0-2499");
        finish(&at, &bytes[2500..]);
        there("in chunks, the last of them with the end");
        let at = site.begin();
        site.ask("PATCH", &at, &[], &bytes).is(202);
        finish(&at, b"");
        there("as a stream");
        // Bytes that are others than promised, and digests that are none.
        let other = algorithm.digest(b"other");
        site.ask("POST", &format!("blobs/uploads/?digest={other}"), &[], &bytes)
            .refuses(400, "DIGEST_INVALID");
        let at = site.begin();
        site.ask("PUT", &format!("{at}?digest={other}"), &[], &bytes).refuses(400, "DIGEST_INVALID");
        site.get(&format!("blobs/{other}")).refuses(404, "BLOB_UNKNOWN");
    }
    for bad in ["", "sha256:", "sha256:00", "sha512:00", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        let target = format!("{}?digest={bad}", site.begin());
        site.ask("PUT", &target, &[], b"").refuses(400, "DIGEST_INVALID");
    }
    site.blob(b"");
    // A session that is given up.
    let at = site.begin();
    site.delete(&at).is(204);
    site.get(&at).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    site.ask("PATCH", &at, &[], b"x").refuses(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn push_by_mounting() {
    let site = Site::new();
    let digest = site.blob(b"to be mounted").digest;
    // end-11: from where it is, from wherever it is, and where it is not.
    for query in [format!("?mount={digest}&from={NAME}"), format!("?mount={digest}")] {
        let answer = site.ask("POST", &format!("/v2/other/blobs/uploads/{query}"), &[], b"").is(201);
        assert_eq!(answer.must("location"), format!("/v2/other/blobs/{digest}"));
        site.get(&format!("/v2/other/blobs/{digest}")).is(200);
    }
    let absent = Digest::of(b"absent");
    let query = format!("?mount={absent}&from={NAME}");
    let session = site.ask("POST", &format!("/v2/other/blobs/uploads/{query}"), &[], b"").is(202);
    site.delete(session.must("location")).is(204);
}

#[test]
fn push_manifests() {
    let site = Site::new();
    let plain = site.image("plain", |_| ());
    // What is not known is kept, and bytes are what they were.
    let custom = site.image("custom", |manifest| {
        manifest.extra.insert("org.example.custom".to_owned(), json!({"a": [1, 2]}));
        manifest.layers[0].extra.insert("data".to_owned(), "YSBsYXllcg==".into());
    });
    assert_eq!(site.get("manifests/custom").is(200).body, custom.bytes());
    // A layer that is elsewhere need not be here.
    site.image("elsewhere", |manifest| {
        let kind = MediaType::Other("application/vnd.oci.image.layer.nondistributable.v1.tar".to_owned());
        let mut layer = Descriptor::new(kind, Digest::of(b"elsewhere"), 9);
        layer.extra.insert("urls".to_owned(), json!(["https://example.com/layer"]));
        manifest.layers.push(layer);
    });
    // An index, and one within it.
    let entry = Descriptor::new(MediaType::OciManifest, plain.digest(), plain.size());
    let inner = Raw::write(Index::oci(vec![entry]));
    site.put("inner", &MediaType::OciIndex, inner.bytes()).is(201);
    let outer = Index::oci(vec![Descriptor::new(MediaType::OciIndex, inner.digest(), inner.size())]);
    site.put("outer", &MediaType::OciIndex, Raw::write(outer).bytes()).is(201);
    // By digest, of either algorithm, and without a tag.
    for algorithm in Algorithm::ALL {
        let digest = algorithm.digest(plain.bytes());
        let put = site.put(&digest.to_string(), &MediaType::OciManifest, plain.bytes()).is(201);
        assert_eq!(put.must("docker-content-digest"), digest.to_string());
        let got = site.get(&format!("manifests/{digest}")).is(200);
        assert_eq!((got.must("docker-content-digest"), &got.body[..]), (&*digest.to_string(), plain.bytes()));
        let other = algorithm.digest(b"other").to_string();
        site.put(&other, &MediaType::OciManifest, plain.bytes()).refuses(400, "DIGEST_INVALID");
    }
    // Refusals.
    let lacking = Descriptor::new(MediaType::OciConfig, Digest::of(b"absent"), 6);
    let lacking = Raw::write(Manifest::oci(lacking, Vec::new()));
    site.put("1", &MediaType::OciManifest, lacking.bytes()).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    site.put("1", &MediaType::OciManifest, b"{").refuses(400, "MANIFEST_INVALID");
    site.put("1", &MediaType::OciIndex, plain.bytes()).refuses(400, "MANIFEST_INVALID");
    site.put("1", &MediaType::OciManifest, &vec![b' '; (4 << 20) + 1]).refuses(413, "SIZE_INVALID");
    for bad in [".tag", "-tag", "t%21", &"a".repeat(129)] {
        site.put(bad, &MediaType::OciManifest, plain.bytes()).refuses(400, "MANIFEST_INVALID");
    }
    site.get("manifests/1").refuses(404, "MANIFEST_UNKNOWN");
}

#[test]
fn discover_tags() {
    let site = Site::new();
    // end-8a
    site.get("tags/list").refuses(404, "NAME_UNKNOWN");
    for tag in ["test3", "test0", "test2", "TEST1"] {
        site.image(tag, |_| ());
    }
    let all = site.get("tags/list").is(200).json();
    assert_eq!(all, json!({"name": NAME, "tags": ["TEST1", "test0", "test2", "test3"]}));
    // end-8b
    let page = site.get("tags/list?n=2").is(200);
    assert_eq!(page.json()["tags"], json!(["TEST1", "test0"]));
    let link = page.must("link").strip_suffix("; rel=\"next\"").expect("a next page");
    let link = link.strip_prefix('<').and_then(|link| link.strip_suffix('>')).expect("an address");
    let last = site.get(link).is(200);
    assert_eq!(last.json()["tags"], json!(["test2", "test3"]));
    assert_eq!(last.header("link"), None);
    assert_eq!(site.get("tags/list?n=0").is(200).json()["tags"], json!([]));
    assert_eq!(site.get("tags/list?last=test0").is(200).json()["tags"], json!(["test2", "test3"]));
    assert_eq!(site.get("tags/list?last=zzz").is(200).json()["tags"], json!([]));
}

#[test]
fn discover_referrers() {
    let site = Site::new();
    let listed = |target: &str| {
        let answer = site.get(target).is(200);
        assert_eq!(answer.must("content-type"), MediaType::OciIndex.as_str());
        let index = answer.json();
        assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&json!(2), &json!(MediaType::OciIndex)));
        let entries = index["manifests"].as_array().expect("a list").clone();
        (answer.header("oci-filters-applied").map(str::to_owned), entries)
    };
    // end-12a: of what is not there, nothing.
    assert_eq!(listed(&format!("referrers/{}", Digest::of(b"absent"))).1, [json!(null); 0]);
    site.get("referrers/wrong").refuses(400, "DIGEST_INVALID");
    // A referrer may come before its subject. Its kind is its own, or that of its configuration.
    let subject = {
        let config = Descriptor { media_type: MediaType::OciConfig, ..site.blob(b"{}") };
        Raw::write(Manifest::oci(config, Vec::new()))
    };
    let about = Descriptor::new(MediaType::OciManifest, subject.digest(), subject.size());
    let refer = |kind: Option<&str>| {
        let config = Descriptor {
            media_type: MediaType::Other("application/x.config".to_owned()),
            ..site.blob(b"{}")
        };
        let mut manifest = Manifest::oci(config, vec![site.blob(b"signed")]);
        manifest.extra.extend(kind.map(|kind| ("artifactType".to_owned(), kind.into())));
        manifest.extra.insert("subject".to_owned(), json!(about));
        manifest.annotations.insert("org.example.key".to_owned(), "value".to_owned());
        let manifest = Raw::write(manifest);
        let put = site.put(&manifest.digest().to_string(), &MediaType::OciManifest, manifest.bytes()).is(201);
        assert_eq!(put.must("oci-subject"), subject.digest().to_string());
        manifest.digest()
    };
    let (signature, by_config) = (refer(Some("application/x.signature")), refer(None));
    site.put("subject", &MediaType::OciManifest, subject.bytes()).is(201);
    let target = format!("referrers/{}", subject.digest());
    let (filters, entries) = listed(&target);
    assert_eq!(filters, None);
    let kinds: Vec<_> =
        entries.iter().map(|entry| (entry["digest"].clone(), entry["artifactType"].clone())).collect();
    assert_eq!(
        kinds,
        [
            (json!(signature), json!("application/x.signature")),
            (json!(by_config), json!("application/x.config")),
        ]
    );
    assert!(
        entries.iter().all(|entry| entry["annotations"] == json!({"org.example.key": "value"})),
        "{entries:?}"
    );
    // end-12b
    for (kind, expected) in [("application/x.signature", Some(signature)), ("application/x.other", None)] {
        let (filters, entries) = listed(&format!("{target}?artifactType={kind}"));
        assert_eq!(filters.as_deref(), Some("artifactType"));
        let digests: Vec<_> = entries.iter().map(|entry| entry["digest"].clone()).collect();
        assert_eq!(digests, expected.map(|digest| json!(digest)).into_iter().collect::<Vec<_>>());
    }
    // What is deleted refers to nothing.
    site.delete(&format!("manifests/{signature}")).is(202);
    let left: Vec<_> = listed(&target).1.iter().map(|entry| entry["digest"].clone()).collect();
    assert_eq!(left, [json!(by_config)]);
}

#[test]
fn manage() {
    let site = Site::new();
    let manifest = site.image("1", |_| ());
    let again = site.image("2", |_| ());
    assert_eq!(manifest.digest(), again.digest());
    let by_digest = format!("manifests/{}", manifest.digest());
    // end-9, by tag: the manifest and its other tags stay.
    site.delete("manifests/1").is(202);
    site.get("manifests/1").refuses(404, "MANIFEST_UNKNOWN");
    site.delete("manifests/1").refuses(404, "MANIFEST_UNKNOWN");
    site.get("manifests/2").is(200);
    site.get(&by_digest).is(200);
    assert_eq!(site.get("tags/list").is(200).json()["tags"], json!(["2"]));
    // By digest: with all its tags.
    site.delete(&by_digest).is(202);
    site.get(&by_digest).refuses(404, "MANIFEST_UNKNOWN");
    site.get("manifests/2").refuses(404, "MANIFEST_UNKNOWN");
    site.delete(&by_digest).refuses(404, "MANIFEST_UNKNOWN");
    // end-10
    let layer = format!("blobs/{}", manifest.value().layers[0].digest);
    site.delete(&layer).is(202);
    site.get(&layer).refuses(404, "BLOB_UNKNOWN");
    site.delete(&layer).refuses(404, "BLOB_UNKNOWN");
    // And all of it can come back.
    site.image("1", |_| ());
    site.get(&layer).is(200);
    site.get(&by_digest).is(200);
    // What no end-point has.
    site.ask("POST", "manifests/1", &[], b"").refuses(405, "UNSUPPORTED");
    site.ask("PUT", "tags/list", &[], b"").refuses(405, "UNSUPPORTED");
    site.ask("PATCH", &layer, &[], b"").refuses(405, "UNSUPPORTED");
    site.get("nothing/such").refuses(404, "NAME_UNKNOWN");
}
