//! Where a store may be: nowhere else is anything changed or deleted. Needs root.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use layerfs::store::Store;
use layerfs::{Error, Objection};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_directory_with_other_things_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    for left_over in ["trash/old", "ingest/new", "uploads/photo", "notes"] {
        let path = home.join(left_over);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "dear").unwrap();
    }
    fs::set_permissions(&home, fs::Permissions::from_mode(0o1777)).unwrap();
    let error = Store::open(&home).unwrap_err();
    assert!(matches!(error, Error::Site { objection: Objection::Stranger(_), .. }), "{error:?}");
    assert_eq!(mode(&home), 0o1777);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 4);
    assert_eq!(fs::read_to_string(home.join("trash/old")).unwrap(), "dear");
}

#[test]
fn an_empty_directory_and_what_is_left_of_a_store_will_do() {
    let dir = tempfile::tempdir().unwrap();
    for (name, before) in [("new", &[][..]), ("disk", &["lost+found"]), ("killed", &["blobs", "ingest"])] {
        let root = dir.path().join(name);
        before.iter().for_each(|folder| fs::create_dir_all(root.join(folder)).unwrap());
        drop(Store::open(&root).unwrap());
        assert_eq!(mode(&root), 0o700, "{name}");
        // What is put there later does no harm.
        fs::write(root.join("note"), "").unwrap();
        drop(Store::open(&root).unwrap());
    }
}

#[test]
fn nothing_that_another_user_has_prepared_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let (root, victim) = (dir.path().join("root"), dir.path().join("victim"));
    fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("dear"), "").unwrap();
    for name in ["trash", "ingest"] {
        symlink(&victim, root.join(name)).unwrap();
    }
    let refused = |root: &Path| {
        let error = Store::open(root).unwrap_err();
        assert!(victim.join("dear").exists(), "{error}");
        error
    };
    assert!(matches!(refused(&root), Error::File { .. }), "a link is no folder");
    chown(&root, Some(1234), None).unwrap();
    assert!(matches!(refused(&root), Error::Site { objection: Objection::Owner(1234), .. }));
    fs::remove_file(root.join("trash")).unwrap();
    fs::remove_file(root.join("ingest")).unwrap();
    chown(&root, Some(0), None).unwrap();
    chown(root.join("blobs/sha256"), Some(1234), None).unwrap();
    assert!(
        matches!(refused(&root), Error::Site { objection: Objection::Owner(1234), .. }),
        "nor is a part of it"
    );
}
