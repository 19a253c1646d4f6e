//! `lbuild inspect`: all that is known of images, in the form of `docker image inspect`.
//!
//! Of an index the host's image is shown, or else the first, with the index's own id; `Manifests` lists all.

use std::collections::BTreeSet;

use builder::deliver::Artifact;
use oci::Reference;
use serde_json::{Value, json};

use crate::args::{InspectArgs, JsonOnly};
use crate::command::{self, Session, images};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{self, Home, Registries};
use crate::output;

pub(crate) fn inspect(args: &InspectArgs, session: &Session) -> Result<Exit, Failure> {
    if args.raw {
        return raw(args, &session.open_home()?, session);
    }
    let home = session.look_home()?;
    let images: Vec<Value> =
        args.images.iter().map(|text| describe(text, &home)).collect::<Result<_, _>>()?;
    match args.format {
        JsonOnly::Json => output::print_json(&images)?,
    }
    Ok(Exit::Done)
}

/// The documents themselves, wherever they are: in the store, where nothing else is said.
fn raw(args: &InspectArgs, home: &Home, session: &Session) -> Result<Exit, Failure> {
    let registries = Registries::new(&args.registry, &session.environment)?;
    for text in &args.images {
        let is_elsewhere = text.starts_with("docker://") || text.starts_with("oci:");
        let bytes = if is_elsewhere {
            let place = command::copy::place(text, home, &registries)?;
            place.read_root().map_err(|error| {
                let name = text.strip_prefix("docker://").and_then(|name| name.parse::<Reference>().ok());
                let act = format!("look at `{text}`");
                Failure::transfer(&act, name.as_ref(), &error, &home.facts(&registries))
            })?
        } else {
            let found = home.find(text)?;
            home.store.read_document(&found.descriptor).map_err(home.failure("read the image"))?
        };
        output::print_bytes(&bytes)?;
    }
    Ok(Exit::Done)
}

fn describe(text: &str, home: &Home) -> Result<Value, Failure> {
    let found = home.find(text)?;
    let artifact = Artifact::load(&home.store, &found.descriptor).map_err(home.failure("read the image"))?;
    let Some(image) = artifact.representative() else { return Err(Failure::no_such_image(text)) };
    let twins = home.twins(&found)?;
    let names = || twins.iter().filter_map(|twin| Some((twin.reference.as_ref()?, twin.descriptor.digest)));
    let tags: Vec<String> =
        names().filter(|(name, _)| name.tag().is_some()).map(|(name, _)| name.familiar()).collect();
    let by_digest: BTreeSet<String> =
        names().map(|(name, digest)| format!("{}@{digest}", images::repository(name))).collect();
    let config = image.config.value();
    let mut description = json!({
        "Id": home::image_id(&home.store, &found),
        "RepoTags": tags,
        "RepoDigests": by_digest,
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": command::layers(&artifact).values().sum::<u64>(),
        "Config": config.config,
        "RootFS": { "Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids },
        "Descriptor": found.descriptor,
    });
    if let Artifact::Index(index) = &artifact {
        description["Manifests"] = json!(index.index.value().manifests);
    }
    Ok(description)
}
