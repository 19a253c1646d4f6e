//! Goldens of the parser: every folder of `testdata/dockerfile/err` and `ok` is a test, and what goldens
//! cannot show.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use builder::dockerfile::expand::{expand_heredoc, expand_word};
use builder::dockerfile::instruction::*;
use builder::dockerfile::{Diagnostic, ast, parse, parse_trigger};

fn folders(kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let entries = fs::read_dir(root.join("testdata/dockerfile").join(kind)).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn source(folder: &Path) -> String {
    String::from_utf8_lossy(&fs::read(folder.join("Dockerfile")).unwrap()).into_owned()
}

/// Compares with the golden, or writes it.
fn golden(path: &Path, found: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, found).unwrap();
    } else if fs::read_to_string(path).unwrap_or_default() != found {
        wrong.push(format!("{} differs; found:\n{found}", path.display()));
    }
}

fn render(diagnostics: &[Diagnostic], source: &str) -> String {
    let texts: Vec<String> = diagnostics.iter().map(|found| found.render("Dockerfile", source)).collect();
    texts.join("\n")
}

#[test]
fn every_mistake_is_shown_with_its_place() {
    let mut wrong = Vec::new();
    for folder in folders("err") {
        let source = source(&folder);
        match parse(&source) {
            Err(found) => golden(&folder.join("stderr"), &render(&found, &source), &mut wrong),
            Ok(_) => wrong.push(format!("{} parses", folder.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn entries_are_as_written_down() {
    let mut wrong = Vec::new();
    for folder in folders("ok") {
        let source = source(&folder);
        match ast::to_values(&source) {
            Ok(values) => {
                let text = serde_json::to_string_pretty(&values).unwrap() + "\n";
                golden(&folder.join("ast"), &text, &mut wrong);
            }
            Err(found) => wrong.push(format!("{}:\n{}", folder.display(), render(&found, &source))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn kinds(text: &str) -> Vec<InstructionKind> {
    let dockerfile = parse(text).unwrap_or_else(|found| panic!("{}", render(&found, text)));
    dockerfile.instructions.into_iter().map(|instruction| instruction.kind).collect()
}

/// The only instruction after `FROM scratch`.
fn one(text: &str) -> InstructionKind {
    let mut kinds = kinds(&format!("FROM scratch\n{text}\n"));
    assert_eq!(kinds.len(), 2, "{text}");
    kinds.pop().unwrap()
}

fn texts<'a>(words: impl IntoIterator<Item = &'a Word>) -> Vec<&'a str> {
    words.into_iter().map(|word| word.text.as_str()).collect()
}

#[test]
fn spans_point_at_the_words() {
    let text = "\u{feff}FROM scratch\r\nCOPY --from=\"ä b\" \\\n # c\n  über \\\r\n  [x] /dst\nENV a=b \\\n c=\"d e\"\n";
    let dockerfile = parse(text).unwrap();
    let at = |word: &Word| &text[word.span.start.offset as usize..word.span.end.offset as usize];
    let InstructionKind::Copy(copy) = &dockerfile.instructions[1].kind else { panic!() };
    assert_eq!(at(copy.from.as_ref().unwrap()), "ä b");
    let [CopySource::Path(first), CopySource::Path(second)] = &copy.sources[..] else { panic!() };
    assert_eq!((at(first), at(second), at(&copy.destination)), ("über", "[x]", "/dst"));
    assert_eq!((first.span.start.line, first.span.start.column), (4, 3));
    assert_eq!((second.span.start.line, second.span.start.column), (5, 3));
    let InstructionKind::Env(pairs) = &dockerfile.instructions[2].kind else { panic!() };
    assert_eq!((at(&pairs[0].key), at(&pairs[0].value), at(&pairs[1].value)), ("a", "b", "\"d e\""));
    for instruction in &dockerfile.instructions {
        assert_eq!(at(&instruction.keyword), instruction.keyword.text);
    }
    assert_eq!(dockerfile.instructions[1].span.end.line, 5);
}

#[test]
fn stages_are_grouped() {
    let text = "ARG V=1\n# the build\nFROM a:$V AS Build\nRUN x\nFROM build\nCOPY a b\nRUN y\nFROM scratch as third\n";
    let dockerfile = parse(text).unwrap();
    let stages = dockerfile.stages();
    assert_eq!(stages.global_arguments.len(), 1);
    let seen: Vec<_> = stages
        .stages
        .iter()
        .map(|stage| (stage.index, stage.name, stage.from.base.text.as_str(), stage.instructions.len()))
        .collect();
    assert_eq!(
        seen,
        [(0, Some("build"), "a:$V", 1), (1, None, "build", 2), (2, Some("third"), "scratch", 0)]
    );
    assert_eq!(stages.stages[0].head.comments, ["the build"]);
}

#[test]
fn comments_above_belong_to_an_instruction() {
    let text = "# syntax=x\n# one\n#\n# two\n\n#three\nFROM a\n# in \\\nRUN b \\\n# inside\n c\nRUN d\n";
    let dockerfile = parse(text).unwrap();
    let comments: Vec<_> = dockerfile.instructions.iter().map(|found| found.comments.clone()).collect();
    assert_eq!(comments, [vec!["two".to_owned(), "three".to_owned()], vec!["in \\".to_owned()], vec![]]);
    assert_eq!(dockerfile.directives.syntax.unwrap().text, "x");
}

#[test]
fn directives_are_taken_from_the_head_only() {
    for (text, escape, check) in [
        ("# escape=`\n# check=skip=all;error=true\nFROM a", '`', Some("skip=all;error=true")),
        ("#EsCaPe = `\nFROM a", '`', None),
        ("# x\n# escape=`\nFROM a", '\\', None),
        ("\n# escape=`\nFROM a", '\\', None),
        ("FROM a\n# escape=`\n", '\\', None),
        ("# escape\n# escape=`\nFROM a", '\\', None),
    ] {
        let directives = parse(text).unwrap().directives;
        assert_eq!(directives.escape, escape, "{text}");
        assert_eq!(directives.check.map(|word| word.text).as_deref(), check, "{text}");
    }
}

#[test]
fn run_is_a_line_a_list_or_a_script() {
    let command = |text: &str| match one(text) {
        InstructionKind::Run(run) => run.command,
        other => panic!("{other:?}"),
    };
    let script = |name: &str, line: &str, body: &str, shebang| {
        let (name, line, body) = (name.to_owned(), line.to_owned(), body.to_owned());
        RunCommand::Script(Script { name, line, body, shebang })
    };
    assert_eq!(command("RUN a  \"b\" $c"), RunCommand::Shell("a  \"b\" $c".into()));
    assert_eq!(command("RUN [\"a\", \"b c\"]"), RunCommand::Exec(vec!["a".into(), "b c".into()]));
    assert_eq!(command("RUN <<E\n a\n$b\nE"), script("E", "<<E", " a\n$b\n", false));
    assert_eq!(command("RUN <<-E\n\t\ta\n\t b\n\tE"), script("E", "<<-E", "a\n b\n", false));
    assert_eq!(command("RUN <<x.py\n#!/usr/bin/python3\nE\nx.py"), {
        script("x.py", "<<x.py", "#!/usr/bin/python3\nE\n", true)
    });
    assert_eq!(command("RUN cat <<E\na\nE"), RunCommand::Shell("cat <<E\na\nE".into()));
    assert_eq!(command("RUN <<-A cat && <<B cat\n\ta\n\tA\nb\nB"), {
        RunCommand::Shell("<<-A cat && <<B cat\n\ta\nAb\nB".replace("\nAb", "\nA\nb"))
    });
}

#[test]
fn run_flags_are_typed() {
    let InstructionKind::Run(run) = one(concat!(
        "RUN --mount=type=cache,target=/c,sharing=LOCKED,mode=0700,uid=1 --mount=target=/b,from=x,src=/s,rw ",
        "--mount=type=tmpfs,dst=/t,size=1.5G --mount=type=secret,target=/a/b --mount=type=secret,id=k,env=K ",
        "--mount=type=ssh,required=true --network=none --security=insecure --device=v.com/c=d,required make"
    )) else {
        panic!()
    };
    let specs: Vec<MountSpec> =
        run.mounts.iter().map(|mount| mount.resolve(&mut |word| Ok(word.text.clone())).unwrap()).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        specs,
        [
            MountSpec::Cache {
                target: "/c".into(),
                id: None,
                source: None,
                from: None,
                read_only: false,
                sharing: Sharing::Locked,
                mode: Some(0o700),
                uid: Some(1),
                gid: None
            },
            MountSpec::Bind { target: "/b".into(), source: text("/s"), from: text("x"), writable: true },
            MountSpec::Tmpfs { target: "/t".into(), size_bytes: Some(3 << 29) },
            MountSpec::Secret {
                id: "b".into(),
                target: text("/a/b"),
                env: None,
                required: false,
                mode: None,
                uid: None,
                gid: None
            },
            MountSpec::Secret {
                id: "k".into(),
                target: None,
                env: text("K"),
                required: false,
                mode: None,
                uid: None,
                gid: None
            },
            MountSpec::Ssh {
                id: "default".into(),
                target: None,
                required: true,
                mode: None,
                uid: None,
                gid: None
            },
        ]
    );
    assert_eq!((run.network, run.security), (Some(NetworkMode::None), Some(SecurityMode::Insecure)));
    assert_eq!((run.devices[0].name.text.as_str(), run.devices[0].required), ("v.com/c=d", true));
}

#[test]
fn a_mount_with_variables_waits_for_their_values() {
    let InstructionKind::Run(run) = one("RUN --mount=type=$T,target=/x,size=$S make") else { panic!() };
    let with = |kind: &'static str| {
        run.mounts[0].resolve(&mut |word| Ok(word.text.replace("$T", kind).replace("$S", "1k")))
    };
    assert_eq!(with("tmpfs"), Ok(MountSpec::Tmpfs { target: "/x".into(), size_bytes: Some(1024) }));
    assert_eq!(with("cache").unwrap_err().message, "mount option `size` is not known for `type=cache`");
    assert_eq!(with("cachee").unwrap_err().hint.as_deref(), Some("did you mean `cache`?"));
}

#[test]
fn copy_takes_paths_and_heredocs() {
    let InstructionKind::Copy(copy) = one(
        "COPY --link --parents=false --exclude=*.o --exclude=!a.o --chmod=$M <<a <<-'b' plain dir/\n$x\na\n\tz\nb",
    ) else {
        panic!()
    };
    assert!(copy.link && !copy.parents);
    assert_eq!(texts(&copy.exclude), ["*.o", "!a.o"]);
    assert_eq!(copy.chmod.unwrap().text, "$M");
    let [CopySource::Heredoc(a), CopySource::Heredoc(b), CopySource::Path(plain)] = &copy.sources[..] else {
        panic!("{:?}", copy.sources)
    };
    assert_eq!((a.name.as_str(), a.expand, a.body().as_str()), ("a", true, "$x\n"));
    assert_eq!((b.name.as_str(), b.expand, b.body().as_str()), ("b", false, "z\n"));
    assert_eq!((plain.text.as_str(), copy.destination.text.as_str()), ("plain", "dir/"));
    let InstructionKind::Copy(twins) = one("COPY <<a <<a /\n1\na\n2\na") else { panic!() };
    for source in &twins.sources {
        assert!(matches!(source, CopySource::Heredoc(heredoc) if heredoc.content == "2\n"));
    }
    let InstructionKind::Add(add) =
        one("ADD --unpack --keep-git-dir=FALSE --checksum=sha256:x [\"a b\",\"c\"]")
    else {
        panic!()
    };
    assert_eq!((add.unpack, add.keep_git_dir), (Some(true), Some(false)));
    assert!(matches!(&add.sources[..], [CopySource::Path(word)] if word.text == "a b"));
}

#[test]
fn the_rest_is_typed() {
    let words = |kind| match kind {
        InstructionKind::Expose(words) | InstructionKind::Volume(words) => words,
        other => panic!("{other:?}"),
    };
    assert_eq!(texts(&words(one("EXPOSE 90 80/udp"))), ["80/udp", "90"]);
    assert_eq!(texts(&words(one("VOLUME [\"/a b\"]"))), ["/a b"]);
    assert!(matches!(one("CMD []"), InstructionKind::Cmd(Command::Exec(args)) if args.is_empty()));
    assert!(matches!(one("CMD a b"), InstructionKind::Cmd(Command::Shell(text)) if text == "a b"));
    assert!(
        matches!(one("ENTRYPOINT ['a']"), InstructionKind::Entrypoint(Command::Shell(text)) if text == "['a']")
    );
    assert!(matches!(one("SHELL [\"a\"]"), InstructionKind::Shell(args) if args == ["a"]));
    assert!(matches!(one("WORKDIR /a b"), InstructionKind::Workdir(word) if word.text == "/a b"));
    assert!(matches!(one("HEALTHCHECK --huh NONE"), InstructionKind::Healthcheck(Healthcheck::None)));
    let InstructionKind::Healthcheck(Healthcheck::Check(check)) =
        one("HEALTHCHECK --interval=1m30s --timeout=0 --retries=2 cmd [\"a\"]")
    else {
        panic!()
    };
    assert_eq!(
        (check.interval, check.timeout, check.retries),
        (Some(Duration::from_secs(90)), None, Some(2))
    );
    assert_eq!(check.test, Command::Exec(vec!["a".into()]));
    let InstructionKind::Arg(arguments) = one("ARG a b= c=\"d e\"") else { panic!() };
    let seen: Vec<_> = arguments
        .iter()
        .map(|argument| {
            (argument.name.text.as_str(), argument.default.as_ref().map(|word| word.text.as_str()))
        })
        .collect();
    assert_eq!(seen, [("a", None), ("b", Some("")), ("c", Some("\"d e\""))]);
    let InstructionKind::Label(pairs) = one("LABEL a b c") else { panic!() };
    assert!(pairs[0].legacy);
    assert_eq!((pairs[0].key.text.as_str(), pairs[0].value.text.as_str()), ("a", "b c"));
}

#[test]
fn triggers_round_trip() {
    for text in ["RUN a \\\n b", "COPY <<A <<-B /x/\na\nA\n\tb\n\tB", "ENV a=b", "RUN cat <<E\nx\nE"] {
        let InstructionKind::OnBuild(on_build) = one(&format!("ONBUILD {text}")) else { panic!() };
        let again = parse_trigger(&on_build.trigger).unwrap_or_else(|found| panic!("{text}: {found:?}"));
        assert_eq!(again.kind.name(), on_build.instruction.kind.name());
        if let (InstructionKind::Run(a), InstructionKind::Run(b)) = (&again.kind, &on_build.instruction.kind)
        {
            assert_eq!(a.command, b.command, "{text}");
        }
    }
    for (text, part) in [
        ("", "empty"),
        ("FROM a", "cannot trigger `FROM`"),
        ("ONBUILD RUN x", "another `ONBUILD`"),
        ("RUN a\nRUN b", "one instruction"),
        ("FOO", "unknown instruction"),
    ] {
        let found = parse_trigger(text).unwrap_err();
        assert!(found[0].message.contains(part), "{text}: {found:?}");
    }
}

#[test]
fn an_empty_continuation_is_a_warning() {
    let text = "FROM a\nRUN b \\\n\n\n c\nRUN d \\\n # e\n f\n";
    let warnings = parse(text).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!((warnings[0].rule, warnings[0].span.unwrap().start.line), (Some("NoEmptyContinuation"), 4));
}

#[test]
fn very_many_errors_are_cut_off_and_warnings_are_not() {
    let found = parse(&format!("FROM a\n{}", "RUNN\n".repeat(5_000))).unwrap_err();
    assert_eq!(found.len(), 201);
    assert!(found[200].message.contains("more than 200"), "{}", found[200].message);
    let warned = parse(&format!("FROM a\n{}", "RUN a \\\n\n b\n".repeat(500))).unwrap();
    assert_eq!((warned.instructions.len(), warned.warnings.len()), (501, 500));
}

#[test]
fn hostile_nesting_ends_in_an_error() {
    let text = format!("FROM a\n{}RUN x\n", "ONBUILD ".repeat(8_000));
    let found = parse(&text).unwrap_err();
    assert!(found[0].message.contains("another `ONBUILD`"), "{found:?}");
    let text = format!("FROM a\nCMD {}\n", "[".repeat(60_000));
    assert!(matches!(one(text.strip_prefix("FROM a\n").unwrap()), InstructionKind::Cmd(Command::Shell(_))));
}

#[test]
fn an_error_inside_a_word_has_a_place_of_its_own() {
    let text =
        "FROM scratch\nENV a=\"x \\\n  ${B^}\"\nUSER ä${B^}\nCOPY [\"é\", \"/${B^}\"]\nWORKDIR /a\\\nb${\n";
    let dockerfile = parse(text).unwrap();
    let place = |word: &Word| {
        let error = expand_word(&word.text, '\\', &|_| None).unwrap_err();
        let start = error.in_word(word).span.unwrap().start;
        (start.line, start.column)
    };
    let [_, env, user, copy, workdir] = &dockerfile.instructions[..] else { panic!() };
    let InstructionKind::Env(pairs) = &env.kind else { panic!() };
    let InstructionKind::User(user) = &user.kind else { panic!() };
    let InstructionKind::Copy(copy) = &copy.kind else { panic!() };
    let InstructionKind::Workdir(workdir) = &workdir.kind else { panic!() };
    let places = [place(&pairs[0].value), place(user), place(&copy.destination), place(workdir)];
    assert_eq!(places, [(3, 3), (4, 7), (5, 14), (7, 2)]);
}

#[test]
fn an_error_inside_a_heredoc_has_a_place_of_its_own() {
    let text = "FROM scratch\nCOPY <<-A <<B /\n\tone\n\t\té ${X^}\n\tA\nfour\n${Y^}\nB\n";
    let InstructionKind::Copy(copy) = &parse(text).unwrap().instructions[1].kind.clone() else { panic!() };
    let places: Vec<_> = copy
        .sources
        .iter()
        .map(|source| {
            let CopySource::Heredoc(heredoc) = source else { panic!() };
            let error = expand_heredoc(&heredoc.body(), &|_| None).unwrap_err();
            let start = heredoc.at(error.offset).start;
            assert!(text[start.offset as usize..].starts_with("${"));
            (start.line, start.column)
        })
        .collect();
    assert_eq!(places, [(4, 5), (7, 1)]);
}

#[test]
fn a_frontend_may_be_named_in_many_ways() {
    for (head, syntax) in [
        ("# syntax=docker/dockerfile:1\n", Some("docker/dockerfile:1")),
        ("#syntax = a  \n", Some("a")),
        ("# SYNTAX=a b=c\n", Some("a b=c")),
        ("//syntax=a\n", Some("a")),
        ("// Syntax = a \n", Some("a")),
        ("{\"syntax\": \"a\"}\n", Some("a")),
        ("#!/bin/x\n# syntax=a\n", Some("a")),
        ("#!/bin/x\n//syntax=a\n", Some("a")),
        ("\u{feff}# syntax=a\r\n", Some("a")),
        ("# syntax=a\n//syntax=b\n", Some("a")),
        ("# x\n# syntax=a\n", None),
        ("\n# syntax=a\n", None),
    ] {
        let directives = parse(&format!("{head}FROM scratch\n")).unwrap().directives;
        assert_eq!(directives.syntax.map(|word| word.text).as_deref(), syntax, "{head}");
    }
    for head in ["//check=a\n", "//\n", "{}\n", "{\"syntax\": 1}\n", "FROM a\n//syntax=a\n"] {
        let found = parse(&format!("{head}FROM scratch\n")).unwrap_err();
        assert!(found[0].message.starts_with("unknown instruction"), "{head}");
    }
}

#[test]
fn a_line_has_65535_bytes_at_most() {
    for (bytes, end, fits) in [
        (65_535, "\n", true),
        (65_535, "", true),
        (65_536, "\n", false),
        (65_536, "", false),
        (65_534, "\r\n", true),
        (65_535, "\r\n", false),
    ] {
        let text = format!("FROM scratch\nRUN {}{end}", "a".repeat(bytes - 4));
        assert_eq!(parse(&text).is_ok(), fits, "{bytes} {end:?}");
        let body = format!(
            "FROM scratch\nRUN <<E\n{}{end}{}E\n",
            "a".repeat(bytes),
            if end.is_empty() { "\n" } else { "" }
        );
        assert_eq!(parse(&body).is_ok(), fits, "{bytes} {end:?} in a heredoc");
    }
}

#[test]
fn one_body_for_very_many_heredocs_is_refused() {
    let many = format!(
        "FROM scratch\nCOPY {}/x\n{}{}a\n",
        "<<a ".repeat(2_000),
        "a\n".repeat(1_999),
        "xxxxxxx\n".repeat(5_000)
    );
    let found = parse(&many).unwrap_err();
    assert!(found[0].message.contains("hold more than"), "{}", found[0].message);
}
