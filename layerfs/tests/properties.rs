//! Properties of layers, over trees by chance from fixed seeds: what is packed and unpacked is what it was, and a
//! difference applied to where it began gives where it ended. Needs root.

mod common;
mod generate;

use common::{TestStore, diff_id, id, listing_of, store};
use generate::Chance;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::unpack::unpack_layer;
use layerfs::snapshot::{SnapshotId, Snapshotter};
use oci::Digest;

/// Unpacks a layer on `parent`; none for what is refused.
fn unpacked(test: &TestStore, tar: &[u8], parent: Option<&SnapshotId>, name: &str) -> Option<SnapshotId> {
    let snapshots = test.store.snapshots();
    let active = snapshots.prepare(parent).unwrap();
    unpack_layer(tar, &active, diff_id(tar)).ok()?;
    snapshots.commit(active, &id(name)).unwrap();
    Some(id(name))
}

fn packed(test: &TestStore, snapshot: &SnapshotId) -> Vec<u8> {
    let mut tar = Vec::new();
    pack(&test.store.snapshots().changes(snapshot).unwrap(), PackOptions::default(), &mut tar).unwrap();
    tar
}

fn listing(test: &TestStore, snapshot: &SnapshotId) -> String {
    listing_of(test.store.snapshots().view(snapshot).unwrap().root())
}

/// Without the times of directories: where nothing but children changed a layer does not tell of them.
fn without_times(listing: &str) -> String {
    let cut = |line: &str| match line.contains(" dir ") {
        true => {
            let words: Vec<&str> = line.split(' ').collect();
            let dir = words.iter().position(|word| *word == "dir").unwrap();
            let kept = words.iter().enumerate().filter(|(place, _)| *place != dir + 3);
            kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
        }
        false => line.to_owned(),
    };
    listing.lines().map(cut).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_tree_survives_packing_and_unpacking() {
    let test = store();
    let mut trees = 0;
    for round in 0..150 {
        let mut chance = Chance::new(round);
        let tar = generate::layer(&mut chance, 0, generate::ODD);
        let Some(first) = unpacked(&test, &tar, None, &format!("a{round}")) else { continue };
        let again = packed(&test, &first);
        let second = unpacked(&test, &again, None, &format!("b{round}")).unwrap();
        assert_eq!(
            listing(&test, &second),
            listing(&test, &first),
            "round {round}\n{}",
            generate::text(&tar)
        );
        assert!(packed(&test, &second) == again, "round {round}: other bytes\n{}", generate::text(&tar));
        trees += 1;
    }
    assert!(trees > 100, "{trees}");
}

#[test]
fn a_difference_applied_to_its_beginning_gives_its_end() {
    let test = store();
    let mut stacks = 0;
    for round in 0..250 {
        let mut chance = Chance::new(1_000 + round);
        let names = if chance.once_in(3) { generate::ODD } else { generate::PLAIN };
        let (lower, upper) = (generate::layer(&mut chance, 0, names), generate::layer(&mut chance, 1, names));
        let shown = || format!("round {round}\n{}--\n{}", generate::text(&lower), generate::text(&upper));
        let Some(base) = unpacked(&test, &lower, None, &format!("base{round}")) else { continue };
        let Some(top) = unpacked(&test, &upper, Some(&base), &format!("top{round}")) else { continue };
        let difference = packed(&test, &top);
        let again = unpacked(&test, &difference, Some(&base), &format!("again{round}"))
            .unwrap_or_else(|| panic!("{}--\n{}", shown(), generate::text(&difference)));
        let (expected, found) = (listing(&test, &top), listing(&test, &again));
        assert_eq!(
            without_times(&found),
            without_times(&expected),
            "{}--\n{}",
            shown(),
            generate::text(&difference)
        );
        assert!(packed(&test, &again) == difference, "other bytes: {}", shown());
        stacks += 1;
    }
    assert!(stacks > 100, "{stacks}");
}

#[test]
fn a_layer_has_the_same_bytes_whatever_it_is_made_of() {
    // The digest changes with `LAYER_FORMAT` and with nothing else.
    let test = store();
    let mut hasher = oci::Hasher::new();
    for round in 0..20 {
        let tar = generate::layer(&mut Chance::new(5_000 + round), 0, generate::ODD);
        if let Some(snapshot) = unpacked(&test, &tar, None, &format!("golden{round}")) {
            hasher.update(&packed(&test, &snapshot));
        }
    }
    assert_eq!(layerfs::layer::pack::LAYER_FORMAT, 3);
    assert_eq!(hasher.finish(), Digest::from_hex(GOLDEN).unwrap());
}

const GOLDEN: &str = "ac3baf2fb71e7d329e7ebcb050b4f17bb4a30620bbd1411705cc9ad26293a2bc";
