//! Whether files that layers were unpacked to are what the layers say. Needs root.

mod common;
mod generate;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use common::{FILE, TestStore, diff_id, link, listing_of, store, store_of, tar};
use generate::Chance;
use layerfs::entry::Kind;
use layerfs::fsck::{Finding, Severity};
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::{Driver, SnapshotId};
use oci::config::RootFs;
use oci::{ChainId, Compression, Descriptor, ImageConfig, Manifest, MediaType, Raw};

/// An image of these layers, unpacked; its snapshots, bottom first, unless its layers do not fit on each other.
fn pulled(test: &TestStore, tars: &[Vec<u8>]) -> Option<Vec<SnapshotId>> {
    let diff_ids: Vec<_> = tars.iter().map(|tar| diff_id(tar)).collect();
    let layer = |tar: &Vec<u8>| {
        let digest = test.store.put_bytes(tar).unwrap();
        Descriptor::new(MediaType::OciLayer(Compression::None), digest, tar.len() as u64)
    };
    let layers = tars.iter().map(layer).collect();
    let rootfs = RootFs { diff_ids: diff_ids.clone(), ..RootFs::default() };
    let config = Raw::write(ImageConfig { rootfs, ..ImageConfig::default() });
    let config = test.store.put_document(&config, MediaType::OciConfig).unwrap();
    let manifest = Raw::write(Manifest::oci(config, layers));
    test.store.keep(&test.store.put_document(&manifest, MediaType::OciManifest).unwrap()).unwrap();

    let snapshots = test.store.snapshots();
    let (mut chain, mut made): (Option<ChainId>, Vec<SnapshotId>) = (None, Vec::new());
    for (tar, diff_id) in tars.iter().zip(diff_ids) {
        let here = chain.map_or_else(|| ChainId::bottom(diff_id), |below| below.with(diff_id));
        let active = snapshots.prepare(made.last()).unwrap();
        unpack_layer(&tar[..], &active, diff_id).ok()?;
        snapshots.commit(active, &SnapshotId::chain(here)).unwrap();
        (chain, made) = (Some(here), [made, vec![SnapshotId::chain(here)]].concat());
    }
    Some(made)
}

fn damaged(test: &TestStore) -> Vec<Finding> {
    let findings = test.store.check(true).unwrap();
    findings.into_iter().filter(|finding| finding.severity == Severity::Damage).collect()
}

fn files(test: &TestStore, id: &SnapshotId) -> PathBuf {
    let layout = test.store.snapshots().layout();
    test.store.root().join(layout.folder()).join(id.to_string()).join("fs")
}

fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            below(&path, found);
        }
        found.push(path);
    }
}

/// Changes something in a snapshot; says what, or nothing if there was nothing to change.
fn change(root: &Path, chance: &mut Chance) -> Option<String> {
    let mut all = Vec::new();
    below(root, &mut all);
    all.sort();
    if all.is_empty() || chance.once_in(6) {
        fs::write(root.join("new"), "").unwrap();
        return Some("new".to_owned());
    }
    let path = chance.one_of(&all).clone();
    let meta = path.symlink_metadata().unwrap();
    let act = match chance.below(4) {
        0 => {
            chown(&path, Some(77), None).ok().filter(|()| !meta.is_symlink())?;
            "owner"
        }
        1 if meta.is_file() => {
            let mut bytes = fs::read(&path).unwrap();
            *bytes.first_mut()? ^= 1;
            let time = meta.modified().unwrap();
            fs::write(&path, bytes).unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            "content"
        }
        2 if meta.is_file() || meta.is_dir() => {
            fs::set_permissions(&path, PermissionsExt::from_mode(meta.permissions().mode() ^ 0o20)).unwrap();
            "mode"
        }
        3 if meta.is_file() => {
            rustix::fs::setxattr(&path, "user.odd", b"x", rustix::fs::XattrFlags::empty()).unwrap();
            "attribute"
        }
        _ if meta.is_dir() => fs::remove_dir_all(&path).map(|()| "gone").unwrap(),
        _ => fs::remove_file(&path).map(|()| "gone").unwrap(),
    };
    Some(format!("{act} of {}", path.strip_prefix(root).unwrap().display()))
}

#[test]
fn random_stacks_are_whole_until_something_is_changed() {
    whole_until_changed(&store, 120);
}

#[test]
fn random_copies_are_whole_until_something_is_changed() {
    whole_until_changed(&|| store_of(Driver::Copy), 60);
}

fn whole_until_changed(store: &dyn Fn() -> TestStore, rounds: u32) {
    let mut changed = 0;
    for round in 0..rounds {
        let test = store();
        let mut chance = Chance::new(round.into());
        let tars: Vec<Vec<u8>> =
            (0..=chance.below(3)).map(|place| generate::layer(&mut chance, place, generate::PLAIN)).collect();
        let Some(made) = pulled(&test, &tars) else { continue };
        let shown: String = tars.iter().map(|tar| generate::text(tar) + "--\n").collect();
        assert_eq!(damaged(&test), [], "round {round}\n{shown}");
        let id = chance.one_of(&made);
        let shows = || listing_of(test.store.snapshots().view(id).unwrap().root());
        let before = shows();
        if let Some(what) = change(&files(&test, id), &mut chance) {
            // A directory that was brought up only for a deletion of nothing may go.
            let is_seen = !damaged(&test).is_empty();
            assert_eq!(is_seen, before != shows(), "round {round}: {what} of {id}\n{shown}");
            changed += u32::from(is_seen);
        }
    }
    assert!(changed > rounds * 2 / 5, "{changed} rounds with a change");
}

#[test]
fn each_change_is_named_with_its_snapshot() {
    let base = tar(&[("d", Kind::Directory), ("d/f", FILE), ("d/gone", FILE), ("l", link("d"))]);
    let top = tar(&[("d/.wh.gone", FILE), ("d/g", FILE)]);
    type Change = fn(&Path);
    let rows: [(usize, Change, &str); 8] = [
        (
            0,
            |root| fs::write(root.join("d/f"), "d/F").unwrap(),
            "`/d/f` is not as in its layer: content, time",
        ),
        (0, |root| fs::write(root.join("x"), "").unwrap(), "`/x` is in none of its layers"),
        (0, |root| fs::remove_file(root.join("d/f")).unwrap(), "`/d/f` is missing"),
        (
            0,
            |root| {
                fs::remove_file(root.join("l")).unwrap();
                symlink("/etc", root.join("l")).unwrap();
            },
            "`/l` is not as in its layer: target, time",
        ),
        (
            0,
            |root| fs::set_permissions(root.join("d"), PermissionsExt::from_mode(0o777)).unwrap(),
            "`/d` is not as in its layer: mode",
        ),
        // What was brought up by the layer above is that one's own.
        (
            1,
            |root| fs::set_permissions(root.join("d"), PermissionsExt::from_mode(0o777)).unwrap(),
            "`/d` is not as in its layer: mode",
        ),
        // Without its mark, what the layer has deleted is there again.
        (1, |root| fs::remove_file(root.join("d/gone")).unwrap(), "`/d/gone` is in none of its layers"),
        (1, |root| fs::remove_file(root.join("d/g")).unwrap(), "`/d/g` is missing"),
    ];
    for (layer, change, problem) in rows {
        let test = store();
        let made = pulled(&test, &[base.clone(), top.clone()]).unwrap();
        assert_eq!(damaged(&test), []);
        change(&files(&test, &made[layer]));
        let expected = Finding::damage(format!("snapshots/{}", made[layer]), problem);
        assert_eq!(damaged(&test), std::slice::from_ref(&expected));
        // Put aside, and with it what stood on it.
        assert!(test.store.repair(&expected).unwrap());
        let left = damaged(&test);
        assert_eq!(left.len(), 1 - layer, "{left:?}");
        assert!(left.iter().all(|finding| test.store.repair(finding).unwrap()));
        assert_eq!(damaged(&test), []);
    }
}

#[test]
fn what_cannot_be_judged_is_left_alone() {
    let test = store();
    let tar = tar(&[("f", FILE)]);
    let made = pulled(&test, std::slice::from_ref(&tar)).unwrap();
    fs::write(files(&test, &made[0]).join("f"), "other").unwrap();
    fs::remove_file(test.store.blob_path(&diff_id(&tar).0)).unwrap();
    // The layer is missing, and nobody can tell what was in it.
    let found = test.store.check(true).unwrap();
    assert!(matches!(&found[..], [one] if !one.is_there), "{found:?}");
}
