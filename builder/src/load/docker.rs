//! Docker's archive, read: its list says where configurations and layers are, and the configuration what the layers
//! must be.

use std::io::{self, Read};

use layerfs::copy::any_decoder;
use layerfs::layer::codec;
use layerfs::store::Store;
use oci::{
    Compression, Descriptor, DiffId, Digest, Hasher, ImageConfig, Manifest, MediaType, Raw, Reference,
};

use super::archive::Contents;
use super::{LoadError, Loaded};
use crate::deliver::docker::ListedImage;

/// The images of the list, whose manifests are made here: the archive has none.
pub(super) fn images(list: &[u8], contents: &Contents, store: &Store) -> Result<Vec<Loaded>, LoadError> {
    let list: Vec<ListedImage> = serde_json::from_slice(list).map_err(LoadError::DockerList)?;
    if list.is_empty() {
        return Err(LoadError::Empty);
    }
    list.iter().map(|listed| image(listed, contents, store)).collect()
}

fn image(listed: &ListedImage, contents: &Contents, store: &Store) -> Result<Loaded, LoadError> {
    let (digest, size) = contents.find(&listed.config)?;
    // Docker calls the configuration by its digest, which is the image's id.
    let stem = listed.config.rsplit('/').next().unwrap_or_default();
    let promised = Digest::from_hex(stem.strip_suffix(".json").unwrap_or(stem));
    let is_another = |expected: &Digest| *expected != digest && expected.algorithm() == digest.algorithm();
    if let Some(expected) = promised.filter(is_another) {
        return Err(LoadError::Digest { path: listed.config.clone(), expected, found: digest });
    }
    let descriptor = Descriptor::new(MediaType::OciConfig, digest, size);
    let config = Raw::<ImageConfig>::parse(store.read_document(&descriptor)?, "image configuration")
        .map_err(LoadError::List)?;
    let diff_ids = &config.value().rootfs.diff_ids;
    let paths = listed.layers.as_deref().unwrap_or_default();
    if paths.len() != diff_ids.len() {
        return Err(LoadError::Layers { in_manifest: paths.len(), in_config: diff_ids.len() });
    }
    let layers = paths.iter().zip(diff_ids).map(|(path, diff_id)| layer(path, *diff_id, contents, store));
    let manifest = Raw::write(Manifest::oci(descriptor, layers.collect::<Result<_, _>>()?));
    let descriptor = store.put_document(&manifest, MediaType::OciManifest)?;
    let name = |text: &String| {
        text.parse::<Reference>().map_err(|source| LoadError::Name { text: text.clone(), source })
    };
    let names = listed.repo_tags.as_deref().unwrap_or_default().iter().map(name).collect::<Result<_, _>>()?;
    Ok(Loaded { descriptor, names })
}

/// A layer, which may be compressed though Docker's own are not.
fn layer(path: &str, diff_id: DiffId, contents: &Contents, store: &Store) -> Result<Descriptor, LoadError> {
    let (digest, size) = contents.find(path)?;
    let mut head = Vec::new();
    store.open_blob(&digest)?.take(4).read_to_end(&mut head).map_err(LoadError::Read)?;
    let compression = codec::detect(&head);
    let found = match compression {
        Compression::None if digest.algorithm() == diff_id.0.algorithm() => DiffId(digest),
        _ => {
            let fail = |source| layerfs::Error::ReadBlob { digest, source };
            let mut decoder = any_decoder(store.open_blob(&digest)?).map_err(fail)?;
            let mut hasher = Hasher::of(diff_id.0.algorithm());
            io::copy(&mut decoder, &mut hasher).map_err(fail)?;
            DiffId(hasher.finish())
        }
    };
    match found == diff_id {
        true => Ok(Descriptor::new(MediaType::OciLayer(compression), digest, size)),
        false => Err(layerfs::Error::DiffId { expected: diff_id, found }.into()),
    }
}
