//! Content digests: the value, a hashing writer and a verifying reader.
//!
//! Only sha256 is accepted: a digest is used as a file name and as a promise, so an algorithm that cannot be
//! verified here must not pass as one. (OCI image-spec, descriptor.md, "Digests".)

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// A sha256 digest; prints as `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest whose 32 bytes are given.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the algorithm: a safe file name.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// The first twelve digits, as people read digests.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// Parses 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Digest> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest(bytes))
    }
}

/// Upper-case digits are refused: the specification's grammar for sha256 has none, and two spellings of one
/// digest would be two file names.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest, Error> {
        text.strip_prefix("sha256:")
            .and_then(Digest::from_hex)
            .ok_or_else(|| Error::Digest { text: text.to_owned() })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Counts and hashes all that is written to it.
#[derive(Clone, Default)]
pub struct Hasher {
    state: Sha256,
    bytes: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Hasher {
        Hasher::default()
    }

    /// Takes `bytes` in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes have been taken in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that fails unless its bytes have the digest and the size that were promised.
///
/// The failure comes instead of the end of file, so a caller that reads to the end has read what it asked
/// for. No more than the promised size is ever read from the source.
pub struct Verifier<R> {
    source: R,
    hasher: Option<Hasher>,
    digest: Digest,
    size_bytes: u64,
}

/// The bytes are not what their digest promises; the payload of the [`io::Error`] that [`Verifier`] returns.
#[derive(Debug)]
pub enum Mismatch {
    /// Another number of bytes than promised.
    Size {
        /// The promised digest.
        digest: Digest,
        /// The promised size in bytes.
        expected_bytes: u64,
        /// How many bytes came, or one more than the promise if there were more.
        found_bytes: u64,
    },
    /// Another digest than promised.
    Digest {
        /// The promised digest.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Size { digest, expected_bytes, found_bytes } if found_bytes > expected_bytes => {
                write!(f, "`{digest}` is longer than the {expected_bytes} bytes that were promised")
            }
            Mismatch::Size { digest, expected_bytes, found_bytes } => {
                write!(f, "`{digest}` ends after {found_bytes} of {expected_bytes} bytes")
            }
            Mismatch::Digest { expected, found } => {
                write!(f, "digest mismatch: expected `{expected}`, found `{found}`")
            }
        }
    }
}

impl std::error::Error for Mismatch {}

impl<R: Read> Verifier<R> {
    /// Wraps `source`, which is to have this digest and this many bytes.
    pub fn new(source: R, digest: Digest, size_bytes: u64) -> Verifier<R> {
        Verifier::behind(Hasher::new(), source, digest, size_bytes)
    }

    /// Wraps `source`, which is to have what is missing behind the bytes that `known` has taken in.
    pub fn behind(known: Hasher, source: R, digest: Digest, size_bytes: u64) -> Verifier<R> {
        Verifier { source, hasher: Some(known), digest, size_bytes }
    }

    fn finish(&mut self) -> io::Result<usize> {
        let Some(hasher) = self.hasher.take() else { return Ok(0) };
        let found_bytes = hasher.bytes();
        if found_bytes != self.size_bytes {
            return Err(invalid(Mismatch::Size {
                digest: self.digest,
                expected_bytes: self.size_bytes,
                found_bytes,
            }));
        }
        let mut beyond = [0];
        if read_some(&mut self.source, &mut beyond)? != 0 {
            let found_bytes = found_bytes + 1;
            let expected_bytes = self.size_bytes;
            return Err(invalid(Mismatch::Size { digest: self.digest, expected_bytes, found_bytes }));
        }
        let found = hasher.finish();
        if found == self.digest {
            Ok(0)
        } else {
            Err(invalid(Mismatch::Digest { expected: self.digest, found }))
        }
    }
}

impl<R: Read> Read for Verifier<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(hasher) = &mut self.hasher else { return Ok(0) };
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = self.size_bytes.saturating_sub(hasher.bytes());
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = if room == 0 { 0 } else { read_some(&mut self.source, &mut buffer[..room])? };
        if count == 0 {
            return self.finish();
        }
        hasher.update(&buffer[..count]);
        Ok(count)
    }
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn invalid(mismatch: Mismatch) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, mismatch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn prints_and_parses() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let upper = EMPTY.to_uppercase();
        let upper_hex = EMPTY.replace("e3b0", "E3B0");
        let short = &EMPTY[..70];
        let path = format!("sha256:../../{}", &EMPTY[13..]);
        for text in
            ["", "sha256:", &upper, &upper_hex, short, &path, &EMPTY[7..], "sha512:00", &format!("{EMPTY}0")]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    fn verified(bytes: &[u8], digest: Digest, size: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Verifier::new(bytes, digest, size).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn verifier_accepts_only_what_was_promised() {
        let digest = Digest::of(b"hello");
        assert_eq!(verified(b"hello", digest, 5).unwrap(), b"hello");
        assert_eq!(verified(b"", Digest::of(b""), 0).unwrap(), b"");
        for (bytes, size, text) in [
            (&b"hell"[..], 5, "ends after 4 of 5 bytes"),
            (b"hello!", 5, "longer than the 5 bytes"),
            (b"hello", 4, "longer than the 4 bytes"),
            (b"jello", 5, "digest mismatch"),
        ] {
            let error = verified(bytes, digest, size).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn verifier_goes_on_behind_what_is_known() {
        let rest = |known: &[u8], rest: &[u8]| {
            let mut hasher = Hasher::new();
            hasher.update(known);
            let mut out = Vec::new();
            Verifier::behind(hasher, rest, Digest::of(b"hello"), 5).read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(rest(b"hel", b"lo").unwrap(), b"lo");
        assert_eq!(rest(b"hello", b"").unwrap(), b"");
        for (known, behind) in [(&b"jel"[..], &b"lo"[..]), (b"hel", b"l"), (b"hel", b"lo!"), (b"hello!", b"")]
        {
            assert!(rest(known, behind).is_err(), "{known:?} {behind:?}");
        }
    }
}
