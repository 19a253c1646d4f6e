//! The parts by themselves, through the crates' public APIs: `cargo bench --bench micro`, with a filter as its argument.
//! Parse, keys, walk and digest, pack and unpack, compression, the seccomp filter, and the start of a container with
//! and without the filter, whose difference is what sending and loading it costs: it is compiled once for all steps.
//!
//! Hostile inputs of the parser are in `parse`.

mod support;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use builder::cache::KeyBuilder;
use builder::dockerfile;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use layerfs::checksum;
use layerfs::confined::Root;
use layerfs::copy::{Filters, select};
use layerfs::layer::codec::{Codec, decoder};
use layerfs::layer::deflate::Deflate;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use layerfs::walk;
use oci::media_type::Compression;
use oci::{DiffId, Digest};
use runner::{CapabilitySet, Io, Launcher, Process, Sandbox, Seccomp, Status};
use support::content::{self, Kind};
use support::guard;

/// Forked before the benches' threads begin.
static LAUNCHER: OnceLock<Launcher> = OnceLock::new();

fn main() {
    let folder = guard::folder();
    assert!(LAUNCHER.set(Launcher::fork().expect("a launcher")).is_ok(), "one launcher");
    content::files(&folder.join("small"), 5_000, 4_000, true, 1);
    content::files(&folder.join("large"), 6, 10_000_000, true, 2);
    divan::main();
}

fn small() -> PathBuf {
    guard::folder().join("small")
}

fn files_of(folder: &Path) -> usize {
    walk::walk(Root::open(folder).expect("a folder").as_fd(), &walk::everything).expect("a walk").len()
}

#[divan::bench(args = [10, 100, 1_000])]
fn parse(bencher: Bencher<'_, '_>, steps: usize) {
    let step = "RUN --mount=type=cache,target=/var/cache/apt apt-get update && \\\n    apt-get install -y gcc\nCOPY --chown=1:1 src /src\nENV A=$B\n";
    let text = format!("FROM scratch\n{}", step.repeat(steps));
    bencher.counter(BytesCount::of_str(&text)).bench(|| black_box(dockerfile::parse(black_box(&text))));
}

#[divan::bench]
fn derive_a_key(bencher: Bencher<'_, '_>) {
    let parent = Digest::of(b"parent");
    bencher.bench(|| {
        let mut key = KeyBuilder::new("run", black_box(parent));
        key.add_all("argument", ["/bin/sh", "-c", "apt-get update && apt-get install -y gcc"]);
        key.add_all("environment", ["PATH=/usr/bin:/bin", "DEBIAN_FRONTEND=noninteractive", "LANG=C.UTF-8"]);
        key.add("working directory", "/app");
        key.add("network", "host");
        key.finish()
    });
}

#[divan::bench]
fn walk_5000_files(bencher: Bencher<'_, '_>) {
    let root = Root::open(&small()).expect("a folder");
    bencher
        .counter(ItemsCount::new(files_of(&small())))
        .bench(|| walk::walk(root.as_fd(), &walk::everything).expect("a walk"));
}

#[divan::bench]
fn select_and_digest_5000_files(bencher: Bencher<'_, '_>) {
    let root = Root::open(&small()).expect("a folder");
    let filters = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    bencher.counter(ItemsCount::new(files_of(&small()))).bench(|| {
        let selection = select(&root, &["."], &filters).expect("a selection");
        checksum::digest(&root, &selection, checksum::Options::default()).expect("a digest")
    });
}

/// A store with `folder` as the snapshot `name`, and the tar of it.
fn packed(name: &str) -> &'static (Store, Vec<u8>) {
    static SMALL: OnceLock<(Store, Vec<u8>)> = OnceLock::new();
    static LARGE: OnceLock<(Store, Vec<u8>)> = OnceLock::new();
    let cell = if name == "small" { &SMALL } else { &LARGE };
    cell.get_or_init(|| {
        let store = Store::open(&guard::folder().join(format!("store-{name}"))).expect("a store");
        let snapshots = store.snapshots();
        let active = snapshots.prepare(None).expect("a snapshot");
        let from = guard::folder().join(name);
        let status = std::process::Command::new("cp").arg("-r").arg(from).arg(active.upper_path()).status();
        assert!(status.expect("cp").success(), "cp copies");
        snapshots.commit(active, &id(name)).expect("a commit");
        let mut tar = Vec::new();
        pack(&snapshots.changes(&id(name)).expect("changes"), PackOptions::default(), &mut tar)
            .expect("a layer");
        (store, tar)
    })
}

fn id(name: &str) -> SnapshotId {
    SnapshotId::key(Digest::of(name.as_bytes()))
}

/// Thousands of small files, and a few large ones.
#[divan::bench(args = ["small", "large"], sample_count = 20)]
fn pack_a_layer(bencher: Bencher<'_, '_>, name: &str) {
    let (store, tar) = packed(name);
    let snapshots = store.snapshots();
    let changes = snapshots.changes(&id(name)).expect("changes");
    bencher
        .counter(BytesCount::new(tar.len()))
        .bench_local(|| pack(&changes, PackOptions::default(), &mut io::sink()).expect("a layer"));
}

#[divan::bench(args = ["small", "large"], sample_count = 20)]
fn unpack_a_layer(bencher: Bencher<'_, '_>, name: &str) {
    let (store, tar) = packed(name);
    let snapshots = store.snapshots();
    let diff_id = DiffId(Digest::of(tar));
    bencher
        .counter(BytesCount::new(tar.len()))
        .with_inputs(|| snapshots.prepare(None).expect("a snapshot"))
        .bench_local_values(|active| {
            unpack_layer(&tar[..], &active, diff_id).expect("a tree");
            active
        });
}

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut text = vec![0; 16 << 20];
    content::fill(&mut text, Kind::Text, &mut content::Numbers::new(1));
    text
});

#[divan::bench(args = [Compression::Gzip, Compression::Zstd], consts = [1, 2], sample_count = 10)]
fn compress<const THREADS: usize>(bencher: Bencher<'_, '_>, compression: Compression) {
    bencher.counter(BytesCount::new(TEXT.len())).bench(|| {
        let mut out = io::sink();
        Codec::new(compression).compress(&mut &TEXT[..], &mut out, THREADS).expect("a stream");
    });
}

/// Our own deflate on one thread, a block after the other.
#[divan::bench(args = [1, 3, 6, 9], sample_count = 5)]
fn deflate(bencher: Bencher<'_, '_>, level: u32) {
    let mut deflate = Deflate::new(level);
    bencher.counter(BytesCount::new(TEXT.len())).bench_local(|| {
        let mut before: &[u8] = &[];
        for block in TEXT.chunks(128 * 1024) {
            black_box(deflate.block(before, block, false));
            before = block;
        }
    });
}

/// The same by zlib-rs.
#[divan::bench(args = [1, 3, 6, 9], sample_count = 5)]
fn deflate_by_zlib_rs(bencher: Bencher<'_, '_>, level: u32) {
    let mut deflate = flate2::Compress::new(flate2::Compression::new(level), false);
    let mut out = Vec::with_capacity(1 << 18);
    bencher.counter(BytesCount::new(TEXT.len())).bench_local(|| {
        let mut before: &[u8] = &[];
        for block in TEXT.chunks(128 * 1024) {
            deflate.reset();
            if !before.is_empty() {
                deflate.set_dictionary(&before[before.len() - 32 * 1024..]).expect("a dictionary");
            }
            out.clear();
            deflate.compress_vec(block, &mut out, flate2::FlushCompress::Sync).expect("a block");
            before = block;
        }
    });
}

#[divan::bench(args = [Compression::Gzip, Compression::Zstd], sample_count = 20)]
fn decompress(bencher: Bencher<'_, '_>, compression: Compression) {
    let mut compressed = Vec::new();
    Codec::new(compression).compress(&mut &TEXT[..], &mut compressed, 2).expect("a stream");
    let mut buffer = vec![0; 1 << 16];
    bencher.counter(BytesCount::new(TEXT.len())).bench_local(|| {
        let mut reader = decoder(&compressed[..]).expect("a stream");
        let mut length = 0;
        while let Ok(part @ 1..) = reader.read(&mut buffer) {
            length += part;
        }
        assert_eq!(length, TEXT.len());
    });
}

#[divan::bench]
fn compile_the_seccomp_filter(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| runner::filter_length(black_box(CapabilitySet::EMPTY)));
}

/// With Docker's profile, and with none.
#[divan::bench(args = ["default", "unconfined"], sample_count = 100)]
fn start_a_container(bencher: Bencher<'_, '_>, seccomp: &str) {
    let root = guard::folder().join("root");
    if !root.exists() {
        for folder in ["bin", "proc", "dev", "sys"] {
            fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        fs::copy("/bin/busybox", root.join("bin/true")).expect("busybox-static is installed");
    }
    let launcher = LAUNCHER.get().expect("a launcher");
    bencher.bench_local(|| {
        let mut sandbox = Sandbox::new(runner::detached_tree(&root, false).expect("a root"));
        if seccomp == "unconfined" {
            sandbox.security.seccomp = Seccomp::Unconfined;
        }
        let null =
            || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").expect("/dev/null"));
        let io = Io::Streams { stdin: null(), stdout: null(), stderr: null() };
        let container = launcher.start(sandbox, &Process::new(["/bin/true"]), io).expect("a container");
        assert_eq!(container.wait().expect("an exit").status, Status::Code(0));
    });
}
