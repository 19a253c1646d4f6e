//! What refers to an image goes where the image goes, and goes when it goes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::base::busybox;
use crate::harness::World;
use crate::registry;
use crate::serve::{Serving, get};

const KIND: &str = "application/vnd.docker.attestation.manifest.v1+json";

fn list(layout: &Path) -> Vec<Value> {
    let list = fs::read(layout.join("index.json")).expect("a list");
    let list: Value = serde_json::from_slice(&list).expect("JSON");
    list["manifests"].as_array().expect("a list").clone()
}

/// The digest of the image of a layout, and that of what refers to it, whose statements are about it.
fn image_and_referrer(layout: &Path) -> (String, String) {
    let list = list(layout);
    assert_eq!(list.len(), 2, "{list:?}");
    let (referrers, images): (Vec<_>, Vec<_>) =
        list.into_iter().partition(|entry| entry["artifactType"] == KIND);
    let digest = |entry: &Value| entry["digest"].as_str().expect("a digest").to_owned();
    let blob = |digest: &str| {
        let bytes = fs::read(layout.join("blobs/sha256").join(&digest[7..])).expect("a blob");
        serde_json::from_slice::<Value>(&bytes).expect("JSON")
    };
    let (image, referrer) = (digest(&images[0]), digest(&referrers[0]));
    let manifest = blob(&referrer);
    assert_eq!(manifest["subject"]["digest"], image.as_str());
    let statement = blob(manifest["layers"][0]["digest"].as_str().expect("a digest"));
    assert_eq!(statement["subject"][0]["digest"]["sha256"], image[7..]);
    (image, referrer)
}

/// What a registry lists as referring to an image.
fn listed(host: &str, repository: &str, image: &str) -> Vec<String> {
    let index = get(host, &format!("/v2/{repository}/referrers/{image}"));
    let entries = index["manifests"].as_array().expect("a list");
    entries.iter().map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect()
}

fn images(world: &World) -> usize {
    let text = world.lbuild(&["images", "--format=json"]).success().stdout;
    serde_json::from_str::<Vec<Value>>(&text).expect("JSON").len()
}

#[test]
fn what_a_build_attests_is_kept_with_the_image() {
    let world = World::new();
    let elsewhere = World::new();
    let serving = Serving::start(&elsewhere, &[]);
    let name = format!("{}/kept/app:1", serving.localhost());
    world
        .build(&format!("FROM {}\nRUN echo x > /x\n", busybox()))
        .args(&["--provenance=min", "--attest-as=referrers", "-t", &name])
        .success();
    assert_eq!(images(&world), 1, "what refers to an image is none");
    // Saved, copied and pushed, each later and by a process of its own.
    world.lbuild(&["save", "--format=oci-dir", "-o", "saved", &name]).success();
    let (image, referrer) = image_and_referrer(&world.path("saved"));
    world.lbuild(&["copy", "--referrers", &format!("store:{name}"), "oci:copied:1"]).success();
    image_and_referrer(&world.path("copied"));
    world.lbuild(&["push", &name]).success();
    assert_eq!(listed(&serving.host, "kept/app", &image), [referrer.as_str()]);
    world.lbuild(&["save", "-o", "image.tar", &name]).success();
    let report = world.lbuild(&["fsck", "--deep"]).success().stdout;
    assert!(report.contains("0 things damaged"), "{report}");
    // It goes with its image, and not before.
    world.lbuild(&["tag", &name, "kept:2"]).success();
    world.lbuild(&["rmi", &name]).success();
    world.lbuild(&["prune", "--all"]).success();
    world.lbuild(&["save", "--format=oci-dir", "-o", "again", "kept:2"]).success();
    assert_eq!(image_and_referrer(&world.path("again")), (image.clone(), referrer.clone()));
    world.lbuild(&["rmi", "kept:2"]).success();
    world.lbuild(&["prune", "--all"]).success();
    assert_eq!(list(&world.path("root")).len(), 0);
    assert_eq!(fs::read_dir(world.path("root/blobs/sha256")).expect("blobs").count(), 0);
    // An archive brings it back.
    world.lbuild(&["load", "-i", "image.tar"]).success();
    assert_eq!(images(&world), 1);
    world.lbuild(&["save", "--format=oci-dir", "-o", "loaded", &name]).success();
    assert_eq!(image_and_referrer(&world.path("loaded")), (image, referrer));
}

#[test]
fn what_refers_to_a_pulled_image_is_kept_if_asked_for() {
    let (world, first, second) = (World::new(), World::new(), World::new());
    let (from, to) = (Serving::start(&first, &[]), Serving::start(&second, &[]));
    let name = format!("{}/pulled/app:1", from.localhost());
    world
        .build(&format!("FROM {}\nRUN echo y > /y\n", busybox()))
        .args(&["--provenance=min", "--attest-as=referrers", "-t", &name, "--push"])
        .success();
    // By the end-point of today, and by the tag of yesterday.
    let old = format!("{}/pulled/app:1", registry::open());
    world.lbuild(&["tag", &name, &old]).success();
    world.lbuild(&["push", &old]).success();
    let mut found = BTreeSet::new();
    for name in [&name, &old] {
        let puller = World::new();
        puller.lbuild(&["pull", name]).success();
        puller.lbuild(&["save", "--format=oci-dir", "-o", "without", name]).success();
        assert_eq!(list(&puller.path("without")).len(), 1, "nobody asked for it");
        puller.lbuild(&["pull", "--referrers", name]).success();
        puller.lbuild(&["save", "--format=oci-dir", "-o", "with", name]).success();
        found.insert(image_and_referrer(&puller.path("with")));
        let copy = format!("{}/copy/app:1", to.localhost());
        puller.lbuild(&["tag", name, &copy]).success();
        puller.lbuild(&["push", &copy]).success();
    }
    assert_eq!(found.len(), 1, "it is the same from both");
    let (image, referrer) = found.first().expect("one");
    assert_eq!(listed(&to.host, "copy/app", image), [referrer.as_str()]);
    // The server's store keeps it for as long as the image.
    second.lbuild(&["prune", "--all"]).success();
    assert_eq!(listed(&to.host, "copy/app", image), [referrer.as_str()]);
    assert_eq!(get(&to.host, "/v2/copy/app/tags/list")["tags"], serde_json::json!(["1"]));
    let copy = format!("{}/copy/app:1", to.localhost());
    second.lbuild(&["rmi", &copy]).success();
    drop(to);
    second.lbuild(&["prune", "--all"]).success();
    assert_eq!(list(&second.path("root")).len(), 0);
}
