//! A bounded run of the properties that `fuzz/` looks at without end: archives bred from those of `generate` and of
//! GNU tar, and records from the keys that the reader knows. The numbers are no accident but a sequence with a fixed
//! seed, so every run is the same and a failure names its round.

mod generate;
mod hold;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use generate::Chance;

/// Runs `round` many times; a failure says in which and with what.
fn rounds(count: u64, mut make: impl FnMut(&mut Chance) -> Vec<u8>, check: impl Fn(&[u8])) {
    for round in 0..count {
        let bytes = make(&mut Chance::new(round));
        let result = catch_unwind(AssertUnwindSafe(|| check(&bytes)));
        assert!(result.is_ok(), "round {round}: {}", bytes.escape_ascii());
    }
}

/// Archives of every form that is read.
fn corpus() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir d; printf text > d/f; ln d/f g; ln -s d/f l; mkfifo p; long=$(printf 'n%.0s' $(seq 150)); : > $long
        ln -s $long ll; truncate -s 100k s; printf x >> s; for i in 1 2 3 4 5 6; do printf $i | dd of=m bs=1 seek=$((i * 9000)) conv=notrunc 2>/dev/null; done";
    let made = Command::new("sh").args(["-ec", script]).current_dir(dir.path()).status().unwrap();
    assert!(made.success());
    let mut all: Vec<Vec<u8>> =
        (0..30).map(|seed| generate::layer(&mut Chance::new(seed), 1, generate::ODD)).collect();
    for form in
        ["gnu", "oldgnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix", "v7", "ustar"]
    {
        let (sparse, names) = match form {
            "v7" | "ustar" => ("", "d g l s m"),
            _ => ("--sparse --hole-detection=raw", "."),
        };
        let command = format!("tar {sparse} -cf - --format={form} {names}");
        let out = Command::new("sh").args(["-ec", &command]).current_dir(dir.path()).output().unwrap();
        assert!(out.status.success(), "{form}: {}", String::from_utf8_lossy(&out.stderr));
        all.push(out.stdout);
    }
    all
}

#[test]
fn archives_hold() {
    let corpus = corpus();
    corpus.iter().for_each(|bytes| hold::archive(bytes));
    let change = |chance: &mut Chance| {
        let mut bytes = chance.one_of(&corpus).clone();
        for _ in 0..=chance.below(4) {
            let place = chance.below(bytes.len().max(1));
            match chance.below(6) {
                // A block goes, is doubled, or comes from elsewhere.
                0 => {
                    let start = place / 512 * 512;
                    bytes.drain(start..bytes.len().min(start + 512));
                }
                1 => {
                    let start = place / 512 * 512;
                    let block = bytes[start..bytes.len().min(start + 512)].to_vec();
                    bytes.splice(start..start, block);
                }
                2 => {
                    let other = chance.one_of(&corpus);
                    let start = chance.below(other.len()) / 512 * 512;
                    let block = other[start..other.len().min(start + 512)].to_vec();
                    let at = place / 512 * 512;
                    bytes.splice(at..at, block);
                }
                3 => bytes.truncate(place),
                _ => {
                    let value = u8::try_from(chance.below(256)).unwrap();
                    if let Some(byte) = bytes.get_mut(place) {
                        *byte = value;
                    }
                }
            }
        }
        // With fitting checksums the changes get further.
        if !chance.once_in(4) {
            for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
                hold::sum(block);
            }
        }
        bytes
    };
    rounds(4_000, change, hold::archive);
}

const RECORDS: &[&[u8]] = &[
    b"path=",
    b"linkpath=",
    b"size=",
    b"uid=",
    b"mtime=",
    b"SCHILY.xattr.user.x=",
    b"SCHILY.xattr.=",
    b"GNU.sparse.major=",
    b"GNU.sparse.minor=",
    b"GNU.sparse.name=",
    b"GNU.sparse.realsize=",
    b"GNU.sparse.size=",
    b"GNU.sparse.offset=",
    b"GNU.sparse.numbytes=",
    b"GNU.sparse.numblocks=",
    b"GNU.sparse.map=",
    b"comment=",
    b"=",
    b"",
];

const VALUES: &[&[u8]] = &[
    b"0",
    b"1",
    b"512",
    b"1024",
    b"4096",
    b"1,2,5,1",
    b"0,1",
    b"-1",
    b"1.5",
    b"-0.25",
    b"a/../b",
    b"/",
    b"..",
    b"a\0b",
    b"x\n",
    b"18446744073709551615",
    b"99999999999999999999",
    b"",
    b"\xff",
];

#[test]
fn records_hold() {
    let make = |chance: &mut Chance| {
        let mut body = Vec::new();
        for _ in 0..=chance.below(6) {
            let (key, value) = (*chance.one_of(RECORDS), *chance.one_of(VALUES));
            let rest = key.len() + value.len() + 2;
            let length = (rest..).find(|length| *length == rest + length.to_string().len()).unwrap();
            // Lengths that lie are tried too.
            let length = if chance.once_in(12) { chance.below(60) } else { length };
            body.extend(format!("{length} ").bytes().chain(key.iter().chain(value).copied()).chain([b'\n']));
        }
        body
    };
    rounds(6_000, make, hold::records);
}
