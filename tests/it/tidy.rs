//! The house rules that a compiler does not check: heads of files, their size, the size of functions,
//! forgotten files, the number of crates on the lock file. As in `layering`, each rule is a function that
//! is also shown a planted breach.

use std::collections::BTreeSet;
use std::fs;

use crate::source::{self, Source, code_only};

/// Lines of a file, not counting its unit tests.
const FILE_WALL: usize = 600;
/// Lines of a function, from `fn` to its closing brace. A flat table or a numbered list of kernel steps
/// may pass it by saying so: `// flat: why`.
const FUNCTION_WALL: usize = 70;
/// Crates on the lock file; each is code that we answer for.
const CRATE_CEILING: usize = 260;

fn head_breach(file: &Source) -> Option<String> {
    let opens = file.text.trim_start().starts_with("//!");
    (!opens).then(|| format!("{}: opens without `//!`: say what lives here and what does not", file.path))
}

fn file_breach(file: &Source) -> Option<String> {
    let lines = file.product().lines().count();
    (!file.is_test() && lines > FILE_WALL)
        .then(|| format!("{}: {lines} lines without its tests; the wall is {FILE_WALL}", file.path))
}

fn function_breaches(file: &Source) -> Vec<String> {
    let code = code_only(file.product());
    let code: Vec<&str> = code.lines().collect();
    let text: Vec<&str> = file.text.lines().collect();
    let mut breaches = Vec::new();
    for start in (0..code.len()).filter(|line| begins_function(code[*line])) {
        let Some(end) = closing_line(&code[start..]).map(|length| start + length) else { continue };
        let exempt = text[start.saturating_sub(3)..=end].iter().any(|line| line.contains("// flat:"));
        if end - start + 1 > FUNCTION_WALL && !exempt {
            let lines = end - start + 1;
            breaches.push(format!(
                "{}:{}: a function of {lines} lines; the wall is {FUNCTION_WALL}",
                file.path,
                start + 1
            ));
        }
    }
    breaches
}

fn begins_function(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("fn ")
        || (line.contains(" fn ")
            && (line.starts_with("pub")
                || line.starts_with("const fn")
                || line.starts_with("unsafe")
                || line.starts_with("extern")))
}

/// The line, counted from the first, on which the body closes; none for a declaration without one.
fn closing_line(lines: &[&str]) -> Option<usize> {
    let mut depth = 0usize;
    for (number, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return Some(number),
                '}' => depth = depth.saturating_sub(1),
                ';' if depth == 0 && line.trim_end().ends_with(';') => return None,
                _ => {}
            }
        }
    }
    None
}

/// Files below a `src` or `tests/it` folder that no `mod` line names: they look alive and are not compiled.
fn forgotten(files: &[Source]) -> Vec<String> {
    let mut named = BTreeSet::new();
    for file in files {
        let (folder, name) = file.path.rsplit_once('/').expect("a folder");
        let stem = name.trim_end_matches(".rs");
        let below = match stem {
            "main" | "lib" | "mod" => folder.to_owned(),
            _ => format!("{folder}/{stem}"),
        };
        let code = code_only(&file.text);
        for module in
            code.split("mod ").skip(1).filter_map(|after| after.split_once(';')).map(|(name, _)| name.trim())
        {
            named.insert(format!("{below}/{module}.rs"));
            named.insert(format!("{below}/{module}/mod.rs"));
            // An integration test of one file names its helpers beside itself.
            named.insert(format!("{folder}/{module}.rs"));
            named.insert(format!("{folder}/{module}/mod.rs"));
        }
    }
    let is_root = |path: &str| {
        let (folder, name) = path.rsplit_once('/').expect("a folder");
        matches!(name, "main.rs" | "lib.rs" | "build.rs")
            || folder.ends_with("tests") && !folder.contains("src/")
            || folder.ends_with("benches")
            || folder.ends_with("/bin")
            || folder.ends_with("examples")
    };
    let lost = files.iter().filter(|file| !is_root(&file.path) && !named.contains(&file.path));
    lost.map(|file| format!("{}: no `mod` line names this file", file.path)).collect()
}

fn crates_on(lock: &str) -> usize {
    lock.lines().filter(|line| *line == "[[package]]").count()
}

fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn every_file_says_what_lives_in_it() {
    assert_none(&source::files().iter().filter_map(head_breach).collect::<Vec<_>>());
    assert!(head_breach(&Source::planted("oci/src/x.rs", "use std::fs;\n//! late")).is_some());
}

#[test]
fn files_stay_below_the_wall() {
    assert_none(&source::files().iter().filter_map(file_breach).collect::<Vec<_>>());
    let long = "//! x\n".repeat(FILE_WALL + 1);
    assert!(file_breach(&Source::planted("oci/src/x.rs", &long)).is_some());
    let tested = format!("//! x\n#[cfg(test)]\nmod tests {{\n{long}}}");
    assert!(file_breach(&Source::planted("oci/src/x.rs", &tested)).is_none());
}

#[test]
fn functions_stay_below_the_wall() {
    assert_none(&source::files().iter().flat_map(function_breaches).collect::<Vec<_>>());
    let long = |head: &str| format!("//! x\n{head}\n{}}}\n", "    g(\"}\");\n".repeat(FUNCTION_WALL));
    for head in
        ["fn f() {", "pub(crate) fn f<T: A>(\n    t: T,\n) -> U {", "impl A {\n    const fn f(&self) {"]
    {
        let breaches = function_breaches(&Source::planted("oci/src/x.rs", &long(head)));
        assert_eq!(breaches.len(), 1, "{head}");
    }
    let exempt = long("// flat: a table\nfn f() {");
    assert!(function_breaches(&Source::planted("oci/src/x.rs", &exempt)).is_empty());
    let declared = Source::planted("oci/src/x.rs", "//! x\ntrait A {\n    fn f(&self);\n}");
    assert!(function_breaches(&declared).is_empty());
}

#[test]
fn no_file_is_forgotten() {
    assert_none(&forgotten(&source::files()));
    let planted = [
        Source::planted("oci/src/lib.rs", "mod digest;\n// mod lost;"),
        Source::planted("oci/src/digest.rs", ""),
        Source::planted("oci/src/lost.rs", ""),
    ];
    assert_eq!(forgotten(&planted), ["oci/src/lost.rs: no `mod` line names this file"]);
}

#[test]
fn the_lock_file_stays_short() {
    let lock = fs::read_to_string(source::root().join("Cargo.lock")).expect("a lock file");
    let crates = crates_on(&lock);
    assert!(
        crates > 10 && crates <= CRATE_CEILING,
        "{crates} crates on the lock file, the ceiling is {CRATE_CEILING}"
    );
    assert_eq!(crates_on("[[package]]\nname = \"a\"\n\n[[package]]\nname = \"b\"\n"), 2);
}

#[test]
fn every_folder_of_test_data_says_who_reads_it() {
    let testdata = source::root().join("testdata");
    let readme = fs::read_to_string(testdata.join("README.md")).expect("testdata/README.md");
    for entry in fs::read_dir(&testdata).expect("testdata").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let told = readme.contains(&format!("`{name}/`"));
        assert!(told || !entry.path().is_dir(), "testdata/README.md does not say who reads `{name}/`");
    }
}
