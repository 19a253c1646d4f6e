//! Heredocs, where the Dockerfile itself holds what a RUN executes and what a COPY or an ADD copies.

use crate::base::busybox;
use crate::harness::World;

/// The Dockerfile on the busybox base.
fn on_busybox(rest: &str) -> String {
    format!("FROM {}\n{rest}\n", busybox())
}

/// What `rest` on the busybox base writes to `/out`.
fn out(rest: &str) -> String {
    World::new().build(&on_busybox(rest)).out()
}

#[test]
fn a_body_is_a_script_of_the_shell() {
    // No `set -e`: the step fails as its last command does.
    let script = "ENV A=a\nARG B=b\nRUN <<EOF\n# no comment of the Dockerfile\nfalse\nif true; then\n\techo $A \"$B\" '$A' > /out\nfi\nEOF";
    assert_eq!(out(script), "a b $A\n");
    World::new().build(&on_busybox("RUN <<EOF\ntrue\nfalse\nEOF")).failure().says("exited with code 1");
}

#[test]
fn the_shell_of_the_stage_runs_it() {
    assert_eq!(out("SHELL [\"/bin/ash\", \"-ec\"]\nRUN <<EOF\necho $- | grep -o e > /out\nEOF"), "e\n");
}

#[test]
fn quotes_and_escapes_are_the_shells_affair() {
    // Whatever the name's quotes, the script is the body as it stands, and the shell replaces the variables.
    let script =
        |name: &str| format!("ENV A=a\nRUN <<{name}\nprintf '%s|' \"$A\" '\\$A' \\\n  x > /out\nEOF");
    for name in ["EOF", "'EOF'", "\"EOF\"", "E\"O\"F"] {
        assert_eq!(out(&script(name)), "a|\\$A|x|", "{name}");
    }
}

#[test]
fn a_dash_strips_tabs_and_nothing_else() {
    let script = "RUN <<-EOF\n\tcat > /out <<-IN\n\t\tone\n\t  two\n\tIN\n\tEOF";
    assert_eq!(out(script), "one\n  two\n");
}

#[test]
fn a_first_line_names_another_interpreter() {
    let script = "COPY --chmod=755 <<EOF /bin/upper\n#!/bin/sh\ntail -n +2 \"\\$1\" | tr a-z A-Z > /out\nEOF\n\
                  RUN <<EOF\n#!/bin/upper\nsome $TEXT\nEOF";
    assert_eq!(out(script), "SOME $TEXT\n");
    // It is there for the command alone, and leaves nothing.
    let world = World::new();
    let image = world
        .build(&on_busybox("RUN <<SCRIPT\n#!/bin/sh\necho $0 > /out\nSCRIPT\nRUN test ! -e /dev/pipes"))
        .image();
    assert_eq!(world.unpack(&image).text("/out"), "/dev/pipes/SCRIPT\n");
    assert_eq!(image.names_in_layer(1), ["out"]);
}

#[test]
fn a_command_reads_bodies_from_its_descriptors() {
    assert_eq!(out("RUN cat <<EOF > /out\none\nEOF"), "one\n");
    assert_eq!(out("ENV A=a\nRUN cat <<ONE - > /out && cat <<'TWO' >> /out\n$A\nONE\n$A\nTWO"), "a\n$A\n");
    assert_eq!(out("RUN cat <<A > /out && cat <<-B >> /out\n\tone\nA\n\ttwo\n\tB"), "\tone\ntwo\n");
    assert_eq!(out("RUN cat 3<<OTHER 0<<EOF <&3 > /out\nthree\nOTHER\nzero\nEOF"), "three\n");
    assert_eq!(out("USER app\nUSER 0\nWORKDIR /w\nRUN --network=none <<EOF sh > /out\npwd\nEOF"), "/w\n");
}

#[test]
fn what_only_looks_like_a_heredoc_is_left_to_the_shell() {
    assert_eq!(out("RUN echo \"<<EOF\" > /out"), "<<EOF\n");
    assert_eq!(out("RUN echo $((1<<2)) > /out"), "4\n");
    assert_eq!(out("RUN [\"sh\", \"-c\", \"echo '<<EOF' > /out\"]"), "<<EOF\n");
}

#[test]
fn copy_writes_bodies_as_files() {
    let world = World::new();
    world.file("plain", "from the context");
    let rootfs = world
        .build(&on_busybox(
            "ENV A=a EMPTY=\nARG B=b\nWORKDIR /w\n\
             COPY <<EOF name\n$A ${B} ${UNSET:-none} \\$A \"$A\" '$A'\nEOF\n\
             COPY <<'EOF' /literal\n$A \\$A\nEOF\n\
             COPY <<one <<two plain /several/\n1\none\n2 $B\ntwo\n\
             ADD <<-tabs /tabs\n\t\tx\n\t y\n\ttabs\n\
             COPY <<in.conf /etc/\nconf\nin.conf\n\
             COPY --chown=app:staff --chmod=750 <<script /bin/script\n#!/bin/sh\nscript\n\
             COPY <<empty $EMPTY\nempty\n\
             COPY --link <<linked /linked/deep/\nl\nlinked",
        ))
        .rootfs();
    assert_eq!(rootfs.text("/w/name"), "a b none $A \"a\" 'a'\n");
    assert_eq!(rootfs.text("/literal"), "$A \\$A\n");
    assert_eq!((rootfs.text("/several/one"), rootfs.text("/several/two")), ("1\n".into(), "2 b\n".into()));
    assert_eq!((rootfs.text("/tabs"), rootfs.text("/w/empty")), ("x\n y\n".into(), String::new()));
    rootfs.expect(&[
        ("/w/name", "file 0644 0:0"),
        ("/several/plain", "file 0644 0:0"),
        ("/etc/in.conf", "file 0644 0:0"),
        ("/bin/script", "file 0750 1000:50"),
        ("/linked/deep/linked", "file 0644 0:0"),
    ]);
}

#[test]
fn a_file_may_be_named_as_a_path() {
    let rootfs =
        World::new().build("FROM scratch\nCOPY <<dir/f /x/\n1\ndir/f\nCOPY <<../up /y/\n2\n../up\n").rootfs();
    let files: Vec<&str> = rootfs.tree.paths().filter(|path| rootfs.get(path).starts_with("file")).collect();
    assert_eq!(files, ["/x/f", "/y/up"]);
}

#[test]
fn only_what_a_body_says_makes_another_file() {
    let world = World::new();
    let build = |text: &str| {
        let dockerfile = format!("FROM scratch\nARG V\nCOPY <<EOF /out\n{text}\nEOF\n");
        world.build(&dockerfile).arg("--build-arg=V=1").arg("--progress=plain").success().stderr
    };
    assert!(!build("v $V").contains("CACHED"));
    assert!(build("v ${V}").contains("CACHED"), "the same file, otherwise written");
    assert!(!build("v 2").contains("CACHED"));
}

#[test]
fn history_names_the_heredoc_of_a_copy_and_shows_the_script_of_a_run() {
    let image = World::new()
        .build(&on_busybox(
            "COPY <<EOF <<b /x/\n1\nEOF\n2\nb\nRUN <<EOF\necho one\necho two\nEOF\nRUN cat <<EOF\nx\nEOF",
        ))
        .image();
    assert_eq!(
        image.history()[1..],
        [
            "COPY <<EOF <<b /x/ # buildkit",
            "RUN /bin/sh -c echo one\necho two\n # buildkit",
            "RUN /bin/sh -c cat <<EOF\nx\nEOF # buildkit",
        ]
    );
}

#[test]
fn mistakes_are_told_with_their_lines() {
    for (instruction, words, place) in [
        ("RUN <<EOF\necho", "EOF", "Dockerfile:2"),
        ("COPY <<EOF <<EOF\n1\nEOF\n2\nEOF", "destination", "Dockerfile:2"),
        ("COPY <<EOF /x\n1\n${A:?not given}\nEOF", "not given", "Dockerfile:4:1"),
    ] {
        World::new().build(&format!("FROM scratch\n{instruction}\n")).failure().says(words).says(place);
    }
}
