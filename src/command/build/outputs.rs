//! Where built images go: the store always, and then every place that was asked for, in this order: outputs as they were
//! given, then the registries of the names.

use std::io;
use std::path::Path;

use builder::attest::{self, Statement, sbom};
use builder::deliver::rootfs::{self, Place};
use builder::deliver::{self, Artifact, Attest, Complete, Form};
use builder::{Event, Events, Image, VertexId};
use layerfs::layout::{Referrers, Target};
use oci::Reference;

use super::Works;
use crate::command;
use crate::failure::Failure;
use crate::request::Delivery;
use crate::value::{Destination, Export, Files, Output, Push};

impl Works<'_> {
    /// Brings the images to every place that was asked for; gives them as the last of these has them.
    pub(super) fn deliver(&self, images: &[Image], delivery: &Delivery) -> Result<Artifact, Failure> {
        self.bring(images, delivery)
            .map_err(|error| Failure::delivery(&error, &self.home.facts(self.registries)))
    }

    fn bring(&self, images: &[Image], delivery: &Delivery) -> Result<Artifact, builder::Error> {
        let Works { backends, progress, .. } = self;
        let store = backends.store;
        let mut lines = 0..;
        let mut next = || lines.next().unwrap_or_default();
        let what = if images.len() == 1 { "storing the image" } else { "storing the images and their index" };
        let stored = command::line(progress, next(), what.to_owned(), |vertex, events| {
            let statements =
                |complete: &[Complete]| self.attest(images, complete, delivery, (vertex, events));
            let attest = Attest { statements: &statements, place: delivery.attest_place };
            deliver::store(images, &delivery.names, &delivery.annotations, attest, backends, (vertex, events))
        })?;
        let mut delivered = stored.clone();
        for output in &delivery.outputs {
            let names = if output.names.is_empty() { &delivery.names } else { &output.names };
            let converted = match &output.export {
                Export::Image(Push::Named) => self.push_to(&stored, &output.form, names, &mut next)?,
                _ if output.is_kept() => stored.clone(),
                _ => self.convert(&stored, &output.form, next())?,
            };
            self.export((images, &converted), output, names, delivery, &mut next)?;
            if !matches!(output.export, Export::Files { .. } | Export::Nothing) {
                delivered = converted;
            }
        }
        if !delivery.pushed.is_empty() {
            delivered = self.push_to(&stored, &delivery.push_form, &delivery.pushed, &mut next)?;
        }
        // What is said of the image is true here as well as where it went.
        command::rename(store, stored.descriptor(), delivered.descriptor(), &delivery.names)?;
        Ok(delivered)
    }

    /// What was asked to be stated of each image.
    fn attest(
        &self,
        images: &[Image],
        complete: &[Complete],
        delivery: &Delivery,
        (vertex, events): (VertexId, Events<'_>),
    ) -> Result<Vec<Vec<Statement>>, builder::Error> {
        let fail = |source| builder::Error::Store { act: "list the packages of the image", source };
        let name = delivery.names.first().map_or("image".to_owned(), Reference::familiar);
        let mut statements = Vec::new();
        for (image, complete) in images.iter().zip(complete) {
            let created = image.config.value().created.as_deref();
            let mut own = Vec::new();
            own.extend(delivery.provenance.as_ref().map(|how| image.facts.statement(how, created)));
            if delivery.sbom {
                let one = std::slice::from_ref(complete);
                let trees = rootfs::open(one, false, self.source(), (vertex, events))?;
                let root = trees.first().map(rootfs::Tree::root).transpose().map_err(fail)?.flatten();
                let (statement, notes) = sbom::document(root.as_ref(), &name, created).map_err(fail)?;
                let told = |note: String| Event::Output { vertex, bytes: (note + "\n").into_bytes() };
                notes.into_iter().map(told).for_each(events);
                own.push(statement);
            }
            statements.push(own);
        }
        Ok(statements)
    }

    fn source(&self) -> rootfs::Source<'_> {
        rootfs::Source { images: self.backends.images, snapshots: self.backends.snapshots }
    }

    fn convert(&self, artifact: &Artifact, form: &Form, line: usize) -> Result<Artifact, builder::Error> {
        command::line(self.progress, line, "compressing the layers".to_owned(), |_, _| {
            deliver::convert(artifact, form, self.backends.store)
        })
    }

    /// Pushes the artifact in this form under each of these names; gives what it has become.
    fn push_to(
        &self,
        artifact: &Artifact,
        form: &Form,
        names: &[Reference],
        next: &mut dyn FnMut() -> usize,
    ) -> Result<Artifact, builder::Error> {
        let (store, client) = (self.backends.store, &self.registries.client);
        let Some((first, others)) = names.split_first() else {
            return self.convert(artifact, form, next());
        };
        let title = format!("pushing {}", first.familiar());
        let pushed = command::line(self.progress, next(), title, |vertex, events| {
            deliver::convert_and_push(artifact, form, first, store, client, (vertex, events))
        })?;
        others.iter().try_for_each(|name| self.push(&pushed, name, next()))?;
        Ok(pushed)
    }

    fn push(&self, artifact: &Artifact, name: &Reference, line: usize) -> Result<(), builder::Error> {
        let (store, client) = (self.backends.store, &self.registries.client);
        command::line(self.progress, line, format!("pushing {}", name.familiar()), |vertex, events| {
            deliver::push(artifact, name, store, client, (vertex, events))
        })
    }

    fn export(
        &self,
        (built, artifact): (&[Image], &Artifact),
        output: &Output,
        names: &[Reference],
        delivery: &Delivery,
        next: &mut dyn FnMut() -> usize,
    ) -> Result<(), builder::Error> {
        match &output.export {
            Export::Nothing | Export::Image(Push::No | Push::Named) => Ok(()),
            Export::Image(Push::ByDigest) => {
                let digest = artifact.descriptor().digest;
                names.iter().try_for_each(|name| self.push(artifact, &name.at(digest), next()))
            }
            Export::Layout { to, archive, readers } => {
                let images = [(artifact.clone(), names.to_vec())];
                command::line(self.progress, next(), format!("writing {}", describe(to)), |_, _| {
                    let mut stdout = io::stdout().lock();
                    let target = match to {
                        Destination::Stdout => Target::Stream(&mut stdout),
                        Destination::Path(path) if is_archive(path, *archive) => Target::Archive(path),
                        Destination::Path(path) => Target::Directory(path),
                    };
                    deliver::layout(&images, *readers, Referrers::Given, target, self.backends.store)
                })
            }
            Export::Files { to, split } => {
                let is_split = split.unwrap_or(artifact.images().len() > 1);
                let what = match to {
                    Files::Directory(path) => format!("writing the files to {}", path.display()),
                    Files::Archive(to) => format!("writing the files to {}", describe(to)),
                };
                command::line(self.progress, next(), what, |vertex, events| {
                    let images = artifact.images();
                    let mut trees = rootfs::open(images, is_split, self.source(), (vertex, events))?;
                    for ((tree, image), built) in trees.iter_mut().zip(images).zip(built) {
                        tree.packing = built.packing;
                        let digest = Some(image.descriptor.digest);
                        for companion in artifact.companions().filter(|one| one.subject() == digest) {
                            let mut files = attest::files(companion, self.backends.store)?;
                            let is_inline = delivery.provenance.as_ref().is_some_and(|how| how.inline_only);
                            files.retain(|(name, _)| !(is_inline && name == attest::PROVENANCE_FILE));
                            files.into_iter().for_each(|(name, bytes)| tree.add(name, bytes));
                        }
                    }
                    write_files(&trees, to)
                })
            }
        }
    }
}

fn write_files(trees: &[rootfs::Tree], to: &Files) -> Result<(), builder::Error> {
    match to {
        Files::Directory(path) => {
            let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
            rootfs::write(trees, Place::Directory(path, owner))
        }
        Files::Archive(Destination::Path(path)) => rootfs::write(trees, Place::Archive(path)),
        Files::Archive(Destination::Stdout) => rootfs::write(trees, Place::Stream(&mut io::stdout())),
    }
}

fn describe(to: &Destination) -> String {
    match to {
        Destination::Stdout => "standard output".to_owned(),
        Destination::Path(path) => path.display().to_string(),
    }
}

/// Whether a layout is an archive rather than a directory: as was said, or else by its looks, an existing directory and
/// a path that ends with a slash being directories.
fn is_archive(path: &Path, said: Option<bool>) -> bool {
    let looks_like_directory = path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    said.unwrap_or(!looks_like_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_what_it_looks_like() {
        let dir = tempfile::tempdir().unwrap();
        for (path, said, expected) in [
            ("image.tar", None, true),
            ("image", None, true),
            ("image/", None, false),
            ("", None, false),
            ("image", Some(false), false),
            ("image/", Some(true), true),
        ] {
            assert_eq!(is_archive(&dir.path().join(path), said), expected, "{path} {said:?}");
        }
    }
}
