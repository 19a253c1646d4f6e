//! Each instruction but COPY and ADD, by what it leaves in the tree, in the configuration, in the history
//! and in its layer.

use std::process::Stdio;

use serde_json::json;

use crate::base::busybox;
use crate::harness::{Output, World};
use crate::registry::free_port;

/// The Dockerfile on the busybox base.
fn on_busybox(rest: &str) -> String {
    format!("FROM {}\n{rest}\n", busybox())
}

#[test]
fn run_sees_what_earlier_steps_left() {
    let world = World::new();
    let rootfs = world.build(&on_busybox("RUN echo one > /x\nRUN cat /x > /y && rm /x")).rootfs();
    assert_eq!(rootfs.text("/y"), "one\n");
    assert!(!rootfs.has("/x"));
}

#[test]
fn run_has_a_shell_form_an_exec_form_and_a_shell_of_choice() {
    let world = World::new();
    let out = world.build(&on_busybox(
        "ENV A=a\n\
         RUN echo $A >> /out\n\
         RUN [\"sh\", \"-c\", \"echo $0 $1 $A >> /out\", \"zero\", \"$A\"]\n\
         SHELL [\"/bin/ash\", \"-euc\"]\n\
         RUN echo $- >> /out\n\
         RUN echo one \\\n  two >> /out",
    ));
    let out = out.out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["a", "zero $A a"]);
    assert!(lines[2].contains('e') && lines[2].contains('u'), "{out}");
    assert_eq!(lines[3], "one two");
}

#[test]
fn env_reaches_commands_and_the_image_and_arg_reaches_commands_alone() {
    let world = World::new();
    let dockerfile = on_busybox(
        "ARG WHO=nobody\nARG UNSET\nARG A=lost\nENV A=\"$WHO x\" B=${UNSET:-none}\nWORKDIR /w/$WHO\n\
         RUN echo \"$WHO|$A|$B|${UNSET-unset}|$PWD\" > /out",
    );
    let (image, _) = world.build(&dockerfile).image_and_output();
    assert_eq!(world.unpack(&image).text("/out"), "nobody|nobody x|none|unset|/w/nobody\n");
    let env = image.config()["Env"].as_array().expect("Env").clone();
    assert!(env.contains(&json!("A=nobody x")) && env.contains(&json!("B=none")), "{env:?}");
    assert!(!env.iter().any(|pair| pair.as_str().is_some_and(|pair| pair.starts_with("WHO"))), "{env:?}");
    let out = world.build(&dockerfile).arg("--build-arg=WHO=me").arg("--build-arg=UNSET=").out();
    assert_eq!(out, "me|me x|none||/w/me\n");
}

#[test]
fn a_build_argument_without_a_value_comes_from_the_environment() {
    let world = World::new();
    let build = world.build(&on_busybox("ARG WHO=nobody\nRUN echo $WHO > /out"));
    assert_eq!(build.env("WHO", "the caller").args(&["--build-arg", "WHO"]).out(), "the caller\n");
}

#[test]
fn from_takes_an_argument() {
    let world = World::new();
    let dockerfile = "ARG BASE=nowhere\nARG NAME=last\nFROM $BASE AS last\nARG NAME\nRUN echo $NAME > /out";
    assert_eq!(world.build(dockerfile).arg(format!("--build-arg=BASE={}", busybox())).out(), "last\n");
}

#[test]
fn metadata_is_written_as_docker_has_it() {
    let world = World::new();
    let image = world.build(
        "FROM scratch\n\
         LABEL one=1 \"two words\"=\"a b\"\n\
         ENV A=1\n\
         WORKDIR /a\nWORKDIR b\n\
         USER app:staff\n\
         EXPOSE 80 53/udp 9000-9001\n\
         VOLUME /data [\"/x\"]\n\
         VOLUME [\"/one\", \"/two\"]\n\
         STOPSIGNAL SIGUSR1\n\
         SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n\
         HEALTHCHECK --interval=5s --timeout=1s --start-period=2s --retries=3 CMD check me\n\
         ENTRYPOINT [\"/entry\", \"a\"]\n\
         CMD run \"it\"",
    );
    let config = image.args(&["--label", "three=3"]).image().config().clone();
    for (key, expected) in [
        ("Labels", json!({"one": "1", "two words": "a b", "three": "3"})),
        ("Env", json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"])),
        ("User", json!("app:staff")),
        ("WorkingDir", json!("/a/b")),
        ("ExposedPorts", json!({"80/tcp": {}, "53/udp": {}, "9000/tcp": {}, "9001/tcp": {}})),
        ("StopSignal", json!("SIGUSR1")),
        ("Shell", json!(["/bin/busybox", "sh", "-c"])),
        (
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "check me"], "Interval": 5_000_000_000u64, "Timeout": 1_000_000_000, "StartPeriod": 2_000_000_000u64, "Retries": 3}),
        ),
        ("Entrypoint", json!(["/entry", "a"])),
        ("Cmd", json!(["/bin/busybox", "sh", "-c", "run \"it\""])),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    let volumes = config["Volumes"].as_object().expect("Volumes");
    assert!(
        volumes.contains_key("/one") && volumes.contains_key("/two") && volumes.contains_key("/data"),
        "{volumes:?}"
    );
}

#[test]
fn an_entry_point_forgets_the_command_of_the_base() {
    let world = World::new();
    let config = |rest: &str| world.build(&on_busybox(rest)).image().config().clone();
    assert_eq!(config("LABEL a=b")["Cmd"], json!(["sh"]));
    assert!(config("ENTRYPOINT [\"/x\"]")["Cmd"].is_null());
    assert_eq!(config("CMD [\"/y\"]\nENTRYPOINT [\"/x\"]")["Cmd"], json!(["/y"]));
}

#[test]
fn the_history_reads_as_buildkits() {
    let world = World::new();
    world.file("f", "");
    let image = world
        .build("FROM scratch\nARG V=1\nENV A=b\nCOPY --chown=1:2 f /f\nWORKDIR /w\nLABEL k=v\nUSER 1\nEXPOSE 80\nCMD [\"a\", \"b\"]")
        .image();
    assert_eq!(
        image.history(),
        [
            "ARG V=1",
            "ENV A=b",
            "COPY --chown=1:2 f /f # buildkit",
            "WORKDIR /w",
            "LABEL k=v",
            "USER 1",
            "EXPOSE [80/tcp]",
            "CMD [\"a\" \"b\"]",
        ]
    );
    let history = image.image["history"].as_array().expect("a history").clone();
    assert!(history.iter().all(|entry| entry["comment"] == "buildkit.dockerfile.v0"), "{history:?}");
    let with_layer: Vec<usize> =
        (0..history.len()).filter(|at| history[*at]["empty_layer"] != true).collect();
    assert_eq!(with_layer, [2, 3]);
    assert_eq!(image.diff_ids().len(), 2);
}

#[test]
fn the_history_of_run_shows_the_arguments_in_scope() {
    let world = World::new();
    let image =
        world.build(&on_busybox("ARG A=1\nARG B\nRUN true\nRUN [\"true\"]")).arg("--build-arg=B=2").image();
    let history = image.history();
    assert_eq!(
        history[history.len() - 2..],
        ["RUN |2 A=1 B=2 /bin/sh -c true # buildkit", "RUN |2 A=1 B=2 true # buildkit"]
    );
}

#[test]
fn a_step_runs_as_the_user_of_the_image() {
    let world = World::new();
    let out = world.build(&on_busybox(
        "RUN touch /out && chmod 666 /out\n\
         USER app\nRUN echo $(id -u):$(id -g):$(id -G):$HOME >> /out\n\
         USER app:staff\nRUN echo $(id -u):$(id -g) >> /out\n\
         USER 1234\nRUN echo $(id -u):$(id -g):$HOME >> /out\n\
         USER 7:8\nRUN echo $(id -u):$(id -g) >> /out",
    ));
    assert_eq!(out.out(), "1000:1000:1000 50:/home/app\n1000:50\n1234:0:/\n7:8\n");
}

#[test]
fn workdir_makes_its_folders_and_is_relative_to_the_last() {
    let world = World::new();
    let rootfs =
        world.build(&on_busybox("WORKDIR /a/b\nWORKDIR c\nRUN pwd > /out\nUSER app\nWORKDIR /mine")).rootfs();
    assert_eq!(rootfs.text("/out"), "/a/b/c\n");
    rootfs.expect(&[("/a", "dir 0755 0:0"), ("/a/b/c", "dir 0755 0:0"), ("/mine", "dir 0755 1000:1000")]);
}

#[test]
fn only_the_stages_that_the_target_needs_run() {
    let world = World::new();
    let dockerfile = format!(
        "FROM {0} AS one\nRUN echo one > /out\n\
         FROM {0} AS unneeded\nRUN false\n\
         FROM one AS two\nRUN echo two >> /out\n\
         FROM scratch AS last\nCOPY --from=two /out /two\nCOPY --from=0 /out /one\n",
        busybox()
    );
    let rootfs = world.build(&dockerfile).rootfs();
    assert_eq!((rootfs.text("/two"), rootfs.text("/one")), ("one\ntwo\n".to_owned(), "one\n".to_owned()));
    assert_eq!(world.build(&dockerfile).arg("--target=TWO").out(), "one\ntwo\n");
    world.build(&dockerfile).arg("--target=unneeded").failure();
}

#[test]
fn independent_stages_run_side_by_side() {
    // Each stage waits for the other: one after the other they would both give up.
    let port = free_port();
    let dockerfile = format!(
        "FROM {0} AS server\nRUN timeout 60 nc -l -p {port} -e echo met > /log && touch /served\n\
         FROM {0} AS client\nRUN for i in $(seq 600); do nc 127.0.0.1 {port} < /dev/null > /out && exit; sleep 0.1; done; exit 1\n\
         FROM scratch\nCOPY --from=server /served /\nCOPY --from=client /out /out\n",
        busybox()
    );
    assert_eq!(World::new().build(&dockerfile).arg("--jobs=2").out(), "met\n");
}

#[test]
fn a_layer_holds_what_its_step_changed_and_no_more() {
    let world = World::new();
    let image = world
        .build(&on_busybox(
            "RUN true\n\
             RUN mkdir -p /d/e && echo x > /d/e/f && chmod 750 /root\n\
             RUN rm -r /d && rm /etc/group && cat /etc/resolv.conf /etc/hosts > /dev/null\n\
             RUN rm -r /home && mkdir -p /home/other",
        ))
        .image();
    assert_eq!(image.diff_ids().len(), 5, "RUN always makes a layer");
    assert_eq!(image.names_in_layer(1), [""; 0]);
    assert_eq!(image.names_in_layer(2), ["d", "d/e", "d/e/f", "root"]);
    assert_eq!(image.names_in_layer(3), [".wh.d", "etc", "etc/.wh.group"]);
    assert_eq!(image.names_in_layer(4), ["home", "home/.wh.app", "home/other"]);
}

#[test]
fn special_files_and_attributes_survive() {
    let world = World::new();
    let rootfs = world
        .build(&on_busybox(
            "RUN mkfifo /fifo && mknod /null c 1 3 && ln -s nowhere /dangling && echo x > /one && ln /one /two \\\n \
             && chmod 4755 /one && touch \"/new$(printf '\\nline')\" && mkdir -m 1777 /sticky && chown 70000:80000 /sticky \\\n \
             && touch /$(printf 'long%.0s' $(seq 50))",
        ))
        .rootfs();
    rootfs.expect(&[
        ("/fifo", "fifo 0644 0:0"),
        ("/null", "char 0644 0:0 0x103"),
        ("/dangling", "link 0:0 -> nowhere"),
        ("/one", "file 4755 0:0"),
        ("/new\nline", "file 0644"),
        ("/sticky", "dir 1777 70000:80000"),
        (&format!("/{}", "long".repeat(50)), "file 0644"),
    ]);
    assert!(rootfs.get("/two").ends_with("same as /one"), "{}", rootfs.get("/two"));
}

#[test]
fn a_dockerfile_may_come_from_standard_input_or_lie_in_the_context() {
    let world = World::new();
    world
        .file("Dockerfile", "FROM scratch\nLABEL from=context\n")
        .file("other/My.Dockerfile", "FROM scratch\nLABEL from=other\n");
    let label = |output: Output| {
        let inspected = world.lbuild(&["inspect", output.success().line()]).success();
        let images: serde_json::Value = serde_json::from_str(&inspected.stdout).expect("JSON");
        images[0]["Config"]["Labels"]["from"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(label(world.lbuild(&["-q", "context"])), "context");
    assert_eq!(
        label(world.lbuild(&["build", "-q", "-f", "context/other/My.Dockerfile", "context"])),
        "other"
    );
    let mut command = world.command();
    let stdin = std::fs::File::open(world.path("context/other/My.Dockerfile")).expect("the file");
    assert_eq!(
        label(Output::of(command.args(["-q", "-f", "-", "context"]).stdin(Stdio::from(stdin)))),
        "other"
    );
}

#[test]
fn what_is_not_supported_is_refused_with_its_line() {
    let world = World::new();
    world.file("f", "");
    for instruction in [
        "RUN --device=vendor.com/gpu true",
        "COPY f",
        "FROM",
        "VOLUME",
        "HEALTHCHECK --nonsense CMD x",
        "RUN --mount=type=nonsense true",
    ] {
        let output = world.build(&format!("FROM scratch\n{instruction}\n")).failure();
        assert!(output.stderr.contains("Dockerfile:2"), "{instruction}: {}", output.stderr);
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let world = World::new();
    let output = world.build("FROM scratch\nRUNN a\nCOPY\nENTRYPOIN b\n").failure();
    for place in ["Dockerfile:2:1", "Dockerfile:3:1", "Dockerfile:4:1"] {
        assert!(output.stderr.contains(place), "{place} in {}", output.stderr);
    }
}
