//! When to try again: exponential back-off with full jitter, unless the registry says how long to wait.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::{Error, Retry};

impl Retry {
    /// Runs `act` with the number of the try, from 0, until it succeeds, fails for good, or tries are used up.
    pub(crate) fn run<T>(&self, mut act: impl FnMut(u32) -> Result<T, Error>) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            let error = match act(tries) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            tries += 1;
            let wait = error.retry_after().unwrap_or_else(|| self.pause(tries - 1));
            if !error.is_temporary() || tries >= self.attempts || wait > self.cap {
                return Err(error.after(tries));
            }
            (self.sleep)(wait);
        }
    }

    /// Somewhere between nothing and the bound, so that clients that failed together do not return together.
    pub(crate) fn pause(&self, tries: u32) -> Duration {
        let bound = self.base.saturating_mul(1 << tries.min(16)).min(self.cap);
        // A fresh hasher's keys are random; 16 bits of them are jitter enough.
        let random = RandomState::new().build_hasher().finish() & 0xffff;
        bound.mul_f64(random as f64 / 65536.0)
    }
}

/// Reads `Retry-After`: seconds, or a date. (RFC 9110, 10.2.3.)
pub(crate) fn parse_retry_after(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some((then - now).try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Status { method: "GET", url: "http://x/".to_owned(), status, codes: Vec::new(), retry_after }
    }

    fn waits(failures: Vec<Error>, attempts: u32) -> (bool, Vec<Duration>) {
        let waits = Arc::new(Mutex::new(Vec::new()));
        let recorder = waits.clone();
        let retry = Retry {
            attempts,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(8),
            sleep: Arc::new(move |wait| recorder.lock().unwrap().push(wait)),
        };
        let mut failures = failures.into_iter();
        let result = retry.run(|_| failures.next().map_or(Ok(()), Err));
        let waits = waits.lock().unwrap().clone();
        (result.is_ok(), waits)
    }

    #[test]
    fn tries_again_only_what_may_pass() {
        for (status_code, again) in
            [(408, true), (429, true), (499, true), (500, true), (503, true), (522, true)]
                .into_iter()
                .chain([400, 401, 403, 404, 405, 413, 501].map(|code| (code, false)))
        {
            assert_eq!(waits(vec![status(status_code, None)], 3).0, again, "{status_code}");
        }
    }

    #[test]
    fn waits_grow_within_bounds_and_end() {
        let (ok, waits) = waits((0..9).map(|_| status(503, None)).collect(), 7);
        assert!(!ok);
        assert_eq!(waits.len(), 6);
        for (wait, bound) in waits.iter().zip([1, 2, 4, 8, 8, 8]) {
            assert!(*wait < Duration::from_secs(bound), "{waits:?}");
        }
    }

    #[test]
    fn the_registry_may_say_how_long() {
        assert_eq!(waits(vec![status(429, Some(5))], 3), (true, vec![Duration::from_secs(5)]));
        assert_eq!(waits(vec![status(429, Some(3600))], 3), (false, vec![]), "too long to wait for");
    }

    #[test]
    fn reads_retry_after() {
        let now = OffsetDateTime::parse("Wed, 21 Oct 2015 07:28:00 GMT", &Rfc2822).unwrap();
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(parse_retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        }
    }
}
