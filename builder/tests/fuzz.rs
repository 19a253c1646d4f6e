//! A bounded run of the properties that `fuzz/` looks at without end: texts bred from the Dockerfiles of
//! `testdata/dockerfile` and from the words of each language. The numbers are no accident but a sequence with a
//! fixed seed, so every run is the same and a failure names its round.
#![allow(clippy::disallowed_methods)]

mod properties;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use builder::attest::sbom::packages_of_rpm;

/// Texts are cut to this many bytes, so that no round takes long.
const LONGEST: usize = 2_000;

/// A sequence of numbers that looks like chance (Marsaglia's xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).expect("below a usize")
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// Up to `most` words in a row.
    fn sentence(&mut self, words: &[&str], most: usize) -> String {
        let count = self.below(most) + 1;
        (0..count).map(|_| self.one_of(words)).collect()
    }

    /// `text` with a few changes: a stretch cut, doubled or taken from `other`, a word put in, a byte flipped.
    fn changed(&mut self, text: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
        let start = self.below(text.len().saturating_sub(LONGEST) + 1);
        let mut text = text[start..text.len().min(start + LONGEST)].to_vec();
        for _ in 0..=self.below(4) {
            let (from, to) = self.stretch(text.len());
            match self.below(5) {
                0 => drop(text.drain(from..to)),
                1 => {
                    let part = text[from..to].to_vec();
                    text.splice(from..from, part);
                }
                2 => {
                    let (start, end) = self.stretch(other.len());
                    text.splice(from..from, other[start..end].iter().copied());
                }
                3 => {
                    let word = self.one_of(words);
                    text.splice(from..from, word.bytes());
                }
                _ => {
                    let flipped = 1 << self.below(8);
                    if let Some(byte) = text.get_mut(from) {
                        *byte ^= flipped;
                    }
                }
            }
        }
        text
    }

    fn stretch(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        let to = from + self.below((length - from).min(80) + 1);
        (from, to)
    }
}

/// Runs `round` many times; a failure says in which and with what.
fn rounds(count: u64, mut make: impl FnMut(&mut Chance) -> Vec<u8>, check: impl Fn(&[u8])) {
    for round in 1..=count {
        let mut chance = Chance(round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let bytes = make(&mut chance);
        if let Err(cause) = catch_unwind(AssertUnwindSafe(|| check(&bytes))) {
            let text = String::from_utf8_lossy(&bytes);
            let path = std::env::temp_dir().join("lbuild-fuzz-input");
            drop(fs::write(&path, &bytes));
            std::panic::set_hook(Box::new(|_| {}));
            resume_unwind(Box::new(format!("round {round}, also in {}:\n{text}\n{cause:?}", path.display())));
        }
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/dockerfile");
    let folders = ["ok", "err"].map(|kind| fs::read_dir(root.join(kind)).unwrap());
    let mut files: Vec<PathBuf> =
        folders.into_iter().flatten().map(|entry| entry.unwrap().path().join("Dockerfile")).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const DOCKERFILE: &[&str] = &[
    "FROM ",
    "scratch",
    " AS ",
    "a",
    "\n",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\\\n",
    " \\\n",
    "`\n",
    "# ",
    "#",
    "# escape=`\n",
    "# syntax=x\n",
    "# check=skip=all\n",
    "#!x\n",
    "//syntax=x\n",
    "\u{feff}",
    "RUN ",
    "run ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "CMD ",
    "ENTRYPOINT ",
    "SHELL ",
    "EXPOSE ",
    "VOLUME ",
    "USER ",
    "WORKDIR ",
    "HEALTHCHECK ",
    "NONE",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "ONBUILD ",
    "FOO ",
    "--from=",
    "--mount=type=cache,target=/x",
    "--mount=",
    "--link",
    "--chown=1",
    "--",
    "--x",
    "--interval=1s ",
    ",",
    "type=",
    "secret",
    "id=",
    "size=1g",
    "[",
    "]",
    "[\"a\"]",
    "\"",
    "'",
    "\\",
    "\\\\",
    "$",
    "${A",
    "${A:-b}",
    "}",
    "=",
    "a=b",
    "<<",
    "<<E",
    "<<-E",
    "<<'E'",
    "E\n",
    "\nE\n",
    "3<<E",
    "80/tcp",
    "/",
    "é",
    "한",
    "\0",
    "\u{a0}",
    "\u{2028}",
    "\u{1b}[31m",
    "{\"syntax\":\"x\"}",
    "\\u00e9",
    "\u{fffd}",
];

#[test]
fn dockerfiles_hold_their_properties() {
    let files = corpus();
    files.iter().for_each(|file| properties::dockerfile(&text(file)));
    let make = |chance: &mut Chance| match chance.below(3) {
        0 => format!("FROM a\n{}", chance.sentence(DOCKERFILE, 40)).into_bytes(),
        1 => chance.sentence(DOCKERFILE, 40).into_bytes(),
        _ => {
            let (one, other) = (chance.below(files.len()), chance.below(files.len()));
            chance.changed(&files[one], &files[other], DOCKERFILE)
        }
    };
    rounds(3_000, make, |bytes| properties::dockerfile(&text(bytes)));
}

const WORDS: &[&str] = &[
    "$", "${", "}", "A", "E", "U", "P", "Q", "K", ":", "-", "+", "?", "#", "##", "%", "%%", "/", "//", "*",
    ".", "\\", "\\*", "`", "'", "\"", " ", "\t", "\n", "${A:-", "${P%", "${P//", "${U?", "${K#", "한", "@",
    "1", "0", "_", "é", "x", "{",
];

#[test]
fn expansions_hold_their_properties() {
    let make = |chance: &mut Chance| chance.sentence(WORDS, 24).into_bytes();
    rounds(20_000, make, |bytes| properties::expansion(&text(bytes)));
}

const PATTERNS: &[&[u8]] = &[
    b"a",
    b"b",
    b"foo",
    b"/",
    b"/",
    b"*",
    b"**",
    b"**/",
    b"/**",
    b"?",
    b"[a-b]",
    b"[^a]",
    b"[",
    b"]",
    b"\\",
    b"\\*",
    b"!",
    b"#",
    b".",
    b"..",
    b"./",
    b"^",
    b"$",
    b"+",
    b"(",
    b"-",
    b" ",
    b"\n",
    b"\n!",
    b"\xff",
    "한".as_bytes(),
    b"\r",
    b"x.o",
    b"*.o",
    b"\0",
];
const PATHS: &[&[u8]] = &[
    b"a",
    b"b",
    b"foo",
    b"/",
    b"/",
    b".",
    b"x.o",
    b"*",
    b"^",
    b"!",
    b"\xff",
    "한".as_bytes(),
    b"\n",
    b"#",
    b" ",
    b"-",
];

fn pieces(chance: &mut Chance, words: &[&[u8]], most: usize) -> Vec<u8> {
    let count = chance.below(most) + 1;
    (0..count).flat_map(|_| words[chance.below(words.len())].iter().copied()).collect()
}

/// Patterns and, after the last `|`, a path.
fn split_path(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().rposition(|&byte| byte == b'|').expect("a path");
    (&bytes[..at], &bytes[at + 1..])
}

#[test]
fn patterns_hold_their_properties() {
    let make = |chance: &mut Chance| {
        let patterns = pieces(chance, PATTERNS, 14);
        [patterns, b"|".to_vec(), pieces(chance, PATHS, 8)].concat()
    };
    rounds(30_000, make, |bytes| {
        let (patterns, path) = split_path(bytes);
        properties::ignoring(patterns, path);
        properties::matching(patterns, path);
    });
}

const NAMES: &[&str] = &[
    "a",
    "A",
    "0",
    "docker.io",
    "library",
    "localhost",
    "ghcr.io",
    "index.docker.io",
    "/",
    "/",
    ":",
    ":5000",
    ":1.0",
    "@",
    "@sha256:",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "-",
    "__",
    "_",
    ".",
    "..",
    "[::1]",
    " ",
    "é",
    "latest",
];

#[test]
fn references_hold_their_properties() {
    let make = |chance: &mut Chance| chance.sentence(NAMES, 9).into_bytes();
    rounds(30_000, make, |bytes| properties::reference(&text(bytes)));
}

const ADDRESSES: &[&str] = &[
    "https://",
    "http://",
    "ssh://",
    "git://",
    "git@",
    "user:pw@",
    "github.com",
    "host",
    ":",
    ":22",
    "/",
    "a",
    "b",
    ".git",
    "#",
    "#main",
    ":sub",
    "..",
    "?",
    "&",
    "ref=",
    "tag=v1",
    "branch=x",
    "subdir=",
    "commit=",
    "checksum=",
    "keep-git-dir=",
    "submodules=",
    "mtime=",
    "true",
    "0",
    "%2e",
    "%",
    "-",
    "é",
    " ",
    "\0",
    "[::1]",
    "c1a2b3d4",
    "@",
];

#[test]
fn addresses_hold_their_properties() {
    let make = |chance: &mut Chance| chance.sentence(ADDRESSES, 12).into_bytes();
    rounds(30_000, make, |bytes| properties::address(&text(bytes)));
}

/// Databases of rpm: whole ones, with some numbers replaced and perhaps cut off.
#[test]
fn databases_of_rpm_hold_their_properties() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("testdata/rpm");
    let files = ["Packages", "Packages.db", "rpmdb.sqlite"].map(|name| fs::read(root.join(name)).unwrap());
    for file in &files {
        assert_eq!(packages_of_rpm(file).map(|packages| packages.len()), Some(3));
        properties::rpm(file);
    }
    let make = |chance: &mut Chance| {
        let mut bytes = files[chance.below(files.len())].clone();
        for _ in 0..=chance.below(6) {
            // Most numbers that matter stand at the beginning of a page.
            let page = chance.below(bytes.len() / 512 + 1) * 512;
            let reach = if chance.below(3) == 0 { 512 } else { 48 };
            let at = (page + chance.below(reach)).min(bytes.len() - 1);
            bytes[at] = match chance.below(4) {
                0 => 0,
                1 => 0xff,
                2 => u8::try_from(chance.below(16)).unwrap(),
                _ => u8::try_from(chance.below(256)).unwrap(),
            };
        }
        if chance.below(8) == 0 {
            bytes.truncate(chance.below(bytes.len()));
        }
        bytes
    };
    rounds(30_000, make, properties::rpm);
}
