//! The own layers of an image on another base.
//!
//! The layers stay as they are, with their digests; so what they say about files of the old base they now say about
//! those of the new one. Where the two bases differ in such a file, that would silently take a change of the new base
//! back, or keep one that it has dropped: a conflict.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use layerfs::entry::Kind;
use layerfs::file_index::{Aspect, Difference, FileIndex, FileTree, compare};
use layerfs::store::Store;
use layerfs::whiteout;
use oci::Reference;

use super::{Error, base, history, layers, merge, put, store_error};
use crate::deliver::Complete;

/// What to put on what.
#[derive(Clone, Copy, Debug)]
pub struct Rebase<'a> {
    /// The image.
    pub image: &'a Complete,
    /// What it was built on.
    pub old: &'a Complete,
    /// What it is to stand on.
    pub new: &'a Complete,
    /// The new base's name, if it has one: for the annotation.
    pub name: Option<&'a Reference>,
    /// Whether conflicts do not matter.
    pub force: bool,
}

/// The image on its new base: settings by `merge`, history of the new base and then its own, and annotations that
/// name the base. (As crane's `rebase`, which knows no conflicts and keeps the old base's variables.)
///
/// # Errors
/// [`Error::NotOn`], [`Error::Platform`], [`Error::Conflicts`]; when a layer is missing or damaged.
pub fn rebase(rebase: &Rebase<'_>, store: &Store) -> Result<Complete, Error> {
    let Rebase { image, old, new, .. } = *rebase;
    let depth = base::depth(image, old)?;
    let (own, below, onto) = (image.config.value(), old.config.value(), new.config.value());
    let platforms = [own.platform(), onto.platform()].map(|platform| platform.to_string());
    if platforms[0] != platforms[1] {
        let [image, base] = platforms;
        return Err(Error::Platform { image, base });
    }
    if !rebase.force {
        let paths = conflicts(image, depth, new, store)?;
        if !paths.is_empty() {
            return Err(Error::Conflicts { paths });
        }
    }
    let mut config = own.clone();
    config.config = merge::merge(&own.config, &below.config, &onto.config);
    for name in ["os.version", "os.features"] {
        match onto.extra.get(name) {
            Some(value) => drop(config.extra.insert(name.to_owned(), value.clone())),
            None => drop(config.extra.remove(name)),
        }
    }
    let own_lines = own.history[history::own_from(own, Some(below), depth)..].to_vec();
    config.history = [onto.history.clone(), own_lines].concat();
    let upper = layers(image)?.split_off(depth);
    config.rootfs.diff_ids = onto.rootfs.diff_ids.clone();
    config.rootfs.diff_ids.extend(upper.iter().map(|(_, diff_id)| *diff_id));
    let mut descriptors: Vec<_> = layers(new)?.into_iter().map(|(layer, _)| layer).collect();
    descriptors.extend(upper.into_iter().map(|(layer, _)| layer));
    let annotate = |manifest: &mut oci::Manifest| {
        let annotations = &mut manifest.annotations;
        annotations.insert(base::BASE_DIGEST.to_owned(), new.descriptor.digest.to_string());
        match rebase.name {
            Some(name) => drop(annotations.insert(base::BASE_NAME.to_owned(), name.to_string())),
            None => drop(annotations.remove(base::BASE_NAME)),
        }
    };
    put(image, config, descriptors, annotate, store)
}

/// The paths that the image's own layers, those from `depth` on, touch and that differ between what they stand on and
/// `new`, or lie in what is no directory there any more.
///
/// # Errors
/// When a layer is missing or damaged.
pub fn conflicts(
    image: &Complete,
    depth: usize,
    new: &Complete,
    store: &Store,
) -> Result<Vec<PathBuf>, Error> {
    let fail = store_error("read the layers");
    let indexes = store.file_indexes(&layers(image)?).map_err(&fail)?;
    let tree = |layers: &[FileIndex]| FileTree::of(layers).map_err(&fail);
    let (whole, below) = (tree(&indexes)?, tree(&indexes[..depth])?);
    let onto = store.file_tree(&layers(new)?).map_err(&fail)?;
    let differences = compare(&below, &onto, false);
    let changed: BTreeMap<&[u8], &Difference<'_>> =
        differences.iter().map(|difference| (difference.path.as_slice(), difference)).collect();
    let mut found = BTreeSet::new();
    for Touch { path, hides } in touched((&whole, &below), &indexes[depth..], depth, &changed) {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| &path[..end]);
        let turned = |above: &&[u8]| {
            changed.get(above).is_some_and(|difference| difference.aspects.contains(&Aspect::Type))
        };
        found.extend(ends.filter(turned).map(<[u8]>::to_vec));
        if hides {
            let inside = |below: &&&[u8]| path.is_empty() || below.get(path.len()) == Some(&b'/');
            let from = changed.range(path.as_slice()..).map(|(below, _)| below);
            let below = from.take_while(|below| below.starts_with(&path)).filter(inside);
            found.extend(below.map(|below| below.to_vec()));
        }
        if changed.contains_key(path.as_slice()) {
            found.insert(path);
        }
    }
    Ok(found.into_iter().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path))).collect())
}

/// A path that the image's own layers say something about.
struct Touch {
    path: Vec<u8>,
    /// Whether they hide what is below it.
    hides: bool,
}

/// What the layers from `depth` on, which are `own`, have made or taken away.
fn touched(
    (whole, below): (&FileTree, &FileTree),
    own: &[FileIndex],
    depth: usize,
    changed: &BTreeMap<&[u8], &Difference<'_>>,
) -> Vec<Touch> {
    let removed = compare(below, whole, false).into_iter().filter(|difference| difference.after.is_none());
    let mut touched: Vec<Touch> =
        removed.map(|difference| Touch { path: difference.path, hides: true }).collect();
    for (path, _, node) in whole.below(whole.root()) {
        let is_dir = node.kind == Kind::Directory;
        // A directory that is only mentioned for what is in it does not mind that the new base has none.
        let is_gone = |difference: &&Difference<'_>| difference.after.is_none();
        let is_bare = is_dir && changed.get(path.as_slice()).is_some_and(is_gone);
        if node.layer >= depth && !is_bare {
            touched.push(Touch { path, hides: !is_dir });
        }
    }
    for record in own.iter().flat_map(|index| &index.records) {
        let path = &record.entry.path;
        let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        if whiteout::classify(&path[name..]) == whiteout::Name::Opaque {
            touched.push(Touch { path: path[..name.saturating_sub(1)].to_vec(), hides: true });
        }
    }
    touched
}
