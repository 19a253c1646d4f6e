//! Decompression that ends where a blob grows without measure: a bomb.
//!
//! A blob may grow to [`FREE_BYTES`] whatever its size, and from there on to [`RATIO`] times what has been read of it.
//! Files of zeros grow by 1000 with gzip and by far more with zstd, so the first part is wide; the second is what
//! programs and text never reach.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::codec;

/// What a blob may grow to for nothing, in bytes.
pub(crate) const FREE_BYTES: u64 = 64 << 30;

/// How many times its size more it may grow to.
const RATIO: u64 = 200;

/// Reads what `source` holds, decompressed.
pub(crate) fn decoder<'a>(source: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    measured(source, FREE_BYTES, codec::decoder)
}

/// What `decode` makes of `source`, as long as it does not grow without measure.
pub(crate) fn measured<'a, R: Read + Send + 'a>(
    source: R,
    free_bytes: u64,
    decode: impl FnOnce(Counted<R>) -> io::Result<Box<dyn Read + Send + 'a>>,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let compressed = Arc::new(AtomicU64::new(0));
    let decoded = decode(Counted { source, bytes: Arc::clone(&compressed) })?;
    Ok(Box::new(Measured { decoded, compressed, bytes: 0, free_bytes }))
}

/// A source of which is known how much was read.
pub(crate) struct Counted<R> {
    source: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

struct Measured<'a> {
    decoded: Box<dyn Read + Send + 'a>,
    compressed: Arc<AtomicU64>,
    bytes: u64,
    free_bytes: u64,
}

impl Read for Measured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoded.read(buffer)?;
        self.bytes += count as u64;
        let paid = self.compressed.load(Ordering::Relaxed).saturating_mul(RATIO);
        if self.bytes > self.free_bytes.saturating_add(paid) {
            let free = self.free_bytes >> 30;
            let reason =
                format!("it grows to more than {free} GiB and {RATIO} times its size when decompressed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use oci::Compression;

    use super::*;
    use crate::layer::codec::Codec;

    #[test]
    fn a_bomb_ends_and_an_archive_does_not() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut bomb = Vec::new();
            Codec::new(compression).compress(&mut io::repeat(0).take(64 << 20), &mut bomb, 1).unwrap();
            let read =
                |free| io::copy(&mut measured(&bomb[..], free, codec::decoder).unwrap(), &mut io::sink());
            assert_eq!(read(64 << 20).unwrap(), 64 << 20);
            let error = read(1 << 20).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            let mut text = Vec::new();
            let words: Vec<u8> =
                (0..1_u32 << 18).flat_map(|word| (word % 5000).to_string().into_bytes()).collect();
            Codec::new(compression).compress(&mut &words[..], &mut text, 1).unwrap();
            io::copy(&mut measured(&text[..], 0, codec::decoder).unwrap(), &mut io::sink()).unwrap();
        }
        // What is not compressed does not grow.
        assert_eq!(
            io::copy(&mut measured(&[7; 5000][..], 0, codec::decoder).unwrap(), &mut io::sink()).unwrap(),
            5000
        );
    }
}
