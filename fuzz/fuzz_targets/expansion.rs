//! Texts with variables; the property is `properties::expansion`.
#![no_main]

#[path = "../../builder/tests/properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::expansion(&String::from_utf8_lossy(data)));
