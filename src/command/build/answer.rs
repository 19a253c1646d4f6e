//! `--call`: what there is to know of a Dockerfile, without building it.
//!
//! Where all that is read is on this machine, neither root nor the store is needed; `check` asks for images.

use builder::dockerfile::ast;
use builder::remote::Fetcher;
use oci::Platform;

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
        act => tell(act, &order, &material, &platform),
    }
}

/// What needs the Dockerfile alone.
fn tell(act: Act, order: &Order<'_>, material: &Material, platform: &Platform) -> Result<Exit, Failure> {
    let request = order.request(material, platform);
    let source = Source { name: &request.dockerfile_name, text: &request.dockerfile };
    let fail = |error: builder::Error| Failure::dockerfile(&error, source);
    match act {
        Act::Outline | Act::Targets | Act::Check => {
            return Err(Failure::usage("this call is not supported yet"));
        }
        // The tree has no other form.
        Act::Ast | Act::Build => {
            let nodes = ast::to_values(&request.dockerfile)
                .map_err(|diagnostics| fail(builder::Error::Dockerfile { diagnostics }))?;
            output::print_json(&nodes)?;
        }
    }
    Ok(Exit::Done)
}

fn gather(args: &BuildArgs, order: &Order<'_>, session: &Session) -> Result<Material, Failure> {
    home::need_root("unpacking contexts")?;
    let environment = &session.environment;
    let progress = Progress::new(args.output.progress, args.output.quiet)?;
    let home = session.open_home()?;
    let registries = Registries::new(&args.registries(), environment)?;
    let snapshots = home.store.snapshots();
    let fetcher = Fetcher::new(
        &home.store,
        &snapshots,
        &registries.client,
        environment.fetching(order.agent(environment)),
    );
    let gatherer =
        Gatherer { store: &home.store, snapshots: &snapshots, remotes: &fetcher, progress: &progress };
    let material = order.gather(&gatherer, &|| false);
    progress.finish();
    material
}
