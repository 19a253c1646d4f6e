//! `RUN --mount`: what the command sees, what of it the layer keeps (nothing), and what it does to the key.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use crate::base::{busybox, debian};
use crate::harness::{World, chmod};

/// Long enough to be found wherever it should not be, and nowhere by chance.
const SECRET: &str = "7f3d-not-to-be-found-anywhere-91ce";

fn from(rest: &str) -> String {
    format!("FROM {}\n{rest}\n", busybox())
}

/// Whether any file below `folder` holds `text`, or is named so.
fn holds(folder: &Path, text: &str) -> Option<String> {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (path, kind) = (entry.path(), entry.file_type().expect("a type"));
        let found = if kind.is_dir() {
            holds(&path, text)
        } else if kind.is_file() {
            let bytes = fs::read(&path).expect("a file");
            let is_there = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            is_there.then(|| path.display().to_string())
        } else {
            None
        };
        if found.is_some() || path.to_string_lossy().contains(text) {
            return found.or(Some(path.display().to_string()));
        }
    }
    None
}

#[test]
fn a_bind_mount_shows_the_context() {
    let world = World::new();
    world.file("dir/f", "text").file("dir/hidden", "h").file("one", "1").file(".dockerignore", "**/hidden\n");
    chmod(&world.path("context/dir/f"), 0o640);
    std::os::unix::fs::chown(world.path("context/dir/f"), Some(5), Some(5)).expect("an owner");
    let rootfs = world
        .build(&from(
            "RUN --mount=target=/ctx test \"$(stat -c '%u:%g %a' /ctx/dir/f)\" = '0:0 640' && test ! -e /ctx/dir/hidden \\\n\
             && ! touch /ctx/new 2>/dev/null && cat /ctx/dir/f > /out\n\
             RUN --mount=type=bind,source=one,target=/deep/er/one test \"$(cat /deep/er/one)\" = 1\n\
             RUN --mount=type=bind,source=dir,target=dir,rw touch dir/new && echo more >> dir/f && test -e /dir/new\n\
             RUN --mount=type=bind,source=dir,target=/dir test ! -e /dir/new && test \"$(cat /dir/f)\" = text",
        ))
        .rootfs();
    assert_eq!(rootfs.text("/out"), "text");
    for path in ["/ctx", "/deep", "/dir"] {
        assert!(!rootfs.has(path), "{path} was left in a layer");
    }
    assert_eq!(fs::read_to_string(world.path("context/dir/f")).unwrap(), "text");
}

#[test]
fn a_bind_mount_shows_stages_and_images() {
    let world = World::new();
    let image = busybox();
    let dockerfile = format!(
        "FROM {image} AS tool\nRUN mkdir -p /t/sub && echo made > /t/sub/f && ln -s sub/f /t/link\n\
         FROM {image}\nRUN --mount=from=tool,source=/t/sub,target=/m --mount=from={image},target=/i \\\n\
         --mount=from=tool,source=t/link,target=/file cat /m/f /file > /out && test -x /i/bin/sh && ! touch /m/x 2>/dev/null\n"
    );
    assert_eq!(world.build(&dockerfile).out(), "made\nmade\n");
}

#[test]
fn a_bind_mount_is_keyed_by_what_it_shows() {
    let world = World::new();
    world.file("seen/f", "1").file("unseen", "1");
    let dockerfile = from("RUN --mount=source=seen,target=/m head -c 32 /dev/urandom > /random");
    let layer = || world.build(&dockerfile).image().diff_ids().last().copied().map(str::to_owned);
    let first = layer();
    world.file("unseen", "2");
    assert_eq!(layer(), first, "a file beside what is shown counts");
    world.file("seen/f", "2");
    assert_ne!(layer(), first, "a file that is shown does not count");
}

#[test]
fn a_bind_mount_is_keyed_by_the_directory_itself() {
    let world = World::new();
    let image = busybox();
    for mode in ["700", "755"] {
        let dockerfile = format!(
            "FROM {image} AS a\nRUN mkdir /t && chmod {mode} /t\n\
             FROM {image}\nRUN --mount=from=a,source=/t,target=/m stat -c %a /m > /out\n"
        );
        assert_eq!(world.build(&dockerfile).out(), format!("{mode}\n"));
        world.file("dir/f", "x");
        chmod(&world.path("context/dir"), u32::from_str_radix(mode, 8).expect("a mode"));
        let dockerfile = from("RUN --mount=source=dir,target=/m stat -c %a /m > /out");
        assert_eq!(world.build(&dockerfile).out(), format!("{mode}\n"), "of the context");
    }
}

#[test]
fn scratch_is_an_empty_mount() {
    let world = World::new();
    let dockerfile = from(
        "RUN --mount=type=bind,from=scratch,target=/b --mount=type=cache,from=scratch,target=/c ls -A /b /c > /out\n\
         COPY --from=scratch / /copied/\nRUN ls -A /copied >> /out",
    );
    assert_eq!(world.build(&dockerfile).out(), "/b:\n\n/c:\n");
}

#[test]
fn a_missing_bind_source_is_named() {
    let world = World::new();
    world.file("Data/f", "1").file("gone", "1").file(".dockerignore", "gone\n");
    let build =
        |source: &str| world.build(&from(&format!("RUN --mount=source={source},target=/m true"))).failure();
    build("data").says("`data` is not in the build context").says("Data");
    build("data/f").says("Data/f");
    build("gone").says(".dockerignore");
}

#[test]
fn a_cache_mount_stays_and_enters_no_layer() {
    let world = World::new();
    let count = |salt: u32| {
        let text = format!(
            "RUN --mount=type=cache,target=/c,uid=7,gid=8,mode=0750 echo {salt} >> /c/f && wc -l < /c/f > /out \\\n\
             && stat -c '%u:%g %a' /c >> /out"
        );
        let rootfs = world.build(&from(&text)).rootfs();
        assert!(!rootfs.has("/c"), "the mount point was left");
        rootfs.text("/out")
    };
    assert_eq!(count(1), "1\n7:8 750\n");
    assert_eq!(count(2), "2\n7:8 750\n");
    assert_eq!(count(2), "2\n7:8 750\n", "a cached step ran again");
    let other =
        from("RUN --mount=type=cache,id=other,target=/c,ro ls -A /c > /out && ! touch /c/x 2>/dev/null");
    assert_eq!(world.build(&other).out(), "");
}

#[test]
fn a_cache_mount_begins_with_its_seed() {
    let world = World::new();
    let image = busybox();
    let dockerfile = format!(
        "FROM {image} AS seed\nRUN mkdir -p /s/d && echo seeded > /s/d/f && chown 3:4 /s/d/f\n\
         FROM {image}\nRUN --mount=type=cache,id=x,from=seed,source=/s,target=/c cat /c/d/f > /out && stat -c %u:%g /c/d/f >> /out && echo more > /c/d/f\n\
         RUN --mount=type=cache,id=x,from=seed,source=/s,target=/c cat /c/d/f >> /out\n"
    );
    assert_eq!(world.build(&dockerfile).out(), "seeded\n3:4\nmore\n");
}

#[test]
fn locked_caches_take_turns_and_private_ones_are_apart() {
    let world = World::new();
    let image = busybox();
    // Two stages at once: each finds the other's mark unless they take turns, or have a cache each.
    let stage = |name: &str, sharing: &str, check: &str| {
        format!(
            "FROM {image} AS {name}\nRUN --mount=type=cache,id={sharing},target=/c,sharing={sharing} {check} \\\n\
             && echo {name} > /done\n"
        )
    };
    let turns = "mkdir /c/busy && sleep 0.2 && rmdir /c/busy";
    let apart = "test ! -e /c/mine && touch /c/mine && sleep 0.2 && rm /c/mine";
    let dockerfile = [
        stage("a", "locked", turns),
        stage("b", "locked", turns),
        stage("c", "private", apart),
        stage("d", "private", apart),
    ]
    .concat()
        + &format!("FROM {image}\n")
        + &["a", "b", "c", "d"].map(|name| format!("COPY --from={name} /done /{name}\n")).concat();
    let rootfs = world.build(&dockerfile).arg("--jobs=4").rootfs();
    for name in ["/a", "/b", "/c", "/d"] {
        assert!(rootfs.has(name), "{name}");
    }
}

#[test]
fn one_cache_may_be_mounted_twice() {
    let world = World::new();
    let dockerfile = from(
        "RUN --mount=type=cache,id=x,target=/a,sharing=locked --mount=type=cache,id=x,target=/b,sharing=locked,source=sub \\\n\
         echo in > /b/f && cat /a/sub/f > /out",
    );
    assert_eq!(world.build(&dockerfile).out(), "in\n");
}

#[test]
fn tmpfs_is_memory_of_a_size() {
    let world = World::new();
    let dockerfile = from(
        "RUN --mount=type=tmpfs,target=/t,size=1m stat -f -c %T /t > /out && df -k /t | tail -1 | awk '{print $2}' >> /out && echo x > /t/f",
    );
    let rootfs = world.build(&dockerfile).rootfs();
    assert_eq!(rootfs.text("/out"), "tmpfs\n1024\n");
    assert!(!rootfs.has("/t"));
}

#[test]
fn secrets_are_seen_and_kept_nowhere() {
    let world = World::new();
    fs::write(world.path("token"), format!("{SECRET}\n")).expect("a file");
    // The command may use a secret in every way but writing it down.
    let dockerfile = from(&format!(
        "RUN --mount=type=secret,id=token cat /run/secrets/token && test \"$(stat -c '%a %u' /run/secrets/token)\" = '400 0'\n\
         RUN --mount=type=secret,id=token,target=/where/ever,mode=0444,uid=1000 --mount=type=secret,id=env,env=TOKEN \\\n\
         test \"$(cat /where/ever)\" = \"$TOKEN\" && echo \"half: $TOKEN\"\n\
         RUN --mount=type=secret,id=token,env=TOKEN,target=/both test \"$(cat /both)\" = \"$(echo \"$TOKEN\")\"\n\
         RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent && test {SECRET_LENGTH} -gt 0",
        SECRET_LENGTH = SECRET.len()
    ));
    let token = format!("id=token,src={}", world.path("token").display());
    let args = ["--secret", token.as_str(), "--secret", "id=env,env=THE_TOKEN"];
    let (image, output) = world.build(&dockerfile).args(&args).env("THE_TOKEN", SECRET).image_and_output();
    assert!(output.stderr.contains("half: ***"), "masked, and shown as masked: {}", output.stderr);
    assert!(!output.stderr.contains(SECRET) && !output.stdout.contains(SECRET), "{}", output.stderr);
    assert_eq!(holds(&world.path("root"), SECRET), None, "the store holds the secret");
    assert!(!image.config().to_string().contains(SECRET));
    let rootfs = world.unpack(&image);
    for path in ["/run/secrets", "/where", "/both"] {
        assert!(!rootfs.has(path), "{path} was left in a layer");
    }
    // Neither another value nor none at all makes it another step.
    fs::write(world.path("token"), "changed").expect("a file");
    world.build(&dockerfile).args(&args[..2]).success().says("CACHED");
}

#[test]
fn a_failing_command_does_not_tell_its_secret() {
    let world = World::new();
    let dockerfile = from("RUN --mount=type=secret,id=k,env=K echo \"the key is $K\" && false");
    let output = world.build(&dockerfile).args(&["--secret", "id=k,env=K"]).env("K", SECRET).failure();
    let output = output.says("the key is ***");
    assert!(!output.stderr.contains(SECRET), "{}", output.stderr);
    assert_eq!(holds(&world.path("root"), SECRET), None);
}

#[test]
fn mounts_lie_in_one_another_whatever_their_order() {
    let world = World::new();
    let dockerfile = from(
        "RUN --mount=type=secret,id=k,target=/m/in/settings --mount=type=tmpfs,target=/m/in --mount=type=cache,target=/m \\\n\
         cat /m/in/settings | tr a-z A-Z > /out && touch /m/in/x /m/y\n\
         RUN --mount=type=cache,target=/m ls -A /m /m/in >> /out",
    );
    let build = world.build(&dockerfile).args(&["--secret", "id=k,env=K"]).env("K", "letters");
    assert_eq!(build.out(), "LETTERS/m:\nin\ny\n\n/m/in:\n");
}

#[test]
fn a_build_without_network_stays_so() {
    let world = World::new();
    let dockerfile = from("RUN --network=host ls /sys/class/net > /out");
    let output = world.build(&dockerfile).arg("--network=none").failure();
    output.says("is not allowed").says("--allow network.host").says("Dockerfile:2");
    world.build(&dockerfile).args(&["--network=none", "--allow=network.host"]).success();
}

#[test]
fn a_required_secret_must_be_there() {
    let world = World::new();
    let dockerfile = from("RUN --mount=type=secret,id=k,required=true true");
    world.build(&dockerfile).failure().says("the secret `k` was not given").says("--secret");
}

#[test]
fn an_agent_is_forwarded() {
    let world = World::new();
    let path = world.path("agent.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    // It answers one list of identities: none.
    let agent = thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 5];
            if stream.read_exact(&mut request).is_ok() {
                stream.write_all(&[0, 0, 0, 5, 12, 0, 0, 0, 0]).expect("an answer");
                return request;
            }
        }
    });
    let client = "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die $!; \
        print $s pack(\"NC\", 1, 11); $s->flush; read($s, $b, 9); print unpack(\"H*\", $b)'";
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=ssh,uid=1000,mode=0660 stat -c '%F %a %u' $SSH_AUTH_SOCK > /out \\\n\
         && echo $SSH_AUTH_SOCK >> /out && {client} >> /out\n",
        debian()
    );
    let socket = format!("default={}", path.display());
    let rootfs = world.build(&dockerfile).args(&["--ssh", &socket]).rootfs();
    assert_eq!(rootfs.text("/out"), "socket 660 1000\n/run/buildkit/ssh_agent.0\n000000050c00000000");
    assert_eq!(agent.join().expect("the agent"), [0, 0, 0, 1, 11]);
    assert!(!rootfs.has("/run/buildkit"));
    let needs = from("RUN --mount=type=ssh,required=true true");
    world.build(&needs).failure().says("the SSH agent `default` was not given").says("--ssh");
    world.build(&from("RUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"")).success();
}

#[test]
fn insecure_needs_to_be_allowed() {
    let world = World::new();
    let dockerfile = from(
        "RUN ! mount -t tmpfs none /mnt 2>/dev/null\n\
         RUN --security=insecure mkdir -p /mnt && mount -t tmpfs none /mnt && grep CapEff /proc/self/status | cut -f2 > /out",
    );
    world.build(&dockerfile).failure().says("is not allowed").says("--allow security.insecure");
    let out = world.build(&dockerfile).args(&["--allow", "security.insecure"]).out();
    let own = fs::read_to_string("/proc/self/status").expect("our status");
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("our capabilities").trim();
    assert_eq!(out.trim(), own);
}
