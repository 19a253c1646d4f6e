//! Where a build may read from: standard input, repositories, addresses, and named contexts of each kind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::base::busybox;
use crate::harness::{Output, World};
use crate::layout::Image;
use crate::{peers, registry};

/// Runs `lbuild build ARGS` with `input` as standard input; its image goes to `layout`.
fn build(world: &World, args: &[&str], input: &[u8]) -> Output {
    let stdin = world.path("stdin");
    fs::write(&stdin, input).expect("a file");
    Output::of(world.command().arg("build").args(args).stdin(File::open(&stdin).expect("the file")))
}

/// As `build`, which must succeed: the image, unpacked.
fn text_of(world: &World, args: &[&str], input: &[u8], path: &str) -> String {
    let layout = world.path("layout");
    fs::remove_dir_all(&layout).ok();
    fs::create_dir(&layout).expect("a folder");
    let output = format!("type=oci,dest={}/", layout.display());
    build(world, &[args, &["-o", &output]].concat(), input).success();
    let view = world.path("view");
    fs::remove_dir_all(&view).ok();
    let rootfs = world.unpack(&Image::open(&layout));
    let text = rootfs.text(path);
    fs::remove_dir_all(&rootfs.folder).expect("the unpacked image");
    text
}

/// A tar of these files, compressed by `filter` (tar's option).
fn tar(world: &World, files: &[(&str, &str)], filter: &str) -> Vec<u8> {
    let folder = world.path("packed");
    fs::remove_dir_all(&folder).ok();
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folders above");
        fs::write(path, text).expect("a file");
    }
    let archive = world.path("packed.tar");
    peers::run(Command::new("tar").arg("-C").arg(&folder).arg(filter).arg("-cf").arg(&archive).arg("."));
    fs::read(archive).expect("the archive")
}

#[test]
fn a_tar_on_standard_input_is_a_context_however_it_is_compressed() {
    let world = World::new();
    let dockerfile = "FROM scratch\nCOPY . /\n";
    for (filter, text) in
        [("--no-auto-compress", "tar"), ("-z", "gzip"), ("-j", "bzip2"), ("-J", "xz"), ("--zstd", "zstd")]
    {
        // Nothing is left out of what was sent.
        let files = [("Dockerfile", dockerfile), ("dir/f", text), (".dockerignore", "dir\n")];
        let archive = tar(&world, &files, filter);
        assert_eq!(text_of(&world, &["-"], &archive, "/dir/f"), text, "{filter}");
    }
    let files = [("dockerfile", "FROM scratch\nCOPY f /small\n"), ("sub/d", dockerfile), ("f", "x")];
    let archive = tar(&world, &files, "--no-auto-compress");
    assert_eq!(text_of(&world, &["-"], &archive, "/small"), "x");
    assert_eq!(text_of(&world, &["-f", "sub/d", "-"], &archive, "/f"), "x");
    assert_eq!(text_of(&world, &["--context", "tar://stdin"], &archive, "/small"), "x");
    build(&world, &["-f", "absent", "-"], &archive).failure(2).says("there is no `absent`");
    build(&world, &["-"], &archive[..700]).failure(3).says("standard input");
    build(&world, &["-"], b"\x00\x01binary").failure(1).says("neither an archive nor a Dockerfile");
}

#[test]
fn a_dockerfile_on_standard_input_has_a_context_or_none() {
    let world = World::new();
    world.file("f", "x");
    let alone = format!("FROM {}\nRUN echo yes > /out\n", busybox());
    assert_eq!(text_of(&world, &["-"], alone.as_bytes(), "/out"), "yes\n");
    let copies = b"FROM scratch\nCOPY f /f\n";
    assert_eq!(text_of(&world, &["-f", "-", "context"], copies, "/f"), "x");
    build(&world, &["-"], copies).failure(1).says("`f` is not in the build context");
    build(&world, &["-f", "-", "-"], copies).failure(2).says("cannot both be standard input");
    build(&world, &["-f", "other", "-"], copies).failure(2).says("are both a Dockerfile");
    build(&world, &["-"], b"FROMM x\n").failure(1).says("Dockerfile:1:1").says("did you mean `FROM`?");
}

#[test]
fn a_lower_case_dockerfile_is_found() {
    let world = World::new();
    world.file("dockerfile", "FROM scratch\nLABEL a=b\n");
    build(&world, &["context"], b"").success();
    world.file("Dockerfile", "odd\n");
    build(&world, &["context"], b"").failure(1).says("Dockerfile:1:1");
}

/// Serves the repositories below `root` by `git daemon` until the test binary ends.
fn serve_git(root: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let root = root.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let second = stream.try_clone().expect("a handle");
            Command::new("git")
                .args(["daemon", "--inetd", "--export-all"])
                .arg(format!("--base-path={}", root.display()))
                .stdin(Stdio::from(OwnedFd::from(stream)))
                .stdout(Stdio::from(OwnedFd::from(second)))
                .stderr(Stdio::null())
                .status()
                .expect("git; `make test` installs it");
        }
    });
    format!("git://{address}")
}

fn git(folder: &Path, args: &[&str]) -> String {
    let who =
        ["-c", "user.name=Tester", "-c", "user.email=tester@host.invalid", "-c", "init.defaultBranch=main"];
    let mut command = Command::new("git");
    command.args(who).args(args).current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", folder);
    peers::run(&mut command).trim().to_owned()
}

#[test]
fn a_repository_is_a_context() {
    let world = World::new();
    let repository = world.path("repositories/app.git");
    fs::create_dir_all(repository.join("sub")).expect("a folder");
    let write = |path: &str, text: &str| fs::write(repository.join(path), text).expect("a file");
    git(&repository, &["init", "-q"]);
    write("Dockerfile", "FROM scratch\nCOPY . /\n");
    write("sub/Dockerfile", "FROM scratch\nCOPY f /in-sub\n");
    write("sub/f", "one");
    write("f", "one");
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-q", "-m", "one"]);
    git(&repository, &["tag", "v1"]);
    write("f", "two");
    git(&repository, &["commit", "-q", "-a", "-m", "two"]);
    let address = format!("{}/app.git", serve_git(&world.path("repositories")));
    let commit = git(&repository, &["rev-parse", "v1"]);
    for (suffix, path, expected) in [
        ("", "/f", "two"),
        ("#main", "/f", "two"),
        ("#v1", "/f", "one"),
        (&format!("#{commit}"), "/f", "one"),
        ("#v1:sub", "/in-sub", "one"),
        ("?tag=v1&subdir=sub", "/in-sub", "one"),
    ] {
        let context = format!("{address}{suffix}");
        assert_eq!(text_of(&world, &[&context], b"", path), expected, "{suffix}");
    }
    assert_eq!(text_of(&world, &["-f", "Dockerfile", &format!("{address}#:sub")], b"", "/in-sub"), "one");
    build(&world, &[&format!("{address}#absent")], b"").failure(1).says("no branch, tag or commit `absent`");
    // `.git` stays where that was asked for.
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &address];
    let head = text_of(&world, &keep, b"", "/.git/HEAD");
    assert!(!head.is_empty(), "no `.git`");
    world.file("Dockerfile", "FROM scratch\nCOPY --from=src f /f\n");
    let named = format!("src={address}#v1");
    assert_eq!(text_of(&world, &["--build-context", &named, "context"], b"", "/f"), "one");
}

#[test]
fn an_address_is_a_context_or_a_dockerfile() {
    let world = World::new();
    let archive = tar(&world, &[("Dockerfile", "FROM scratch\nCOPY f /f\n"), ("f", "packed")], "-z");
    let page = |bytes: &[u8]| ("application/octet-stream".to_owned(), bytes.to_vec());
    let alone = format!("FROM {}\nRUN echo alone > /out\n", busybox());
    let address = registry::serve(BTreeMap::from([
        ("/context.tar.gz".to_owned(), page(&archive)),
        ("/app.Dockerfile".to_owned(), page(alone.as_bytes())),
        ("/copies".to_owned(), page(b"FROM scratch\nCOPY g /g\n")),
    ]));
    let url = |path: &str| format!("http://{address}/{path}");
    assert_eq!(text_of(&world, &[&url("context.tar.gz")], b"", "/f"), "packed");
    assert_eq!(text_of(&world, &[&url("app.Dockerfile")], b"", "/out"), "alone\n");
    world.file("g", "from here");
    assert_eq!(text_of(&world, &["-f", &url("copies"), "context"], b"", "/g"), "from here");
    build(&world, &[&url("absent")], b"").failure(3).says("cannot fetch").says("404");
    build(&world, &["s3://bucket/key"], b"").failure(2).says("nothing is fetched by `s3`");
}

#[test]
fn named_contexts_stand_for_what_they_are_told() {
    let world = World::new();
    let other = world.path("other");
    fs::create_dir(&other).expect("a folder");
    for (name, text) in [("f", "other"), ("hidden", "x"), (".dockerignore", "hidden\n")] {
        fs::write(other.join(name), text).expect("a file");
    }
    world.file("hidden", "not hidden here");
    world.file("Dockerfile", "FROM scratch\nCOPY --from=Dir . /dir/\nCOPY hidden /\n");
    let rootfs = {
        let layout = world.path("layout-of-dir");
        fs::create_dir(&layout).expect("a folder");
        let output = format!("type=oci,dest={}/", layout.display());
        build(&world, &["--build-context", "dir=other", "-o", &output, "context"], b"").success();
        world.unpack(&Image::open(&layout))
    };
    assert!(rootfs.has("/dir/f") && rootfs.has("/hidden") && !rootfs.has("/dir/hidden"));
    // A name goes before a base image of that name, and before a stage.
    let image = format!("docker-image://{}", busybox());
    world.file("Dockerfile", "FROM nowhere.invalid/base\nRUN echo image > /out\n");
    let args = ["--build-context", &format!("nowhere.invalid/base={image}"), "context"];
    assert_eq!(text_of(&world, &args, b"", "/out"), "image\n");
    let text = format!("FROM {} AS one\nRUN false\nFROM one\nRUN echo stage > /out\n", busybox());
    world.file("Dockerfile", text);
    let args = ["--build-context", &format!("one={image}"), "context"];
    assert_eq!(text_of(&world, &args, b"", "/out"), "stage\n");
    build(&world, &["--build-context", "x=absent", "context"], b"").failure(2).says("there is no `absent`");
}
