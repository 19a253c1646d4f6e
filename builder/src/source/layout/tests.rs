//! Layouts as other tools write them, and as nobody should.

use std::fs;

use oci::{Compression, DiffId, ImageConfig, Manifest, MediaType, RootFs};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::error::ImageError;
use crate::source::{ImageSource, Images};

/// A layout being written by hand.
struct Written {
    dir: TempDir,
    entries: Vec<Value>,
}

impl Written {
    fn new() -> Written {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        Written { dir, entries: Vec::new() }
    }

    fn blob(&self, bytes: &[u8], media_type: MediaType) -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(self.dir.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        Descriptor::new(media_type, digest, bytes.len() as u64)
    }

    /// An image of one layer with this text.
    fn image(&self, text: &str, platform: &str) -> Descriptor {
        let platform: Platform = platform.parse().unwrap();
        let layer = self.blob(text.as_bytes(), MediaType::OciLayer(Compression::None));
        let config = ImageConfig {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            rootfs: RootFs { diff_ids: vec![DiffId(layer.digest)], ..RootFs::default() },
            ..ImageConfig::default()
        };
        let config = self.blob(Raw::write(config).bytes(), MediaType::OciConfig);
        let manifest = Raw::write(Manifest::oci(config, vec![layer]));
        let descriptor = self.blob(manifest.bytes(), MediaType::OciManifest);
        Descriptor { platform: Some(platform), ..descriptor }
    }

    fn index(&self, images: Vec<Descriptor>) -> Descriptor {
        self.blob(Raw::write(Index::oci(images)).bytes(), MediaType::OciIndex)
    }

    /// Puts an entry on the list, as `named` if that is not empty.
    fn list(&mut self, descriptor: &Descriptor, named: &str) {
        let mut entry = json!(descriptor);
        if !named.is_empty() {
            entry["annotations"] = json!({REF_NAME: named});
        }
        self.entries.push(entry);
        let list = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.dir.path().join("index.json"), list.to_string()).unwrap();
    }

    fn select(&self, selector: Selector) -> LayoutImage {
        LayoutImage { path: self.dir.path().to_owned(), selector }
    }

    fn remove(&self, digest: &Digest) {
        fs::remove_file(self.dir.path().join("blobs/sha256").join(digest.hex())).unwrap();
    }
}

fn tag(name: &str) -> Selector {
    Selector::Tag(name.to_owned())
}

fn platforms(names: &[&str]) -> Vec<Platform> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

#[test]
fn a_path_may_be_followed_by_a_tag_or_a_digest() {
    let digest = Digest::of(b"");
    for (text, path, selector) in [
        ("dir".to_owned(), "dir", Selector::Any),
        ("/a/b:1.0".to_owned(), "/a/b", tag("1.0")),
        ("/a:b/c".to_owned(), "/a:b/c", Selector::Any),
        (format!("dir@{digest}"), "dir", Selector::Digest(digest)),
        (format!("dir:1@{digest}"), "dir", Selector::Digest(digest)),
        ("me@home".to_owned(), "me@home", Selector::Any),
    ] {
        let expected = LayoutImage { path: path.into(), selector };
        assert_eq!(text.parse::<LayoutImage>().unwrap(), expected);
    }
    for text in ["", ":tag", "dir:", "dir@sha256:12", &format!("@{digest}")] {
        assert!(matches!(text.parse::<LayoutImage>(), Err(LayoutError::Text { .. })), "{text}");
    }
}

#[test]
fn the_image_that_is_meant_is_found() {
    let mut layout = Written::new();
    let (one, two, named) =
        (layout.image("1", "amd64"), layout.image("2", "amd64"), layout.image("3", "amd64"));
    layout.list(&one, "1");
    let (_dir, store) = open();
    let wanted = platforms(&["linux/amd64"]);
    let found = |layout: &Written, selector: Selector| {
        import(&store, &layout.select(selector), &wanted).map(|name| name.digest().unwrap())
    };
    assert_eq!(found(&layout, Selector::Any).unwrap(), one.digest, "the only one");
    layout.list(&two, "");
    let error = found(&layout, Selector::Any).unwrap_err();
    assert!(error.to_string().contains(&format!("`1`, `{}`", two.digest)), "{error}");
    layout.list(&named, "docker.io/library/app:latest");
    assert_eq!(found(&layout, Selector::Any).unwrap(), named.digest, "the latest");
    assert_eq!(found(&layout, tag("1")).unwrap(), one.digest);
    assert_eq!(found(&layout, tag("latest")).unwrap(), named.digest);
    assert_eq!(found(&layout, Selector::Digest(two.digest)).unwrap(), two.digest);
    for selector in [tag("2"), tag("app"), Selector::Digest(Digest::of(b"absent"))] {
        let error = found(&layout, selector).unwrap_err();
        assert!(matches!(&error, LayoutError::Absent { offered, .. } if offered.len() == 3), "{error}");
    }
    // What is no manifest cannot be meant.
    let layer = Digest::of(b"1");
    assert!(matches!(found(&layout, Selector::Digest(layer)), Err(LayoutError::Absent { .. })));
}

#[test]
fn of_an_index_only_what_is_wanted_is_copied() {
    let mut layout = Written::new();
    let images = [layout.image("a", "amd64"), layout.image("b", "arm64"), layout.image("c", "s390x")];
    let index = layout.index(images.to_vec());
    layout.list(&index, "multi");
    // A copy by a tool that left the others out.
    layout.remove(&images[2].digest);
    let (_dir, store) = open();
    let image = layout.select(tag("multi"));
    let name = import(&store, &image, &platforms(&["linux/arm64", "linux/amd64"])).unwrap();
    assert_eq!(name.digest(), Some(index.digest));
    assert!(store.has(&Digest::of(b"a")) && store.has(&Digest::of(b"b")) && !store.has(&Digest::of(b"c")));
    let snapshots = store.snapshots();
    let client = registry::Client::new(registry::Options::default());
    let source = Images::new(&store, &*snapshots, &client);
    for (platform, expected) in [("linux/amd64", &images[0]), ("linux/arm64", &images[1])] {
        for fresh in [false, true] {
            let found = source.resolve(&name, &platform.parse().unwrap(), fresh).unwrap();
            assert_eq!(found.descriptor.digest, expected.digest);
            source.fetch(&found, &|_, _| true).unwrap();
        }
    }
    let resolve = |platform: &str| source.resolve(&name, &platform.parse().unwrap(), false).unwrap_err();
    assert!(matches!(resolve("linux/s390x"), ImageError::Store(layerfs::Error::MissingBlob { .. })));
    assert!(matches!(resolve("linux/riscv64"), ImageError::Platform { offered, .. } if offered.len() == 3));
    let error = import(&store, &image, &platforms(&["linux/riscv64"])).unwrap_err();
    assert!(error.to_string().contains("`linux/riscv64`, only for `linux/amd64`"), "{error}");
    // Its own manifest may be named too, and one name may stand for all without an index.
    let arm = layout.select(Selector::Digest(images[1].digest));
    assert_eq!(import(&store, &arm, &platforms(&["linux/amd64"])).unwrap().digest(), Some(images[1].digest));
    layout.list(&images[0], "flat");
    layout.list(&images[1], "flat");
    let flat = import(&store, &layout.select(tag("flat")), &platforms(&["linux/arm64"])).unwrap();
    assert_eq!(flat.digest(), Some(images[1].digest));
}

#[test]
fn what_is_missing_or_damaged_is_refused() {
    let wanted = platforms(&["linux/amd64"]);
    let (_dir, store) = open();
    let mut layout = Written::new();
    let attempt = |layout: &Written| import(&store, &layout.select(Selector::Any), &wanted);
    assert!(matches!(attempt(&layout), Err(LayoutError::Read { .. })), "no list");
    fs::write(layout.dir.path().join("index.json"), "[]").unwrap();
    assert!(matches!(attempt(&layout), Err(LayoutError::List { .. })));
    let image = layout.image("text", "amd64");
    layout.list(&image, "");
    let layer = layout.dir.path().join("blobs/sha256").join(Digest::of(b"text").hex());
    for damaged in ["test", "texts", "tex"] {
        fs::write(&layer, damaged).unwrap();
        assert!(matches!(attempt(&layout), Err(LayoutError::Store(_))), "{damaged}");
    }
    fs::remove_file(&layer).unwrap();
    assert!(matches!(attempt(&layout), Err(LayoutError::Read { .. })), "absent");
    rustix::fs::mkfifoat(rustix::fs::CWD, &layer, rustix::fs::Mode::RUSR).unwrap();
    assert!(matches!(attempt(&layout), Err(LayoutError::Read { .. })), "a pipe");
    assert!(!store.has(&Digest::of(b"text")));
    fs::remove_file(&layer).unwrap();
    fs::write(&layer, "text").unwrap();
    attempt(&layout).unwrap();
}
