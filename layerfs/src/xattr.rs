//! Which extended attributes a layer carries, and how they are read and set.
//!
//! Those that belong to the image travel: file capabilities and `user.*`. Those that belong to a machine stay
//! behind: security labels, access control lists of the host's users, and overlayfs's own marks.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

const CAPABILITY: &[u8] = b"security.capability";

/// The kernel's limits for a list of names and for a value, in bytes (xattr(7)).
const MAX_BYTES: usize = 64 * 1024;

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Whether a layer carries the attribute `name`.
pub(crate) fn travels(name: &[u8]) -> bool {
    name == CAPABILITY || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// The attributes of an open file that a layer carries.
pub(crate) fn read(file: impl AsFd) -> rustix::io::Result<Xattrs> {
    let mut xattrs = Xattrs::new();
    for name in list(&file)? {
        let mut value = vec![0; MAX_BYTES];
        let length = fgetxattr(&file, name.as_slice(), value.as_mut_slice())?;
        value.truncate(length);
        value.shrink_to_fit();
        if name == CAPABILITY {
            value = without_namespace(value);
        }
        xattrs.insert(name, value);
    }
    Ok(xattrs)
}

/// Sets the attributes that a layer carries; others, which an archive may have, are passed over.
pub(crate) fn set(file: impl AsFd, xattrs: &Xattrs) -> rustix::io::Result<()> {
    for (name, value) in xattrs.iter().filter(|(name, _)| travels(name)) {
        match fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            // Some file systems have no attributes for users; programs must live with that anyway.
            Err(Errno::NOTSUP) if name != CAPABILITY => {}
            set => set?,
        }
    }
    Ok(())
}

/// Makes the attributes that a layer carries exactly these.
pub(crate) fn replace(file: impl AsFd, xattrs: &Xattrs) -> rustix::io::Result<()> {
    for name in list(&file)?.iter().filter(|name| !xattrs.contains_key(*name)) {
        fremovexattr(&file, name.as_slice())?;
    }
    set(file, xattrs)
}

/// Whether the file system keeps `user.` attributes; [`set`] passes over what it does not keep.
pub(crate) fn has_user_attributes(file: impl AsFd) -> bool {
    fgetxattr(file, "user.any", &mut [0_u8; 0][..]) != Err(Errno::NOTSUP)
}

fn list(file: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    // Most files have none, or a short label.
    let mut names = vec![0; 256];
    let length = match flistxattr(&file, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => 0,
        Err(Errno::RANGE) => {
            names.resize(MAX_BYTES, 0);
            flistxattr(&file, names.as_mut_slice())?
        }
        length => length?,
    };
    let names = names[..length].split(|byte| *byte == 0);
    Ok(names.filter(|name| travels(name)).map(<[u8]>::to_vec).collect())
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
            (b"system.posix_acl_access", false),
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
