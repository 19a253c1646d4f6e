//! Options of `lbuild build` as its steps and its image see them, kaniko's names, and `lbuild cache`.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::base::busybox;
use crate::harness::World;
use crate::{peers, registry};

fn dockerfile(command: &str) -> String {
    format!("FROM {}\nRUN {command}\n", busybox())
}

#[test]
fn hosts_are_added() {
    let world = World::new();
    let text = dockerfile("grep -E ' ?(one|two|gateway)$' /etc/hosts > /out");
    let args =
        ["--add-host", "one:10.1.2.3", "--add-host=two=[2001:db8::1]", "--add-host", "gateway:host-gateway"];
    let out = world.build(&text).args(&args).out();
    assert_eq!(out, "10.1.2.3\tone\n2001:db8::1\ttwo\n127.0.0.1\tgateway\n");
    // A name makes another step, an address does not.
    let moved = ["--add-host", "one:10.9.9.9", "--add-host=two=::1", "--add-host", "gateway:10.0.0.1"];
    assert_eq!(world.build(&text).args(&moved).out(), out);
    assert_eq!(world.build(&dockerfile("grep -c one /etc/hosts > /out || true")).out(), "0\n");
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let world = World::new();
    let text = dockerfile("df -k /dev/shm | tail -1 | awk '{print $2}' > /out");
    assert_eq!(world.build(&text).args(&["--shm-size", "3m", "--no-cache"]).out(), "3072\n");
    assert_eq!(world.build(&text).arg("--no-cache").out(), "65536\n");
}

#[test]
fn limits_are_those_asked_for() {
    let world = World::new();
    let text = dockerfile("ulimit -n > /out && ulimit -Hn >> /out && ulimit -c >> /out");
    let out = world.build(&text).args(&["--ulimit", "nofile=100:200", "--ulimit", "core=0"]).out();
    assert_eq!(out, "100\n200\n0\n");
    let build = world.build(&dockerfile("true")).args(&["--resource", "cpuset-cpus=0-"]);
    build.output().failure(2).says("`0-`");
    let text = dockerfile("nproc > /out");
    assert_eq!(world.build(&text).args(&["--resource", "cpuset-cpus=0,memory=64m"]).out(), "1\n");
}

#[test]
fn a_step_may_be_in_a_control_group_of_the_users() {
    let world = World::new();
    let name = format!("lbuild-it-{}", std::process::id());
    let groups = || peers::run(Command::new("find").args(["/sys/fs/cgroup", "-name", &name]));
    // The step lasts until it is hung up on.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    let caller = thread::spawn(move || listener.accept().expect("the step"));
    let text = dockerfile(&format!("nc 127.0.0.1 {port} < /dev/null || true"));
    let seen = thread::scope(|scope| {
        let build = scope.spawn(|| world.build(&text).args(&["--cgroup-parent", &name]).output());
        let connection = caller.join().expect("the step calls");
        let seen = groups();
        drop(connection);
        build.join().expect("the build").success();
        seen
    });
    assert!(seen.contains(&name), "no control group `{name}`");
    assert_eq!(groups(), "", "a control group was left behind");
    world.build(&dockerfile("echo other")).args(&["--cgroup-parent", "../x"]).output().says("`../x`");
}

#[test]
fn the_cache_may_be_left_aside_for_single_stages() {
    let world = World::new();
    let text = format!(
        "FROM {0} AS One\nRUN cat /proc/sys/kernel/random/uuid > /one\n\
         FROM {0} AS two\nRUN cat /proc/sys/kernel/random/uuid > /two\n\
         FROM {0}\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
        busybox()
    );
    let read = |args: &[&str]| {
        let rootfs = world.build(&text).args(args).rootfs();
        (rootfs.text("/one"), rootfs.text("/two"))
    };
    let first = read(&[]);
    assert_eq!(read(&[]), first);
    let second = read(&["--no-cache-filter", "one"]);
    assert!(second.0 != first.0 && second.1 == first.1);
    let third = read(&["--no-cache-filter=two,absent"]);
    assert!(third.0 == second.0 && third.1 != second.1);
}

#[test]
fn annotations_are_the_manifests() {
    let world = World::new();
    let args = ["--annotation", "org.example.a=1", "--annotation=manifest:b=x=y"];
    let image = world.build("FROM scratch\nLABEL a=b\n").args(&args).image();
    assert_eq!(image.manifest["annotations"]["org.example.a"], "1");
    assert_eq!(image.manifest["annotations"]["b"], "x=y");
    let build = world.build("FROM scratch\nLABEL a=b\n").args(&["--annotation", "index:a=b"]);
    build.output().failure(2).says("has no index to annotate");
}

#[test]
fn kanikos_command_line_builds_and_pushes() {
    let world = World::new();
    world.file("app.docker", dockerfile("true"));
    let name = format!("{}/kaniko/app:1", registry::open());
    let context = format!("dir://{}", world.path("context").display());
    let dockerfile = world.path("context/app.docker");
    let base =
        ["--context", &context, "--dockerfile", dockerfile.to_str().expect("UTF-8"), "--destination", &name];
    world.lbuild(&[&base[..], &["--no-push"]].concat()).success();
    let listed = world.lbuild(&["images", "--format", "json"]).success();
    assert!(listed.stdout.contains("kaniko/app"), "{}", listed.stdout);
    world.lbuild(&[&base[..], &["--digest-file", "digest", "--skip-tls-verify"]].concat()).success();
    let digest = fs::read_to_string(world.path("digest")).expect("the digest");
    assert_eq!(peers::skopeo_digest(&name), digest.trim());
    world
        .lbuild(
            &[&base[..], &["--no-push", "--tarPath", "image.tar", "--oci-layout-path", "layout"]].concat(),
        )
        .success();
    assert!(world.path("layout/oci-layout").exists());
    let list = peers::run(
        std::process::Command::new("tar").args(["-xOf"]).arg(world.path("image.tar")).arg("manifest.json"),
    );
    assert!(list.contains("\"RepoTags\":[\"127.0.0.1"), "{list}");
}

#[test]
fn a_mirror_is_asked_for_the_hubs_images() {
    let world = World::new();
    let copy = format!("{}/mirror/library/lbuild-it:1", registry::open());
    peers::skopeo_copy(&format!("docker://{}", busybox()), &format!("docker://{copy}"));
    let mirror = format!("{}/mirror", registry::open());
    let out = world
        .build("FROM lbuild-it:1\nRUN echo mirrored > /out\n")
        .args(&["--registry-mirror", "127.0.0.1:1", "--registry-mirror", &mirror])
        .out();
    assert_eq!(out, "mirrored\n");
}

#[test]
fn what_others_have_and_we_have_not_is_told() {
    let world = World::new();
    for (args, expected) in [
        (&["--cache-from", "type=registry,ref=x"][..], "`--cache-from` is not supported yet"),
        (&["--cache-to=type=inline"], "`--cache-to` is not supported yet"),
        (&["--provenance=mode=mid"], "unknown mode `mid`"),
        (&["--sbom=generator=x"], "no other generator"),
        (&["--allow", "device"], "expected `security.insecure` or `network.host`"),
        (&["--ssh", "default"], "`$SSH_AUTH_SOCK` is not set"),
        (&["--secret", "id=x,src=absent"], "there is no file `absent` for the secret `x`"),
    ] {
        world.build("FROM scratch\n").args(args).output().failure(2).says(expected);
    }
    let accepted = ["--provenance=false", "--sbom=false", "--load", "--allow=network.host"];
    world.build("FROM scratch\nLABEL a=b\n").args(&accepted).success();
}

fn mounts(world: &World) -> Vec<Value> {
    let listed = world.lbuild(&["cache", "ls", "--format", "json"]).success();
    serde_json::from_str::<Vec<Value>>(&listed.stdout).expect("a list")
}

#[test]
fn cache_mounts_are_listed_and_removed() {
    let world = World::new();
    assert!(mounts(&world).is_empty());
    let text = format!(
        "FROM {}\nRUN --mount=type=cache,id=one,target=/c dd if=/dev/zero of=/c/f bs=1k count=100\n\
         RUN --mount=type=cache,target=/var/two echo x > /var/two/f\n",
        busybox()
    );
    world.build(&text).success();
    let ids = |mounts: &[Value]| -> Vec<String> {
        mounts.iter().map(|mount| mount["ID"].as_str().expect("an id").to_owned()).collect()
    };
    let listed = mounts(&world);
    assert_eq!(ids(&listed), ["/var/two", "one"]);
    assert!(listed[1]["Size"].as_u64().is_some_and(|size| size >= 100 * 1024), "{listed:?}");
    assert_eq!(listed[1]["InUse"], false);
    let table = world.lbuild(&["cache", "ls"]).success();
    assert!(table.stdout.starts_with("ID") && table.stdout.contains("\none "), "{}", table.stdout);
    let pruned = world.lbuild(&["cache", "prune", "--id", "one", "-f"]).success();
    assert!(
        pruned.stdout.contains("\none ") && pruned.stdout.contains("Total reclaimed space: "),
        "{pruned:?}"
    );
    assert_eq!(ids(&mounts(&world)), ["/var/two"]);
    world.lbuild(&["cache", "prune", "--filter", "id=absent"]).success();
    world.lbuild(&["cache", "prune", "--filter", "type=exec.cachemount"]).success();
    assert!(mounts(&world).is_empty());
    // The steps are cached still; they go only when asked for.
    world.build(&text).success().says("CACHED");
}

#[test]
fn pruning_all_forgets_the_steps_of_no_image() {
    let world = World::new();
    let text =
        format!("FROM {} AS one\nRUN echo kept > /kept\nFROM one AS two\nRUN echo more > /more\n", busybox());
    world.build(&text).args(&["--target", "one", "-t", "it/kept:1"]).success();
    let other = world.build(&text).args(&["-q"]).success();
    world.lbuild(&["rmi", other.line()]).success();
    world.lbuild(&["cache", "prune", "--all"]).success();
    let kept = world.build(&text).args(&["--target", "one"]).success();
    assert!(kept.stderr.contains("CACHED"), "{}", kept.stderr);
    let again = world.build(&text).success();
    assert!(again.stderr.contains("echo more > /more") && again.stderr.contains("DONE"), "{}", again.stderr);
    assert_eq!(world.build("FROM it/kept:1\nRUN cp /kept /out\n").out(), "kept\n");
}
