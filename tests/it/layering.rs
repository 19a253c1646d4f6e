//! The walls between the crates: who may depend on whom, who may speak HTTP, who may be unsafe, who may
//! print. Each rule is a function from text to its breaches, run on the workspace and on a planted breach.
//! ARCHITECTURE.md gives the reasons.

use std::fs;

use crate::source::{self, Source, code_only, has_word};

/// A crate and the crates of ours that it may name.
const ARROWS: [(&str, &[&str]); 6] = [
    ("oci", &[]),
    ("layerfs", &["oci"]),
    ("runner", &[]),
    ("registry", &["oci"]),
    ("builder", &["oci", "layerfs", "registry", "runner"]),
    (".", &["oci", "layerfs", "registry", "runner", "builder"]),
];

/// Crates that bring HTTP, TLS or an async runtime.
const NETWORKING: [&str; 16] = [
    "async-std",
    "async-trait",
    "attohttpc",
    "axum",
    "curl",
    "futures",
    "futures-util",
    "h2",
    "http",
    "hyper",
    "isahc",
    "reqwest",
    "rustls",
    "smol",
    "tokio",
    "ureq",
];

/// What only the command may do.
const FOR_THE_COMMAND: [(&str, &str); 8] = [
    ("println!", "print"),
    ("eprintln!", "print"),
    ("print!", "print"),
    ("eprint!", "print"),
    ("env::var", "read the environment"),
    ("env::vars", "read the environment"),
    ("env::current_dir", "read the environment"),
    ("process::exit", "exit"),
];

/// Names in the tables of a manifest whose title ends with `dependencies`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[') {
            let title = title.trim_end_matches(']');
            inside = title.ends_with("dependencies") && title != "workspace.dependencies";
            if let Some((_, name)) = title.split_once("dependencies.").filter(|(of, _)| *of != "workspace.") {
                names.push(name.to_owned());
            }
        } else if inside && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.extend(Some(name.trim_matches('"').to_owned()).filter(|name| !name.is_empty()));
        }
    }
    names
}

fn arrow_breaches(krate: &str, manifest: &str) -> Vec<String> {
    let allowed = ARROWS.iter().find(|(name, _)| *name == krate).expect("a crate of the workspace").1;
    let ours = |name: &String| ARROWS.iter().any(|(of_ours, _)| of_ours == name);
    dependencies(manifest)
        .into_iter()
        .filter(|name| ours(name) && name != krate && !allowed.contains(&name.as_str()))
        .map(|name| format!("{krate} must not depend on {name}; see ARCHITECTURE.md"))
        .collect()
}

fn networking_breaches(krate: &str, manifest: &str) -> Vec<String> {
    dependencies(manifest)
        .into_iter()
        .filter(|name| krate != "registry" && NETWORKING.contains(&name.as_str()))
        .map(|name| format!("{krate} must not name {name}: only registry speaks HTTP; see ARCHITECTURE.md"))
        .collect()
}

fn unsafe_breaches(file: &Source) -> Option<String> {
    let may = ["layerfs/src/sys", "runner/src/sys"].iter().any(|room| file.path.starts_with(room));
    (!may && has_word(&code_only(&file.text), "unsafe")).then(|| {
        format!("{}: unsafe code belongs into sys.rs of layerfs or runner; see ARCHITECTURE.md", file.path)
    })
}

fn command_breaches(file: &Source) -> Vec<String> {
    if file.is_test() || file.path.starts_with("src/") {
        return Vec::new();
    }
    let code = code_only(file.product());
    FOR_THE_COMMAND
        .iter()
        .filter(|(what, _)| has_word(&code, what.trim_end_matches('!')) && code.contains(what))
        .map(|(what, verb)| {
            format!("{}: `{what}`: only the command may {verb}; see ARCHITECTURE.md", file.path)
        })
        .collect()
}

fn manifests() -> Vec<(&'static str, String)> {
    let read = |krate| fs::read_to_string(source::root().join(krate).join("Cargo.toml")).expect("a manifest");
    source::CRATES.into_iter().map(|krate| (krate, read(krate))).collect()
}

fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn arrows_point_down() {
    assert_none(
        &manifests().iter().flat_map(|(krate, text)| arrow_breaches(krate, text)).collect::<Vec<_>>(),
    );
    assert_eq!(
        arrow_breaches("layerfs", "[dependencies]\noci.workspace = true\nrunner.workspace = true\n"),
        ["layerfs must not depend on runner; see ARCHITECTURE.md"]
    );
    assert_eq!(arrow_breaches("oci", "[dev-dependencies.builder]\npath = \"../builder\"").len(), 1);
}

#[test]
fn only_registry_speaks_http() {
    assert_none(
        &manifests().iter().flat_map(|(krate, text)| networking_breaches(krate, text)).collect::<Vec<_>>(),
    );
    assert_eq!(
        networking_breaches(
            "builder",
            "[build-dependencies]\n# a comment\n\"tokio\" = { version = \"1\" }\n"
        ),
        ["builder must not name tokio: only registry speaks HTTP; see ARCHITECTURE.md"]
    );
    assert!(networking_breaches("registry", "[dependencies]\ntokio = \"1\"").is_empty());
}

#[test]
fn unsafe_stays_in_sys() {
    assert_none(&source::files().iter().filter_map(unsafe_breaches).collect::<Vec<_>>());
    let planted = |path| unsafe_breaches(&Source::planted(path, "//! x\nfn f() { unsafe { g() } }"));
    assert!(planted("builder/src/sys.rs").is_some() && planted("runner/src/run.rs").is_some());
    assert!(planted("runner/src/sys.rs").is_none());
}

#[test]
fn libraries_neither_print_nor_read_the_environment_nor_exit() {
    assert_none(&source::files().iter().flat_map(command_breaches).collect::<Vec<_>>());
    let planted = |text| command_breaches(&Source::planted("registry/src/push.rs", text));
    assert_eq!(planted("//! x\nfn f() { println!(\"{}\", 1) }").len(), 1);
    assert_eq!(planted("//! x\nfn f() { std::env::var(\"HOME\"); std::process::exit(1) }").len(), 2);
    assert!(planted("//! println!\nfn f() {}\n#[cfg(test)]\nmod tests {\n println!() }").is_empty());
}
