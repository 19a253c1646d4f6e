//! The flags of COPY and ADD that change which files are meant: `--parents` (point 16 of what BuildKit does with
//! files) and `--exclude` (17). What each costs in the cache is here too.

use std::os::unix::fs::symlink;

use crate::base::busybox;
use crate::harness::{World, chmod};

fn world() -> World {
    let world = World::new();
    world
        .file("x/a.txt", "xa")
        .file("x/b.md", "xb")
        .file("y/a.txt", "ya")
        .file("x/deep/er/c.txt", "xc")
        .file("x/deep/d.md", "xd")
        .file("top.txt", "top");
    world
}

/// Builds each row's instructions on nothing; the files of the image must be these.
#[track_caller]
fn files(world: &World, rows: &[(&str, &[&str])]) {
    for (instructions, expected) in rows {
        let rootfs = world.build(&format!("FROM scratch\n{instructions}\n")).rootfs();
        let is_file =
            |path: &&str| rootfs.get(path).starts_with("file") || rootfs.get(path).starts_with("link");
        let paths: Vec<&str> = rootfs.tree.paths().filter(is_file).collect();
        assert_eq!(paths, *expected, "{instructions}");
    }
}

#[test]
fn point_16_parents_keep_the_path_of_a_source() {
    files(
        &world(),
        &[
            ("COPY --parents x/a.txt y/a.txt /p/", &["/p/x/a.txt", "/p/y/a.txt"]),
            // The destination is a directory, slash or none.
            ("COPY --parents ./x/a.txt /p", &["/p/x/a.txt"]),
            ("COPY --parents=false x/a.txt /p/", &["/p/a.txt"]),
            ("COPY --parents */a.txt /p/", &["/p/x/a.txt", "/p/y/a.txt"]),
            // A directory comes with its name and with all that is in it.
            ("COPY --parents x/deep /p/", &["/p/x/deep/d.md", "/p/x/deep/er/c.txt"]),
            // Any number of components, none among them.
            ("COPY --parents x/**/*.txt /p/", &["/p/x/a.txt", "/p/x/deep/er/c.txt"]),
            ("COPY --parents **/*.md /p/", &["/p/x/b.md", "/p/x/deep/d.md"]),
            // What stands before the pivot goes.
            ("COPY --parents ./x/./deep/er/c.txt /p/", &["/p/deep/er/c.txt"]),
            ("COPY --parents x/./**/*.md /p/", &["/p/b.md", "/p/deep/d.md"]),
            ("COPY --parents no*/**/*.txt top.txt /p/", &["/p/top.txt"]),
        ],
    );
}

#[test]
fn point_16_parents_keep_the_metadata_of_directories() {
    let world = world();
    chmod(&world.path("context/x"), 0o711);
    chmod(&world.path("context/x/deep"), 0o750);
    let rootfs = world
        .build("FROM scratch\nCOPY --parents x/deep/d.md /kept/\nCOPY --parents --chown=5:6 --chmod=700 x/deep/d.md /all/\n")
        .rootfs();
    rootfs.expect(&[
        ("/kept", "dir 0755 0:0"),
        ("/kept/x", "dir 0711 0:0"),
        ("/kept/x/deep", "dir 0750 0:0"),
        ("/kept/x/deep/d.md", "file 0644 0:0"),
        ("/all/x/deep", "dir 0700 5:6"),
        ("/all/x/deep/d.md", "file 0700 5:6"),
    ]);
}

#[test]
fn point_16_a_name_without_wildcards_must_be_there() {
    let world = world();
    for source in ["x/nothing.txt", "nothing/a.txt", "x/./nothing"] {
        let dockerfile = format!("FROM scratch\nCOPY --parents {source} /p/\n");
        world.build(&dockerfile).failure().says("is not in the build context").says("Dockerfile:2");
    }
    world.build("FROM scratch\nADD --parents x/a.txt /p/\n").failure().says("--parents");
}

#[test]
fn point_16_parents_of_a_stage_and_of_links() {
    let world = world();
    symlink("a.txt", world.path("context/x/link")).expect("a link");
    files(&world, &[("COPY --parents x/link /p/", &["/p/x/link"])]);
    let rootfs = world
        .build(&format!(
            "FROM {} AS from\nRUN mkdir -p /usr/lib/a /usr/lib/b && chown 7:8 /usr/lib && touch /usr/lib/a/x.so /usr/lib/b/y.so /usr/lib/b/y.a\n\
             FROM scratch\nCOPY --from=from --parents /usr/lib/**/*.so /\nCOPY --link --from=from --parents /usr/./lib/*/*.a /p\n",
            busybox()
        ))
        .rootfs();
    rootfs.expect(&[
        ("/usr/lib", "dir 0755 7:8"),
        ("/usr/lib/a/x.so", "file"),
        ("/usr/lib/b/y.so", "file"),
        ("/p/lib/b/y.a", "file"),
        ("/usr/lib/b/y.a", "nothing"),
    ]);
}

#[test]
fn point_17_exclusions_are_relative_to_each_source() {
    let world = world();
    world.file("x/x/a.txt", "below");
    files(
        &world,
        &[
            ("COPY --exclude=*.txt x /p/", &["/p/b.md", "/p/deep/d.md", "/p/deep/er/c.txt", "/p/x/a.txt"]),
            ("COPY --exclude=**/*.txt x /p/", &["/p/b.md", "/p/deep/d.md"]),
            ("COPY --exclude=*.md --exclude=deep --exclude=x/a.txt x /p/", &["/p/a.txt"]),
            (
                "COPY --exclude=**/*.md --exclude=!deep/d.md x/ /p/",
                &["/p/a.txt", "/p/deep/d.md", "/p/deep/er/c.txt", "/p/x/a.txt"],
            ),
            // A file that is named is asked about by its name alone.
            ("COPY --exclude=a.txt x/a.txt x/b.md y /p/", &["/p/b.md"]),
            ("COPY --exclude=x/a.txt x/a.txt /p/", &["/p/a.txt"]),
            ("COPY --exclude=*.txt *.txt */*.md /p/", &["/p/b.md"]),
            ("COPY --exclude=x --exclude=top.txt . /p/", &["/p/y/a.txt"]),
            ("ADD --exclude=**/*.txt --exclude=deep x /p/", &["/p/b.md"]),
            (
                "COPY --parents --exclude=**/er x /p/",
                &["/p/x/a.txt", "/p/x/b.md", "/p/x/deep/d.md", "/p/x/x/a.txt"],
            ),
            // A variable is replaced, as it is not with BuildKit.
            ("ARG KIND=md\nCOPY --exclude=**/*.$KIND x/deep /p/", &["/p/er/c.txt"]),
        ],
    );
    world.build("FROM scratch\nCOPY --exclude=[ x /p/\n").failure().says("Dockerfile:2");
}

#[test]
fn what_is_excluded_is_no_reason_to_copy_again() {
    let world = world();
    let build = || {
        world.build("FROM scratch\nCOPY --exclude=**/*.md x /p/\n").arg("--progress=plain").success().stderr
    };
    assert!(!build().contains("CACHED"));
    world.file("x/b.md", "another text").file("x/new.md", "");
    assert!(build().contains("CACHED"), "only excluded files changed");
    world.file("x/a.txt", "another text");
    assert!(!build().contains("CACHED"), "a file that is copied changed");
}

#[test]
fn history_shows_parents_owner_and_mode_and_no_other_flag() {
    let image = world()
        .build("FROM scratch\nCOPY --parents --exclude=a --link --chown=1:2 x/a.txt /p/\nADD --chmod=600 --exclude=a x/a.txt /p/\n")
        .image();
    assert_eq!(
        image.history(),
        ["COPY --parents --chown=1:2 x/a.txt /p/ # buildkit", "ADD --chmod=600 x/a.txt /p/ # buildkit"]
    );
}
