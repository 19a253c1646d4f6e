//! What holds for any bytes that a registry or a client may send. Used by `tests/fuzz.rs`, for a while, and by the targets
//! of `fuzz/`, without end.

use oci::{Digest, Document, ImageConfig, Raw};
use registry::testing::parsers;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A document is its bytes; what is understood of it survives being written.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(document) = Document::recognise(bytes.to_vec()) else { return };
    assert_eq!(document.descriptor().digest, Digest::of(bytes));
    assert_eq!(document.descriptor().size, bytes.len() as u64);
    match &document {
        Document::Manifest(raw) => {
            assert_eq!(raw.bytes(), bytes);
            assert!(!document.descriptor().media_type.is_index(), "a manifest is no index");
            survives(raw);
        }
        Document::Index(raw) => {
            assert_eq!(raw.bytes(), bytes);
            assert!(!document.descriptor().media_type.is_manifest(), "an index is no manifest");
            survives(raw);
        }
    }
    // What it is about is a descriptor or an error, and its entry names the document.
    drop(registry::referrers::subject(bytes));
    assert_eq!(registry::referrers::entry(&document.descriptor(), bytes).digest, Digest::of(bytes));
}

/// The same for a configuration.
pub(crate) fn config(bytes: &[u8]) {
    if let Ok(raw) = Raw::<ImageConfig>::parse(bytes.to_vec(), "image configuration") {
        survives(&raw);
    }
}

fn survives<T: Serialize + DeserializeOwned + Clone>(raw: &Raw<T>) {
    let written = Raw::write(raw.value().clone());
    let again =
        Raw::<T>::parse(written.bytes().to_vec(), "what was written").expect("what was written is read");
    assert_eq!(Raw::write(again.value().clone()).bytes(), written.bytes(), "and is written the same again");
}

/// A challenge ends, whatever it says, and can be said again.
pub(crate) fn challenge(text: &str) {
    let headers: Vec<&str> = text.split('\n').collect();
    let Some((realm, service, scope)) = parsers::challenge(&headers) else { return };
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut said = format!("Bearer realm={}", quoted(&realm));
    for (name, value) in [("service", &service), ("scope", &scope)] {
        if let Some(value) = value {
            said.push_str(&format!(",{name}={}", quoted(value)));
        }
    }
    assert_eq!(parsers::challenge(&[said.as_str()]), Some((realm, service, scope)), "{said}");
}

/// A token becomes one header value, or none.
pub(crate) fn token(bytes: &[u8]) {
    if let Some(header) = parsers::token(bytes) {
        let token = header.strip_prefix("Bearer ").expect("a bearer's header");
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "{header:?}");
    }
}

/// Requests are no longer than what came.
pub(crate) fn requests(bytes: &[u8]) {
    let found = parsers::requests(bytes);
    let total: u64 = found.iter().map(|(target, length)| target.len() as u64 + length).sum();
    assert!(total <= bytes.len() as u64, "{found:?}");
}
