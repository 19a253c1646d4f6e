//! The directory that a store is in: whether it may be one, and that it is its owner's alone.
//!
//! Order: it is made if it is missing; a directory of another user, and one that holds other things, are left as they
//! are; then it is closed to others, and gets the folders that are missing.
//!
//! Invariant: whoever opens a store deletes what is left over in it, so nothing is taken for a store that somebody else
//! could have filled, or that somebody has named by mistake.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::shown;
use crate::{Error, IoResultExt, Result, ingest};

/// The folders that every store has.
const FOLDERS: [&str; 12] = [
    "blobs",
    "blobs/sha256",
    "downloads",
    "ingest",
    "snapshots",
    "trees",
    "mounts",
    "memo",
    "resolved",
    "cache",
    "trash",
    "leases",
];

/// What a store has from its beginning; one that was killed there may have some of these and nothing else.
const EARLY: [&str; 6] = ["lock", "oci-layout", "index.json", "index.lock", "state.json", "pruned"];

/// What a new file system has.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// Why a directory is no place for a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It is this user's, who may have prepared it to do harm.
    Owner(u32),
    /// It has this in it, which no store has.
    Stranger(OsString),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::Owner(owner) => write!(f, "belongs to user {owner}"),
            Objection::Stranger(name) => {
                write!(f, "is no store of images, and not empty: there is `{}`", shown(Path::new(name)))
            }
        }
    }
}

/// Makes `root` fit to be a store; gives its path from the top, without links.
pub(crate) fn prepare(root: &Path) -> Result<PathBuf> {
    match std::fs::create_dir_all(root) {
        // Something is there that is no directory.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Errno::NOTDIR).at("open", root),
        made => made.at("create", root)?,
    }
    // Mounts are made from these paths, so they must not depend on the working directory.
    let root = root.canonicalize().at("open", root)?;
    let dir = ingest::open_dir(&root).at("open", &root)?;
    let owner = fstat(&dir).at("read the metadata of", &root)?.st_uid;
    if owner != geteuid().as_raw() {
        return Err(Error::Site { root, objection: Objection::Owner(owner) });
    }
    if let Some(name) = stranger(&root)? {
        return Err(Error::Site { root, objection: Objection::Stranger(name) });
    }
    fchmod(&dir, Mode::from_raw_mode(0o700)).at("set the mode of", &root)?;
    FOLDERS.iter().try_for_each(|folder| make(&root.join(folder), owner))?;
    Ok(root)
}

/// Something in `root` that no store has, unless it surely is one.
fn stranger(root: &Path) -> Result<Option<OsString>> {
    if root.join("oci-layout").exists() && root.join("state.json").exists() {
        return Ok(None);
    }
    let known = |name: &OsString| {
        FOLDERS.iter().chain(&EARLY).chain([&LOST_AND_FOUND]).any(|known| name.as_os_str() == *known)
    };
    for entry in std::fs::read_dir(root).at("list", root)? {
        let name = entry.at("list", root)?.file_name();
        if !known(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Makes a folder, which is no link and nobody else's if it is there.
fn make(folder: &Path, owner: u32) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found = folder.symlink_metadata().at("read the metadata of", folder)?;
            if !found.is_dir() {
                return Err(Errno::NOTDIR).at("open", folder);
            }
            if found.uid() != owner {
                let objection = Objection::Owner(found.uid());
                return Err(Error::Site { root: folder.to_owned(), objection });
            }
            Ok(())
        }
        made => made.at("create", folder),
    }
}
