//! What `squash` and `rebase` share: finding the bases that they are given, and keeping the image that they make.

use builder::deliver::{self, Artifact, Complete};
use builder::rework;
use builder::source::{ImageSource, Images};
use layerfs::layout::StoredImage;
use oci::{Platform, Reference};

use crate::args::MadeArgs;
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Home, Registries};
use crate::output;

/// A base: an image of the store, or else of its registry.
pub(super) struct Base<'a> {
    text: &'a str,
    listed: Option<StoredImage>,
    registries: Option<Registries>,
}

impl<'a> Base<'a> {
    /// What `text` names, on the list or not.
    pub(super) fn find(
        text: &'a str,
        args: &MadeArgs,
        home: &Home,
        session: &Session,
    ) -> Result<Base<'a>, Failure> {
        let listed = home.store.find(text).map_err(home.failure("find the image"))?;
        let registries = match &listed {
            Some(_) => None,
            None => Some(Registries::new(&args.registry, &session.environment)?),
        };
        Ok(Base { text, listed, registries })
    }

    /// The name that an image can be found by elsewhere.
    pub(super) fn name(&self) -> Option<Reference> {
        let listed = self.listed.as_ref().and_then(|image| image.reference.clone());
        listed.or_else(|| self.text.parse().ok().filter(|_| self.listed.is_none()))
    }

    /// The image for `platform`, with all its layers.
    pub(super) fn load(&self, platform: &Platform, home: &Home) -> Result<Complete, Failure> {
        let Some(registries) = &self.registries else {
            let listed = self.listed.as_ref().ok_or_else(|| Failure::no_such_image(self.text))?;
            let act = format!("use `{}` as a base", self.text);
            return command::image_for(home, &listed.descriptor, platform, &act);
        };
        let name: Reference = self.text.parse().map_err(|_| Failure::no_such_image(self.text))?;
        let snapshots = home.store.snapshots();
        let images = Images::new(&home.store, &*snapshots, &registries.client);
        let found = images.resolve(&name, platform, false).and_then(|image| {
            images.fetch(&image, &|_, _| true)?;
            Ok(image)
        });
        let image = found.map_err(|error| {
            let message = format!("cannot pull `{}`", name.familiar());
            Failure::image(message, &name, &error, &home.facts(registries))
        })?;
        Ok(Complete {
            manifest: image.manifest,
            config: image.config,
            descriptor: image.descriptor,
            base: Some(name),
            referrers: Vec::new(),
        })
    }
}

/// Makes an image of each image that `text` stands for.
pub(super) fn each(
    text: &str,
    home: &Home,
    work: impl Fn(&Complete) -> Result<Complete, Failure>,
) -> Result<Artifact, Failure> {
    let stored = home.find(text)?;
    let artifact = Artifact::load(&home.store, &stored.descriptor).map_err(home.failure("read the image"))?;
    rework::each(&artifact, &home.store, work)
}

/// # Errors
/// A name says what will be made; a digest cannot.
pub(super) fn check_names(args: &MadeArgs) -> Result<(), Failure> {
    let named = args.tags.iter().find(|name| name.digest().is_some());
    named.map_or(Ok(()), |name| Err(Failure::has_digest(name)))
}

/// Names the new image, or keeps it without a name, and says what it is.
pub(super) fn keep(artifact: &Artifact, args: &MadeArgs, home: &Home) -> Result<Exit, Failure> {
    deliver::name(&home.store, artifact.descriptor(), &args.tags)
        .map_err(|error| Failure::delivery(&error, &crate::failure::Facts::default()))?;
    let names: Vec<String> = args.tags.iter().map(Reference::familiar).collect();
    let said = match args.quiet {
        true => artifact.descriptor().digest.to_string(),
        false => command::summary(artifact, &names),
    };
    output::print(&(said + "\n"))?;
    Ok(Exit::Done)
}
