//! Images whose parts are called by sha512, as some registries and builders do: they go everywhere, verified as others are.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use oci::Algorithm::Sha512;
use registry::testing::raw::ask;
use serde_json::Value;

use crate::base::busybox;
use crate::harness::World;
use crate::peers;
use crate::serve::Serving;

/// What `sha512sum` says, so that our own digests are not their own proof.
fn sha512sum(bytes: &[u8]) -> String {
    let mut child =
        Command::new("sha512sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("the bytes");
    let output = child.wait_with_output().expect("its end").stdout;
    String::from_utf8(output).expect("text")[..128].to_owned()
}

/// Makes a layout of busybox in which every digest is a sha512; gives that of the manifest.
fn foreign(world: &World) -> String {
    world.lbuild(&["copy", "-q", busybox(), "oci:plain:1"]).success();
    let (plain, made) = (world.path("plain"), world.path("foreign"));
    fs::create_dir_all(made.join("blobs/sha512")).expect("a folder");
    fs::copy(plain.join("oci-layout"), made.join("oci-layout")).expect("a file");
    let read = |digest: &Value| {
        let digest = digest.as_str().expect("a digest");
        fs::read(plain.join("blobs/sha256").join(&digest[7..])).expect("a blob")
    };
    let put = |descriptor: &mut Value, bytes: &[u8]| {
        let hex = sha512sum(bytes);
        fs::write(made.join("blobs/sha512").join(&hex), bytes).expect("a blob");
        descriptor["digest"] = format!("sha512:{hex}").into();
        descriptor["size"] = bytes.len().into();
    };
    let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).expect("JSON");
    let mut list = parse(fs::read(plain.join("index.json")).expect("a list"));
    let mut manifest = parse(read(&list["manifests"][0]["digest"]));
    let mut config = parse(read(&manifest["config"]["digest"]));
    let layers = manifest["layers"].as_array_mut().expect("layers");
    for (layer, diff_id) in layers.iter_mut().zip(config["rootfs"]["diff_ids"].as_array_mut().expect("ids")) {
        let bytes = read(&layer["digest"]);
        put(layer, &bytes);
        let mut plain = Vec::new();
        let mut decoder = decompressed(&bytes);
        std::io::Read::read_to_end(&mut decoder, &mut plain).expect("a tar");
        *diff_id = format!("sha512:{}", sha512sum(&plain)).into();
    }
    put(&mut manifest["config"], config.to_string().as_bytes());
    put(&mut list["manifests"][0], manifest.to_string().as_bytes());
    fs::write(made.join("index.json"), list.to_string()).expect("a list");
    list["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
}

/// The tar of a layer, decompressed by another program.
fn decompressed(bytes: &[u8]) -> std::io::Cursor<Vec<u8>> {
    if bytes[..2] != [0x1f, 0x8b] {
        return std::io::Cursor::new(bytes.to_vec());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("layer");
    fs::write(&path, bytes).expect("a file");
    let output = Command::new("gzip").arg("-dc").stdin(fs::File::open(&path).expect("it")).output();
    std::io::Cursor::new(output.expect("gzip").stdout)
}

fn blobs(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.expect("it").file_name()));
    let mut names: Vec<String> =
        entries.into_iter().flatten().map(|name| name.into_string().expect("text")).collect();
    names.sort();
    names
}

fn runs(world: &World, name: &str) {
    let ran = world.lbuild(&["run", "--rm", "--network=none", name, "echo", "it runs"]).success();
    assert_eq!(ran.line(), "it runs");
}

#[test]
fn an_image_called_by_sha512_goes_everywhere() {
    let world = World::new();
    let digest = foreign(&world);
    let server = World::new();
    let serving = Serving::start(&server, &[]);
    let name = format!("{}/foreign/app", serving.localhost());
    let layout = world.path("foreign");
    let expected = blobs(&layout.join("blobs/sha512"));
    // To a registry, by tag; and out of it, by digest.
    world.lbuild(&["copy", "-q", "oci:foreign:1", &format!("{name}:1")]).success();
    let served = blobs(&server.path("root/blobs/sha512"));
    assert_eq!(served, expected);
    let pinned = format!("{name}@{digest}");
    world.lbuild(&["pull", &pinned]).success();
    assert_eq!(blobs(&world.path("root/blobs/sha512")), expected, "it is called here as it is there");
    runs(&world, &pinned);
    assert_eq!(world.lbuild(&["inspect", "--raw", &pinned]).success().stdout.into_bytes(), {
        fs::read(layout.join("blobs/sha512").join(&digest[7..])).expect("the manifest")
    });
    // Built on, looked into, compressed anew.
    let built = world.build(&format!("FROM {pinned}\nRUN echo x > /x\n")).args(&["-t", "built:1"]);
    built.success();
    assert_eq!(
        world.lbuild(&["run", "--rm", "--network=none", "built:1", "cat", "/x"]).success().line(),
        "x"
    );
    assert!(world.lbuild(&["ls", &pinned, "/bin"]).success().stdout.contains("busybox"));
    world.lbuild(&["tag", &pinned, &format!("{name}:zstd")]).success();
    let zstd = ["push", "--compression-format=zstd", "--force-compression", &format!("{name}:zstd")];
    world.lbuild(&zstd).success();
    runs(&World::new(), &format!("{name}:zstd"));
    // In an archive and out of it.
    let other = World::new();
    world.lbuild(&["copy", "-q", &pinned, "store:kept:1"]).success();
    world.lbuild(&["save", "-o", "it.tar", "kept:1"]).success();
    other.lbuild(&["load", "-i", world.path("it.tar").to_str().expect("text")]).success();
    assert_eq!(blobs(&other.path("root/blobs/sha512")), expected);
    runs(&other, "kept:1");
    let report = other.lbuild(&["fsck", "--deep"]).success().stdout;
    assert!(report.contains("0 things damaged"), "{report}");
    // Others read the archive, too.
    let archive = format!("oci-archive:{}", world.path("it.tar").display());
    let read = peers::run(Command::new("skopeo").args(["inspect", "--raw", &archive]));
    assert!(read.contains("sha512:"), "{read}");
    // Damage is found, and nothing outlives the image.
    let largest = expected
        .iter()
        .max_by_key(|name| layout.join("blobs/sha512").join(name).metadata().expect("a file").len());
    let largest = largest.expect("a blob");
    let path = other.path("root/blobs/sha512").join(largest);
    let mut bytes = fs::read(&path).expect("a blob");
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("damage");
    let report = other.lbuild(&["fsck", "--deep"]).failure(1).stdout;
    assert!(report.contains(largest.as_str()), "{report}");
    other.lbuild(&["rmi", "kept:1"]).success();
    other.lbuild(&["prune", "--all"]).success();
    assert_eq!(blobs(&other.path("root/blobs/sha512")), [""; 0]);
}

#[test]
fn what_has_another_sha512_is_refused() {
    let world = World::new();
    foreign(&world);
    let folder = world.path("foreign/blobs/sha512");
    let largest =
        blobs(&folder).into_iter().max_by_key(|name| folder.join(name).metadata().expect("it").len());
    let path = folder.join(largest.expect("a blob"));
    let mut bytes = fs::read(&path).expect("a blob");
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("damage");
    world.lbuild(&["copy", "oci:foreign:1", "store:bad:1"]).failure(3).says("digest mismatch");
    let serving = Serving::start(&world, &[]);
    let push = |promised: &str| {
        ask(&serving.host, "POST", &format!("/v2/a/blobs/uploads/?digest={promised}"), &[], b"hello")
    };
    let (right, wrong) = (Sha512.digest(b"hello").to_string(), Sha512.digest(b"jello").to_string());
    assert_eq!(push(&right).status, 201);
    assert_eq!(push(&wrong).code(), "DIGEST_INVALID");
    assert_eq!(push("sha384:00").code(), "DIGEST_INVALID");
    let kept = blobs(&world.path("root/blobs/sha512"));
    assert!(kept.iter().any(|name| *name == right[7..]) && !kept.iter().any(|name| *name == wrong[7..]));
}
