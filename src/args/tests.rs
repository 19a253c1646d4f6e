//! Command lines, parsed.

use std::path::Path;

use super::*;

fn words(text: &str) -> Vec<OsString> {
    std::iter::once("lbuild").chain(text.split_whitespace()).map(OsString::from).collect()
}

#[test]
fn the_definition_is_sound() {
    CommandLine::command().debug_assert();
}

#[test]
fn builds_without_a_verb() {
    for (text, context) in [
        (".", "."),
        ("-f Dockerfile .", "."),
        ("-t images .", "."),
        ("-f run .", "."),
        ("--root /x -f Dockerfile dir", "dir"),
        ("--root=/x dir", "dir"),
        ("--snapshotter copy --root /x dir", "dir"),
        ("--snapshotter=vfs dir", "dir"),
        ("dir --snapshotter native", "dir"),
        ("-q images", "images"),
        ("./images", "./images"),
        ("build images", "images"),
    ] {
        let line = parse(words(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
        let Verb::Build(build) = line.verb else { panic!("{text}: not a build") };
        assert_eq!(build.input.context(), Path::new(context), "{text}");
        assert_eq!(build.verb_implied, !text.starts_with("build"), "{text}");
    }
    assert!(matches!(parse(words("images")).unwrap().verb, Verb::Images(_)));
    assert!(matches!(parse(words("--root /x images")).unwrap().verb, Verb::Images(_)));
    let line = parse(words("--snapshotter overlayfs run --snapshotter vfs image")).unwrap();
    assert_eq!(line.snapshotter, "copy".parse().ok(), "BuildKit's, Docker's and podman's names are known");
    let error = parse(words("--snapshotter zfs images")).unwrap_err().to_string();
    assert!(error.contains("expected `auto`, `overlay`, `fuse-overlayfs` or `copy`"), "{error}");
}

fn build_args(text: &str) -> Box<BuildArgs> {
    let line = parse(words(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    let Verb::Build(build) = line.verb else { panic!("{text}: not a build") };
    build
}

#[test]
fn kaniko_has_its_own_names() {
    for (text, context) in [
        ("--context dir:///work", "/work"),
        ("--context=/work", "/work"),
        ("--context tar://stdin", "-"),
        ("--context https://host/x.git", "https://host/x.git"),
        ("build dir:///work", "dir:///work"),
    ] {
        assert_eq!(build_args(text).input.context(), Path::new(context), "{text}");
    }
    let args =
        build_args("--dockerfile d --digest-file f --destination host:5000/x --skip-tls-verify --no-push .");
    assert_eq!(args.input.file.as_deref(), Some(Path::new("d")));
    assert_eq!(args.output.iidfile.as_deref(), Some(Path::new("f")));
    assert_eq!(args.image.destinations[0].familiar(), "host:5000/x:latest");
    assert!(args.output.no_push);
    assert_eq!(args.registries().insecure_registry, ["host:5000"]);
    assert!(build_args("-t host:5000/x .").registries().insecure_registry.is_empty());
}

#[test]
fn what_is_not_there_yet_is_told() {
    for (text, option) in [
        ("--cache-from type=registry,ref=x .", Some("--cache-from")),
        ("--cache-to type=inline .", Some("--cache-to")),
        ("--provenance=false --sbom=false --load .", None),
    ] {
        assert_eq!(build_args(text).unsupported.first().map(|(option, _)| option), option, "{text}");
    }
}

#[test]
fn lists_may_be_one_argument_or_several() {
    let args = build_args(
        "--platform linux/amd64,linux/arm64 --platform local --no-cache-filter a,b --no-cache-filter c \
         --allow security.insecure,network.host --ulimit core=-1 --call ast,format=json .",
    );
    assert_eq!(args.input.platforms.len(), 3);
    assert_eq!(args.course.no_cache_filter, ["a", "b", "c"]);
    assert_eq!(args.step.allow.len(), 2);
    assert_eq!(args.call().act, crate::value::Act::Ast);
    assert_eq!(build_args("--check .").call().act, crate::value::Act::Check);
}

#[test]
fn the_commands_arguments_are_its_own() {
    for (text, image, command) in [
        ("run -i -e A=1 busybox sh -c true -e --rm", "busybox", "sh -c true -e --rm"),
        ("run -i busybox -i x", "busybox", "-i x"),
        ("run -i busybox --help", "busybox", "--help"),
        ("run -i busybox -- hi", "busybox", "-- hi"),
        ("run -i busybox hi -- ho", "busybox", "hi -- ho"),
        ("run -i busybox -e A=1 --root /x", "busybox", "-e A=1 --root /x"),
        ("run -i busybox", "busybox", ""),
        ("run -i -- busybox --rm", "busybox", "--rm"),
    ] {
        let line = parse(words(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
        let Verb::Run(run) = line.verb else { panic!("{text}: not a run") };
        assert_eq!((run.image(), run.command().join(" ").as_str()), (image, command), "{text}");
        assert!(run.interactive && !run.rm && run.volumes.is_empty(), "{text}");
    }
}

#[test]
fn failures_of_run_are_told_apart() {
    for (text, expected) in [
        ("run --bad x", true),
        ("--root /x run --bad x", true),
        ("--root=/x run", true),
        ("--root run images", false),
        ("build run", false),
        ("-f run .", false),
        ("--root", false),
        ("", false),
    ] {
        assert_eq!(is_run(words(text)), expected, "{text}");
    }
}

#[test]
fn a_misspelt_verb_is_recognised() {
    let message = |text: &str| parse(words(text)).expect_err(text).to_string();
    let expected = "error: unknown verb `hstory`: did you mean `lbuild history`?\n";
    assert!(message("hstory image --no-trunc").starts_with(expected));
    assert!(message("biuld -t x .").contains("`lbuild build`"));
    assert!(message("a b").contains("unexpected argument 'b'"));
}

#[test]
fn refuses_what_it_does_not_know() {
    for text in [
        "",
        "--frobnicate .",
        "build",
        "build a b",
        "build --push .",
        "build --memory lots .",
        "build -t Upper/Case .",
        "build --network bridge .",
        "run",
        "run --bad image",
        "run -i --rn image",
        "run -v data:/x image",
        "inspect --format table x",
        "rmi",
    ] {
        let error = parse(words(text)).expect_err(text);
        assert_eq!(error.exit_code(), 2, "{text}");
    }
}
