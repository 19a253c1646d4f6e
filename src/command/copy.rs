//! `lbuild copy`: an image goes from a registry, a layout or the store to another, as it is.

use builder::source::layout::LayoutImage;
use builder::transfer::{self, Place, TransferError, What};
use oci::Reference;

use crate::args::CopyArgs;
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::{Home, Registries};
use crate::output;
use crate::progress::Progress;

/// What other tools can name and this one cannot.
const OTHERS: [&str; 6] =
    ["containers-storage:", "dir:", "docker-archive:", "docker-daemon:", "oci-archive:", "ostree:"];

pub(crate) fn copy(args: &CopyArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let registries =
        Registries::for_push(&args.transfer.registry, args.push_retry, &session.environment, &home)?;
    let progress = Progress::new(args.transfer.progress, args.transfer.quiet)?;
    let from = place(&args.from, &home, &registries)?;
    let to = place(&args.to, &home, &registries)?;
    let what = What { platform: args.platform.clone(), referrers: args.referrers };
    let title = format!("copying {} to {}", args.from, args.to);
    let copied = command::line(&progress, 0, title, |vertex, events| {
        transfer::copy(&from, &to, &what, (vertex, events))
    });
    progress.finish();
    let copied = copied.map_err(|error| failure(&error, args, &home, &registries))?;
    if args.transfer.quiet {
        output::print(&format!("{}\n", copied.digest))?;
    }
    progress.summary(&format!("{} {}", copied.digest, args.to));
    Ok(Exit::Done)
}

/// Reads `docker://NAME`, which `NAME` is short for, `oci:DIR[:TAG]` or `store:NAME`.
pub(super) fn place<'a>(
    text: &str,
    home: &'a Home,
    registries: &'a Registries,
) -> Result<Place<'a>, Failure> {
    if let Some(layout) = text.strip_prefix("oci:") {
        return layout.parse::<LayoutImage>().map(Place::Layout).map_err(Failure::usage);
    }
    if let Some(name) = text.strip_prefix("store:") {
        // A name is made whole; what is none may be an id.
        let name = name.parse::<Reference>().map_or_else(|_| name.to_owned(), |name| name.to_string());
        return Ok(Place::Store { store: &home.store, name });
    }
    if let Some(other) = OTHERS.iter().find(|other| text.starts_with(**other)) {
        return Err(Failure::usage(format!("`{text}`: there is no `{other}` here"))
            .hint("places are `docker://NAME`, `oci:DIR[:TAG]` and `store:NAME`"));
    }
    let reference = text.strip_prefix("docker://").unwrap_or(text).parse().map_err(Failure::usage)?;
    Ok(Place::Registry { client: &registries.client, reference })
}

fn failure(error: &TransferError, args: &CopyArgs, home: &Home, registries: &Registries) -> Failure {
    // Whose registry refused is seen by its address.
    let text = error.to_string();
    let named = [&args.from, &args.to]
        .into_iter()
        .filter_map(|place| place.strip_prefix("docker://").unwrap_or(place).parse::<Reference>().ok());
    let named: Vec<Reference> = named.collect();
    let at_fault = named.iter().find(|name| text.contains(&format!("/{}/", name.repository())));
    let act = format!("copy `{}` to `{}`", args.from, args.to);
    Failure::transfer(&act, at_fault.or(named.first()), error, &home.facts(registries))
}
