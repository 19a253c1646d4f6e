//! `lbuild tag`: another name for an image that is in the store.

use crate::args::TagArgs;
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn tag(args: &TagArgs, session: &Session) -> Result<Exit, Failure> {
    if args.name.digest().is_some() {
        return Err(Failure::has_digest(&args.name));
    }
    let home = session.open_home()?;
    let image = home.find(&args.image)?;
    home.store.tag(&args.name, &image.descriptor).map_err(home.failure("name the image"))?;
    Ok(Exit::Done)
}
