//! Content digests: the value, a hashing writer and a verifying reader.
//!
//! What is written here is called by sha256; sha512, which registries may use, is read, verified and kept. No other
//! algorithm is accepted: a digest is used as a file name and as a promise, so one that cannot be verified here must
//! not pass as one. (OCI image-spec, descriptor.md, "Digests".)

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::Error;

/// How a digest is made of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// What is written here has this one.
    Sha256,
    /// Some registries' other one.
    Sha512,
}

impl Algorithm {
    /// All of them, the usual one first.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// Its name, which is that of the folder of a layout, too.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::of(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// A digest with its algorithm; prints as `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Bytes);

/// The length says which algorithm it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Bytes {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// The sha256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_bytes(Sha256::digest(bytes).into())
    }

    /// The sha256 digest whose 32 bytes are given.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(Bytes::Sha256(bytes))
    }

    /// The bytes, 32 or 64 of them.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Sha256(bytes) => bytes,
            Bytes::Sha512(bytes) => bytes,
        }
    }

    /// How it was made.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Bytes::Sha256(_) => Algorithm::Sha256,
            Bytes::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The 64 or 128 hexadecimal digits without the algorithm, which their number tells: a safe file name.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let bytes = self.as_bytes();
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// Where a layout has the blob of this digest: `blobs/sha256/<hex>`. (OCI image-spec, image-layout.md, "Blobs".)
    pub fn blob_path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm().name(), self.hex())
    }

    /// The first twelve digits, as people read digests.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// Parses 64 or 128 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Digest> {
        match text.len() {
            64 => bytes(text).map(Digest::from_bytes),
            128 => bytes(text).map(|bytes| Digest(Bytes::Sha512(bytes))),
            _ => None,
        }
    }

    /// The digest of the blob that a layout has at `path`, if its name is one. The reverse of [`Digest::blob_path`].
    pub fn from_blob_path(path: &str) -> Option<Digest> {
        path.strip_prefix("blobs/")?.replacen('/', ":", 1).parse().ok()
    }
}

/// Exactly as many bytes as there are digits for.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Upper-case digits are refused: the specification's grammar for both has none, and two spellings of one
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
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
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
        text.split_once(':')
            .and_then(|(name, hex)| Some((name, Digest::from_hex(hex)?)))
            .filter(|(name, digest)| digest.algorithm().name() == *name)
            .map(|(_, digest)| digest)
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
#[derive(Clone)]
pub struct Hasher {
    state: State,
    bytes: u64,
}

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher::new()
    }
}

impl Hasher {
    /// A hasher for sha256 that has seen nothing.
    pub fn new() -> Hasher {
        Hasher::of(Algorithm::Sha256)
    }

    /// The same for another algorithm.
    pub fn of(algorithm: Algorithm) -> Hasher {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        };
        Hasher { state, bytes: 0 }
    }

    /// Takes `bytes` in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
        self.bytes += bytes.len() as u64;
    }

    /// How many bytes have been taken in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self.state {
            State::Sha256(state) => Digest::from_bytes(state.finalize().into()),
            State::Sha512(state) => Digest(Bytes::Sha512(state.finalize().into())),
        }
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
        Verifier::behind(Hasher::of(digest.algorithm()), source, digest, size_bytes)
    }

    /// Wraps `source`, which is to have what is missing behind the bytes that `known` has taken in, by the digest's
    /// algorithm.
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
    fn sha512_is_another_digest_of_the_same_bytes() {
        const HELLO: &str = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
        let digest = Algorithm::Sha512.digest(b"hello");
        assert_eq!(digest.to_string(), HELLO);
        assert_eq!(HELLO.parse::<Digest>().unwrap(), digest);
        assert_ne!(digest, Digest::of(b"hello"));
        assert_eq!(Algorithm::Sha256.digest(b"hello"), Digest::of(b"hello"));
        for digest in [digest, Digest::of(b"hello")] {
            assert_eq!(verified(b"hello", digest, 5).unwrap(), b"hello");
            assert!(verified(b"jello", digest, 5).is_err());
            assert_eq!(Digest::from_hex(&digest.hex()), Some(digest));
            assert_eq!(Digest::from_blob_path(&digest.blob_path()), Some(digest));
        }
        assert_eq!(Digest::from_blob_path(&digest.blob_path().replace("sha512", "sha256")), None);
        assert_eq!(Digest::from_blob_path("blobs/sha256/../x"), None);
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let upper = EMPTY.to_uppercase();
        let upper_hex = EMPTY.replace("e3b0", "E3B0");
        let short = &EMPTY[..70];
        let path = format!("sha256:../../{}", &EMPTY[13..]);
        let (longer, other) = (format!("{EMPTY}0"), EMPTY.replace("sha256", "sha512"));
        let twice = format!("{EMPTY}{}", &EMPTY[7..]);
        let texts =
            ["", "sha256:", &upper, &upper_hex, short, &path, &EMPTY[7..], "sha512:00", &longer, &other];
        for text in texts.into_iter().chain([twice.as_str(), "sha384:00", ":"]) {
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
