//! Failures of the verbs that look into images and make others of them.

use std::error::Error as _;

use builder::rework::Error;

use super::{Failure, hint};
use crate::exit::Exit;
use crate::text;

/// How many paths are named, so that the hint stays in sight.
const SHOWN: usize = 20;

impl Failure {
    /// An image that cannot be looked into, or made into another.
    pub(crate) fn rework(error: &Error) -> Failure {
        let exit = match error {
            Error::NotOn { .. } | Error::NoBase | Error::Platform { .. } | Error::Conflicts { .. } => {
                Exit::Failed
            }
            Error::Store { .. } | Error::Layers { .. } | Error::Index(_) => Exit::Environment,
        };
        let mut failure = Failure::new(exit, error).caused_by(error.source());
        match error {
            Error::Store { source: layerfs::Error::MissingBlob { .. }, .. } => {
                failure.hint("`lbuild pull NAME` fetches all layers of an image")
            }
            Error::Store { source, .. } => failure.or_hint(hint::of(source, None, &hint::Facts::default())),
            Error::Conflicts { paths } => {
                let shown = paths.iter().take(SHOWN);
                failure
                    .head
                    .extend(shown.map(|path| format!("  /{}", text::printable(&path.to_string_lossy()))));
                if let Some(more) = paths.len().checked_sub(SHOWN + 1) {
                    failure.head.push(format!("  and {} more", more + 1));
                }
                failure.hint("build the image on the new base; or `--force` keeps what it has at these paths")
            }
            Error::NotOn { .. } => failure.hint("`lbuild inspect` shows the layers of both, as `RootFS`"),
            _ => failure,
        }
    }

    /// An image of which nobody knows what it was built on.
    pub(crate) fn no_base(image: &str) -> Failure {
        Failure::new(Exit::Failed, format!("nothing says what `{image}` was built on"))
    }

    /// A path that leads nowhere in an image.
    pub(crate) fn no_such_file(path: &str, image: &str) -> Failure {
        Failure::new(Exit::Failed, format!("no `{path}` in `{image}`"))
    }

    /// Something else where a regular file is wanted.
    pub(crate) fn not_a_file(path: &str, found: &str) -> Failure {
        Failure::new(Exit::Failed, format!("`{path}` is not a file: found a {found}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::rework(&error)
    }
}
