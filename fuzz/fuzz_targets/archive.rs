//! Tar archives; the property is `hold::archive`.
#![no_main]

#[path = "../../layerfs/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hold::archive(data));
