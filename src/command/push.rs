//! `lbuild push`: an image of the store, or an index with all its images, goes to the registry that its name says.

use builder::deliver::{self, Artifact};

use crate::args::PushArgs;
use crate::command::{self, Session};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::home::Registries;
use crate::output;
use crate::progress::Progress;

pub(crate) fn push(args: &PushArgs, session: &Session) -> Result<Exit, Failure> {
    let name = &args.name;
    if name.digest().is_some() {
        return Err(Failure::usage(format!("cannot push `{}`: expected a name and a tag", name.familiar())));
    }
    let form = args.compression.form().map_err(Failure::usage)?;
    let home = session.open_home()?;
    let registries =
        Registries::for_push(&args.transfer.registry, args.push_retry, &session.environment, &home)?;
    let progress = Progress::new(args.transfer.progress, args.transfer.quiet)?;
    let stored = home.find(&name.familiar())?;
    let artifact = Artifact::load(&home.store, &stored.descriptor).map_err(home.failure("read the image"))?;
    let pushed = command::line(&progress, 0, format!("pushing {}", name.familiar()), |vertex, events| {
        let (store, client) = (&home.store, &registries.client);
        let pushed = deliver::convert_and_push(&artifact, &form, name, store, client, (vertex, events))?;
        deliver::push_referrers(&pushed, name, store, client, (vertex, events))?;
        Ok(pushed)
    });
    progress.finish();
    let pushed = pushed.map_err(|error| Failure::delivery(&error, &home.facts(&registries)))?;
    // From now on the name stands here for what it stands for there.
    command::rename(&home.store, &stored.descriptor, pushed.descriptor(), std::slice::from_ref(name))
        .map_err(|error| Failure::delivery(&error, &home.facts(&registries)))?;
    if args.transfer.quiet {
        output::print(&format!("{}\n", pushed.descriptor().digest))?;
    }
    progress.summary(&command::summary(&pushed, &[name.familiar()]));
    Ok(Exit::Done)
}
