//! Names that stand for several images, and for the same image in two forms. Needs root.

mod common;

use common::store;
use layerfs::gc::{Collected, Roots};
use layerfs::layout::Target;
use layerfs::store::Store;
use oci::{
    Compression, Descriptor, DiffId, Digest, Document, ImageConfig, Index, Manifest, MediaType, Platform,
    Raw, Reference, RootFs,
};

/// An image of one layer, which holds `text` as it is, or what stands for its compressed form.
fn image(store: &Store, text: &str, compression: Compression) -> Descriptor {
    let diff_ids = vec![DiffId(Digest::of(text.as_bytes()))];
    let rootfs = RootFs { diff_ids, ..RootFs::default() };
    let config = ImageConfig { rootfs, ..ImageConfig::default() };
    let config = store.put_document(&Raw::write(config), MediaType::OciConfig).unwrap();
    let bytes = if compression == Compression::None { text.to_owned() } else { format!("smaller {text}") };
    let digest = store.put_bytes(bytes.as_bytes()).unwrap();
    let layer = Descriptor::new(MediaType::OciLayer(compression), digest, bytes.len() as u64);
    store.put_document(&Raw::write(Manifest::oci(config, vec![layer])), MediaType::OciManifest).unwrap()
}

/// An index of these images, one an architecture.
fn index(store: &Store, images: &[(&str, &Descriptor)]) -> Descriptor {
    let entry = |(architecture, image): &(&str, &Descriptor)| {
        let platform = Some(Platform::new("linux", architecture, None));
        Descriptor { platform, ..(*image).clone() }
    };
    let index = Index::oci(images.iter().map(entry).collect());
    store.put_document(&Raw::write(index), MediaType::OciIndex).unwrap()
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn a_twin_that_loses_its_name_is_not_kept() {
    let test = store();
    let store = &test.store;
    let plain = image(store, "a", Compression::None);
    let packed = image(store, "a", Compression::Gzip);
    let other = image(store, "b", Compression::Gzip);
    let listed = || -> Vec<(Option<Reference>, Digest)> {
        store.images().unwrap().into_iter().map(|image| (image.reference, image.descriptor.digest)).collect()
    };
    let (app, also) = (reference("app"), reference("also"));
    store.tag(&app, &packed).unwrap();
    store.tag(&app, &plain).unwrap();
    assert_eq!(listed(), [(Some(app.clone()), plain.digest)]);
    // With a name of its own it stays.
    store.tag(&also, &plain).unwrap();
    store.tag(&app, &packed).unwrap();
    let both = [(Some(also.clone()), plain.digest), (Some(app.clone()), packed.digest)];
    assert_eq!(listed(), both);
    // Another image stays in any case.
    store.tag(&app, &other).unwrap();
    let all = [(Some(also), plain.digest), (Some(app), other.digest), (None, packed.digest)];
    assert_eq!(listed(), all);
    // Indexes are the same if all their images are.
    let of = |first: &Descriptor| index(store, &[("amd64", first), ("arm64", &other)]);
    assert!(store.is_same_image(&of(&packed), &of(&plain)));
    assert!(!store.is_same_image(&of(&packed), &of(&other)));
    assert!(!store.is_same_image(&of(&packed), &packed));
    let empty = index(store, &[]);
    assert!(!store.is_same_image(&empty, &of(&packed)));
}

#[test]
fn an_index_keeps_its_images() {
    let mut test = store();
    let store = &test.store;
    let (a, b) = (image(store, "a", Compression::Gzip), image(store, "b", Compression::Gzip));
    let both = index(store, &[("amd64", &a), ("arm64", &b)]);
    store.tag(&reference("both"), &both).unwrap();
    assert_eq!(store.find(&both.digest.to_string()[..20]).unwrap().unwrap().descriptor, both);
    let Some(Document::Index(found)) = store.find_document(&both.digest) else { panic!("no index") };
    assert_eq!(found.value().pick(&Platform::new("linux", "arm64", None)).unwrap().digest, b.digest);
    assert!(store.find_document(&Digest::of(b"absent")).is_none());
    assert!(store.find_document(&Digest::of(b"smaller a")).is_none(), "a layer is no document");
    let exported = test.dir.path().join("layout");
    store.export(&both, &[reference("both")], Target::Directory(&exported)).unwrap();
    // An index, two manifests, two configurations, two layers.
    assert_eq!(std::fs::read_dir(exported.join("blobs/sha256")).unwrap().count(), 7);
    test.store.release();
    assert_eq!(test.store.collect(|_| Ok(Roots::default())).unwrap(), Collected::default());
    for image in [&a, &b] {
        let Ok(Document::Manifest(manifest)) = test.store.document(image) else { panic!("gone") };
        assert!(test.store.has(&manifest.value().layers[0].digest));
    }
    assert_eq!(test.store.forget(&both.digest).unwrap(), [reference("both")]);
    test.store.release();
    assert_eq!(test.store.collect(|_| Ok(Roots::default())).unwrap().blobs, 7);
    assert!(!test.store.has(&a.digest) && !test.store.has(&b.digest));
}
