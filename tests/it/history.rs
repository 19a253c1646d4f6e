//! What each instruction writes into the image besides files: its line of the history, spelt as BuildKit spells it,
//! and its field of the configuration.

use serde_json::{Value, json};

use crate::base::busybox;
use crate::harness::World;

/// Every instruction that makes no layer: the line that it writes, and a field with what is then in it.
fn rows() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let check = |test: Value, more: Value| {
        let mut check = json!({ "Test": test });
        check.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        check
    };
    vec![
        ("ARG A", "ARG A", "Env", json!(null)),
        ("ARG A=1 B=$A", "ARG A=1 B=1", "Env", json!(null)),
        ("ENV A=1 B=\"two words\"", "ENV A=1 B=two words", "Env", json!(["A=1", "B=two words"])),
        ("ENV A the rest", "ENV A=the rest", "Env", json!(["A=the rest"])),
        ("LABEL a=1 \"b c\"='$d'", "LABEL a=1 b c=$d", "Labels", json!({"a": "1", "b c": "$d"})),
        ("USER app:staff", "USER app:staff", "User", json!("app:staff")),
        (
            "EXPOSE 80 53/UDP 9000-9001",
            "EXPOSE [53/udp 80/tcp 9000/tcp 9001/tcp]",
            "ExposedPorts",
            json!({"53/udp": {}, "80/tcp": {}, "9000/tcp": {}, "9001/tcp": {}}),
        ),
        ("VOLUME /b /a", "VOLUME [/b /a]", "Volumes", json!({"/a": {}, "/b": {}})),
        ("VOLUME [\"/a b\"]", "VOLUME [/a b]", "Volumes", json!({"/a b": {}})),
        ("STOPSIGNAL SIGQUIT", "STOPSIGNAL SIGQUIT", "StopSignal", json!("SIGQUIT")),
        ("SHELL [\"/bin/ash\", \"-c\"]", "SHELL [/bin/ash -c]", "Shell", json!(["/bin/ash", "-c"])),
        (
            "CMD a \"b\" $C",
            r#"CMD ["/bin/sh" "-c" "a \"b\" $C"]"#,
            "Cmd",
            json!(["/bin/sh", "-c", "a \"b\" $C"]),
        ),
        ("CMD [\"a\", \"b\\tc\"]", r#"CMD ["a" "b\tc"]"#, "Cmd", json!(["a", "b\tc"])),
        ("CMD []", "CMD []", "Cmd", json!(null)),
        ("ENTRYPOINT a", r#"ENTRYPOINT ["/bin/sh" "-c" "a"]"#, "Entrypoint", json!(["/bin/sh", "-c", "a"])),
        ("ENTRYPOINT [\"a\"]", r#"ENTRYPOINT ["a"]"#, "Entrypoint", json!(["a"])),
        ("ENTRYPOINT []", "ENTRYPOINT []", "Entrypoint", json!(null)),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2h --start-interval=1.5s --retries=3 CMD check me",
            "HEALTHCHECK {Test:[CMD-SHELL check me] Interval:1m30s Timeout:500ms StartPeriod:2h0m0s StartInterval:1.5s Retries:3}",
            "Healthcheck",
            check(
                json!(["CMD-SHELL", "check me"]),
                json!({"Interval": 90_000_000_000_u64, "Timeout": 500_000_000, "StartPeriod": 7_200_000_000_000_u64,
                    "StartInterval": 1_500_000_000, "Retries": 3}),
            ),
        ),
        (
            "HEALTHCHECK CMD [\"check\", \"me\"]",
            "HEALTHCHECK {Test:[CMD check me] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            "Healthcheck",
            check(json!(["CMD", "check", "me"]), json!({})),
        ),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            "Healthcheck",
            check(json!(["NONE"]), json!({})),
        ),
        ("MAINTAINER a b <c>", "MAINTAINER a b <c>", "Env", json!(null)),
        ("WORKDIR /", "WORKDIR /", "WorkingDir", json!("/")),
    ]
}

#[test]
fn each_instruction_writes_its_line_and_its_field() {
    let world = World::new();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // One stage an instruction, all in one file.
    let rows = rows();
    let stage = |(at, row): (usize, &(&str, _, _, _))| format!("FROM scratch AS stage{at}\n{}\n", row.0);
    let dockerfile: String = rows.iter().enumerate().map(stage).collect();
    for (at, (instruction, line, field, expected)) in rows.iter().enumerate() {
        let image = world.build(&dockerfile).arg(format!("--target=stage{at}")).image();
        assert_eq!(image.history(), [*line], "{instruction}");
        let entry = &image.image["history"][0];
        assert_eq!(entry["empty_layer"], true, "{instruction}: {entry}");
        assert_eq!(entry["comment"], "buildkit.dockerfile.v0", "{instruction}: {entry}");
        assert!(entry["created"].is_string(), "{instruction}: {entry}");
        let mut found = image.config()[*field].clone();
        if *field == "Env" {
            let env = found.as_array_mut().expect("Env");
            assert_eq!(env.remove(0), path, "{instruction}");
            if env.is_empty() {
                found = Value::Null;
            }
        }
        let is_empty = found.as_array().is_some_and(Vec::is_empty);
        assert_eq!(if is_empty { &Value::Null } else { &found }, expected, "{instruction}");
        let author = image.image["author"].as_str().unwrap_or_default();
        assert_eq!(author, instruction.strip_prefix("MAINTAINER ").unwrap_or_default(), "{instruction}");
    }
}

#[test]
fn lines_with_a_layer() {
    let world = World::new();
    world.file("f", "f").file("a b", "");
    let image = world
        .build(&format!(
            "FROM {}\nARG A=1 B=2\nARG UNSET\nENV E=e\nWORKDIR /w\nWORKDIR x\n\
             RUN true   two\nRUN [\"true\", \"a  b\"]\nENV B=env\nRUN true \\\n  more\n\
             COPY --chown=1 --chmod=600 f $E/\nCOPY [\"a b\", \"f\", \"/d/\"]\nCOPY nothing* /\n\
             ADD --chown=$A:2 f /d\nCOPY --from={0} --link /etc/passwd /p\nONBUILD RUN true",
            busybox()
        ))
        .image();
    let expected = [
        ("ARG A=1 B=2", false),
        ("ARG UNSET", false),
        ("ENV E=e", false),
        ("WORKDIR /w", true),
        ("WORKDIR /w/x", true),
        ("RUN |3 A=1 B=2 UNSET= /bin/sh -c true   two # buildkit", true),
        ("RUN |3 A=1 B=2 UNSET= true a  b # buildkit", true),
        ("ENV B=env", false),
        ("RUN |3 A=1 B=env UNSET= /bin/sh -c true   more # buildkit", true),
        ("COPY --chown=1 --chmod=600 f e/ # buildkit", true),
        ("COPY a b f /d/ # buildkit", true),
        ("COPY nothing* / # buildkit", true),
        ("ADD --chown=1:2 f /d # buildkit", true),
        ("COPY /etc/passwd /p # buildkit", true),
    ];
    // The first line is the base's.
    let entries = &image.image["history"].as_array().expect("a history")[1..];
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry["created_by"].as_str().expect("a text"), entry["empty_layer"] != true))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(image.diff_ids().len(), 1 + expected.iter().filter(|(_, has_layer)| *has_layer).count());
    assert_eq!(image.config()["OnBuild"], json!(["RUN true"]));
}

#[test]
fn what_the_base_says_stays_until_it_is_replaced() {
    let world = World::new();
    let dockerfile = "FROM scratch AS parent\n\
        ENV A=1 B=2\nLABEL a=1 b=2\nUSER 5\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nSHELL [\"/sh\"]\nWORKDIR /w\n\
        HEALTHCHECK --retries=3 CMD old\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\nMAINTAINER me\n\
        FROM parent AS same\nLABEL b=3\n\
        FROM parent\nENV A=3 C=4\nLABEL c=3\nUSER 6\nEXPOSE 81\nVOLUME /x\nSTOPSIGNAL TERM\nWORKDIR y\nHEALTHCHECK CMD [\"new\"]\nCMD new\n";
    let same = world.build(dockerfile).arg("--target=same").image();
    for (field, expected) in [
        ("Labels", json!({"a": "1", "b": "3"})),
        ("User", json!("5")),
        ("StopSignal", json!("9")),
        ("Shell", json!(["/sh"])),
        ("WorkingDir", json!("/w")),
        ("Healthcheck", json!({"Test": ["CMD-SHELL", "old"], "Retries": 3})),
        ("Entrypoint", json!(["e"])),
        ("Cmd", json!(["c"])),
    ] {
        assert_eq!(same.config()[field], expected, "{field}");
    }
    assert_eq!(same.image["author"], "me");
    let other = world.build(dockerfile).image();
    for (field, expected) in [
        (
            "Env",
            json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=3", "B=2", "C=4"]),
        ),
        ("Labels", json!({"a": "1", "b": "2", "c": "3"})),
        ("User", json!("6")),
        ("ExposedPorts", json!({"80/tcp": {}, "81/tcp": {}})),
        ("Volumes", json!({"/v": {}, "/x": {}})),
        ("StopSignal", json!("TERM")),
        ("WorkingDir", json!("/w/y")),
        ("Healthcheck", json!({"Test": ["CMD", "new"]})),
        ("Entrypoint", json!(["e"])),
        ("Cmd", json!(["/sh", "new"])),
    ] {
        assert_eq!(other.config()[field], expected, "{field}");
    }
}
