//! Several platforms: what is built for each, the index that joins them, and what the verbs make of it.
//!
//! Programs for arm64 are executed by an interpreter that a test registers with the kernel for its own time, under a
//! name of its own, if the machine has none.
#![allow(clippy::print_stdout, reason = "what is skipped says why")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use runner::emulation::{self, Emulation};
use serde_json::Value;

use crate::base::{busybox, busybox_of_two};
use crate::harness::World;
use crate::layout::{self, Image};
use crate::peers::{self, Containers};
use crate::registry;

const ENTRIES: &str = "/proc/sys/fs/binfmt_misc";
/// How Debian's package has the interpreter: `:name:M::magic:mask:interpreter:flags`.
const DEBIAN: &str = "/usr/lib/binfmt.d/qemu-aarch64.conf";

/// An interpreter for arm64, seen by this thread and its children.
struct Emulated {
    entry: Option<PathBuf>,
}

impl Emulated {
    /// None, with a printed reason, where that cannot be.
    fn new() -> Option<Emulated> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let known = fs::read_to_string("/proc/filesystems").expect("the file systems");
        let has_binfmt = known.lines().any(|line| line.ends_with("\tbinfmt_misc"));
        if !has_binfmt || layout::architecture() != "amd64" {
            println!("skipped: this is no amd64 machine, or its kernel has no binfmt_misc");
            return None;
        }
        see_entries();
        if let Emulation::Registered { fixed: true, .. } = emulation::find("arm64") {
            return Some(Emulated { entry: None });
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lbuild-it-{}-{number}", std::process::id());
        let line = fs::read_to_string(DEBIAN).expect("`make test` installs qemu-user-static");
        let fields: Vec<&str> = line.trim().split(':').skip(2).collect();
        fs::write(Path::new(ENTRIES).join("register"), format!(":{name}:{}", fields.join(":")))
            .expect("a registration");
        Some(Emulated { entry: Some(Path::new(ENTRIES).join(name)) })
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            fs::write(entry, "-1").expect("the end of the registration");
        }
    }
}

/// Shows the kernel's interpreters to this thread and its children, whether or not the machine shows them.
fn see_entries() {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(NONE, "/", NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE).expect("private mounts");
    if !Path::new(ENTRIES).join("status").exists() {
        mount(NONE, ENTRIES, Some("binfmt_misc"), MsFlags::empty(), NONE).expect("binfmt_misc");
    }
}

/// The platforms of an index, in order.
fn platforms(index: &Value) -> Vec<String> {
    let platform = |entry: &Value| {
        let platform = &entry["platform"];
        let text = |key: &str| platform[key].as_str().map(str::to_owned);
        [text("os"), text("architecture"), text("variant")]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("/")
    };
    index["manifests"].as_array().expect("an index").iter().map(platform).collect()
}

#[test]
fn every_platform_is_built_and_the_peers_read_the_index() {
    let Some(_emulated) = Emulated::new() else { return };
    let world = World::new();
    let base = busybox_of_two();
    let name = format!("{}/platforms/two:1", registry::open());
    let dockerfile = format!(
        "FROM --platform=$BUILDPLATFORM {base} AS build\n\
         ARG BUILDPLATFORM TARGETPLATFORM\n\
         RUN echo \"$BUILDPLATFORM makes $TARGETPLATFORM on $(uname -m)\" > /made\n\
         FROM {base}\n\
         ARG TARGETARCH\n\
         COPY --from=build /made /made\n\
         RUN echo \"$TARGETARCH on $(uname -m)\" > /ran\n"
    );
    let build = || {
        let world = world.build(&dockerfile);
        world.args(&["--platform", "linux/amd64,linux/arm64", "-t", &name, "--push"]).success()
    };
    let output = build();
    output.says("[linux/amd64 ").says("[linux/arm64 ");
    let index = peers::skopeo_raw(&name);
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64"]);

    let copy = world.path("copy");
    peers::skopeo_copy_all(&format!("docker://{name}"), &format!("oci:{}:it", copy.display()));
    for (entry, expected) in index["manifests"].as_array().expect("entries").iter().zip([
        ("amd64 on x86_64\n", "linux/amd64 makes linux/amd64 on x86_64\n"),
        ("arm64 on aarch64\n", "linux/amd64 makes linux/arm64 on x86_64\n"),
    ]) {
        let image = Image::pick(&copy, entry);
        assert_eq!(image.image["architecture"], entry["platform"]["architecture"]);
        let tree = world.unpack(&image);
        assert_eq!((tree.text("/ran").as_str(), tree.text("/made").as_str()), expected);
    }
    let containers = Containers::vfs(&world.path("containers"));
    assert_eq!(containers.podman_run(&name, &["cat", "/ran"]), "amd64 on x86_64\n");

    let run =
        |args: &[&str]| world.lbuild(&[&["run", "--rm", "--network=none"], args].concat()).success().stdout;
    assert_eq!(run(&[&name, "cat", "/ran"]), "amd64 on x86_64\n");
    assert_eq!(
        run(&["--platform=linux/arm64", &name, "sh", "-c", "cat /ran; uname -m"]),
        "arm64 on aarch64\naarch64\n"
    );
    // A second time nothing executes, and it is the very same.
    let again = build();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
    assert_eq!(peers::skopeo_raw(&name), index);
    // Who has the name only from the registry gets the image for its own machine.
    let elsewhere = World::new();
    elsewhere.lbuild(&["pull", "-q", "--platform=linux/arm64", &name]).success();
    assert_eq!(elsewhere.json(&["inspect", &name])[0]["Architecture"], "arm64");
}

#[test]
fn an_index_is_an_image_to_every_verb() {
    let world = World::new();
    world.file("f", "content");
    let own = layout::architecture();
    let name = format!("{}/platforms/verbs:1", registry::open());
    let both = format!("linux/{own},linux/s390x");
    world
        .build("FROM scratch\nARG TARGETARCH\nCOPY f /f-$TARGETARCH\n")
        .args(&["--platform", &both, "-t", &name])
        .args(&["--annotation", "index:whose=index", "--annotation", "whose=manifest"])
        .success();
    let listed = world.json(&["images", "--format=json"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let id = listed[0]["ID"].as_str().expect("an id").to_owned();
    assert_eq!(listed[0]["Digest"], *id, "an index is its own id");
    let inspected = &world.json(&["inspect", &id])[0];
    assert_eq!((&inspected["Id"], &inspected["Architecture"]), (&id.as_str().into(), &own.into()));
    assert_eq!(inspected["Manifests"].as_array().map(Vec::len), Some(2));
    let history = world.json(&["history", &name, "--format=json"]);
    assert_eq!(history[0]["CreatedBy"], format!("COPY f /f-{own} # buildkit"));
    let offered = format!("only for linux/{own}, linux/s390x");
    world.lbuild(&["run", "--platform=linux/ppc64le", &name, "true"]).failure(125).says(&offered);

    let digest = world.lbuild(&["push", "-q", &name]).success().stdout;
    assert_eq!(peers::skopeo_digest(&name), digest.trim());
    let index = peers::skopeo_raw(&name);
    assert_eq!(platforms(&index), [format!("linux/{own}"), "linux/s390x".to_owned()]);
    assert_eq!(index["annotations"]["whose"], "index");
    let copy = world.path("copy");
    peers::skopeo_copy_all(&format!("docker://{name}"), &format!("oci:{}:it", copy.display()));
    for entry in index["manifests"].as_array().expect("entries") {
        let image = Image::pick(&copy, entry);
        assert_eq!(image.manifest["annotations"]["whose"], "manifest");
        let architecture = entry["platform"]["architecture"].as_str().expect("a text");
        assert_eq!(image.names_in_layer(0), [format!("f-{architecture}")]);
    }
    // It is one image here still, as it is there.
    let listed = world.json(&["images", "--format=json"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["Digest"], digest.trim());

    // To build on one of its images, as the registry has it, takes the name from none.
    world.build(&format!("FROM {name}\nLABEL a=b\n")).args(&["--pull", "-t", "it/on:1"]).success();
    assert_eq!(world.json(&["inspect", &name])[0]["Id"], digest.trim());

    world.lbuild(&["tag", &name, "it/also:1"]).success();
    world.lbuild(&["rmi", &name]).success();
    assert_eq!(world.json(&["inspect", "it/also:1"])[0]["Id"], digest.trim());
    // A build finds the images of each platform under the name.
    for architecture in [own, "s390x"] {
        let platform = format!("--platform=linux/{architecture}");
        let image = world.build("FROM it/also:1\n").arg(platform).image();
        assert_eq!(image.names_in_layer(0), [format!("f-{architecture}")]);
    }
    world.lbuild(&["rmi", "it/also:1"]).success();
    assert_eq!(world.json(&["images", "it/also", "--format=json"]), Value::Array(Vec::new()));
}

#[test]
fn rmi_frees_all_images_of_an_index() {
    let world = World::new();
    world.file("f", "content");
    world
        .build("FROM scratch\nARG TARGETARCH\nCOPY f /f-$TARGETARCH\n")
        .args(&["--platform=linux/amd64,linux/s390x", "-t", "it/freed:1"])
        .success();
    let blobs = || fs::read_dir(world.path("root/blobs/sha256")).expect("the blobs").count();
    // An index, two manifests, two configurations, two layers.
    assert_eq!(blobs(), 7);
    world.lbuild(&["rmi", "it/freed:1"]).success();
    assert_eq!(blobs(), 0);
    assert_eq!(fs::read_dir(world.path("root/snapshots")).expect("the snapshots").count(), 0);
}

#[test]
fn the_configuration_says_the_platform_that_was_asked_for() {
    let world = World::new();
    let own = layout::architecture();
    let single = busybox();
    let two = busybox_of_two();
    for (from, platform, expected) in [
        // Asked for by name, it is that one, whatever the base says.
        (format!("FROM {single}"), Some("linux/s390x"), ("s390x", None)),
        (format!("FROM {single}"), Some("linux/arm/v6"), ("arm", Some("v6"))),
        ("FROM scratch".to_owned(), Some("linux/arm64/v8"), ("arm64", None)),
        (format!("FROM --platform=linux/arm64 {two}"), Some("linux/s390x"), ("s390x", None)),
        // Else the base tells.
        (format!("FROM --platform=linux/arm64 {two}"), None, ("arm64", None)),
        (format!("FROM {two}"), None, (own, None)),
        ("FROM scratch".to_owned(), None, (own, None)),
    ] {
        let build = world.build(&format!("{from}\nLABEL a=b\n"));
        let image = match platform {
            Some(platform) => build.args(&["--platform", platform]).image(),
            None => build.image(),
        };
        let found = (image.image["architecture"].as_str(), image.image["variant"].as_str());
        assert_eq!(found, (Some(expected.0), expected.1), "{from} {platform:?}");
    }
}

#[test]
fn a_platform_that_the_base_does_not_have_is_refused() {
    let world = World::new();
    world
        .build(&format!("FROM {}\nLABEL a=b\n", busybox_of_two()))
        .arg("--platform=linux/s390x")
        .failure()
        .says("it has no image for `linux/s390x`, only for");
}

#[test]
fn a_platform_that_an_image_does_not_have_is_refused_by_every_verb() {
    let world = World::new();
    let two = format!("docker://{}", busybox_of_two());
    world.lbuild(&["copy", "-q", &two, "store:two:1"]).success();
    let for_s390x = |args: &[&str]| world.lbuild(&[args, &["--platform=linux/s390x", "two:1"]].concat());
    for (args, code, act) in [
        (&["run"][..], 125, "run"),
        (&["export", "-o", "files.tar"], 3, "export"),
        (&["save", "-o", "image.tar"], 3, "save"),
        (&["ls"], 3, "look into"),
    ] {
        let refused = for_s390x(args).failure(code).says("it has no image for `linux/s390x`, only for");
        refused.says(&format!("error: cannot {act} `two:1`"));
    }
}

#[test]
fn a_command_for_another_processor_needs_an_interpreter() {
    see_entries();
    let architectures = [("s390x", 22, 2), ("ppc64", 21, 2), ("mips", 8, 2)];
    let missing = |(name, ..): &&(&str, u8, u8)| emulation::find(name) == Emulation::Missing;
    let Some((architecture, machine, order)) = architectures.iter().find(missing) else {
        println!("skipped: this machine has interpreters for everything");
        return;
    };
    let world = World::new();
    // The head of a 64-bit program with the most significant byte first: no kernel for amd64 or arm64 takes it.
    let mut program = vec![0x7f, b'E', b'L', b'F', 2, *order, 1];
    program.resize(16, 0);
    program.extend([0, 2, 0, *machine, 0, 0, 0, 1]);
    program.resize(64, 0);
    world.file("sh", program);
    let platform = format!("--platform=linux/{architecture}");
    let copies = "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nWORKDIR /w\n";
    let image = world.build(copies).arg(&platform).image();
    assert_eq!(image.image["architecture"], **architecture, "to copy, nothing has to execute");
    world
        .build(&format!("{copies}RUN true\n"))
        .arg(&platform)
        .failure()
        .says(&format!("programs of `linux/{architecture}` need an emulator"))
        .says("qemu-user-static");
}

#[test]
fn a_layout_is_a_named_context() {
    let world = World::new();
    let layout = world.path("layout");
    peers::skopeo_copy_all(
        &format!("docker://{}", busybox_of_two()),
        &format!("oci:{}:it", layout.display()),
    );
    let context =
        |selector: &str| format!("--build-context=base=oci-layout://{}{selector}", layout.display());
    let own = layout::architecture();
    let dockerfile = "FROM base\nCOPY --from=base /bin/busybox /copied\nRUN cp /copied /ran\n";
    for selector in ["", ":it"] {
        let image = world.build(dockerfile).arg(context(selector)).image();
        assert_eq!(image.image["architecture"], own);
        world.unpack(&image).expect(&[("/copied", "file 0755 0:0"), ("/ran", "file 0755 0:0")]);
    }
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).expect("a list")).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let build = world.build("FROM base\nCOPY --from=base /bin/busybox /copied\n");
    let build = build.arg(context(&format!("@{digest}"))).arg("--platform=linux/arm64");
    let image = build.image();
    assert_eq!(image.image["architecture"], "arm64");
    world.unpack(&image).expect(&[("/copied", "file 0755 0:0")]);
    world.build(dockerfile).arg(context(":other")).output().failure(3).says("it has `it`");
    // What was built stands without the layout, and a later build does not mistake the name for a registry's.
    world.build(dockerfile).arg(context("")).args(&["-t", "it/built:1"]).success();
    fs::remove_dir_all(&layout).expect("the layout's end");
    world.lbuild(&["run", "--rm", "--network=none", "it/built:1", "test", "-e", "/ran"]).success();
}
