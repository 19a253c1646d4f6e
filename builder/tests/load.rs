//! Archives that were damaged on their way: whatever the bytes are, loading ends with an error or with an image that is
//! whole. Needs root, for the store.

use std::collections::BTreeMap;

use builder::deliver::Artifact;
use builder::load;
use builder::usage::Usage;
use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::tar::Writer;
use layerfs::layout::Target;
use layerfs::store::Store;
use oci::{Digest, Index, Manifest, MediaType, Raw};
use serde_json::json;

fn put(tar: &mut Writer<Vec<u8>>, path: &str, kind: Kind, content: &[u8]) {
    let (path, mtime) = (path.as_bytes().to_vec(), Time::default());
    tar.entry(&Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }).unwrap();
    tar.write_data(content).unwrap();
}

fn file(tar: &mut Writer<Vec<u8>>, path: &str, content: &[u8]) {
    put(tar, path, Kind::File { size: content.len() as u64 }, content);
}

/// Docker's archive, and the same image as a layout, each with a link.
fn archives() -> [Vec<u8>; 2] {
    let mut layer = Writer::new(Vec::new());
    file(&mut layer, "f", b"content");
    let layer = layer.finish().unwrap();
    let diff_id = Digest::of(&layer);
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = config.to_string().into_bytes();
    let mut docker = Writer::new(Vec::new());
    file(&mut docker, "c.json", &config);
    file(&mut docker, "layer.tar", &layer);
    put(&mut docker, "a/layer.tar", Kind::Symlink { target: b"../layer.tar".to_vec() }, b"");
    let list = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["a/layer.tar"]}]);
    file(&mut docker, "manifest.json", list.to_string().as_bytes());

    let descriptor = |media_type: MediaType, bytes: &[u8]| {
        oci::Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    };
    let layers = vec![descriptor(MediaType::OciLayer(oci::Compression::None), &layer)];
    let manifest = Raw::write(Manifest::oci(descriptor(MediaType::OciConfig, &config), layers));
    let index = Raw::write(Index::oci(vec![descriptor(MediaType::OciManifest, manifest.bytes())]));
    let mut layout = Writer::new(Vec::new());
    for blob in [&config[..], &layer, manifest.bytes()] {
        file(&mut layout, &format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    file(&mut layout, "index.json", index.bytes());
    file(&mut layout, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    [docker.finish().unwrap(), layout.finish().unwrap()]
}

/// Makes the checksums of all headers fit again, so that changes get further.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn no_bytes_make_half_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    let (mut refused, mut taken) = (0, 0);
    for (number, archive) in archives().iter().enumerate() {
        for round in 0..400 {
            // A store that knows nothing yet, now and then, so that nothing is there from before.
            let store = Store::open(&dir.path().join(format!("{number}-{}", round / 20))).unwrap();
            let mut bytes = archive.clone();
            for _ in 0..random() % 4 {
                let place = random() % bytes.len();
                bytes[place] ^= 1 << (random() % 8);
            }
            mend(&mut bytes);
            if random() % 4 == 0 {
                bytes.truncate(random() % bytes.len());
            }
            match load::archive(&mut &bytes[..], &store) {
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
                Ok(images) => {
                    for image in images {
                        let Artifact::Image(one) = Artifact::load(&store, &image.descriptor).unwrap() else {
                            panic!("an index came out of nothing")
                        };
                        for (layer, diff_id) in one.layers() {
                            let tar = store.decompress(layer, diff_id).unwrap();
                            assert_eq!(tar.digest, diff_id.0);
                        }
                    }
                    taken += 1;
                }
            }
        }
    }
    assert!(refused > 200 && taken > 50, "{refused} refused, {taken} taken");
}

/// A layout whose list names an index that names another one `fan` times, and so on, down to an image.
fn nested(depth: usize, fan: usize) -> Vec<u8> {
    let mut layout = Writer::new(Vec::new());
    let mut blob = |media_type: MediaType, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        file(&mut layout, &format!("blobs/sha256/{}", digest.hex()), bytes);
        oci::Descriptor::new(media_type, digest, bytes.len() as u64)
    };
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    let config = blob(MediaType::OciConfig, config.to_string().as_bytes());
    let mut top = blob(MediaType::OciManifest, Raw::write(Manifest::oci(config, Vec::new())).bytes());
    for _ in 0..depth {
        top = blob(MediaType::OciIndex, Raw::write(Index::oci(vec![top; fan])).bytes());
    }
    file(&mut layout, "index.json", Raw::write(Index::oci(vec![top])).bytes());
    file(&mut layout, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    layout.finish().unwrap()
}

#[test]
fn indexes_within_indexes_have_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    // The second one's entries, followed one by one, are a million millions.
    assert_eq!(load::archive(&mut &nested(1, 1)[..], &store).unwrap().len(), 1);
    let many = load::archive(&mut &nested(4, 1000)[..], &store).unwrap();
    assert_eq!(many.len(), 1);
    store.tag(&"many:1".parse().unwrap(), &many[0].descriptor).unwrap();
    Usage::read(&store).unwrap();
    // What is taken can be given away.
    let mut archive = Vec::new();
    store.export(&many[0].descriptor, &[], Target::Stream(&mut archive)).unwrap();
    assert_eq!(load::archive(&mut &archive[..], &store).unwrap(), many);
    for depth in [5, 20_000] {
        let refused = load::archive(&mut &nested(depth, 1)[..], &store);
        assert!(matches!(refused, Err(load::LoadError::Depth { .. })), "{depth}: {refused:?}");
    }
}
