//! COPY: what is selected, where it goes, whose it is. A test a point of what BuildKit does with files (its frontend
//! 1.26), under the point's number; `--parents` and `--exclude` (16, 17) are in `copy_flags`, what ADD does besides
//! (18 to 20 and 23) in `add`.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
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

/// The Dockerfile on the busybox base.
fn on_busybox(rest: &str) -> String {
    format!("FROM {}\n{rest}\n", busybox())
}

/// Builds each row's instructions on nothing; the image must have these paths and no others.
#[track_caller]
fn lands(world: &World, rows: &[(&str, &[&str])]) {
    for (instructions, expected) in rows {
        let rootfs = world.build(&format!("FROM scratch\n{instructions}\n")).rootfs();
        let paths: Vec<&str> = rootfs.tree.paths().filter(|path| *path != "/").collect();
        assert_eq!(paths, *expected, "{instructions}");
    }
}

#[test]
fn point_01_a_destination_is_relative_and_a_last_slash_makes_it_a_directory() {
    lands(
        &world(),
        &[
            ("COPY a.txt /x", &["/x"]),
            ("COPY a.txt /x/", &["/x", "/x/a.txt"]),
            ("COPY a.txt /x/.", &["/x", "/x/a.txt"]),
            ("COPY a.txt .", &["/a.txt"]),
            ("COPY [\"a.txt\", \"/with space\"]", &["/with space"]),
            ("WORKDIR /w\nCOPY a.txt ./n", &["/w", "/w/n"]),
            ("WORKDIR /w\nCOPY a.txt ./", &["/w", "/w/a.txt"]),
            ("WORKDIR /w\nENV EMPTY=\nCOPY a.txt $EMPTY", &["/w", "/w/a.txt"]),
            ("WORKDIR /w\nCOPY a.txt ../x/../y/", &["/w", "/y", "/y/a.txt"]),
            ("WORKDIR /w\nCOPY a.txt /../x", &["/w", "/x"]),
        ],
    );
}

#[test]
fn point_02_a_source_is_relative_to_the_context_whatever_it_begins_with() {
    lands(
        &world(),
        &[
            ("COPY ../a.txt /x/", &["/x", "/x/a.txt"]),
            ("COPY /a.txt ./b.txt /x/", &["/x", "/x/a.txt", "/x/b.txt"]),
            ("COPY dir/../../a.txt /x/", &["/x", "/x/a.txt"]),
            ("COPY dir/sub/ /x", &["/x", "/x/two"]),
            ("COPY a.txt/ /x/", &["/x", "/x/a.txt"]),
        ],
    );
}

#[test]
fn point_03_a_directory_is_its_contents() {
    let world = world();
    world.file("other/one", "other").file("other/sub/three", "3");
    let all = ["/x", "/x/.hidden", "/x/one", "/x/sub", "/x/sub/three", "/x/sub/two"];
    lands(
        &world,
        &[
            ("COPY dir /x", &["/x", "/x/.hidden", "/x/one", "/x/sub", "/x/sub/two"]),
            ("COPY dir other /x", &all),
            ("COPY dir* oth*/ /x/", &all),
            ("COPY dir/* /x/", &["/x", "/x/.hidden", "/x/one", "/x/two"]),
            (
                "COPY */ /x/",
                &[
                    "/x",
                    "/x/.hidden",
                    "/x/a.txt",
                    "/x/b.txt",
                    "/x/one",
                    "/x/sub",
                    "/x/sub/three",
                    "/x/sub/two",
                ],
            ),
        ],
    );
    let rootfs = world.build("FROM scratch\nCOPY dir other /x\n").rootfs();
    assert_eq!(rootfs.text("/x/one"), "other", "the later source wins");
}

#[test]
fn point_04_a_file_goes_into_a_directory_or_becomes_the_destination() {
    let world = world();
    symlink("a.txt", world.path("context/link")).expect("a link");
    let rootfs = world
        .build(&on_busybox(
            "RUN mkdir /there\nCOPY a.txt /there\nCOPY link /there\nCOPY a.txt /new/name\nCOPY a.txt b.txt /last",
        ))
        .rootfs();
    rootfs.expect(&[
        ("/there/a.txt", "file"),
        ("/there/link", "file"),
        ("/new/name", "file"),
        ("/last", "file"),
    ]);
    assert_eq!(rootfs.text("/last"), "b", "each source becomes the destination");
}

#[test]
fn point_05_wildcards_match_as_in_go() {
    let world = world();
    world.file("[x].txt", "brackets").file("deep/er/a.txt", "deep");
    lands(
        &world,
        &[
            ("COPY ?.txt /x/", &["/x", "/x/a.txt", "/x/b.txt"]),
            ("COPY [a].txt /x/", &["/x", "/x/a.txt"]),
            ("COPY [^a].txt /x/", &["/x", "/x/b.txt"]),
            ("COPY [b-z].txt /x/", &["/x", "/x/b.txt"]),
            ("COPY [[]x].txt /x/", &["/x", "/x/[x].txt"]),
            ("COPY \\\\?.txt* a.txt /x/", &["/x", "/x/a.txt"]),
            // No `*` is a slash's match, and there is no `**`.
            ("COPY *two **/two a.txt /x/", &["/x", "/x/a.txt"]),
            ("COPY */*/a.txt /x/", &["/x", "/x/a.txt"]),
            // What is in a directory that matches comes with it, and is not asked again.
            ("COPY deep* /x/", &["/x", "/x/er", "/x/er/a.txt"]),
            // A pattern that is none matches nothing.
            ("COPY [ a.txt /x/", &["/x", "/x/a.txt"]),
        ],
    );
}

#[test]
fn point_06_a_wildcard_may_match_nothing_and_a_name_may_not() {
    let world = world();
    lands(&world, &[("COPY a.txt nomatch* /x/", &["/x", "/x/a.txt"]), ("COPY nomatch* /x/", &[])]);
    let image = world.build("FROM scratch\nCOPY nomatch* /x/\n").image();
    assert_eq!(image.diff_ids().len(), 1, "a layer all the same");
    world
        .build("FROM scratch\nCOPY a.txt nothing /x/\n")
        .failure()
        .says("`nothing` is not in the build context");
    // What stands before the first wildcard is a name.
    world
        .build("FROM scratch\nCOPY a.txt dri/* /x/\n")
        .failure()
        .says("`dri/*` is not")
        .says("did you mean `dir`?");
    world.file(".dockerignore", "dir\n");
    world.build("FROM scratch\nCOPY dir/* /x/\n").failure().says("line 1 of `.dockerignore` excludes `dir`");
}

#[test]
fn point_07_links_are_followed_at_the_top_and_kept_below() {
    let world = world();
    symlink("a.txt", world.path("context/top")).expect("a link");
    symlink("dir", world.path("context/linked")).expect("a link");
    symlink("../a.txt", world.path("context/dir/below")).expect("a link");
    symlink("/etc/passwd", world.path("context/dir/outside")).expect("a link");
    let rootfs = world
        .build("FROM scratch\nCOPY top /x\nCOPY to* /matched/\nCOPY dir /dir\nCOPY linked/sub /sub\nCOPY linked /all\n")
        .rootfs();
    rootfs.expect(&[
        ("/matched/top", "file"),
        ("/dir/below", "link 0:0 -> ../a.txt"),
        ("/dir/outside", "link 0:0 -> /etc/passwd"),
        ("/sub/two", "file"),
        ("/all/sub/two", "file"),
    ]);
    assert_eq!(rootfs.text("/x"), "a");
}

#[test]
fn point_07_a_source_never_leads_out_of_the_context() {
    let world = world();
    fs::write(world.path("secret"), "secret").expect("a file");
    symlink("../secret", world.path("context/up")).expect("a link");
    symlink(world.path("secret"), world.path("context/absolute")).expect("a link");
    symlink("/", world.path("context/slash")).expect("a link");
    for instruction in
        ["COPY up /x", "COPY absolute /x", &format!("COPY slash{} /x", world.path("secret").display())]
    {
        world.build(&format!("FROM scratch\n{instruction}\n")).failure().says("Dockerfile:2");
    }
}

#[test]
fn point_07_a_destination_follows_links_inside_the_image_only() {
    let world = world();
    let rootfs = world
        .build(&on_busybox(
            "RUN mkdir /real && ln -s /real /absolute && ln -s ../../../../real /up && ln -s /missing /dangling\n\
             COPY a.txt /absolute/\nCOPY b.txt /up/\nCOPY a.txt /dangling/x\n",
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
fn point_08_what_is_missing_above_is_made() {
    let rootfs = world()
        .build(
            "FROM scratch\nUSER 9\nCOPY a.txt /p/q/r\nCOPY --chown=5:6 --chmod=0710 a.txt /new/parent/f\n\
             COPY --chmod=u=rwx,go= a.txt /symbolic/parent/f\nCOPY --chown=5 dir /d/e\n",
        )
        .rootfs();
    rootfs.expect(&[
        ("/p", "dir 0755 0:0"),
        ("/p/q", "dir 0755 0:0"),
        ("/new", "dir 0710 5:6"),
        ("/new/parent", "dir 0710 5:6"),
        ("/new/parent/f", "file 0710 5:6"),
        ("/symbolic/parent", "dir 0755 0:0"),
        ("/symbolic/parent/f", "file 0700 0:0"),
        ("/d", "dir 0755 5:5"),
        ("/d/e", "dir 0755 5:5"),
    ]);
}

#[test]
fn point_09_a_directory_that_stands_stays_at_the_top_and_is_replaced_below() {
    let world = world();
    chmod(&world.path("context/dir/sub"), 0o711);
    let rootfs = world
        .build(&on_busybox(
            "RUN mkdir -p /d/sub && chmod 700 /d /d/sub && chown 5:6 /d /d/sub && echo old > /d/one && echo kept > /d/kept && touch -d @1000 /d\n\
             COPY dir /d\nCOPY a.txt /d/\nRUN stat -c %Y /d > /out\n",
        ))
        .rootfs();
    rootfs.expect(&[
        ("/d", "dir 0700 5:6"),
        ("/d/sub", "dir 0711 0:0"),
        ("/d/kept", "file"),
        ("/d/a.txt", "file"),
    ]);
    assert_eq!((rootfs.text("/d/one").as_str(), rootfs.text("/out").as_str()), ("1", "1000\n"));
}

#[test]
fn point_10_types_in_conflict_are_refused_and_files_replaced() {
    let world = world();
    let rootfs = world
        .build(&on_busybox(
            "RUN echo old > /f && ln /f /other-name && ln -s /f /link\nCOPY a.txt /f\nCOPY b.txt /link\n",
        ))
        .rootfs();
    // A link is followed where the destination names it; what it leads to is made anew, not written into.
    rootfs.expect(&[("/link", "link 0:0 -> /f")]);
    assert_eq!((rootfs.text("/f").as_str(), rootfs.text("/other-name").as_str()), ("b", "old\n"));
    for (instructions, words) in [
        ("RUN mkdir -p /x/one\nCOPY dir /x", "`/x/one`"),
        ("COPY dir /bin/busybox", "`/bin/busybox`"),
        ("RUN mkdir /x && ln -s /etc/passwd /x/sub\nCOPY dir /x", "`/x/sub`"),
    ] {
        world.build(&on_busybox(instructions)).failure().says(words).says("cannot copy");
    }
}

#[test]
fn point_11_modes_times_attributes_links_and_special_files_are_kept() {
    let world = world();
    let context = world.path("context");
    chmod(&context.join("a.txt"), 0o4751);
    chmod(&context.join("dir"), 0o700);
    chmod(&context.join("dir/sub"), 0o1770);
    fs::hard_link(context.join("dir/one"), context.join("dir/same")).expect("a link");
    rustix::fs::setxattr(context.join("a.txt"), "user.lbuild", b"value", rustix::fs::XattrFlags::empty())
        .expect("an attribute");
    peers::run(Command::new("setcap").arg("cap_net_bind_service=ep").arg(context.join("b.txt")));
    peers::run(Command::new("mkfifo").args(["-m", "620"]).arg(context.join("dir/fifo")));
    peers::run(Command::new("mknod").args(["-m", "644"]).arg(context.join("dir/null")).args(["c", "1", "3"]));
    peers::run(Command::new("touch").args(["-d", "@1234567890.5"]).arg(context.join("a.txt")));
    drop(UnixListener::bind(context.join("dir/socket")).expect("a socket"));
    let rootfs = world
        .build(&on_busybox(
            "COPY a.txt b.txt /x/\nCOPY dir /dir\n\
             RUN test -S /dir/socket && stat -c %y /x/a.txt > /out",
        ))
        .rootfs();
    rootfs.expect(&[
        ("/x/a.txt", "file 4751 0:0"),
        ("/dir", "dir 0755 0:0"),
        ("/dir/sub", "dir 1770 0:0"),
        ("/dir/one", "file 0644 0:0"),
        ("/dir/fifo", "fifo 0620 0:0"),
        ("/dir/null", "char 0644 0:0 0x103"),
    ]);
    assert!(rootfs.get("/dir/same").ends_with("same as /dir/one"), "{}", rootfs.get("/dir/same"));
    assert!(rootfs.get("/x/a.txt").contains("user.lbuild="), "{}", rootfs.get("/x/a.txt"));
    assert!(rootfs.get("/x/b.txt").contains("security.capability="), "{}", rootfs.get("/x/b.txt"));
    assert_eq!(rootfs.text("/out"), "2009-02-13 23:31:30.500000000 +0000\n");
}

#[test]
fn point_12_files_of_the_context_are_roots_and_those_of_a_stage_stay_theirs() {
    let world = world();
    chown(world.path("context/a.txt"), Some(1000), Some(1000)).expect("an owner");
    let rootfs = world
        .build(&format!(
            "FROM {} AS from\n\
             RUN mkdir -p /d/sub && echo x > /d/one && ln /d/one /d/two && ln -s one /d/link && chown -hR 7:8 /d && chmod 2770 /d/sub\n\
             FROM scratch\nUSER 5\nCOPY a.txt /a\nCOPY --from=from /d /d\nCOPY --from=from /d/link /followed\n",
            busybox()
        ))
        .rootfs();
    rootfs.expect(&[
        ("/a", "file 0644 0:0"),
        ("/d", "dir 0755 0:0"),
        ("/d/one", "file 0644 7:8"),
        ("/d/link", "link 7:8 -> one"),
        ("/d/sub", "dir 2770 7:8"),
        ("/followed", "file 0644 7:8"),
    ]);
    assert!(rootfs.get("/d/two").ends_with("same as /d/one"), "{}", rootfs.get("/d/two"));
}

#[test]
fn point_13_owners_are_looked_up_in_the_image() {
    let world = world();
    let (image, said) = world
        .build(&on_busybox(
            "ARG WHO=app\nRUN echo late:x:77:78::/:/bin/sh >> /etc/passwd\n\
             COPY --chown=$WHO a.txt /name\nCOPY --chown=app:staff a.txt /both\nCOPY --chown=12:34 a.txt /numbers\n\
             COPY --chown=1000 a.txt /number\nCOPY --chown=late:app a.txt /late\nCOPY --chown=:staff a.txt /group\n\
             COPY --chown=nobody-knows a.txt /unknown",
        ))
        .image_and_output();
    world.unpack(&image).expect(&[
        ("/name", "file 0644 1000:1000"),
        ("/both", "file 0644 1000:50"),
        ("/numbers", "file 0644 12:34"),
        ("/number", "file 0644 1000:1000"),
        ("/late", "file 0644 77:1000"),
        ("/unknown", "file 0644 0:0"),
    ]);
    assert!(said.stderr.contains("the image has no user `nobody-knows`"), "{}", said.stderr);
    // Without the image below there is nobody to look up.
    world.build(&on_busybox("COPY --link --chown=app a.txt /x")).failure().says("Dockerfile:2");
    // Nor in an image of nothing.
    let rootfs = world.build("FROM scratch\nCOPY --chown=app:staff a.txt /x\n").rootfs();
    rootfs.expect(&[("/x", "file 0644 0:0")]);
}

#[test]
fn point_14_modes_are_octal_or_symbolic() {
    let world = world();
    symlink("one", world.path("context/dir/link")).expect("a link");
    chmod(&world.path("context/b.txt"), 0o751);
    let rootfs = world
        .build(
            "FROM scratch\nARG MODE=u=rwX,go=rX\n\
             COPY --chmod=600 dir /octal\nCOPY --chmod=4711 a.txt /setuid\nCOPY --chmod=$MODE dir /symbolic\n\
             COPY --chmod=a+X a.txt b.txt /x/\nCOPY --chmod=go-rx,u+s b.txt /less\nCOPY --chmod=g=u a.txt /copied\n",
        )
        .rootfs();
    rootfs.expect(&[
        ("/octal", "dir 0600 0:0"),
        ("/octal/sub", "dir 0600 0:0"),
        ("/octal/one", "file 0600 0:0"),
        ("/octal/link", "link 0:0 -> one"),
        ("/setuid", "file 4711"),
        ("/symbolic/sub", "dir 0755"),
        ("/symbolic/one", "file 0644"),
        ("/x/a.txt", "file 0644"),
        ("/x/b.txt", "file 0751"),
        ("/less", "file 4700"),
        ("/copied", "file 0664"),
    ]);
    for mode in ["rwx", "u=rwz", "10000", "888", "-1"] {
        world.build(&format!("FROM scratch\nCOPY --chmod={mode} a.txt /x\n")).failure().says("Dockerfile:2");
    }
    // `--chmod` takes `--link` back, so names are found again.
    let rootfs = world.build(&on_busybox("COPY --link --chmod=600 --chown=app a.txt /x")).rootfs();
    rootfs.expect(&[("/x", "file 0600 1000:1000")]);
}

#[test]
fn point_15_a_linked_layer_knows_nothing_of_what_is_below() {
    let world = world();
    let image = world
        .build(&on_busybox(
            "RUN mkdir /real && ln -s /real /link && mkdir -m 700 /private\n\
             COPY --link a.txt /link/x\nCOPY --link --chown=5:6 dir /private/\nCOPY --link b.txt /private/",
        ))
        .image();
    assert_eq!(image.names_in_layer(2), ["link", "link/x"]);
    let rootfs = world.unpack(&image);
    rootfs.expect(&[
        ("/link", "dir 0755 0:0"),
        ("/link/x", "file"),
        ("/private", "dir 0755 0:0"),
        ("/private/one", "file 0644 5:6"),
    ]);
    assert!(!rootfs.has("/real/x"));
    // Without it the same steps respect what stands.
    let rootfs = world
        .build(&on_busybox("RUN mkdir -m 700 /private\nCOPY --link=false --chown=5:6 dir /private/"))
        .rootfs();
    rootfs.expect(&[("/private", "dir 0700 0:0")]);
}

#[test]
fn point_21_copy_fetches_nothing() {
    let world = World::new();
    for source in ["http://127.0.0.1/f", "https://127.0.0.1/r.git#main", "git@127.0.0.1:a/b.git"] {
        world
            .build(&format!("FROM scratch\nCOPY {source} /x\n"))
            .failure()
            .says("`ADD` can")
            .says("Dockerfile:2");
    }
}

#[test]
fn point_22_from_is_a_stage_a_number_an_image_or_a_context() {
    let world = world();
    world.file(".dockerignore", "*.txt\n");
    fs::create_dir_all(world.path("lib/deep")).expect("a folder");
    fs::write(world.path("lib/deep/a.txt"), "of the context `lib`").expect("a file");
    fs::write(world.path("lib/skipped"), "").expect("a file");
    fs::write(world.path("lib/.dockerignore"), "skipped\n").expect("a file");
    let dockerfile = format!(
        "FROM scratch AS First\nCOPY dir /dir\n\
         FROM {0}\nRUN echo second > /x.txt\n\
         FROM scratch\nCOPY --from=FIRST /dir/one /one\nCOPY --from=0 dir/sub /sub\nCOPY --from=1 /x.txt /x\n\
         COPY --from={0} /etc/passwd /passwd\nCOPY --from=lib . /lib/\n",
        busybox()
    );
    let rootfs = world.build(&dockerfile).arg("--build-context=lib=lib").rootfs();
    rootfs.expect(&[("/one", "file"), ("/sub/two", "file"), ("/passwd", "file")]);
    assert_eq!(rootfs.text("/x"), "second\n", "no `.dockerignore` hides what a stage made");
    assert_eq!(
        rootfs.text("/lib/deep/a.txt"),
        "of the context `lib`",
        "a context has an ignore file of its own"
    );
    assert!(!rootfs.has("/lib/skipped"));
}

#[test]
fn point_22_what_from_cannot_be() {
    let world = world();
    for (dockerfile, words) in [
        ("FROM scratch AS one\nCOPY --from=two a.txt /\nFROM scratch AS two\nFROM one\n", "`two`"),
        ("FROM scratch\nCOPY --from=7 a.txt /\n", "7"),
        ("FROM scratch AS own\nCOPY --from=own a.txt /\n", "`own`"),
        ("FROM scratch AS own\nCOPY --from=0 a.txt /\n", "0"),
    ] {
        world.build(dockerfile).failure().says(words).says("Dockerfile:2:13");
    }
}

#[test]
fn point_22_from_may_be_a_variable_as_it_may_not_with_buildkit() {
    let dockerfile = format!(
        "ARG WHERE=one\nFROM scratch AS one\nCOPY a.txt /x\nFROM {} AS two\nRUN echo 2 > /x\n\
         FROM scratch\nARG WHERE\nCOPY --from=${{WHERE}} /x /out\n",
        busybox()
    );
    let world = world();
    assert_eq!(world.build(&dockerfile).out(), "a");
    assert_eq!(world.build(&dockerfile).arg("--build-arg=WHERE=two").out(), "2\n");
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
fn what_is_missing_is_explained() {
    let world = world();
    world
        .file("Main.c", "")
        .file("build/app", "")
        .file(".dockerignore", "# outputs\n\nbuild\n*.md\n!README.md\n")
        .file("NOTES.md", "");
    symlink("../away", world.path("context/leads-out")).expect("a link");
    fs::create_dir(world.path("lib")).expect("a folder");
    fs::write(world.path("lib/lib.h"), "").expect("a file");
    let base = busybox();
    for (instruction, words) in [
        ("COPY build/app /", "line 3 of `.dockerignore` excludes `build`"),
        ("ADD NOTES.md /", "line 4 of `.dockerignore` excludes `*.md`"),
        ("COPY main.c /", "did you mean `Main.c`?"),
        ("ADD dir/sbu/two /", "`dir/sbu/two` is not in the build context"),
        ("COPY dir/oen /", "did you mean `dir/one`?"),
        ("COPY leads-out /", "it is a link to `../away`, which leads nowhere in there"),
        ("COPY /usr/share/nothing /", "`/usr/share/nothing` is not in the build context"),
        ("COPY --parents dir/none /", "`dir/none` is not in the build context"),
        ("COPY --from=lib lib.c /", "did you mean `lib.h`?"),
        ("COPY --from=before /etc/passwt /", "`/etc/passwt` is not in the stage `before`"),
        ("RUN --mount=target=/m,source=build true", "line 3 of `.dockerignore` excludes `build`"),
        ("RUN --mount=target=/m,source=dri true", "did you mean `dir`?"),
    ] {
        let dockerfile = format!("FROM {base} AS before\nFROM {base}\n{instruction}\n");
        world.build(&dockerfile).arg("--build-context=lib=lib").failure().says(words).says("Dockerfile:3");
    }
    let image = format!("FROM scratch\nCOPY --from={base} /bin/bussybox /\n");
    world
        .build(&image)
        .failure()
        .says(&format!("is not in the image `{base}`"))
        .says("did you mean `bin/busybox`?");
}
