//! `prune`, `du` and the limit of the cache: what goes, what stays, what is told of it, and that builds go on
//! meanwhile.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::base::busybox;
use crate::disk::Disk;
use crate::harness::{Output, World};

/// A step that takes three megabytes and says by its text which it is.
fn step(name: &str) -> String {
    format!("RUN head -c 3000000 /dev/urandom > /{name}")
}

fn dockerfile(steps: &[&str]) -> String {
    let steps: Vec<String> = steps.iter().map(|name| step(name)).collect();
    format!("FROM {}\n{}\n", busybox(), steps.join("\n"))
}

/// What `du` lists, by what it describes.
fn listed(world: &World) -> Vec<Value> {
    let text = world.lbuild(&["du", "--format=json"]).success().stdout;
    serde_json::from_str(&text).expect("du prints JSON")
}

fn size(row: &Value) -> u64 {
    row["Size"].as_u64().expect("a size")
}

fn has(world: &World, step: &str) -> bool {
    listed(world).iter().any(|row| row["Description"].as_str().is_some_and(|text| text.contains(step)))
}

/// Lets the records of steps look as if they had last been used so long ago.
fn age(world: &World, step: &str, age: Duration) {
    let then = SystemTime::now() - age;
    for entry in fs::read_dir(world.path("root/cache")).expect("the cache") {
        let path = entry.expect("an entry").path();
        if fs::read_to_string(&path).expect("a record").contains(step) {
            File::open(&path).and_then(|file| file.set_modified(then)).expect("a time");
        }
    }
    // What a record does not say is said by the time at which the snapshot was made.
    for entry in fs::read_dir(world.path("root/snapshots")).expect("the snapshots") {
        let path = entry.expect("an entry").path();
        if path.join("fs").join(step).exists() && !path.is_symlink() {
            File::open(path.join("meta.json")).and_then(|file| file.set_modified(then)).expect("a time");
        }
    }
}

fn bytes_on_disk(path: &Path) -> u64 {
    let metadata = path.symlink_metadata().expect("an entry");
    let below = if metadata.is_dir() {
        fs::read_dir(path)
            .expect("a folder")
            .map(|entry| bytes_on_disk(&entry.expect("an entry").path()))
            .sum()
    } else {
        0
    };
    metadata.blocks() * 512 + below
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn what_no_image_consists_of_goes_and_images_stay_whole() {
    let world = World::new();
    world.build(&dockerfile(&["kept"])).args(&["-t", "kept"]).success();
    world.build(&dockerfile(&["old"])).args(&["-t", "moved"]).success();
    world.build(&dockerfile(&["new"])).args(&["-t", "moved"]).success();
    assert!(world.lbuild(&["images"]).stdout.contains("<none>"), "an image without a name");
    assert!(has(&world, "/old") && has(&world, "/kept"));

    let preview = world.lbuild(&["prune", "--dry-run"]).success().stdout;
    assert!(preview.contains("/old") && !preview.contains("/kept"), "{preview}");
    assert!(has(&world, "/old"), "nothing has gone yet");
    let said = world.lbuild(&["prune", "-f"]).success().stdout;
    assert!(
        said.contains("Total reclaimed space: 6."),
        "a snapshot and its tar of three megabytes each: {said}"
    );
    assert!(!has(&world, "/old") && !world.lbuild(&["images"]).stdout.contains("<none>"));
    assert!(world.lbuild(&["prune"]).success().stdout.ends_with("Total reclaimed space: 0B\n"));
    let again = world.build(&dockerfile(&["kept"])).args(&["-t", "kept"]).success();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);

    // Without its steps an image is still all there.
    let before = world.lbuild(&["inspect", "kept"]).success().stdout;
    world.lbuild(&["prune", "--all"]).success();
    assert_eq!(world.lbuild(&["inspect", "kept"]).success().stdout, before);
    assert_eq!(fs::read_dir(world.path("root/snapshots")).expect("the snapshots").count(), 0);
    world.lbuild(&["run", "--rm", "kept", "test", "-s", "/kept"]).success();
    let third = world.build(&dockerfile(&["kept"])).success();
    assert!(!third.stderr.contains("CACHED"), "{}", third.stderr);
    world.lbuild(&["fsck", "--deep"]).success();
}

#[test]
fn the_least_recently_used_goes_first() {
    let world = World::new();
    for name in ["first", "second", "third"] {
        world.build(&dockerfile(&[name])).args(&["-t", "x"]).success();
        world.lbuild(&["rmi", "x"]).success();
        world
            .build(&format!("FROM {}\n{}\nFROM scratch\nCOPY --from=0 /{name} /\n", busybox(), step(name)))
            .args(&["-t", "x"])
            .success();
    }
    // Stages that no image consists of.
    assert!(["first", "second", "third"].iter().all(|name| has(&world, name)));
    age(&world, "first", DAY * 3);
    age(&world, "second", DAY * 2);
    world.lbuild(&["prune", "--filter", "until=60h"]).success();
    assert_eq!(["first", "second", "third"].map(|name| has(&world, name)), [false, true, true]);
    world.lbuild(&["prune", "--keep-storage=100m"]).success();
    assert!(has(&world, "second"), "there is enough room");
    // A hit is a use.
    world.build(&dockerfile(&["second"])).success();
    age(&world, "third", DAY);
    let cache = listed(&world).iter().filter(|row| row["InImage"] == false).map(size).sum::<u64>();
    world.lbuild(&["prune", "--max-used-space", &(cache - 1).to_string()]).success();
    assert_eq!(["second", "third"].map(|name| has(&world, name)), [true, false]);
    for (filter, error) in [("until=x", "is no time"), ("type=y", "unknown type"), ("z=1", "unknown filter")]
    {
        world.lbuild(&["prune", "--filter", filter]).failure(2).says(error);
    }
}

#[test]
fn looking_is_no_use() {
    let world = World::new();
    let text = format!("{}FROM scratch\nCOPY --from=0 /old /\n", dockerfile(&["old"]));
    world.build(&text).args(&["-t", "x"]).success();
    age(&world, "old", DAY * 3);
    // The first look measures, and remembers what it found.
    world.lbuild(&["du"]).success();
    let said = world.lbuild(&["prune", "--filter", "until=48h"]).success().stdout;
    assert!(said.contains("> /old"), "{said}");
    assert!(!has(&world, "> /old"));
}

#[test]
fn sizes_are_those_of_the_disk() {
    let world = World::new();
    world.build(&dockerfile(&["a", "b"])).args(&["-t", "one"]).success();
    // Shares all layers with the other, and nothing is counted twice.
    world.build(&format!("{}LABEL x=y\n", dockerfile(&["a", "b"]))).args(&["-t", "two"]).success();
    let table = world.lbuild(&["du"]).success().stdout;
    assert!(table.contains("RUN head -c 3000000 /dev/urandom > /a"), "{table}");
    for row in listed(&world) {
        // As short as Docker's, and short ones are given to `--filter id=`.
        let id = row["ID"].as_str().expect("an id").get(..12).expect("12 digits");
        assert!(table.contains(&format!("\n{id}   ")), "{id}: {table}");
    }
    let sum: u64 = listed(&world).iter().map(size).sum();
    let root = world.path("root");
    let real = bytes_on_disk(&root.join("blobs")) + bytes_on_disk(&root.join("snapshots"));
    // Beside it are documents, the folders themselves and what remembers sizes: some blocks each.
    assert!(sum <= real && real - sum < 200_000, "{sum} of {real}");
    let verbose = world.lbuild(&["du", "--verbose", "--filter", "type=regular"]).success().stdout;
    assert!(verbose.contains("In image:     true\n"), "{verbose}");
    let nothing = world.lbuild(&["du", "--root", "none"]).success().stdout;
    assert!(nothing.ends_with("Total:       0B\n") && !world.path("none").exists(), "{nothing}");
}

#[test]
fn a_prune_neither_disturbs_a_build_nor_waits_for_it() {
    let world = World::new();
    let pipe = world.path("context/pipe");
    fs::create_dir_all(&pipe).expect("a folder");
    let text = format!(
        "FROM {}\n{}\nRUN --mount=type=cache,target=/c touch /c/ready; until test -e /c/go; do sleep 0.01; done\n\
         RUN cp /early /late\n",
        busybox(),
        step("early")
    );
    fs::write(world.path("Dockerfile"), text).expect("a Dockerfile");
    let mut command = world.command();
    command.args(["build", "--progress=plain", "-t", "made", "-f", "Dockerfile", "context"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("lbuild");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("a line").contains("touch /c/ready")));
    // It stands in the middle of its second step.
    for args in [&["prune"][..], &["prune", "--all"], &["cache", "prune", "--all"], &["rmi", "-f", "none"]] {
        world.lbuild(args).success();
    }
    let in_use = listed(&world).iter().filter(|row| row["InUse"] == true).count();
    assert!(in_use >= 2, "the base and the first step");
    let mounts = fs::read_dir(world.path("root/mounts")).expect("the directories of cache mounts");
    let mount = mounts.map(|entry| entry.expect("an entry").path()).next().expect("one that is in use");
    fs::write(mount.join("data/go"), "").expect("the signal");
    lines.for_each(drop);
    assert!(child.wait().expect("its end").success());
    world.lbuild(&["run", "--rm", "made", "cmp", "/early", "/late"]).success();
    world.lbuild(&["fsck", "--deep"]).success();
}

#[test]
fn a_build_keeps_the_cache_within_its_limit() {
    let world = World::new();
    for name in ["one", "two", "three"] {
        let text = format!("FROM {}\n{}\nFROM scratch\nCOPY --from=0 /{name} /\n", busybox(), step(name));
        world.build(&text).args(&["-t", "x"]).env("LBUILD_KEEP_STORAGE", "12m").success();
        age(&world, name, DAY * 2);
    }
    // What is over the limit goes with the end of a build that no longer uses it.
    world.build(&dockerfile(&["four"])).args(&["-t", "y"]).env("LBUILD_KEEP_STORAGE", "9m").success();
    assert!(!has(&world, "/one") && has(&world, "/four"));
    let failed: Output = world.build(&dockerfile(&["four"])).env("LBUILD_KEEP_STORAGE", "much").output();
    failed.failure(2).says("`$LBUILD_KEEP_STORAGE` is no size");
}

#[test]
fn a_build_a_day_keeps_the_cache_within_the_usual_limit() {
    let world = World::new();
    let disk = Disk::memory(&world, 40);
    // More than 80 % of the disk.
    let fill = "RUN --mount=type=cache,id=big,target=/c head -c 34m /dev/zero > /c/file";
    world.build(&format!("FROM {}\n{fill}\n", busybox())).success();
    let build = |keep: &str| {
        let text = format!("FROM {}\nRUN true\n", busybox());
        world.build(&text).env("LBUILD_KEEP_STORAGE", keep).success();
        world.lbuild(&["cache", "ls"]).success().stdout.contains("\nbig ")
    };
    assert!(build(""), "a new store is not looked through");
    let stamp = disk.place.join("pruned");
    File::open(&stamp).and_then(|file| file.set_modified(SystemTime::now() - DAY * 2)).expect("a time");
    assert_eq!(["unlimited", "40m", ""].map(build), [true, true, false]);
    let last = stamp.metadata().and_then(|found| found.modified()).expect("a time");
    assert!(last.elapsed().expect("no time to come") < DAY, "tomorrow again");
}
