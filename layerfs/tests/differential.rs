//! Held against GNU tar and Python's tarfile, both ways, over archives by chance: what they write is read as they read
//! it, and what is written here they read as it was meant. Needs root.

mod common;
mod generate;

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{TestStore, diff_id, id, listing, listing_of, path, run, store};
use generate::Chance;
use layerfs::entry::{Entry, Kind};
use layerfs::layer::codec::decoder;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::tar::{Limits, Reader};
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::Active;
use oci::{DiffId, Digest, Hasher};

/// Python's view of an archive, a line each, in the form of [`ours`].
const PYTHON: &str = r#"
import hashlib, sys, tarfile
def text(name): return name.encode('utf-8', 'surrogateescape').hex()
with tarfile.open(sys.argv[1], errorlevel=2) as tar:
    for m in tar:
        kind, more = 'other', ''
        if m.isreg(): kind, more = 'file', '%d %s' % (m.size, hashlib.sha256(tar.extractfile(m).read()).hexdigest())
        elif m.isdir(): kind = 'dir'
        elif m.issym(): kind, more = 'sym', text(m.linkname)
        elif m.islnk(): kind, more = 'link', text(m.linkname)
        elif m.ischr(): kind, more = 'chr', '%d %d' % (m.devmajor, m.devminor)
        elif m.isblk(): kind, more = 'blk', '%d %d' % (m.devmajor, m.devminor)
        elif m.isfifo(): kind = 'fifo'
        # A size of type float is a time with a fraction.
        print(text(m.name.rstrip('/')), kind, '%o' % (m.mode & 0o7777), m.uid, m.gid, int(m.mtime // 1), more)
"#;

fn python(archive: &Path) -> String {
    let out = Command::new("python3").args(["-c", PYTHON]).arg(archive).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The entries of an archive, a line each.
fn ours(bytes: &[u8]) -> String {
    let mut reader = Reader::new(bytes, Limits::default());
    let mut out = String::new();
    while let Some(Entry { path, kind, mode, uid, gid, mtime, .. }) = reader.next_entry().unwrap() {
        let what = match kind {
            Kind::File { size } => {
                let mut hasher = Hasher::new();
                let mut buffer = [0; 1000];
                loop {
                    match reader.read_data(&mut buffer).unwrap() {
                        0 => break,
                        count => hasher.update(&buffer[..count]),
                    }
                }
                assert_eq!(hasher.bytes(), size);
                ("file", format!("{size} {}", hasher.finish().hex()))
            }
            Kind::Directory => ("dir", String::new()),
            Kind::Symlink { target } => ("sym", hex(&target)),
            Kind::HardLink { target } => ("link", hex(&target)),
            Kind::CharDevice { major, minor } => ("chr", format!("{major} {minor}")),
            Kind::BlockDevice { major, minor } => ("blk", format!("{major} {minor}")),
            Kind::Fifo => ("fifo", String::new()),
        };
        out += &format!("{} {} {mode:o} {uid} {gid} {} {}\n", hex(&path), what.0, mtime.seconds, what.1);
    }
    out
}

/// A tree by chance, as a snapshot that is not committed.
fn tree(test: &TestStore, seed: u64) -> Option<(Active, Vec<u8>)> {
    let tar = generate::layer(&mut Chance::new(seed), 0, generate::ODD);
    let active = test.store.snapshots().prepare(None).unwrap();
    unpack_layer(&tar[..], &active, diff_id(&tar)).ok()?;
    Some((active, tar))
}

fn file(test: &TestStore, bytes: &[u8]) -> PathBuf {
    let file = test.dir.path().join("archive.tar");
    std::fs::write(&file, bytes).unwrap();
    file
}

#[test]
fn python_reads_what_is_written_here() {
    let test = store();
    for seed in 0..40 {
        let tar = generate::layer(&mut Chance::new(seed), 1, generate::ODD);
        assert_eq!(python(&file(&test, &tar)), ours(&tar), "seed {seed}");
    }
}

#[test]
fn gnu_tar_unpacks_what_is_written_here() {
    let test = store();
    let mut trees = 0;
    for seed in 100..130 {
        let Some((active, _)) = tree(&test, seed) else { continue };
        let snapshots = test.store.snapshots();
        let expected = listing_of(active.root());
        snapshots.commit(active, &id(&seed.to_string())).unwrap();
        let mut layer = Vec::new();
        pack(&snapshots.changes(&id(&seed.to_string())).unwrap(), PackOptions::default(), &mut layer)
            .unwrap();
        let out = tempfile::tempdir_in(test.dir.path()).unwrap();
        let flags = [
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=user.*",
            "--xattrs-include=security.capability",
        ];
        let made = Command::new("tar")
            .args(flags)
            .arg("-xpf")
            .arg(file(&test, &layer))
            .arg("-C")
            .arg(out.path())
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&made.stderr));
        assert_eq!(listing(out.path()), expected, "seed {seed}");
        trees += 1;
    }
    assert!(trees > 15, "{trees}");
}

#[test]
fn what_gnu_tar_and_python_write_is_read_as_they_read_it() {
    let test = store();
    // By absolute names, as a detached mount has no path to be in.
    let write = "import os, sys, tarfile\nform = {'pax': tarfile.PAX_FORMAT, 'gnu': tarfile.GNU_FORMAT}[sys.argv[2]]\n\
        with tarfile.open(sys.argv[1], 'w', format=form) as tar:\n\
        \x20   for name in sorted(os.listdir(sys.argv[3])): tar.add(sys.argv[3] + '/' + name, arcname=name)";
    let mut trees = 0;
    for seed in 200..220 {
        let Some((active, _)) = tree(&test, seed) else { continue };
        for format in ["gnu", "pax", "python-gnu", "python-pax"] {
            let archive = test.dir.path().join("archive.tar");
            let mut command = match format.strip_prefix("python-") {
                Some(format) => {
                    let mut command = Command::new("python3");
                    command.args(["-c", write]).arg(&archive).arg(format);
                    command.arg(format!("/proc/{}/fd/{}", std::process::id(), active.root().as_raw_fd()));
                    command
                }
                None => {
                    let mut command = Command::new("tar");
                    command.args(["--numeric-owner", "--exclude=./list", "-cf"]).arg(&archive);
                    command.arg(format!("--format={format}")).arg(".");
                    command
                }
            };
            let made = command.current_dir(path(active.root())).output().unwrap();
            assert!(made.status.success(), "{format} {seed}: {}", String::from_utf8_lossy(&made.stderr));
            let bytes = std::fs::read(&archive).unwrap();
            // Python keeps the `./` that GNU tar writes.
            let theirs = python(&archive).replace("\n2e2f", "\n").replace(" link 2e2f", " link ");
            let (theirs, ours) = (without_prefix(&theirs), ours(&bytes));
            assert_eq!(ours, theirs, "{format} {seed}");
        }
        trees += 1;
    }
    assert!(trees > 10, "{trees}");
}

/// Names without the `./` at their beginning, the root as the empty one.
fn without_prefix(lines: &str) -> String {
    let cut = |line: &str| {
        let root = || line.strip_prefix("2e").filter(|rest| rest.starts_with(' '));
        let line = line.strip_prefix("2e2f").or_else(root).unwrap_or(line);
        match line.split_once(" link ") {
            Some((before, after)) => {
                let mut words: Vec<&str> = after.split(' ').collect();
                if let Some(last) = words.last_mut() {
                    *last = last.strip_prefix("2e2f").unwrap_or(last);
                }
                format!("{before} link {}\n", words.join(" "))
            }
            None => format!("{line}\n"),
        }
    };
    lines.lines().map(cut).collect()
}

/// Files with holes at the beginning, in the middle and at the end; with more pieces than a header holds.
const SPARSE: &str = "truncate -s 3M all-hole; printf end > one; truncate -s 1M one
    truncate -s 2M begin; printf end >> begin
    for i in $(seq 40); do printf $i | dd of=many bs=1 seek=$((i * 100000)) conv=notrunc 2>/dev/null; done; truncate -s 5M many
    printf dense > dense; dd if=many of=exact bs=4096 count=1 conv=sparse 2>/dev/null; : > nothing";

/// An archive of the directory with these, by GNU tar, in each form that it has for them; and the form's name.
fn sparse_archives(test: &TestStore, source: &Active) -> Vec<(PathBuf, String)> {
    let forms = [("gnu", "-"), ("oldgnu", "-"), ("posix", "0.0"), ("posix", "0.1"), ("posix", "1.0")];
    let made = forms.map(|(format, version)| {
        let archive = test.dir.path().join(format!("{format}{version}.tar"));
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "--sparse", "--hole-detection=raw", "-cf"]).arg(&archive);
        tar.arg(format!("--format={format}"));
        if version != "-" {
            tar.arg(format!("--sparse-version={version}"));
        }
        let made = tar.arg(".").current_dir(path(source.root())).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let bytes = archive.metadata().unwrap().len();
        assert!(bytes < 2 << 20, "{format} {version}: nothing sparse about {bytes} bytes");
        (archive, format!("{format} {version}"))
    });
    made.into()
}

#[test]
fn sparse_files_of_every_form_are_read() {
    let test = store();
    let source = test.store.snapshots().prepare(None).unwrap();
    run(source.root(), SPARSE);
    let expected = listing_of(source.root());
    for (archive, form) in sparse_archives(&test, &source) {
        let bytes = std::fs::read(&archive).unwrap();
        let active = test.store.snapshots().prepare(None).unwrap();
        unpack_layer(&bytes[..], &active, diff_id(&bytes)).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(listing_of(active.root()), expected, "{form}");
        assert_eq!(
            Digest::of(ours(&bytes).as_bytes()),
            Digest::of(without_prefix(&python(&archive)).as_bytes())
        );
    }
}

#[test]
fn sparse_files_of_every_form_are_whole_in_estargz() {
    let test = store();
    let source = test.store.snapshots().prepare(None).unwrap();
    run(source.root(), SPARSE);
    for (archive, form) in sparse_archives(&test, &source) {
        let bytes = std::fs::read(&archive).unwrap();
        let diff_id = DiffId(test.store.put_bytes(&bytes).unwrap());
        let (blob, content) =
            test.store.estargz(diff_id, 6).unwrap_or_else(|error| panic!("{form}: {error}"));
        let mut whole = Vec::new();
        decoder(test.store.open_blob(&blob.digest).unwrap()).unwrap().read_to_end(&mut whole).unwrap();
        assert_eq!(DiffId(Digest::of(&whole)), content);
        let found = ours(&whole);
        assert_eq!(found, without_prefix(&python(&file(&test, &whole))), "{form}");
        // Between what the format adds.
        let found: Vec<&str> = found.lines().collect();
        let expected = ours(&bytes);
        assert_eq!(found[1..found.len() - 1], expected.lines().collect::<Vec<_>>(), "{form}");
    }
}
