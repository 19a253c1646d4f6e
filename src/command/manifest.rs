//! `lbuild manifest`: an index of images that are in registries already, as `docker manifest` makes it.
//!
//! Between `create` and `push` the index is a draft in the state directory, in `drafts/`. Its images need not be in the
//! store, and so it is no image of the store.

use std::path::PathBuf;

use builder::transfer::{self, Place, What};
use oci::{
    Descriptor, Digest, Document, ImageConfig, Index, MAX_DOCUMENT_BYTES, MediaType, Platform, Raw, Reference,
};
use registry::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::args::{
    ManifestAnnotateArgs, ManifestCreateArgs, ManifestInspectArgs, ManifestPushArgs, ManifestRmArgs,
    ManifestVerb, RegistryArgs,
};
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Home, Registries};
use crate::output;

pub(crate) fn manifest(verb: &ManifestVerb, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    match verb {
        ManifestVerb::Create(args) => create(args, &home, session)?,
        ManifestVerb::Annotate(args) => annotate(args, &home)?,
        ManifestVerb::Push(args) => push(args, &home, session)?,
        ManifestVerb::Inspect(args) => inspect(args, &home, session)?,
        ManifestVerb::Rm(args) => rm(args, &home)?,
    }
    Ok(Exit::Done)
}

/// An index that was begun.
#[derive(Serialize, Deserialize)]
struct Draft {
    images: Vec<Entry>,
}

/// An image of it.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// By what name it came.
    image: String,
    descriptor: Descriptor,
}

impl Draft {
    fn path(name: &Reference, home: &Home) -> PathBuf {
        home.store.root().join("drafts").join(Digest::of(name.to_string().as_bytes()).hex())
    }

    fn load(name: &Reference, home: &Home) -> Result<Option<Draft>, Failure> {
        let path = Draft::path(name, home);
        let fail = |error: std::io::Error| Failure::file("read", &path, &error);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| fail(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    fn need(name: &Reference, home: &Home) -> Result<Draft, Failure> {
        Draft::load(name, home)?.ok_or_else(|| {
            Failure::usage(format!("no index `{}` was begun", name.familiar()))
                .hint("`lbuild manifest create INDEX IMAGE…` begins one")
        })
    }

    fn save(&self, name: &Reference, home: &Home) -> Result<(), Failure> {
        let path = Draft::path(name, home);
        let folder = home.store.root().join("drafts");
        std::fs::create_dir_all(&folder).map_err(|error| Failure::file("create", &folder, &error))?;
        let bytes = serde_json::to_vec(self).expect("a draft has string keys and no failing parts");
        home.store.write_record(&path, &bytes).map_err(home.failure("keep the index"))
    }

    fn remove(name: &Reference, home: &Home) -> Result<(), Failure> {
        let path = Draft::path(name, home);
        std::fs::remove_file(&path).map_err(|error| Failure::file("delete", &path, &error))
    }

    /// The index as it is pushed: Docker's kind if all its images are Docker's.
    fn index(&self) -> Raw<Index> {
        let entries: Vec<Descriptor> = self.images.iter().map(|image| image.descriptor.clone()).collect();
        let is_dockers = entries.iter().all(|entry| entry.media_type == MediaType::DockerManifest);
        let kind = if is_dockers { MediaType::DockerManifestList } else { MediaType::OciIndex };
        Raw::write(Index { media_type: Some(kind), ..Index::oci(entries) })
    }
}

fn client(
    insecure: bool,
    names: &[&Reference],
    args: &RegistryArgs,
    home: &Home,
    session: &Session,
) -> Result<Registries, Failure> {
    let mut args = args.clone();
    if insecure {
        args.insecure_registry.extend(names.iter().map(|name| name.registry().to_owned()));
    }
    Registries::for_push(&args, None, &session.environment, home)
}

fn create(args: &ManifestCreateArgs, home: &Home, session: &Session) -> Result<(), Failure> {
    let name = &args.index;
    if name.digest().is_some() {
        return Err(Failure::usage(format!(
            "`{}` has a digest: an index has a name and a tag",
            name.familiar()
        )));
    }
    let known = Draft::load(name, home)?;
    if known.is_some() && !args.amend {
        return Err(Failure::usage(format!("the index `{}` was begun already", name.familiar()))
            .hint("`--amend` adds to it, and `lbuild manifest rm` forgets it"));
    }
    let names: Vec<&Reference> = args.images.iter().collect();
    let registries = client(args.insecure, &names, &args.registry, home, session)?;
    let mut draft = known.unwrap_or_else(|| Draft { images: Vec::new() });
    for image in &args.images {
        let found = entries(image, &registries.client).map_err(|error| {
            let message = format!("cannot look at `{}`", image.familiar());
            Failure::image(message, image, &error, &home.facts(&registries))
        })?;
        draft.images.retain(|old| found.iter().all(|new| new.descriptor.digest != old.descriptor.digest));
        draft.images.extend(found);
    }
    draft.save(name, home)?;
    output::print(&format!("Created manifest list {}\n", name.familiar()))
}

/// What `image` brings into an index: itself, or the images of the index that it is.
fn entries(image: &Reference, client: &Client) -> Result<Vec<Entry>, registry::Error> {
    let fetched = client.document(image)?;
    let entry = |descriptor: Descriptor| Entry { image: image.to_string(), descriptor };
    match fetched.document {
        Document::Index(index) => Ok(index.value().manifests.iter().cloned().map(entry).collect()),
        Document::Manifest(manifest) => {
            let platform = platform(image, &manifest.value().config, client)?;
            Ok(vec![entry(Descriptor { platform, ..fetched.descriptor })])
        }
    }
}

/// What an image's configuration says of its platform; an artifact has none.
fn platform(
    image: &Reference,
    config: &Descriptor,
    client: &Client,
) -> Result<Option<Platform>, registry::Error> {
    if config.size > MAX_DOCUMENT_BYTES {
        return Ok(None);
    }
    let config = serde_json::from_slice::<ImageConfig>(&client.blob(image, config)?.bytes()?).ok();
    Ok(config.map(|config| config.platform()).filter(|platform| !platform.architecture.is_empty()))
}

fn annotate(args: &ManifestAnnotateArgs, home: &Home) -> Result<(), Failure> {
    let mut draft = Draft::need(&args.index, home)?;
    let wanted = args.image.to_string();
    let is_meant = |entry: &&mut Entry| {
        entry.image == wanted || args.image.digest().is_some_and(|digest| digest == entry.descriptor.digest)
    };
    let Some(entry) = draft.images.iter_mut().find(is_meant) else {
        let message = format!("`{}` is not in the index `{}`", args.image.familiar(), args.index.familiar());
        return Err(Failure::usage(message).hint("`lbuild manifest create --amend` adds it"));
    };
    let old = entry.descriptor.platform.take().unwrap_or_else(|| Platform::new("linux", "", None));
    let os = args.os.as_deref().unwrap_or(&old.os);
    let architecture = args.arch.as_deref().unwrap_or(&old.architecture);
    let variant = match (&args.variant, &args.arch) {
        (Some(variant), _) => Some(variant.as_str()),
        // The variant was one of the old architecture.
        (None, Some(_)) => None,
        (None, None) => old.variant.as_deref(),
    };
    let mut platform = Platform::new(os, architecture, variant);
    platform.extra.clone_from(&old.extra);
    if let Some(version) = &args.os_version {
        platform.extra.insert("os.version".to_owned(), Value::String(version.clone()));
    }
    if !args.os_features.is_empty() {
        platform.extra.insert("os.features".to_owned(), json!(args.os_features));
    }
    entry.descriptor.platform = Some(platform);
    draft.save(&args.index, home)
}

/// Brings what is elsewhere into the index's repository, and then the index.
fn push(args: &ManifestPushArgs, home: &Home, session: &Session) -> Result<(), Failure> {
    let name = &args.index;
    let draft = Draft::need(name, home)?;
    let parse = |text: &str| text.parse::<Reference>().map_err(Failure::usage);
    let images =
        draft.images.iter().map(|image| parse(&image.image)).collect::<Result<Vec<Reference>, _>>()?;
    let names: Vec<&Reference> = images.iter().chain([name]).collect();
    let registries = client(args.insecure, &names, &args.registry, home, session)?;
    for (entry, image) in draft.images.iter().zip(&images).filter(|(_, image)| image.name() != name.name()) {
        let at = |reference: &Reference| Place::Registry {
            client: &registries.client,
            reference: reference.at(entry.descriptor.digest),
        };
        transfer::copy(&at(image), &at(name), &What::default(), (0, &|_| ())).map_err(|error| {
            let act = format!("copy `{}` to `{}`", image.familiar(), name.familiar());
            Failure::transfer(&act, Some(name), &error, &home.facts(&registries))
        })?;
    }
    let index = draft.index();
    let kind = index.value().media_type.clone().unwrap_or(MediaType::OciIndex);
    let digest = registries.client.push_manifest(name, &kind, index.bytes()).map_err(|error| {
        let message = format!("cannot push `{}`", name.familiar());
        Failure::image(message, name, &error, &home.facts(&registries))
    })?;
    if args.purge {
        Draft::remove(name, home)?;
    }
    output::print(&format!("{digest}\n"))
}

fn inspect(args: &ManifestInspectArgs, home: &Home, session: &Session) -> Result<(), Failure> {
    if let Some(draft) = Draft::load(&args.name, home)? {
        return output::print_json(draft.index().value());
    }
    let registries = client(args.insecure, &[&args.name], &args.registry, home, session)?;
    let fetched = registries.client.document(&args.name).map_err(|error| {
        let message = format!("cannot look at `{}`", args.name.familiar());
        Failure::image(message, &args.name, &error, &home.facts(&registries))
    })?;
    match fetched.document {
        Document::Manifest(manifest) => output::print_json(manifest.value()),
        Document::Index(index) => output::print_json(index.value()),
    }
}

fn rm(args: &ManifestRmArgs, home: &Home) -> Result<(), Failure> {
    for name in &args.indexes {
        Draft::need(name, home)?;
        Draft::remove(name, home)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_of_former_versions_are_read() {
        let descriptor = Descriptor::new(MediaType::OciManifest, Digest::of(b"x"), 1);
        let image = json!({"image": "a.example/b:1", "repository": "a.example/b", "descriptor": descriptor});
        let draft: Draft =
            serde_json::from_value(json!({"name": "a.example/b:2", "images": [image]})).unwrap();
        assert_eq!(draft.index().value().manifests, [descriptor]);
    }
}
