//! Indexes of several images, as they reach a registry and a layout. Needs root, for the store.

use std::fs;

use builder::attest::{self, Statement};
use builder::deliver::{self, Annotations, Artifact, Complete, CompleteIndex, Family, Form, Readers};
use layerfs::layer::codec::Codec;
use layerfs::layout::{Referrers, Target};
use layerfs::store::Store;
use oci::{
    Compression, Descriptor, DiffId, Document, ImageConfig, Index, Manifest, MediaType, Platform, Raw,
    Reference, RootFs,
};
use registry::testing::{Registry, Setup};

/// An image of an uncompressed layer that it shares with the others, and one of its own.
fn image(store: &Store, platform: &str) -> Complete {
    let platform: Platform = platform.parse().unwrap();
    let layer = |text: &str| {
        // What is compressed must be the tar that its digest says, whatever is in it.
        let digest = store.put_bytes(text.as_bytes()).unwrap();
        Descriptor::new(MediaType::OciLayer(Compression::None), digest, text.len() as u64)
    };
    let layers = vec![layer("shared"), layer(&platform.to_string())];
    let diff_ids = layers.iter().map(|layer| DiffId(layer.digest)).collect();
    let mut config = ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    config.extra.insert("os.version".into(), "1".into());
    let config = Raw::write(config);
    let descriptor = store.put_document(&config, MediaType::OciConfig).unwrap();
    let manifest = Raw::write(Manifest::oci(descriptor, layers));
    let descriptor = store.put_document(&manifest, MediaType::OciManifest).unwrap();
    Complete { manifest, config, descriptor, base: None, referrers: Vec::new() }
}

fn pair(text: &str, value: &str) -> Vec<(String, String)> {
    vec![(text.to_owned(), value.to_owned())]
}

fn index_of(document: Document) -> Raw<Index> {
    match document {
        Document::Index(index) => index,
        Document::Manifest(_) => panic!("expected an index"),
    }
}

fn compressed(index: &CompleteIndex, store: &Store) -> Artifact {
    deliver::convert(&Artifact::Index(Box::new(index.clone())), &Form::default(), store).unwrap()
}

#[test]
fn an_index_is_what_its_images_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mut images = vec![image(&store, "linux/arm/v7"), image(&store, "linux/amd64")];
    images[0].descriptor.annotations.extend(pair("of", "the entry"));
    let annotations = Annotations { index: pair("k", "v"), descriptor: pair("d", "w") };
    let made = deliver::index(images, Vec::new(), &annotations, &store).unwrap();
    let platforms: Vec<String> = made.index.value().platforms().map(Platform::to_string).collect();
    assert_eq!(platforms, ["linux/arm/v7", "linux/amd64"]);
    let entries = &made.index.value().manifests;
    assert_eq!(entries[0].platform.as_ref().unwrap().extra["os.version"], "1");
    assert_eq!(entries[0].annotations["of"], "the entry");
    assert_eq!(made.index.value().annotations["k"], "v");
    assert_eq!(made.descriptor.annotations["d"], "w");
    // Under its name it reads back as it is.
    let name: Reference = "app".parse().unwrap();
    deliver::name(&store, &made.descriptor, std::slice::from_ref(&name)).unwrap();
    let found = store.find("app").unwrap().unwrap();
    let Artifact::Index(read) = Artifact::load(&store, &found.descriptor).unwrap() else {
        panic!("one image")
    };
    assert_eq!(read.index.bytes(), made.index.bytes());
    assert_eq!(read.images.len(), 2);
    assert_eq!(read.descriptor, made.descriptor);
}

#[test]
fn an_index_goes_to_a_registry_with_all_its_images() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let images = vec![image(&store, "linux/amd64"), image(&store, "linux/arm64")];
    let made = deliver::index(images, Vec::new(), &Annotations::default(), &store).unwrap();
    let registry = Registry::start(Setup::default());
    let client = registry::Client::new(registry::Options::default());
    let name = registry.reference("app:1");
    let pushed = compressed(&made, &store);
    deliver::push(&pushed, &name, &store, &client, (0, &|_| ())).unwrap();
    assert_ne!(pushed.descriptor().digest, made.descriptor.digest, "its layers are compressed");
    let fetched = client.document(&name).unwrap();
    assert_eq!(fetched.descriptor.digest, pushed.descriptor().digest);
    let index = index_of(fetched.document);
    for (entry, image) in index.value().manifests.iter().zip(&made.images) {
        let child = client.document(&name.at(entry.digest)).unwrap();
        let Document::Manifest(manifest) = child.document else { panic!("no manifest") };
        assert_eq!(manifest.value().config.digest, image.config.digest());
        for layer in &manifest.value().layers {
            assert_eq!(layer.media_type, MediaType::OciLayer(Compression::Gzip));
            assert!(registry.blob("app", layer.digest).is_some());
        }
    }
    // What two images share went once; whatever is named is there before what names it.
    let puts: Vec<String> =
        registry.seen().iter().filter(|seen| seen.method == "PUT").map(|seen| seen.target.clone()).collect();
    let manifests: Vec<&String> = puts.iter().filter(|path| path.contains("/manifests/")).collect();
    assert_eq!(puts.len() - manifests.len(), 5, "three layers and two configurations: {puts:?}");
    assert!(puts[5..].iter().all(|path| path.contains("/manifests/")), "{puts:?}");
    assert!(puts.last().unwrap().ends_with("/manifests/1"), "{puts:?}");
    // A second time there is nothing to compress, and it is the same.
    let again = deliver::convert(&pushed, &Form::default(), &store).unwrap();
    assert_eq!(again.descriptor(), pushed.descriptor());
    assert!(store.is_same_image(&made.descriptor, again.descriptor()));
}

#[test]
fn an_index_becomes_a_layout() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let images = vec![image(&store, "linux/amd64"), image(&store, "linux/arm64")];
    let annotations = Annotations { descriptor: pair("d", "w"), ..Annotations::default() };
    let made = deliver::index(images, Vec::new(), &annotations, &store).unwrap();
    let path = dir.path().join("layout");
    let names: Vec<Reference> = vec!["app:1".parse().unwrap(), "app:2".parse().unwrap()];
    let written = compressed(&made, &store);
    let images = [(written.clone(), names)];
    deliver::layout(&images, Readers::Oci, Referrers::Given, Target::Directory(&path), &store).unwrap();
    let list: Index = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!(list.manifests.len(), 2);
    for entry in &list.manifests {
        assert_eq!(entry.digest, written.descriptor().digest);
        assert_eq!(entry.media_type, MediaType::OciIndex);
        assert_eq!(entry.annotations["d"], "w");
    }
    // One index, two manifests, two configurations, three layers.
    assert_eq!(fs::read_dir(path.join("blobs/sha256")).unwrap().count(), 8);
}

#[test]
fn a_family_is_one_for_all_documents() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let images = vec![image(&store, "linux/amd64"), image(&store, "linux/arm64")];
    let made = deliver::index(images, Vec::new(), &Annotations::default(), &store).unwrap();
    let made = Artifact::Index(Box::new(made));
    let form = |family| Form { family: Some(family), ..Form::default() };
    let docker = deliver::convert(&made, &form(Family::Docker), &store).unwrap();
    let Document::Index(list) = store.document(docker.descriptor()).unwrap() else { panic!("no index") };
    assert_eq!(docker.descriptor().media_type, MediaType::DockerManifestList);
    assert_eq!(list.value().media_type, Some(MediaType::DockerManifestList));
    for entry in &list.value().manifests {
        assert_eq!(entry.media_type, MediaType::DockerManifest);
        let manifest = store.manifest(entry).unwrap();
        assert_eq!(manifest.value().media_type, Some(MediaType::DockerManifest));
        assert_eq!(manifest.value().config.media_type, MediaType::DockerConfig);
        let is_docker = |layer: &Descriptor| layer.media_type == MediaType::DockerLayer(Compression::Gzip);
        assert!(manifest.value().layers.iter().all(is_docker));
    }
    // And back: the same bytes as if it had never been Docker's.
    let back = deliver::convert(&docker, &form(Family::Oci), &store).unwrap();
    let direct = deliver::convert(&made, &Form::default(), &store).unwrap();
    assert_eq!(back.descriptor().digest, direct.descriptor().digest);
}

#[test]
fn what_refers_to_an_image_goes_where_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let mut one = image(&store, "linux/amd64");
    let statement = Statement { predicate_type: "kind", predicate: serde_json::json!({"says": 1}) };
    one.referrers.push(attest::companion(&one, &[statement], &[], &store).unwrap());
    let before = one.descriptor.digest;
    let made = deliver::convert(&Artifact::Image(Box::new(one)), &Form::default(), &store).unwrap();
    let referrer = made.companions().next().unwrap();
    assert_ne!(made.descriptor().digest, before);
    assert_eq!(referrer.subject(), Some(made.descriptor().digest), "it is about the image that leaves");
    let subject = &referrer.manifest.value().extra["subject"];
    assert_eq!(subject["digest"], made.descriptor().digest.to_string());
    assert_eq!(subject["size"], made.descriptor().size);
    let statement = &referrer.manifest.value().layers[0];
    let text = String::from_utf8(fs::read(store.blob_path(&statement.digest)).unwrap()).unwrap();
    assert!(text.contains(&made.descriptor().digest.hex()) && !text.contains(&before.hex()), "{text}");
    let registry = Registry::start(Setup::default());
    let client = registry::Client::new(registry::Options::default());
    let name = registry.reference("app:1");
    deliver::push(&made, &name, &store, &client, (0, &|_| ())).unwrap();
    let tagged = client.document(&name).unwrap();
    assert_eq!(tagged.descriptor.digest, made.descriptor().digest, "the name is the image's own");
    let pushed = client.document(&name.at(referrer.descriptor.digest)).unwrap();
    assert_eq!(pushed.document.bytes(), referrer.manifest.bytes());
    assert!(registry.blob("app", statement.digest).is_some());
    // A layout lists it as what it is.
    let path = dir.path().join("layout");
    deliver::layout(
        &[(made.clone(), vec![name])],
        Readers::Oci,
        Referrers::Given,
        Target::Directory(&path),
        &store,
    )
    .unwrap();
    let list: Index = serde_json::from_slice(&fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!(
        list.manifests[1].extra["artifactType"],
        "application/vnd.docker.attestation.manifest.v1+json"
    );
    assert_eq!(list.manifests[1].digest, referrer.descriptor.digest);
    let loaded = builder::load::directory(&path, &store).unwrap();
    assert_eq!(loaded.len(), 1, "the image alone");
}

#[test]
fn a_layer_is_sent_when_it_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let image = image(&store, "linux/amd64");
    let layers = image.manifest.value().layers.clone();
    let registry = Registry::start(Setup::default());
    let client = registry::Client::new(registry::Options::default());
    let name = registry.reference("app:1");
    // The second layer cannot be made; the first was on its way by then.
    std::fs::remove_file(store.blob_path(&layers[1].digest)).unwrap();
    let artifact = Artifact::Image(Box::new(image));
    let line: (usize, builder::Events<'_>) = (0, &|_| ());
    let form = Form::default();
    deliver::convert_and_push(&artifact, &form, &name, &store, &client, line).unwrap_err();
    let first = store.compressed(DiffId(layers[0].digest), Codec::new(Compression::Gzip), 1).unwrap();
    assert!(registry.blob("app", first.digest).is_some());
    assert!(registry.manifest("app", "1").is_none(), "nothing incomplete has a name");
    store.put_bytes(b"linux/amd64").unwrap();
    let pushed = deliver::convert_and_push(&artifact, &form, &name, &store, &client, line).unwrap();
    assert_eq!(client.document(&name).unwrap().descriptor.digest, pushed.descriptor().digest);
}
