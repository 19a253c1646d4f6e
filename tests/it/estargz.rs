//! eStargz layers, held against the library of those who made the format.

use std::process::Command;

use crate::harness::World;
use crate::layout::Image;
use crate::peers;

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/estargz/check.go");

/// Bytes by chance, so that chunks are as long as they were.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(next).collect()
}

#[test]
fn every_chunk_is_what_its_table_says_to_containerds_library() {
    let world = World::new();
    world.file("d/large", noise(9_000_000)).file("d/small", "text").file("d/empty", "");
    let layout = world.path("layout");
    let output = format!("type=oci,tar=false,dest={},compression=estargz", layout.display());
    world.build("FROM scratch\nCOPY d /d\nCOPY d/small /etc/\n").args(&["-o", &output]).success();
    let check = world.path("check");
    let mut build = Command::new("go");
    // Debian's libraries stand where Go looked for them before there were modules.
    build.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode").env("GOCACHE", world.path("go"));
    peers::run(build.args(["build", "-o"]).arg(&check).arg(CHECK));
    let image = Image::open(&layout);
    let verified = |layer: &serde_json::Value| {
        let digest = layer["digest"].as_str().expect("a digest").trim_start_matches("sha256:");
        let toc = layer["annotations"]["containerd.io/snapshot/stargz/toc.digest"].as_str();
        let mut command = Command::new(&check);
        peers::run(
            command.arg(layout.join("blobs/sha256").join(digest)).arg(toc.expect("the table's digest")),
        )
    };
    let layers = image.manifest["layers"].as_array().expect("layers");
    let shown: Vec<String> = layers.iter().map(verified).collect();
    let expected = [
        ".no.prefetch.landmark 1 1\nd/large 9000000 3\nd/small 4 1\n",
        ".no.prefetch.landmark 1 1\netc/small 4 1\n",
    ];
    assert_eq!(shown, expected);
}
