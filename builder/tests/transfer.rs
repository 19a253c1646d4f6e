//! Images from store to store. Needs root, for the stores.

use std::fs;
use std::sync::Mutex;

use builder::transfer::{self, Place, What};
use builder::{Event, deliver};
use layerfs::store::Store;
use oci::{Compression, Descriptor, ImageConfig, Manifest, MediaType, Raw, Reference};

/// Stores an image of one layer with these bytes; gives the layer.
fn image(store: &Store, name: &Reference, bytes: &[u8]) -> Descriptor {
    let digest = store.put_bytes(bytes).unwrap();
    let layer = Descriptor::new(MediaType::OciLayer(Compression::None), digest, bytes.len() as u64);
    let config = store.put_document(&Raw::write(ImageConfig::default()), MediaType::OciConfig).unwrap();
    let manifest = Raw::write(Manifest::oci(config, vec![layer.clone()]));
    let descriptor = store.put_document(&manifest, MediaType::OciManifest).unwrap();
    deliver::name(store, &descriptor, std::slice::from_ref(name)).unwrap();
    layer
}

#[test]
fn a_blob_that_begins_anew_is_counted_anew() {
    const SIZE: u64 = 5 << 20;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let (from, to) = (Store::open(&from).unwrap(), Store::open(&to).unwrap());
    let name: Reference = "app:1".parse().unwrap();
    let layer = image(&from, &name, &vec![7; usize::try_from(SIZE).unwrap()]);
    // What an earlier copy brought, and something has damaged since.
    let begun = to.root().join("downloads").join(layer.digest.to_string().replace(':', "-"));
    fs::create_dir_all(begun.parent().unwrap()).unwrap();
    fs::write(&begun, vec![8; 3 << 20]).unwrap();
    let told = Mutex::new(Vec::new());
    let events = |event| {
        if let Event::Transfer { label, done_bytes, total_bytes, .. } = event
            && label == layer.digest.short()
        {
            assert_eq!(total_bytes, SIZE);
            told.lock().unwrap().push(done_bytes);
        }
    };
    let places = (Place::in_store(&from, &name), Place::in_store(&to, &name));
    transfer::copy(&places.0, &places.1, &What::default(), (0, &events)).unwrap();
    let told = told.into_inner().unwrap();
    assert_eq!(told.iter().max(), Some(&SIZE), "{told:?}");
    assert_eq!(told.last(), Some(&SIZE), "{told:?}");
    assert!(told.windows(2).any(|pair| pair[1] < pair[0]), "it began anew: {told:?}");
    to.verify(&layer.digest).unwrap();
}
