//! `--call`: what there is to know of a Dockerfile, without building it.
//!
//! Where all that is read is on this machine, neither root nor the store is needed; `check` asks for images.

use std::io::{self, Write};

use builder::call;
use builder::dockerfile::ast;
use builder::remote::Fetcher;
use builder::source::Images;
use oci::Platform;

use super::mirror::Mirrored;
use crate::args::BuildArgs;
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::{Failure, Source};
use crate::home::{self, Registries};
use crate::output;
use crate::progress::Progress;
use crate::request::{Gatherer, Material, Order};
use crate::value::{Act, Call};

/// Answers `call`, which is not for a build.
pub(crate) fn answer(args: &BuildArgs, call: Call, session: &Session) -> Result<Exit, Failure> {
    let order = Order::of(args, &session.environment)?;
    let material = match order.material() {
        Some(material) => material?,
        None => gather(args, &order, session)?,
    };
    let platform = order.platforms()[0].clone();
    match call.act {
        Act::Check => check(args, call, &order, &material, session),
        act => tell(act, call.is_json, &order, &material, &platform),
    }
}

/// What needs the Dockerfile alone.
fn tell(
    act: Act,
    is_json: bool,
    order: &Order<'_>,
    material: &Material,
    platform: &Platform,
) -> Result<Exit, Failure> {
    let request = order.request(material, platform);
    let source = Source { name: &request.dockerfile_name, text: &request.dockerfile };
    let fail = |error: builder::Error| Failure::dockerfile(&error, source);
    match act {
        Act::Outline => {
            let outline = call::outline::outline(&request).map_err(fail)?;
            if is_json { output::print_json(&outline)? } else { output::print(&outline.text())? }
        }
        Act::Targets => {
            let targets = call::targets::targets(&request).map_err(fail)?;
            if is_json { output::print_json(&targets)? } else { output::print(&targets.text())? }
        }
        // The tree has no other form.
        Act::Ast | Act::Build | Act::Check => {
            let nodes = ast::to_values(&request.dockerfile)
                .map_err(|diagnostics| fail(builder::Error::Dockerfile { diagnostics }))?;
            output::print_json(&nodes)?;
        }
    }
    Ok(Exit::Done)
}

/// What the rules find. Warnings fail the command, so that a script may stand on it.
fn check(
    args: &BuildArgs,
    call: Call,
    order: &Order<'_>,
    material: &Material,
    session: &Session,
) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    let registries = Registries::new(&args.registries(), &session.environment)?;
    let snapshots = home.store.snapshots();
    let images = Images::new(&home.store, &*snapshots, &registries.client);
    let mirrored = Mirrored { images: &images, store: &home.store, mirrors: &args.registry.mirrors };
    let request = order.request(material, &order.platforms()[0]);
    let report = call::check::check(&request, &mirrored);
    if call.is_json {
        output::print_json(&report)?;
    } else {
        output::print(&report.text())?;
        let notes: String = report
            .notes
            .iter()
            .map(|note| note.render(&request.dockerfile_name, &request.dockerfile))
            .collect();
        // Nobody is left to tell.
        writeln!(io::stderr().lock(), "{notes}{}", report.summary()).ok();
    }
    // What fails the build has been told with the rest.
    let is_fine = report.warnings.is_empty() && report.failure.is_none();
    Ok(if is_fine { Exit::Done } else { Exit::Failed })
}

fn gather(args: &BuildArgs, order: &Order<'_>, session: &Session) -> Result<Material, Failure> {
    home::need_root("unpacking contexts")?;
    let environment = &session.environment;
    let progress = Progress::new(args.output.progress, args.output.quiet)?;
    let home = session.open_home()?;
    let registries = Registries::new(&args.registries(), environment)?;
    let snapshots = home.store.snapshots();
    let fetcher = Fetcher::new(&home.store, &*snapshots, &registries.client, order.fetching(environment));
    let gatherer =
        Gatherer { store: &home.store, snapshots: &*snapshots, remotes: &fetcher, progress: &progress };
    let material = order.gather(&gatherer, &|| false);
    progress.finish();
    material
}
