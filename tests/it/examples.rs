//! What Dockerfile.examples promises: each folder is built, pushed, pulled into an empty store and run; and
//! what was pushed is to skopeo, umoci, buildah and podman exactly what it is to lbuild.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::World;
use crate::layout::Image;
use crate::peers::{self, Containers};
use crate::tree::Tree;
use crate::{base, registry, source};

/// An example, a command for it that ends by itself, and what that prints.
struct Example {
    name: &'static str,
    command: &'static [&'static str],
    prints: &'static str,
    has_base: bool,
}

const EXAMPLES: [Example; 4] = [
    Example {
        name: "hello",
        command: &[],
        prints: "Hello from an image built without a daemon.\nI am process 1",
        has_base: false,
    },
    Example {
        name: "multistage",
        command: &["all of you"],
        prints: "Hello from scratch, all of you!\n",
        has_base: true,
    },
    Example {
        name: "nginx",
        command: &[
            "bash",
            "-c",
            "nginx && exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3",
        ],
        prints: "<h1>Served from an image that lbuild built</h1>\n",
        has_base: true,
    },
    Example {
        name: "python-app",
        command: &["python", "-c", "import app; app.check()"],
        prints: "Hello from Flask in an image that lbuild built\n",
        has_base: true,
    },
];

fn check(name: &str) {
    let example = EXAMPLES.iter().find(|example| example.name == name).expect("an example");
    let reference = format!("{}/examples/{name}:1", registry::open());
    let world = World::new();
    build_and_push(&world, example, &reference);
    runs_in_an_empty_store(example, &reference);
    peers_see_the_same(&world, example, &reference);
}

fn build_and_push(world: &World, example: &Example, reference: &str) {
    let context = world.path("example");
    peers::run(
        Command::new("cp")
            .arg("-r")
            .arg(source::root().join("Dockerfile.examples").join(example.name))
            .arg(&context),
    );
    if example.name == "hello" {
        fs::copy("/bin/busybox", context.join("busybox")).expect("busybox");
    }
    let layout = world.path("layout");
    fs::create_dir(&layout).expect("a folder");
    let output = format!("type=oci,dest={}/", layout.display());
    let base = format!("BASE={}", if example.has_base { base::debian() } else { "unused" });
    let mut args = vec!["--progress=plain", "-t", reference, "--push", "-o", &output];
    if example.has_base {
        args.extend(["--build-arg", &base]);
    }
    // Without a verb and without -f, as README says it.
    args.push("example");
    world.lbuild(&args).success();
    assert_eq!(
        Image::open(&layout).digest,
        peers::skopeo_digest(reference),
        "written and pushed are one image"
    );
}

fn runs_in_an_empty_store(example: &Example, reference: &str) {
    let world = World::new();
    let mut args = vec!["run", "--rm", "--network", "none", reference];
    args.extend(example.command);
    let output = world.lbuild(&args).success();
    assert!(output.stdout.starts_with(example.prints), "{}", output.stdout);
    // What lbuild unpacked, copied by lbuild, is what umoci unpacks of the original.
    let copy = world.build(&format!("FROM scratch\nCOPY --from={reference} / /\n")).rootfs();
    let (layout, unpacked) = (world.path("original"), world.path("unpacked"));
    peers::skopeo_copy(&format!("docker://{reference}"), &format!("oci:{}:it", layout.display()));
    peers::umoci_unpack(&layout, &unpacked);
    copy.tree.without(&["/"]).assert_same(&Tree::of(&unpacked).without(&["/"]), "lbuild", "umoci");
}

fn peers_see_the_same(world: &World, example: &Example, reference: &str) {
    let image = Image::open(&world.path("layout"));
    assert_eq!(
        peers::skopeo_config(reference),
        image.image,
        "skopeo reads the configuration that lbuild wrote"
    );
    let unpacked = world.unpack(&image);
    let containers = Containers::vfs(&world.path("containers"));
    let pulled = Tree::of(&containers.pulled_tree(reference));
    // The root has no entry in these layers; buildah makes it its own way.
    unpacked.tree.without(&["/"]).assert_same(&pulled.without(&["/"]), "umoci", "buildah");
    let printed = containers.podman_run(reference, example.command);
    assert!(printed.starts_with(example.prints), "podman: {printed}");
}

#[test]
fn hello() {
    check("hello");
}

#[test]
fn multistage() {
    check("multistage");
}

#[test]
fn nginx() {
    check("nginx");
}

#[test]
fn python_app() {
    check("python-app");
}

#[test]
fn no_example_is_forgotten() {
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).expect("the examples").map(|entry| entry.expect("an entry"));
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let folders = names(&source::root().join("Dockerfile.examples"));
    let tested: BTreeSet<String> = EXAMPLES.iter().map(|example| example.name.to_owned()).collect();
    assert_eq!(folders, tested);
}
