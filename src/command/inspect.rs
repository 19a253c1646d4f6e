//! `lbuild inspect`: all that is known of images, in the form of `docker image inspect`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::args::{InspectArgs, JsonOnly};
use crate::command::{self, Session, images};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;
use crate::output;

pub(crate) fn inspect(args: &InspectArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let images: Vec<Value> =
        args.images.iter().map(|text| describe(text, &home)).collect::<Result<_, _>>()?;
    match args.format {
        JsonOnly::Json => output::print_json(&images)?,
    }
    Ok(Exit::Done)
}

fn describe(text: &str, home: &Home) -> Result<Value, Failure> {
    let found = home.find(text)?;
    let image = command::complete(home, &found.descriptor).map_err(home.failure("read the image"))?;
    let twins = home.twins(&found)?;
    let names = || twins.iter().filter_map(|twin| Some((twin.reference.as_ref()?, twin.descriptor.digest)));
    let tags: Vec<String> =
        names().filter(|(name, _)| name.tag().is_some()).map(|(name, _)| name.familiar()).collect();
    let by_digest: BTreeSet<String> =
        names().map(|(name, digest)| format!("{}@{digest}", images::repository(name))).collect();
    let config = image.config.value();
    let layers = &image.manifest.value().layers;
    Ok(json!({
        "Id": image.config.digest(),
        "RepoTags": tags,
        "RepoDigests": by_digest,
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": layers.iter().map(|layer| layer.size).sum::<u64>(),
        "Config": config.config,
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        "Descriptor": found.descriptor,
    }))
}
