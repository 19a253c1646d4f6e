//! The names by which a layer says that something is gone. (OCI image-spec, layer.md, "Whiteouts".)
//!
//! The only place that knows `.wh.`; its counterpart on disk is overlayfs's character device 0:0
//! ([`crate::entry`]) and the attribute `trusted.overlay.opaque`, and what stands for that in whole trees.

use crate::entry::{Entry, Kind};
use crate::layer::tar::Problem;
use crate::walk::{join, split};

/// The prefix of a whiteout's name.
const PREFIX: &[u8] = b".wh.";

/// The name that hides everything a directory had in lower layers.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// By this attribute, with the value `y`, overlayfs marks a directory that hides the lower ones.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// By this attribute the copying driver marks a directory that it has copied, with the inode of the original: one without
/// it, or with another's, was made anew.
pub(crate) const COPIED_XATTR: &str = "trusted.lbuild.copied";

/// What the last component of an archive's path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// An ordinary file.
    Ordinary,
    /// Hides this sibling of lower layers.
    Whiteout(&'a [u8]),
    /// Hides all siblings of lower layers.
    Opaque,
    /// Left by AUFS; means nothing.
    Ignored,
    /// `.wh.` and nothing more, or a whiteout of `.` or `..`.
    Invalid,
}

/// What an entry of a layer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// An object of its path.
    Object,
    /// Hides `name` of lower layers in `dir`.
    Deletion { dir: &'a [u8], name: &'a [u8] },
    /// Hides everything of lower layers in `dir`.
    Opaque { dir: &'a [u8] },
    /// Nothing.
    Nothing,
}

/// What an entry of a layer means.
pub(crate) fn meaning(entry: &Entry) -> Result<Meaning<'_>, Problem> {
    let (dir, name) = split(&entry.path);
    if dir.split(|byte| *byte == b'/').any(is_reserved) {
        // AUFS kept its own files below such directories.
        return Ok(Meaning::Nothing);
    }
    match classify(name) {
        Name::Ordinary => literal_meaning(entry),
        Name::Whiteout(name) => Ok(Meaning::Deletion { dir, name }),
        Name::Opaque => Ok(Meaning::Opaque { dir }),
        Name::Ignored => Ok(Meaning::Nothing),
        Name::Invalid => Err(Problem::Whiteout),
    }
}

/// What an entry means in an archive that is no layer, where `.wh.` is a name like others.
pub(crate) fn literal_meaning(entry: &Entry) -> Result<Meaning<'_>, Problem> {
    match entry.kind {
        Kind::CharDevice { major: 0, minor: 0 } => Err(Problem::WhiteoutDevice),
        _ => Ok(Meaning::Object),
    }
}

/// Reads a name.
pub fn classify(name: &[u8]) -> Name<'_> {
    match name.strip_prefix(PREFIX) {
        None => Name::Ordinary,
        Some(_) if name == OPAQUE => Name::Opaque,
        Some(b"" | b"." | b"..") => Name::Invalid,
        Some(rest) if rest.starts_with(PREFIX) => Name::Ignored,
        Some(hidden) => Name::Whiteout(hidden),
    }
}

/// Whether a file of this name would be taken for a whiteout.
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// How long this component of an archive's path may be: `NAME_MAX` of every file system of Linux, for the name
/// that is meant.
pub(crate) fn max_name_bytes(name: &[u8]) -> usize {
    if is_reserved(name) { 255 + PREFIX.len() } else { 255 }
}

/// The path in an archive that hides `name` in `dir` (empty for the root).
pub(crate) fn whiteout_path(dir: &[u8], name: &[u8]) -> Vec<u8> {
    join(dir, &[PREFIX, name].concat())
}

/// The path in an archive that hides everything below `dir` in lower layers.
pub(crate) fn opaque_path(dir: &[u8]) -> Vec<u8> {
    join(dir, OPAQUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let table: [(&[u8], Name<'_>); 8] = [
            (b"a", Name::Ordinary),
            (b".wha", Name::Ordinary),
            (b".wh.a", Name::Whiteout(b"a")),
            (b".wh..a", Name::Whiteout(b".a")),
            (b".wh..wh..opq", Name::Opaque),
            (b".wh..wh.plnk", Name::Ignored),
            (b".wh.", Name::Invalid),
            (b".wh...", Name::Invalid),
        ];
        for (name, expected) in table {
            assert_eq!(classify(name), expected, "{}", name.escape_ascii());
        }
        assert_eq!(whiteout_path(b"", b"a"), b".wh.a");
        assert_eq!(opaque_path(b"d/e"), b"d/e/.wh..wh..opq");
    }
}
