//! ONBUILD: what an image, or a stage, has those do first that are built on it.

use serde_json::{Value, json};

use crate::base::busybox;
use crate::harness::World;
use crate::registry;

/// Builds `triggers` on the busybox base under a name that the next builds of this world find.
fn base(world: &World, name: &str, triggers: &str) -> String {
    let reference = format!("{}/onbuild/{name}:1", registry::open());
    world.build(&format!("FROM {}\n{triggers}\n", busybox())).args(&["-t", &reference]).success();
    reference
}

/// What the image has its descendants do.
fn triggers(config: &Value) -> Value {
    config["OnBuild"].clone()
}

#[test]
fn triggers_are_kept_as_written_and_run_once() {
    let world = World::new();
    world.file("f", "of the child");
    let reference = base(
        &world,
        "once",
        "ONBUILD RUN echo  one >> /out\nONBUILD COPY f /f\nONBUILD ENV A=a\nONBUILD ARG B=b\nONBUILD WORKDIR /w\nONBUILD RUN echo $A $B $PWD >> /out",
    );
    let inspected = world.lbuild(&["inspect", &reference]).success();
    let image: Value = serde_json::from_str(&inspected.stdout).expect("JSON");
    assert_eq!(
        triggers(&image[0]["Config"]),
        json!([
            "RUN echo  one >> /out",
            "COPY f /f",
            "ENV A=a",
            "ARG B=b",
            "WORKDIR /w",
            "RUN echo $A $B $PWD >> /out"
        ])
    );
    let child = format!("{}/onbuild/child:1", registry::open());
    let (image, said) = world
        .build(&format!("FROM {reference}\nRUN cat /f >> /out\n"))
        .args(&["-t", &child, "--progress=plain"])
        .image_and_output();
    assert_eq!(world.unpack(&image).text("/out"), "one\na b /w\nof the child");
    assert!(triggers(image.config()).is_null(), "{}", image.config());
    assert_eq!(image.config()["WorkingDir"], "/w");
    assert!(said.stderr.contains("ONBUILD RUN echo  one >> /out"), "{}", said.stderr);
    let history = image.history();
    assert_eq!(
        history[history.len() - 7..],
        [
            "RUN /bin/sh -c echo  one >> /out # buildkit",
            "COPY f /f # buildkit",
            "ENV A=a",
            "ARG B=b",
            "WORKDIR /w",
            "RUN |1 B=b /bin/sh -c echo $A $B $PWD >> /out # buildkit",
            "RUN |1 B=b /bin/sh -c cat /f >> /out # buildkit",
        ]
    );
    // The grandchild inherits what they did, and does nothing again.
    let grandchild = world.build(&format!("FROM {child}\nRUN echo $A ${{B-unset}} >> /out\n")).out();
    assert_eq!(grandchild, "one\na b /w\nof the childa unset\n");
}

#[test]
fn triggers_of_a_stage_run_in_those_built_on_it() {
    let dockerfile = format!(
        "FROM {} AS parent\nONBUILD RUN echo triggered >> /out\nRUN echo parent >> /out\n\
         FROM parent AS child\nRUN echo child >> /out\n\
         FROM child\nRUN echo grandchild >> /out\n",
        busybox()
    );
    let world = World::new();
    let image = world.build(&dockerfile).image();
    assert_eq!(world.unpack(&image).text("/out"), "parent\ntriggered\nchild\ngrandchild\n");
    assert!(triggers(image.config()).is_null(), "{}", image.config());
    assert_eq!(
        triggers(world.build(&dockerfile).arg("--target=parent").image().config()),
        json!(["RUN echo triggered >> /out"])
    );
    // COPY --from a stage takes its files and none of its orders.
    let copied = format!("{dockerfile}FROM scratch\nCOPY --from=parent /out /out\n");
    assert_eq!(world.build(&copied).out(), "parent\n");
}

#[test]
fn a_trigger_may_bring_an_image_or_need_a_stage() {
    let world = World::new();
    world.file("f", "f");
    let brought = format!("{}/onbuild/brought:1", registry::open());
    world.build("FROM scratch\nCOPY f /from-image\n").args(&["-t", &brought, "--push"]).success();
    let reference = base(
        &world,
        "brings",
        &format!(
            "ONBUILD COPY --from={brought} /from-image /a\nONBUILD COPY --from=stage /from-stage /b\n\
             ONBUILD RUN --mount=from=stage,target=/m cat /m/from-stage > /c"
        ),
    );
    let dockerfile = format!(
        "FROM {} AS stage\nRUN echo s > /from-stage\nFROM {reference}\nRUN cat /a /b /c > /out\n",
        busybox()
    );
    assert_eq!(world.build(&dockerfile).out(), "fs\ns\n");
}

#[test]
fn a_trigger_may_hold_a_heredoc() {
    let world = World::new();
    let reference = base(
        &world,
        "heredoc",
        "ONBUILD RUN <<EOF\necho run >> /out\nEOF\nONBUILD COPY <<file /\ncopy $A\nfile\nONBUILD RUN cat /file - <<'IN' >> /out\nin $A\nIN",
    );
    let image = world.build(&format!("FROM {reference}\n")).image();
    assert_eq!(world.unpack(&image).text("/out"), "run\ncopy \nin $A\n");
}

#[test]
fn what_is_wrong_in_a_trigger_is_told_with_the_line_that_brought_it() {
    let world = World::new();
    let reference = base(&world, "wrong", "ONBUILD COPY nothing /\nONBUILD ENV A=${B:?missing}");
    let output = world.build(&format!("# a comment\nFROM {reference}\n")).failure();
    assert!(output.stderr.contains("Dockerfile:2"), "{}", output.stderr);
    for trigger in ["ONBUILD ONBUILD RUN true", "ONBUILD FROM scratch", "ONBUILD MAINTAINER x", "ONBUILD"] {
        world.build(&format!("FROM scratch\n{trigger}\n")).failure().says("Dockerfile:2");
    }
}
