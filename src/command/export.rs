//! `lbuild export`: the files of an image, without the image, as one tar.

use std::io;

use builder::deliver::rootfs::{self, Place};
use builder::source::Images;
use oci::Platform;

use crate::args::{ExportArgs, RegistryArgs};
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Registries;
use crate::{output, request};

pub(crate) fn export(args: &ExportArgs, session: &Session) -> Result<Exit, Failure> {
    output::expect_no_terminal(args.output.as_deref())?;
    let epoch = request::epoch_of_environment(&session.environment)?;
    let home = session.open_home()?;
    let registries = Registries::new(&RegistryArgs::default(), &session.environment)?;
    let snapshots = home.store.snapshots();
    let images = Images::new(&home.store, &*snapshots, &registries.client);
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let stored = home.find(&args.image)?;
    let act = format!("export `{}`", args.image);
    let image = command::image_for(&home, &stored.descriptor, &platform, &act)?;
    let source = rootfs::Source { images: &images, snapshots: &*snapshots };
    let mut stdout = io::stdout();
    let place = match &args.output {
        Some(path) => Place::Archive(path),
        None => Place::Stream(&mut stdout),
    };
    rootfs::open(&[image], false, source, (0, &|_| ()))
        .and_then(|mut trees| {
            trees.iter_mut().for_each(|tree| tree.packing.epoch = epoch);
            rootfs::write(&trees, place)
        })
        .map_err(|error| Failure::delivery(&error, &home.facts(&registries)))?;
    Ok(Exit::Done)
}
