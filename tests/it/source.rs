//! The workspace's own source as the tests of its shape see it: which files there are, and their code
//! without comments, string contents and unit tests. It knows no rule; `layering` and `tidy` have them.

use std::fs;
use std::path::{Path, PathBuf};

/// The libraries, from the floor up, and the command's folder last.
pub(crate) const CRATES: [&str; 6] = ["oci", "layerfs", "runner", "registry", "builder", "."];

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A Rust file: its path below the workspace, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn planted(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// The file is a test or belongs to one: a `tests` folder, or a `tests.rs` beside its module.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "benches")
    }

    /// The lines before the unit tests at the foot.
    pub(crate) fn product(&self) -> &str {
        let foot = "\n#[cfg(test)]\nmod tests {";
        self.text.find(foot).map_or(&self.text, |at| &self.text[..at])
    }
}

/// Every Rust file of the workspace, sorted by path.
pub(crate) fn files() -> Vec<Source> {
    let mut files = Vec::new();
    for krate in CRATES {
        for folder in ["src", "tests", "benches"] {
            collect(&root().join(krate).join(folder), &mut files);
        }
    }
    assert!(files.len() > 30, "found only {} files below {}", files.len(), root().display());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(folder: &Path, files: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root()).expect("below the workspace").to_string_lossy();
            let below = below.trim_start_matches("./").to_owned();
            files.push(Source { path: below, text: fs::read_to_string(&path).expect("source is UTF-8") });
        }
    }
}

/// The text with comments and the insides of literals blanked out, line for line.
pub(crate) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = literal_or_comment(rest, code.chars().next_back());
        if skip == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        // One blank for all that was there, so that neighbours stay apart, and its line ends.
        code.push(' ');
        code.extend(rest[..skip].chars().filter(|c| *c == '\n'));
        rest = &rest[skip..];
    }
    code
}

/// How many bytes of `rest` are a comment or a literal; 0 when it begins with code.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment(rest)
    } else if rest.starts_with('"') {
        string(rest)
    } else if !in_name && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br")) {
        raw_string(rest)
    } else if rest.starts_with('\'') {
        character(rest)
    } else {
        0
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br#"…"#`; a raw name such as `r#type` is code.
fn raw_string(rest: &str) -> usize {
    let start = rest.trim_start_matches('b').trim_start_matches('r');
    let hashes = start.len() - start.trim_start_matches('#').len();
    if !start[hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let open = rest.len() - start.len() + hashes + 1;
    rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len())
}

/// `'x'` and `'\n'`, but not the lifetime `'x`.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[2..].find('\'').map_or(0, |at| {
            let quoted_quote = rest[2..].starts_with('\'') || rest[2..].starts_with("\\'");
            if quoted_quote { rest[3..].find('\'').map_or(0, |more| more + 4) } else { at + 3 }
        }),
        Some((at, c)) if rest[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}

/// Whether `word` stands in `code` as a whole name.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(part_of_name)
            && !code[at + word.len()..].chars().next().is_some_and(part_of_name)
    })
}

#[test]
fn comments_and_literals_are_not_code() {
    for (text, code) in [
        ("a // unsafe\nb", "a  \nb"),
        ("a /* x /* y */ z\n */ b", "a  \n b"),
        (r#"f("un\"safe", 'x')"#, "f( ,  )"),
        ("r#\"{ \" {\"# + r#type", "  + r#type"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        (r"match c { '\'' => '{', '\\' => 1 }", "match c {   =>  ,   => 1 }"),
    ] {
        assert_eq!(code_only(text), code, "of {text}");
    }
    assert!(has_word("unsafe {", "unsafe") && !has_word("deny(unsafe_code)", "unsafe"));
}
