//! The parsers of what comes over the wire, for whoever feeds them anything: `tests/fuzz.rs` and `fuzz/`.

use std::io::{self, Read, Write};

use crate::auth::challenge::Challenge;
use crate::auth::token;
use crate::server::Limits;
use crate::server::http::{NoHead, Wire};

/// The realm, service and scope of the challenge that these headers make; empty for `Basic`.
pub fn challenge(headers: &[&str]) -> Option<(String, Option<String>, Option<String>)> {
    Some(match Challenge::pick(headers.iter().copied())? {
        Challenge::Basic => Default::default(),
        Challenge::Bearer { realm, service, scope } => (realm, service, scope),
    })
}

/// The `Authorization` value that a token server's answer becomes.
pub fn token(answer: &[u8]) -> Option<String> {
    token::parse(answer, "a token server").ok().map(|token| token.header())
}

/// The requests, with the length of their bodies, that the server takes these bytes for.
pub fn requests(bytes: &[u8]) -> Vec<(String, u64)> {
    struct Said<'a>(&'a [u8]);
    impl Read for Said<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Said<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut wire = Wire::new(Said(bytes), Limits::default());
    let mut found = Vec::new();
    loop {
        let head = match wire.head() {
            Ok(head) => head,
            Err(NoHead::End | NoHead::Malformed(_)) => return found,
        };
        let Some(mut body) = wire.body(&head) else { return found };
        let Ok(length) = io::copy(&mut body, &mut io::sink()) else { return found };
        found.push((head.target, length));
    }
}
