//! `save`, `load`, `import` and `export`: archives that others read, theirs that are read here, and those that nobody
//! should read.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::base::{busybox, busybox_of_two};
use crate::harness::{Output, World, program};
use crate::layout::{self, Image, Layer, Tar, sha256};
use crate::peers::{self, Containers, untar};
use crate::peers_language::Dockerd;
use crate::tree::Tree;

/// An image of the world's store with a base and two layers, one of them twice the same.
fn built(world: &World, name: &str) {
    world.file("f", "x");
    let text = format!(
        "FROM {}\nRUN echo x > /x && chmod 640 /x\nCOPY f /f\nRUN true\nRUN true\nCMD [\"cat\", \"/x\"]\n",
        busybox()
    );
    world.build(&text).args(&["-t", name]).success();
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// The program with something on standard input.
fn with_input(world: &World, args: &[&str], input: &[u8]) -> Output {
    let path = world.path("stdin");
    fs::write(&path, input).expect("a file");
    Output::of(world.command().args(args).stdin(fs::File::open(path).expect("a file")))
}

#[test]
fn an_archive_is_the_same_bytes_every_time_and_comes_back_as_the_same_image() {
    let world = World::new();
    built(&world, "it/saved:1");
    world.lbuild(&["tag", "it/saved:1", "it/saved:2"]).success();
    for file in ["one.tar", "two.tar"] {
        world.lbuild(&["save", "-o", file, "it/saved:1", "it/saved:2"]).success();
    }
    let bytes = fs::read(world.path("one.tar")).unwrap();
    assert!(bytes == fs::read(world.path("two.tar")).unwrap());
    let line = format!("{} save it/saved:1 it/saved:2 > three.tar", program().display());
    peers::run(
        Command::new("sh")
            .args(["-ec", &line])
            .current_dir(world.path(""))
            .env("LBUILD_ROOT", world.path("root")),
    );
    assert!(bytes == fs::read(world.path("three.tar")).unwrap());
    let image = Image::open(&untar(&world.path("one.tar"), &world.path("unpacked")));
    let elsewhere = World::new();
    let loaded = elsewhere.lbuild(&["load", "-i", &text(&world.path("one.tar"))]).success();
    assert_eq!(loaded.stdout, "Loaded image: it/saved:1\nLoaded image: it/saved:2\n");
    let run = elsewhere.lbuild(&["run", "--rm", "--network=none", "it/saved:2"]).success();
    assert_eq!(run.stdout, "x\n");
    elsewhere.lbuild(&["save", "-o", "again.tar", "it/saved:1", "it/saved:2"]).success();
    assert!(bytes == fs::read(elsewhere.path("again.tar")).unwrap());
    // Compressed, and by standard input.
    for tool in ["gzip", "zstd", "xz", "bzip2"] {
        let packed = Command::new(tool).arg("-c").arg(world.path("one.tar")).output().expect("a compressor");
        let third = World::new();
        let loaded = with_input(&third, &["load", "-q"], &packed.stdout).success();
        assert_eq!((loaded.stdout.lines().count(), loaded.stderr.as_str()), (2, ""), "{tool}");
        let inspected: Value = third.json(&["inspect", "it/saved:1"]);
        assert_eq!(inspected[0]["Id"], image.manifest["config"]["digest"]);
    }
}

#[test]
fn docker_and_podman_read_what_is_saved_and_the_other_way_round() {
    let world = World::new();
    built(&world, "it/shared:1");
    world.lbuild(&["save", "-o", "both.tar", "it/shared:1"]).success();
    world.lbuild(&["save", "-o", "old.tar", "--format", "docker-archive", "it/shared:1"]).success();
    world.lbuild(&["save", "-o", "oci.tar", "--format", "oci-archive", "it/shared:1"]).success();
    world.lbuild(&["save", "-o", "oci", "--format", "oci-dir", "it/shared:1"]).success();
    let id = world.lbuild(&["images", "-q", "--no-trunc", "it/shared:1"]).success().line().to_owned();
    let dockerd = Dockerd::start(world.path("d"));
    for archive in ["both.tar", "old.tar"] {
        let said = dockerd.docker(&["load", "-i", &text(&world.path(archive))]);
        assert!(said.contains("it/shared:1"), "{archive}: {said}");
        assert_eq!(
            dockerd.docker(&["image", "inspect", "-f", "{{.Id}}", "it/shared:1"]).trim(),
            id,
            "{archive}"
        );
        dockerd.docker(&["save", "-o", &text(&world.path("theirs.tar")), "it/shared:1"]);
        dockerd.docker(&["rmi", "it/shared:1"]);
        let elsewhere = World::new();
        elsewhere.lbuild(&["load", "-i", &text(&world.path("theirs.tar"))]).success();
        assert_eq!(elsewhere.lbuild(&["images", "-q", "--no-trunc"]).success().line(), id);
        assert_eq!(
            elsewhere.lbuild(&["run", "--rm", "--network=none", "it/shared:1"]).success().stdout,
            "x\n"
        );
    }
    drop(dockerd);
    let podman = Containers::vfs(&world.path("podman"));
    for archive in ["both.tar", "old.tar", "oci.tar"] {
        let said = podman.podman(&["load", "-q", "-i", &text(&world.path(archive))]);
        assert!(said.contains("it/shared:1"), "{archive}: {said}");
        let name = said.trim().rsplit(' ').next().unwrap().to_owned();
        assert_eq!(
            format!("sha256:{}", podman.podman(&["image", "inspect", "-f", "{{.Id}}", &name]).trim()),
            id
        );
        for format in ["docker-archive", "oci-archive"] {
            let path = world.path(&format!("podman-{format}-{archive}"));
            podman.podman(&["save", "-q", "--format", format, "-o", &text(&path), &name]);
            let elsewhere = World::new();
            let loaded = elsewhere.lbuild(&["load", "-i", &text(&path)]).success();
            assert!(loaded.stdout.contains("it/shared:1"), "{format}: {loaded:?}");
            // To the OCI's form podman translates the configuration as well.
            if format == "docker-archive" {
                assert_eq!(elsewhere.lbuild(&["images", "-q", "--no-trunc"]).success().line(), id);
            }
            let image = elsewhere.lbuild(&["images", "-q"]).success();
            let run = elsewhere.lbuild(&["run", "--rm", "--network=none", image.line()]).success();
            assert_eq!(run.stdout, "x\n", "{format}");
        }
        podman.podman(&["rmi", "-f", &name]);
    }
    // skopeo and umoci: an archive's image and a directory's are one.
    let trees: Vec<Tree> =
        ["docker-archive:old.tar", "docker-archive:both.tar", "oci-archive:oci.tar", "oci:oci"]
            .into_iter()
            .enumerate()
            .map(|(number, from)| {
                let layout = world.path(&format!("copy-{number}"));
                let from = from.replacen(':', &format!(":{}/", world.path("").display()), 1) + ":it/shared:1";
                peers::skopeo_copy(&from, &format!("oci:{}:it", layout.display()));
                world.unpack(&Image::open(&layout)).tree
            })
            .collect();
    trees[1..].iter().for_each(|tree| tree.assert_same(&trees[0], "one archive", "the other"));
}

#[test]
fn an_index_is_saved_with_all_its_images() {
    let world = World::new();
    let name = format!("FROM {}\nLABEL a=b\n", busybox_of_two());
    world.build(&name).args(&["--platform=linux/amd64,linux/arm64", "-t", "it/two:1"]).success();
    world.lbuild(&["save", "-o", "two.tar", "it/two:1"]).success();
    let elsewhere = World::new();
    elsewhere.lbuild(&["load", "-i", &text(&world.path("two.tar"))]).success();
    let inspected: Value = elsewhere.json(&["inspect", "it/two:1"]);
    assert_eq!(inspected[0]["Manifests"].as_array().map(Vec::len), Some(2));
    world.lbuild(&["save", "-o", "one.tar", "--platform=linux/arm64", "it/two:1"]).success();
    let list = peers::run(Command::new("tar").arg("-xOf").arg(world.path("one.tar")).arg("index.json"));
    assert!(list.contains("image.manifest.v1+json"), "{list}");
    world.lbuild(&["save", "-o", "x", "--platform=linux/s390x", "it/two:1"]).failure(3).says("cannot save");
    // Docker's list has room for one of them.
    let unpacked = untar(&world.path("two.tar"), &world.path("unpacked"));
    let list: Value = serde_json::from_slice(&fs::read(unpacked.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    // A tool that left one out has said so by its absence.
    let index: Value = serde_json::from_slice(&fs::read(unpacked.join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let blob = |digest: &str| unpacked.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let document: Value = serde_json::from_slice(&fs::read(blob(&digest)).unwrap()).unwrap();
    let other = document["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["platform"]["architecture"] != layout::architecture());
    fs::remove_file(blob(other.unwrap()["digest"].as_str().unwrap())).unwrap();
    let third = World::new();
    let loaded = third.lbuild(&["load", "-i", &text(&unpacked)]).success();
    assert_eq!(loaded.line(), "Loaded image: it/two:1");
    assert_eq!(
        third.lbuild(&["run", "--rm", "--network=none", "it/two:1", "echo", "here"]).success().stdout,
        "here\n"
    );
}

/// An archive of Docker's with one layer.
fn docker_archive(layer_path: &str, config: &Value, extra: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    let layer = Tar::default().file("f", 0o644, b"x").finish();
    let config = config.to_string();
    let list = json!([{"Config": "config.json", "RepoTags": ["it/hostile:1"], "Layers": [layer_path]}]);
    let tar = Tar::default()
        .file("config.json", 0o644, config.as_bytes())
        .file("layer.tar", 0o644, &layer)
        .file("manifest.json", 0o644, list.to_string().as_bytes());
    extra(tar).finish()
}

fn config() -> Value {
    let layer = Tar::default().file("f", 0o644, b"x").finish();
    let diff_ids = json!([format!("sha256:{}", sha256(&layer))]);
    json!({"architecture": layout::architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

#[test]
fn links_in_an_archive_lead_nowhere_but_to_its_files() {
    let world = World::new();
    let good = |name: &str, tar: Vec<u8>| {
        let loaded = with_input(&world, &["load"], &tar).success();
        assert_eq!(loaded.stdout, "Loaded image: it/hostile:1\n", "{name}");
    };
    let own = config();
    good("plain", docker_archive("layer.tar", &own, |tar| tar));
    good("symlink", docker_archive("a/layer.tar", &own, |tar| tar.symlink("a/layer.tar", "../layer.tar")));
    good("hard link", docker_archive("b", &own, |tar| tar.hard_link("b", "layer.tar")));
    for (link, words) in [
        ("/etc/passwd", "`a` is not in it"),
        ("../../../../etc/passwd", "`a` is not in it"),
        ("a", "`a` is not in it"),
        ("gone", "`a` is not in it"),
    ] {
        let tar = docker_archive("a", &own, |tar| tar.symlink("a", link));
        with_input(&world, &["load"], &tar).failure(1).says(words);
    }
    for path in ["/etc/passwd", "../../etc/passwd", "nothing"] {
        let tar = docker_archive(path, &own, |tar| tar);
        with_input(&world, &["load"], &tar).failure(1).says("is not in it");
    }
}

#[test]
fn what_an_archive_promises_is_checked() {
    let world = World::new();
    let refused = |tar: Vec<u8>, words: &str| {
        let output = with_input(&world, &["load"], &tar).failure(1);
        assert!(output.stderr.contains(words), "expected `{words}` in {}", output.stderr);
    };
    refused(Vec::new(), "neither an OCI layout nor Docker's archive");
    refused(b"some text".to_vec(), "the archive is refused");
    refused(Tar::default().file("a", 0o644, b"x").finish(), "neither an OCI layout nor Docker's archive");
    refused(Tar::default().file("repositories", 0o644, b"{}").finish(), "before 1.10");
    refused(Tar::default().file("manifest.json", 0o644, b"[]").finish(), "there is no image in it");
    refused(Tar::default().file("manifest.json", 0o644, b"{").finish(), "no list of images");
    refused(Tar::default().file("../manifest.json", 0o644, b"[]").finish(), "contains `..`");
    refused(Tar::default().file("manifest.json", 0o644, &vec![b' '; 5 << 20]).finish(), "too large");
    let other = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]}});
    refused(docker_archive("layer.tar", &other, |tar| tar), "differs from its image");
    let none = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    refused(docker_archive("layer.tar", &none, |tar| tar), "has 1 layers, and its configuration 0");
    let mut cut = docker_archive("layer.tar", &config(), |tar| tar);
    cut.truncate(1800);
    refused(cut, "ends within an entry");
    // A layout whose blob is not what it is called.
    let blob = format!("blobs/sha256/{}", "0".repeat(64));
    refused(Tar::default().file(&blob, 0o644, b"x").finish(), "is damaged");
    let folder = world.path("layout");
    let layer = Layer::plain(Tar::default().file("g", 0o644, b"a layout's own").finish());
    let path = folder.join("blobs/sha256").join(&layer.diff_id["sha256:".len()..]);
    layout::write(&folder, &[layer], &json!({}));
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"x").unwrap();
    world.lbuild(&["load", "-i", "layout"]).failure(1).says("bytes");
    fs::remove_file(&path).unwrap();
    world.lbuild(&["load", "-i", "layout"]).failure(1).says("cannot read");
    world.lbuild(&["load", "-i", "missing"]).failure(1).says("cannot load `missing`");
    // Nothing of all this is listed.
    assert_eq!(world.lbuild(&["images", "-q"]).success().stdout, "");
}

#[test]
fn a_file_system_becomes_an_image_and_an_image_a_file_system() {
    let world = World::new();
    built(&world, "it/files:1");
    world.lbuild(&["export", "-o", "rootfs.tar", "it/files:1"]).success();
    let unpacked = world.path("rootfs");
    fs::create_dir(&unpacked).unwrap();
    peers::run(Command::new("tar").arg("-xpf").arg(world.path("rootfs.tar")).arg("-C").arg(&unpacked));
    world.lbuild(&["save", "-o", "it", "--format", "oci-dir", "it/files:1"]).success();
    let image = Image::open(&world.path("it"));
    Tree::of(&unpacked).assert_same(&world.unpack(&image).tree, "the export", "umoci");
    let changes =
        ["-c", "CMD [\"cat\", \"/x\"]", "-c", "ENV A=1", "--change", "WORKDIR /srv", "-m", "from a tar"];
    let gzip =
        Command::new("gzip").arg("-c").arg(world.path("rootfs.tar")).stdin(Stdio::null()).output().unwrap();
    fs::write(world.path("rootfs.tar.gz"), &gzip.stdout).unwrap();
    for source in ["rootfs.tar", "rootfs.tar.gz", "rootfs", "-"] {
        let args = [&["import"][..], &changes, &[source, "it/imported:1"]].concat();
        let mut command = world.command();
        command.args(&args).env("SOURCE_DATE_EPOCH", "1000");
        command.stdin(fs::File::open(world.path("rootfs.tar")).unwrap());
        let digest = Output::of(&mut command).success().stdout;
        assert!(digest.starts_with("sha256:"), "{digest}");
        assert_eq!(
            world.lbuild(&["run", "--rm", "--network=none", "it/imported:1"]).success().stdout,
            "x\n",
            "{source}"
        );
        let inspected: Value = world.json(&["inspect", "it/imported:1"]);
        assert_eq!(inspected[0]["Config"]["WorkingDir"], "/srv");
        assert_eq!(inspected[0]["Created"], "1970-01-01T00:16:40Z");
        assert_eq!(inspected[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
        let history = world.lbuild(&["history", "--format", "json", "it/imported:1"]).success();
        assert!(history.stdout.contains("from a tar"), "{}", history.stdout);
    }
    for (args, words, code) in [
        (&["-c", "RUN true", "rootfs.tar"][..], "it makes a layer", 1),
        (&["-c", "CMDD x", "rootfs.tar"], "did you mean", 1),
        (&["stdin-that-is-not", "x"], "cannot open", 3),
        (&["rootfs.tar.gz", "UPPER"], "lower case", 2),
    ] {
        world.lbuild(&[&["import"], args].concat()).failure(code).says(words);
    }
    with_input(&world, &["import", "-"], b"no archive").failure(1).says("cannot load `-`");
    with_input(&world, &["import", "-"], b"").failure(1).says("cannot load `-`");
    world.lbuild(&["export", "nothing"]).failure(1).says("no image `nothing`");
    world.lbuild(&["save", "-o", "x.tar", "nothing"]).failure(1).says("no image `nothing`");
    assert!(!world.path("x.tar").exists());
}
