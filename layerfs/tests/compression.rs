//! What others compress: several gzip members with every optional field of the header, zstd frames with skippable ones
//! between them, as eStargz, BGZF and zstd:chunked have them.

use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder};
use layerfs::layer::codec::{Codec, decoder, detect};

fn gzip(bytes: &[u8], builder: GzBuilder) -> Vec<u8> {
    let mut encoder = builder.write(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Codec::new(oci::Compression::Zstd).compress(&mut &bytes[..], &mut out, 2).unwrap();
    out
}

/// A frame that says nothing; the format leaves sixteen magic numbers to whoever wants one.
fn skippable(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0x50 | kind, 0x2a, 0x4d, 0x18], &length.to_le_bytes()[..], bytes].concat()
}

/// Gives one byte at a time, as a network may.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(1);
        self.0.read(&mut buffer[..room])
    }
}

fn decompress(source: impl Read + Send) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    decoder(source)?.read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn members_and_frames_of_every_kind_are_one_stream() {
    let large = b"0123456789abcdef".repeat(40_000);
    let plain = GzBuilder::new;
    let members = [
        gzip(b"a", plain()),
        gzip(b"", plain().extra(b"SG\x16\0".repeat(3))),
        gzip(&large, plain().filename("name").comment("comment").mtime(7)),
        gzip(b"z", plain().extra(b"BC\x02\0\xff\xff".to_vec())),
    ];
    let frames = [
        skippable(0, b"first"),
        zstd(b"a"),
        skippable(0xf, &[0; 70_000]),
        skippable(1, b""),
        zstd(b""),
        zstd(&large),
        zstd(b"z"),
        skippable(2, b"a table of contents"),
    ];
    let expected = [b"a", &large[..], b"z"].concat();
    for (method, whole) in
        [(oci::Compression::Gzip, members.concat()), (oci::Compression::Zstd, frames.concat())]
    {
        assert_eq!(detect(&whole), method);
        assert!(decompress(&whole[..]).unwrap() == expected, "{method:?}");
        assert!(decompress(Slow(&whole)).unwrap() == expected, "{method:?}, byte by byte");
        // Zeros may fill up the rest; anything else is damage, and so is an end that comes early.
        let padded = [&whole[..], &[0; 511]].concat();
        assert!(decompress(&padded[..]).unwrap() == expected, "{method:?}, padded");
        assert!(decompress(&[&whole[..], b"x"].concat()[..]).is_err(), "{method:?}, with something behind");
        assert!(decompress(&whole[..whole.len() - 1]).is_err(), "{method:?}, cut");
    }
}
