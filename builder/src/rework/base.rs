//! What an image was built on: what its annotations say, or else the image of the store with the most layers that
//! the image begins with.

use layerfs::store::Store;
use oci::{Descriptor, Platform};

use super::Error;
use crate::deliver::Complete;
use crate::source;

/// The annotation with the digest of the base. (OCI image-spec, annotations.md.)
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// The annotation with the name of the base.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// How many of the image's layers are the base's.
///
/// # Errors
/// [`Error::NotOn`] unless the image begins with all of them.
pub fn depth(image: &Complete, base: &Complete) -> Result<usize, Error> {
    let (own, below) = (&image.config.value().rootfs.diff_ids, &base.config.value().rootfs.diff_ids);
    match (0..below.len()).find(|layer| own.get(*layer) != Some(&below[*layer])) {
        None => Ok(below.len()),
        Some(layer) => Err(Error::NotOn { layer: layer + 1 }),
    }
}

/// The image that `image` was built on, as far as the store knows; it has fewer layers, and at least one.
///
/// # Errors
/// When the store's list of images cannot be read.
pub fn find(image: &Complete, store: &Store) -> Result<Option<Complete>, Error> {
    let fail = super::store_error("list the images");
    let platform = image.config.value().platform();
    let load = |descriptor: &Descriptor| load(descriptor, &platform, store);
    let is_below = |base: &Complete| {
        let layers = base.config.value().rootfs.diff_ids.len();
        let all = image.config.value().rootfs.diff_ids.len();
        depth(image, base).is_ok() && (1..all).contains(&layers)
    };
    let annotations = &image.manifest.value().annotations;
    let digest = annotations.get(BASE_DIGEST).and_then(|digest| digest.parse().ok());
    let by_digest = digest.and_then(|digest| store.find_document(&digest));
    if let Some(base) = by_digest.and_then(|document| load(&document.descriptor())).filter(is_below) {
        return Ok(Some(base));
    }
    if let Some(name) = annotations.get(BASE_NAME) {
        let named = store.find(name).map_err(&fail)?;
        if let Some(base) = named.and_then(|named| load(&named.descriptor)).filter(is_below) {
            return Ok(Some(base));
        }
    }
    let listed = store.images().map_err(&fail)?.into_iter().map(|image| image.descriptor);
    let known = listed.chain(source::resolved(store).map_err(&fail)?);
    let candidates = known.filter_map(|descriptor| load(&descriptor)).filter(is_below);
    // Of equals the first: `max_by_key` would give the last.
    let layers = |base: &Complete| base.config.value().rootfs.diff_ids.len();
    Ok(candidates.fold(None, |best: Option<Complete>, base| match best {
        Some(best) if layers(&best) >= layers(&base) => Some(best),
        _ => Some(base),
    }))
}

/// The image for `platform` of what `descriptor` points to. What is damaged is nobody's base.
fn load(descriptor: &Descriptor, platform: &Platform, store: &Store) -> Option<Complete> {
    let picked = source::pick(store, descriptor, platform).ok()?;
    Complete::load(store, &picked).ok()
}
