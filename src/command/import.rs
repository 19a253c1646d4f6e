//! `lbuild import`: a file system that is no image becomes one of a single layer.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

use builder::deliver;
use builder::load::import::{self, Import, Tree};
use builder::source::Images;
use oci::Platform;

use crate::args::{ImportArgs, RegistryArgs};
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::{Failure, Source};
use crate::home::Registries;
use crate::{output, request};

pub(crate) fn import(args: &ImportArgs, session: &Session) -> Result<Exit, Failure> {
    let is_stdin = args.source == Path::new("-");
    if is_stdin && io::stdin().is_terminal() {
        return Err(Failure::usage("there is no archive on standard input"));
    }
    if let Some(name) = args.name.as_ref().filter(|name| name.digest().is_some()) {
        return Err(Failure::has_digest(name));
    }
    let epoch = request::epoch_of_environment(&session.environment)?;
    let home = session.open_home()?;
    let registries = Registries::new(&RegistryArgs::default(), &session.environment)?;
    let snapshots = home.store.snapshots();
    let images = Images::new(&home.store, &*snapshots, &registries.client);
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let config = import::configuration(&args.changes, &platform, &images).map_err(|error| {
        let text = import::dockerfile(&args.changes);
        Failure::build(&error, Source { name: "--change", text: &text }, &home.facts(&registries))
    })?;
    let source = if is_stdin { "-".to_owned() } else { args.source.display().to_string() };
    let message = args.message.clone().unwrap_or_else(|| format!("Imported from {source}"));
    let about = Import { platform, config, message, epoch };
    let imported = match &args.source {
        _ if is_stdin => import::import(Tree::Archive(&mut io::stdin()), about, &home.store, &*snapshots),
        path if path.is_dir() => import::import(Tree::Directory(path), about, &home.store, &*snapshots),
        path => {
            let mut file = File::open(path).map_err(|error| Failure::file("open", path, &error))?;
            import::import(Tree::Archive(&mut file), about, &home.store, &*snapshots)
        }
    };
    let descriptor = imported.map_err(|error| Failure::load(&source, &error))?;
    deliver::name(&home.store, &descriptor, args.name.as_slice())
        .map_err(|error| Failure::delivery(&error, &home.facts(&registries)))?;
    output::print(&format!("{}\n", descriptor.digest))?;
    Ok(Exit::Done)
}
