//! `lbuild tags`: what a repository has, a tag a line.

use oci::Reference;

use crate::args::TagsArgs;
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::{Facts, Failure};
use crate::home::Registries;
use crate::output;

pub(crate) fn tags(args: &TagsArgs, session: &Session) -> Result<Exit, Failure> {
    let text = args.repository.strip_prefix("docker://").unwrap_or(&args.repository);
    let repository: Reference = text.parse().map_err(Failure::usage)?;
    let registries = Registries::new(&args.registry, &session.environment)?;
    let tags = registries.client.tags(&repository).map_err(|error| {
        let message = format!("cannot list the tags of `{}`", args.repository);
        let facts = Facts { root: None, keychain: Some(&registries.keychain) };
        Failure::image(message, &repository, &error, &facts)
    })?;
    output::print(&tags.iter().map(|tag| format!("{tag}\n")).collect::<String>())?;
    Ok(Exit::Done)
}
