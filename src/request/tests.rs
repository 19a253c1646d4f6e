//! Arguments resolved against real directories and made-up environments.

use std::fs;

use clap::Parser;

use super::*;
use crate::args::{CommandLine, Verb};

fn resolve_in(dir: &Path, words: &[&str]) -> Result<(builder::Request, Delivery), Failure> {
    let context = dir.to_str().unwrap();
    let words = ["lbuild", "build"].into_iter().chain(words.iter().copied()).chain([context]);
    let Verb::Build(args) = CommandLine::parse_from(words).verb else { panic!("not a build") };
    resolve(&args, &Environment::default())
}

fn message(result: Result<(builder::Request, Delivery), Failure>) -> String {
    match result {
        Ok(_) => panic!("resolved"),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn the_dockerfile_is_named_as_seen_from_the_context() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    fs::create_dir(dir.path().join("docker")).unwrap();
    let other = dir.path().join("docker/app");
    fs::write(&other, "FROM x\n").unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();

    let (request, _) = resolve_in(dir.path(), &[]).unwrap();
    assert_eq!(
        (request.dockerfile_name.as_str(), request.dockerfile.as_str()),
        ("Dockerfile", "FROM scratch\n")
    );
    let (request, _) = resolve_in(dir.path(), &["-f", other.to_str().unwrap()]).unwrap();
    assert_eq!(request.dockerfile_name, "docker/app");
    let outside = outside.path().to_str().unwrap();
    let (request, _) = resolve_in(dir.path(), &["-f", outside]).unwrap();
    assert_eq!(request.dockerfile_name, outside);
}

#[test]
fn an_ignore_file_beside_the_dockerfile_wins() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("Dockerfile", "FROM scratch\n");
    let (request, _) = resolve_in(dir.path(), &[]).unwrap();
    assert!(request.context.ignore.is_empty());
    write(".dockerignore", "general\n");
    let (request, _) = resolve_in(dir.path(), &[]).unwrap();
    assert!(request.context.ignore.ignores(b"general"));
    assert_eq!(request.context.ignore_name, ".dockerignore");
    write("Dockerfile.dockerignore", "special\n");
    let (request, _) = resolve_in(dir.path(), &[]).unwrap();
    assert!(request.context.ignore.ignores(b"special") && !request.context.ignore.ignores(b"general"));
    assert_eq!(request.context.ignore_name, "Dockerfile.dockerignore");
    write("Dockerfile.dockerignore", "ok\n!\n");
    let message = message(resolve_in(dir.path(), &[]));
    assert!(message.starts_with("error: line 2 of `Dockerfile.dockerignore`"), "{message}");
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
    fs::write(dir.path().join("dockerfile"), "").unwrap();
    let found = message(resolve_in(dir.path(), &[]));
    assert!(found.ends_with(&format!("hint: did you mean `-f {shown}/dockerfile`?\n")), "{found}");
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
    let of = |words: &[&str]| resolve_in(dir.path(), words).unwrap().0.build_args.get(EPOCH).cloned();
    assert_eq!(of(&["--source-date-epoch", "1"]).as_deref(), Some("1"));
    let both = ["--source-date-epoch", "1", "--build-arg", "SOURCE_DATE_EPOCH=2"];
    assert_eq!(of(&both).as_deref(), Some("2"));
    assert_eq!(of(&[]), None);
}

#[test]
fn a_dockerfile_is_text() {
    let read = |bytes: &[u8]| read_text(bytes, Path::new("Dockerfile"));
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
fn only_this_machines_platform_is_built_for() {
    assert!(platform(None).is_ok());
    assert!(platform(Some(&Platform::host())).is_ok());
    assert!(platform(Some(&"linux/s390x".parse().unwrap())).is_err());
}
