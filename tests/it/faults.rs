//! What must not happen to a store: that a kill, a full disk, a read-only file system or a crowd of processes leaves
//! a wrong image, a lost name, or something that the next command cannot use.
//!
//! Kills are spread evenly over the time that a command takes: the round of each decides when it comes.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::busybox;
use crate::contain::{cgroups_below, cgroups_of, command_in_cgroups};
use crate::disk::Disk;
use crate::harness::{Output, World};
use crate::{peers, registry};

/// How often each kind of command is killed.
const KILLS: u32 = 130;
/// After how many of them the store is looked at.
const LOOK: u32 = 10;

/// A world whose commands can be killed, with an image `kept` that must survive all of it.
struct Victim {
    world: World,
    cgroups: Vec<PathBuf>,
}

impl Victim {
    fn new() -> Victim {
        let world = World::new();
        world.file("f", "text").file("g", vec![b'x'; 100_000]);
        world.build(&format!("FROM {}\nCOPY f /kept\n", busybox())).args(&["-t", "kept"]).success();
        let cgroups = cgroups_of(&world);
        Victim { world, cgroups }
    }

    /// Runs a command and kills it after a part of `whole`, which is about how long it takes; whether it was still there.
    /// What others do on this machine changes how long that is, so it is learnt: from each that had ended, and from
    /// those that had not.
    fn kill(&self, args: &[&str], whole: &mut Duration, round: u32) -> bool {
        let mut command = command_in_cgroups(&self.world, &self.cgroups, args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("lbuild");
        thread::sleep(*whole * round / KILLS);
        child.kill().expect("a kill");
        let ended = child.wait().expect("its end");
        // What it started ends after it, however long that takes.
        while self.cgroups.iter().any(|cgroup| !cgroups_below(cgroup).is_empty()) {
            thread::sleep(Duration::from_millis(1));
        }
        let was_there = ended.code().is_none();
        *whole = if was_there { *whole * 33 / 32 } else { *whole * 3 / 4 };
        was_there
    }

    /// How long a command takes that nobody kills.
    fn measure(&self, args: &[&str]) -> Duration {
        let began = Instant::now();
        Output::of(&mut command_in_cgroups(&self.world, &self.cgroups, args)).success();
        began.elapsed()
    }

    /// Nothing is damaged, no name is lost, and what has a name is what it was.
    fn look(&self) {
        whole(&self.world);
        let kept = self.world.lbuild(&["run", "--rm", "kept", "cat", "/kept"]).success().stdout;
        assert_eq!(kept, "text");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        for cgroup in &self.cgroups {
            let removed = fs::remove_dir(cgroup);
            assert!(thread::panicking() || removed.is_ok(), "a process is left in the cgroup: {removed:?}");
        }
    }
}

/// The store is whole, and others can read it in place.
fn whole(world: &World) {
    let report = world.lbuild(&["fsck", "--deep"]).success().stdout;
    assert!(report.contains("0 things damaged"), "{report}");
    peers::run(
        Command::new("skopeo")
            .args(["inspect", "--raw"])
            .arg(format!("oci:{}:kept:latest", world.path("root").display())),
    );
}

#[test]
fn a_killed_build_leaves_nothing_wrong() {
    let victim = Victim::new();
    let text = format!(
        "FROM {0} AS one\nARG ROUND\nCOPY g /g\nRUN echo $ROUND > /round; cp /g /h\n\
         FROM {0} AS two\nARG ROUND\nRUN echo $ROUND > /two\n\
         FROM one\nCOPY --from=two /two /two\nRUN rm /g\n",
        busybox()
    );
    fs::write(victim.world.path("Dockerfile"), text).expect("a Dockerfile");
    let mut whole = victim.measure(&build("ROUND=measured"));
    let mut killed = 0;
    for round in 0..KILLS {
        let argument = format!("ROUND={round}");
        killed += u32::from(victim.kill(&build(&argument), &mut whole, round));
        if round % LOOK == LOOK - 1 {
            victim.look();
            victim.world.lbuild(&build(&argument)).success();
            let seen = ["run", "--rm", "made", "sh", "-c", "cat /round /two; test ! -e /g && wc -c < /h"];
            let seen = victim.world.lbuild(&seen).success().stdout;
            assert_eq!(seen, format!("{round}\n{round}\n100000\n"));
        }
    }
    assert!(killed > KILLS / 2, "only {killed} were still there to be killed");
}

#[test]
fn a_killed_pull_leaves_nothing_wrong() {
    let victim = Victim::new();
    let name = format!("{}/killed-pull:1", registry::open());
    victim.world.build("FROM scratch\nCOPY g /g\nCOPY f /f\n").args(&["-t", &name, "--push"]).success();
    let forget = || {
        victim.world.lbuild(&["rmi", "-f", &name]).success();
        victim.world.lbuild(&["cache", "prune", "--all"]).success();
    };
    forget();
    let pull = ["pull", "-q", &name];
    let mut whole = victim.measure(&pull);
    let mut killed = 0;
    for round in 0..KILLS {
        forget();
        killed += u32::from(victim.kill(&pull, &mut whole, round));
        if round % LOOK == LOOK - 1 {
            victim.look();
            victim.world.lbuild(&pull).success();
            victim.look();
        }
    }
    assert!(killed > KILLS / 2, "only {killed} were still there to be killed");
}

#[test]
fn a_killed_push_leaves_nothing_wrong() {
    let victim = Victim::new();
    let name = |round: u32| format!("{}/killed-push-{round}:1", registry::open());
    let tag = |round: u32| victim.world.lbuild(&["tag", "kept", &name(round)]).success();
    tag(KILLS);
    let mut whole = victim.measure(&["push", "-q", &name(KILLS)]);
    let mut killed = 0;
    for round in 0..KILLS {
        tag(round);
        killed += u32::from(victim.kill(&["push", "-q", &name(round)], &mut whole, round));
        if round % LOOK == LOOK - 1 {
            victim.look();
            victim.world.lbuild(&["push", "-q", &name(round)]).success();
            peers::skopeo_digest(&name(round));
            // Not even the name of one that was killed.
            assert!(
                victim
                    .world
                    .lbuild(&["images"])
                    .success()
                    .stdout
                    .contains(&format!("killed-push-{}", round - 1))
            );
        }
    }
    assert!(killed > KILLS / 2, "only {killed} were still there to be killed");
}

#[test]
fn a_killed_prune_leaves_nothing_wrong() {
    let victim = Victim::new();
    let fill = |round: u32| {
        let text = format!("FROM {}\nRUN echo {round} > /r\nFROM scratch\nCOPY --from=0 /r /r\n", busybox());
        victim.world.build(&text).args(&["-q", "-t", "made"]).success();
    };
    fill(1_000);
    fill(1_001);
    let mut whole = victim.measure(&["prune", "--all"]);
    let mut killed = 0;
    for round in 0..KILLS {
        fill(round);
        let args: &[&str] = if round % 2 == 0 { &["prune"] } else { &["prune", "--all"] };
        killed += u32::from(victim.kill(args, &mut whole, round));
        if round % LOOK == LOOK - 1 {
            victim.look();
            victim.world.lbuild(&["prune"]).success();
            victim.look();
        }
    }
    assert!(killed > KILLS / 3, "only {killed} were still there to be killed");
}

/// A build of `Dockerfile` with an argument that makes it a new one.
fn build(argument: &str) -> [&str; 9] {
    ["build", "-q", "-t", "made", "-f", "Dockerfile", "--build-arg", argument, "context"]
}

#[test]
fn a_full_disk_is_told_and_can_be_freed() {
    let world = World::new();
    let disk = Disk::small(&world, 40);
    world.file("f", "text");
    world.build(&format!("FROM {}\nCOPY f /kept\n", busybox())).args(&["-t", "kept"]).success();
    let big = |name: &str| format!("FROM {}\nRUN head -c 9000000 /dev/urandom > /{name}\n", busybox());
    world.build(&big("first")).success();
    world.file("huge", vec![b'x'; 40_000_000]);
    for name in ["second", "third"] {
        let output = world.build(&format!("FROM scratch\nCOPY huge /{name}\n")).output();
        assert!(output.code == 1 || output.code == 3, "{output:?}");
        output.says("no space left on device").says("`lbuild prune` frees");
        whole(&world);
    }
    // Not a byte is left for whoever comes to free some.
    let filler = disk.place.join("filler");
    // What was deleted is free only with the journal's next commit, and the last blocks are given to small files only.
    let fill = "for i in 1 2 3; do sync -f \"$0\"; cat /dev/zero >> \"$0\" 2>/dev/null; done
        i=0; while head -c 4096 /dev/zero > \"$0-$i\" 2>/dev/null; do i=$((i + 1)); done";
    fs::write(&filler, "").expect("a file");
    peers::run(Command::new("sh").args(["-c", fill]).arg(&filler));
    let output = world.build(&format!("FROM {}\nRUN echo x > /y\n", busybox())).output();
    output.says("no space left on device").says("`lbuild prune` frees");
    world.lbuild(&["images"]).success();
    let freed = world.lbuild(&["prune"]).success().stdout;
    assert!(freed.contains("MB"), "{freed}");
    for entry in fs::read_dir(&disk.place).expect("the disk") {
        let path = entry.expect("an entry").path();
        if path.to_string_lossy().contains("/filler") {
            fs::remove_file(path).expect("room");
        }
    }
    whole(&world);
    world.build(&big("fourth")).args(&["-t", "fourth"]).success();
    assert_eq!(world.lbuild(&["run", "--rm", "kept", "cat", "/kept"]).success().stdout, "text");
    whole(&world);
}

#[test]
fn a_read_only_store_can_be_looked_at() {
    let world = World::new();
    world.file("f", "text");
    let text = format!("FROM {}\nCOPY f /kept\n", busybox());
    world.build(&text).args(&["-t", "kept"]).success();
    let _disk = Disk::read_only(&world.path("root"));
    for args in [
        &["images"][..],
        &["inspect", "kept"],
        &["history", "kept"],
        &["history", "--sizes", "kept"],
        &["du"],
        &["fsck", "--deep"],
        &["prune", "--dry-run"],
    ] {
        let output = world.lbuild(args).success();
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
    assert!(world.lbuild(&["images"]).stdout.contains("kept"));
    let refused = world.build(&text).output().failure(3);
    refused.says("read-only file system").says("hint: the store is on a read-only file system");
    world.lbuild(&["rmi", "kept"]).failure(3).says("read-only file system");
}

#[test]
fn where_no_store_is_yet_nothing_is_found() {
    let world = World::new();
    let root = world.path("root");
    let look = || {
        for args in [&["images"][..], &["du"], &["prune", "--dry-run"], &["fsck"], &["fsck", "--deep"]] {
            world.lbuild(args).success();
        }
        assert!(world.lbuild(&["du"]).stdout.contains("Total:       0B"));
    };
    look();
    assert!(!root.exists());
    fs::create_dir(&root).expect("a place");
    look();
    // What a new disk has.
    fs::create_dir(root.join("lost+found")).expect("a folder");
    look();
    assert_eq!(fs::read_dir(&root).expect("the place").count(), 1, "looking makes nothing");
}

#[test]
fn a_store_of_a_later_version_is_left_alone() {
    let world = World::new();
    world.file("f", "f").build("FROM scratch\nCOPY f /\n").success();
    world.lbuild(&["images"]).success();
    fs::write(world.path("root/state.json"), "{\"format\":7,\"boot\":\"\",\"also\":[]}").expect("a state");
    for args in [&["images"][..], &["prune"], &["fsck"], &["run", "--rm", "x"]] {
        let output = world.lbuild(args);
        assert!(output.code == 3 || output.code == 125, "{args:?}: {output:?}");
        output.says("was made by a later lbuild: its format is 7").says("hint: use that lbuild");
    }
}

#[test]
fn ten_at_once_do_not_disturb_each_other() {
    let world = World::new();
    world.file("f", "text").file("g", vec![b'x'; 100_000]);
    world.build(&format!("FROM {}\nCOPY f /kept\n", busybox())).args(&["-t", "kept"]).success();
    let pulled = format!("{}/ten:1", registry::open());
    world.build("FROM scratch\nCOPY f g /\n").args(&["-t", &pulled, "--push"]).success();
    for number in 0..4 {
        let text = format!(
            "FROM {}\nARG ROUND\nCOPY g /g\nRUN echo {number}-$ROUND > /made\nFROM scratch\nCOPY --from=0 /made /g /\n\
             FROM {0}\nCOPY --from=1 /made /g /\n",
            busybox()
        );
        fs::write(world.path(&format!("Dockerfile.{number}")), text).expect("a Dockerfile");
    }
    let rounds = 0..6;
    let builder = |number: usize| {
        for round in rounds.clone() {
            let (file, argument) = (format!("Dockerfile.{number}"), format!("--build-arg=ROUND={round}"));
            let name = format!("made-{number}");
            world.lbuild(&["build", "-q", "-t", &name, "-f", &file, &argument, "context"]).success();
            let made = world.lbuild(&["run", "--rm", &name, "cat", "/made"]).success().stdout;
            assert_eq!(made, format!("{number}-{round}\n"));
        }
    };
    let puller = || {
        for _ in rounds.clone() {
            world.lbuild(&["pull", "-q", &pulled]).success();
        }
    };
    let pruner = |args: &[&str]| {
        for _ in 0..12 {
            world.lbuild(args).success();
        }
    };
    thread::scope(|scope| {
        for number in 0..4 {
            let builder = &builder;
            scope.spawn(move || builder(number));
        }
        scope.spawn(puller);
        scope.spawn(puller);
        for args in [&["prune"][..], &["prune", "--all"], &["cache", "prune", "--all"], &["du"]] {
            let pruner = &pruner;
            scope.spawn(move || pruner(args));
        }
    });
    for number in 0..4 {
        let name = format!("made-{number}");
        assert_eq!(
            world.lbuild(&["run", "--rm", &name, "cat", "/made"]).success().stdout,
            format!("{number}-5\n")
        );
    }
    whole(&world);
}
