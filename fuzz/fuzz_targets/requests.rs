//! What clients send to a registry; the property is `properties::requests`.
#![no_main]

#[path = "../../registry/tests/properties/mod.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::requests(data));
