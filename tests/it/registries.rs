//! The verbs that speak with registries beside push and pull: login and logout, copy, tags, inspect --raw, manifest.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use ::registry::testing::{Registry, Seen, Setup};
use serde_json::{Value, json};

use crate::base::{busybox, busybox_of_two};
use crate::harness::{Output, World, chmod};
use crate::layout::sha256;
use crate::peers;
use crate::registry::{self, PASSWORD, USER};
use crate::serve::Serving;

/// `lbuild login` with a password on standard input.
fn login(world: &World, password: &str) -> Output {
    let mut command = world.command();
    command.args(["login", "-u", USER, "--password-stdin", registry::protected()]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("lbuild");
    writeln!(child.stdin.take().expect("a pipe"), "{password}").expect("a password");
    let output = child.wait_with_output().expect("its end");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("it ended");
    Output { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn config(world: &World) -> Value {
    let text = fs::read_to_string(world.path("home/.docker/config.json")).expect("a configuration");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn an_account_is_kept_once_it_is_right() {
    let world = World::new();
    let refused = login(&world, "wrong").failure(3);
    assert!(refused.stderr.contains("cannot log in to"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("wrong"), "{}", refused.stderr);
    assert!(!world.path("home/.docker").exists(), "nothing is kept");
    let accepted = login(&world, PASSWORD).success();
    assert_eq!(accepted.line(), "Login Succeeded");
    assert!(
        accepted.stderr.starts_with("warning: the password is kept unencrypted in `"),
        "{}",
        accepted.stderr
    );
    let path = world.path("home/.docker/config.json");
    assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    // Others find it, too.
    let name = format!("{}/login/app:1", registry::protected());
    let skopeo = |args: &[&str]| {
        let auth = path.to_str().expect("a path in UTF-8");
        peers::run(Command::new("skopeo").args(args).args(["--authfile", auth]))
    };
    let from = format!("docker://{}", busybox());
    skopeo(&[
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &from,
        &format!("docker://{name}"),
    ]);
    assert_eq!(
        world.lbuild(&["tags", &format!("{}/login/app", registry::protected())]).success().line(),
        "1"
    );
    let out = world.lbuild(&["logout", registry::protected()]).success();
    assert!(out.line().starts_with("Removed login credentials"), "{}", out.stdout);
    assert_eq!(config(&world)["auths"], json!({}));
    world.lbuild(&["tags", &name]).failure(3).says("lbuild login");
    assert!(world.lbuild(&["logout", registry::protected()]).success().line().starts_with("Not logged in"));
    world.lbuild(&["login", registry::protected()]).failure(2).says("--password-stdin");
    world.lbuild(&["login", "-u", "a", "-p", "b", "not a host"]).failure(2).says("is no registry");
}

#[test]
fn a_helper_keeps_the_account() {
    let world = World::new();
    fs::create_dir_all(world.path("home/.docker")).expect("a folder");
    fs::write(world.path("home/.docker/config.json"), r#"{"credsStore":"it","psFormat":"x"}"#)
        .expect("a file");
    let helper = world.path("docker-credential-it");
    let kept = world.path("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat > {0} ;;\nget) cat > /dev/null; [ -e {0} ] && cat {0} || {{ echo credentials not found in native keychain; exit 1; }} ;;\nerase) cat > /dev/null; rm -f {0} ;;\nesac\n",
        kept.display()
    );
    fs::write(&helper, script).expect("a helper");
    chmod(&helper, 0o755);
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", helper.parent().expect("a folder").display());
    let lbuild = |args: &[&str]| Output::of(world.command().env("PATH", &path).args(args));
    let silent = lbuild(&["login", "-u", USER, "-p", PASSWORD, registry::protected()]).success();
    assert_eq!(silent.stderr, "", "a helper keeps it safe");
    let text = fs::read_to_string(&kept).expect("what the helper keeps");
    assert!(text.contains(PASSWORD) && text.contains(registry::protected()), "{text}");
    let file = fs::read_to_string(world.path("home/.docker/config.json")).expect("a file");
    assert!(!file.contains("auth\""), "{file}");
    assert_eq!(config(&world)["auths"][registry::protected()], json!({}));
    assert_eq!(config(&world)["psFormat"], "x");
    let missing = format!("{}/none", registry::protected());
    lbuild(&["tags", &missing]).failure(3).says("NAME_UNKNOWN");
    lbuild(&["logout", registry::protected()]).success();
    assert!(!kept.exists());
    // What it would never be asked for again it does not get.
    let part = format!("{}/me", registry::protected());
    let refused = lbuild(&["login", "-u", USER, "-p", PASSWORD, &part]).failure(3).stderr;
    assert!(refused.contains("keeps accounts of whole registries"), "{refused}");
    assert!(refused.contains(&format!("hint: `lbuild login {}`", registry::protected())), "{refused}");
    assert!(!kept.exists());
}

fn digest_of(name: &str) -> String {
    peers::skopeo_digest(name)
}

#[test]
fn an_image_is_the_same_everywhere() {
    let world = World::new();
    let open = registry::open();
    let two = format!("docker://{}", busybox_of_two());
    let raw = |place: &str| world.lbuild(&["inspect", "--raw", place]).success().stdout;
    let original = raw(&two);
    let digest = format!("sha256:{}", sha256(original.as_bytes()));
    let copy = |from: &str, to: &str| {
        assert_eq!(world.lbuild(&["copy", "-q", from, to]).success().line(), digest, "{from} to {to}");
    };
    // Round all places, and back to the registry.
    copy(&two, "oci:layout:one");
    copy("oci:layout:one", "store:copied:1");
    copy("store:copied:1", "oci:layout:two");
    copy("oci:layout:two", &format!("{open}/copy/back:1"));
    copy(&format!("{open}/copy/back:1"), &format!("docker://{open}/copy/again:1"));
    for place in ["oci:layout:two", "copied:1", &format!("docker://{open}/copy/again:1")] {
        assert_eq!(raw(place), original, "{place}");
    }
    assert_eq!(
        peers::skopeo_raw(&format!("{open}/copy/again:1"))["manifests"].as_array().map(Vec::len),
        Some(2)
    );
    // Every blob is where it is said to be.
    let ran = world.lbuild(&["run", "--rm", "--network=none", "copied:1", "echo", "it runs"]).success();
    assert_eq!(ran.line(), "it runs");
    peers::skopeo_copy_all(
        &format!("oci:{}:two", world.path("layout").display()),
        &format!("docker://{open}/copy/by-skopeo:1"),
    );
    assert_eq!(digest_of(&format!("{open}/copy/by-skopeo:1")), digest_of(busybox_of_two()));
    // One platform alone.
    let one = world.lbuild(&["copy", "-q", "--platform", "linux/arm64", &two, "oci:one:it"]).success();
    assert_ne!(one.line(), digest);
    let index: Value =
        serde_json::from_slice(&fs::read(world.path("one/index.json")).expect("a list")).expect("JSON");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(index["manifests"][0]["digest"], json!(one.line()));
}

#[test]
fn a_copy_asks_for_each_document_once() {
    let world = World::new();
    let registry = Registry::start(Setup::default());
    let name = registry.reference("app:1").to_string();
    world.build("FROM scratch\nLABEL a=b\n").args(&["--provenance=true", "-t", &name, "--push"]).success();
    let asked = |args: &[&str]| {
        let before = registry.seen().len();
        world.lbuild(&[&["copy", "-q"], args].concat()).success();
        let is_document = |seen: &&Seen| seen.method == "GET" && seen.target.contains("/manifests/");
        registry.seen()[before..].iter().filter(is_document).count()
    };
    // The index, the image and what is stated of it; then the index and the image.
    assert_eq!(asked(&[&name, "oci:all:1"]), 3);
    let platform = oci::Platform::host().to_string();
    assert_eq!(asked(&["--platform", &platform, &name, "oci:one:1"]), 2);
    assert_eq!(asked(&[&format!("{name}@{}", digest_of(&name)), "oci:again:1"]), 3);
}

#[test]
fn what_cannot_be_copied_is_said() {
    let world = World::new();
    fs::create_dir(world.path("full")).expect("a folder");
    fs::write(world.path("full/file"), "x").expect("a file");
    let two = format!("docker://{}", busybox_of_two());
    world.lbuild(&["copy", &two, "oci:full"]).failure(3).says("no OCI image layout");
    world
        .lbuild(&["copy", &two, "docker-archive:x.tar"])
        .failure(2)
        .says("there is no `docker-archive:` here");
    world.lbuild(&["copy", "store:nothing", "oci:new"]).failure(3).says("no image");
    world.lbuild(&["copy", "--platform", "linux/s390x", &two, "oci:new"]).failure(3).says("linux/s390x");
    let absent = format!("{}/copy/absent:1", registry::open());
    world.lbuild(&["copy", &absent, "oci:new"]).failure(3).says("MANIFEST_UNKNOWN");
    // A layout whose bytes are others than its digests say.
    world.lbuild(&["copy", "-q", &two, "oci:bad"]).success();
    let blobs =
        fs::read_dir(world.path("bad/blobs/sha256")).expect("blobs").map(|blob| blob.expect("a blob").path());
    let largest = blobs.max_by_key(|path| path.metadata().expect("a file").len()).expect("a blob");
    let mut bytes = fs::read(&largest).expect("a blob");
    bytes[100] ^= 1;
    fs::write(&largest, bytes).expect("a blob");
    for to in ["oci:good", "store:good", &format!("{}/copy/bad:1", registry::open())] {
        world.lbuild(&["copy", "oci:bad", to]).failure(3);
    }
    assert!(!world.lbuild(&["images"]).success().stdout.contains("good"));
}

/// Pushes an artifact that refers to `subject`, by hand.
fn attach(folder: &std::path::Path, subject: &Value, name: &str) -> String {
    let blob = |bytes: &[u8]| {
        let digest = sha256(bytes);
        fs::write(folder.join("blobs/sha256").join(&digest), bytes).expect("a blob");
        json!({"digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let with = |mut descriptor: Value, kind: &str| {
        descriptor["mediaType"] = json!(kind);
        descriptor
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x.it",
        "config": with(blob(b"{}"), "application/vnd.oci.empty.v1+json"),
        "layers": [with(blob(name.as_bytes()), "text/plain")],
        "subject": subject,
    });
    let bytes = manifest.to_string().into_bytes();
    let entry = with(blob(&bytes), "application/vnd.oci.image.manifest.v1+json");
    let path = folder.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).expect("a list")).expect("JSON");
    index["manifests"].as_array_mut().expect("a list").push(entry.clone());
    fs::write(path, index.to_string()).expect("a list");
    entry["digest"].as_str().expect("a digest").to_owned()
}

#[test]
fn what_refers_to_an_image_goes_with_it() {
    let world = World::new();
    let serving = Serving::start(&world, &[]);
    let (here, open) = (format!("{}/refer/app:1", serving.host), registry::open());
    world.lbuild(&["copy", "-q", busybox(), "oci:layout:one"]).success();
    let layout = world.path("layout");
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("a list")).expect("JSON");
    let subject = {
        let entry = &index["manifests"][0];
        json!({"mediaType": entry["mediaType"], "digest": entry["digest"], "size": entry["size"]})
    };
    let first = attach(&layout, &subject, "a signature");
    let on_first = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": first,
        "size": fs::metadata(layout.join("blobs/sha256").join(&first[7..])).expect("a blob").len(),
    });
    let second = attach(&layout, &on_first, "about the signature");
    // To a registry of today, one of yesterday, the store, and back to a layout.
    let copy = |from: &str, to: &str| drop(world.lbuild(&["copy", "-q", "--referrers", from, to]).success());
    copy("oci:layout:one", &here);
    copy(&here, &format!("{open}/refer/app:1"));
    copy(&format!("{open}/refer/app:1"), "store:refer:1");
    copy("store:refer:1", "oci:again:one");
    let found: Value =
        serde_json::from_slice(&fs::read(world.path("again/index.json")).expect("a list")).expect("JSON");
    let mut digests: Vec<&str> = found["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|entry| entry["digest"].as_str())
        .collect();
    let mut expected = vec![subject["digest"].as_str().expect("a digest"), &first, &second];
    digests.sort_unstable();
    expected.sort_unstable();
    assert_eq!(digests, expected);
    // Without being asked for, they stay.
    world.lbuild(&["copy", "-q", &here, "oci:alone:one"]).success();
    let alone: Value =
        serde_json::from_slice(&fs::read(world.path("alone/index.json")).expect("a list")).expect("JSON");
    assert_eq!(alone["manifests"].as_array().map(Vec::len), Some(1));
    // The store's own list of images is still one of images.
    assert!(world.lbuild(&["images"]).success().stdout.contains("refer"));
}

#[test]
fn an_index_is_made_of_what_registries_have() {
    let world = World::new();
    let open = registry::open();
    let name = |path: &str| format!("{open}/manifest/{path}");
    let two = format!("docker://{}", busybox_of_two());
    for (platform, path) in [("linux/amd64", "amd:1"), ("linux/arm64", "other/arm:1")] {
        world.lbuild(&["copy", "-q", "--platform", platform, &two, &name(path)]).success();
    }
    let (index, amd, arm) = (name("both:1"), name("amd:1"), name("other/arm:1"));
    world.lbuild(&["manifest", "push", &index]).failure(2).says("manifest create");
    world.lbuild(&["manifest", "create", &index, &amd]).success();
    world.lbuild(&["manifest", "create", &index, &arm]).failure(2).says("--amend");
    world.lbuild(&["manifest", "create", "--amend", &index, &arm]).success();
    world.lbuild(&["manifest", "annotate", &index, &arm, "--variant", "v8", "--os-version", "1"]).success();
    world
        .lbuild(&["manifest", "annotate", &index, busybox(), "--os", "x"])
        .failure(2)
        .says("is not in the index");
    let shown: Value =
        serde_json::from_str(&world.lbuild(&["manifest", "inspect", &index]).success().stdout).expect("JSON");
    assert_eq!(shown["manifests"][1]["platform"]["os.version"], "1");
    let pushed = world.lbuild(&["manifest", "push", "--purge", &index]).success();
    assert_eq!(pushed.line(), digest_of_index(&index));
    world.lbuild(&["manifest", "rm", &index]).failure(2);
    let raw = peers::skopeo_raw(&index);
    let platforms: Vec<String> = raw["manifests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| entry["platform"]["architecture"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    // All that the index names is in its own repository.
    peers::skopeo_copy_all(
        &format!("docker://{index}"),
        &format!("oci:{}:it", world.path("pulled").display()),
    );
}

fn digest_of_index(name: &str) -> String {
    let text = peers::run(
        Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false"])
            .arg(format!("docker://{name}")),
    );
    format!("sha256:{}", sha256(text.as_bytes()))
}
