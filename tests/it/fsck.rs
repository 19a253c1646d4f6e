//! `fsck`, and damage that is found on the way: named, put aside, and made good by the next pull or build.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::base::busybox;
use crate::harness::World;

/// The stored layers of an image, the lowest first.
fn layers(world: &World, image: &str) -> Vec<PathBuf> {
    let read = |path: &PathBuf| -> Value {
        serde_json::from_slice(&fs::read(path).expect("a document")).expect("JSON")
    };
    let blob = |digest: &Value| {
        let hex = digest.as_str().expect("a digest").trim_start_matches("sha256:");
        world.path("root/blobs/sha256").join(hex)
    };
    let index = read(&world.path("root/index.json"));
    let mut entries = index["manifests"].as_array().expect("a list").iter();
    let named = |entry: &&Value| {
        let name = entry["annotations"]["io.containerd.image.name"].as_str().unwrap_or_default();
        name == image || name.ends_with(&format!("/{image}:latest"))
    };
    let manifest = read(&blob(&entries.find(named).expect("the image")["digest"]));
    let layers = manifest["layers"].as_array().expect("layers").iter();
    layers.map(|layer| blob(&layer["digest"])).collect()
}

/// Changes a byte in the middle of a file, and not its length.
fn damage(path: &PathBuf) {
    let mut bytes = fs::read(path).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::set_permissions(path, PermissionsExt::from_mode(0o644)).expect("a mode");
    fs::write(path, bytes).expect("a damaged blob");
}

#[test]
fn a_damaged_blob_is_named_and_pulled_again() {
    let world = World::new();
    world.lbuild(&["pull", busybox()]).success();
    world.lbuild(&["fsck", "--deep"]).success();
    let layer = layers(&world, busybox()).remove(0);
    damage(&layer);
    let name = layer.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    let report = world.lbuild(&["fsck", "--deep", "--format=json"]).failure(1).stdout;
    let report: Value = serde_json::from_str(&report).expect("fsck prints JSON");
    assert_eq!(report[0]["Path"], format!("blobs/sha256/{name}"));
    assert_eq!((&report[0]["Severity"], &report[0]["Repaired"]), (&"damage".into(), &false.into()));
    assert!(layer.exists(), "nothing is done unless it is asked for");

    world.lbuild(&["run", "--rm", busybox(), "true"]).failure(125).says(&name);
    assert!(!layer.exists(), "whoever finds it puts it aside");
    world.lbuild(&["fsck"]).failure(1);
    world.lbuild(&["pull", busybox()]).success();
    world.lbuild(&["run", "--rm", busybox(), "true"]).success();
    world.lbuild(&["fsck", "--deep"]).success();

    // A registry would refuse it too, but for another reason.
    let copy = format!("{}/damaged:1", crate::registry::open());
    world.lbuild(&["tag", busybox(), &copy]).success();
    let own = format!("FROM {}\nRUN echo own > /own\n", busybox());
    world.build(&own).args(&["-t", &copy]).success();
    world.lbuild(&["push", &copy]).success();
    let packed = layers(&world, &copy).pop().expect("the layer as it was pushed");
    damage(&packed);
    let other = format!("{}/damaged-too:1", crate::registry::open());
    world.lbuild(&["tag", &copy, &other]).success();
    let name_of = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    world.lbuild(&["push", &other]).failure(3).says(&name_of(&packed));
    world.build(&own).args(&["-t", &other, "--push"]).success();

    damage(&layer);
    let repaired = world.lbuild(&["fsck", "--deep", "--repair"]).success().stdout;
    assert!(repaired.contains(&name) && repaired.contains("(put away)"), "{repaired}");
    assert!(fs::read_dir(world.path("root/quarantine")).expect("the quarantine").count() >= 2);
    world.lbuild(&["pull", busybox()]).success();
    world.lbuild(&["fsck", "--deep"]).success();
}

#[test]
fn the_next_build_makes_good_what_was_damaged() {
    let world = World::new();
    let text = format!("FROM {}\nRUN echo text > /f\n", busybox());
    let first = world.build(&text).args(&["-t", "x"]).image();
    let own = layers(&world, "x").pop().expect("the build's own layer");
    // A whole block is missing: no need to read it to see that.
    fs::set_permissions(&own, PermissionsExt::from_mode(0o644)).expect("a mode");
    fs::write(&own, "short").expect("a damaged blob");
    world.lbuild(&["fsck"]).failure(1);
    world.lbuild(&["fsck", "--repair"]).success();
    assert_eq!(world.build(&text).args(&["-t", "x"]).image().image, first.image);
    world.lbuild(&["fsck", "--deep"]).success();

    // A file that changed behind everybody's back.
    let made = fs::read_dir(world.path("root/snapshots"))
        .expect("snapshots")
        .map(|entry| entry.expect("one").path());
    let made =
        made.filter(|path| !path.is_symlink()).find(|path| path.join("fs/f").exists()).expect("the step's");
    fs::write(made.join("fs/f"), "evil\n").expect("a change");
    world.lbuild(&["fsck"]).success();
    let report = world.lbuild(&["fsck", "--deep"]).failure(1).stdout;
    assert!(report.contains("expected the layer"), "{report}");
    world.lbuild(&["fsck", "--deep", "--repair"]).success();
    world.build(&text).args(&["-t", "x"]).success();
    assert_eq!(world.lbuild(&["run", "--rm", "x", "cat", "/f"]).success().stdout, "text\n");

    // A snapshot that lost its own words is no snapshot.
    let snapshots = world.path("root/snapshots");
    let real = |path: &PathBuf| !path.is_symlink();
    let all: Vec<PathBuf> = fs::read_dir(&snapshots)
        .expect("snapshots")
        .map(|entry| entry.expect("one").path())
        .filter(real)
        .collect();
    for path in &all {
        fs::write(path.join("meta.json"), "{").expect("damage");
    }
    world.lbuild(&["fsck"]).failure(1);
    world.lbuild(&["fsck", "--repair"]).success();
    let again = world.build(&text).args(&["-t", "x"]).success();
    assert!(!again.stderr.contains("CACHED"), "{}", again.stderr);
    world.lbuild(&["run", "--rm", "x", "cat", "/f"]).success();
    world.lbuild(&["fsck", "--deep"]).success();
}

#[test]
fn a_damaged_image_blocks_no_other() {
    let world = World::new();
    world.build(&format!("FROM {}\nRUN echo a\n", busybox())).args(&["-t", "good"]).success();
    world.file("f", "f");
    world.build("FROM scratch\nCOPY f /\n").args(&["-t", "bad"]).success();
    let layer = layers(&world, "bad").remove(0);
    fs::remove_file(&layer).expect("a loss");
    let report = world.lbuild(&["fsck"]).failure(1);
    assert!(report.stdout.contains("part of `bad:latest`, and not in the store"), "{}", report.stdout);
    assert!(report.stdout.contains("hint: "), "{}", report.stdout);
    world.lbuild(&["run", "--rm", "good", "true"]).success();
    assert!(world.lbuild(&["images"]).success().stdout.contains("bad"));
    world.lbuild(&["rmi", "bad"]).success();
    world.lbuild(&["fsck"]).success();
}

#[test]
fn after_a_power_cut_only_what_was_synced_is_trusted() {
    let world = World::new();
    let text = |seconds: u32| format!("FROM {}\nRUN sleep {seconds}; echo {seconds} > /f\n", busybox());
    let boot_anew = || {
        let state = "{\"format\":1,\"boot\":\"another\"}";
        fs::write(world.path("root/state.json"), state).expect("the state");
    };
    // The same bytes whenever they are made.
    let build = |seconds, name| {
        world.build(&text(seconds)).args(&["-t", name, "--source-date-epoch=1"]).success().stderr
    };
    build(1, "long");
    // What is older than a minute is synced beside the next build that has something to do.
    for folder in ["root/blobs/sha256", "root/snapshots"] {
        for entry in fs::read_dir(world.path(folder)).expect("a folder") {
            let made = fs::File::open(entry.expect("an entry").path()).expect("something that was made");
            made.set_modified(SystemTime::now() - Duration::from_secs(120)).expect("a time");
        }
    }
    build(0, "short");
    // Of a layer that never came to the disk there may be a file of zeros.
    let layer = layers(&world, "short").pop().expect("its layer");
    let length = layer.metadata().expect("a blob").len();
    fs::write(&layer, vec![0; usize::try_from(length).expect("small")]).expect("zeros");
    boot_anew();
    let (long, short) = (build(1, "long"), build(0, "short"));
    assert!(long.contains("CACHED") && !short.contains("CACHED"), "{long}{short}");
    for (name, expected) in [("long", "1\n"), ("short", "0\n")] {
        assert_eq!(world.lbuild(&["run", "--rm", name, "cat", "/f"]).success().stdout, expected);
    }
    world.lbuild(&["fsck", "--deep"]).success();
}

#[test]
fn a_store_stays_one_when_its_layout_is_repaired() {
    let world = World::new();
    let text = format!("FROM {}\nRUN echo text > /f\n", busybox());
    world.build(&text).args(&["-t", "x"]).success();
    // A folder that not every store has.
    world.lbuild(&["history", "--sizes", "x"]).success();
    fs::write(world.path("root/oci-layout"), "garbage").expect("damage");
    world.lbuild(&["fsck"]).failure(1);
    let report = world.lbuild(&["fsck", "--repair"]).success().stdout;
    assert!(report.contains("`oci-layout`: does not say"), "{report}");
    let again = world.build(&text).args(&["-t", "x"]).success();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);

    // Without its list the store has no images, and is still one.
    fs::write(world.path("root/index.json"), "garbage").expect("damage");
    let report = world.lbuild(&["fsck", "--repair"]).success().stdout;
    assert!(report.contains("`index.json`: is no list of images"), "{report}");
    world.build(&text).args(&["-t", "x"]).success();
    world.lbuild(&["fsck", "--deep"]).success();
}

/// The snapshot whose own files have this one.
fn snapshot_with(world: &World, file: &str) -> PathBuf {
    let all = fs::read_dir(world.path("root/snapshots")).expect("snapshots");
    let all = all.map(|entry| entry.expect("one").path()).filter(|path| !path.is_symlink());
    all.into_iter().find(|path| path.join("fs").join(file).exists()).expect("the snapshot")
}

#[test]
fn what_layers_were_unpacked_to_is_held_against_them() {
    let world = World::new();
    world.lbuild(&["pull", busybox()]).success();
    let text = format!("FROM {}\nRUN echo text > /f\n", busybox());
    world.build(&text).args(&["-t", "x"]).env("SOURCE_DATE_EPOCH", "86400").success();
    world.lbuild(&["fsck", "--deep"]).success();

    let base = snapshot_with(&world, "bin/busybox");
    fs::set_permissions(base.join("fs/bin"), PermissionsExt::from_mode(0o777)).expect("a mode");
    world.lbuild(&["fsck"]).success();
    let report = world.lbuild(&["fsck", "--deep"]).failure(1).stdout;
    let name = base.file_name().expect("a name").to_str().expect("UTF-8");
    assert!(name.starts_with("chain-"), "{name}");
    let problem = format!("damage: `snapshots/{name}`: `/bin` is not as in its layer: mode\n");
    assert!(report.contains(&problem), "{report}");
    let report = world.lbuild(&["fsck", "--deep", "--repair"]).success().stdout;
    assert!(report.contains("is not here (put away)"), "what stood on it goes too: {report}");
    let again = world.build(&text).args(&["-t", "x"]).env("SOURCE_DATE_EPOCH", "86400").success();
    assert!(!again.stderr.contains("CACHED"), "{}", again.stderr);
    let mode = world.lbuild(&["run", "--rm", "x", "stat", "-c", "%a", "/bin"]).success().stdout;
    assert_eq!(mode, "755\n");
    world.lbuild(&["fsck", "--deep"]).success();

    // A step's own, though it was packed for an epoch only.
    fs::write(snapshot_with(&world, "f").join("fs/f"), "evil\n").expect("a change");
    world.lbuild(&["fsck", "--deep"]).failure(1);
}
