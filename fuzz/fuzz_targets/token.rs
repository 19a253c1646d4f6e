//! Answers of token servers; the property is `properties::token`.
#![no_main]

#[path = "../../registry/tests/properties/mod.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::token(data));
