//! What must hold for every text whatever: each function takes one and panics where it does not. No parser may
//! panic itself, every place lies in the text, and what is printed reads back as it was.
//!
//! Called by `builder/tests/fuzz.rs` with texts of its own making, and by the targets of `fuzz/`.
#![allow(dead_code, unreachable_pub, reason = "each target of `fuzz/` takes one function of this file")]

use std::collections::HashSet;

use builder::attest::sbom::packages_of_rpm;
use builder::dockerfile::ast::{Node, nodes};
use builder::dockerfile::expand::{ExpandError, expand_heredoc, expand_word, expand_words};
use builder::dockerfile::glob::{Glob, clean, filepath_match};
use builder::dockerfile::instruction::{CopySource, Dockerfile, InstructionKind, Word};
use builder::dockerfile::{Diagnostic, Severity, Span, parse, parse_trigger};
use builder::ignore::Ignore;
use builder::remote::{Form, Remote};
use oci::Reference;

/// A Dockerfile.
pub fn dockerfile(text: &str) {
    match parse(text) {
        Err(found) => {
            assert!(found.iter().any(|found| found.severity == Severity::Error), "refused without an error");
            check_diagnostics(&found, text);
        }
        Ok(dockerfile) => {
            check_diagnostics(&dockerfile.warnings, text);
            check_instructions(&dockerfile, text);
            let seen = nodes(text).expect("what parses has entries");
            let escape = dockerfile.directives.escape;
            seen.iter().for_each(|node| check_node(node, escape));
        }
    }
    drop(parse_trigger(text));
}

fn check_diagnostics(found: &[Diagnostic], text: &str) {
    for diagnostic in found {
        if let Some(span) = diagnostic.span {
            check_span(span, text);
        }
        let shown = diagnostic.render("Dockerfile", text);
        assert!(shown.ends_with('\n') && shown.lines().count() >= 2, "{shown}");
        let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!shown.contains(obeyed), "a terminal would obey {shown:?}");
    }
}

fn check_span(span: Span, text: &str) {
    let (start, end) = (span.start.offset as usize, span.end.offset as usize);
    assert!(start <= end && text.is_char_boundary(start) && text.is_char_boundary(end), "{span:?}");
    for pos in [span.start, span.end] {
        let before = &text[..pos.offset as usize];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        assert_eq!((pos.line as usize, pos.column as usize), (line, column), "{span:?}");
    }
}

fn check_instructions(dockerfile: &Dockerfile, text: &str) {
    let mut end = 0;
    for instruction in &dockerfile.instructions {
        check_span(instruction.span, text);
        assert!(end <= instruction.span.start.offset, "instructions overlap");
        end = instruction.span.end.offset;
        check_word(&instruction.keyword, text);
        words(&instruction.kind).into_iter().for_each(|word| check_word(word, text));
    }
    let head = dockerfile.instructions.iter().find(|found| !matches!(found.kind, InstructionKind::Arg(_)));
    assert!(matches!(head.map(|head| &head.kind), Some(InstructionKind::From(_))), "no FROM at the head");
    assert!(!dockerfile.stages().stages.is_empty());
}

fn words(kind: &InstructionKind) -> Vec<&Word> {
    match kind {
        InstructionKind::From(from) => from.platform.iter().chain([&from.base]).collect(),
        InstructionKind::Run(run) => {
            let options = run.mounts.iter().flat_map(|mount| &mount.options);
            options.filter_map(|option| option.value.as_ref()).collect()
        }
        InstructionKind::Copy(copy) => {
            let flags = copy.from.iter().chain(&copy.chown).chain(&copy.chmod).chain(&copy.exclude);
            flags.chain(paths(&copy.sources)).chain([&copy.destination]).collect()
        }
        InstructionKind::Add(add) => {
            let flags = add.chown.iter().chain(&add.chmod).chain(&add.checksum).chain(&add.exclude);
            flags.chain(paths(&add.sources)).chain([&add.destination]).collect()
        }
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
            pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
        }
        InstructionKind::Arg(arguments) => {
            arguments.iter().flat_map(|argument| argument.default.iter().chain([&argument.name])).collect()
        }
        InstructionKind::Expose(words) | InstructionKind::Volume(words) => words.iter().collect(),
        InstructionKind::User(word)
        | InstructionKind::Workdir(word)
        | InstructionKind::StopSignal(word)
        | InstructionKind::Maintainer(word) => vec![word],
        InstructionKind::OnBuild(on_build) => words(&on_build.instruction.kind),
        InstructionKind::Cmd(_)
        | InstructionKind::Entrypoint(_)
        | InstructionKind::Shell(_)
        | InstructionKind::Healthcheck(_) => Vec::new(),
    }
}

fn paths(sources: &[CopySource]) -> impl Iterator<Item = &Word> {
    sources.iter().filter_map(|source| match source {
        CopySource::Path(word) => Some(word),
        CopySource::Heredoc(_) => None,
    })
}

/// Every letter of a word is found again at its place.
fn check_word(word: &Word, text: &str) {
    check_span(word.span, text);
    for (offset, letter) in word.text.char_indices().take(64) {
        let place = word.at(offset);
        check_span(place, text);
        if place != word.span {
            let there = &text[place.start.offset as usize..place.end.offset as usize];
            assert_eq!(there, letter.to_string(), "byte {offset} of `{}`", word.text);
        }
    }
}

/// The text of an entry reads back as the same entry.
fn check_node(node: &Node, escape: char) {
    let first = node.original.split('\n').next().unwrap_or_default();
    let continued = first.trim_end_matches([' ', '\t']).ends_with(escape);
    // A continuation at the end of the file leaves blanks that may end in another; ONBUILD leaves out bodies.
    if continued || first.len() > 60_000 || node.sub_cmd.is_some() || first.contains('\r') {
        return;
    }
    let directive = if escape == '`' { "# escape=`\n" } else { "\n" };
    let again = nodes(&format!("{directive}{}", node.original)).unwrap_or_else(|found| {
        panic!("`{}` does not read back: {found:?}", node.original);
    });
    let [again] = again.as_slice() else { panic!("`{}` reads back as {again:?}", node.original) };
    let essence = |node: &Node| {
        let heredocs: Vec<_> = node.heredocs.iter().map(|doc| (doc.name.clone(), doc.body())).collect();
        (node.cmd.clone(), node.json, node.flags.clone(), node.value.clone(), heredocs)
    };
    assert_eq!(essence(again), essence(node));
}

/// A text with variables.
pub fn expansion(text: &str) {
    for escape in ['\\', '`'] {
        let whole = expand_word(text, escape, &variable);
        let split = expand_words(text, escape, &variable);
        match (&whole, &split) {
            (Ok(whole), Ok(split)) => {
                let solid = |text: &str| text.split_whitespace().collect::<String>();
                assert_eq!(solid(&whole.value), solid(&split.value.concat()), "`{text}`");
                assert!(split.value.iter().all(|word| !word.is_empty()), "`{text}`");
                assert_eq!(whole.unset, split.unset);
                let distinct: HashSet<&String> = whole.unset.iter().collect();
                assert_eq!(distinct.len(), whole.unset.len());
            }
            (Err(one), Err(other)) => {
                assert_eq!(one, other);
                check_place(one, text);
            }
            _ => panic!("`{text}` has words or it has not"),
        }
        if !text.contains(['$', '\'', '"', escape]) {
            assert_eq!(whole.expect("plain").value, text);
            assert_eq!(split.expect("plain").value, text.split_whitespace().collect::<Vec<_>>());
        }
        let quoted = text.replace('\'', "");
        assert_eq!(expand_word(&format!("'{quoted}'"), escape, &variable).expect("quoted").value, quoted);
    }
    match expand_heredoc(text, &variable) {
        Ok(body) => assert!(text.contains(['$', '\\']) || body.value == text),
        Err(error) => check_place(&error, text),
    }
}

fn check_place(error: &ExpandError, text: &str) {
    assert!(text.is_char_boundary(error.offset), "{} in `{text}`", error.offset);
    assert!(!error.message.is_empty());
}

fn variable(name: &str) -> Option<String> {
    match name {
        "A" => Some("apple pie".to_owned()),
        "E" => Some(String::new()),
        "P" => Some("/usr/lib/x.tar.gz".to_owned()),
        "Q" => Some("'\"$A\\".to_owned()),
        "K" => Some("한국\n어".to_owned()),
        _ => None,
    }
}

/// The lines of a `.dockerignore` and a path.
pub fn ignoring(lines: &[u8], path: &[u8]) {
    let path = clean(path);
    let count = lines.split(|&byte| byte == b'\n').count();
    let ignore = match Ignore::parse(lines) {
        Ok(ignore) => ignore,
        Err(error) => return assert!((1..=count).contains(&error.line)),
    };
    let decision = ignore.decide(&path);
    assert_eq!(decision.ignored, ignore.ignores(&path));
    assert!(decision.line.map_or(!decision.ignored, |line| (1..=count).contains(&line)));
    if path.starts_with(b"/") || path.starts_with(b"..") {
        return;
    }
    for (at, _) in path.iter().enumerate().filter(|&(at, &byte)| at > 0 && byte == b'/') {
        let kept = !ignore.ignores(&path);
        assert!(!kept || ignore.may_reinclude_below(&path[..at]), "a walker would not have come there");
    }
}

/// One pattern and a path: a path matches below a folder that matches, and nowhere else.
pub fn matching(pattern: &[u8], path: &[u8]) {
    let (pattern, path) = (clean(pattern), clean(path));
    let _ = filepath_match(&pattern, &path);
    let Ok(glob) = Glob::path(&pattern) else { return };
    let slashes = path.iter().enumerate().filter(|&(at, &byte)| at > 0 && byte == b'/').map(|(at, _)| at);
    let ends: Vec<usize> = slashes.chain([path.len()]).collect();
    let one_by_one = ends.iter().any(|&end| glob.matches(&path[..end]));
    assert_eq!(glob.matches_or_parent(&path), one_by_one);
    if glob.matches(&path) {
        assert!(ends.iter().all(|&end| end == path.len() || glob.can_match_below(&path[..end])));
    }
    let simple = |text: &[u8]| text.is_ascii() && !text.contains(&b'\n');
    if pattern.len() <= 16
        && simple(&pattern)
        && simple(&path)
        && !pattern.iter().any(|byte| b"[]\\^".contains(byte))
    {
        assert_eq!(glob.matches(&path), matches_slowly(&pattern, &path));
    }
}

/// The same, by trying everything.
fn matches_slowly(pattern: &[u8], path: &[u8]) -> bool {
    let plain = |text: &[u8]| !text.iter().any(|byte| b"*?".contains(byte));
    match (pattern.strip_prefix(b"**"), pattern.strip_suffix(b"**")) {
        (Some(tail), _) if plain(tail) && !tail.starts_with(b"/") => path.ends_with(tail),
        (_, Some(head)) if plain(head) => path.starts_with(head),
        _ => tried(pattern, path),
    }
}

fn tried(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*'] | [b'*', b'*', b'/'] => true,
        [b'*', b'*', b'/', rest @ ..] | [b'*', b'*', rest @ ..] => {
            let below = (0..path.len()).filter(|&at| path[at] == b'/').map(|at| at + 1);
            std::iter::once(0).chain(below).any(|at| tried(rest, &path[at..]))
        }
        [b'*', rest @ ..] => {
            let end = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
            (0..=end).any(|at| tried(rest, &path[at..]))
        }
        [b'?', rest @ ..] => path.first().is_some_and(|&byte| byte != b'/') && tried(rest, &path[1..]),
        [letter, rest @ ..] => path.first() == Some(letter) && tried(rest, &path[1..]),
    }
}

/// The name of an image.
pub fn reference(text: &str) {
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert!(!reference.registry().is_empty() && !reference.repository().is_empty());
    let shown = reference.to_string();
    for shown in [shown, reference.familiar()] {
        assert_eq!(shown.parse::<Reference>().ok().as_ref(), Some(&reference), "`{text}` shows as `{shown}`");
    }
}

/// The address of a file or of a repository.
pub fn address(text: &str) {
    for form in [Form::Add, Form::Context] {
        if let Ok(Some(Remote::Git(source))) = builder::remote::parse(text, form) {
            assert!(!source.remote.wire().is_empty());
            let climbs =
                |subdir: &std::path::PathBuf| subdir.is_absolute() || subdir.iter().any(|part| part == "..");
            assert!(!source.subdir.as_ref().is_some_and(climbs), "{:?}", source.subdir);
            let option = |reference: &String| reference.is_empty() || reference.starts_with('-');
            assert!(!source.reference.as_ref().is_some_and(option), "{:?}", source.reference);
        }
    }
}

/// A database of rpm: what is read from it is no longer than it is.
pub fn rpm(database: &[u8]) {
    let packages = packages_of_rpm(database).unwrap_or_default();
    let bytes: usize = packages.iter().map(|package| package.name.len()).sum();
    // What is no text becomes signs of three bytes.
    assert!(bytes <= 3 * database.len(), "{bytes} bytes of names out of {}", database.len());
}
