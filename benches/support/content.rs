//! Made-up files: the same for equal seeds, new for new ones, in part compressible. No file has another's content.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

/// How a file's bytes look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Words, which gzip makes a quarter of.
    Text,
    /// Bytes that nothing makes smaller.
    Noise,
}

/// A stream of numbers (splitmix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Two seeds give two streams.
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The words of [`Kind::Text`]: as uneven as those of a program, with numbers between them.
const WORDS: [&str; 32] = [
    "fn ",
    "let ",
    "return ",
    "struct ",
    "image",
    "layer",
    "(path)",
    " = ",
    "match ",
    "\n    ",
    "\n",
    "descriptor",
    "digest",
    ".iter()",
    "self.",
    "&mut ",
    "Option<",
    ">",
    " -> ",
    "error: ",
    "\0\0\0\0",
    "manifest",
    "size",
    "0x",
    "//",
    " the ",
    " of ",
    "registry",
    "snapshot",
    "for ",
    "in ",
    "{\n",
];

/// Fills `buffer`.
pub(crate) fn fill(buffer: &mut [u8], kind: Kind, numbers: &mut Numbers) {
    match kind {
        Kind::Noise => {
            for chunk in buffer.chunks_mut(8) {
                chunk.copy_from_slice(&numbers.next().to_le_bytes()[..chunk.len()]);
            }
        }
        Kind::Text => {
            let mut at = 0;
            while at < buffer.len() {
                let mut number = numbers.next();
                for _ in 0..10 {
                    at += put(
                        &mut buffer[at..],
                        WORDS[(number & number >> 5 & 31) as usize ^ (number >> 3 & 7) as usize],
                    );
                    number >>= 6;
                }
                at += put(&mut buffer[at..], &format!("{:x}", number & 0xfff));
            }
        }
    }
}

fn put(buffer: &mut [u8], word: &str) -> usize {
    let length = word.len().min(buffer.len());
    buffer[..length].copy_from_slice(&word.as_bytes()[..length]);
    length
}

/// Writes one file of `bytes`.
pub(crate) fn file(path: &Path, bytes: usize, kind: Kind, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let mut file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut buffer = vec![0; bytes.min(1 << 20)];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(buffer.len());
        fill(&mut buffer[..part], kind, &mut numbers);
        file.write_all(&buffer[..part]).expect("room on the disk");
        left -= part;
    }
}

/// Writes `count` files of `bytes` each below `folder`, a hundred a directory. Every third is noise if `mixed`.
pub(crate) fn files(folder: &Path, count: usize, bytes: usize, mixed: bool, seed: u64) {
    for number in 0..count {
        let sub = folder.join(format!("d{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&sub).expect("a folder");
        }
        let kind = if mixed && number % 3 == 2 { Kind::Noise } else { Kind::Text };
        file(&sub.join(format!("f{number}")), bytes, kind, seed << 32 | number as u64);
    }
}
