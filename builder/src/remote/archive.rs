//! Archives that are build contexts.
//!
//! What an archive is, and how it is unpacked, is what ADD has it (`layerfs::copy`): it is put into a snapshot as a
//! file, and unpacked from there into a directory of a second one. Where nothing is to be unpacked a file comes to
//! be in the directory's place, which tells the two apart. What the archive holds is then moved up to the root of a
//! third. Owners stay as the archive has them.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use layerfs::IoResultExt;
use layerfs::checksum;
use layerfs::confined::{Kind, Owner, Root};
use layerfs::copy::{self, Filters, Selection};
use layerfs::snapshot::{Active, SnapshotId, Snapshotter};
use layerfs::store::Store;

use super::{FetchError, Tree, record};

/// The longest Dockerfile.
const MAX_DOCKERFILE_BYTES: u64 = 16 << 20;
const SPOOLED: &str = "context";
const UNPACKED: &str = "tree";

/// Unpacks the archive that `reader` gives, compressed in any way that ADD knows, into a snapshot.
///
/// The identity is that of the files, so that an archive packed anew of the same files is the same.
///
/// # Errors
/// [`FetchError::NotAnArchive`] with all that was read, which may be a Dockerfile.
pub fn unpack_context(
    reader: &mut (dyn Read + Send),
    store: &Store,
    snapshots: &dyn Snapshotter,
) -> Result<Tree, FetchError> {
    let stored = FetchError::store("keep the build context");
    let spool = snapshots.prepare(None).map_err(&stored)?;
    let root = Root::duplicate(spool.root()).map_err(&stored)?;
    let mut file = root.create_file(Path::new(SPOOLED), 0o600, Owner::default()).map_err(&stored)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => file.write_all(&buffer[..count]).at("write", SPOOLED).map_err(&stored)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(FetchError::ReadContext { source }),
        }
    }
    let Some(active) = unpack(&spool, SPOOLED, snapshots)? else {
        return Err(match root.read_small(Path::new(SPOOLED), MAX_DOCKERFILE_BYTES) {
            Ok(bytes) => FetchError::NotAnArchive { head: bytes.unwrap_or_default() },
            Err(layerfs::Error::FileTooLarge { limit_bytes, .. }) => {
                FetchError::ContextTooLarge { limit_bytes }
            }
            Err(source) => stored(source),
        });
    };
    keep(active, store, snapshots)
}

/// A context that has no files, for a Dockerfile that comes alone.
///
/// # Errors
/// When the store cannot be written.
pub fn empty_context(store: &Store, snapshots: &dyn Snapshotter) -> Result<Tree, FetchError> {
    let active = snapshots.prepare(None).map_err(FetchError::store("make the build context"))?;
    keep(active, store, snapshots)
}

/// Commits a context under what its files are.
fn keep(active: Active, store: &Store, snapshots: &dyn Snapshotter) -> Result<Tree, FetchError> {
    let stored = FetchError::store("keep the build context");
    let root = Root::duplicate(active.root()).map_err(&stored)?;
    let content = checksum::digest(&root, &select(&root, "")?, checksum::Options::default());
    let identity = record::digest_of(&[b"lbuild tar tree 1", content.map_err(&stored)?.as_bytes()]);
    let snapshot = SnapshotId::key(identity);
    snapshots.commit(active, &snapshot).map_err(&stored)?;
    let tree = Tree { identity, snapshot, modified: None, name: String::new(), commit: None };
    record::put_tree(store, &tree)?;
    Ok(tree)
}

/// Unpacks the file `name` of `source`; `None` if it is no archive.
pub(super) fn unpack(
    source: &Active,
    name: &str,
    snapshots: &dyn Snapshotter,
) -> Result<Option<Active>, FetchError> {
    let stored = FetchError::store("unpack the build context");
    let from = Root::duplicate(source.root()).map_err(&stored)?;
    let scratch = snapshots.prepare(None).map_err(&stored)?;
    let to = Root::duplicate(scratch.root()).map_err(&stored)?;
    let options = copy::Options { unpack: true, ..copy::Options::default() };
    let selection = select(&from, name)?;
    copy::copy(&from, &selection, &to, &Path::new("/").join(UNPACKED), &options).map_err(&stored)?;
    let unpacked = to.symlink_metadata(Path::new(UNPACKED)).map_err(&stored)?;
    if unpacked.is_none_or(|found| found.kind != Kind::Directory) {
        return Ok(None);
    }
    let active = snapshots.prepare(None).map_err(&stored)?;
    lift(&scratch, Path::new(UNPACKED), &active).map_err(&stored)?;
    Ok(Some(active))
}

/// Moves all that is in a directory of one snapshot to the root of another. Both have no parent, so that what they
/// show is what they hold; `directory` leads through no link.
pub(super) fn lift(from: &Active, directory: &Path, to: &Active) -> layerfs::Result<()> {
    let (from, to) = (from.upper_path().join(directory), to.upper_path());
    for entry in fs::read_dir(&from).at("list", directory)? {
        let name = entry.at("list", directory)?.file_name();
        fs::rename(from.join(&name), to.join(&name)).at("move", directory.join(&name))?;
    }
    Ok(())
}

fn select(root: &Root, source: &str) -> Result<Selection, FetchError> {
    let filters = Filters { matches: &|_, _| false, ignore: None, exclude: None };
    copy::select(root, &[source], &filters).map_err(FetchError::store("read the build context"))
}
