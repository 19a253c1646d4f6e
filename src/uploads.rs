//! Uploads that are not finished, remembered in the state directory: the next push goes on with them.
//!
//! What is remembered may open a session of the user's at a registry, so it is the user's alone to read.

use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// No registry keeps a session for so long.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);
const MAX_BYTES: u64 = 16 * 1024;

/// The folder of what is remembered.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
}

impl Uploads {
    /// Those of the state directory `root`; what is too old to be of use goes.
    pub(crate) fn of(root: &Path) -> Uploads {
        let folder = root.join("uploads");
        let is_stale = |path: &Path| {
            let modified = path.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > STALE))
        };
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if is_stale(&path) {
                // What cannot be deleted is of no use all the same.
                std::fs::remove_file(&path).ok();
            }
        }
        Uploads { folder }
    }

    fn write(&self, key: &str, session: &str) -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let temporary = self.folder.join(format!(".{key}-{}", std::process::id()));
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(session.as_bytes())?;
        std::fs::rename(&temporary, self.folder.join(key))
    }
}

impl registry::Sessions for Uploads {
    fn load(&self, key: &str) -> Option<String> {
        let mut session = String::new();
        File::open(self.folder.join(key)).ok()?.take(MAX_BYTES).read_to_string(&mut session).ok()?;
        Some(session)
    }

    fn save(&self, key: &str, session: &str) {
        // What is not remembered is sent again.
        self.write(key, session).ok();
    }

    fn remove(&self, key: &str) {
        std::fs::remove_file(self.folder.join(key)).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use registry::Sessions as _;

    use super::*;

    #[test]
    fn what_is_saved_is_loaded_until_it_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let uploads = Uploads::of(root.path());
        assert_eq!(uploads.load("k"), None);
        uploads.save("k", "http://h/1?secret");
        uploads.save("k", "http://h/2?secret");
        assert_eq!(Uploads::of(root.path()).load("k").as_deref(), Some("http://h/2?secret"));
        let file = root.path().join("uploads/k");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(root.path().join("uploads")).unwrap().count(), 1);
        let old = std::time::SystemTime::now() - 2 * STALE;
        File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert_eq!(Uploads::of(root.path()).load("k"), None);
        uploads.save("k", "x");
        uploads.remove("k");
        uploads.remove("k");
        assert_eq!(uploads.load("k"), None);
    }
}
