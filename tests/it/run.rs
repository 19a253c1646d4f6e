//! `lbuild run`: what the image says, what the command line says instead, and how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::base::busybox;
use crate::harness::{Output, World};
use crate::layout::{self, Layer, Tar};

/// Runs a command on the busybox image, without a network.
fn run(world: &World, options: &[&str], command: &[&str]) -> Output {
    let mut args = vec!["run", "--rm", "--network=none"];
    args.extend(options);
    args.push(busybox());
    args.extend(command);
    world.lbuild(&args)
}

fn sh(world: &World, options: &[&str], script: &str) -> String {
    run(world, options, &["sh", "-c", script]).success().stdout
}

#[test]
fn the_exit_code_is_the_programs_or_dockers() {
    let world = World::new();
    for (command, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "kill -9 $$; exit 3"], 3),
        (&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (&["/nowhere"], 127),
        (&["nowhere"], 127),
        (&["/etc/passwd"], 126),
        (&["/etc"], 126),
    ] {
        assert_eq!(run(&world, &[], command).code, code, "{command:?}");
    }
    assert_eq!(run(&world, &["--user", "nobody-here"], &["true"]).code, 125);
    assert_eq!(world.lbuild(&["run", "--no-such-flag", busybox()]).code, 125);
    assert_eq!(world.lbuild(&["run", "127.0.0.1:1/nowhere:1"]).code, 125);
}

#[test]
fn the_streams_are_the_programs() {
    let world = World::new();
    // The first run also tells of the image that it pulls.
    run(&world, &[], &["true"]).success();
    let output = run(&world, &[], &["sh", "-c", "echo out; echo err >&2"]).success();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    let mut command = world.command();
    command.args(["run", "--rm", "-i", "--network=none", busybox(), "wc", "-c"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("lbuild");
    // More than any pipe holds.
    let written = child.stdin.take().expect("a pipe").write_all(&vec![b'x'; 3_000_000]);
    written.expect("all of it is read");
    let output = child.wait_with_output().expect("its end");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3000000");
    // Without -i there is no input.
    assert_eq!(sh(&world, &[], "cat | wc -c").trim(), "0");
    assert_eq!(sh(&world, &[], "head -c 2000000 /dev/zero").len(), 2_000_000);
}

#[test]
fn options_say_otherwise_than_the_image() {
    let world = World::new();
    let image = "it/configured:1";
    world
        .build(&format!(
            "FROM {}\nENV A=image B=image\nUSER app\nWORKDIR /srv\nENTRYPOINT [\"echo\", \"entry\"]\nCMD [\"cmd\"]\nVOLUME /data\n",
            busybox()
        ))
        .args(&["-t", image])
        .success();
    let run = |args: &[&str]| {
        let mut all = vec!["run", "--rm", "--network=none"];
        all.extend(args);
        world.lbuild(&all).success().stdout
    };
    assert_eq!(run(&[image]), "entry cmd\n");
    assert_eq!(run(&[image, "other", "-x"]), "entry other -x\n");
    assert_eq!(run(&["--entrypoint", "pwd", image]), "/srv\n");
    assert_eq!(
        run(&["--entrypoint", "sh", image, "-c", "echo $A $B $HOME $(id -u) $PWD; test -d /data"]),
        "image image /home/app 1000 /srv\n"
    );
    let all =
        ["-e", "A=line", "-w", "/tmp/new", "-u", "7:8", "--hostname", "me", "--entrypoint", "sh", image];
    assert_eq!(
        run(&[&all[..], &["-c", "echo $A $B $(id -u):$(id -g) $PWD $(hostname)"]].concat()),
        "line image 7:8 /tmp/new me\n"
    );
}

#[test]
fn variables_come_by_value_or_by_name() {
    let world = World::new();
    let mut command = world.command();
    command.env("FROM_HERE", "here").args([
        "run",
        "--rm",
        "--network=none",
        "-e",
        "FROM_HERE",
        "-e",
        "ABSENT",
        "-e",
        "EMPTY=",
    ]);
    let output =
        Output::of(command.args([busybox(), "sh", "-c", "echo ${FROM_HERE-no} ${ABSENT-no} [${EMPTY-no}]"]))
            .success();
    assert_eq!(output.stdout, "here no []\n");
    assert_eq!(
        sh(&world, &[], "echo $PATH ${LBUILD_ROOT-clean}"),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin clean\n"
    );
}

#[test]
fn volumes_show_folders_and_files_of_the_host() {
    let world = World::new();
    fs::create_dir(world.path("shared")).expect("a folder");
    fs::write(world.path("shared/in"), "host").expect("a file");
    let shared = world.path("shared").display().to_string();
    let both = format!("{shared}:/mnt/deep/er");
    assert_eq!(sh(&world, &["-v", &both], "cat /mnt/deep/er/in && echo out > /mnt/deep/er/out"), "host");
    assert_eq!(fs::read_to_string(world.path("shared/out")).expect("the file"), "out\n");
    let read_only = format!("{shared}:/mnt:ro");
    let output = run(&world, &["-v", &read_only], &["sh", "-c", "cat /mnt/in && echo x > /mnt/in"]);
    assert!(output.code != 0 && output.stdout == "host" && output.stderr.contains("Read-only"), "{output:?}");
    assert_eq!(sh(&world, &["-v", &format!("{shared}/in:/etc/passwd:ro")], "cat /etc/passwd"), "host");
    assert_eq!(sh(&world, &["-v", "./shared:/mnt"], "cat /mnt/in"), "host");
}

#[test]
fn a_container_changes_nothing_that_lasts() {
    let world = World::new();
    sh(&world, &[], "echo x > /new; rm -r /home");
    assert_eq!(sh(&world, &[], "ls -d /new /home 2>/dev/null; true"), "/home\n");
    let output = run(&world, &["--read-only"], &["touch", "/x"]);
    assert!(output.code != 0 && output.stderr.contains("Read-only"), "{output:?}");
    assert_eq!(sh(&world, &["--read-only"], "echo x > /dev/shm/x && cat /dev/shm/x"), "x\n");
}

#[test]
fn capabilities_are_added_and_dropped() {
    let world = World::new();
    let effective = |options: &[&str]| sh(&world, options, "grep CapEff /proc/self/status | cut -f 2");
    assert_eq!(effective(&[]), "00000000a80425fb\n");
    assert_eq!(effective(&["--cap-drop", "ALL"]), "0000000000000000\n");
    assert_eq!(
        effective(&["--cap-drop=all", "--cap-add=net_bind_service", "--cap-add=CAP_CHOWN"]),
        "0000000000000401\n"
    );
    sh(&world, &["--cap-add=SYS_ADMIN"], "mount -t tmpfs none /tmp && touch /tmp/x");
    let output = run(&world, &["--cap-add=SYS_ADMIM"], &["true"]).failure(125);
    assert!(output.stderr.contains("SYS_ADMIN"), "{}", output.stderr);
}

#[test]
fn limits_hold() {
    let world = World::new();
    let output = run(&world, &["--memory=16m"], &["sh", "-c", "x=a; while true; do x=$x$x$x$x; done"]);
    assert_eq!(output.code, 137, "{output:?}");
    assert!(output.stderr.contains("memory"), "{}", output.stderr);
    run(&world, &["--memory=64m", "--cpus=0.5", "--pids-limit=50"], &["true"]).success();
}

#[test]
fn the_network_is_the_hosts_or_none() {
    let world = World::new();
    assert_eq!(sh(&world, &[], "ls /sys/class/net; ifconfig lo | grep -c 127.0.0.1"), "lo\n1\n");
    let host = world.lbuild(&["run", "--rm", "--network=host", busybox(), "cat", "/proc/net/dev"]).success();
    assert_eq!(
        host.stdout.lines().count(),
        fs::read_to_string("/proc/net/dev").expect("the devices").lines().count()
    );
}

#[test]
fn signals_reach_the_program() {
    let world = World::new();
    for (signal, number, code) in [
        ("TERM", Signal::TERM, 15),
        ("INT", Signal::INT, 2),
        ("USR1", Signal::USR1, 10),
        ("HUP", Signal::HUP, 1),
    ] {
        let mut command = world.command();
        let script =
            format!("trap 'echo caught; exit {code}' {signal}; echo ready; while true; do sleep 0.05; done");
        command
            .args(["run", "--rm", "--network=none", busybox(), "sh", "-c", &script])
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("lbuild");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "ready");
        kill_process(Pid::from_child(&child), number).expect("a signal");
        assert_eq!(lines.next().expect("a line").expect("text"), "caught", "{signal}");
        assert_eq!(child.wait().expect("its end").code(), Some(code));
    }
}

#[test]
fn no_registry_is_asked_for_an_image_without_a_name() {
    let world = World::new();
    let folder = world.path("layout");
    let layer = Layer::plain(Tar::default().file("f", 0o644, b"x").finish());
    let blob = layer.diff_id.replace(':', "/");
    layout::write(&folder, &[layer], &json!({"Cmd": ["/f"]}));
    let list = fs::read_to_string(folder.join("index.json")).expect("the list");
    fs::write(folder.join("index.json"), list.replace("ref.name", "ref.none")).expect("a list without names");
    world.lbuild(&["load", "-i", "layout"]).success();
    fs::remove_file(world.path("root/blobs").join(&blob)).expect("the layer");
    let id = world.lbuild(&["images", "-q"]).success().line().to_owned();
    let output =
        world.lbuild(&["run", "--rm", "--network=none", &id]).failure(125).says("is not in the store");
    assert!(!output.stderr.contains("localhost"), "{}", output.stderr);
}

#[test]
fn a_killed_program_takes_its_container_along() {
    let world = World::new();
    let mut command = world.command();
    command
        .args(["run", "--rm", "--network=none", busybox(), "sh", "-c", "echo ready; sleep 1000"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("lbuild");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    child.kill().expect("a kill");
    child.wait().expect("its end");
    // The container holds the other end: the pipe ends when its last process does.
    assert_eq!(stdout.read_to_string(&mut line).expect("the pipe's end"), 0);
}

#[test]
fn a_terminal_is_the_containers_own() {
    let world = World::new();
    let script = "tty; stty size; echo typed: $(head -n 1); exit 7";
    let line = format!(
        "stty rows 33 cols 77; {} run --rm -it --network=none {} sh -c '{script}'; echo code $?",
        crate::harness::program().display(),
        busybox()
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--command", &line, "/dev/null"]);
    for (key, value) in world.command().get_envs() {
        command.env(key, value.expect("a value"));
    }
    let mut child =
        command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script");
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    // Type once the program has shown the size: input before that belongs to the terminal's shell.
    while !text.contains("33 77") {
        assert_ne!(output.read_line(&mut text).expect("a line"), 0, "{text}");
    }
    input.write_all(b"hello\n").expect("input");
    output.read_to_string(&mut text).expect("the rest");
    child.wait().expect("its end");
    assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text}");
    assert!(text.contains("typed: hello") && text.contains("code 7"), "{text}");
}
