//! `lbuild save`: images of the store go into one archive or directory, with the names that they were asked for by.

use std::io;

use builder::deliver::{self, Artifact, Form, Readers, docker};
use layerfs::layout::{Referrers, Target};
use oci::Reference;

use crate::args::{Progress as Display, SaveArgs, SaveFormat};
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;
use crate::output;
use crate::progress::Progress;

pub(crate) fn save(args: &SaveArgs, session: &Session) -> Result<Exit, Failure> {
    if args.output.is_none() && args.format == Some(SaveFormat::OciDir) {
        return Err(
            Failure::usage("a directory cannot be written to standard output").hint("`-o DIR` names one")
        );
    }
    output::expect_no_terminal(args.output.as_deref())?;
    let home = session.open_home()?;
    let progress = Progress::new(Display::Auto, args.quiet)?;
    let images = find(args, &home)?;
    let mut stdout = io::stdout();
    let target = match (&args.output, args.format) {
        (None, _) => Target::Stream(&mut stdout),
        (Some(path), Some(SaveFormat::OciDir)) => Target::Directory(path),
        (Some(path), _) => Target::Archive(path),
    };
    let saved = command::line(&progress, 0, "saving the images".to_owned(), |_, _| {
        if args.format == Some(SaveFormat::DockerArchive) {
            return docker::docker_archive(&images, target, &home.store);
        }
        let readers = if args.format.is_none() { Readers::Docker } else { Readers::Oci };
        let images = images.into_iter().map(|(artifact, names)| {
            Ok((deliver::convert(&artifact, &Form::default(), &home.store)?, names))
        });
        let images = images.collect::<Result<Vec<_>, builder::Error>>()?;
        deliver::layout(&images, readers, Referrers::Listed, target, &home.store)
    });
    progress.finish();
    saved.map_err(|error| Failure::delivery(&error, &home.root_facts()))?;
    Ok(Exit::Done)
}

/// Each image once, with the names by which it was asked for; one that was asked for by its id has none.
fn find(args: &SaveArgs, home: &Home) -> Result<Vec<(Artifact, Vec<Reference>)>, Failure> {
    let mut images: Vec<(Artifact, Vec<Reference>)> = Vec::new();
    for text in &args.images {
        let mut found = home.find(text)?;
        if let Some(platform) = &args.platform {
            let act = format!("save `{text}`");
            found.descriptor = command::pick(home, &found.descriptor, platform, &act)?;
        }
        let asked: Option<Reference> = text.parse().ok();
        let name = found.reference.filter(|name| asked.as_ref() == Some(name));
        let known = images.iter_mut().find(|(one, _)| one.descriptor().digest == found.descriptor.digest);
        let names = match known {
            Some((_, names)) => names,
            None => {
                let artifact =
                    Artifact::load(&home.store, &found.descriptor).map_err(home.failure("read the image"))?;
                images.push((artifact, Vec::new()));
                &mut images.last_mut().expect("it was just added").1
            }
        };
        names.extend(name.filter(|name| !names.contains(name)));
    }
    Ok(images)
}
