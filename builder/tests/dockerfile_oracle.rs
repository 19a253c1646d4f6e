//! The untyped view of every Dockerfile we have, compared with the official Go parser's (PyPI package
//! `dockerfile`).
//!
//! Reads `testdata/dockerfile/ok`, and the folder named by `LBUILD_TEST_CORPUS`, `../shared/corpus` beside
//! the workspace by default. `LBUILD_TEST_PYTHON` names an interpreter that has the package; where none has,
//! the test is skipped with a word, or fails if `CI` is `true`.
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use builder::dockerfile::ast;
use serde_json::Value;

/// Prints for each file named one line of JSON: its entries, `null` if the parser refuses it, a
/// text if the package cannot hand over what the parser found.
const ORACLE: &str = r#"
import dockerfile, json, sys
for path in sys.argv[1:]:
    try:
        text = open(path, encoding="utf-8", errors="replace", newline="").read()
        entries = [dict(c._asdict()) for c in dockerfile.parse_string(text)]
        for entry in entries:
            entry["heredocs"] = [h._asdict() for h in entry["heredocs"]]
    except dockerfile.GoParseError:
        entries = None
    except UnicodeDecodeError:
        entries = "unreadable"  # it cut a letter in two
    print(json.dumps(entries))
"#;

#[test]
fn the_official_parser_sees_the_same() {
    let python = std::env::var("LBUILD_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_package = Command::new(&python).args(["-c", "import dockerfile"]).stderr(Stdio::null()).status();
    if !has_package.is_ok_and(|status| status.success()) {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(
            !ci,
            "`{python}` has no package `dockerfile`; `pip install dockerfile`, or set LBUILD_TEST_PYTHON"
        );
        eprintln!("skipped: `{python}` has no package `dockerfile`");
        return;
    }
    let files = files();
    assert!(!files.is_empty(), "no Dockerfiles found");
    let oracle = ask(&python, &files);
    let mut differences = Vec::new();
    for (file, theirs) in files.iter().zip(&oracle) {
        let bytes = std::fs::read(file).unwrap();
        let ours = ast::to_values(&String::from_utf8_lossy(&bytes)).unwrap_or(Value::Null);
        differences.extend(difference(&ours, theirs).map(|text| format!("{}: {text}", file.display())));
    }
    eprintln!("{} files compared", files.len());
    assert!(differences.is_empty(), "{} files differ:\n{}", differences.len(), differences.join("\n"));
}

/// The first entry that differs.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    if theirs.is_string() {
        return None;
    }
    let (Some(our_list), Some(their_list)) = (ours.as_array(), theirs.as_array()) else {
        return (ours.is_null() != theirs.is_null()).then(|| format!("ours {ours}\ntheirs {theirs}"));
    };
    let pair = our_list.iter().zip(their_list).find(|(ours, theirs)| !same(ours, theirs));
    if let Some((ours, theirs)) = pair {
        return Some(format!("\n  ours   {ours}\n  theirs {theirs}"));
    }
    (our_list.len() != their_list.len())
        .then(|| format!("{} and {} entries", our_list.len(), their_list.len()))
}

fn same(ours: &Value, theirs: &Value) -> bool {
    let mut theirs = theirs.clone();
    for key in ["cmd", "original"] {
        if theirs[key].is_null() {
            theirs[key] = Value::String(String::new());
        }
    }
    // The package holds an older parser, which takes `["a"] x` for JSON; BuildKit's of today takes it for a
    // command. All else about the entry must be equal.
    if theirs["json"] == true && ours["json"] == false {
        let original = ours["original"].as_str().unwrap_or_default();
        let array = original.find('[').map_or("", |at| original[at..].trim_end());
        if serde_json::from_str::<Value>(array).is_ok() {
            return false;
        }
        for key in ["json", "value"] {
            theirs[key] = ours[key].clone();
        }
    }
    // It reads flags byte by byte, which spoils letters beyond ASCII; we do not copy that.
    for flag in theirs["flags"].as_array_mut().into_iter().flatten() {
        let text = flag.as_str().unwrap_or_default();
        let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c as u32).ok()).collect();
        match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(text) => *flag = Value::String(text),
            // It cut a letter where a byte of it looks like a blank; there is nothing left to compare with.
            None => {
                theirs["flags"] = ours["flags"].clone();
                break;
            }
        }
    }
    *ours == theirs
}

fn ask(python: &str, files: &[PathBuf]) -> Vec<Value> {
    let output =
        Command::new(python).args(["-c", ORACLE]).args(files).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the oracle ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), files.len());
    answers
}

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let corpus = std::env::var_os("LBUILD_TEST_CORPUS").map(PathBuf::from);
    let mut files = Vec::new();
    collect(&root.join("testdata/dockerfile"), &mut files);
    collect(&corpus.unwrap_or_else(|| root.join("../shared/corpus")), &mut files);
    files.retain(|file| !matches!(file.extension().and_then(|e| e.to_str()), Some("md" | "stderr" | "tree")));
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.file_name().is_some_and(|name| name != "stderr" && name != "tree") {
            files.push(path);
        }
    }
}
