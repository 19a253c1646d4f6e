//! What is compressed comes back; the property is `hold::deflate`.
#![no_main]

#[path = "../../layerfs/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hold::deflate(data));
