//! `lbuild squash`: the layers of an image, or those above a base, become one.

use builder::rework;

use crate::args::SquashArgs;
use crate::command::Session;
use crate::command::made::{self, Base};
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn squash(args: &SquashArgs, session: &Session) -> Result<Exit, Failure> {
    let home = session.open_home()?;
    made::check_names(&args.made)?;
    let base = args.from.as_deref().map(|text| Base::find(text, &args.made, &home, session)).transpose()?;
    let made = made::each(&args.image, &home, |image| {
        let platform = image.config.value().platform();
        let below = base.as_ref().map(|base| base.load(&platform, &home)).transpose()?;
        Ok(rework::squash(image, below.as_ref(), &home.store)?)
    })?;
    made::keep(&made, &args.made, &home)
}
