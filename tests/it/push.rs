//! Pushing and pulling: authentication, what is sent twice, plain HTTP, and registries that lie.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::base::busybox;
use crate::harness::World;
use crate::layout::sha256;
use crate::peers;
use crate::registry::{self, PASSWORD, USER};

/// Docker's configuration with the protected registry's account.
fn log_in(world: &World, password: &str) {
    let folder = world.path("home/.docker");
    fs::create_dir_all(&folder).expect("a folder");
    let auth = base64(&format!("{USER}:{password}"));
    let config = json!({"auths": {registry::protected(): {"auth": auth}}});
    fs::write(folder.join("config.json"), config.to_string()).expect("a configuration");
}

fn base64(text: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$0\" | base64 -w0", text])
        .output()
        .expect("base64");
    String::from_utf8(output.stdout).expect("ASCII")
}

#[test]
fn an_image_goes_to_the_registry_and_comes_back() {
    let world = World::new();
    let reference = format!("{}/push/round:1", registry::open());
    world.build(&format!("FROM {}\nRUN echo x > /x\n", busybox())).args(&["-t", &reference]).success();
    let digest = world.lbuild(&["push", "-q", &reference]).success().stdout;
    assert_eq!(peers::skopeo_digest(&reference), digest.trim());
    let elsewhere = World::new();
    let pulled = elsewhere.lbuild(&["pull", "-q", &reference]).success();
    assert_eq!(pulled.line(), digest.trim());
    assert_eq!(
        elsewhere.lbuild(&["run", "--rm", "--network=none", &reference, "cat", "/x"]).success().stdout,
        "x\n"
    );
    let by_digest = format!("{}/push/round@{}", registry::open(), digest.trim());
    assert_eq!(elsewhere.lbuild(&["pull", "-q", &by_digest]).success().stdout, digest);
}

#[test]
fn what_others_push_is_pulled_in_each_form() {
    let world = World::new();
    for format in ["v2s2", "oci"] {
        let reference = format!("{}/push/{format}:1", registry::open());
        peers::run(
            std::process::Command::new("skopeo")
                .args([
                    "copy",
                    "-q",
                    "--insecure-policy",
                    "--src-tls-verify=false",
                    "--dest-tls-verify=false",
                    "--format",
                    format,
                ])
                .args([format!("docker://{}", busybox()), format!("docker://{reference}")]),
        );
        let output = world.lbuild(&["run", "--rm", "--network=none", &reference, "echo", format]).success();
        assert_eq!(output.line(), format);
    }
}

#[test]
fn a_protected_registry_takes_the_account_of_dockers_configuration() {
    let world = World::new();
    let reference = format!("{}/push/private:1", registry::protected());
    let build =
        || world.build(&format!("FROM {}\nRUN echo x > /x\n", busybox())).args(&["-t", &reference, "--push"]);
    let refused = build().output();
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("lbuild login"), "{}", refused.stderr);
    log_in(&world, PASSWORD);
    build().success();
    let other = World::new();
    log_in(&other, PASSWORD);
    other.build(&format!("FROM {reference}\nRUN test -e /x\n")).success();
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let world = World::new();
    let (address, sent) = registry::counted(registry::open());
    let name = |number: u32| format!("{address}/push/twice:{number}");
    world
        .build(&format!("FROM {}\nRUN head -c 3000000 /dev/urandom > /x\n", busybox()))
        .args(&["-t", &name(1), "--push"])
        .success();
    assert!(sent.swap(0, Ordering::Relaxed) > 3_000_000);
    world.lbuild(&["push", &name(1)]).success();
    world.lbuild(&["tag", &name(1), &name(2)]).success();
    world.lbuild(&["push", &name(2)]).success();
    assert!(sent.load(Ordering::Relaxed) < 100_000, "{sent:?} bytes for what is there");
    assert_eq!(peers::skopeo_digest(&name(1)), peers::skopeo_digest(&name(2)));
}

#[test]
fn an_image_is_listed_once_in_whatever_form() {
    let world = World::new();
    let name = format!("{}/push/once:1", registry::open());
    let dockerfile = format!("FROM {}\nRUN echo x > /x\n", busybox());
    let build = || world.build(&dockerfile).args(&["-t", &name]);
    let listed = || {
        let text = world.lbuild(&["images", "--format=json"]).success().stdout;
        let images: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        images.into_iter().map(|image| image["Repository"].clone()).collect::<Vec<_>>()
    };
    let repository = [json!(format!("{}/push/once", registry::open()))];
    build().arg("--push").success();
    assert_eq!(listed(), repository);
    // Its layers are uncompressed now, and it is the same image.
    build().success();
    assert_eq!(listed(), repository);
    world.build(&format!("{dockerfile}LABEL a=b\n")).args(&["-t", &name]).success();
    assert_eq!(listed().len(), 2, "another image stays");
}

/// An image as pages of a registry. `damage` changes the layer's bytes on their way.
fn pages(name: &str, damage: impl Fn(&mut Vec<u8>)) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut pages = BTreeMap::new();
    pages.insert("/v2/".to_owned(), ("application/json".to_owned(), b"{}".to_vec()));
    let mut layer = crate::layout::Tar::default().file("f", 0o644, b"content").finish();
    let config = json!({
        "architecture": crate::layout::architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
    });
    let descriptor = |media_type: &str, bytes: &[u8]| -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
    };
    let config = config.to_string().into_bytes();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let (manifest, layer_path) =
        (manifest.to_string().into_bytes(), format!("/v2/{name}/blobs/sha256:{}", sha256(&layer)));
    damage(&mut layer);
    let octets = || "application/octet-stream".to_owned();
    pages.insert(format!("/v2/{name}/blobs/sha256:{}", sha256(&config)), (octets(), config));
    pages.insert(layer_path, (octets(), layer));
    pages.insert(
        format!("/v2/{name}/manifests/sha256:{}", sha256(&manifest)),
        (manifest_type.to_owned(), manifest.clone()),
    );
    pages.insert(format!("/v2/{name}/manifests/1"), (manifest_type.to_owned(), manifest));
    pages
}

#[test]
fn a_registry_that_lies_is_found_out() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage); 3] = [
        ("changed", |layer| layer[600] ^= 1),
        ("short", |layer| layer.truncate(700)),
        ("long", |layer| layer.extend([0; 512])),
    ];
    let honest = registry::serve(pages("it/honest", |_| {}));
    let world = World::new();
    assert!(world.build(&format!("FROM {honest}/it/honest:1\n")).rootfs().has("/f"));
    for (what, damage) in cases {
        // A store that has the layer already would not ask for it.
        let world = World::new();
        let address = registry::serve(pages(&format!("it/{what}"), damage));
        let output = world
            .build(&format!("FROM {address}/it/{what}:1\nCOPY --from={address}/it/{what}:1 /f /g\n"))
            .output()
            .failure(3);
        assert!(
            output.stderr.contains("sha256:") || output.stderr.contains("bytes"),
            "{what}: {}",
            output.stderr
        );
        // Nothing of it stays: the second attempt fails as the first.
        world
            .build(&format!("FROM {address}/it/{what}:1\nCOPY --from={address}/it/{what}:1 /f /g\n"))
            .output()
            .failure(3);
    }
}
