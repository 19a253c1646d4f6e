//! Downloads that a kill has ended: the next command goes on where they stopped, and trusts nothing that it finds.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use oci::Digest;
use registry::testing::{Act, Registry, Setup};
use serde_json::Value;

use crate::harness::World;

/// How much of the layer comes before the connection breaks for good.
const BEFORE: usize = 3 << 20;

/// A registry in this process with an image of one large layer.
struct Site {
    world: World,
    registry: Registry,
    name: String,
    content: Vec<u8>,
    layer: Digest,
    size: u64,
}

impl Site {
    fn new() -> Site {
        let world = World::new();
        let content = noise(8 << 20);
        world.file("large", &content).file("small", "text");
        let registry = Registry::start(Setup::default());
        let name = registry.reference("app:1").to_string();
        world.build("FROM scratch\nCOPY large small /\n").args(&["-t", &name, "--push"]).success();
        forget(&world, &name);
        let manifest = registry.manifest("app", "1").expect("a manifest").1;
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        let layer = &manifest["layers"][0];
        let digest = layer["digest"].as_str().expect("a digest").parse().expect("a digest");
        let size = layer["size"].as_u64().expect("a size");
        Site { world, registry, name, content, layer: digest, size }
    }

    /// The `Range` headers of the requests for the layer.
    fn asked(&self) -> Vec<Option<String>> {
        let path = format!("/v2/app/blobs/{}", self.layer);
        let seen = self.registry.seen();
        let asked = seen.iter().filter(|seen| seen.method == "GET" && seen.target == path);
        asked.map(|seen| seen.header("range").map(str::to_owned)).collect()
    }

    /// Kills a pull once a part of the layer has come; afterwards nothing goes wrong any more.
    fn killed_pull(&self) {
        let layer = self.layer.to_string();
        self.registry.fault("GET", &layer, 1, Act::Cut(BEFORE));
        self.registry.fault("GET", &layer, u32::MAX, Act::Status(503, Vec::new(), String::new()));
        let before = self.asked().len();
        let mut pull = self.spawn(&["pull", &self.name]);
        // The second request says that all of the first answer has been written.
        while self.asked().len() < before + 2 {
            thread::sleep(Duration::from_millis(5));
        }
        pull.kill().expect("a kill");
        assert_eq!(pull.wait().expect("its end").code(), None, "it was killed");
        assert_eq!(self.begun().metadata().expect("a file").len(), BEFORE as u64);
        self.registry.heal();
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.world.command();
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("lbuild")
    }

    /// What there is of the layer.
    fn begun(&self) -> PathBuf {
        self.world.path("root/downloads").join(self.layer.to_string().replace(':', "-"))
    }

    /// The image is right, the store whole, and nothing is left of the download.
    fn look(&self) {
        let mut cat = self.world.command();
        let found = cat.args(["cat", &self.name, "/large"]).output().expect("lbuild");
        assert!(found.stdout == self.content, "the layer has the file");
        let report = self.world.lbuild(&["fsck", "--deep"]).success().stdout;
        assert!(report.contains("0 things damaged"), "{report}");
        assert_eq!(fs::read_dir(self.world.path("root/downloads")).expect("a folder").count(), 0);
    }
}

fn forget(world: &World, name: &str) {
    world.lbuild(&["rmi", "-f", name]).success();
    world.lbuild(&["cache", "prune", "--all"]).success();
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

#[test]
fn only_the_rest_is_fetched() {
    let site = Site::new();
    site.killed_pull();
    let before = site.asked().len();
    site.world.lbuild(&["pull", &site.name]).success();
    assert_eq!(site.asked()[before..], [Some(format!("bytes={BEFORE}-"))]);
    site.look();
}

#[test]
fn a_layer_that_is_unpacked_while_it_comes_begins_with_what_is_here() {
    let site = Site::new();
    // What is run at once is unpacked from its beginning.
    site.killed_pull();
    let before = site.asked().len();
    let dockerfile = format!("FROM {}\nCOPY small /again\n", site.name);
    let built = site.world.build(&dockerfile).rootfs();
    assert_eq!(site.asked()[before..], [Some(format!("bytes={BEFORE}-"))]);
    assert!(fs::read(built.folder.join("large")).expect("the file") == site.content);
    site.world.lbuild(&["pull", &site.name]).success();
    assert_eq!(site.asked().len(), before + 1, "the layer is here");
    site.look();
}

#[test]
fn a_copy_goes_on_as_a_pull_does() {
    let site = Site::new();
    site.killed_pull();
    let before = site.asked().len();
    site.world.lbuild(&["copy", &site.name, &format!("store:{}", site.name)]).success();
    assert_eq!(site.asked()[before..], [Some(format!("bytes={BEFORE}-"))]);
    site.look();
}

#[test]
fn what_was_damaged_meanwhile_is_fetched_anew() {
    for verb in ["pull", "build"] {
        let site = Site::new();
        site.killed_pull();
        let file = fs::File::options().write(true).open(site.begun()).expect("the file");
        file.write_all_at(&[0x55; 100], 1 << 20).expect("damage");
        drop(file);
        let before = site.asked().len();
        match verb {
            "pull" => drop(site.world.lbuild(&["pull", &site.name]).success()),
            _ => {
                let dockerfile = format!("FROM {}\nCOPY small /again\n", site.name);
                site.world.build(&dockerfile).success();
                site.world.lbuild(&["pull", &site.name]).success();
            }
        }
        assert_eq!(site.asked()[before..], [Some(format!("bytes={BEFORE}-")), None], "{verb}");
        site.look();
    }
}

#[test]
fn a_registry_without_ranges_gives_all() {
    let site = Site::new();
    site.killed_pull();
    site.registry.fault("GET", &site.layer.to_string(), 1, Act::WholeBody);
    let before = site.asked().len();
    site.world.lbuild(&["pull", &site.name]).success();
    assert_eq!(site.asked().len(), before + 1);
    site.look();
}

#[test]
fn what_came_is_shown_and_freed() {
    let site = Site::new();
    site.killed_pull();
    let total = |world: &World| world.lbuild(&["du"]).success().stdout;
    assert!(total(&site.world).contains("3.1"), "{}", total(&site.world));
    let report = site.world.lbuild(&["fsck"]).success().stdout;
    assert!(report.contains("0 things damaged"), "{report}");
    // One that somebody may yet go on with stays where only old things go.
    site.world.lbuild(&["prune", "-f", "--filter", "until=1h"]).success();
    assert!(site.begun().exists());
    site.world.lbuild(&["prune", "-f"]).success();
    assert!(!site.begun().exists());
    assert!(site.size > BEFORE as u64);
}
