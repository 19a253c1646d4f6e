//! Whom `--chown` and `USER` mean for files: users and groups of the image that is being built.
//!
//! Rules: BuildKit's `readUser`. A lone number is user and group alike; a name has the group of its entry in
//! `/etc/passwd`; both halves are looked up for themselves. What is not there is told and stays as it was: the user is
//! root, the group the one that the user brought.

use std::os::fd::BorrowedFd;

use layerfs::confined::Owner;
use runner::user::UserProblem;

use crate::dockerfile::diagnostic::{Diagnostic, Severity, Span};
use crate::{Error, Event, Events};

/// The owner that `text` names in the file system `root`. `flag` is where it was said, for what is told.
pub(crate) fn resolve(
    text: &str,
    root: BorrowedFd<'_>,
    (flag, span): (&str, Span),
    events: Events<'_>,
) -> Result<Owner, Error> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let tell = |what: &str, name: &str, instead: &str| {
        let message = format!("`{flag}{text}`: the image has no {what} `{name}`; {instead} owns the files");
        let warning = Diagnostic { severity: Severity::Warning, ..Diagnostic::error(span, message) };
        events(Event::Warning { warning });
    };
    let mut owner = match user.parse::<u32>() {
        Ok(id) => Owner { uid: id, gid: id },
        Err(_) if user.is_empty() => Owner::default(),
        Err(_) => match find(root, user, span)? {
            Some(owner) => owner,
            None => {
                tell("user", user, "root");
                Owner::default()
            }
        },
    };
    match group.map(|group| (group, group.parse::<u32>())) {
        None | Some(("", _)) => {}
        Some((_, Ok(gid))) => owner.gid = gid,
        Some((name, Err(_))) => match find(root, &format!("0:{name}"), span)? {
            Some(found) => owner.gid = found.gid,
            None => tell("group", name, &format!("group {}", owner.gid)),
        },
    }
    Ok(owner)
}

fn find(root: BorrowedFd<'_>, text: &str, span: Span) -> Result<Option<Owner>, Error> {
    match runner::user::lookup(root, text) {
        Ok(identity) => Ok(Some(Owner { uid: identity.uid, gid: identity.gid })),
        Err(runner::Error::User { problem: UserProblem::NoUser | UserProblem::NoGroup, .. }) => Ok(None),
        Err(source) => Err(Error::User { span, source }),
    }
}
