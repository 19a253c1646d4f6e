//! `lbuild build`: Dockerfile in, image out, delivered.
//!
//! Request → build → the store → registries and files → what is said of it. Whatever fails on this way fails
//! the command, and what was delivered before stays.

mod interrupt;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use builder::cache::LocalCache;
use builder::deliver::{self, Complete, Layout};
use builder::exec::Containers;
use builder::source::Images;
use builder::{Backends, Image};
use oci::Reference;
use runner::Launcher;
use serde_json::json;

use crate::args::BuildArgs;
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::{Failure, Source};
use crate::home::Registries;
use crate::output;
use crate::progress::Progress;
use crate::request::{self, Delivery};
use crate::signal::Signals;
use crate::value::{Destination, Output};
use interrupt::{Interrupt, Interruptible};

pub(crate) fn build(
    args: &BuildArgs,
    session: &Session,
    launcher: &Launcher,
    signals: &Signals,
) -> Result<Exit, Failure> {
    let (request, delivery) = request::resolve(args, &session.environment)?;
    let progress = Progress::new(args.progress, args.quiet)?;
    let home = session.open_home()?;
    let registries = Registries::new(&args.registry, &session.environment)?;
    let snapshots = home.store.snapshots();
    let images = Images::new(&home.store, &snapshots, &registries.client);
    let containers = Containers::new(launcher);
    let interrupt = Interrupt::new(&containers, &progress);
    let backends = Backends {
        store: &home.store,
        snapshots: &snapshots,
        images: &Interruptible { images: &images, interrupt: &interrupt },
        executor: &containers,
        cache: &LocalCache::new(&home.store, &snapshots),
    };
    let source = Source { name: &request.dockerfile_name, text: &request.dockerfile };
    let fail = |error: builder::Error| Failure::build(&error, source, &home.facts(&registries));

    let delivered = interrupt.watch(signals, || {
        let image = builder::build(&request, &backends, &interrupt.cancel, &|event| progress.show(event))?;
        interrupt.remotely(|| deliver(&image, &delivery, &backends, &registries, &progress))
    });
    progress.finish();
    let image = delivered.map_err(fail)?;
    record(&image, &delivery)?;
    let names: Vec<String> = delivery.tags.iter().map(Reference::familiar).collect();
    if args.quiet && !delivery.uses_stdout() {
        output::print(&format!("{}\n", image.descriptor.digest))?;
    }
    progress.summary(&command::summary(&image, &names));
    Ok(Exit::Done)
}

/// Brings the image to every place that was asked for; gives it as the last of them has it.
fn deliver(
    image: &Image,
    delivery: &Delivery,
    backends: &Backends<'_>,
    registries: &Registries,
    progress: &Progress,
) -> Result<Complete, builder::Error> {
    let store = backends.store;
    let mut lines = 0..;
    let mut next = || lines.next().unwrap_or_default();
    let stored = command::line(progress, next(), "storing the image".to_owned(), |vertex, events| {
        deliver::store(image, &delivery.tags, backends, (vertex, events))
    })?;
    let mut delivered = stored.clone();
    for output in &delivery.outputs {
        let (name, is_archive) = describe(output);
        delivered = command::line(progress, next(), format!("writing {name}"), |_, _| {
            write(&stored, &delivery.tags, output, is_archive, store)
        })?;
    }
    for tag in delivery.tags.iter().filter(|_| delivery.push) {
        delivered =
            command::line(progress, next(), format!("pushing {}", tag.familiar()), |vertex, events| {
                deliver::push(&stored, tag, store, &registries.client, (vertex, events))
            })?;
    }
    // What is said of the image is true here as well as where it went.
    command::rename(store, &stored.descriptor, &delivered.descriptor, &delivery.tags)?;
    Ok(delivered)
}

/// What an output is called, and whether it is an archive rather than a directory: as was said, or else by its
/// looks, an existing directory and a path that ends with a slash being directories.
fn describe(output: &Output) -> (String, bool) {
    match &output.destination {
        Destination::Stdout => ("standard output".to_owned(), true),
        Destination::Path(path) => {
            let looks_like_directory = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
            (path.display().to_string(), output.archive.unwrap_or(!looks_like_directory))
        }
    }
}

fn write(
    image: &Complete,
    names: &[Reference],
    output: &Output,
    is_archive: bool,
    store: &layerfs::store::Store,
) -> Result<Complete, builder::Error> {
    match &output.destination {
        Destination::Stdout => deliver::oci(image, names, Layout::Stream(&mut io::stdout().lock()), store),
        Destination::Path(path) if is_archive => deliver::oci(image, names, Layout::Archive(path), store),
        Destination::Path(path) => deliver::oci(image, names, Layout::Directory(path), store),
    }
}

/// Writes `--iidfile` and `--metadata-file`.
fn record(image: &Complete, delivery: &Delivery) -> Result<(), Failure> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
    };
    if let Some(path) = &delivery.iidfile {
        write(path, image.descriptor.digest.to_string())?;
    }
    if let Some(path) = &delivery.metadata_file {
        write(path, metadata(image, &delivery.tags))?;
    }
    Ok(())
}

/// The keys that `docker buildx build --metadata-file` writes.
fn metadata(image: &Complete, tags: &[Reference]) -> String {
    let mut keys = BTreeMap::from([
        ("containerimage.config.digest", json!(image.config.digest())),
        ("containerimage.descriptor", json!(image.descriptor)),
        ("containerimage.digest", json!(image.descriptor.digest)),
    ]);
    if !tags.is_empty() {
        let names: Vec<String> = tags.iter().map(Reference::to_string).collect();
        keys.insert("image.name", json!(names.join(",")));
    }
    serde_json::to_string_pretty(&keys).expect("keys are strings and no value fails") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_what_it_looks_like() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        for (text, is_archive) in [
            (format!("type=oci,dest={path}/image.tar"), true),
            (format!("type=oci,dest={path}/image"), true),
            (format!("type=oci,dest={path}/image/"), false),
            (format!("type=oci,dest={path}"), false),
            (format!("type=oci,dest={path}/image,tar=false"), false),
            ("type=oci,dest=-".to_owned(), true),
        ] {
            assert_eq!(describe(&text.parse().unwrap()).1, is_archive, "{text}");
        }
    }
}
