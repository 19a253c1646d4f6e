//! `lbuild tag`: another name for an image that is in the store.

use crate::args::TagArgs;
use crate::command::Session;
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn tag(args: &TagArgs, session: &Session) -> Result<Exit, Failure> {
    if args.name.digest().is_some() {
        return Err(Failure::usage(format!(
            "`{}` has a digest: expected a name and a tag",
            args.name.familiar()
        )));
    }
    let home = session.open_home()?;
    let image = home.find(&args.image)?;
    home.store.tag(&args.name, &image.descriptor).map_err(home.failure("name the image"))?;
    Ok(Exit::Done)
}
