//! Images made out of images: which rebases undo something, what is found as a base, and what history and layers are
//! afterwards. The images are documents and tars; nothing is built or mounted. Needs root, for the store.

use std::collections::BTreeMap;

use builder::deliver::Complete;
use builder::rework::{Error, Rebase, base, conflicts, rebase, squash};
use layerfs::entry::{Entry, Kind, Time};
use layerfs::layer::tar::Writer;
use layerfs::store::Store;
use oci::{
    Compression, ContainerConfig, Descriptor, DiffId, History, ImageConfig, Manifest, MediaType, Raw, RootFs,
};

struct World {
    store: Store,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        World { store: Store::open(&dir.path().join("store")).unwrap(), _dir: dir }
    }

    /// An image with these layers, each of words: `dir/`, `link>target`, `file=content`, `mode:755=file`.
    fn image(&self, layers: &[&str]) -> Complete {
        self.image_with(layers, |_| ())
    }

    fn image_with(&self, layers: &[&str], change: impl FnOnce(&mut ImageConfig)) -> Complete {
        let tars: Vec<Vec<u8>> = layers.iter().map(|words| tar(words)).collect();
        let descriptors: Vec<Descriptor> = tars
            .iter()
            .map(|tar| {
                let digest = self.store.put_bytes(tar).unwrap();
                Descriptor::new(MediaType::OciLayer(Compression::None), digest, tar.len() as u64)
            })
            .collect();
        let diff_ids = descriptors.iter().map(|layer| DiffId(layer.digest)).collect();
        let line = |words: &&str| History {
            created_by: Some((*words).to_owned()),
            created: Some("2001-09-09T01:46:40Z".to_owned()),
            ..History::default()
        };
        let mut config = ImageConfig {
            os: "linux".into(),
            architecture: "amd64".into(),
            rootfs: RootFs { diff_ids, ..RootFs::default() },
            history: layers.iter().map(line).collect(),
            ..ImageConfig::default()
        };
        change(&mut config);
        let config = Raw::write(config);
        let pointer = self.store.put_document(&config, MediaType::OciConfig).unwrap();
        let manifest = Raw::write(Manifest::oci(pointer, descriptors));
        let descriptor = self.store.put_document(&manifest, MediaType::OciManifest).unwrap();
        Complete { manifest, config, descriptor, base: None, referrers: Vec::new() }
    }
}

fn tar(words: &str) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for word in words.split_whitespace() {
        let (mode, word) = match word.strip_prefix("mode:").and_then(|rest| rest.split_once('=')) {
            Some((mode, word)) => (u32::from_str_radix(mode, 8).unwrap(), word),
            None => (0o644, word),
        };
        let (path, kind, content) = if let Some(path) = word.strip_suffix('/') {
            (path, Kind::Directory, "")
        } else if let Some((path, target)) = word.split_once('>') {
            (path, Kind::Symlink { target: target.into() }, "")
        } else {
            let (path, content) = word.split_once('=').unwrap_or((word, ""));
            (path, Kind::File { size: content.len() as u64 }, content)
        };
        let entry = Entry {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: BTreeMap::new(),
        };
        tar.entry(&entry).unwrap();
        tar.write_data(content.as_bytes()).unwrap();
    }
    tar.finish().unwrap()
}

#[test]
fn a_rebase_that_would_undo_something_is_a_conflict() {
    let world = World::new();
    for (old, upper, new, expected) in [
        // Both bases agree, or only one side touched it.
        ("a=1 b=1", "c=1", "a=1 b=2", ""),
        ("a=1", "a=2", "a=1 b=2", ""),
        // The image's own file would hide the new base's.
        ("a=1", "a=2", "a=3", "a"),
        ("b=1", "a=2", "a=3 b=1", "a"),
        ("a=1", "a=2", "b=1", "a"),
        // The same content is a touch all the same: it keeps what the new base has changed.
        ("a=1", "a=1", "a=2", "a"),
        ("a=1", "mode:600=a=1", "mode:755=a=1", "a"),
        // What the image deletes.
        ("a=1", ".wh.a", "a=2", "a"),
        ("d/ d/a=1", ".wh.d", "d/ d/a=2 d/b=1", "d/a d/b"),
        ("d/ d/a=1 d.b=1", "d=file", "d/ d/a=1 d/c/ d/c/b=1 d.b=2", "d/c d/c/b"),
        ("d/ d/a=1", "d/ d/.wh..wh..opq d/x=1", "d/ d/a=1 d/b=1", "d/b"),
        ("a=1 b=1", ".wh.a", "a=1 b=2", ""),
        // Directories: only their attributes matter, and only where they are still there.
        ("d/ d/a=1", "d/ d/b=1", "d/ d/a=2", ""),
        ("d/ d/a=1", "d/ d/b=1", "mode:700=d/ d/a=1", "d"),
        ("d/ d/a=1", "d/ d/b=1", "c=1", ""),
        // A directory that has become a link, as `/lib` did.
        ("lib/ lib/a=1", "lib/b=1", "usr/ usr/lib/ lib>usr/lib", "lib"),
        ("l>x", "l>y", "l>z", "l"),
    ] {
        let (below, onto) = (world.image(&[old]), world.image(&[new]));
        let image = world.image(&[old, upper]);
        let found = conflicts(&image, 1, &onto, &world.store).unwrap();
        let found: Vec<&str> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(found.join(" "), expected, "{upper} on {old}, now on {new}");
        let order = Rebase { image: &image, old: &below, new: &onto, name: None, force: false };
        match rebase(&order, &world.store) {
            Ok(_) => assert_eq!(expected, ""),
            Err(Error::Conflicts { paths }) => assert_eq!(paths.len(), found.len()),
            Err(other) => panic!("{other}"),
        }
        let forced = rebase(&Rebase { force: true, ..order }, &world.store).unwrap();
        let ids = |image: &Complete| image.config.value().rootfs.diff_ids.clone();
        assert_eq!(ids(&forced), [ids(&onto), ids(&image)[1..].to_vec()].concat());
    }
}

#[test]
fn a_base_is_what_the_image_says_or_the_longest_that_fits() {
    let world = World::new();
    let [one, two, other] = [&["a=1"][..], &["a=1", "b=1"], &["x=1"]].map(|layers| world.image(layers));
    let name =
        |text: &str, image: &Complete| world.store.tag(&text.parse().unwrap(), &image.descriptor).unwrap();
    name("one:1", &one);
    name("two:1", &two);
    name("other:1", &other);
    let image = world.image(&["a=1", "b=1", "c=1"]);
    name("image:1", &image);
    let found =
        |image: &Complete| base::find(image, &world.store).unwrap().map(|base| base.descriptor.digest);
    assert_eq!(found(&image), Some(two.descriptor.digest));
    assert_eq!(found(&two), Some(one.descriptor.digest));
    assert_eq!(found(&one), None);
    // What it says goes first, unless it cannot be.
    for (key, value, expected) in [
        (base::BASE_DIGEST, one.descriptor.digest.to_string(), &one),
        (base::BASE_NAME, "docker.io/library/one:1".to_owned(), &one),
        (base::BASE_NAME, "docker.io/library/other:1".to_owned(), &two),
        (base::BASE_DIGEST, "sha256:no".to_owned(), &two),
    ] {
        let mut manifest = image.manifest.value().clone();
        manifest.annotations.insert(key.to_owned(), value);
        let manifest = Raw::write(manifest);
        let annotated = Complete { manifest, ..image.clone() };
        assert_eq!(found(&annotated), Some(expected.descriptor.digest), "{key}");
    }
}

#[test]
fn squashing_rewrites_history_and_layers_alone() {
    let world = World::new();
    let empty = |text: &str| History {
        created_by: Some(text.into()),
        empty_layer: true,
        created: Some("2002-02-02T02:02:02Z".into()),
        ..History::default()
    };
    let below = world.image(&["a=1"]);
    let image = world.image_with(&["a=1", "b=1", ".wh.a c=1"], |config| {
        config.history.insert(1, empty("ENV of=base"));
        config.history.push(empty("CMD x"));
        config.config = ContainerConfig { cmd: Some(vec!["x".into()]), ..ContainerConfig::default() };
        config.extra.insert("os.version".into(), "1".into());
    });
    let made = squash(&image, Some(&below), &world.store).unwrap();
    let (old, new) = (image.config.value(), made.config.value());
    assert_eq!(new.rootfs.diff_ids[..1], old.rootfs.diff_ids[..1]);
    assert_eq!(new.rootfs.diff_ids.len(), 2);
    assert_eq!(made.manifest.value().layers[0], image.manifest.value().layers[0]);
    let shown: Vec<(&str, bool)> =
        new.history.iter().map(|line| (line.created_by.as_deref().unwrap(), line.empty_layer)).collect();
    let expected = [
        ("a=1", false),
        ("ENV of=base", true),
        ("b=1", true),
        (".wh.a c=1", true),
        ("CMD x", true),
        ("lbuild squash", false),
    ];
    assert_eq!(shown, expected);
    assert_eq!(new.history[5].created, Some("2002-02-02T02:02:02Z".into()));
    let rest = |config: &ImageConfig| ImageConfig {
        history: Vec::new(),
        rootfs: RootFs::default(),
        ..config.clone()
    };
    assert_eq!(rest(new), rest(old));
    // Equal images make equal bytes; what is one layer already stays what it is.
    let again = squash(&image, Some(&below), &world.store).unwrap();
    assert_eq!(again.descriptor, made.descriptor);
    assert_eq!(squash(&made, Some(&below), &world.store).unwrap().descriptor, made.descriptor);
    // Layers that come to nothing leave none.
    let nothing = world.image(&["a=1", "b=1", ".wh.b"]);
    let made = squash(&nothing, Some(&below), &world.store).unwrap();
    assert_eq!(made.config.value().rootfs.diff_ids.len(), 1);
    assert!(made.config.value().history.last().is_some_and(|line| line.empty_layer));
    let error = squash(&below, Some(&world.image(&["x=1"])), &world.store).unwrap_err();
    assert!(matches!(error, Error::NotOn { layer: 1 }), "{error}");
}

#[test]
fn bases_for_other_platforms_and_broken_images_are_refused() {
    let world = World::new();
    let (old, image) = (world.image(&["a=1"]), world.image(&["a=1", "b=1"]));
    let arm = world.image_with(&["a=2"], |config| config.architecture = "arm64".into());
    let order = Rebase { image: &image, old: &old, new: &arm, name: None, force: true };
    let error = rebase(&order, &world.store).unwrap_err();
    assert_eq!(error.to_string(), "the image is for `linux/amd64`, the new base for `linux/arm64`");
    let broken = world.image_with(&["a=1", "b=1"], |config| config.rootfs.diff_ids.truncate(1));
    let error = squash(&broken, None, &world.store).unwrap_err();
    assert!(matches!(error, Error::Layers { in_manifest: 2, in_config: 1 }), "{error}");
    let missing = world.image(&["a=1", "gone=1"]);
    let gone = missing.config.value().rootfs.diff_ids[1];
    std::fs::remove_file(world.store.blob_path(&gone.0)).unwrap();
    let error = squash(&missing, None, &world.store).unwrap_err();
    assert!(matches!(error, Error::Store { source: layerfs::Error::MissingBlob { .. }, .. }), "{error}");
}
