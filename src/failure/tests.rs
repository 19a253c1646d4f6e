//! What users read: each message whole, as the design draws it.

use std::io;

use builder::Error;
use builder::dockerfile::diagnostic::Pos;
use builder::error::Place;
use registry::Keychain;
use runner::{Status, Usage};

use super::*;

const DOCKERFILE: &str = "FROM scratch\nCOPY target/app /app\nRUN make test\n";
const SOURCE: Source<'_> = Source { name: "Dockerfile", text: DOCKERFILE };

/// `word` in the text.
fn span(word: &str) -> Span {
    let offset = DOCKERFILE.find(word).unwrap();
    let before = &DOCKERFILE[..offset];
    let line = before.matches('\n').count() + 1;
    let column = offset - before.rfind('\n').map_or(0, |at| at + 1) + 1;
    let pos = |extra: usize| Pos {
        offset: u32::try_from(offset + extra).unwrap(),
        line: u32::try_from(line).unwrap(),
        column: u32::try_from(column + extra).unwrap(),
    };
    Span { start: pos(0), end: pos(word.len()) }
}

fn built(error: &Error) -> Failure {
    let keychain = Keychain::anonymous();
    Failure::build(error, SOURCE, &Facts { root: Some(Path::new("/state")), keychain: Some(&keychain) })
}

fn check(failure: &Failure, exit: Exit, expected: &str) {
    assert_eq!(failure.to_string(), expected);
    assert_eq!(failure.exit(), exit);
}

#[test]
fn all_diagnostics_come_at_once() {
    let diagnostics = vec![
        Diagnostic::error(span("COPY"), "unknown instruction `COPY\u{1b}[2J`").hint("did you mean `RUN`?"),
        Diagnostic::error(span("make"), "odd"),
    ];
    let expected = "error: unknown instruction `COPY\u{fffd}[2J`
 --> Dockerfile:2:1
  |
2 | COPY target/app /app
  | ^^^^
hint: did you mean `RUN`?

error: odd
 --> Dockerfile:3:5
  |
3 | RUN make test
  |     ^^^^
";
    check(&built(&Error::Dockerfile { diagnostics }), Exit::Failed, expected);
}

#[test]
fn a_missing_source_shows_the_line_that_hides_it() {
    let missing = |reason| Error::MissingSource {
        span: span("target/app"),
        path: "target/app".into(),
        place: Place::Context("/context".into()),
        reason,
    };
    let head = "error: `target/app` is not in the build context
 --> Dockerfile:2:6
  |
2 | COPY target/app /app
  |      ^^^^^^^^^^
";
    let ignored = MissingReason::Ignored { file: ".dockerignore".into(), line: 3, pattern: "target/".into() };
    for (reason, hint) in [
        (MissingReason::Absent, "hint: the build context is `/context`\n"),
        (ignored, "hint: line 3 of `.dockerignore` excludes `target/`\n"),
        (MissingReason::Near("target/ape".into()), "hint: did you mean `target/ape`?\n"),
    ] {
        check(&built(&missing(reason)), Exit::Failed, &format!("{head}{hint}"));
    }
}

#[test]
fn a_failing_command_shows_its_last_lines() {
    let failed = |exit, tail: &[u8]| {
        Error::Command(Box::new(CommandFailed {
            stage: "build".into(),
            step: (4, 6),
            span: span("RUN make test"),
            text: "RUN make test".into(),
            exit,
            tail: tail.into(),
        }))
    };
    let exit = |status, oom_limit_bytes| runner::Exit { status, oom_limit_bytes, usage: Usage::default() };
    let expected = "error: step 4/6 of stage `build` exited with code 2
 --> Dockerfile:3
  | RUN make test
  one
  two
";
    let code = failed(exit(Status::Code(2), None), b"one\n\x1b[31mtwo\x1b[0m\n");
    check(&built(&code), Exit::Failed, expected);
    let expected = "error: step 4/6 of stage `build` ran out of memory: its limit is 512 MiB
 --> Dockerfile:3
  | RUN make test
hint: raise the limit with `--memory`
";
    let memory = failed(exit(Status::Signal(9), Some(512 << 20)), b"");
    check(&built(&memory), Exit::Failed, expected);
}

fn status(status: u16) -> registry::Error {
    let url = "https://ghcr.io/v2/me/app/manifests/1".to_owned();
    let codes = vec![registry::Code { code: "DENIED".into(), message: "permission_denied".into() }];
    registry::Error::Status { method: "GET", url, status, codes, retry_after: None }
}

#[test]
fn a_refusal_says_how_to_log_in() {
    let error = Error::Push { reference: "ghcr.io/me/app:1".parse().unwrap(), source: status(403) };
    let expected = "error: cannot push `ghcr.io/me/app:1`
caused by: GET https://ghcr.io/v2/me/app/manifests/1: 403 DENIED: permission_denied

hint: no credentials for `ghcr.io` in `~/.docker/config.json`; run `lbuild login ghcr.io`
";
    check(&built(&error), Exit::Environment, expected);

    let known = registry::Credential::Basic { username: "me".into(), password: "x".into() };
    let keychain = Keychain::anonymous().and("ghcr.io", known);
    let facts = Facts { root: None, keychain: Some(&keychain) };
    let failure = Failure::delivery(&error, &facts).to_string();
    let hint = "hint: the credentials for `ghcr.io` do not suffice; run `lbuild login ghcr.io` again\n";
    assert!(failure.ends_with(hint), "{failure}");
}

#[test]
fn an_image_that_cannot_be_had_has_its_place() {
    let error = Error::Image {
        stage: None,
        reference: "ghcr.io/me/app:1".parse().unwrap(),
        span: Some(span("scratch")),
        source: ImageError::Registry(status(404)),
    };
    let expected = "error: cannot use the image `ghcr.io/me/app:1`
 --> Dockerfile:1:6
  |
1 | FROM scratch
  |      ^^^^^^^
caused by: GET https://ghcr.io/v2/me/app/manifests/1: 404 DENIED: permission_denied

hint: is the tag `1` right? `ghcr.io` has no such image
";
    check(&built(&error), Exit::Environment, expected);
}

#[test]
fn nobody_at_home_and_plain_http_have_hints() {
    let reach = |words: &str| Error::Image {
        stage: None,
        reference: "host:5000/app".parse().unwrap(),
        span: None,
        source: ImageError::Registry(registry::Error::Reach {
            url: "https://host:5000/v2/".into(),
            attempts: 3,
            source: words.into(),
        }),
    };
    for (words, hint) in [
        (
            "Connection refused (os error 111)",
            "if it speaks plain HTTP only, add `--insecure-registry host:5000`",
        ),
        ("http://host:5000: connection refused", "is a registry running at `host:5000`?\n"),
        ("received corrupt message", "if `host:5000` speaks plain HTTP, add `--insecure-registry host:5000`"),
        ("invalid peer certificate: UnknownIssuer", "add `--cacert FILE`"),
        ("failed to lookup address information", "is `host:5000` spelled right"),
        ("timeout", "is there a network"),
    ] {
        let text = built(&reach(words)).to_string();
        assert!(text.contains("\n\nhint: ") && text.contains(hint), "{text}");
    }
}

#[test]
fn a_full_disk_is_named() {
    let full = || layerfs::Error::File {
        act: "write a blob in",
        path: "/state".into(),
        source: io::Error::from_raw_os_error(28),
    };
    let expected = "error: cannot write the image
caused by: cannot write a blob in `/state`
caused by: no space left on device (os error 28)

hint: the disk of `/state` is full; `lbuild prune` frees what builds keep, `lbuild rmi` what `lbuild images` lists, and `--root DIR` takes another place
";
    check(&built(&Error::Store { act: "write the image", source: full() }), Exit::Environment, expected);
    // A step fails for its own reasons, unless it is the disk.
    let step = |source| built(&Error::Step { span: span("COPY"), act: "copy", source });
    assert_eq!(step(full()).exit(), Exit::Environment);
    assert_eq!(step(layerfs::Error::AmbiguousId { text: "x".into() }).exit(), Exit::Failed);
}

#[test]
fn an_image_of_too_many_layers_can_be_squashed() {
    let refused = |step, errno| {
        let source = layerfs::Error::Mount { step, source: io::Error::from_raw_os_error(errno) };
        built(&Error::Store { act: "open the snapshot", source }).to_string()
    };
    assert!(refused("add a layer", 22).contains("hint: an overlay file system has no more than 500 layers"));
    assert!(!refused("add a layer", 13).contains("hint:") && !refused("attach", 22).contains("hint:"));
}

#[test]
fn what_was_not_lent_is_asked_for() {
    let at = span("RUN make test");
    let secret = |source| Error::Secret { span: at, id: "token".into(), source };
    let expected = "error: the secret `token` was not given
 --> Dockerfile:3:1
  |
3 | RUN make test
  | ^^^^^^^^^^^^^
hint: `--secret id=token,src=FILE` gives it from a file, `--secret id=token,env=NAME` from a variable
";
    check(&built(&secret(None)), Exit::Failed, expected);
    let unread = built(&secret(Some(io::Error::from_raw_os_error(13)))).to_string();
    assert!(unread.contains("caused by: permission denied") && !unread.contains("hint:"), "{unread}");
    let agent = |source| built(&Error::Agent { span: at, id: "git".into(), source }).to_string();
    assert!(agent(None).contains("hint: `--ssh git` lends"), "{}", agent(None));
    let silent = agent(Some(io::Error::from_raw_os_error(111)));
    assert!(silent.contains("hint: does `ssh-add -l` reach it?"), "{silent}");
}

#[test]
fn a_program_for_another_processor_names_the_emulator() {
    let error = |platform: &str, errno| Error::Sandbox {
        span: span("RUN make test"),
        platform: platform.parse().unwrap(),
        source: runner::Error::ProgramNotExecutable {
            program: "/bin/sh".into(),
            source: io::Error::from_raw_os_error(errno),
        },
    };
    const ENOEXEC: i32 = 8;
    // No kernel has an emulator for this one.
    let foreign = built(&error("linux/sparc64", ENOEXEC)).to_string();
    assert!(foreign.contains("hint: programs of `linux/sparc64` need an emulator"), "{foreign}");
    assert!(foreign.contains("`qemu-user-static`"), "{foreign}");
    let own = built(&error(&oci::Platform::host().to_string(), ENOEXEC)).to_string();
    assert!(own.contains("hint: the program is for another processor"), "{own}");
    let denied = built(&error("linux/sparc64", 13)).to_string();
    assert!(!denied.contains("emulator"), "{denied}");
}

#[test]
fn what_cannot_be_fetched_says_why() {
    let missing = || FetchError::RunGit { source: io::Error::from_raw_os_error(2) };
    let expected = "error: cannot fetch `https://host/x.git`
caused by: there is no program `git`, which fetches repositories

hint: repositories are fetched by git: `apt-get install git`
";
    check(&Failure::fetch("https://host/x.git", &missing()), Exit::Environment, expected);
    let wrong = |error| Error::Fetch { span: span("COPY"), remote: "https://host/x".into(), source: error };
    assert_eq!(built(&wrong(missing())).exit(), Exit::Environment);
    let checksum =
        FetchError::Checksum { address: "https://host/x".into(), expected: "a".into(), found: "b".into() };
    assert_eq!(built(&wrong(checksum)).exit(), Exit::Failed);
    let neither = Failure::stdin(&FetchError::NotAnArchive { head: Vec::new() });
    check(&neither, Exit::Failed, "error: standard input is neither an archive nor a Dockerfile\n");
    check(&Failure::cancelled(), Exit::Interrupted, &format!("error: {}\n", Error::Cancelled));
}

#[test]
fn engines_and_programs_end_as_dockers() {
    let missing = runner::Error::ProgramNotFound { program: "nope".into(), searched: true };
    let failure = Failure::container(&missing).of_engine();
    check(&failure, Exit::Container(127), "error: executable file `nope` not found in `$PATH`\n");
    assert_eq!(Failure::usage("x").of_engine().exit(), Exit::ENGINE);
    assert_eq!(built(&Error::Cancelled).exit(), Exit::Interrupted);
}

#[test]
fn a_place_that_needs_no_root_is_told() {
    let failure = Failure::environment_because("lbuild needs root for building", "this is user 7".to_owned());
    let expected = "error: lbuild needs root for building
caused by: this is user 7

hint: run the same command with `sudo`
";
    check(&failure.hint("run the same command with `sudo`"), Exit::Environment, expected);
}
