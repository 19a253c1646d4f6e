//! Lines of a `.dockerignore`, the last of them a path; the properties are `properties::ignoring` and
//! `properties::matching`.
#![no_main]

#[path = "../../builder/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let at = data.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    let (lines, path) = data.split_at(at);
    properties::ignoring(lines, path.strip_prefix(b"\n").unwrap_or(path));
    properties::matching(lines, path.strip_prefix(b"\n").unwrap_or(path));
});
