//! `WWW-Authenticate` headers, a line each; the property is `properties::challenge`.
#![no_main]

#[path = "../../registry/tests/properties/mod.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::challenge(&String::from_utf8_lossy(data)));
