//! Properties of layers, over trees by chance from fixed seeds: what is packed and unpacked is what it was, and a
//! difference applied to where it began gives where it ended. Needs root.

mod common;
mod generate;

use common::{TestStore, diff_id, id, listing_of, store, store_of};
use generate::Chance;
use layerfs::layer::pack::{PackOptions, pack};
use layerfs::layer::unpack::{unpack_apart, unpack_layer};
use layerfs::snapshot::{Driver, SnapshotId};
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
    differences_give_ends(&store(), 250);
}

#[test]
fn so_it_does_with_copies() {
    differences_give_ends(&store_of(Driver::Copy), 250);
}

#[test]
fn so_it_does_with_fuse_overlayfs() {
    differences_give_ends(&store_of(Driver::FuseOverlayfs), 40);
}

/// Without the links of files of which only one name is left: overlays count names that they hide.
fn without_lone_links(listing: &str) -> String {
    let link = |line: &str| line.rsplit_once(" =").map(|(_, link)| link.to_owned()).unwrap_or_default();
    let links: Vec<String> = listing.lines().map(link).collect();
    let cut = |line: &str| {
        let is_lone = links.iter().filter(|other| **other == link(line)).count() == 1;
        if is_lone { line.rsplit_once(" =").unwrap().0.to_owned() + " =" } else { line.to_owned() }
    };
    listing.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// The same layers, unpacked with each driver, are the same trees, and differ by the same.
#[test]
fn drivers_agree() {
    let tests = [Driver::Overlay, Driver::Copy].map(store_of);
    let mut stacks = 0;
    for round in 0..150 {
        let mut chance = Chance::new(9_000 + round);
        let layers = [0, 1, 2].map(|place| generate::layer(&mut chance, place, generate::PLAIN));
        let shown = || layers.each_ref().map(|layer| generate::text(layer)).join("--\n");
        let [overlay, copy] = tests.each_ref().map(|test| {
            let mut parent = None;
            let mut found = Vec::new();
            for (place, layer) in layers.iter().enumerate() {
                let name = format!("{round}.{place}");
                let Some(made) = unpacked(test, layer, parent.as_ref(), &name) else { break };
                let listing = without_lone_links(&without_times(&listing(test, &made)));
                found.push((listing, packed(test, &made)));
                parent = Some(made);
            }
            found
        });
        assert_eq!(overlay.len(), copy.len(), "round {round}\n{}", shown());
        for ((expected, layer), (found, other)) in overlay.iter().zip(&copy) {
            assert_eq!(found, expected, "round {round}\n{}", shown());
            stacks += usize::from(layer == other);
        }
    }
    // Names of one file that a layer touches are its only ones on an overlay, and stay together in a copy.
    assert!(stacks > 200, "{stacks}");
}

fn differences_give_ends(test: &TestStore, rounds: u64) {
    let mut stacks = 0;
    for round in 0..rounds {
        let mut chance = Chance::new(1_000 + round);
        let names = if chance.once_in(3) { generate::ODD } else { generate::PLAIN };
        let (lower, upper) = (generate::layer(&mut chance, 0, names), generate::layer(&mut chance, 1, names));
        let shown = || format!("round {round}\n{}--\n{}", generate::text(&lower), generate::text(&upper));
        let Some(base) = unpacked(test, &lower, None, &format!("base{round}")) else { continue };
        let Some(top) = unpacked(test, &upper, Some(&base), &format!("top{round}")) else { continue };
        let difference = packed(test, &top);
        let again = unpacked(test, &difference, Some(&base), &format!("again{round}"))
            .unwrap_or_else(|| panic!("{}--\n{}", shown(), generate::text(&difference)));
        let (expected, found) = (listing(test, &top), listing(test, &again));
        assert_eq!(
            without_times(&found),
            without_times(&expected),
            "{}--\n{}",
            shown(),
            generate::text(&difference)
        );
        assert!(packed(test, &again) == difference, "other bytes: {}", shown());
        stacks += 1;
    }
    assert!(stacks > rounds * 2 / 5, "{stacks}");
}

/// Unpacks a layer before its parent is shown to it; none if that cannot be done.
fn unpacked_apart(test: &TestStore, tar: &[u8], parent: &SnapshotId, name: &str) -> Option<SnapshotId> {
    let snapshots = test.store.snapshots();
    let active = snapshots.apart().unwrap().prepare_apart().unwrap();
    let apart = unpack_apart(tar, &active, diff_id(tar)).ok()??;
    let below = snapshots.view(parent).unwrap();
    if !apart.settle(&active, below.root()).unwrap() {
        return None;
    }
    snapshots.apart().unwrap().commit_onto(Some(parent), active, &id(name)).unwrap();
    Some(id(name))
}

#[test]
fn a_layer_unpacked_apart_shows_what_one_unpacked_onto_its_parent_does() {
    apart_and_onto_agree(&store(), 600, true);
}

#[test]
fn a_layer_unpacked_apart_shows_the_same_to_fuse_overlayfs() {
    // It cannot change all that layers change.
    apart_and_onto_agree(&store_of(Driver::FuseOverlayfs), 40, false);
}

fn apart_and_onto_agree(test: &TestStore, rounds: u64, can_do_all: bool) {
    let (mut stacks, mut apart_stacks) = (0, 0);
    for round in 0..rounds {
        let mut chance = Chance::new(20_000 + round);
        let names = if chance.once_in(3) { generate::ODD } else { generate::PLAIN };
        let (lower, upper) = (generate::layer(&mut chance, 0, names), generate::layer(&mut chance, 1, names));
        let Some(base) = unpacked(test, &lower, None, &format!("base{round}")) else { continue };
        let apart = unpacked_apart(test, &upper, &base, &format!("apart{round}"));
        let Some(top) = unpacked(test, &upper, Some(&base), &format!("top{round}")) else {
            assert!(apart.is_none() || !can_do_all, "round {round}: refused and not refused");
            continue;
        };
        stacks += 1;
        let Some(apart) = apart else { continue };
        apart_stacks += 1;
        let shown = || format!("round {round}\n{}--\n{}", generate::text(&lower), generate::text(&upper));
        assert_eq!(listing(test, &apart), listing(test, &top), "{}", shown());
        assert!(packed(test, &apart) == packed(test, &top), "other bytes: {}", shown());
    }
    assert!(apart_stacks > rounds / 3, "{apart_stacks} of {stacks}");
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
