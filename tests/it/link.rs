//! `COPY --link`: layers that do not depend on what is below them.

use crate::base::busybox;
use crate::harness::World;

#[test]
fn a_changed_base_keeps_the_layer() {
    let world = World::new();
    world.file("f", "x");
    let build = |base: &str| {
        let dockerfile =
            format!("FROM {} AS base\nRUN echo {base} > /base\nFROM base\nCOPY --link f /d/f\n", busybox());
        world.build(&dockerfile).image_and_output()
    };
    let (first, _) = build("one");
    let (second, output) = build("two");
    assert_eq!(first.diff_ids().last(), second.diff_ids().last());
    assert_ne!(first.diff_ids()[1], second.diff_ids()[1]);
    let copy = output.stderr.lines().position(|line| line.contains("COPY --link")).expect("the step");
    assert!(
        output.stderr.lines().skip(copy).take(2).any(|line| line.contains("CACHED")),
        "{}",
        output.stderr
    );
    assert_eq!(world.unpack(&second).text("/base"), "two\n");
    assert_eq!(world.unpack(&second).text("/d/f"), "x");
}

#[test]
fn nothing_of_the_base_is_unpacked_for_it() {
    let world = World::new();
    world.file("f", "x");
    let dockerfile = format!("FROM {}\nCOPY --link f /d/f\nCOPY --link f /d/g\nLABEL a=b\n", busybox());
    let rootfs = world.build(&dockerfile).rootfs();
    let snapshots = std::fs::read_dir(world.path("root/snapshots")).expect("snapshots").count();
    assert_eq!(snapshots, 2, "only the two layers exist as file systems");
    assert!(rootfs.has("/d/f") && rootfs.has("/d/g") && rootfs.has("/bin/sh"));
}

#[test]
fn what_comes_later_stands_on_it() {
    let world = World::new();
    world.file("f", "new").file("g/h", "h");
    let dockerfile = format!(
        "FROM {} AS a\nRUN mkdir /d && echo old > /d/f && echo keep > /d/keep\n\
         COPY --link f /d/f\nCOPY --link g /d/\nRUN cat /d/f /d/keep /d/h > /out && rm /d/f\n\
         FROM scratch\nCOPY --link --from=a /out /d /\nCOPY --from=a /out /again\n",
        busybox()
    );
    let rootfs = world.build(&dockerfile).rootfs();
    assert_eq!(rootfs.text("/out"), "newkeep\nh");
    assert_eq!(rootfs.text("/again"), "newkeep\nh");
    assert!(rootfs.has("/keep") && rootfs.has("/h") && !rootfs.has("/f"));
}

#[test]
fn it_follows_no_links_of_the_base() {
    let world = World::new();
    world.file("f", "x");
    let dockerfile = format!(
        "FROM {}\nRUN mkdir /real && ln -s /real /link\nCOPY --link f /link/f\nRUN test ! -e /real/f && test -d /link && test -f /link/f\n",
        busybox()
    );
    world.build(&dockerfile).success();
}

#[test]
fn names_of_owners_need_the_base() {
    let world = World::new();
    world.file("f", "x");
    let build = |owner: &str| world.build(&format!("FROM {}\nCOPY --link --chown={owner} f /f\n", busybox()));
    build("app").failure().says("no image to look the name up in").says("drop `--link`");
    build("7:8").rootfs().expect(&[("/f", "file 0644 7:8")]);
}

#[test]
fn an_image_that_ends_in_one_is_kept_and_freed_as_any() {
    let world = World::new();
    world.file("f", "x");
    let base = format!("FROM {}\nRUN head -c 300000 /dev/urandom > /big\n", busybox());
    let random = |world: &World| {
        let rootfs = world.build(&format!("{base}COPY --link f /f\n")).args(&["-t", "linked"]).rootfs();
        rootfs.get("/big").to_owned()
    };
    let first = random(&world);
    world.build(&format!("{base}RUN true\n")).args(&["-t", "other"]).success();
    world.lbuild(&["rmi", "other"]).success();
    assert_eq!(random(&world), first, "removing another image took its steps");
    let snapshots = || std::fs::read_dir(world.path("root/snapshots")).expect("snapshots").count();
    let before = snapshots();
    world.lbuild(&["rmi", "-f", "linked"]).success();
    assert!(snapshots() < before, "its steps stayed");
}
