//! What a step or a container cannot do, whatever it or its image tries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::base::busybox;
use crate::harness::{Output, World};
use crate::layout::{self, Layer, Tar};
use crate::{peers, registry};

fn on_busybox(rest: &str) -> String {
    format!("FROM {}\n{rest}\n", busybox())
}

/// Pushes an image of these archives and gives its name.
fn pushed(world: &World, name: &str, archives: Vec<Vec<u8>>) -> String {
    let layout = world.path(&format!("made-{name}"));
    let layers: Vec<Layer> = archives.into_iter().map(Layer::plain).collect();
    layout::write(&layout, &layers, &json!({"Env": ["PATH=/bin"]}));
    let reference = format!("{}/hostile/{name}:1", registry::open());
    peers::skopeo_copy(&format!("oci:{}:it", layout.display()), &format!("docker://{reference}"));
    reference
}

/// A layer with a static busybox at /bin and `sh`, for hostile images that still shall run something.
fn busybox_layer(tar: Tar) -> Vec<u8> {
    let program = fs::read("/bin/busybox").expect("busybox");
    let tar = tar.folder("bin").file("bin/busybox", 0o755, &program);
    ["sh", "cat", "ls", "echo", "test", "touch", "id", "mkdir"]
        .into_iter()
        .fold(tar, |tar, applet| tar.symlink(&format!("bin/{applet}"), "busybox"))
        .finish()
}

#[test]
fn a_step_sees_its_own_world_only() {
    let world = World::new();
    let out = world.build(&on_busybox(
        "RUN (echo pid $$; ls /proc | grep -c '^[0-9]'; grep -c . /proc/self/mountinfo > /dev/null; hostname; \\\n \
         grep -E '^(CapBnd|CapEff|Seccomp|NoNewPrivs):' /proc/self/status; cat /proc/self/cgroup | grep -c '/$') > /out",
    ));
    let out = out.out();
    assert!(out.starts_with("pid 1\n"), "{out}");
    let processes: usize = out.lines().nth(1).and_then(|line| line.parse().ok()).expect("a number");
    assert!(processes <= 4, "{processes} processes are seen");
    // Docker's default capabilities, under a filter.
    assert!(out.contains("CapEff:\t00000000a80425fb") && out.contains("CapBnd:\t00000000a80425fb"), "{out}");
    assert!(out.contains("Seccomp:\t2"), "{out}");
}

#[test]
fn what_needs_more_rights_is_refused() {
    let world = World::new();
    // Each command must fail for want of a right, not because it is not there.
    for (what, command) in [
        ("mount", "mount -t tmpfs none /mnt"),
        ("unmount", "umount /proc"),
        ("remount", "mount -o remount,rw /sys"),
        ("a namespace", "unshare -m true"),
        ("a user namespace", "unshare -U true"),
        ("a disk", "mknod /d b 254 0 && cat /d"),
        ("the host's name", "hostname other"),
        ("the clock", "date -s 2000-01-01; test $(date +%Y) = 2000"),
        ("the kernel's log", "dmesg"),
        ("the kernel's settings", "echo 1 > /proc/sys/kernel/sysrq"),
        ("the kernel's trigger", "echo h > /proc/sysrq-trigger"),
        ("the cgroups", "mkdir /sys/fs/cgroup/x"),
        ("the system", "mkdir /sys/kernel/x"),
        ("another root", "pivot_root / /tmp"),
        ("a module", "insmod /bin/busybox"),
        ("swap", "swapoff -a; swapon /bin/busybox"),
        ("memory", "head -c 1 /dev/mem"),
        ("kernel memory", "head -c 1 /proc/kcore | grep ."),
        ("reboot", "reboot -f"),
    ] {
        let dockerfile = on_busybox(&format!(
            "RUN mkdir -p /mnt && if ({command}) > /said 2>&1; then echo yes > /out; else echo no > /out; fi"
        ));
        let rootfs = world.build(&dockerfile).rootfs();
        let said = rootfs.text("/said");
        assert_eq!(rootfs.text("/out"), "no\n", "{what}: {said}");
        assert!(!said.contains("not found"), "{what}: {said}");
    }
}

#[test]
fn nothing_is_written_outside() {
    let world = World::new();
    let secret = world.path("secret");
    fs::write(&secret, "before").expect("a file");
    let path = secret.display();
    let dockerfile = on_busybox(&format!(
        "RUN for p in {path} /proc/1/root{path} /../../..{path} /proc/self/cwd/../../..{path}; do echo x > $p; done; true\n\
         RUN cd / && for i in 1 2 3 4 5 6 7 8; do cd ..; done; test ! -e .{path}"
    ));
    world.build(&dockerfile).success();
    assert_eq!(fs::read_to_string(&secret).expect("the file"), "before");
}

#[test]
fn a_working_directory_that_leads_out_is_no_way_out() {
    let world = World::new();
    for target in 0..16 {
        let output = world
            .build(&on_busybox(&format!(
                "WORKDIR /proc/self/fd/{target}\nRUN cd ../../../../../../ && test ! -e .{}",
                world.path("Dockerfile").display()
            )))
            .output();
        // The command may see that there is nothing (0), or the sandbox refuses the directory (1, 3).
        assert!([0, 1, 3].contains(&output.code), "{output:?}");
        assert!(
            !output.stderr.contains("exited with code"),
            "the command reached the host's file: {output:?}"
        );
    }
}

#[test]
fn memory_has_a_limit_and_its_breach_is_told() {
    let world = World::new();
    let output = world
        .build(&on_busybox("RUN x=a; while true; do x=$x$x$x$x; done"))
        .args(&["--memory", "24m", "--progress=quiet"])
        .failure();
    assert!(output.stderr.contains("24 MiB") && output.stderr.contains("memory"), "{}", output.stderr);
    world.build(&on_busybox("RUN true")).args(&["--memory", "24m"]).success();
}

#[test]
fn processes_have_a_limit() {
    let world = World::new();
    let script = "for i in $(seq 60); do sleep 30 & done; wait";
    let output =
        world.lbuild(&["run", "--rm", "--network=none", "--pids-limit", "20", busybox(), "sh", "-c", script]);
    assert!(output.code != 0 && output.stderr.contains("can't fork"), "{output:?}");
}

#[test]
fn a_hostile_image_is_contained() {
    let world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("passwd"), "root:x:0:0::/root:/bin/sh\n").expect("a file");
    let outside_text = outside.to_str().expect("UTF-8");
    let up = format!("../../../../../../../..{outside_text}");
    for (name, link) in [("absolute", outside_text), ("up", up.as_str())] {
        for place in ["dev", "proc", "sys", "etc", "work", "tmp"] {
            let image = pushed(
                &world,
                &format!("{name}-{place}"),
                vec![busybox_layer(Tar::default().symlink(place, link))],
            );
            let dockerfile = format!("FROM {image}\nWORKDIR /work\nRUN touch x /tmp/y /etc/z; id; true\n");
            // It may work inside the image or be refused; it must not reach what the link names here.
            let output = world.build(&dockerfile).output();
            assert!(output.code <= 1 || output.code == 3, "{name} {place}: {output:?}");
            assert_eq!(names(&outside), ["passwd"], "{name} {place}: {output:?}");
            let output =
                world.lbuild(&["run", "--rm", "--network=none", &image, "touch", "/work/a", "/etc/b"]);
            assert!(output.code <= 127, "{name} {place}: {output:?}");
            assert_eq!(names(&outside), ["passwd"], "{name} {place}: {output:?}");
        }
    }
}

#[test]
fn a_hostile_archive_is_contained() {
    let world = World::new();
    let outside = world.path("outside");
    fs::create_dir(&outside).expect("a folder");
    let path = outside.to_str().expect("UTF-8");
    let up = format!("../../../../../../../../../../../..{path}");
    let cases: [(&str, Vec<Vec<u8>>); 9] = [
        ("dots", vec![busybox_layer(Tar::default().file(&format!("{up}/a"), 0o644, b"x"))]),
        ("absolute", vec![busybox_layer(Tar::default().file(&format!("{path}/a"), 0o644, b"x"))]),
        ("parent", vec![busybox_layer(Tar::default().symlink("d", path).file("d/a", 0o644, b"x"))]),
        ("parent-up", vec![busybox_layer(Tar::default().symlink("d", &up).file("d/a", 0o644, b"x"))]),
        (
            "parent-below",
            vec![
                busybox_layer(Tar::default().symlink("d", path)),
                Tar::default().file("d/a", 0o644, b"x").finish(),
            ],
        ),
        (
            "whiteout",
            vec![
                busybox_layer(Tar::default().symlink("d", path)),
                Tar::default().file("d/.wh.kept", 0o644, b"").finish(),
            ],
        ),
        (
            "opaque",
            vec![
                busybox_layer(Tar::default().symlink("d", path)),
                Tar::default().file("d/.wh..wh..opq", 0o644, b"").finish(),
            ],
        ),
        (
            "whiteout-dots",
            vec![busybox_layer(Tar::default().file(".wh...", 0o644, b"").file("x/.wh..", 0o644, b""))],
        ),
        (
            "hard-link",
            vec![busybox_layer(
                Tar::default().hard_link("h", &format!("{up}/kept")).file("h", 0o644, b"changed"),
            )],
        ),
    ];
    for (name, archives) in cases {
        fs::write(outside.join("kept"), "kept").expect("a file");
        let image = pushed(&world, name, archives);
        for output in [
            world.build(&format!("FROM {image}\nRUN true\n")).output(),
            world.lbuild(&["run", "--rm", "--network=none", &image, "true"]),
        ] {
            assert!(output.code == 0 || output.stderr.contains("error:"), "{name}: {output:?}");
        }
        assert_eq!(names(&outside), ["kept"], "{name}");
        assert_eq!(fs::read_to_string(outside.join("kept")).expect("the file"), "kept", "{name}");
    }
}

#[test]
fn nothing_outlives_the_program() {
    let world = World::new();
    let cgroups = cgroups_of(&world);
    let marker = world.path("marker").display().to_string();
    let dockerfile =
        on_busybox(&format!("RUN (sleep 1000; echo {marker}) & sleep 1000 & echo started; test 1"));
    fs::write(world.path("Dockerfile"), dockerfile).expect("a Dockerfile");
    let output = in_cgroups(
        &world,
        &cgroups,
        &["build", "--memory=64m", "--progress=plain", "-f", "Dockerfile", "context"],
    );
    output.success();
    for cgroup in &cgroups {
        let below = cgroups_below(cgroup);
        assert!(below.is_empty(), "cgroups were left: {below:?}");
        fs::remove_dir(cgroup).expect("no process is left in the cgroup");
    }
}

/// The cgroups in a cgroup.
pub(crate) fn cgroups_below(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).expect("the cgroup").flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// A cgroup of the test's own in each hierarchy, so that what is left below it is lbuild's.
pub(crate) fn cgroups_of(world: &World) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    let name = world.path("").file_name().expect("a name").to_string_lossy().into_owned();
    let hierarchies =
        table.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let mut made = Vec::new();
    for hierarchy in hierarchies.filter(|path| !path.ends_with("cpuset")) {
        let cgroup = Path::new(hierarchy).join(&name);
        if fs::create_dir(&cgroup).is_ok() {
            made.push(cgroup);
        }
    }
    assert!(!made.is_empty(), "no hierarchy is writable");
    made
}

/// Runs the program in these cgroups.
fn in_cgroups(world: &World, cgroups: &[PathBuf], args: &[&str]) -> Output {
    Output::of(&mut command_in_cgroups(world, cgroups, args))
}

/// The program in these cgroups; its process is the command's own.
pub(crate) fn command_in_cgroups(world: &World, cgroups: &[PathBuf], args: &[&str]) -> Command {
    let join: String =
        cgroups.iter().map(|cgroup| format!("echo $$ > {}/cgroup.procs; ", cgroup.display())).collect();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{join} exec \"$@\"")).arg("sh").arg(crate::harness::program()).args(args);
    for (key, value) in world.command().get_envs() {
        command.env(key, value.expect("a value"));
    }
    command.current_dir(world.path(""));
    command
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
