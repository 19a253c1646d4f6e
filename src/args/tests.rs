//! Command lines, parsed.

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
        ("-q images", "images"),
        ("./images", "./images"),
        ("build images", "images"),
    ] {
        let line = parse(words(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
        let Verb::Build(build) = line.verb else { panic!("{text}: not a build") };
        assert_eq!(build.context, PathBuf::from(context), "{text}");
        assert_eq!(build.verb_implied, !text.starts_with("build"), "{text}");
    }
    assert!(matches!(parse(words("images")).unwrap().verb, Verb::Images(_)));
    assert!(matches!(parse(words("--root /x images")).unwrap().verb, Verb::Images(_)));
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
