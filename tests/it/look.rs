//! The verbs that look at the store and tidy it: images, tag, rmi, history, inspect, version.

use crate::base::busybox;
use crate::harness::World;

#[test]
fn images_are_listed_named_and_removed() {
    let world = World::new();
    assert_eq!(world.lbuild(&["images"]).success().stdout.lines().count(), 1);
    world
        .build(&format!("FROM {}\nRUN echo x > /x\n", busybox()))
        .args(&["-t", "it/a:1", "-t", "it/a:2"])
        .success();
    world.lbuild(&["tag", "it/a:1", "127.0.0.1:5000/b"]).success();
    let listed = world.lbuild(&["images"]).success().stdout;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    for (repository, tag) in [("it/a", "1"), ("it/a", "2"), ("127.0.0.1:5000/b", "latest")] {
        assert!(
            rows.iter().any(|row| row[0] == repository && row[1] == tag),
            "{repository}:{tag} in {listed}"
        );
    }
    assert_eq!(world.json(&["images", "it/a", "--format=json"]).as_array().map(Vec::len), Some(2));
    world.lbuild(&["rmi", "it/a:1", "it/a:2"]).success();
    let output = world.lbuild(&["run", "--rm", "--network=none", "127.0.0.1:5000/b", "cat", "/x"]).success();
    assert_eq!(output.stdout, "x\n", "the last name keeps the image");
    world.lbuild(&["rmi", "127.0.0.1:5000/b"]).success();
    assert!(!world.lbuild(&["images"]).success().stdout.contains("5000/b"));
    world.lbuild(&["rmi", "it/a:1"]).failure(1).says("no image `it/a:1`");
}

#[test]
fn history_and_inspect_tell_what_the_image_says() {
    let world = World::new();
    world
        .build(&format!("FROM {}\nENV A=b\nRUN echo x > /x\nCMD [\"y\"]\n", busybox()))
        .args(&["-t", "it/c:1"])
        .success();
    let history = world.json(&["history", "it/c:1", "--format=json"]);
    let lines: Vec<&str> =
        history.as_array().expect("lines").iter().filter_map(|line| line["CreatedBy"].as_str()).collect();
    assert_eq!(lines[..3], ["CMD [\"y\"]", "RUN /bin/sh -c echo x > /x # buildkit", "ENV A=b"]);
    let table = world.lbuild(&["history", "it/c:1"]).success().stdout;
    assert!(table.lines().count() == lines.len() + 1 && table.contains("ENV A=b"), "{table}");
    let image = &world.json(&["inspect", "it/c:1"])[0];
    assert_eq!(image["RepoTags"], serde_json::json!(["it/c:1"]));
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["y"]));
    assert_eq!(image["RootFS"]["Layers"].as_array().map(Vec::len), Some(2));
    let id = image["Id"].as_str().expect("an id");
    let short = id.strip_prefix("sha256:").expect("a digest").get(..12).expect("a long one");
    assert_eq!(world.json(&["inspect", short])[0]["Id"], id);
}

#[test]
fn the_root_is_a_flag_or_a_variable() {
    let world = World::new();
    let other = world.path("other").display().to_string();
    world.file("Dockerfile", "FROM scratch\nLABEL a=b\n");
    world.lbuild(&["--root", &other, "build", "-t", "it/d:1", "context"]).success();
    assert!(world.lbuild(&["images", "--root", &other]).success().stdout.contains("it/d"));
    assert!(!world.lbuild(&["images"]).success().stdout.contains("it/d"));
}

#[test]
fn version_and_help_need_no_store() {
    let world = World::new();
    assert!(world.lbuild(&["version"]).success().stdout.starts_with("lbuild "));
    assert!(world.lbuild(&["--help"]).success().stdout.contains("build"));
    assert!(!world.path("root").exists());
    world.lbuild(&["biuld"]).failure(2);
    world.lbuild(&["build", "--no-such-flag", "."]).failure(2);
}
