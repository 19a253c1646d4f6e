//! How much memory a build takes: 100 MB, whatever is in the image and however it is compressed. And a look at what it
//! made.

use std::process::Command;

use crate::harness::World;
use crate::peers;

/// Runs a command, which must succeed, and prints the most memory that it or anything it started had, in KiB.
const PEAK: &str = "import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";

const MOST_KIB: u64 = 100 * 1000 * 1000 / 1024;

/// The most memory that the program had with these arguments, in KiB; it must succeed.
fn peak(world: &World, args: &[&str]) -> u64 {
    let lbuild = world.command();
    let mut command = Command::new("python3");
    command.args(["-c", PEAK]).arg(lbuild.get_program()).current_dir(world.path(""));
    for (name, value) in lbuild.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let peak = peers::run(command.args(args));
    peak.lines().last().expect("a number").parse().expect("a number")
}

/// Words by chance: what compression has to look for.
fn text(bytes: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["lower", "upper", "layer", "digest", "whiteout", "chain", "index", "blob"];
    let mut state = 1_u64;
    let mut text = Vec::with_capacity(bytes + 32);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(WORDS[(state >> 61) as usize].as_bytes());
        text.extend_from_slice(format!(" {:x}\n", state >> 40).as_bytes());
    }
    text
}

#[test]
fn a_build_stays_below_a_hundred_megabytes() {
    let world = World::new();
    // More than the threads of any level have at once, and more than is allowed.
    world.file("f", text(120_000_000));
    world.file("small", text(24_000_000));
    for (file, form) in [
        ("f", "compression=uncompressed"),
        ("f", "compression=gzip"),
        ("f", "compression=estargz"),
        ("f", "compression=zstd"),
        ("small", "compression=zstd,compression-level=9"),
        ("small", "compression=zstd,compression-level=12"),
        ("small", "compression=zstd,compression-level=15"),
        ("small", "compression=zstd,compression-level=22"),
    ] {
        world.file("Dockerfile", format!("FROM scratch\nCOPY {file} /\n"));
        let output = format!("type=oci,tar=false,dest={},{form}", world.path(form).display());
        let kib = peak(&world, &["--quiet", "-o", &output, "context"]);
        assert!(kib < MOST_KIB, "{form} takes {kib} KiB");
    }
}

#[test]
fn a_deep_look_reads_no_layer_into_memory() {
    let world = World::new();
    world.file("f", vec![b'x'; 200_000_000]);
    world.build("FROM scratch\nCOPY f /\n").args(&["-t", "large"]).success();
    let kib = peak(&world, &["fsck", "--deep"]);
    assert!(kib < MOST_KIB, "it takes {kib} KiB");
}
