//! A layout that is written: blobs by a rename, the list of images last. (OCI image-spec, image-layout.md.)

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use layerfs::layout::LAYOUT;
use oci::descriptor::REF_NAME;
use oci::{Descriptor, Index, Raw, Verifier};

use super::TransferError;

fn fail(path: &Path) -> impl Fn(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::Write { path: path.clone(), source }
}

/// Makes `path` a layout unless it is one.
pub(super) fn prepare(path: &Path) -> Result<(), TransferError> {
    let blobs = path.join("blobs/sha256");
    let version = path.join("oci-layout");
    let is_foreign = || {
        let entries = std::fs::read_dir(path).ok();
        entries.is_some_and(|mut entries| entries.next().is_some()) && !version.exists()
    };
    if is_foreign() {
        return Err(TransferError::NoLayout { path: path.to_owned() });
    }
    DirBuilder::new().recursive(true).mode(0o755).create(&blobs).map_err(fail(&blobs))?;
    if !version.exists() {
        replace(&version, LAYOUT)?;
    }
    let list = path.join("index.json");
    if !list.exists() {
        replace(&list, Raw::write(Index::oci(Vec::new())).bytes())?;
    }
    Ok(())
}

pub(super) fn has(path: &Path, blob: &Descriptor) -> bool {
    path.join(blob.digest.blob_path()).metadata().is_ok_and(|metadata| metadata.len() == blob.size)
}

/// Keeps the bytes of `reader` if they are what `blob` promises.
pub(super) fn put(path: &Path, blob: &Descriptor, reader: impl Read) -> Result<(), TransferError> {
    let place = path.join(blob.digest.blob_path());
    let folder = place.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(fail(&place))?;
    replace(&place, Verifier::new(reader, blob.digest, blob.size))
}

/// Lists `entry`, in place of what goes by `tag`, or of itself.
pub(super) fn list(path: &Path, entry: &Descriptor, tag: Option<&str>) -> Result<(), TransferError> {
    let place = path.join("index.json");
    let bytes = std::fs::read(&place).map_err(fail(&place))?;
    let list = Raw::<Index>::parse(bytes, "index").map_err(TransferError::Document)?;
    let mut index = list.value().clone();
    let mut entry = entry.clone();
    entry.annotations.remove(REF_NAME);
    entry.annotations.extend(tag.map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
    let name = |other: &Descriptor| other.annotations.get(REF_NAME).cloned();
    let is_replaced = |other: &Descriptor| match tag {
        Some(tag) => name(other).as_deref() == Some(tag),
        None => name(other).is_none() && other.digest == entry.digest,
    };
    index.manifests.retain(|other| !is_replaced(other));
    index.manifests.push(entry);
    replace(&place, Raw::write(index).bytes())
}

/// Puts what `bytes` gives at `place` once it is whole. What is there goes, whatever it is: a link is not followed.
fn replace(place: &Path, mut bytes: impl Read) -> Result<(), TransferError> {
    let (temporary, mut file) = beside(place).map_err(fail(place))?;
    let mut write = || {
        io::copy(&mut bytes, &mut file)?;
        std::fs::rename(&temporary, place)
    };
    write().map_err(|error| {
        // The error that matters is the one being returned.
        std::fs::remove_file(&temporary).ok();
        fail(place)(error)
    })
}

/// A new file in the same directory. One by its name may be a killed process's, or that of a process elsewhere.
fn beside(place: &Path) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = place.with_file_name(format!(".lbuild-{}-{count}", std::process::id()));
        match File::options().write(true).create_new(true).mode(0o644).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (path, file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_left_is_not_in_the_way_and_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let left = |count: u64| folder.path().join(format!(".lbuild-{}-{count}", std::process::id()));
        (0..100).for_each(|count| std::fs::write(left(count), "theirs").expect("a file"));
        let place = folder.path().join("index.json");
        replace(&place, &b"ours"[..]).expect("the file");
        assert_eq!(std::fs::read(&place).expect("the file"), b"ours");
        assert!((0..100).all(|count| std::fs::read(left(count)).is_ok_and(|bytes| bytes == b"theirs")));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 101);
    }
}
