//! The compressor against decoders that others wrote: bytes of every kind and length, matches at every edge, and digests
//! of what every level makes.

mod generate;
mod hold;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use generate::Chance;
use layerfs::layer::codec::Codec;
use layerfs::layer::deflate::{Deflate, MOST, REACH};
use oci::{Compression, Digest, Hasher};

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// A stream of blocks of at most `piece` bytes.
fn stream(deflate: &mut Deflate, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let end = bytes.len().min(at + piece);
        out.extend(deflate.block(&bytes[..at], &bytes[at..end], end == bytes.len()));
        at = end;
        if at == bytes.len() {
            return out;
        }
    }
}

/// What bytes look like.
const KINDS: usize = 9;

fn bytes(kind: usize, length: usize, chance: &mut Chance) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(length + 400);
    let byte = |chance: &mut Chance, below: usize| u8::try_from(chance.below(below)).unwrap();
    while out.len() < length {
        match kind {
            // One byte; noise; few bytes; the low bits rarely set.
            0 => out.push(7),
            1 => out.push(byte(chance, 256)),
            2 => out.push(b"ACGT"[chance.below(4)]),
            3 => out.push(byte(chance, 256) & byte(chance, 256) & byte(chance, 256)),
            // Runs of every length, around that of the longest match too.
            4 => {
                let (of, count) = (byte(chance, 256), chance.below(600) + 1);
                out.extend(std::iter::repeat_n(of, count));
            }
            // Two that alternate; words; what was before, from near or as far as a match reaches, and farther.
            5 => out.extend([b'a', byte(chance, 2)]),
            6 => {
                out.extend(*chance.one_of(&[&b"the "[..], b"layer ", b"digest\n", b"{ ", b"0x", b"manifest"]))
            }
            7 => {
                let back = [3, 257, 8193, REACH - 1, REACH, REACH + 1][chance.below(6)];
                let count = [3, 4, 7, 8, 257, 258, 259][chance.below(7)];
                match out.len().checked_sub(back) {
                    Some(from) => (from..from + count).for_each(|at| out.push(out[at])),
                    None => out.push(byte(chance, 256)),
                }
                out.push(byte(chance, 256));
            }
            // Each kind for a while.
            _ => {
                let (other, count) = (chance.below(KINDS - 1), chance.below(9000));
                out.extend(bytes(other, count, chance));
            }
        }
    }
    out.truncate(length);
    out
}

#[test]
fn every_kind_of_bytes_comes_back_at_every_level() {
    for level in 1..=9 {
        let mut deflate = Deflate::new(level);
        for kind in 0..KINDS {
            for length in [0, 1, 2, 3, 4, 5, 7, 8, 9, 258, 259, 4095, 4096, 4097, 40_000] {
                let bytes = bytes(kind, length, &mut Chance::new(length as u64));
                let packed = deflate.block(&[], &bytes, true);
                assert!(inflate(&packed) == bytes, "level {level} kind {kind} length {length}");
                assert!(packed.len() <= length + 5, "level {level} kind {kind} length {length}");
            }
        }
    }
}

#[test]
fn blocks_of_every_length_join() {
    for round in 0..160 {
        let mut chance = Chance::new(round);
        let (kind, length) = (chance.below(KINDS), chance.below(150_000));
        let bytes = bytes(kind, length, &mut chance);
        let piece = *chance.one_of(&[200, 3000, REACH - 1, REACH, REACH + 1, 70_000, MOST]);
        let level = u32::try_from(chance.below(9)).unwrap() + 1;
        let packed = stream(&mut Deflate::new(level), &bytes, piece);
        assert!(inflate(&packed) == bytes, "round {round} level {level} kind {kind} {length} by {piece}");
        assert!(packed.len() <= length + 15 * (length / piece + 1), "round {round}");
    }
}

#[test]
fn what_came_before_shows_only_in_matches() {
    let mut used = Deflate::new(6);
    for kind in 0..KINDS {
        let bytes = bytes(kind, 60_000, &mut Chance::new(3));
        let (before, block) = bytes.split_at(20_000);
        let fresh = Deflate::new(6).block(before, block, false);
        assert!(used.block(before, block, false) == fresh, "kind {kind}");
        // More than matches reach is not looked at.
        let far = [&[9; 50_000][..], &bytes[..REACH]].concat();
        assert!(used.block(&far, block, true) == used.block(&bytes[..REACH], block, true), "kind {kind}");
    }
}

#[test]
fn a_block_that_is_in_the_dictionary_takes_next_to_nothing() {
    let noise = bytes(1, 30_000, &mut Chance::new(1));
    for level in 1..=9 {
        let packed = Deflate::new(level).block(&noise, &noise[..30_000], false);
        assert!(packed.len() < 600, "level {level}: {}", packed.len());
    }
}

#[test]
fn noise_is_stored_and_what_repeats_is_not() {
    let noise = bytes(1, 100_000, &mut Chance::new(1));
    let mut deflate = Deflate::new(6);
    assert_eq!(deflate.block(&[], &noise, false).len(), 100_000 + 2 * 5);
    assert!(deflate.block(&[], &noise[..8192].repeat(8), false).len() < 12_000);
}

#[test]
fn a_higher_level_is_no_larger() {
    let mut chance = Chance::new(5);
    let mixed: Vec<u8> = [6, 8, 7, 3, 6].iter().flat_map(|kind| bytes(*kind, 60_000, &mut chance)).collect();
    let sizes: Vec<usize> =
        (1..=9).map(|level| stream(&mut Deflate::new(level), &mixed, 128 * 1024).len()).collect();
    assert!(sizes.is_sorted_by(|lower, higher| lower >= higher), "{sizes:?}");
    let mut zlib = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
    zlib.write_all(&mixed).unwrap();
    let zlib = zlib.finish().unwrap().len();
    assert!(sizes[5] <= zlib, "{} and zlib's {zlib}", sizes[5]);
}

fn gzip(bytes: &[u8], level: u32, threads: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let codec = Codec { compression: Compression::Gzip, level };
    codec.compress(&mut &bytes[..], &mut out, threads).unwrap();
    out
}

/// What a program writes to its standard output, given some bytes.
fn through(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{program}");
    output.stdout
}

#[test]
fn other_programs_read_every_level() {
    let python = "import sys,zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read(), 31))";
    let bytes = bytes(8, 600_000, &mut Chance::new(11));
    for level in 1..=9 {
        let packed = gzip(&bytes, level, 2);
        assert!(through("gzip", &["-dc"], &packed) == bytes, "gzip {level}");
        assert!(through("python3", &["-c", python], &packed) == bytes, "python {level}");
        for threads in [1, 3, 8] {
            assert!(gzip(&bytes, level, threads) == packed, "level {level} threads {threads}");
        }
    }
}

#[test]
fn any_bytes_hold() {
    for round in 0..300 {
        let mut chance = Chance::new(round);
        let (kind, length) = (chance.below(KINDS), chance.below(5000));
        hold::deflate(&bytes(kind, length, &mut chance));
    }
}

/// Other bytes are another `LAYER_FORMAT`.
#[test]
fn every_level_has_its_digest() {
    let mut found = String::new();
    for level in 1..=9 {
        let mut deflate = Deflate::new(level);
        let mut hasher = Hasher::new();
        for kind in 0..KINDS {
            let bytes = bytes(kind, 300_000, &mut Chance::new(100 + kind as u64));
            hasher.update(&stream(&mut deflate, &bytes, 128 * 1024));
        }
        let digest: Digest = hasher.finish();
        found.push_str(&format!("{level} {}\n", &digest.hex()[..32]));
    }
    assert_eq!(found, GOLDEN);
}

const GOLDEN: &str = "1 6064a6ca9b06cdb087019ced72b6b811
2 5897dc35762d126b69b8cee747270374
3 38851ece2801579c82806f3e694594ac
4 2c10e558dfadbf3b2f0e6c023b9d05a0
5 bc18586796f31937e3f57b63edf188e9
6 04e8bf06643bcf7ddd97a9d64e25a259
7 c4dfcb1a5f5036dd2a14671d3b4dfa11
8 1ce3bc24a4ff51c4c89df54904a685c7
9 c6528f4cc6572c94adff7f35eeeb1c5a
";
