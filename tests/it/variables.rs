//! ARG and ENV: who sees which value where; the arguments that need no ARG, and those that steer the builder.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::base::busybox;
use crate::harness::World;
use crate::layout;

/// The Dockerfile on the busybox base.
fn on_busybox(rest: &str) -> String {
    format!("FROM {}\n{rest}\n", busybox())
}

#[test]
fn a_stage_sees_a_global_argument_when_it_asks() {
    let world = World::new();
    let dockerfile = format!(
        "ARG A=global\nARG B=$A-b\nARG BASE={}\nFROM $BASE\nRUN echo \"${{A-unset}}\" > /out\nARG A\nRUN echo \"$A\" >> /out\n\
         ARG A=own\nRUN echo \"$A\" >> /out\nARG B C\nRUN echo \"$B ${{C-unset}}\" >> /out\n",
        busybox()
    );
    assert_eq!(world.build(&dockerfile).out(), "unset\nglobal\nown\nglobal-b unset\n");
    let given =
        world.build(&dockerfile).args(&["--build-arg=A=given", "--build-arg=C=", "--build-arg=UNUSED=x"]);
    assert_eq!(given.out(), "unset\ngiven\ngiven\ngiven-b \n");
}

#[test]
fn the_last_writer_of_a_name_wins() {
    let world = World::new();
    let rows = [
        ("ENV A=env\nARG A=arg", "arg"),
        ("ARG A=arg\nENV A=env", "env"),
        // Without a value it takes nothing away.
        ("ENV A=env\nARG A", "env"),
        // All of one ENV see what stood before it; each of one ARG sees those before it.
        ("ENV A=1\nENV A=2 B=$A\nENV A=$B", "1"),
        ("ARG B=1 A=$B", "1"),
    ];
    let mut dockerfile = String::new();
    for (at, (lines, _)) in rows.iter().enumerate() {
        dockerfile += &format!("FROM {} AS stage{at}\n{lines}\nRUN echo $A > /out\n", busybox());
    }
    for (at, (lines, expected)) in rows.iter().enumerate() {
        let out = world.build(&dockerfile).arg(format!("--target=stage{at}")).out();
        assert_eq!(out, format!("{expected}\n"), "{lines}");
    }
}

#[test]
fn a_stage_inherits_the_arguments_of_the_stage_below_and_its_env_wins() {
    let world = World::new();
    let dockerfile = format!(
        "FROM {} AS parent\nARG A=arg\nENV B=env\nARG B=arg\nRUN echo $A $B > /out\n\
         FROM parent\nRUN echo $A $B >> /out\n",
        busybox()
    );
    let image = world.build(&dockerfile).image();
    assert_eq!(world.unpack(&image).text("/out"), "arg arg\narg env\n");
    assert_eq!(image.history().last(), Some(&"RUN |2 A=arg B=env /bin/sh -c echo $A $B >> /out # buildkit"));
}

#[test]
fn arguments_of_the_platform_are_there_when_asked_for() {
    let world = World::new();
    let dockerfile = "ARG TARGETOS\nFROM --platform=$TARGETPLATFORM BASE AS named\n\
         RUN echo \"${TARGETARCH-unset}\" > /out\nARG TARGETPLATFORM\nARG TARGETARCH BUILDPLATFORM BUILDOS TARGETSTAGE TARGETVARIANT\n\
         RUN echo \"$TARGETPLATFORM $TARGETARCH $BUILDPLATFORM $BUILDOS $TARGETSTAGE ${TARGETVARIANT:-none}\" >> /out\n"
        .replace("BASE", busybox());
    let arch = layout::architecture();
    let variant = if arch == "arm64" { "/v8" } else { "" };
    let platform = format!("linux/{arch}{variant}");
    let variant = if variant.is_empty() { "none" } else { "v8" };
    let expected = |stage: &str| format!("unset\n{platform} {arch} {platform} linux {stage} {variant}\n");
    let out = world.build(&dockerfile).arg("--target=NAMED").out();
    assert_eq!(out, expected("named"));
    assert_eq!(world.build(&dockerfile.replace(" AS named", "")).out(), expected("default"));
}

#[test]
fn proxies_reach_commands_and_neither_history_nor_keys() {
    let world = World::new();
    let dockerfile = on_busybox("RUN echo \"$http_proxy $HTTP_PROXY ${no_proxy-unset}\" > /out");
    let build = |dockerfile: &str, proxy: &str| {
        let build = world.build(dockerfile).arg(format!("--build-arg=HTTP_PROXY={proxy}"));
        build.arg("--progress=plain").image_and_output()
    };
    let (image, _) = build(&dockerfile, "http://one.invalid");
    assert_eq!(world.unpack(&image).text("/out"), "http://one.invalid http://one.invalid unset\n");
    assert!(!image.image.to_string().contains("one.invalid"), "{}", image.image);
    let (again, said) = build(&dockerfile, "http://two.invalid");
    assert!(said.stderr.contains("CACHED"), "another proxy is no reason to execute again: {}", said.stderr);
    assert_eq!(again.digest, image.digest);
    // What is declared is an argument like any other.
    let declared = on_busybox("ARG HTTP_PROXY\nRUN echo $HTTP_PROXY > /out");
    let (image, _) = build(&declared, "http://one.invalid");
    assert_eq!(
        image.history().last(),
        Some(&"RUN |1 HTTP_PROXY=http://one.invalid /bin/sh -c echo $HTTP_PROXY > /out # buildkit")
    );
    let (image, said) = build(&declared, "http://two.invalid");
    assert!(!said.stderr.contains("CACHED"), "{}", said.stderr);
    assert_eq!(world.unpack(&image).text("/out"), "http://two.invalid\n");
}

#[test]
fn an_argument_that_no_command_can_see_is_no_reason_to_execute_again() {
    let world = World::new();
    let dockerfile = on_busybox("RUN echo one > /out\nARG LATE\nRUN echo $LATE >> /out");
    let build = |late: &str| {
        let build = world.build(&dockerfile).arg(format!("--build-arg=LATE={late}")).arg("--progress=plain");
        build.success().stderr.matches("CACHED").count()
    };
    assert_eq!((build("1"), build("2"), build("2")), (0, 1, 2));
}

#[test]
fn the_epoch_limits_every_time() {
    let world = World::new();
    let dockerfile = |head: &str| format!("{head}{}", on_busybox("RUN touch /new && touch -d @500 /old"));
    let times = |dockerfile: &str, args: &[&str]| {
        let image = world.build(dockerfile).args(args).image();
        let rootfs = world.unpack(&image);
        let time = |path: &str| fs::symlink_metadata(rootfs.folder.join(path)).expect("metadata").mtime();
        let last =
            image.image["history"].as_array().expect("a history").last().expect("a line")["created"].clone();
        assert_eq!(last, image.image["created"]);
        (image.image["created"].as_str().expect("a time").to_owned(), time("new"), time("old"))
    };
    let at = |created: &str, seconds: i64| (created.to_owned(), seconds, 500);
    let plain = dockerfile("");
    let (created, new, _) = times(&plain, &[]);
    assert!(new > 1_700_000_000 && !created.starts_with("1970"), "{created}");
    assert_eq!(times(&plain, &["--build-arg=SOURCE_DATE_EPOCH=1000"]), at("1970-01-01T00:16:40Z", 1000));
    let with_default = dockerfile("ARG SOURCE_DATE_EPOCH=2000\n");
    assert_eq!(times(&with_default, &[]), at("1970-01-01T00:33:20Z", 2000));
    assert_eq!(
        times(&with_default, &["--build-arg=SOURCE_DATE_EPOCH=1000"]),
        at("1970-01-01T00:16:40Z", 1000)
    );
    assert_eq!(times(&with_default, &["--build-arg=SOURCE_DATE_EPOCH="]), (created, new, 500));
    // In a stage it is an argument of that stage's and no more.
    assert_eq!(times(&plain.replace("RUN", "ARG SOURCE_DATE_EPOCH=2000\nRUN"), &[]).2, 500);
    let output =
        world.build("ARG SOURCE_DATE_EPOCH=yesterday\nFROM scratch\n").failure().says("Dockerfile:1:5");
    assert!(output.stderr.contains("`yesterday`"), "{}", output.stderr);
}
