//! Records that several forget at the same time, as cleaners on one machine do: whoever comes second finds nothing to
//! do. Needs root, for the store.

use std::thread;

use builder::cache::{CacheBackend as _, Key, LocalCache, Record, records};
use layerfs::snapshot::SnapshotId;
use layerfs::store::Store;
use oci::Digest;
use serde_json::json;

const MANY: u64 = 400;

fn number(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

/// Runs `forget` four times at once.
fn at_once<T: Send>(forget: impl Fn() -> layerfs::Result<T> + Sync) {
    thread::scope(|scope| {
        for forgetting in [(); 4].map(|()| scope.spawn(&forget)) {
            forgetting.join().unwrap().unwrap();
        }
    });
}

#[test]
fn those_who_forget_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let snapshots = store.snapshots();
    let cache = LocalCache::new(&store, &*snapshots);
    let descriptor = oci::Descriptor::new(oci::MediaType::OciManifest, number(0), 1);
    let name = "docker.io/library/name:tag";
    for at in 0..MANY {
        let (identity, snapshot) = (number(at), SnapshotId::key(number(at)));
        let record = Record { identity, snapshot, created: String::new(), components: Vec::new() };
        cache.put(&Key(identity), &record).unwrap();
        let resolved = json!({"reference": name, "platform": at.to_string(), "descriptor": descriptor});
        store.write_record(format!("resolved/{at}").as_ref(), resolved.to_string().as_bytes()).unwrap();
        std::fs::create_dir_all(store.root().join("remote/git")).unwrap();
        store.write_record(format!("remote/tree-{at}").as_ref(), b"{}").unwrap();
        let repository = store.root().join(format!("remote/git/{at}"));
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        std::fs::write(repository.with_extension("lock"), "").unwrap();
    }
    at_once(|| records::forget_missing(&store));
    at_once(|| builder::source::forget(&store, &name.parse().unwrap()));
    at_once(|| builder::remote::forget_all(&store));
    for folder in ["cache", "resolved", "remote/git"] {
        assert!(store.records(folder).unwrap().is_empty(), "{folder}");
    }
    assert!(!builder::source::forget(&store, &name.parse().unwrap()).unwrap());
}
