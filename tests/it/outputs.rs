//! `-o`: every type of output, each form of an image, and what other tools make of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::base::{busybox, busybox_of_two};
use crate::harness::World;
use crate::layout::{Image, read_json, sha256};
use crate::peers::{self, untar};
use crate::registry;
use crate::tree::Tree;

/// Files of every kind that can be had from a `RUN`.
fn dockerfile() -> String {
    format!(
        "FROM {}\nCOPY f /data/f\nRUN ln -s f /data/link && ln /data/f /data/hard && mkfifo /data/pipe \
         && chmod 4755 /data/f && chown 1000:50 /data/f && mkdir -m 1777 /data/open\n",
        busybox()
    )
}

#[test]
fn a_tar_is_the_file_system_as_it_is() {
    let world = World::new();
    world.file("f", "x");
    let rootfs = world.build(&dockerfile()).rootfs();
    world
        .build(&dockerfile())
        .args(&["-o", "type=tar,dest=one.tar", "-o", "type=tar,dest=two.tar"])
        .success();
    assert_eq!(fs::read(world.path("one.tar")).unwrap(), fs::read(world.path("two.tar")).unwrap());
    untar(&world.path("one.tar"), &world.path("unpacked"));
    Tree::of(&world.path("unpacked")).assert_same(&rootfs.tree, "the tar", "umoci");
    // On standard output there is the archive and nothing else.
    let line =
        format!("{} build -f Dockerfile -o - context > three.tar", crate::harness::program().display());
    let mut sh = Command::new("sh");
    peers::run(sh.args(["-ec", &line]).current_dir(world.path("")).env("LBUILD_ROOT", world.path("root")));
    assert_eq!(fs::read(world.path("one.tar")).unwrap(), fs::read(world.path("three.tar")).unwrap());
}

#[test]
fn a_directory_gets_the_files_and_nothing_that_has_power_here() {
    let world = World::new();
    world.file("f", "x");
    let text = dockerfile() + "USER app\n";
    fs::create_dir_all(world.path("out/data")).unwrap();
    fs::write(world.path("out/data/f"), "old").unwrap();
    fs::write(world.path("out/data/own"), "kept").unwrap();
    // A link that leads out of the directory is replaced and not followed.
    fs::create_dir(world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), world.path("out/bin")).unwrap();
    world.build(&text).args(&["-o", "out"]).success();
    let out = |path: &str| world.path("out").join(path);
    assert_eq!(fs::read_to_string(out("data/f")).unwrap(), "x");
    assert_eq!(fs::read_to_string(out("data/own")).unwrap(), "kept");
    let file = fs::metadata(out("data/f")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.permissions().mode() & 0o7777), (0, 0, 0o755));
    assert_eq!(file.ino(), fs::metadata(out("data/hard")).unwrap().ino());
    assert_eq!(fs::read_link(out("data/link")).unwrap(), Path::new("f"));
    assert_eq!(fs::metadata(out("data/open")).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert!(fs::symlink_metadata(out("bin")).unwrap().is_dir() && out("bin/busybox").exists());
    assert_eq!(fs::read_dir(world.path("elsewhere")).unwrap().count(), 0);
    let names: Vec<_> =
        fs::read_dir(world.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.as_encoded_bytes().starts_with(b".")), "{names:?}");
}

#[test]
fn files_are_no_later_than_the_dockerfiles_epoch() {
    let world = World::new();
    let text =
        format!("ARG SOURCE_DATE_EPOCH=2000\nFROM {}\nRUN touch /new && touch -d @500 /old\n", busybox());
    world.build(&text).args(&["-o", "out", "-o", "type=tar,dest=out.tar"]).success();
    untar(&world.path("out.tar"), &world.path("unpacked"));
    for folder in ["out", "unpacked"] {
        let time = |name: &str| fs::metadata(world.path(folder).join(name)).unwrap().mtime();
        assert_eq!((time("new"), time("old")), (2000, 500), "{folder}");
    }
    // What is said beside the Dockerfile goes before it, as for layers.
    world.build(&text).args(&["--source-date-epoch=1000", "-o", "by-flag"]).success();
    assert_eq!(fs::metadata(world.path("by-flag/new")).unwrap().mtime(), 1000);
}

#[test]
fn what_is_in_the_way_of_a_directory_is_found_before_anything_is_moved() {
    let world = World::new();
    fs::create_dir_all(world.path("out/z/own")).unwrap();
    world.file("a", "a").file("z", "z");
    let build = || world.build("FROM scratch\nCOPY a z /\n");
    build().args(&["-o", "out"]).output().failure(3).says("cannot replace the directory");
    let names = fs::read_dir(world.path("out")).unwrap().count();
    assert_eq!(names, 1, "nothing but what was there");
    // An image without layers has no files; a directory that is not there is made.
    world.build("FROM scratch\nLABEL a=b\n").args(&["-o", "type=local,dest=new/deep"]).success();
    assert_eq!(fs::read_dir(world.path("new/deep")).unwrap().count(), 0);
}

#[test]
fn several_platforms_have_a_folder_each() {
    let world = World::new();
    let text = format!("FROM {}\nLABEL a=b\n", busybox_of_two());
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    world.build(&text).args(&platforms).args(&["-o", "out", "-o", "type=tar,dest=out.tar"]).success();
    untar(&world.path("out.tar"), &world.path("unpacked"));
    for folder in ["out", "unpacked"] {
        for platform in ["linux_amd64", "linux_arm64"] {
            assert!(world.path(folder).join(platform).join("bin/busybox").exists(), "{folder} {platform}");
        }
    }
    world
        .build(&text)
        .args(&["--platform=linux/amd64", "-o", "type=local,dest=one,platform-split=true"])
        .success();
    assert!(world.path("one/linux_amd64/bin/busybox").exists());
}

#[test]
fn dockers_archive_is_a_layout_too() {
    let world = World::new();
    world.file("f", "x");
    let output = "type=docker,dest=image.tar";
    world.build(&dockerfile()).args(&["-t", "it/docker:1", "-t", "it/docker:2", "-o", output]).success();
    untar(&world.path("image.tar"), &world.path("unpacked"));
    let list = read_json(&world.path("unpacked/manifest.json"));
    assert_eq!(list[0]["RepoTags"], serde_json::json!(["it/docker:1", "it/docker:2"]));
    let image = Image::open(&world.path("unpacked"));
    let config = list[0]["Config"].as_str().unwrap();
    assert_eq!(format!("sha256:{}", config.rsplit('/').next().unwrap()), image.manifest["config"]["digest"]);
    for (number, transport) in ["docker-archive:", "oci-archive:"].into_iter().enumerate() {
        let from = format!("{transport}{}:it/docker:1", world.path("image.tar").display());
        let copy = world.path(&format!("copy-{number}"));
        peers::skopeo_copy(&from, &format!("oci:{}:it", copy.display()));
        assert_eq!(Image::open(&copy).diff_ids(), image.diff_ids(), "{transport}");
    }
}

#[test]
fn layers_are_compressed_as_was_asked() {
    let world = World::new();
    world.file("f", "x".repeat(100_000));
    let build = |output: &str| {
        let folder = world.path(&sha256(output.as_bytes())[..8]);
        world
            .build(&dockerfile())
            .arg("-o")
            .arg(format!("type=oci,tar=false,dest={},{output}", folder.display()))
            .success();
        Image::open(&folder)
    };
    let types = |image: &Image| -> Vec<String> {
        let layers = image.manifest["layers"].as_array().unwrap();
        let suffix =
            |layer: &Value| layer["mediaType"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
        layers.iter().map(suffix).collect()
    };
    let usual = build("compression=gzip");
    // The base's layer is what it was.
    let base = &types(&usual)[..1];
    assert_eq!(
        types(&build("compression=zstd")),
        [base, &["tar+zstd".to_owned(), "tar+zstd".to_owned()]].concat()
    );
    let forced = build("compression=zstd,force-compression=true,compression-level=7");
    assert_eq!(types(&forced), ["tar+zstd"; 3]);
    assert_eq!(forced.diff_ids(), usual.diff_ids());
    let plain = build("compression=uncompressed,force-compression=true");
    assert_eq!(types(&plain), ["tar"; 3]);
    for (layer, diff_id) in plain.manifest["layers"].as_array().unwrap().iter().zip(plain.diff_ids()) {
        assert_eq!(layer["digest"], diff_id);
    }
    let docker = build("oci-mediatypes=false");
    assert_eq!(docker.manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    assert_eq!(types(&docker), ["gzip"; 3]);
    let small = build("compression-level=9,force-compression=true");
    assert_eq!(small.diff_ids(), usual.diff_ids());
    assert!(forced.names_in_layer(1).contains(&"data/f".to_owned()), "{:?}", forced.names_in_layer(1));
    // This umoci knows neither zstd nor Docker's documents.
    for image in [&usual, &plain, &small] {
        let rootfs = world.unpack(image);
        assert_eq!(rootfs.text("/data/f").len(), 100_000);
    }
}

#[test]
fn an_output_may_have_notes_of_its_own() {
    let world = World::new();
    let text = "FROM scratch\nLABEL a=b\n";
    let output = "type=oci,dest=one/,annotation.org.example.k=v,annotation-manifest-descriptor.d=w";
    fs::create_dir(world.path("one")).unwrap();
    world.build(text).args(&["-o", output, "-o", "type=oci,tar=false,dest=two"]).success();
    let index = read_json(&world.path("one/index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["d"], "w");
    assert_eq!(Image::open(&world.path("one")).manifest["annotations"]["org.example.k"], "v");
    assert!(Image::open(&world.path("two")).manifest["annotations"].is_null());
    let refused = world.build(text).args(&["-o", "type=oci,dest=x,annotation-index.a=b"]).output();
    refused.failure(2).says("has no index to annotate");
}

#[test]
fn an_image_goes_to_registries_by_output() {
    let world = World::new();
    let names = [1, 2, 3].map(|number| format!("{}/outputs/app:{number}", registry::open()));
    let text = format!("FROM {}\nRUN echo x > /x\n", busybox());
    world
        .build(&text)
        .args(&["-t", &names[0], "-o", "type=registry"])
        .args(&["-o", &format!("type=image,push=true,name={},compression=zstd", names[1])])
        .success();
    let zstd = peers::skopeo_raw(&names[1]);
    let media_type = zstd["layers"][1]["mediaType"].as_str().unwrap();
    assert_eq!(media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
    assert!(peers::skopeo_raw(&names[0])["layers"][1]["mediaType"].as_str().unwrap().ends_with("gzip"));
    // Later, by itself, and by kaniko's word for it.
    let media_type =
        |name: &str| peers::skopeo_raw(name)["layers"][0]["mediaType"].as_str().unwrap().to_owned();
    world.lbuild(&["push", "--compression-format=zstd", "--force-compression", &names[0]]).success();
    assert!(media_type(&names[0]).ends_with("zstd"));
    world
        .build(&text)
        .args(&["--destination", &names[2], "--compression=zstd", "--force-compression"])
        .success();
    assert!(media_type(&names[2]).ends_with("zstd"));
    world.lbuild(&["push", "--compression-level=10", &names[0]]).failure(2).says("from 1 to 9");
    let repository = names[2].rsplit_once(':').unwrap().0;
    let output = format!("type=image,push-by-digest=true,name={repository}");
    let digest = world.build(&text).args(&["-q", "-o", &output]).success().stdout;
    let by_digest = format!("{repository}@{}", digest.trim());
    assert_eq!(peers::skopeo_digest(&by_digest), digest.trim());
    world.build(&text).args(&["-o", "type=registry"]).output().failure(2).says("without a name");
    world.build(&text).args(&["-o", "type=cacheonly"]).success();
}

#[test]
fn what_cannot_be_is_refused() {
    let world = World::new();
    for (args, words) in [
        (&["-o", "type=oci", "-o", "-"][..], "only one output"),
        (&["-o", "type=zip,dest=x"], "unknown type `zip`"),
        (&["-o", "type=oci,dest=x,compression=zstd,compression-level=30"], "from 1 to 22"),
        (&["-o", "type=docker,dest=x,compression=zstd,oci-mediatypes=false"], "none for zstd"),
        (&["-t", "a", "--no-push", "-o", "type=registry"], "contradicts"),
    ] {
        world.build("FROM scratch\nLABEL a=b\n").args(args).output().failure(2).says(words);
    }
    let failed =
        world.build("FROM scratch\nLABEL a=b\n").args(&["-o", "type=oci,dest=missing/image.tar"]).output();
    failed.failure(3).says("cannot create `missing/");
    assert!(!world.path("missing").exists());
}

#[test]
fn an_estargz_image_runs_as_any_other() {
    let world = World::new();
    world.file("f", "x");
    let form = "compression=estargz,force-compression=true";
    let outputs = [1, 2].map(|number| format!("type=oci,dest={number}.tar,{form}"));
    world.build(&dockerfile()).args(&["-t", "it/estargz:1", "-o", &outputs[0], "-o", &outputs[1]]).success();
    assert!(fs::read(world.path("1.tar")).unwrap() == fs::read(world.path("2.tar")).unwrap());
    untar(&world.path("1.tar"), &world.path("layout"));
    let image = Image::open(&world.path("layout"));
    for layer in image.manifest["layers"].as_array().unwrap() {
        let toc = layer["annotations"]["containerd.io/snapshot/stargz/toc.digest"].as_str().unwrap();
        assert!(toc.starts_with("sha256:"), "{layer}");
    }
    assert_eq!(image.names_in_layer(1).last().map(String::as_str), Some("stargz.index.json"));
    // Others unpack it to the same files, and the table besides.
    assert_eq!(world.unpack(&image).text("/data/f"), "x");
    let elsewhere = World::new();
    elsewhere.lbuild(&["load", "-i", world.path("1.tar").to_str().unwrap()]).success();
    let run =
        elsewhere.lbuild(&["run", "--rm", "--network=none", "it/estargz:1", "cat", "/data/hard"]).success();
    assert_eq!(run.stdout, "x");
}
