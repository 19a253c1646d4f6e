//! `--snapshotter`: whatever makes the file systems, the image is the same, and nothing is left behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::base::{busybox, debian};
use crate::harness::{Output, World};
use crate::peers;

const DRIVERS: [&str; 3] = ["overlay", "fuse-overlayfs", "copy"];

/// Before everything that a step makes, so that a layer does not tell when it was made.
const EPOCH: &str = "1000000000";

/// Steps of all kinds, in two stages.
fn dockerfile(base: &str) -> String {
    format!(
        "FROM {base} AS build
WORKDIR /work
COPY src /work/src
RUN --mount=type=cache,target=/cache echo kept > /cache/f && cp /cache/f kept && chmod 4755 kept
RUN mkdir -p a/b/c && echo 1 > a/b/c/f && ln a/b/c/f a/g && ln -s a/g link && mkfifo pipe
RUN rm -r a/b && mkdir a/b && echo 2 > a/b/new && mv a moved && touch src && rm src/drop
RUN chown 7:8 moved/b && rm -r src && mkdir src && echo again > src/keep
FROM {base}
COPY --link src/keep /linked/keep
COPY --from=build /work /work
COPY --chown=5:6 src /work/src
RUN rm /linked/keep && echo end > /work/end && rm -r /work/moved && mkdir /work/moved
RUN true
"
    )
}

fn files(world: &World) {
    world.file("src/keep", "keep").file("src/drop", "drop").file("src/deep/file", "deep");
}

#[test]
fn every_driver_builds_the_same_image() {
    let images = DRIVERS.map(|driver| {
        let world = World::new();
        files(&world);
        let build = world.build(&dockerfile(busybox())).arg("--snapshotter").arg(driver);
        let image = build.env("SOURCE_DATE_EPOCH", EPOCH).image();
        let trees = fs::read_dir(world.path("root/trees")).expect("trees").count();
        assert_eq!(trees > 0, driver == "copy", "{driver}: {trees} trees");
        let diff_ids: Vec<String> = image.diff_ids().into_iter().map(str::to_owned).collect();
        (diff_ids, image.digest)
    });
    assert_eq!(images[0], images[1], "overlay and fuse-overlayfs");
    assert_eq!(images[0], images[2], "overlay and copy");
}

#[test]
fn every_driver_installs_packages_alike() {
    let dockerfile = format!(
        "FROM {}\nRUN rm -rf /var/lib/apt/lists /usr/share/doc && mkdir /var/lib/apt/lists && useradd -m me\n\
         USER me\nRUN mkdir ~/bin && cp /bin/ls ~/bin/ && ls -la ~/bin > ~/list\nUSER root\n\
         RUN rm -r /home/me/list && find /usr/share/zoneinfo -type f | sort | head -50 | xargs -r rm\n",
        debian()
    );
    let images = DRIVERS.map(|driver| {
        let world = World::new();
        world.file("f", "f");
        let build = world.build(&dockerfile).env("LBUILD_SNAPSHOTTER", driver);
        let image = build.env("SOURCE_DATE_EPOCH", EPOCH).image();
        (2..image.diff_ids().len()).map(|layer| image.names_in_layer(layer)).collect::<Vec<_>>()
    });
    assert_eq!(images[0], images[1], "overlay and fuse-overlayfs");
    assert_eq!(images[0], images[2], "overlay and copy");
}

#[test]
fn containers_run_on_each() {
    let world = World::new();
    world.build(&format!("FROM {}\nRUN echo image > /f\n", busybox())).args(&["-t", "it:1"]).success();
    for driver in DRIVERS {
        let script =
            "test \"$(cat /f)\" = image; echo mine > /f; mkdir /d; mv /f /d; test -c /dev/null; cat /d/f";
        let args = ["--snapshotter", driver, "run", "--rm", "--network=none", "it:1", "sh", "-ec", script];
        let output = world.lbuild(&args).success();
        assert_eq!(output.line(), "mine", "{driver}");
    }
    assert_eq!(fs::read_dir(world.path("root/ingest")).expect("ingest").count(), 0);
}

#[test]
fn one_store_serves_all_of_them() {
    let world = World::new();
    files(&world);
    let build = |driver: &str, name: &str| {
        let build = world.build(&dockerfile(busybox())).args(&["-t", name, "--snapshotter", driver]);
        build.env("SOURCE_DATE_EPOCH", EPOCH).image_and_output()
    };
    let (first, _) = build("overlay", "it:overlay");
    let (second, output) = build("copy", "it:copy");
    assert_eq!(first.digest, second.digest);
    assert!(!output.stderr.contains("CACHED [build"), "its own snapshots: {}", output.stderr);
    // What either made is cached for it, and fuse-overlayfs goes on where overlay was.
    for driver in ["copy", "overlay", "fuse-overlayfs"] {
        let (again, output) = build(driver, "it:again");
        assert_eq!(again.digest, first.digest);
        assert!(output.stderr.contains("CACHED"), "{driver}: {}", output.stderr);
    }
    world.lbuild(&["fsck", "--deep"]).success();
    world.lbuild(&["du"]).success();
    let trees = || fs::read_dir(world.path("root/trees")).expect("trees").count();
    assert!(trees() > 0);
    // Another driver's collector knows what is of use.
    world.lbuild(&["prune", "-f"]).success();
    let (_, output) = build("copy", "it:again");
    assert!(output.stderr.contains("CACHED"), "{}", output.stderr);
    world.lbuild(&["rmi", "-f", "it:overlay", "it:copy", "it:again"]).success();
    world.lbuild(&["prune", "-af"]).success();
    assert_eq!(trees(), 0);
    world.lbuild(&["fsck", "--deep"]).success();
}

/// Processes whose command line has both words.
fn processes(one: &str, other: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        // One that has ended has no command line.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(one) && line.contains(other) {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_killed_lbuild_leaves_no_server() {
    let world = World::new();
    world.build(&format!("FROM {}\nRUN echo image > /f\n", busybox())).args(&["-t", "it:1"]).success();
    let args = ["--snapshotter=fuse-overlayfs", "run", "--rm", "it:1", "sh", "-c", "echo up; sleep 1000000"];
    let mut command = world.command();
    let mut child = command.args(args).stdout(Stdio::piped()).spawn().expect("lbuild");
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
    let ingest = fs::read_dir(world.path("root/ingest")).expect("ingest").next();
    let name = ingest.expect("a snapshot").expect("a name").file_name().into_string().expect("text");
    assert_eq!(processes("fuse-overlayfs", &name).len(), 1, "it is served");
    child.kill().expect("a signal");
    child.wait().expect("the end");
    while !processes("fuse-overlayfs", &name).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    world.lbuild(&["images"]).success();
}

/// A store on a file system on which overlays cannot lie: on another one.
#[test]
fn where_nothing_can_be_stacked_it_is_copied() {
    let world = World::new();
    files(&world);
    for name in ["lower", "upper", "work", "on"] {
        fs::create_dir(world.path(name)).expect("a folder");
    }
    let path = |name: &str| world.path(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    peers::run(
        Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(world.path("on")),
    );
    let root = world.path("on/root");
    let at_root = |build: &[&str]| Output::of(world.command().env("LBUILD_ROOT", &root).args(build));
    let image = world.build(&dockerfile(busybox())).env("SOURCE_DATE_EPOCH", EPOCH).image();
    let copied = world.build(&dockerfile(busybox())).env("SOURCE_DATE_EPOCH", EPOCH);
    let copied = copied.arg("--root").arg(&root).image();
    assert_eq!(copied.digest, image.digest);
    assert!(fs::read_dir(root.join("trees")).expect("trees").count() > 0);
    let shown = at_root(&["version", "--format=json"]).success().stdout;
    assert!(shown.contains("\"Snapshotter\": \"copy\""), "{shown}");
    let shown = world.lbuild(&["version", "--format=json"]).success().stdout;
    assert!(shown.contains("\"Snapshotter\": \"overlay\""), "{shown}");
    // What is asked for is not replaced.
    let dockerfile = format!("FROM {}\nRUN true\n", busybox());
    let refused = world.build(&dockerfile).args(&["--snapshotter=overlay", "--root"]).arg(&root).output();
    assert_ne!(refused.code, 0);
    unmount(&world.path("on"));
}

fn unmount(at: &Path) {
    peers::run(Command::new("umount").arg(at));
}

#[test]
fn what_is_no_driver_is_refused() {
    let world = World::new();
    let expected = "expected `auto`, `overlay`, `fuse-overlayfs` or `copy`";
    world.lbuild(&["--snapshotter=zfs", "images"]).failure(2).says(expected);
    let output = Output::of(world.command().env("LBUILD_SNAPSHOTTER", "zfs").arg("images"));
    output.failure(2).says(expected).says("$LBUILD_SNAPSHOTTER");
    let dockerfile = format!("FROM {}\nRUN true\n", busybox());
    let output =
        world.build(&dockerfile).arg("--snapshotter=fuse-overlayfs").env("PATH", "/nowhere").output();
    output.says("`fuse-overlayfs` is not available").says("hint: install the package `fuse-overlayfs`");
}
