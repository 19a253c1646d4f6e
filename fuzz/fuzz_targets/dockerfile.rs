//! Dockerfiles; the property is `properties::dockerfile`.
#![no_main]

#[path = "../../builder/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::dockerfile(&String::from_utf8_lossy(data)));
