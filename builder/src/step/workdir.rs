//! `WORKDIR`: a directory that must exist.

use std::os::fd::AsFd;

use layerfs::confined::{NewDirectory, Owner, Root};
use layerfs::snapshot::Active;

use super::MADE_AT;
use crate::Error;
use crate::plan::{Step, Workdir};

/// Makes the directory and those above it, for the current user; what exists stays as it is.
pub(crate) fn execute(step: &Step, workdir: &Workdir, active: &Active) -> Result<(), Error> {
    let fail = |source| Error::Step { span: step.span, act: "make the directory", source };
    let owner = match workdir.user.as_str() {
        "" => Owner::default(),
        user => {
            let identity = runner::user::lookup(active.root().as_fd(), user)
                .map_err(|source| Error::User { span: step.span, source })?;
            Owner { uid: identity.uid, gid: identity.gid }
        }
    };
    let new = NewDirectory { mode: 0o755, owner, modified: Some(MADE_AT) };
    let root = Root::duplicate(active.root()).map_err(fail)?;
    root.make_dirs(&workdir.path, &new).map_err(fail)?;
    Ok(())
}
