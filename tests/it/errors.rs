//! What users read when something is wrong, word for word. A folder of testdata/e2e/errors is a case: its
//! `Dockerfile`, its `args` if it has any, and `stderr`, whose first line is the exit code; all else in it
//! is the context. Cases that need more than files are functions here. `UPDATE=1` writes `stderr` anew.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::disk::Disk;
use crate::harness::{Output, World, program};
use crate::registry;
use crate::{base, peers, source};

fn folder() -> PathBuf {
    source::root().join("testdata/e2e/errors")
}

/// Compares what was said with the case's `stderr`, once what differs from run to run has its name.
fn compare(case: &str, world: &World, output: &Output, names: &[(&str, &str)]) {
    let path = folder().join(case).join("stderr");
    let here = world.path("");
    let mut said = output.stderr.replace(here.to_string_lossy().trim_end_matches('/'), "WORLD");
    for (value, name) in names.iter().chain(&[(base::busybox(), "BUSYBOX"), (registry::open(), "REGISTRY")]) {
        said = said.replace(value, name);
    }
    let said = format!("exit code {}\n{said}", output.code);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(folder().join(case)).expect("a folder");
        fs::write(&path, &said).expect("the golden text");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, expected, "{case}: see {}; UPDATE=1 writes it anew", path.display());
}

/// Runs the case that is a folder.
fn check(case: &str) {
    let world = World::new();
    let from = folder().join(case);
    peers::run(Command::new("cp").arg("-rT").arg(&from).arg(world.path("context")));
    for file in ["Dockerfile", "stderr", "args"] {
        fs::remove_file(world.path("context").join(file)).ok();
    }
    let dockerfile = fs::read_to_string(from.join("Dockerfile")).expect("a Dockerfile");
    let args = fs::read_to_string(from.join("args")).unwrap_or_default();
    let build = world.build(&dockerfile.replace("BUSYBOX", base::busybox()));
    let args: Vec<&str> = args.split_whitespace().collect();
    compare(case, &world, &build.arg("--progress=quiet").args(&args).output(), &[]);
}

#[test]
fn cases_that_are_folders() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).expect("the cases").map(|entry| entry.expect("an entry")) {
        if entry.path().join("Dockerfile").exists() {
            check(&entry.file_name().to_string_lossy());
            count += 1;
        }
    }
    assert!(count >= 6, "only {count} cases");
}

#[test]
fn an_unreachable_registry() {
    let world = World::new();
    let address = format!("127.0.0.1:{}", registry::free_port());
    let output = world.build(&format!("FROM {address}/app:1\n")).arg("--progress=quiet").output();
    compare("unreachable-registry", &world, &output, &[(&address, "ADDRESS")]);
}

#[test]
fn an_image_that_the_registry_does_not_have() {
    let world = World::new();
    let output = world
        .build(&format!("FROM {}/errors/nothing:1\n", registry::open()))
        .arg("--progress=quiet")
        .output();
    compare("missing-image", &world, &output, &[]);
}

#[test]
fn wrong_credentials() {
    let world = World::new();
    let address = registry::protected();
    let dockerfile = format!("FROM {address}/private:1\n");
    let output = world.build(&dockerfile).arg("--progress=quiet").output();
    compare("no-credentials", &world, &output, &[(address, "ADDRESS")]);
    fs::create_dir(world.path("home/.docker")).expect("a folder");
    // `tester:wrong` in base64.
    let config = format!("{{\"auths\":{{\"{address}\":{{\"auth\":\"dGVzdGVyOndyb25n\"}}}}}}");
    fs::write(world.path("home/.docker/config.json"), config).expect("a configuration");
    let output = world.build(&dockerfile).arg("--progress=quiet").output();
    compare("wrong-credentials", &world, &output, &[(address, "ADDRESS")]);
}

#[test]
fn a_full_disk() {
    let world = World::new();
    let _disk = Disk::memory(&world, 8);
    let output = world
        .build(&format!("FROM {}\nRUN dd if=/dev/zero of=/big bs=1M count=20 status=none\n", base::busybox()))
        .arg("--progress=quiet")
        .output();
    let listed = world.lbuild(&["images"]);
    // The command itself met the full disk: its exit code, its words.
    compare("full-disk-in-run", &world, &output, &[]);
    assert_eq!(listed.code, 0, "{listed:?}");
}

#[test]
fn a_disk_that_is_full_before_the_base_is_in_it() {
    let world = World::new();
    let _disk = Disk::memory(&world, 1);
    let output =
        world.build(&format!("FROM {}\nRUN true\n", base::busybox())).arg("--progress=quiet").output();
    assert_eq!(output.code, 3, "{output:?}");
    assert!(output.stderr.contains("no space left on device"), "{}", output.stderr);
    assert!(output.stderr.contains("hint: the disk of"), "{}", output.stderr);
}

#[test]
fn not_root() {
    let world = World::new();
    // Where a user without rights can read it.
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let copy = folder.path().join("lbuild");
    fs::copy(program(), &copy).expect("the program");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy).args(["build", "."]);
    let output = Output::of(command.env_clear().env("HOME", folder.path()).current_dir(folder.path()));
    compare("not-root", &world, &output, &[]);
}
