//! benches/RESULTS.md: one file, a part for each bench.

use std::fs;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");

/// Replaces the part of `bench`, or adds it at the end.
pub(crate) fn replace(bench: &str, text: &str) {
    let (begin, end) = (format!("<!-- {bench} -->\n"), format!("<!-- end of {bench} -->\n"));
    let old = fs::read_to_string(FILE).unwrap_or_default();
    let old = if old.is_empty() { "# Measured\n\n".to_owned() } else { old };
    let (before, after) = match (old.split_once(&begin), old.split_once(&end)) {
        (Some((before, _)), Some((_, after))) => (before, after),
        _ => (old.as_str(), ""),
    };
    let text = format!("{before}{begin}{}\n{end}{after}", text.trim_end());
    fs::write(FILE, text).expect("the results");
}
