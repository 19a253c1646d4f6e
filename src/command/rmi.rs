//! `lbuild rmi`: names go, and with its last name the image; then what nothing refers to is freed.
//!
//! Steps: take images off the list; let the builder forget the steps that only they were made of; collect. What
//! the builder knows besides, such as stages that end in no image, stays for its next run.

use builder::cache::records;
use builder::deliver::{Artifact, Complete};
use builder::prune;
use layerfs::layout::StoredImage;
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::{ChainId, Reference};

use crate::args::RmiArgs;
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Home, image_id};
use crate::output;

pub(crate) fn rmi(args: &RmiArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let mut removed = Removed::default();
    let mut outcome = Ok(Exit::Done);
    for text in &args.images {
        if removed.base(text, &home)? {
            continue;
        }
        match home.find(text).and_then(|image| remove(text, &image, args.force, &home, &mut removed)) {
            Ok(()) => {}
            // Docker's `-f`: what is not there need not be removed.
            Err(failure) if args.force && failure == Failure::no_such_image(text) => {}
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
    }
    collect(home, &removed.images)?;
    output::print(&removed.lines)?;
    outcome
}

/// What is off the list.
#[derive(Default)]
struct Removed {
    /// Docker's about it.
    lines: String,
    images: Vec<StoredImage>,
}

impl Removed {
    /// Forgets a base that builds resolved and nobody pulled: it has a name, and is on no list.
    fn base(&mut self, text: &str, home: &Home) -> Result<bool, Failure> {
        let Ok(name) = text.parse::<Reference>() else { return Ok(false) };
        let fail = home.failure("remove the image");
        let is_listed = home.store.find(text).map_err(&fail)?.is_some();
        let was_known = builder::source::forget(&home.store, &name).map_err(fail)?;
        if was_known && !is_listed {
            self.lines += &format!("Untagged: {}\n", name.familiar());
        }
        Ok(was_known && !is_listed)
    }
}

/// Takes the name `text` away; given an id, all names of the image, of which there must be one at most unless
/// `force` says so.
fn remove(
    text: &str,
    image: &StoredImage,
    force: bool,
    home: &Home,
    removed: &mut Removed,
) -> Result<(), Failure> {
    let fail = home.failure("remove the image");
    let twins = home.twins(image)?;
    let names: Vec<&Reference> = twins.iter().filter_map(|twin| twin.reference.as_ref()).collect();
    let is_name = image
        .reference
        .as_ref()
        .is_some_and(|name| text.parse().is_ok_and(|typed: Reference| typed == *name));
    if let Some(name) = image.reference.as_ref().filter(|_| is_name && names.len() > 1 && !force) {
        home.store.untag(name).map_err(fail)?;
        removed.lines += &format!("Untagged: {}\n", name.familiar());
        return Ok(());
    }
    if names.len() > 1 && !force {
        let names: Vec<String> = names.iter().map(|name| name.familiar()).collect();
        let message = format!("`{text}` has several names: {}", names.join(", "));
        return Err(Failure::usage(message).hint("remove it by one of them, or all of them with `-f`"));
    }
    for twin in &twins {
        home.store.forget(&twin.descriptor.digest).map_err(&fail)?;
    }
    let id = image_id(&home.store, image).unwrap_or(image.descriptor.digest);
    removed.lines.extend(names.iter().map(|name| format!("Untagged: {}\n", name.familiar())));
    removed.lines += &format!("Deleted: {id}\n");
    removed.images.extend(twins);
    Ok(())
}

/// Frees what no image and no record of the builder refers to, once the records that only the `removed` images
/// consisted of are gone. What another process uses goes with a later collection.
fn collect(mut home: Home, removed: &[StoredImage]) -> Result<(), Failure> {
    let root = home.store.root().to_owned();
    let fail = |error| Failure::store("free what the images held", &error, &root);
    let remaining = home.store.images().map_err(fail)?;
    let (gone, kept) = (chains(removed, &home.store), chains(&remaining, &home.store));
    // What was read to find the images is of no more use.
    home.store.release();
    records::prune(&home.store, &gone, &kept).map_err(fail)?;
    home.store.collect(|_| prune::roots(&home.store)).map_err(fail)?;
    Ok(())
}

/// The snapshots that these images are, layer by layer.
fn chains(images: &[StoredImage], store: &Store) -> Vec<SnapshotId> {
    // What is damaged consists of nothing.
    let whole = |image: &StoredImage| Artifact::load(store, &image.descriptor).ok();
    let whole: Vec<Artifact> = images.iter().filter_map(whole).collect();
    let chains = |image: &Complete| ChainId::each(&image.config.value().rootfs.diff_ids).collect::<Vec<_>>();
    whole.iter().flat_map(Artifact::images).flat_map(chains).map(SnapshotId::chain).collect()
}
