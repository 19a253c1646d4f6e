//! Addresses of files and git repositories; the property is `properties::address`.
#![no_main]

#[path = "../../builder/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::address(&String::from_utf8_lossy(data)));
