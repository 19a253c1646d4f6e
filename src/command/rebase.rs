//! `lbuild rebase`: the own layers of an image, as they are, on another base.

use builder::rework::{self, Rebase, base};

use crate::args::RebaseArgs;
use crate::command::Session;
use crate::command::made::{self, Base};
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn rebase(args: &RebaseArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    made::check_names(&args.made)?;
    let onto = Base::find(&args.onto, &args.made, &home, session)?;
    let from = args.from.as_deref().map(|text| Base::find(text, &args.made, &home, session)).transpose()?;
    let made = made::each(&args.image, &home, |image| {
        let platform = image.config.value().platform();
        let old = match &from {
            Some(from) => from.load(&platform, &home)?,
            None => base::find(image, &home.store)?.ok_or_else(|| {
                Failure::no_base(&args.image).hint("say what it was built on with `--from OLDBASE`")
            })?,
        };
        let new = onto.load(&platform, &home)?;
        let rebase = Rebase { image, old: &old, new: &new, name: onto.name(), force: args.force };
        Ok(rework::rebase(&rebase, &home.store)?)
    })?;
    made::keep(&made, &args.made, &home)
}
