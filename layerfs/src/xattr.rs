//! Which extended attributes a layer carries, and how they are read and set.
//!
//! Those that belong to the image travel: file capabilities and `user.*`. Those that belong to a machine stay
//! behind: security labels and overlayfs's own marks. Access control lists are between the two: a layer that has some
//! gives them to its files, as with other tools, but none is put into a layer unless that was asked for, since a list
//! that a build comes by otherwise is about this machine's users.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

use crate::confined::xattr::{list_of, names, value_of};

const CAPABILITY: &[u8] = b"security.capability";

/// The lists of a file and, for what will be made in it, of a directory, in the kernel's form. (acl(5))
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whether files get the attribute `name` from a layer.
pub(crate) fn travels(name: &[u8]) -> bool {
    is_acl(name) || name == CAPABILITY || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Whether this is an access control list.
pub(crate) fn is_acl(name: &[u8]) -> bool {
    ACLS.contains(&name)
}

/// The attributes of an open file that a layer carries, with its access control lists if `acls` says so.
pub(crate) fn read(file: impl AsFd, acls: bool) -> rustix::io::Result<Xattrs> {
    let mut xattrs = Xattrs::new();
    let list = list_of(file.as_fd())?;
    for name in travelling(&list).filter(|name| acls || !is_acl(name.to_bytes())) {
        let mut value = value_of(file.as_fd(), name)?;
        if name.to_bytes() == CAPABILITY {
            value = without_namespace(value);
        }
        xattrs.insert(name.to_bytes().to_vec(), value);
    }
    Ok(xattrs)
}

/// Sets the attributes that a layer carries; others, which an archive may have, are passed over.
pub(crate) fn set(file: impl AsFd, xattrs: &Xattrs) -> rustix::io::Result<()> {
    for (name, value) in xattrs.iter().filter(|(name, _)| travels(name)) {
        match fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            // Some file systems have no attributes for users, or no lists; programs must live with that anyway.
            Err(Errno::NOTSUP) if name != CAPABILITY => {}
            set => set?,
        }
    }
    Ok(())
}

/// What becomes of the access control lists that something has because of the directory it was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inherited {
    Stay,
    Go,
}

/// Makes the attributes that a layer carries exactly these, but for inherited lists that stay.
pub(crate) fn replace(file: impl AsFd, xattrs: &Xattrs, inherited: Inherited) -> rustix::io::Result<()> {
    let goes = |name: &[u8]| !xattrs.contains_key(name) && (inherited == Inherited::Go || !is_acl(name));
    for name in travelling(&list_of(file.as_fd())?).filter(|name| goes(name.to_bytes())) {
        fremovexattr(&file, name)?;
    }
    set(file, xattrs)
}

/// Whether the file system keeps `user.` attributes; [`set`] passes over what it does not keep.
pub(crate) fn has_user_attributes(file: impl AsFd) -> bool {
    fgetxattr(file, "user.any", &mut [0_u8; 0][..]) != Err(Errno::NOTSUP)
}

/// The names in a list that travel.
fn travelling(list: &[u8]) -> impl Iterator<Item = &CStr> {
    names(list).filter(|name| travels(name.to_bytes()))
}

/// Capabilities set in a user namespace (revision 3) name the namespace's root; an image has none, so they
/// become revision 2. (capabilities(7), "File capability extended attribute versioning".)
fn without_namespace(mut value: Vec<u8>) -> Vec<u8> {
    if value.len() == 24 && value[3] == 3 {
        value[3] = 2;
        value.truncate(20);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels() {
        for (name, expected) in [
            (&b"user.comment"[..], true),
            (b"security.capability", true),
            (b"user.overlay.opaque", false),
            (b"trusted.overlay.opaque", false),
            (b"security.selinux", false),
            (b"system.posix_acl_access", true),
            (b"system.posix_acl_default", true),
            (b"system.nfs4_acl", false),
        ] {
            assert_eq!(travels(name), expected, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn capabilities_lose_their_namespace() {
        let mut three = vec![1, 0, 0, 3];
        three.extend([7; 16]);
        let two: Vec<u8> = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        assert_eq!(without_namespace([&three[..], &[9; 4]].concat()), two);
        assert_eq!(without_namespace(two.clone()), two);
    }
}
