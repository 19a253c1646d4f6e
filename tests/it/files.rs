//! The verbs that look into images and make others of them without building: ls, cat, diff, history --sizes, squash,
//! rebase. What they say is held against the same images as umoci unpacks them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::base::{busybox, busybox_of_two};
use crate::harness::{Rootfs, World};
use crate::layout::Image;
use crate::peers::{self, Containers};

/// The image that `name` stands for in the world's store, as skopeo copies it out of there.
fn image(world: &World, name: &str) -> Image {
    let folder = world.path(&format!("copy-{}", name.replace(['/', ':'], "-")));
    std::fs::create_dir_all(&folder).expect("a folder");
    peers::skopeo_copy(
        &format!("oci:{}:{name}", world.path("root").display()),
        &format!("oci:{}:it", folder.display()),
    );
    Image::open(&folder)
}

fn rootfs(world: &World, name: &str) -> Rootfs {
    world.unpack(&image(world, name))
}

const STEPS: &str = "RUN mkdir -p /d/e && echo text > /d/f && chmod 4755 /d/f && ln -s /d/f /d/l && ln /d/f /d/e/g \
    && mkfifo /d/p && chown 7:8 /d/e\n\
    RUN rm /etc/group && echo more >> /etc/passwd && chmod 600 /d/f\n";

#[test]
fn ls_shows_what_is_there() {
    let world = World::new();
    let built = world.build(&format!("FROM {}\n{STEPS}", busybox())).args(&["-t", "it/f:1"]).rootfs();
    let listed = world.json(&["ls", "-R", "--format=json", "it/f:1"]);
    let lines: BTreeMap<String, String> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default();
            let owner = format!("{}:{}", row["Uid"], row["Gid"]);
            let line = match text("Type") {
                "directory" => format!("dir {} {owner}", text("Mode")),
                "link" => format!("link {owner} -> {}", text("Target")),
                "pipe" => format!("fifo {} {owner}", text("Mode")),
                _ => {
                    format!("file {} {owner} {}", text("Mode"), text("Digest").trim_start_matches("sha256:"))
                }
            };
            (text("Path").to_owned(), line)
        })
        .collect();
    let paths: Vec<&str> = built.tree.paths().filter(|path| *path != "/").collect();
    assert!(paths.len() > 100 && paths == lines.keys().map(String::as_str).collect::<Vec<_>>());
    for (path, line) in &lines {
        assert!(built.get(path).starts_with(line.as_str()), "{path}: {line} but {}", built.get(path));
    }
    let ls = |args: &[&str]| world.lbuild(&[&["ls"], args].concat()).success().stdout;
    assert_eq!(ls(&["it/f:1", "/d"]), "e\nf\nl\np\n");
    assert_eq!(ls(&["it/f:1", "d/l"]), "/d/l\n");
    assert_eq!(ls(&["it/f:1", "d/e/../e"]), "g\n");
    assert_eq!(ls(&["-d", "it/f:1", "/d"]), "/d\n");
    assert_eq!(ls(&["-R", "it/f:1", "/d"]), "/d:\ne\nf\nl\np\n\n/d/e:\ng\n");
    let long = ls(&["-l", "it/f:1", "/d"]);
    let rows: Vec<Vec<&str>> = long.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..5], ["-rw-------", "1", "0", "0", "5"], "{long}");
    assert_eq!((rows[0][0], rows[0][2], rows[0][3]), ("drwxr-xr-x", "7", "8"), "{long}");
    assert!(long.lines().nth(2).is_some_and(|line| line.ends_with(" l -> /d/f")), "{long}");
    // The base of a build is on no list.
    assert_eq!(ls(&[busybox(), "/etc"]), "group\npasswd\n");
    world.lbuild(&["ls", "it/f:1", "/etc/group"]).failure(1).says("no `/etc/group` in `it/f:1`");
    world.lbuild(&["ls", "it/none:1"]).failure(1).says("no image `it/none:1`");
}

#[test]
fn cat_prints_what_is_in_files() {
    let world = World::new();
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    world.file("bytes", &bytes);
    world.build(&format!("FROM {}\n{STEPS}COPY bytes /bytes\n", busybox())).args(&["-t", "it/c:1"]).success();
    let cat = |path: &str| world.command().args(["cat", "it/c:1", path]).output().expect("a run");
    assert_eq!(cat("/bytes").stdout, bytes);
    assert_eq!(cat("/d/l").stdout, b"text\n");
    assert!(String::from_utf8_lossy(&cat("etc/passwd").stdout).ends_with("more\n"));
    world.lbuild(&["cat", "it/c:1", "/d"]).failure(1).says("`/d` is not a file: found a directory");
    world.lbuild(&["cat", "it/c:1", "/gone"]).failure(1).says("no `/gone` in `it/c:1`");
    let both = world.lbuild(&["cat", "it/c:1", "/d/f", "/d/e/g"]).success();
    assert_eq!(both.stdout, "text\ntext\n");
}

#[test]
fn diff_tells_images_apart() {
    let world = World::new();
    let dockerfile = format!("FROM {}\n{STEPS}", busybox());
    world.build(&format!("FROM {}\nLABEL a=b", busybox())).args(&["-t", "it/base:1"]).success();
    world.build(&dockerfile).args(&["-t", "it/d:1"]).success();
    let changes = world.json(&["diff", "it/base:1", "it/d:1", "--format=json"]);
    let find = |path: &str| {
        let rows = changes["Changes"].as_array().expect("changes");
        rows.iter().find(|row| row["Path"] == path).cloned().unwrap_or_default()
    };
    assert_eq!(find("/d/f")["Kind"], "added");
    assert_eq!(find("/etc/group")["Kind"], "deleted");
    assert_eq!(find("/etc/passwd")["What"], serde_json::json!(["size"]));
    assert_eq!(changes["Total"]["Added"], 6, "{changes}");
    assert_eq!((&changes["Total"]["Changed"], &changes["Total"]["Deleted"]), (&1.into(), &1.into()));
    let second = changes["Layers"].as_array().expect("layers").iter().find(|sum| sum["Layer"] == 3);
    assert_eq!(second.map(|sum| (&sum["Changed"], &sum["Deleted"])), Some((&1.into(), &1.into())));
    // Against the base that the store knows, and between two heights.
    let own = world.json(&["diff", "it/d:1", "--format=json"]);
    assert_eq!(own["Changes"], changes["Changes"]);
    let top = world.lbuild(&["diff", "it/d:1", "--layers", "3"]).success().stdout;
    let lines: Vec<&str> = top.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 3, "{top}");
    assert_eq!(lines[0], "C /d/f (mode 4755 -> 0600)");
    assert!(
        lines[1].starts_with("D /etc/group (file, ") && lines[2].starts_with("C /etc/passwd (size "),
        "{top}"
    );
    let is_same = world.lbuild(&["diff", "--exit-code", "it/d:1", "it/d:1"]).success();
    assert_eq!(is_same.stdout, "");
    world.lbuild(&["diff", "--exit-code", "it/base:1", "it/d:1"]).failure(1);
    world.lbuild(&["diff", "it/d:1", "--layers", "9"]).failure(2).says("`it/d:1` has 3 layers");
}

#[test]
fn podman_sees_the_same_differences() {
    let world = World::new();
    world
        .build(&format!("FROM {}\nRUN mkdir -p /gone/deep && echo 1 > /gone/deep/f\n", busybox()))
        .args(&["-t", "it/p:1"])
        .success();
    world
        .build(&format!(
            "FROM it/p:1\n{STEPS}RUN rm -r /gone && chmod 700 /home && rm /bin/vi && mkdir /bin/vi\n"
        ))
        .args(&["-t", "it/p:2"])
        .success();
    image(&world, "it/p:1");
    image(&world, "it/p:2");
    let [old, new] = ["copy-it-p-1", "copy-it-p-2"].map(|folder| world.path(folder));
    let theirs = Containers::vfs(&world.path("containers")).image_diff(&old, &new);
    let ours = world.json(&["diff", "--format=json", "it/p:1", "it/p:2"]);
    let paths = |kind: &str| -> BTreeSet<&str> {
        let rows = ours["Changes"].as_array().expect("changes").iter();
        rows.filter(|row| row["Kind"] == kind).map(|row| row["Path"].as_str().expect("a path")).collect()
    };
    let listed = |kind| -> BTreeSet<&str> {
        theirs[kind].as_array().into_iter().flatten().map(|path| path.as_str().expect("a path")).collect()
    };
    assert_eq!(paths("added"), listed("added"));
    // Podman counts a directory in which something changed.
    let all: BTreeSet<&str> = ["added", "changed", "deleted"].into_iter().flat_map(listed).collect();
    let is_above = |path: &&str| all.iter().any(|below| below.starts_with(&format!("{path}/")));
    let changed: BTreeSet<&str> = listed("changed").into_iter().filter(|path| !is_above(path)).collect();
    assert_eq!(paths("changed"), changed);
    // Podman names what is gone by its top alone.
    let deleted = paths("deleted");
    let is_top = |path: &&str| !deleted.iter().any(|above| path.starts_with(&format!("{above}/")));
    assert_eq!(deleted.iter().copied().filter(is_top).collect::<BTreeSet<_>>(), listed("deleted"));
}

#[test]
fn history_tells_what_is_wasted() {
    let world = World::new();
    world.file("a", [b'a'; 5000]).file("b", [b'b'; 700]);
    world
        .build("FROM scratch\nCOPY a /x\nCOPY b /y\nCOPY b /x\nCMD [\"x\"]\n")
        .args(&["-t", "it/h:1"])
        .success();
    let rows = world.json(&["history", "--sizes", "--format=json", "it/h:1"]);
    let rows = rows.as_array().expect("rows");
    let numbers = |row: &Value| {
        ["Files", "ContentSize", "HidesSize", "WastedSize"].map(|name| row[name].as_u64().expect("a number"))
    };
    let found: Vec<[u64; 4]> = rows.iter().map(numbers).collect();
    assert_eq!(found, [[0; 4], [1, 700, 5000, 0], [1, 700, 0, 0], [1, 5000, 0, 5000]]);
    let table = world.lbuild(&["history", "--sizes", "it/h:1"]).success().stdout;
    assert!(table.ends_with("\n5.00kB of 6.40kB are wasted (78.1%)\n"), "{table}");
}

#[test]
fn squash_makes_one_layer_and_keeps_the_base() {
    let world = World::new();
    world.build(&format!("FROM {}\nRUN echo base > /base\n", busybox())).args(&["-t", "it/base:1"]).success();
    world.build(&format!("FROM it/base:1\n{STEPS}ENV A=b\n")).args(&["-t", "it/s:1"]).success();
    let before = rootfs(&world, "it/s:1");
    let (old, base) = (image(&world, "it/s:1"), image(&world, "it/base:1"));
    world.lbuild(&["squash", "it/s:1", "--from", "it/base:1", "-t", "it/s:2"]).success();
    let new = image(&world, "it/s:2");
    assert_eq!(new.diff_ids().len(), 3);
    assert_eq!(new.diff_ids()[..2], base.diff_ids()[..]);
    rootfs(&world, "it/s:2").tree.assert_same(&before.tree, "squashed", "as it was");
    assert_eq!(new.config(), old.config());
    let lines = new.history();
    assert_eq!(lines[..lines.len() - 1], old.history()[..]);
    let with_layer: Vec<&Value> = new.image["history"].as_array().expect("lines").iter().collect();
    let count = with_layer.iter().filter(|line| line["empty_layer"] != true).count();
    assert_eq!((count, lines[lines.len() - 1]), (3, "lbuild squash"));
    // Without a base all becomes one; and every time the same.
    let digest = world.lbuild(&["squash", "-q", "it/s:1", "-t", "it/s:3"]).success().stdout;
    assert_eq!(world.lbuild(&["squash", "-q", "it/s:1"]).success().stdout, digest);
    assert_eq!(image(&world, "it/s:3").diff_ids().len(), 1);
    rootfs(&world, "it/s:3").tree.assert_same(&before.tree, "squashed", "as it was");
    let output = world.lbuild(&["run", "--rm", "--network=none", "it/s:3", "cat", "/d/l", "/base"]).success();
    assert_eq!(output.stdout, "text\nbase\n");
    world
        .lbuild(&["squash", "it/base:1", "--from", "it/s:1"])
        .failure(1)
        .says("the image is not built on that base: its layer 3 is another");
}

#[test]
fn rebase_puts_the_own_layers_on_another_base() {
    let world = World::new();
    let base = |number: u32| {
        format!(
            "FROM {}\nENV OF=base{number} VERSION={number}\nLABEL base={number}\nRUN echo {number} > /base && echo {number} > /shared\n",
            busybox()
        )
    };
    world.build(&base(1)).args(&["-t", "it/base:1"]).success();
    world.build(&base(2)).args(&["-t", "it/base:2"]).success();
    world
        .build("FROM it/base:1\nENV VERSION=app\nRUN echo app > /app\nCMD [\"cat\", \"/app\"]\n")
        .args(&["-t", "it/app:1"])
        .success();
    world.lbuild(&["rebase", "it/app:1", "--onto", "it/base:2", "-t", "it/app:2"]).success();
    let (old, new, onto) = (image(&world, "it/app:1"), image(&world, "it/app:2"), image(&world, "it/base:2"));
    assert_eq!(new.diff_ids()[..2], onto.diff_ids()[..]);
    assert_eq!(new.diff_ids()[2..], old.diff_ids()[2..]);
    let env = new.config()["Env"].to_string();
    assert!(env.contains("OF=base2") && env.contains("VERSION=app") && !env.contains("base1"), "{env}");
    assert_eq!(new.config()["Labels"]["base"], "2");
    assert_eq!(new.config()["Cmd"], old.config()["Cmd"]);
    let own = ["ENV VERSION=app", "RUN /bin/sh -c echo app > /app # buildkit", "CMD [\"cat\" \"/app\"]"];
    assert_eq!(new.history(), [&onto.history()[..], &own].concat());
    let annotations = &new.manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.base.name"], "docker.io/it/base:2");
    let digest = &world.json(&["inspect", "it/base:2"])[0]["Descriptor"]["digest"];
    assert_eq!(&annotations["org.opencontainers.image.base.digest"], digest);
    let output =
        world.lbuild(&["run", "--rm", "--network=none", "it/app:2", "cat", "/app", "/base"]).success();
    assert_eq!(output.stdout, "app\n2\n");
    // By its annotations it finds its way back.
    world.lbuild(&["rebase", "it/app:2", "--onto", "it/base:1", "-t", "it/app:3"]).success();
    assert_eq!(image(&world, "it/app:3").diff_ids(), old.diff_ids());
}

#[test]
fn rebase_refuses_what_would_be_undone() {
    let world = World::new();
    world.build(&format!("FROM {}\nRUN echo 1 > /shared\n", busybox())).args(&["-t", "it/base:1"]).success();
    world.build(&format!("FROM {}\nRUN echo 2 > /shared\n", busybox())).args(&["-t", "it/base:2"]).success();
    world.build("FROM it/base:1\nRUN echo app >> /shared\n").args(&["-t", "it/app:1"]).success();
    let rebase = ["rebase", "it/app:1", "--onto", "it/base:2", "-t", "it/app:2"];
    world
        .lbuild(&rebase)
        .failure(1)
        .says("the image touches 1 file that differs between the two bases")
        .says("  /shared")
        .says("`--force`");
    assert!(!world.lbuild(&["images"]).success().stdout.contains("app   2"));
    world.lbuild(&[&rebase[..], &["--force"]].concat()).success();
    let output = world.lbuild(&["run", "--rm", "--network=none", "it/app:2", "cat", "/shared"]).success();
    assert_eq!(output.stdout, "1\napp\n");
    world
        .lbuild(&["rebase", "it/app:1", "--onto", "it/base:2", "--from", "it/base:2"])
        .failure(1)
        .says("the image is not built on that base");
}

#[test]
fn images_of_an_index_are_made_over_one_by_one() {
    let world = World::new();
    let two = ["--platform=linux/amd64,linux/arm64"];
    world.file("a", "a").file("b", "b");
    let dockerfile = |base: &str| format!("FROM {base}\nCOPY a /a\nCOPY b /b\n");
    world.build(&dockerfile(busybox_of_two())).args(&two).args(&["-t", "it/two:1"]).success();
    world
        .build(&format!("FROM {}\nLABEL new=1\nCOPY b /new\n", busybox_of_two()))
        .args(&two)
        .args(&["-t", "it/onto:1"])
        .success();
    for made in [
        &["squash", "it/two:1", "--from", busybox_of_two(), "-t", "it/two:2"][..],
        &["rebase", "it/two:1", "--from", busybox_of_two(), "--onto", "it/onto:1", "-t", "it/two:2"],
    ] {
        world.lbuild(made).success();
        let index = world.json(&["inspect", "it/two:2"]);
        let platforms: Vec<&Value> = index[0]["Manifests"]
            .as_array()
            .expect("an index")
            .iter()
            .map(|entry| &entry["platform"]["architecture"])
            .collect();
        assert_eq!(platforms, ["amd64", "arm64"], "{made:?}");
        for platform in ["linux/amd64", "linux/arm64"] {
            let ls = |path: &str| world.lbuild(&["ls", "--platform", platform, "it/two:2", path]);
            assert_eq!(ls("/a").success().stdout, "/a\n");
            assert_eq!(ls("/new").code == 0, made[0] == "rebase", "{made:?}");
            let of = ["--format=json", "--platform", platform];
            let differences = world.json(&[&["diff", "it/two:1", "it/two:2"][..], &of].concat());
            let expected = if made[0] == "rebase" { 1 } else { 0 };
            assert_eq!(differences["Total"]["Added"], expected, "{differences}");
        }
    }
}

#[test]
fn looking_needs_no_capability() {
    let world = World::new();
    world.file("f", "text");
    world.build("FROM scratch\nCOPY f /d/f\n").args(&["-t", "it/n:1"]).success();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(crate::harness::program());
        command.args(args).env("LBUILD_ROOT", world.path("root"));
        crate::harness::Output::of(&mut command).success().stdout
    };
    assert_eq!(run(&["ls", "-R", "it/n:1"]), "/:\nd\n\n/d:\nf\n");
    assert_eq!(run(&["cat", "it/n:1", "/d/f"]), "text");
    run(&["squash", "-q", "it/n:1", "-t", "it/n:2"]);
}
