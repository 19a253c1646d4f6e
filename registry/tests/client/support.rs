//! What the other modules share: a client that does not wait, and documents to fetch.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::{Descriptor, Digest, Manifest, MediaType, Raw};
use registry::testing::{Act, Registry, Seen};
use registry::{Client, Options, Retry};

/// Records waits instead of waiting.
#[derive(Clone, Default)]
pub(crate) struct Clock {
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Clock {
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }

    /// Options whose retries go by this clock.
    pub(crate) fn options(&self) -> Options {
        let waits = self.waits.clone();
        let sleep = Arc::new(move |wait| waits.lock().unwrap().push(wait));
        Options { retry: Retry { attempts: 4, sleep, ..Retry::default() }, ..Options::default() }
    }
}

pub(crate) fn client() -> Client {
    Client::new(Clock::default().options())
}

/// A small manifest; `note` makes it another.
pub(crate) fn manifest(note: &str) -> Vec<u8> {
    let config = Descriptor::new(MediaType::OciConfig, Digest::of(note.as_bytes()), note.len() as u64);
    Raw::write(Manifest::oci(config, Vec::new())).bytes().to_vec()
}

/// Bytes that differ everywhere.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

pub(crate) fn read(mut reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn status(status: u16) -> Act {
    Act::Status(status, Vec::new(), String::new())
}

/// `METHOD /path` of the requests to the API, without the greeting that finds out the scheme.
pub(crate) fn lines(registry: &Registry) -> Vec<String> {
    let line = |seen: &Seen| format!("{} {}", seen.method, seen.target.split('?').next().unwrap());
    registry.seen().iter().map(line).filter(|line| !line.ends_with(" /v2/")).collect()
}

/// The innermost cause of an error, as text.
pub(crate) fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
