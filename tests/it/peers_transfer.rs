//! What other tools push to `lbuild serve`, and the layouts that they write.

use std::fs;
use std::process::Command;

use crate::base::busybox;
use crate::harness::World;
use crate::peers::{self, Containers};
use crate::serve::Serving;

#[test]
fn podman_and_buildah_push_what_they_pulled() {
    let world = World::new();
    let dockerfile = format!("FROM {}\nRUN echo built > /name\n", busybox());
    world.build(&dockerfile).args(&["-t", "built:1"]).success();
    let serving = Serving::start(&world, &[]);
    let containers = Containers::vfs(&world.path("containers"));
    let ours = format!("{}/built:1", serving.host);
    containers.podman(&["pull", "--quiet", "--tls-verify=false", &ours]);
    for (tool, format) in [("podman", "oci"), ("podman", "v2s2"), ("buildah", "oci"), ("buildah", "docker")] {
        let theirs = format!("{}/{tool}/{format}:1", serving.localhost());
        let to = format!("docker://{theirs}");
        containers.run_tool(tool, &["push", "--quiet", "--tls-verify=false", "--format", format, &ours, &to]);
        let ran = world.lbuild(&["run", "--rm", "--network=none", &theirs, "cat", "/name"]).success();
        assert_eq!(ran.line(), "built", "{tool} {format}");
        let media_type = peers::skopeo_raw(&theirs)["mediaType"].as_str().unwrap_or_default().to_owned();
        assert_eq!(media_type.contains("oci"), format == "oci", "{tool} {format}: {media_type}");
    }
}

#[test]
fn umoci_and_lbuild_read_each_others_layouts() {
    let world = World::new();
    let umoci = |args: &[&str]| peers::run(Command::new("umoci").args(args).current_dir(world.path("")));
    // Theirs, made of nothing.
    world.file("theirs", "made by umoci");
    let tar = |archive: &str, file: &str| {
        let mut command = Command::new("tar");
        peers::run(command.args(["-cf", archive, "-C", "context", file]).current_dir(world.path("")));
    };
    tar("layer.tar", "theirs");
    umoci(&["init", "--layout", "layout"]);
    umoci(&["new", "--image", "layout:it"]);
    umoci(&["raw", "add-layer", "--image", "layout:it", "layer.tar"]);
    umoci(&["config", "--image", "layout:it", "--config.cmd", "cat", "--config.cmd", "/theirs"]);
    world.lbuild(&["copy", "-q", "oci:layout:it", "store:theirs:1"]).success();
    assert_eq!(world.lbuild(&["cat", "theirs:1", "/theirs"]).success().stdout, "made by umoci");
    world.lbuild(&["load", "-i", "layout"]).success();
    let built = world
        .build(&format!("FROM {}\nCOPY --from=theirs /theirs /copied\n", busybox()))
        .args(&["--build-context", "theirs=oci-layout://layout:it"])
        .rootfs();
    assert_eq!(built.text("/copied"), "made by umoci");
    // Ours, changed by them and read again; also the store itself, which is a layout.
    world.file("ours", "made by lbuild");
    world.build("FROM scratch\nCOPY ours /ours\n").args(&["-t", "ours:1"]).success();
    world.lbuild(&["copy", "-q", "store:ours:1", "oci:layout:ours"]).success();
    umoci(&["raw", "add-layer", "--image", "layout:ours", "--tag", "both", "layer.tar"]);
    umoci(&["gc", "--layout", "layout"]);
    world.lbuild(&["copy", "-q", "oci:layout:both", "store:both:1"]).success();
    assert_eq!(world.lbuild(&["cat", "both:1", "/ours"]).success().stdout, "made by lbuild");
    assert_eq!(world.lbuild(&["cat", "both:1", "/theirs"]).success().stdout, "made by umoci");
    peers::umoci_unpack(&world.path("layout"), &world.path("unpacked"));
    assert_eq!(fs::read_to_string(world.path("unpacked/theirs")).expect("a file"), "made by umoci");
    assert!(umoci(&["list", "--layout", "root"]).contains("both:1"));
}
