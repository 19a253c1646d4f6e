//! Manifests and indexes; the property is `properties::manifest`.
#![no_main]

#[path = "../../registry/tests/properties/mod.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::manifest(data));
