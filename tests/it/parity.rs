//! The same Dockerfile built by lbuild and by buildah: the same tree and the same configuration.

use serde_json::Value;

use crate::base::busybox;
use crate::harness::World;
use crate::layout::Image;
use crate::peers::Containers;
use crate::tree::Tree;

/// The parts of the configuration that both must write alike.
const FIELDS: [&str; 8] =
    ["Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Labels", "ExposedPorts", "Volumes"];

pub(crate) fn check(rest: &str, fill: impl Fn(&World)) {
    let world = World::new();
    fill(&world);
    let dockerfile = format!("FROM {}\n{rest}\n", busybox());
    let ours = world.build(&dockerfile).image();
    let layout = world.path("theirs");
    let containers = Containers::overlay(&world.path("containers"));
    containers.bud(&world.path("context"), &world.path("Dockerfile"), &[], &layout);
    let theirs = Image::open(&layout);
    for field in FIELDS {
        assert_eq!(settings(&ours, field), settings(&theirs, field), "{field}");
    }
    // buildah leaves the mount points of its containers in the layers.
    let mount_points = ["/dev", "/proc", "/sys", "/run", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    let tree = |image: &Image| -> Tree { world.unpack(image).tree.without(&mount_points) };
    tree(&ours).assert_same(&tree(&theirs), "lbuild", "buildah");
}

/// A field of the configuration; an empty one is an absent one.
fn settings(image: &Image, field: &str) -> Value {
    let value = image.config()[field].clone();
    let empty = value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_str().is_some_and(str::is_empty);
    if empty { Value::Null } else { value }
}

fn files(world: &World) {
    world.file("a.txt", "a").file("dir/one", "1").file("dir/sub/two", "2").file("dir/.hidden", "h");
    crate::harness::chmod(&world.path("context/dir/one"), 0o755);
    std::os::unix::fs::symlink("one", world.path("context/dir/link")).expect("a link");
}

#[test]
fn metadata() {
    check(
        "ENV A=1 B=\"two words\"\nENV C=$A-${D:-d}\nLABEL a=b c=\"d e\"\nUSER app\nEXPOSE 80 53/udp\nVOLUME /data\n\
         ENTRYPOINT [\"/bin/echo\"]\nCMD [\"x\"]",
        |_| {},
    );
}

#[test]
fn shell_forms() {
    check("ENTRYPOINT echo $HOME\nCMD echo x", |_| {});
}

#[test]
fn commands() {
    check(
        "RUN mkdir -p /d/e && echo x > /d/e/f && ln /d/e/f /d/hard && ln -s e /d/soft && mkfifo /d/fifo\n\
         RUN chmod 4750 /d/e/f && chown 7:8 /d && rm /etc/group\n\
         RUN rm -r /home && mkdir /home\nUSER app\nRUN touch /tmp/mine",
        |_| {},
    );
}

#[test]
fn copies() {
    check(
        "COPY a.txt /x/\nCOPY dir /dir\nCOPY dir/* /flat/\nCOPY --chown=app:staff a.txt /owned\nCOPY --chmod=700 a.txt /moded\n\
         COPY a.txt dir/one /two/\nADD a.txt /added",
        files,
    );
}

#[test]
fn working_directories() {
    check("WORKDIR /a/b\nWORKDIR c\nRUN pwd > out\nCOPY dir ./d", files);
}

#[test]
fn stages() {
    let copies = "AS one\nRUN mkdir /d && echo one > /d/f && chown -R 5:6 /d\nFROM scratch\nCOPY --from=one /d /d\nCOPY --from=0 /etc/passwd /p";
    let world = World::new();
    let dockerfile = format!("FROM {} {copies}\n", busybox());
    let ours = world.build(&dockerfile).image();
    let layout = world.path("theirs");
    Containers::overlay(&world.path("containers")).bud(
        &world.path("context"),
        &world.path("Dockerfile"),
        &[],
        &layout,
    );
    let tree = |image: &Image| world.unpack(image).tree.without(&["/"]);
    tree(&ours).without(&["/"]).assert_same(&tree(&Image::open(&layout)), "lbuild", "buildah");
}
