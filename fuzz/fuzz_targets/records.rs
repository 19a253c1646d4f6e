//! Records of PAX extended headers; the property is `hold::records`.
#![no_main]

#[path = "../../layerfs/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hold::records(data));
