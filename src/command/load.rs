//! `lbuild load`: images come out of an archive or a directory into the store, under the names that they have there.

use std::fs::File;
use std::io::{self, IsTerminal};

use builder::deliver;
use builder::load::{self, Loaded};
use oci::Reference;

use crate::args::{LoadArgs, Progress as Display};
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Home;
use crate::output;
use crate::progress::Progress;

pub(crate) fn load(args: &LoadArgs, session: &Session) -> Result<Exit, Failure> {
    let name = match &args.input {
        Some(path) => path.display().to_string(),
        None if io::stdin().is_terminal() => {
            return Err(Failure::usage("there is no archive on standard input").hint("`-i FILE` names one"));
        }
        None => "standard input".to_owned(),
    };
    let home = session.open_home()?;
    let progress = Progress::new(Display::Auto, args.quiet)?;
    let loaded = command::line(&progress, 0, format!("loading {name}"), |_, _| match &args.input {
        Some(path) if path.is_dir() => load::directory(path, &home.store),
        Some(path) => load::archive(&mut File::open(path).map_err(load::LoadError::Read)?, &home.store),
        None => load::archive(&mut io::stdin(), &home.store),
    });
    progress.finish();
    let loaded = loaded.map_err(|error| Failure::load(&name, &error))?;
    for image in &loaded {
        deliver::name(&home.store, &image.descriptor, &image.names)
            .map_err(|error| Failure::delivery(&error, &home.root_facts()))?;
        output::print(&told(image, &home))?;
    }
    Ok(Exit::Done)
}

/// As Docker tells it: a line for each name, or one with the id.
fn told(image: &Loaded, home: &Home) -> String {
    if image.names.is_empty() {
        let id = home.store.manifest(&image.descriptor).map(|manifest| manifest.value().config.digest);
        return format!("Loaded image ID: {}\n", id.unwrap_or(image.descriptor.digest));
    }
    let line = |name: &Reference| format!("Loaded image: {}\n", name.familiar());
    image.names.iter().map(line).collect()
}
