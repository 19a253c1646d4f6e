//! `WORKDIR`: a directory that must exist.

use layerfs::confined::{NewDirectory, Root};
use layerfs::snapshot::Active;

use super::{MADE_AT, owner};
use crate::plan::{Step, Workdir};
use crate::{Error, Events};

/// Makes the directory and those above it, for the current user; what exists stays as it is.
pub(crate) fn execute(
    (step, workdir): (&Step, &Workdir),
    active: &Active,
    events: Events<'_>,
) -> Result<(), Error> {
    let fail = |source| Error::Step { span: step.span, act: "make the directory", source };
    let owner = owner::resolve(&workdir.user, active.root(), ("USER ", step.span), events)?;
    let new = NewDirectory { mode: 0o755, owner, modified: Some(MADE_AT) };
    let root = Root::duplicate(active.root()).map_err(fail)?;
    root.make_dirs(&workdir.path, &new).map_err(fail)?;
    Ok(())
}
