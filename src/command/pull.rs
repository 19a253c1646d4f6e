//! `lbuild pull`: an image comes from a registry into the store, all of it.

use std::collections::BTreeSet;

use builder::deliver::{self, Artifact};
use builder::error::ImageError;
use builder::source::{BaseImage, ImageSource, Images, progress_events};
use builder::transfer::{self, Place};
use oci::{Platform, Reference};

use crate::args::PullArgs;
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Home, Registries};
use crate::output;
use crate::progress::Progress;

pub(crate) fn pull(args: &PullArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let registries = Registries::new(&args.transfer.registry, &session.environment)?;
    let progress = Progress::new(args.transfer.progress, args.transfer.quiet)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let pulled = fetch(&args.name, &platform, Then::Keep, &home, &registries, &progress);
    let pulled = pulled.and_then(|image| {
        if args.referrers {
            referrers(&args.name, &image, &home, &registries, &progress)?;
        }
        Ok(image)
    });
    progress.finish();
    let image = pulled?;
    if args.transfer.quiet {
        output::print(&format!("{}\n", image.descriptor.digest))?;
    }
    let artifact = Artifact::load(&home.store, &image.descriptor).map_err(home.failure("read the image"))?;
    progress.summary(&command::summary(&artifact, &[args.name.familiar()]));
    Ok(Exit::Done)
}

/// What a pulled image is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// To be there.
    Keep,
    /// To be run at once: its layers are unpacked while they come.
    Run,
}

/// Brings what `name` stands for in its registry into the store, whatever the store has by this name.
pub(super) fn fetch(
    name: &Reference,
    platform: &Platform,
    then: Then,
    home: &Home,
    registries: &Registries,
    progress: &Progress,
) -> Result<BaseImage, Failure> {
    let snapshots = home.store.snapshots();
    let images = Images::new(&home.store, &*snapshots, &registries.client);
    let image = command::line(progress, 0, format!("pulling {}", name.familiar()), |vertex, events| {
        let image = images.resolve(name, platform, true)?;
        let progress = progress_events(vertex, events);
        if then == Then::Run {
            images.snapshot(&image, &progress)?;
        }
        images.fetch(&image, &progress)?;
        Ok(image)
    })
    .map_err(|error: ImageError| {
        let message = format!("cannot pull `{}`", name.familiar());
        Failure::image(message, name, &error, &home.facts(registries))
    })?;
    deliver::name(&home.store, &image.descriptor, std::slice::from_ref(name))
        .map_err(|error| Failure::delivery(&error, &home.facts(registries)))?;
    Ok(image)
}

/// Brings what refers to `image` in its registry.
fn referrers(
    name: &Reference,
    image: &BaseImage,
    home: &Home,
    registries: &Registries,
    progress: &Progress,
) -> Result<(), Failure> {
    let from = Place::Registry { client: &registries.client, reference: name.clone() };
    let to = Place::in_store(&home.store, name);
    let title = format!("pulling what refers to {}", name.familiar());
    command::line(progress, 1, title, |vertex, events| {
        transfer::referrers(&from, &to, BTreeSet::from([image.descriptor.digest]), (vertex, events))
    })
    .map_err(|error| {
        let act = format!("pull what refers to `{}`", name.familiar());
        Failure::transfer(&act, Some(name), &error, &home.facts(registries))
    })
}
