//! The cache: what hits, what misses, and that neither a second build beside the first nor a kill in its
//! middle spoils it. A step that writes random bytes tells whether it ran again.

use std::fs::{self, File, FileTimes};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime};

use std::sync::atomic::Ordering;

use crate::base::busybox;
use crate::harness::{Output, World, chmod};
use crate::registry;

/// A step whose result differs whenever it runs.
const RANDOM: &str = "RUN head -c 32 /dev/urandom > /random";

fn dockerfile(before: &str) -> String {
    format!("FROM {}\n{before}\n{RANDOM}\n", busybox())
}

#[test]
fn a_cached_build_is_the_uncached_one_byte_for_byte() {
    let world = World::new();
    world.file("f", "x");
    let dockerfile = dockerfile("ENV A=b\nCOPY f /f\nWORKDIR /w");
    let first = world.build(&dockerfile).image();
    let (second, output) = world.build(&dockerfile).image_and_output();
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.image, second.image);
    assert!(output.stderr.contains("CACHED"), "{}", output.stderr);
}

#[test]
fn contents_count_and_times_do_not() {
    let world = World::new();
    world.file("dir/f", "x").file("dir/sub/f", "x").file("other", "y");
    let dockerfile = dockerfile("COPY dir /dir");
    let last_layer = || world.build(&dockerfile).image().diff_ids().last().copied().map(str::to_owned);
    let (file, folder) = (world.path("context/dir/f"), world.path("context/dir"));
    let mut before = last_layer();
    type Change<'a> = (&'a str, bool, &'a dyn Fn());
    let changes: [Change<'_>; 9] = [
        ("nothing", true, &|| {}),
        ("a time", true, &|| {
            let past = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
            File::options().write(true).open(&file).and_then(|file| file.set_times(past)).expect("a time");
        }),
        ("a file outside", true, &|| fs::write(world.path("context/other"), "z").expect("a file")),
        ("the owner in the context", true, &|| {
            std::os::unix::fs::chown(&file, Some(9), Some(9)).expect("an owner")
        }),
        ("a mode", false, &|| chmod(&file, 0o600)),
        ("a folder's mode", false, &|| chmod(&folder.join("sub"), 0o700)),
        ("a content of the same length", false, &|| fs::write(&file, "y").expect("a file")),
        ("a name", false, &|| fs::rename(&file, folder.join("g")).expect("a rename")),
        ("an attribute", false, &|| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(folder.join("g"), "user.a", b"b", flags).expect("an attribute");
        }),
    ];
    for (what, hits, change) in changes {
        change();
        let after = last_layer();
        assert_eq!(before == after, hits, "after a change of {what}");
        before = after;
    }
}

#[test]
fn what_a_step_sees_is_part_of_its_key() {
    let world = World::new();
    let layer = |before: &str, args: &[&str]| {
        let image = world.build(&dockerfile(before)).args(args).image();
        image.diff_ids().last().copied().map(str::to_owned)
    };
    let plain = layer("ARG A=1", &[]);
    assert_eq!(plain, layer("ARG A=1", &["--build-arg=A=1"]), "the same value");
    assert_eq!(plain, layer("ARG A=1\nLABEL k=v", &[]), "a label is not seen");
    assert_eq!(plain, layer("ARG A=1\nCMD [\"x\"]", &["--label=a=b"]), "nor is a command");
    for (what, before, args) in [
        ("an argument", "ARG A=1", &["--build-arg=A=2"][..]),
        ("the environment", "ARG A=1\nENV B=1", &[]),
        ("the user", "ARG A=1\nUSER 0:1", &[]),
        ("the shell", "ARG A=1\nSHELL [\"/bin/ash\", \"-c\"]", &[]),
        ("the network", "ARG A=1", &["--network=none"]),
        ("the cache's absence", "ARG A=1", &["--no-cache"]),
    ] {
        assert_ne!(plain, layer(before, args), "{what}");
    }
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let world = World::new();
    let layer = |env: &str| {
        let image = world.build(&dockerfile(env)).image();
        image.diff_ids().last().copied().map(str::to_owned)
    };
    assert_ne!(layer("ENV A=b C=d"), layer("ENV A=\"b C=d\""));
    assert_ne!(layer("ENV AB=c"), layer("ENV A=Bc"));
}

#[test]
fn two_builds_at_once_share_each_step() {
    let world = World::new();
    fs::write(
        world.path("Dockerfile"),
        dockerfile(&format!("{RANDOM}1\nRUN sleep 0.2; head -c 9 /dev/urandom > /slow")),
    )
    .expect("a Dockerfile");
    let build = || {
        let mut command = world.command();
        command.args(["build", "-q", "--source-date-epoch=1", "-f", "Dockerfile", "context"]);
        Output::of(&mut command).success().stdout
    };
    let digests: Vec<String> = thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        builds.into_iter().map(|build| build.join().expect("a build")).collect()
    });
    assert!(digests[0].starts_with("sha256:"), "{digests:?}");
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_kill_at_any_moment_leaves_a_store_that_works() {
    let world = World::new();
    for number in 0..40 {
        world.file(&format!("many/{number}"), vec![b'x'; 10_000]);
    }
    let text = format!(
        "FROM {0} AS one\nCOPY many /many\nRUN for i in 1 2 3; do echo line $i; done; cp -r /many /copy\n\
         FROM {0} AS two\nRUN echo two; head -c 100000 /dev/zero > /two\n\
         FROM one\nCOPY --from=two /two /two\nRUN echo last; rm -r /many\n",
        busybox()
    );
    fs::write(world.path("Dockerfile"), &text).expect("a Dockerfile");
    // The moment is a number of lines of progress, so that it differs from round to round on any machine.
    for lines in 0..24 {
        let mut command = world.command();
        command.args([
            "build",
            "--progress=plain",
            "--build-arg",
            &format!("ROUND={lines}"),
            "-f",
            "Dockerfile",
            "context",
        ]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("lbuild");
        let seen = BufReader::new(child.stderr.take().expect("a pipe")).lines().take(lines).count();
        child.kill().expect("a kill");
        child.wait().expect("its end");
        if lines % 6 == 5 || seen < lines {
            let rootfs = world.build(&text).rootfs();
            assert_eq!(rootfs.text("/two").len(), 100_000);
            assert!(rootfs.has("/copy/39") && !rootfs.has("/many"));
            fs::remove_dir_all(world.path("root")).expect("the store is not in use");
        }
    }
}

#[test]
fn an_image_of_the_store_is_a_base_without_a_registry() {
    let world = World::new();
    world.build(&dockerfile("")).args(&["-t", "mine:1"]).success();
    let rootfs = world.build("FROM mine:1\nRUN cp /random /out\n").rootfs();
    assert_eq!(rootfs.get("/random"), rootfs.get("/out"));
}

/// The names in a folder of the store.
fn stored(world: &World, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(world.path("root").join(folder)).expect("a folder of the store");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_cached_build_asks_no_registry() {
    let world = World::new();
    let (address, sent) = registry::counted(registry::open());
    let base = busybox().replace(registry::open(), &address);
    let dockerfile = format!("FROM {base}\n{RANDOM}\nFROM {base}\nCOPY --from=0 /random /\n");
    let first = world.build(&dockerfile).image();
    assert!(sent.swap(0, Ordering::Relaxed) > 0, "the base comes from the registry");
    assert_eq!(world.build(&dockerfile).image().digest, first.digest);
    assert_eq!(sent.load(Ordering::Relaxed), 0, "bytes sent by a build that is wholly cached");
    world.build(&dockerfile).arg("--pull").success();
    assert!(sent.load(Ordering::Relaxed) > 0, "`--pull` asks");
}

#[test]
fn what_executes_nothing_unpacks_nothing() {
    let world = World::new();
    world.build(&format!("FROM {}\nLABEL a=b\nCMD [\"x\"]\n", busybox())).args(&["-t", "labelled"]).success();
    assert_eq!(stored(&world, "snapshots"), Vec::<String>::new());
    assert_eq!(world.lbuild(&["run", "--rm", "labelled", "echo", "runs"]).success().stdout, "runs\n");
}

#[test]
fn equal_steps_run_once_with_or_without_the_cache() {
    let world = World::new();
    let stage = dockerfile("");
    let both = format!("{stage}{stage}FROM scratch\nCOPY --from=0 /random /a\nCOPY --from=1 /random /b\n");
    for args in [&["--no-cache"][..], &[]] {
        let rootfs = world.build(&both).args(args).rootfs();
        assert_eq!(rootfs.get("/a"), rootfs.get("/b"), "{args:?}");
    }
}

#[test]
fn removing_an_image_frees_what_only_it_was_made_of() {
    let world = World::new();
    world.file("big", vec![7; 3 << 20]);
    let base = busybox();
    world.build(&format!("FROM {base}\nCOPY big /\n")).args(&["-t", "big"]).success();
    world.build(&format!("FROM {base}\n{RANDOM}\n")).args(&["-t", "small"]).success();
    let size = || {
        let sum = |folder: &str| -> u64 {
            let sizes =
                stored(&world, folder).into_iter().map(|name| world.path("root").join(folder).join(name));
            sizes.map(|path| path.metadata().expect("a blob").len()).sum()
        };
        sum("blobs/sha256")
    };
    let before = size();
    world.lbuild(&["rmi", "big"]).success();
    assert!(before - size() >= 3 << 20, "{before} then {}", size());
    world.lbuild(&["run", "--rm", "small", "test", "-s", "/random"]).success();
    world.lbuild(&["rmi", base]).success();
    world.lbuild(&["rmi", base]).failure(1);
    assert!(world.build(&format!("FROM {base}\n{RANDOM}\n")).success().stderr.contains("CACHED"));
}

#[test]
fn where_a_source_begins_is_part_of_the_key_of_parents() {
    let world = World::new();
    world.file("d/z", "z");
    let base = format!("FROM {}\nRUN mkdir -p /t/d && chown 7:7 /t/d\n", busybox());
    let build = |source: &str| world.build(&format!("{base}COPY --parents {source} /t/\n")).rootfs();
    let (whole, part) = (build("d").get("/t/d").to_owned(), build("d/z").get("/t/d").to_owned());
    assert_ne!(whole, part, "the second was taken for the first");
}
