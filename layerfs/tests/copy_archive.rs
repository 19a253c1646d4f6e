//! Archives that ADD unpacks, on a real file system: point 18 of the study of BuildKit. Runs as root.

mod world;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use layerfs::Error;
use layerfs::confined::Owner;
use layerfs::copy::Options;
use world::{World, meta, mode_of};

const ADD: Options = Options { owner: None, mode: None, unpack: true };

/// ADDs one file of the context.
fn add(world: &World, name: &str, destination: &str) -> Result<(), Error> {
    world.copy_with(&world.select(&[name]).unwrap(), destination, &ADD).map(drop)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A form in which an archive may come.
type Compress = fn(&[u8]) -> Vec<u8>;
const COMPRESSIONS: [(&str, Compress); 4] = [("gz", gzip), ("bz2", bzip2), ("xz", xz), ("zst", zstd)];

/// Writes `c/NAME`, an archive of these entries: name, type as Python's tarfile calls it, link name or data.
fn entries(world: &World, name: &str, entries: &[[&str; 3]]) {
    let script = "
import io, sys, tarfile
with tarfile.open(sys.argv[1], 'w') as tar:
    for name, kind, text in zip(sys.argv[2::3], sys.argv[3::3], sys.argv[4::3]):
        entry = tarfile.TarInfo()
        entry.name, entry.type, entry.mtime, entry.mode = name, getattr(tarfile, kind), 1000, 0o640
        entry.uid, entry.gid = 11, 12
        if kind == 'REGTYPE':
            entry.size = len(text)
        else:
            entry.linkname = text
        tar.addfile(entry, io.BytesIO(text.encode()))
";
    let arguments = entries.iter().flatten();
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(world.path("c").join(name)).args(arguments);
    assert!(python.status().unwrap().success());
}

/// Writes `c/NAME`, an archive of a directory `x` with a file, a link out of it and a file behind that link,
/// compressed as Python's tarfile calls it.
fn archive(world: &World, name: &str, compression: &str) {
    let script = "
import io, sys, tarfile
with tarfile.open(sys.argv[1], 'w:' + sys.argv[2]) as tar:
    def add(name, **fields):
        entry = tarfile.TarInfo(name)
        entry.uid, entry.gid, entry.mtime = 11, 12, 1000
        for field, value in fields.items():
            setattr(entry, field, value)
        tar.addfile(entry, io.BytesIO(b'A' * entry.size))
    add('x', type=tarfile.DIRTYPE, mode=0o750)
    add('x/a', size=3, mode=0o4755)
    add('x/out', type=tarfile.SYMTYPE, linkname='/inside')
    add('x/out/b', size=2)
    add('.wh.kept', size=1)
";
    let path = world.path("c").join(name);
    let status =
        std::process::Command::new("python3").args(["-c", script]).arg(path).arg(compression).status();
    assert!(status.unwrap().success());
}

#[test]
fn point_18_archives_are_unpacked_whatever_their_name() {
    for (name, compression) in
        [("plain", ""), ("x.gz", "gz"), ("x.tar", "bz2"), ("x.txt", "xz"), ("x", "zst")]
    {
        let world = World::new();
        if compression == "zst" {
            // Python has no zstd yet.
            archive(&world, name, "");
            fs::write(world.path("c").join(name), zstd(&fs::read(world.path("c").join(name)).unwrap()))
                .unwrap();
        } else {
            archive(&world, name, compression);
        }
        world.file("t/kept", "K").link("t/way", "real/dir");
        let options = Options {
            owner: Some(Owner { uid: 4, gid: 5 }),
            mode: Some("0700".parse().unwrap()),
            unpack: true,
        };
        for destination in ["/way", "/"] {
            world.copy_with(&world.select(&[name]).unwrap(), destination, &options).unwrap();
        }
        let expected = [
            ".wh.kept=A",
            "inside/",
            "inside/b=AA",
            "kept=K",
            "real/",
            "real/dir/",
            "real/dir/.wh.kept=A",
            // The archive's root is the destination, to its own links too.
            "real/dir/inside/",
            "real/dir/inside/b=AA",
            "real/dir/x/",
            "real/dir/x/a=AAA",
            "real/dir/x/out -> /inside",
            "way -> real/dir",
            "x/",
            "x/a=AAA",
            "x/out -> /inside",
        ];
        assert_eq!(world.target(), expected, "{name}");
        let made = |path: &str| (mode_of(world.path(path)), meta(world.path(path)).uid());
        assert_eq!([made("t/x/a"), made("t/x"), made("t/real/dir")], [(0o4755, 4), (0o750, 4), (0o755, 4)]);
        // COPY never unpacks, and ADD does not with `--unpack=false`.
        world.copy(&[name], "/copied");
        assert!(fs::read(world.path("t/copied")).unwrap() == fs::read(world.path("c").join(name)).unwrap());
    }
}

#[test]
fn point_18_what_is_no_archive_is_copied() {
    let world = World::new();
    archive(&world, "whole", "gz");
    let whole = fs::read(world.path("c/whole")).unwrap();
    let cases = [
        ("empty", Vec::new()),
        ("text", b"text that is longer than one block of a tar\n".repeat(40)),
        ("zeros", vec![0; 4096]),
        ("short", vec![0x1f]),
        ("bare.gz", b"\x1f\x8b\x08\0 and no more of it".to_vec()),
        ("bare.xz", b"\xfd7zXZ\0 and no more of it".to_vec()),
        ("bare.bz2", b"BZh9 and no more of it".to_vec()),
    ];
    let options = Options { unpack: true, ..Options::default() };
    for (name, bytes) in &cases {
        fs::write(world.path("c").join(name), bytes).unwrap();
        world.copy_with(&world.select(&[name]).unwrap(), "/d/", &options).unwrap();
        assert!(fs::read(world.path("t/d").join(name)).unwrap() == *bytes, "{name}");
    }
    // It begins as an archive, so a copy of the damaged file is not what was meant.
    fs::write(world.path("c/damaged"), &whole[..whole.len() - 30]).unwrap();
    assert!(world.copy_with(&world.select(&["damaged"]).unwrap(), "/e/", &options).is_err());
}

#[test]
fn point_18_archives_may_come_in_parts() {
    let world = World::new();
    entries(&world, "tar", &[["a", "REGTYPE", "A"], ["d/b", "REGTYPE", &"B".repeat(100_000)]]);
    let tar = fs::read(world.path("c/tar")).unwrap();
    for (name, compress) in COMPRESSIONS {
        let (one, two) = tar.split_at(700);
        fs::write(world.path("c/parts"), [compress(one), compress(two)].concat()).unwrap();
        let destination = format!("/{name}");
        add(&world, "parts", &destination).unwrap();
        assert_eq!(fs::read(world.path(&format!("t/{name}/a"))).unwrap(), b"A", "{name}");
        assert_eq!(meta(world.path(&format!("t/{name}/d/b"))).len(), 100_000, "{name}");
    }
}

#[test]
fn point_18_what_is_compressed_and_no_tar_is_copied() {
    let world = World::new();
    entries(&world, "tar", &[["a", "REGTYPE", "A"]]);
    let mut corrupt = fs::read(world.path("c/tar")).unwrap();
    // The name no longer fits the checksum of the header.
    corrupt[0] = b'b';
    let text = b"text that is longer than one block of a tar\n".repeat(40);
    for (what, bytes) in [("text", &text), ("nothing", &Vec::new()), ("corrupt", &corrupt)] {
        for (name, compress) in
            COMPRESSIONS.into_iter().chain([("tar", (|bytes| bytes.to_vec()) as Compress)])
        {
            let name = format!("{what}.{name}");
            fs::write(world.path("c").join(&name), compress(bytes)).unwrap();
            add(&world, &name, "/d/").unwrap();
            assert!(fs::read(world.path("t/d").join(&name)).unwrap() == compress(bytes), "{name}");
        }
    }
}

#[test]
fn point_18_directories_that_an_archive_does_not_name_are_made() {
    let world = World::new();
    entries(&world, "tar", &[["p/q/a", "REGTYPE", "A"], ["./r//b", "REGTYPE", "B"]]);
    world.file("t/there/p/old", "").mode("t/there/p", 0o700);
    add(&world, "tar", "/new").unwrap();
    add(&world, "tar", "/there/").unwrap();
    let made = |path: &str| (mode_of(world.path(path)), meta(world.path(path)).uid());
    assert_eq!([made("t/new"), made("t/new/p"), made("t/new/p/q")], [(0o755, 0); 3]);
    assert_eq!([made("t/new/p/q/a"), made("t/new/r/b")], [(0o640, 11); 2]);
    assert_eq!(made("t/there/p"), (0o700, 0));
    assert!(world.path("t/there/p/old").exists() && world.path("t/there/p/q/a").exists());
}

#[test]
fn point_18_the_destination_is_a_directory_wherever_its_links_lead() {
    let world = World::new();
    entries(&world, "tar", &[["d/a", "REGTYPE", "A"], ["etc/x", "REGTYPE", "X"]]);
    let outside = world.path("outside").display().to_string();
    world.link("t/abs", "/real/dir").link("t/out", &outside).link("t/etc", "/real/etc").file("t/file", "F");
    add(&world, "tar", "/abs").unwrap();
    assert!(world.path("t/real/dir/d/a").exists());
    add(&world, "tar", "/").unwrap();
    assert!(world.path("t/real/etc/x").exists(), "an entry goes through a link as the destination has it");
    add(&world, "tar", "/out/").unwrap();
    assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 1);
    assert!(world.path("t").join(outside.trim_start_matches('/')).join("d/a").exists());
    let error = add(&world, "tar", "/file").unwrap_err();
    assert!(matches!(error, Error::NotADirectory { .. }), "{error}");
}

#[test]
fn point_18_hostile_names_lead_nowhere_outside() {
    let world = World::new();
    let victim = world.path("outside/precious").display().to_string();
    let outside = world.path("outside").display().to_string();
    for hostile in [
        &[["../outside/precious", "REGTYPE", "X"]][..],
        &[["d/../../outside/precious", "REGTYPE", "X"]],
        &[["a", "REGTYPE", "A"], ["h", "LNKTYPE", "../outside/precious"]],
        &[["h", "LNKTYPE", victim.as_str()], ["h", "REGTYPE", "X"]],
        &[["l", "SYMTYPE", outside.as_str()], ["h", "LNKTYPE", "l/precious"]],
    ] {
        entries(&world, "tar", hostile);
        add(&world, "tar", "/d/").unwrap_err();
    }
    for hostile in [
        &[[victim.as_str(), "REGTYPE", "X"]][..],
        &[["l", "SYMTYPE", outside.as_str()], ["l/precious", "REGTYPE", "X"]],
        &[["l", "SYMTYPE", "../../outside"], ["l/precious", "REGTYPE", "X"]],
        &[["s", "SYMTYPE", victim.as_str()], ["s", "REGTYPE", "X"]],
    ] {
        entries(&world, "tar", hostile);
        add(&world, "tar", "/d/").unwrap();
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(meta(victim.into()).nlink(), 1);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}
