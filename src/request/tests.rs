//! Arguments resolved against real directories and made-up environments.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use builder::Context;
use clap::Parser;

use super::*;
use crate::args::{CommandLine, Verb};

/// What `words` mean in `dir`, as a request for this machine.
fn resolve_in(dir: &Path, words: &[&str]) -> Result<builder::Request, Failure> {
    let context = dir.to_str().unwrap();
    let words = ["lbuild", "build"].into_iter().chain(words.iter().copied()).chain([context]);
    let Verb::Build(args) = CommandLine::parse_from(words).verb else { panic!("not a build") };
    let order = Order::of(&args, &Environment::default())?;
    Delivery::of(&order, &Environment::default())?;
    let material = order.material().expect("all of it is here")?;
    Ok(order.request(&material, &order.platforms()[0]))
}

fn message(result: Result<builder::Request, Failure>) -> String {
    match result {
        Ok(_) => panic!("resolved"),
        Err(failure) => failure.to_string(),
    }
}

/// A folder with a Dockerfile.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    dir
}

#[test]
fn the_dockerfile_is_named_as_seen_from_the_context() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    fs::create_dir(dir.path().join("docker")).unwrap();
    let other = dir.path().join("docker/app");
    fs::write(&other, "FROM x\n").unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();

    let request = resolve_in(dir.path(), &[]).unwrap();
    assert_eq!(
        (request.dockerfile_name.as_str(), request.dockerfile.as_str()),
        ("Dockerfile", "FROM scratch\n")
    );
    let request = resolve_in(dir.path(), &["-f", other.to_str().unwrap()]).unwrap();
    assert_eq!(request.dockerfile_name, "docker/app");
    let outside = outside.path().to_str().unwrap();
    let request = resolve_in(dir.path(), &["-f", outside]).unwrap();
    assert_eq!(request.dockerfile_name, outside);
}

fn context(request: &builder::Request) -> &Context {
    request.context.directory().expect("a directory")
}

#[test]
fn an_ignore_file_beside_the_dockerfile_wins() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("Dockerfile", "FROM scratch\n");
    let request = resolve_in(dir.path(), &[]).unwrap();
    assert!(context(&request).ignore.is_empty());
    write(".dockerignore", "general\n");
    let request = resolve_in(dir.path(), &[]).unwrap();
    assert!(context(&request).ignore.ignores(b"general"));
    assert_eq!(context(&request).ignore_name, ".dockerignore");
    write("Dockerfile.dockerignore", "special\n");
    let request = resolve_in(dir.path(), &[]).unwrap();
    assert!(context(&request).ignore.ignores(b"special") && !context(&request).ignore.ignores(b"general"));
    assert_eq!(context(&request).ignore_name, "Dockerfile.dockerignore");
    write("Dockerfile.dockerignore", "ok\n!\n");
    let message = message(resolve_in(dir.path(), &[]));
    assert!(message.starts_with("error: line 2 of `Dockerfile.dockerignore`"), "{message}");
}

#[test]
fn links_out_of_the_context_are_not_followed() {
    let (dir, outside) = (folder(), tempfile::tempdir().unwrap());
    for name in ["secret", "secret.dockerignore"] {
        fs::write(outside.path().join(name), "SECRET\n").unwrap();
    }
    let secret = outside.path().join("secret");
    let link = |to: &Path, name: &str| {
        fs::remove_file(dir.path().join(name)).ok();
        symlink(to, dir.path().join(name)).unwrap();
    };
    link(&secret, "linked");
    link(outside.path(), "through");
    fs::create_dir(dir.path().join("sub")).unwrap();
    let typed = |path: &str| dir.path().join(path).display().to_string();
    // As typed inside of the context, by whatever way.
    for path in ["linked", "through/secret", "sub/../linked", "sub/../through/secret"] {
        let failure = message(resolve_in(dir.path(), &["-f", &typed(path)]));
        let expected = format!("error: `{}` leads out of the build context\n", typed(path));
        assert!(failure.starts_with(&expected), "{failure}");
    }
    let around = outside.path().join("around");
    symlink(dir.path(), &around).unwrap();
    let failure = message(resolve_in(dir.path(), &["-f", around.join("linked").to_str().unwrap()]));
    assert!(failure.contains("leads out of the build context"), "{failure}");

    // What the user names outside is the user's own, with the ignore file beside it.
    let request = resolve_in(dir.path(), &["-f", secret.to_str().unwrap()]).unwrap();
    assert_eq!(request.dockerfile, "SECRET\n");
    assert!(context(&request).ignore.ignores(b"SECRET"));
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    let request = resolve_in(dir.path(), &["-f", &typed(&format!("sub/../../{name}/secret"))]).unwrap();
    assert_eq!(request.dockerfile, "SECRET\n");

    for name in [".dockerignore", "Dockerfile.dockerignore", "Dockerfile"] {
        link(&secret, name);
        let failure = message(resolve_in(dir.path(), &[]));
        assert!(failure.contains(&format!("{name}` leads out of the build context")), "{failure}");
        fs::remove_file(dir.path().join(name)).unwrap();
        fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    }
    symlink("/etc/passwd", outside.path().join(".dockerignore")).unwrap();
    let named = format!("--build-context=x={}", outside.path().display());
    let failure = message(resolve_in(dir.path(), &[&named]));
    assert!(failure.contains(".dockerignore` leads out of the build context"), "{failure}");
}

#[test]
fn links_inside_the_context_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (docker, root) = (dir.path().join("docker"), dir.path());
    fs::create_dir(&docker).unwrap();
    fs::write(docker.join("app"), "FROM app\n").unwrap();
    symlink("docker/app", root.join("Dockerfile")).unwrap();
    // The root of a context is where absolute links begin, as for `COPY`.
    symlink("/docker/app", root.join("absolute")).unwrap();
    symlink("../../../docker", docker.join("up")).unwrap();
    fs::write(docker.join("app.dockerignore"), "hidden\n").unwrap();
    let path = |name: &str| root.join(name).display().to_string();
    for (words, name) in [
        (vec![], "Dockerfile"),
        (vec!["-f".to_owned(), path("Dockerfile")], "Dockerfile"),
        (vec!["-f".to_owned(), path("absolute")], "absolute"),
        (vec!["-f".to_owned(), path("docker/../Dockerfile")], "Dockerfile"),
        (vec!["-f".to_owned(), path("docker/up/app")], "docker/up/app"),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let request = resolve_in(root, &words).unwrap();
        assert_eq!((request.dockerfile_name.as_str(), request.dockerfile.as_str()), (name, "FROM app\n"));
        assert_eq!(context(&request).ignore.ignores(b"hidden"), name.ends_with("/app"), "{name}");
    }
    for (name, expected) in [("docker", "expected a Dockerfile, found the directory"), ("x", "there is no `")]
    {
        let failure = message(resolve_in(root, &["-f", &path(name)]));
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn a_missing_dockerfile_is_looked_for_nearby() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let found = message(resolve_in(dir.path(), &[]));
    assert_eq!(
        found,
        format!("error: there is no `{shown}/Dockerfile`\n\nhint: `-f FILE` names another one\n")
    );
    fs::write(dir.path().join("Dockerfil"), "").unwrap();
    let found = message(resolve_in(dir.path(), &[]));
    assert!(found.ends_with(&format!("hint: did you mean `-f {shown}/Dockerfil`?\n")), "{found}");
    fs::write(dir.path().join("dockerfile"), "FROM x\n").unwrap();
    let request = resolve_in(dir.path(), &[]).unwrap();
    assert_eq!((request.dockerfile_name.as_str(), request.dockerfile.as_str()), ("dockerfile", "FROM x\n"));
    let found = message(resolve_in(&dir.path().join("absent"), &[]));
    assert_eq!(found, format!("error: the build context `{shown}/absent` does not exist\n"));
}

#[test]
fn the_epoch_is_what_was_said_nearest() {
    let environment = |text: &str| Environment::of([(EPOCH, text)]);
    let args = |text: &str| BTreeMap::from([(EPOCH.to_owned(), text.to_owned())]);
    let none = BTreeMap::new();
    for (flag, args, environment, expected) in [
        (Some(1), &args("2"), environment("3"), Some(Some(1))),
        (None, &args("2"), environment("3"), Some(Some(2))),
        (None, &none, environment("3"), Some(Some(3))),
        (None, &none, environment(""), Some(None)),
        (None, &none, environment("soon"), None),
    ] {
        assert_eq!(epoch(flag, args, &environment).ok(), expected, "{environment:?}");
    }
}

#[test]
fn the_epoch_is_a_build_argument() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let of = |words: &[&str]| resolve_in(dir.path(), words).unwrap().build_args.get(EPOCH).cloned();
    assert_eq!(of(&["--source-date-epoch", "1"]).as_deref(), Some("1"));
    let both = ["--source-date-epoch", "1", "--build-arg", "SOURCE_DATE_EPOCH=2"];
    assert_eq!(of(&both).as_deref(), Some("2"));
    assert_eq!(of(&[]), None);
}

#[test]
fn a_dockerfile_is_text() {
    let read = |bytes: &[u8]| text::read_text(bytes, Path::new("Dockerfile"));
    assert_eq!(read("RUN ä\n".as_bytes()), Ok("RUN ä\n".to_owned()));
    for (bytes, line, column) in
        [(&b"\xff"[..], 1, 1), ("FROM a\nRUN ä".as_bytes().split_at(12).0, 2, 5), (b"a\nb\n\x80c\n", 3, 1)]
    {
        assert_eq!(read(bytes), Err(Failure::not_utf8(Path::new("Dockerfile"), line, column)), "{bytes:?}");
    }
}

#[test]
fn build_arguments_come_from_the_environment_too() {
    let pairs = ["A=1", "HOME", "ABSENT", "E="].map(|text| text.parse().unwrap());
    let args = build_args(&pairs, &Environment::of([("HOME", "/home/me"), ("A", "2")]));
    let expected = [("A", "1"), ("E", ""), ("HOME", "/home/me")];
    assert_eq!(args, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn each_platform_is_built_once() {
    let asked = |text: &[&str]| -> Vec<Target> { text.iter().map(|text| text.parse().unwrap()).collect() };
    let shown =
        |text: &[&str]| -> Vec<String> { platforms(&asked(text)).iter().map(Platform::to_string).collect() };
    assert_eq!(shown(&[]), [Platform::host().to_string()]);
    assert_eq!(
        shown(&["linux/arm64", "linux/aarch64", "linux/arm64/v8", "linux/s390x"]),
        ["linux/arm64", "linux/s390x"]
    );
    let dir = folder();
    let request = resolve_in(dir.path(), &["--platform", "linux/s390x"]).unwrap();
    assert!(request.platform_is_explicit && request.platform.architecture == "s390x");
    assert!(!resolve_in(dir.path(), &[]).unwrap().platform_is_explicit);
}

#[test]
fn steps_get_what_was_asked_for() {
    let dir = folder();
    let request = resolve_in(
        dir.path(),
        &[
            "--add-host=one:10.0.0.1",
            "--add-host=gateway:host-gateway",
            "--shm-size=1m",
            "--ulimit=nofile=5:6",
            "--cgroup-parent=/a/b",
            "--memory=1g",
            "--resource=memory-swap=2g,cpuset-cpus=0",
            "--resource=memory=512m",
            "--no-cache-filter=Build,test",
            "--allow=security.insecure",
        ],
    )
    .unwrap();
    let hosts = String::from_utf8(request.run.host_files.hosts).unwrap();
    assert!(hosts.starts_with("10.0.0.1\tone\n127.0.0.1\tgateway\n"), "{hosts}");
    assert_eq!(request.run.extra_hosts, ["one", "gateway"]);
    assert_eq!(request.run.shm_size_bytes, 1 << 20);
    assert_eq!(request.run.ulimits.len(), 1);
    assert_eq!(request.run.cgroup_parent.as_deref(), Some("/a/b"));
    let limits = request.run.limits;
    assert_eq!((limits.memory_bytes, limits.memory_swap_bytes), (Some(512 << 20), Some(2 << 30)));
    assert_eq!(limits.cpuset_cpus.as_deref(), Some("0"));
    assert_eq!(request.no_cache, NoCache::Stages(vec!["build".into(), "test".into()]));
    assert!(request.allow_insecure);
    let plain = resolve_in(dir.path(), &["--shm-size=0"]).unwrap();
    assert_eq!(plain.run.shm_size_bytes, runner::Sandbox::SHM_SIZE_BYTES);
    assert!(plain.no_cache == NoCache::Never && !plain.allow_insecure);
    let failure = message(resolve_in(dir.path(), &["--resource=cpuset-cpus=a"]));
    assert!(failure.contains("`a`"), "{failure}");
}

#[test]
fn annotations_go_where_they_belong() {
    let dir = folder();
    let request = resolve_in(
        dir.path(),
        &[
            "--platform=linux/arm64",
            "--annotation=a=1",
            "--annotation=manifest[linux/arm64]:b=2",
            "--annotation=manifest[linux/amd64]:c=3",
            "--annotation=manifest-descriptor:d=4",
        ],
    )
    .unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(request.annotations, [pair("a", "1"), pair("b", "2")]);
    let failure = message(resolve_in(dir.path(), &["--annotation=index:a=1"]));
    assert!(failure.contains("has no index to annotate"), "{failure}");
}

#[test]
fn names_are_pushed_if_that_was_asked_for() {
    let dir = folder();
    let context = dir.path().to_str().unwrap();
    for (words, names, pushed) in [
        (&["-t", "a", "-t", "b"][..], 2, 0),
        (&["-t", "a", "--push"], 1, 1),
        (&["--destination", "a"], 1, 1),
        (&["--destination", "a", "--no-push"], 1, 0),
        (&["-t", "a", "--destination", "b"], 2, 1),
        (&["-t", "a", "--destination", "b", "--push"], 2, 2),
        (&["-t", "a", "-t", "a:latest"], 1, 0),
    ] {
        let line = ["lbuild", "build"].into_iter().chain(words.iter().copied()).chain([context]);
        let Verb::Build(args) = CommandLine::parse_from(line).verb else { panic!("not a build") };
        let order = Order::of(&args, &Environment::default()).unwrap();
        let delivery = Delivery::of(&order, &Environment::default()).unwrap();
        assert_eq!((delivery.names.len(), delivery.pushed.len()), (names, pushed), "{words:?}");
    }
}

#[test]
fn named_contexts_are_places() {
    let dir = folder();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join(".dockerignore"), "hidden\n").unwrap();
    let shown = other.path().display();
    let request = resolve_in(
        dir.path(),
        &[
            "--build-context",
            &format!("Dir={shown}"),
            "--build-context=base=docker-image://alpine:3",
            "--build-context=base::linux/s390x=docker-image://alpine:2",
            "--build-context=git=https://host.invalid/x.git#main:sub",
        ],
    )
    .unwrap();
    let NamedContext::Directory(context) = &request.contexts["dir"] else { panic!("a directory") };
    assert!(context.ignore.ignores(b"hidden"));
    let NamedContext::Image(image) = &request.contexts["base"] else { panic!("an image") };
    assert_eq!(image.familiar(), "alpine:3");
    assert!(matches!(&request.contexts["git"], NamedContext::Remote(_)));
    for (place, expected) in [
        ("absent", "there is no `absent` for the build context `x`"),
        ("oci-layout:///absent", "there is no `/absent` for the build context `x`"),
        ("target:stage", "made by other builds"),
        ("docker-image://UPPER", "UPPER"),
    ] {
        let failure = message(resolve_in(dir.path(), &["--build-context", &format!("x={place}")]));
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn what_cannot_be_a_context_is_told() {
    let dir = folder();
    let file = dir.path().join("Dockerfile");
    for (context, expected) in [
        (file.to_str().unwrap(), "found the file"),
        ("s3://bucket/x", "nothing is fetched by `s3`"),
        ("./absent", "the build context `./absent` does not exist"),
    ] {
        let failure = message(resolve_in(Path::new(context), &[]));
        assert!(failure.contains(expected), "{failure}");
    }
}
