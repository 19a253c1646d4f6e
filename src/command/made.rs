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

/// A base.
pub(super) enum Base<'a> {
    /// An image of the store.
    Stored {
        /// What it was asked for by.
        text: &'a str,
        image: StoredImage,
    },
    /// One that is not there, and so its registry's.
    Elsewhere { name: Reference, registries: Registries },
}

impl<'a> Base<'a> {
    /// What `text` names, on the list or not.
    pub(super) fn find(
        text: &'a str,
        args: &MadeArgs,
        home: &Home,
        session: &Session,
    ) -> Result<Base<'a>, Failure> {
        if let Some(image) = home.store.find(text).map_err(home.failure("find the image"))? {
            return Ok(Base::Stored { text, image });
        }
        let registries = Registries::new(&args.registry, &session.environment)?;
        let name = text.parse().map_err(|_| Failure::no_such_image(text))?;
        Ok(Base::Elsewhere { name, registries })
    }

    /// The name that an image can be found by elsewhere.
    pub(super) fn name(&self) -> Option<&Reference> {
        match self {
            Base::Stored { image, .. } => image.reference.as_ref(),
            Base::Elsewhere { name, .. } => Some(name),
        }
    }

    /// The image for `platform`, with all its layers.
    pub(super) fn load(&self, platform: &Platform, home: &Home) -> Result<Complete, Failure> {
        let (name, registries) = match self {
            Base::Stored { text, image } => {
                let act = format!("use `{text}` as a base");
                return command::image_for(home, &image.descriptor, platform, &act);
            }
            Base::Elsewhere { name, registries } => (name, registries),
        };
        let snapshots = home.store.snapshots();
        let images = Images::new(&home.store, &*snapshots, &registries.client);
        let found = images.resolve(name, platform, false).and_then(|image| {
            images.fetch(&image, &|_, _| true)?;
            Ok(image)
        });
        let image = found.map_err(|error| {
            let message = format!("cannot pull `{}`", name.familiar());
            Failure::image(message, name, &error, &home.facts(registries))
        })?;
        Ok(Complete {
            manifest: image.manifest,
            config: image.config,
            descriptor: image.descriptor,
            base: Some(name.clone()),
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
