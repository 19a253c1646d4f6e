//! The server, request by request: what the distribution specification says of each end-point, and what a client that
//! lies, stops in the middle or never ends comes to. The requests are written by hand, so that nothing of the crate's
//! client vouches for it.
//!
//! The headings are those of the specification's conformance tests.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use oci::{Descriptor, Digest, Index, Manifest, MediaType, Raw};
use registry::testing::raw::{self, Answer};
use registry::testing::{Registry, Setup};
use serde_json::json;

/// A registry that takes no manifest whose parts it does not have.
fn strict() -> Registry {
    Registry::start(Setup { is_strict: true, ..Setup::default() })
}

fn ask(registry: &Registry, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    raw::ask(&registry.host(), method, target, headers, body)
}

fn get(registry: &Registry, target: &str) -> Answer {
    ask(registry, "GET", target, &[], b"")
}

fn upload(registry: &Registry, repository: &str, bytes: &[u8]) -> Descriptor {
    let digest = Digest::of(bytes);
    let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let answer = ask(registry, "POST", &target, &[], bytes);
    assert_eq!(answer.status, 201);
    Descriptor::new(MediaType::OciConfig, digest, bytes.len() as u64)
}

fn put_manifest(registry: &Registry, repository: &str, target: &str, manifest: &Raw<Manifest>) -> Answer {
    let target = format!("/v2/{repository}/manifests/{target}");
    ask(registry, "PUT", &target, &[("content-type", MediaType::OciManifest.as_str())], manifest.bytes())
}

/// An image whose only part is in the repository.
fn image(registry: &Registry, repository: &str, config: &[u8]) -> Raw<Manifest> {
    Raw::write(Manifest::oci(upload(registry, repository, config), Vec::new()))
}

#[test]
fn it_says_what_it_is() {
    let registry = strict();
    for target in ["/v2/", "/v2"] {
        let answer = get(&registry, target);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
    }
    for (method, target, status, code) in [
        ("GET", "/", 404, "UNSUPPORTED"),
        ("GET", "/v2/a", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/A/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a/../b/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/%2e%2e/tags/list", 400, "NAME_INVALID"),
        ("POST", "/v2/", 405, "UNSUPPORTED"),
        ("POST", "/v2/a/manifests/1", 405, "UNSUPPORTED"),
        ("PUT", "/v2/a/blobs/uploads/", 405, "UNSUPPORTED"),
        ("GET", "/v2/a/blobs/sha512:00", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/blobs/sha256:../../etc/passwd", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/manifests/-x", 404, "MANIFEST_UNKNOWN"),
    ] {
        let answer = ask(&registry, method, target, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {target}");
    }
}

#[test]
fn blobs_are_uploaded_in_every_way() {
    let registry = strict();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    let digest = Digest::of(&bytes);
    let there = |repository: &str| {
        let answer = get(&registry, &format!("/v2/{repository}/blobs/{digest}"));
        assert_eq!((answer.status, answer.body), (200, bytes.clone()), "{repository}");
        assert_eq!(registry.open_sessions(), 0, "{repository}");
    };
    let begin =
        |repository: &str| ask(&registry, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
    // POST then PUT.
    let session = begin("two");
    assert_eq!((session.status, session.header("range")), (202, Some("0-0")));
    let put = ask(
        &registry,
        "PUT",
        &format!("{}?digest={digest}", session.must("location").to_owned()),
        &[],
        &bytes,
    );
    assert_eq!((put.status, put.header("docker-content-digest")), (201, Some(digest.to_string().as_str())));
    assert_eq!(put.must("location").to_owned(), format!("/v2/two/blobs/{digest}"));
    there("two");
    // POST alone.
    upload(&registry, "one", &bytes);
    there("one");
    // Chunks, with what a client does that lost an answer.
    let at = begin("chunks").must("location").to_owned();
    let chunk = |range: &str, part: &[u8]| ask(&registry, "PATCH", &at, &[("content-range", range)], part);
    assert_eq!(chunk("0-39999", &bytes[..40_000]).header("range"), Some("0-39999"));
    let refused = chunk("0-39999", &bytes[..40_000]);
    assert_eq!((refused.status, refused.header("range")), (416, Some("0-39999")));
    assert_eq!(chunk("50000-59999", &bytes[50_000..60_000]).status, 416, "a gap");
    assert_eq!(chunk("40000-40001", &bytes[40_000..41_000]).status, 416, "more than it says");
    assert_eq!(chunk("40000-18446744073709551615", &bytes[40_000..41_000]).status, 416, "less than it says");
    let state = get(&registry, &at);
    assert_eq!((state.status, state.header("range")), (204, Some("0-39999")));
    assert_eq!(chunk("bytes=40000-79999", &bytes[40_000..80_000]).status, 202);
    assert_eq!(ask(&registry, "PUT", &format!("{at}?digest={digest}"), &[], &bytes[80_000..]).status, 201);
    there("chunks");
    // One stream of unknown length, as Docker sends it.
    let at = begin("stream").must("location").to_owned();
    let mut stream = Vec::new();
    for part in bytes.chunks(30_000) {
        write!(stream, "{:x}\r\n", part.len()).unwrap();
        stream.extend_from_slice(part);
        stream.extend_from_slice(b"\r\n");
    }
    stream.extend_from_slice(b"0\r\n\r\n");
    let patched = ask(&registry, "PATCH", &at, &[("transfer-encoding", "chunked")], &stream);
    assert_eq!((patched.status, patched.header("range")), (202, Some("0-99999")));
    assert_eq!(ask(&registry, "PUT", &format!("{at}?digest={digest}"), &[], b"").status, 201);
    there("stream");
    // Mounts.
    let mount = |query: &str| {
        ask(&registry, "POST", &format!("/v2/mounted/blobs/uploads/?mount={digest}{query}"), &[], b"")
    };
    let absent = mount("&from=nowhere");
    assert_eq!(absent.status, 202);
    assert_eq!(ask(&registry, "DELETE", absent.must("location"), &[], b"").status, 204);
    assert_eq!(get(&registry, absent.must("location")).status, 404);
    assert_eq!(mount("&from=one").status, 201);
    there("mounted");
    assert_eq!(mount("").status, 201, "from wherever it is");
}

#[test]
fn bytes_with_another_digest_become_no_blob() {
    let registry = strict();
    let digest = Digest::of(b"right");
    let session = ask(&registry, "POST", "/v2/a/blobs/uploads/", &[], b"").must("location").to_owned();
    let put = ask(&registry, "PUT", &format!("{session}?digest={digest}"), &[], b"wrong");
    assert_eq!((put.status, put.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(get(&registry, &format!("/v2/a/blobs/{digest}")).status, 404);
    assert_eq!(registry.open_sessions(), 0);
    for query in ["", "?digest=", "?digest=md5:0"] {
        let session = ask(&registry, "POST", "/v2/a/blobs/uploads/", &[], b"").must("location").to_owned();
        assert_eq!(ask(&registry, "PUT", &format!("{session}{query}"), &[], b"x").code(), "DIGEST_INVALID");
    }
    let elsewhere = ask(&registry, "POST", "/v2/a/blobs/uploads/", &[], b"")
        .must("location")
        .to_owned()
        .replace("/a/", "/b/");
    assert_eq!(get(&registry, &elsewhere).status, 404, "a session belongs to its repository");
}

#[test]
fn what_came_before_a_connection_broke_stays() {
    let registry = strict();
    let session = ask(&registry, "POST", "/v2/a/blobs/uploads/", &[], b"").must("location").to_owned();
    let mut stream = TcpStream::connect(registry.host()).unwrap();
    let head = format!("PATCH {session} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&[7; 600]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "no answer to half a request");
    assert_eq!(get(&registry, &session).header("range"), Some("0-599"));
    let rest = ask(&registry, "PATCH", &session, &[("content-range", "600-999")], &[7; 400]);
    assert_eq!(rest.header("range"), Some("0-999"));
    let digest = Digest::of(&[7; 1000]);
    assert_eq!(ask(&registry, "PUT", &format!("{session}?digest={digest}"), &[], b"").status, 201);
}

#[test]
fn blobs_are_read_in_parts() {
    let registry = strict();
    let bytes: Vec<u8> = (0..=255).collect();
    let digest = upload(&registry, "a", &bytes).digest;
    let target = format!("/v2/a/blobs/{digest}");
    let head = ask(&registry, "HEAD", &target, &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("256")));
    for (range, status, content_range, part) in [
        ("bytes=0-9", 206, "bytes 0-9/256", &bytes[..10]),
        ("bytes=250-", 206, "bytes 250-255/256", &bytes[250..]),
        ("bytes=-6", 206, "bytes 250-255/256", &bytes[250..]),
        ("bytes=250-999", 206, "bytes 250-255/256", &bytes[250..]),
        ("bytes=0-1,4-5", 200, "", &bytes[..]),
    ] {
        let answer = ask(&registry, "GET", &target, &[("range", range)], b"");
        assert_eq!(
            (answer.status, answer.header("content-range").unwrap_or_default()),
            (status, content_range)
        );
        assert_eq!(answer.body, part, "{range}");
    }
    let beyond = ask(&registry, "GET", &target, &[("range", "bytes=256-")], b"");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */256")));
    assert_eq!(ask(&registry, "DELETE", &target, &[], b"").status, 202);
    assert_eq!(ask(&registry, "DELETE", &target, &[], b"").code(), "BLOB_UNKNOWN");
    assert_eq!(get(&registry, &target).status, 404);
}

#[test]
fn manifests_are_understood_before_they_are_taken() {
    let registry = strict();
    let manifest = image(&registry, "a", b"{}");
    let put = |target: &str, media_type: &str, bytes: &[u8]| {
        ask(&registry, "PUT", &format!("/v2/a/manifests/{target}"), &[("content-type", media_type)], bytes)
    };
    let oci = MediaType::OciManifest;
    let other = Digest::of(b"other").to_string();
    let huge = vec![b' '; 4 * 1024 * 1024 + 1];
    let lacking = Raw::write(Manifest::oci(
        Descriptor::new(MediaType::OciConfig, Digest::of(b"absent"), 6),
        Vec::new(),
    ));
    let short = Descriptor { size: 1, ..manifest.value().config.clone() };
    let short = Raw::write(Manifest::oci(short, Vec::new()));
    let index = Raw::write(Index::oci(vec![Descriptor::new(oci.clone(), Digest::of(b"absent"), 6)]));
    // CVE-2021-41190: a document that can be read as both.
    let both = br#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#;
    for (target, media_type, bytes, status, code) in [
        ("1", oci.as_str(), &b"nonsense"[..], 400, "MANIFEST_INVALID"),
        ("1", oci.as_str(), b"{}", 400, "MANIFEST_INVALID"),
        ("1", oci.as_str(), both, 400, "MANIFEST_INVALID"),
        ("1", MediaType::OciIndex.as_str(), manifest.bytes(), 400, "MANIFEST_INVALID"),
        ("1", oci.as_str(), lacking.bytes(), 404, "MANIFEST_BLOB_UNKNOWN"),
        ("1", oci.as_str(), short.bytes(), 404, "MANIFEST_BLOB_UNKNOWN"),
        ("1", MediaType::OciIndex.as_str(), index.bytes(), 404, "MANIFEST_BLOB_UNKNOWN"),
        (&other, oci.as_str(), manifest.bytes(), 400, "DIGEST_INVALID"),
        (".x", oci.as_str(), manifest.bytes(), 400, "MANIFEST_INVALID"),
        ("1", oci.as_str(), &huge, 413, "SIZE_INVALID"),
    ] {
        let answer = put(target, media_type, bytes);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    assert_eq!(get(&registry, "/v2/a/manifests/1").status, 404, "nothing of it was kept");
    for media_type in [oci.as_str(), "application/octet-stream"] {
        let answer = put("1", media_type, manifest.bytes());
        assert_eq!(answer.status, 201);
        let by_digest = answer.header("docker-content-digest").unwrap().to_owned();
        assert_eq!(by_digest, manifest.digest().to_string());
        for target in ["1", &by_digest] {
            let found = get(&registry, &format!("/v2/a/manifests/{target}"));
            assert_eq!(found.header("content-type"), Some(oci.as_str()));
            assert_eq!(found.body, manifest.bytes());
            let head = ask(&registry, "HEAD", &format!("/v2/a/manifests/{target}"), &[], b"");
            assert_eq!(head.header("content-length").unwrap(), manifest.size().to_string());
        }
    }
    assert_eq!(ask(&registry, "DELETE", "/v2/a/manifests/1", &[], b"").status, 202);
    assert_eq!(get(&registry, "/v2/a/manifests/1").code(), "MANIFEST_UNKNOWN");
    assert_eq!(get(&registry, &format!("/v2/a/manifests/{}", manifest.digest())).status, 200);
    assert_eq!(ask(&registry, "DELETE", "/v2/a/manifests/1", &[], b"").status, 404);
    assert_eq!(
        ask(&registry, "DELETE", &format!("/v2/a/manifests/{}", manifest.digest()), &[], b"").status,
        202
    );
    assert_eq!(get(&registry, &format!("/v2/a/manifests/{}", manifest.digest())).status, 404);
}

#[test]
fn tags_come_in_pages() {
    let registry = strict();
    assert_eq!(get(&registry, "/v2/a/tags/list").code(), "NAME_UNKNOWN");
    let manifest = image(&registry, "a", b"{}");
    for tag in ["b", "a", "C", "d"] {
        assert_eq!(put_manifest(&registry, "a", tag, &manifest).status, 201);
    }
    let mut target = "/v2/a/tags/list?n=3".to_owned();
    let first = get(&registry, &target);
    assert_eq!(first.json(), json!({"name": "a", "tags": ["C", "a", "b"]}));
    let link = first.header("link").unwrap();
    target = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    let second = get(&registry, &target);
    assert_eq!((second.json()["tags"].clone(), second.header("link")), (json!(["d"]), None));
    assert_eq!(get(&registry, "/v2/a/tags/list").json()["tags"], json!(["C", "a", "b", "d"]));
    assert_eq!(get(&registry, "/v2/a/tags/list?n=0").json()["tags"], json!([]));
    assert_eq!(get(&registry, "/v2/a/tags/list?last=a").json()["tags"], json!(["b", "d"]));
    assert_eq!(get(&registry, "/v2/a/tags/list?n=x").code(), "PAGINATION_NUMBER_INVALID");
    assert_eq!(get(&registry, "/v2/_catalog").json(), json!({"repositories": ["a"]}));
}

#[test]
fn what_refers_to_a_manifest_is_listed() {
    let registry = strict();
    let subject = image(&registry, "a", b"{}");
    put_manifest(&registry, "a", "1", &subject);
    let target = format!("/v2/a/referrers/{}", subject.digest());
    let none = get(&registry, &target);
    assert_eq!((none.status, none.header("content-type")), (200, Some(MediaType::OciIndex.as_str())));
    assert_eq!(none.json()["manifests"], json!([]));
    let config = upload(&registry, "a", b"{ }");
    for kind in ["application/x+sbom", "application/x.signature"] {
        let mut manifest = Manifest::oci(config.clone(), Vec::new());
        manifest.extra.insert("artifactType".into(), json!(kind));
        manifest.annotations.insert("k".into(), kind.into());
        let points = Descriptor::new(MediaType::OciManifest, subject.digest(), subject.size());
        manifest.extra.insert("subject".into(), serde_json::to_value(points).unwrap());
        let manifest = Raw::write(manifest);
        for _ in 0..2 {
            let put = put_manifest(&registry, "a", &manifest.digest().to_string(), &manifest);
            assert_eq!(put.header("oci-subject"), Some(subject.digest().to_string().as_str()));
        }
    }
    let all = get(&registry, &target);
    let entries = all.json()["manifests"].as_array().unwrap().clone();
    assert_eq!((entries.len(), all.header("oci-filters-applied")), (2, None));
    let some = get(&registry, &format!("{target}?artifactType=application/x%2Bsbom"));
    let entries = some.json()["manifests"].as_array().unwrap().clone();
    assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["annotations"], json!({"k": "application/x+sbom"}));
    assert_eq!(get(&registry, "/v2/a/referrers/x").code(), "DIGEST_INVALID");
    let bad = br#"{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"digest":"../x"}}"#;
    let put =
        ask(&registry, "PUT", "/v2/a/manifests/2", &[("content-type", MediaType::OciManifest.as_str())], bad);
    assert_eq!(put.code(), "MANIFEST_INVALID");
}

#[test]
fn a_web_page_cannot_make_its_reader_push() {
    let registry = strict();
    let page = [("origin", "https://evil.example"), ("content-type", "text/plain")];
    let target = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"x"));
    assert_eq!(ask(&registry, "POST", &target, &page, b"x").code(), "DENIED");
    assert_eq!(get(&registry, &format!("/v2/a/blobs/{}", Digest::of(b"x"))).status, 404);
    assert_eq!(ask(&registry, "GET", "/v2/", &page, b"").status, 200);
}

#[test]
fn a_chunk_from_the_first_byte_to_the_last_there_can_be_is_refused() {
    let registry = strict();
    let session = ask(&registry, "POST", "/v2/a/blobs/uploads/", &[], b"").must("location").to_owned();
    let range = [("content-range", "0-18446744073709551615")];
    assert_eq!(ask(&registry, "PATCH", &session, &range, b"").status, 416);
}

#[test]
fn a_connection_serves_many_requests_and_none_in_disguise() {
    let registry = strict();
    let mut stream = TcpStream::connect(registry.host()).unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_eq!(Answer::read(&stream, false).status, 200);
    }
    let hosts = ask(&registry, "GET", "/v2/", &[("host", "other.example")], b"");
    assert_eq!(hosts.status, 400, "two hosts are no host");
    // A request within what two headers make two bodies of.
    let inner = "GET /v2/_catalog HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = inner.len() + 5;
    let outer = format!(
        "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
    );
    stream.write_all(outer.as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 400 ") && all.matches("HTTP/1.1").count() == 1, "{all}");
    assert!(registry.seen().iter().all(|seen| seen.target == "/v2/"), "{:?}", registry.seen());
}
