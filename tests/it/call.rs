//! `--call` and `--check`: what there is to know of a Dockerfile, and the exit codes that scripts stand on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::base::busybox;
use crate::harness::{Output, World, program};

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_check_fails_where_it_warns() {
    let world = World::new();
    let clean = format!("FROM {}\nRUN true\n", busybox());
    let output = world.build(&clean).arg("--check").success();
    assert!(output.stderr.contains("no warnings found"), "{output:?}");
    let odd = format!("FROM {} as Odd\nRUN true\n", busybox());
    let output = world.build(&odd).arg("--check").failure();
    for expected in ["StageNameCasing", "FromAsCasing", "Dockerfile:1"] {
        assert!(output.stdout.contains(expected), "`{expected}` in {output:?}");
    }
    let report = json(&world.build(&odd).arg("--call=check,format=json").output().failure(1));
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(2), "{report}");
    let skipped = format!("# check=skip=StageNameCasing,FromAsCasing\n{odd}");
    world.build(&skipped).arg("--check").success();
    // Nothing was built.
    let listed = world.lbuild(&["images", "-q"]).success();
    assert_eq!(listed.stdout, "");
}

#[test]
fn a_build_warns_at_its_end() {
    let world = World::new();
    let odd = format!("FROM {} as odd\nRUN true\n", busybox());
    let output =
        world.build(&odd).args(&["--metadata-file", "metadata"]).env("BUILDX_METADATA_WARNINGS", "1");
    let output = output.success();
    let list = "\n 1 warning found (use --check to expand):\n - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)\n";
    assert!(output.stderr.ends_with(list), "{}", output.stderr);
    let metadata: Value =
        serde_json::from_slice(&fs::read(world.path("metadata")).expect("metadata")).expect("JSON");
    let warnings = metadata["buildx.build.warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0]["range"][0]["start"]["line"], 1);
    assert!(warnings[0]["url"].as_str().is_some_and(|url| url.ends_with("/from-as-casing/")), "{warnings:?}");
    let quiet = world.build(&odd).arg("-q").success();
    assert_eq!(quiet.stderr, "");
    let strict = format!("# check=error=true\n{odd}");
    world.build(&strict).failure().says("lint violation found for rules: FromAsCasing");
}

#[test]
fn the_outline_and_the_targets_need_no_images() {
    let world = World::new();
    let text = "# VERSION is what is built\nARG VERSION=1\nFROM nowhere.invalid/x:$VERSION AS base\n\
        RUN --mount=type=secret,id=token,required=true true\n# test runs the tests\nFROM base AS test\nARG LEVEL\n";
    let outline = json(&world.build(text).arg("--call=outline,format=json").success());
    let names: Vec<&str> = outline["args"]
        .as_array()
        .expect("arguments")
        .iter()
        .filter_map(|arg| arg["name"].as_str())
        .collect();
    assert!(names.contains(&"LEVEL") && names.contains(&"VERSION"), "{outline}");
    assert_eq!(outline["secrets"][0]["name"], "token");
    let targets = json(&world.build(text).arg("--call=targets,format=json").success());
    assert_eq!(targets["targets"][1]["name"], "test");
    assert_eq!(targets["targets"][1]["default"], true);
    let shown = world.build(text).arg("--call=targets").success();
    assert!(shown.stdout.contains("runs the tests"), "{}", shown.stdout);
    assert!(!world.path("root").exists(), "a store was opened");
    world.build("FROMM x\n").arg("--call=targets").failure().says("did you mean `FROM`?");
}

#[test]
fn the_tree_needs_neither_root_nor_a_store() {
    let world = World::new();
    // Where a user without rights can read it.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("a mode");
    fs::copy(program(), folder.path().join("lbuild")).expect("the program");
    fs::write(folder.path().join("Dockerfile"), "FROM x\nRUN --network=none <<EOF\necho hi\nEOF\n")
        .expect("a file");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(folder.path().join("lbuild"))
        .args(["build", "--call", "ast,format=json", "."])
        .env_clear()
        .current_dir(folder.path())
        .stdin(Stdio::null());
    let tree = json(&Output::of(&mut command).success());
    assert_eq!(tree[1]["cmd"], "RUN");
    assert_eq!(tree[1]["flags"][0], "--network=none");
    assert_eq!(tree[1]["heredocs"][0]["content"], "echo hi\n");
    assert_eq!((&tree[1]["start_line"], &tree[1]["end_line"]), (&Value::from(2), &Value::from(4)));
    world.build("\n# nothing\n").arg("--call=ast").failure().says("no instructions");
}
