//! `lbuild rmi`: names go, and with its last name the image; then what nothing refers to is freed.

use builder::cache::LocalCache;
use layerfs::gc::Roots;
use layerfs::layout::StoredImage;
use oci::Reference;

use crate::args::RmiArgs;
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Home, image_id};
use crate::output;

pub(crate) fn rmi(args: &RmiArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let mut gone = String::new();
    let mut outcome = Ok(Exit::Done);
    for text in &args.images {
        match home.find(text).and_then(|image| remove(text, &image, args.force, &home)) {
            Ok(lines) => gone.push_str(&lines),
            // Docker's `-f`: what is not there need not be removed.
            Err(failure) if args.force && failure == Failure::no_such_image(text) => {}
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
    }
    collect(home)?;
    output::print(&gone)?;
    outcome
}

/// Takes the name `text` away; given an id, all names of the image, of which there must be one at most unless
/// `force` says so. Gives Docker's lines about it.
fn remove(text: &str, image: &StoredImage, force: bool, home: &Home) -> Result<String, Failure> {
    let fail = home.failure("remove the image");
    let twins = home.twins(image)?;
    let names: Vec<&Reference> = twins.iter().filter_map(|twin| twin.reference.as_ref()).collect();
    let is_name = image
        .reference
        .as_ref()
        .is_some_and(|name| text.parse().is_ok_and(|typed: Reference| typed == *name));
    if let Some(name) = image.reference.as_ref().filter(|_| is_name && names.len() > 1 && !force) {
        home.store.untag(name).map_err(fail)?;
        return Ok(format!("Untagged: {}\n", name.familiar()));
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
    let untagged = names.iter().map(|name| format!("Untagged: {}\n", name.familiar()));
    Ok(untagged.chain([format!("Deleted: {id}\n")]).collect())
}

/// Frees what no image and no record of the builder refers to. Another process that uses the store puts it off
/// to the next time.
fn collect(mut home: Home) -> Result<(), Failure> {
    let root = home.store.root().to_owned();
    let fail = |error| Failure::store("free what the images held", &error, &root);
    let snapshots = home.store.snapshots();
    let (kept, blobs) = LocalCache::new(&home.store, &snapshots).references().map_err(fail)?;
    // The collector wants to be alone, in this process too.
    drop(snapshots);
    home.store.collect(&Roots { blobs, snapshots: kept }).map_err(fail)?;
    Ok(())
}
