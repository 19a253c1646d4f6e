//! Several layers of an image as one.
//!
//! The layers of the base stay as they are, with their digests. History keeps every line; those whose layers are gone
//! say that they have none, and a last line has the new one, with the time of the line before it. (As Docker's
//! `--squash` has it, but for the time.)

use layerfs::file_index;
use layerfs::store::Store;
use oci::History;

use super::{Error, base, history, layers, put, store_error};
use crate::deliver::Complete;

/// The image with its layers above `below`, or all of them, joined. An image with at most one such layer is what it
/// was.
///
/// # Errors
/// [`Error::NotOn`] if `below` is not its base; when a layer is missing or damaged.
pub fn squash(image: &Complete, below: Option<&Complete>, store: &Store) -> Result<Complete, Error> {
    let depth = below.map_or(Ok(0), |below| base::depth(image, below))?;
    let all = layers(image)?;
    let joined = all.len() - depth;
    if joined < 2 {
        return Ok(image.clone());
    }
    let fail = store_error("join the layers");
    let indexes = store.file_indexes(&all).map_err(&fail)?;
    let packed = file_index::squash(store, &all, &indexes, depth).map_err(&fail)?;
    let has_layer = packed.entries > 0;
    let mut config = image.config.value().clone();
    config.rootfs.diff_ids.truncate(depth);
    let mut descriptors: Vec<_> = all.into_iter().take(depth).map(|(layer, _)| layer).collect();
    if has_layer {
        config.rootfs.diff_ids.push(packed.diff_id);
        descriptors.push(packed.descriptor());
    }
    let created = history::last_time(&config);
    let own = history::own_from(&config, below.map(|below| below.config.value()), depth);
    config.history[own..].iter_mut().for_each(|line| *line = history::without_layer(line));
    config.history.push(History {
        created,
        created_by: Some("lbuild squash".to_owned()),
        comment: Some(format!("{joined} layers as one")),
        empty_layer: !has_layer,
        ..History::default()
    });
    put(image, config, descriptors, |_| (), store)
}
