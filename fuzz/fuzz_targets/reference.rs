//! Names of images; the property is `properties::reference`.
#![no_main]

#[path = "../../builder/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::reference(&String::from_utf8_lossy(data)));
