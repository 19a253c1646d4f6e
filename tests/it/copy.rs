//! COPY and ADD: what is selected, where it goes, whose it is.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::Command;

use crate::base::busybox;
use crate::harness::{World, chmod};
use crate::peers;

/// A context with some of everything.
fn world() -> World {
    let world = World::new();
    world
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("dir/one", "1")
        .file("dir/sub/two", "2")
        .file("dir/.hidden", "h");
    world
}

#[test]
fn a_source_lands_where_the_destination_says() {
    let world = world();
    for (instructions, expected) in [
        ("COPY a.txt /x", &["/x"][..]),
        ("COPY a.txt /x/", &["/x", "/x/a.txt"]),
        ("COPY a.txt .", &["/a.txt"]),
        ("WORKDIR /w\nCOPY a.txt ./n", &["/w", "/w/n"]),
        ("COPY a.txt b.txt /x/", &["/x", "/x/a.txt", "/x/b.txt"]),
        ("COPY dir /x", &["/x", "/x/.hidden", "/x/one", "/x/sub", "/x/sub/two"]),
        ("COPY dir/ /x", &["/x", "/x/.hidden", "/x/one", "/x/sub", "/x/sub/two"]),
        ("COPY dir/* /x/", &["/x", "/x/.hidden", "/x/one", "/x/two"]),
        ("COPY ?.txt /x/", &["/x", "/x/a.txt", "/x/b.txt"]),
        ("COPY [^a].txt /x/", &["/x", "/x/b.txt"]),
        ("COPY a.txt nomatch* /x/", &["/x", "/x/a.txt"]),
        ("COPY ../a.txt /../x", &["/x"]),
        ("COPY [\"a.txt\", \"/with space\"]", &["/with space"]),
        ("COPY a.txt /p/q/r", &["/p", "/p/q", "/p/q/r"]),
        (
            "COPY . /all/",
            &[
                "/all",
                "/all/a.txt",
                "/all/b.txt",
                "/all/dir",
                "/all/dir/.hidden",
                "/all/dir/one",
                "/all/dir/sub",
                "/all/dir/sub/two",
            ],
        ),
    ] {
        let rootfs = world.build(&format!("FROM scratch\n{instructions}\n")).rootfs();
        let paths: Vec<&str> = rootfs.tree.paths().filter(|path| *path != "/").collect();
        assert_eq!(paths, expected, "{instructions}");
    }
}

#[test]
fn the_ignore_file_hides_and_shows() {
    let world = world();
    world.file(".dockerignore", "# a comment\n*.txt\n!b.txt\n**/.hidden\ndir/sub\n");
    let rootfs = world.build("FROM scratch\nCOPY . /\n").rootfs();
    for (path, there) in [
        ("/a.txt", false),
        ("/b.txt", true),
        ("/dir/.hidden", false),
        ("/dir/one", true),
        ("/dir/sub/two", false),
    ] {
        assert_eq!(rootfs.has(path), there, "{path}");
    }
}

#[test]
fn files_of_the_context_become_roots_and_keep_their_modes() {
    let world = world();
    let context = world.path("context");
    chown(context.join("a.txt"), Some(1000), Some(1000)).expect("an owner");
    chmod(&context.join("a.txt"), 0o4751);
    chmod(&context.join("dir"), 0o700);
    chmod(&context.join("dir/sub"), 0o1770);
    let rootfs = world.build("FROM scratch\nUSER 5\nCOPY a.txt /\nCOPY dir /dir\n").rootfs();
    rootfs.expect(&[
        ("/a.txt", "file 4751 0:0"),
        ("/dir", "dir 0755 0:0"),
        ("/dir/sub", "dir 1770 0:0"),
        ("/dir/one", "file 0644 0:0"),
    ]);
}

#[test]
fn chown_and_chmod_say_otherwise() {
    let world = world();
    let rootfs = world
        .build(&format!(
            "FROM {}\n\
             COPY --chown=app a.txt /name\nCOPY --chown=app:staff a.txt /both\nCOPY --chown=12:34 a.txt /numbers\n\
             COPY --chown=12 a.txt /number\nCOPY --chmod=600 dir /dir\nCOPY --chown=app --chmod=0750 a.txt /new/parent/f\n",
            busybox()
        ))
        .rootfs();
    rootfs.expect(&[
        ("/name", "file 0644 1000:1000"),
        ("/both", "file 0644 1000:50"),
        ("/numbers", "file 0644 12:34"),
        ("/number", "file 0644 12:12"),
        ("/dir/one", "file 0600 0:0"),
        ("/new/parent/f", "file 0750 1000:1000"),
        ("/new/parent", "dir 0750 1000:1000"),
    ]);
}

#[test]
fn what_comes_from_a_stage_stays_as_it_is() {
    let world = World::new();
    let rootfs = world
        .build(&format!(
            "FROM {} AS from\n\
             RUN mkdir -p /d/sub && echo x > /d/one && ln /d/one /d/two && ln -s one /d/link && mkfifo /d/fifo \\\n \
             && chown -hR 7:8 /d && chmod 2770 /d/sub\n\
             FROM scratch\nCOPY --from=from /d /d\nCOPY --from=from /d/link /followed\n",
            busybox()
        ))
        .rootfs();
    rootfs.expect(&[
        ("/d/one", "file 0644 7:8"),
        ("/d/link", "link 7:8 -> one"),
        ("/d/fifo", "fifo 0644 7:8"),
        ("/d/sub", "dir 2770 7:8"),
        ("/followed", "file 0644 7:8"),
    ]);
    assert!(rootfs.get("/d/two").ends_with("same as /d/one"), "{}", rootfs.get("/d/two"));
}

#[test]
fn extended_attributes_are_copied() {
    let world = world();
    let file = world.path("context/a.txt");
    rustix::fs::setxattr(&file, "user.lbuild", b"value", rustix::fs::XattrFlags::empty())
        .expect("an attribute");
    peers::run(Command::new("setcap").arg("cap_net_bind_service=ep").arg(&file));
    let rootfs = world.build("FROM scratch\nCOPY a.txt /x\n").rootfs();
    assert!(
        rootfs.get("/x").contains("user.lbuild=") && rootfs.get("/x").contains("security.capability="),
        "{}",
        rootfs.get("/x")
    );
}

#[test]
fn links_are_followed_at_the_top_and_kept_below() {
    let world = world();
    symlink("a.txt", world.path("context/top")).expect("a link");
    symlink("../a.txt", world.path("context/dir/below")).expect("a link");
    symlink("/etc/passwd", world.path("context/dir/outside")).expect("a link");
    let rootfs = world.build("FROM scratch\nCOPY top /x\nCOPY dir /dir\n").rootfs();
    assert_eq!(rootfs.text("/x"), "a");
    rootfs.expect(&[("/dir/below", "link 0:0 -> ../a.txt"), ("/dir/outside", "link 0:0 -> /etc/passwd")]);
}

#[test]
fn a_source_never_leads_out_of_the_context() {
    let world = world();
    fs::write(world.path("secret"), "secret").expect("a file");
    symlink("../secret", world.path("context/up")).expect("a link");
    symlink(world.path("secret"), world.path("context/absolute")).expect("a link");
    symlink("/", world.path("context/slash")).expect("a link");
    for instruction in
        ["COPY up /x", "COPY absolute /x", &format!("COPY slash{} /x", world.path("secret").display())]
    {
        let output = world.build(&format!("FROM scratch\n{instruction}\n")).failure();
        assert!(output.stderr.contains("Dockerfile:2"), "{instruction}: {}", output.stderr);
    }
}

#[test]
fn a_destination_follows_links_inside_the_image_only() {
    let world = world();
    let rootfs = world
        .build(&format!(
            "FROM {}\nRUN mkdir /real && ln -s /real /absolute && ln -s ../../../../real /up && ln -s /missing /dangling\n\
             COPY a.txt /absolute/\nCOPY b.txt /up/\nCOPY a.txt /dangling/x\n",
            busybox()
        ))
        .rootfs();
    rootfs.expect(&[
        ("/real/a.txt", "file"),
        ("/real/b.txt", "file"),
        ("/absolute", "link"),
        ("/up", "link"),
        ("/missing/x", "file"),
    ]);
}

#[test]
fn what_stands_is_replaced_or_merged_as_docker_does() {
    let world = world();
    let rootfs = world
        .build(&format!(
            "FROM {}\nRUN mkdir -m 700 /d && echo old > /d/one && echo kept > /d/kept && echo old > /f && ln -s /f /l && ln /f /h\n\
             COPY dir /d\nCOPY a.txt /f\nCOPY b.txt /l\n",
            busybox()
        ))
        .rootfs();
    rootfs.expect(&[("/d", "dir 0700"), ("/d/kept", "file"), ("/l", "link 0:0 -> /f")]);
    assert_eq!(
        (rootfs.text("/d/one"), rootfs.text("/f"), rootfs.text("/h")),
        ("1".into(), "b".into(), "old\n".into())
    );
    let output = world.build(&format!("FROM {}\nCOPY dir /bin/busybox\n", busybox())).failure();
    assert!(output.stderr.contains("Dockerfile:2"), "{}", output.stderr);
}

#[test]
fn add_unpacks_local_archives_and_copies_the_rest() {
    let world = world();
    let context = world.path("context");
    for (option, name) in [
        ("--create", "plain.tar"),
        ("-cz", "gz.tgz"),
        ("-cj", "bz2.tar"),
        ("-cJ", "xz.any"),
        ("--zstd", "zst.tar.zst"),
    ] {
        let mut tar = Command::new("tar");
        tar.arg(option).args((option == "--zstd").then_some("--create"));
        peers::run(tar.arg("--file").arg(context.join(name)).arg("-C").arg(&context).arg("dir"));
    }
    world.file("not.tar", "no archive");
    for name in ["plain.tar", "gz.tgz", "bz2.tar", "xz.any", "zst.tar.zst"] {
        let rootfs = world.build(&format!("FROM scratch\nADD {name} /x\nCOPY {name} /y\n")).rootfs();
        assert_eq!(rootfs.text("/x/dir/sub/two"), "2", "{name}");
        assert!(rootfs.get("/y").starts_with("file"), "COPY never unpacks {name}");
    }
    let rootfs =
        world.build("FROM scratch\nADD not.tar /x/\nADD --chown=5:6 gz.tgz /y/\nADD dir /z\n").rootfs();
    rootfs.expect(&[("/x/not.tar", "file"), ("/y/dir/one", "file 0644 5:6"), ("/z/one", "file")]);
}
