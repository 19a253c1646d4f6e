//! Whom `--chown` and `USER` mean: each half is looked up for itself, and what is not there is told.

use crate::base::busybox;
use crate::harness::World;

#[test]
fn each_half_of_an_owner_counts_for_itself() {
    let world = World::new();
    world.file("f", "x");
    let cases = [
        ("0", "0:0"),
        ("7", "7:7"),
        ("7:8", "7:8"),
        ("app", "1000:1000"),
        ("app:9", "1000:9"),
        ("nosuch", "0:0"),
        ("nosuch:77", "0:77"),
        ("1234:nosuch", "1234:1234"),
        ("app:nosuch", "1000:1000"),
    ];
    let lines: Vec<String> =
        cases.iter().enumerate().map(|(at, (owner, _))| format!("COPY --chown={owner} f /{at}")).collect();
    let dockerfile = format!("FROM {}\n{}\n", busybox(), lines.join("\n"));
    let (image, output) = world.build(&dockerfile).image_and_output();
    let rootfs = world.unpack(&image);
    for (at, (owner, expected)) in cases.iter().enumerate() {
        let found = rootfs.get(&format!("/{at}"));
        assert!(found.starts_with(&format!("file 0644 {expected}")), "{owner}: {found}");
    }
    assert!(output.stderr.contains("no group `nosuch`"), "{}", output.stderr);
}

#[test]
fn a_working_directory_is_its_users() {
    let world = World::new();
    let rootfs = world.build("FROM scratch\nUSER nobody\nWORKDIR /w\nUSER 1234\nWORKDIR /x/y\n").rootfs();
    rootfs.expect(&[("/w", "dir 0755 0:0"), ("/x", "dir 0755 1234:1234"), ("/x/y", "dir 0755 1234:1234")]);
}
