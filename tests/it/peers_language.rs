//! The language held against those who spoke it first: the same Dockerfiles built by lbuild, by BuildKit in Debian's
//! dockerd, and by Debian's buildah. BuildKit must make the same tree, the same configuration and the same history.
//!
//! Debian's BuildKit is of 2020, its frontend 1.2: heredocs, `--link`, `--parents`, `--exclude` and what else is newer
//! has no peer here. Left out where the frontend has changed its mind since is said at the place.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::base::busybox;
use crate::harness::{World, chmod};
use crate::layout::Image;
use crate::tree::Tree;
use crate::{parity, peers, registry};

/// Docker's daemon, with a folder and a socket of its own.
pub(crate) struct Dockerd {
    folder: PathBuf,
    daemon: Child,
}

impl Dockerd {
    pub(crate) fn start(folder: PathBuf) -> Dockerd {
        fs::create_dir(&folder).expect("a folder");
        assert!(folder.join("socket").as_os_str().len() < 108, "a socket's path has no room (unix(7))");
        let log = File::create(folder.join("log")).expect("a log");
        let mut daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "dockerd", "--iptables=false", "--bridge=none"])
            .arg(format!("--host=unix://{}", folder.join("socket").display()))
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("dockerd is installed; `make test` installs it");
        while UnixStream::connect(folder.join("socket")).is_err() {
            let ended = daemon.try_wait().expect("its state");
            assert!(
                ended.is_none(),
                "dockerd ended: {}",
                fs::read_to_string(folder.join("log")).expect("a log")
            );
            thread::sleep(Duration::from_millis(5));
        }
        Dockerd { folder, daemon }
    }

    /// Debian's client: another one may come first in the path and want more than the daemon has.
    pub(crate) fn docker(&self, args: &[&str]) {
        peers::run(
            Command::new("/usr/bin/docker")
                .arg(format!("--host=unix://{}", self.folder.join("socket").display()))
                .env("DOCKER_BUILDKIT", "1")
                .env("HOME", &self.folder)
                .args(args)
                .current_dir(&self.folder),
        );
    }

    /// Builds and pushes; gives the image, and its configuration as Docker has it.
    fn build(&self, world: &World, name: &str, args: &[&str]) -> (Image, Value) {
        let reference = format!("{}/buildkit/{name}:1", registry::open());
        let (file, context) = (world.path("Dockerfile"), world.path("context"));
        let (file, context) =
            (file.to_str().expect("a path in UTF-8"), context.to_str().expect("a path in UTF-8"));
        self.docker(
            &[&["build", "--quiet", "--network=host", "--tag", &reference, "--file", file], args, &[context]]
                .concat(),
        );
        self.docker(&["push", "--quiet", &reference]);
        let layout = world.path(&format!("{name}-theirs"));
        peers::skopeo_copy(&format!("docker://{reference}"), &format!("oci:{}:it", layout.display()));
        (Image::open(&layout), peers::skopeo_config(&reference))
    }
}

impl Drop for Dockerd {
    /// It unmounts what it mounted, and ends the containerd that it started.
    fn drop(&mut self) {
        rustix::process::kill_process(Pid::from_child(&self.daemon), Signal::TERM).ok();
        self.daemon.wait().ok();
    }
}

/// The folders that BuildKit of that time leaves in layers as the places of its mounts, and what stands above them.
const MOUNT_POINTS: [&str; 8] =
    ["/dev", "/proc", "/sys", "/run", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/mnt"];

const FIELDS: [&str; 14] = [
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
    "Domainname",
];

/// A Dockerfile without its `FROM`, and what else the builds get.
struct Case {
    name: &'static str,
    rest: &'static str,
    args: &'static [&'static str],
    /// Whether the history is spelt today as it was in 2020; it tells more of the arguments now.
    history: bool,
}

const CASES: [Case; 13] = [
    Case {
        name: "metadata",
        rest: "MAINTAINER me <me@example.org>\nENV A=1 B=\"two words\" C='$A'\nENV legacy the rest  of it\nLABEL a=b \"c d\"=e\n\
               USER app\nEXPOSE 80 53/udp 1000-1002\nVOLUME /data\nVOLUME [\"/a b\", \"/c\"]\nSTOPSIGNAL SIGUSR1\n\
               HEALTHCHECK --interval=5s --timeout=1m30s --start-period=2s --retries=3 CMD check me\n\
               SHELL [\"/bin/ash\", \"-c\"]\nENTRYPOINT [\"/bin/echo\", \"\\\"q\\\"\"]\nCMD echo \"x\" $A",
        args: &[],
        history: true,
    },
    Case {
        name: "entrypoint",
        rest: "CMD [\"old\"]\nENTRYPOINT echo x\nHEALTHCHECK NONE",
        args: &[],
        history: true,
    },
    Case { name: "entrypoint-alone", rest: "ENTRYPOINT [\"a\"]", args: &[], history: true },
    Case {
        name: "variables",
        rest: "ARG A=1\nARG B\nARG C=$A$B\nENV D=${C:-none} E=${F:+set} G=${F:-\"a b\"}\nENV A=env\nARG A=late\n\
               ENV H=\\$A I='$A' J=\"\\\"$A\\\"\" K=${A}x$A.y\nLABEL l=\"$A $C\"\nWORKDIR /w/$C\nRUN echo $A $B $C $D $E $G $I > out",
        args: &["--build-arg=B=2", "--build-arg=HTTP_PROXY=http://proxy.invalid"],
        history: false,
    },
    Case {
        name: "copies",
        rest: "WORKDIR /w\nRUN mkdir -m 700 there && chown 5:6 there && ln -s there link\n\
               COPY a.txt .\nCOPY a.txt dir/one there\nCOPY dir/ link/dir\nCOPY dir /merged/\nCOPY dir2 /merged\nCOPY d* /flat/\n\
               COPY dir/* /stars/\nCOPY nomatch* a.txt /optional/\nCOPY [\"a.txt\", \"with space\"]\nCOPY ../a.txt /new/name\n\
               COPY dir/link /followed\nCOPY [^a].txt /not-a/",
        args: &[],
        history: true,
    },
    Case {
        name: "owners",
        rest: "RUN mkdir -p /x/6\nUSER app\nCOPY --chown=app a.txt /x/1\nCOPY --chown=app:staff dir /x/2\nCOPY --chown=7 a.txt /x/3\n\
               COPY --chown=7:8 a.txt /x/4\nCOPY --chmod=711 a.txt /x/5\nCOPY --chmod=640 dir /x/6\nADD --chown=9:9 --chmod=600 a.txt /x/7\n\
               RUN touch /tmp/mine\nWORKDIR /home/app/deep/er",
        args: &[],
        history: true,
    },
    Case {
        name: "archives",
        rest: "ADD a.tar /plain\nADD a.tar.gz /gz/\nADD a.tar.bz2 a.tar.xz /two/\n\
               ADD a.txt not.tar /files/\nCOPY a.tar.gz /kept\nADD dir /dir",
        args: &[],
        history: true,
    },
    Case {
        name: "commands",
        rest: "RUN mkdir -p /d/e && echo x > /d/e/f && ln /d/e/f /d/hard && ln -s e /d/soft && mkfifo /d/fifo && mknod /d/null c 1 3\n\
               RUN [\"/bin/sh\", \"-c\", \"echo $0 > /exec\", \"$HOME\"]\nRUN chmod 4750 /d/e/f && chown 7:8 /d && rm /etc/group\n\
               RUN rm -r /home && mkdir /home\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo one \\\n  # a comment\n  two > /lines\n\
               RUN echo \"$PATH|$HOME|$PWD|$(id -u)\" > /env",
        args: &[],
        history: true,
    },
    Case {
        name: "stages",
        rest: "AS One\nRUN mkdir /d && echo one > /d/f && chown -R 5:6 /d\nENV FROM_ONE=1\nARG ALSO=2\n\
               FROM one AS two\nRUN echo $FROM_ONE $ALSO > /two\nENV FROM_ONE=2\n\
               FROM scratch AS unneeded\nCOPY nothing /\n\
               FROM two\nCOPY --from=one /d /d\nCOPY --from=0 /d/f /by-number\nCOPY --from=TWO /two /copied",
        args: &[],
        history: false,
    },
    Case {
        name: "scratch",
        rest: "AS from\nFROM scratch\nCOPY --from=from /bin/busybox /bin/sh\nCOPY --from=from /etc/group /etc/\nRUN echo x > /x\nWORKDIR /\nWORKDIR a",
        args: &[],
        history: true,
    },
    Case {
        name: "triggers",
        rest: "AS parent\nONBUILD RUN echo  triggered >> /log\nONBUILD COPY a.txt /from-trigger\nONBUILD ENV T=t\nRUN echo parent >> /log\n\
               FROM parent AS child\nRUN echo child $T >> /log\nFROM child\nRUN echo grandchild >> /log\nONBUILD RUN [\"kept\"]",
        args: &[],
        history: true,
    },
    Case {
        name: "mounts",
        rest: "AS other\nRUN echo other > /f\nFROM other\n\
               RUN --mount=target=/mnt/context cat /mnt/context/a.txt > /bind && ! touch /mnt/context/x\n\
               RUN --mount=from=other,source=/f,target=/mnt/f,rw cat /mnt/f > /from && echo lost > /mnt/f\n\
               RUN --mount=type=cache,target=/mnt/cache,mode=0700,uid=5 stat -c '%a %u:%g' /mnt/cache > /cache && touch /mnt/cache/x\n\
               RUN --mount=type=cache,target=/mnt/cache ls /mnt/cache >> /cache\n\
               RUN --mount=type=tmpfs,target=/mnt/tmp stat -fc %T /mnt/tmp > /tmpfs\n\
               RUN --mount=type=secret,id=token stat -c '%a %u:%g' /run/secrets/token > /secret && cat /run/secrets/token >> /secret\n\
               RUN --mount=type=secret,id=missing ls /run/secrets 2>/dev/null | wc -l > /optional\n\
               RUN --mount=type=secret,id=token,dst=/mnt/t,mode=0444,uid=1 stat -c '%a %u:%g' /mnt/t >> /secret",
        args: &["--secret=id=token,src=/etc/hostname"],
        history: true,
    },
    Case { name: "ignored", rest: "COPY . /all/\nCOPY dir* /dirs/", args: &[], history: true },
];

/// The context of all cases.
fn fill(world: &World) {
    world
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("dir/one", "1")
        .file("dir/sub/two", "2")
        .file("dir/.hidden", "h")
        .file("dir2/one", "other")
        .file("dir2/sub/three", "3")
        .file("not.tar", "no archive")
        .file("log/x.log", "")
        .file("log/kept.log", "")
        .file(".dockerignore", "**/*.log\n!log/kept.log\nb.*\n!b.txt\n.dockerignore\n");
    let context = world.path("context");
    chmod(&context.join("dir/one"), 0o755);
    chmod(&context.join("dir2/sub"), 0o710);
    std::os::unix::fs::symlink("one", context.join("dir/link")).expect("a link");
    for (name, option) in
        [("a.tar", "--seek"), ("a.tar.gz", "--gzip"), ("a.tar.bz2", "--bzip2"), ("a.tar.xz", "--xz")]
    {
        let archive = context.join(name);
        peers::run(
            Command::new("tar")
                .args([option, "--create", "--file"])
                .arg(archive)
                .arg("-C")
                .arg(&context)
                .arg("dir"),
        );
    }
}

#[test]
fn buildkit_makes_the_same_of_the_same() {
    let world = World::new();
    fill(&world);
    let dockerd = Dockerd::start(world.path("docker"));
    let differences: Vec<String> = CASES.iter().filter_map(|case| compare(&world, &dockerd, case)).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What is not the same in a case.
fn compare(world: &World, dockerd: &Dockerd, case: &Case) -> Option<String> {
    let dockerfile = format!(
        "FROM {} {}\n",
        busybox(),
        if case.rest.starts_with("AS ") { case.rest.to_owned() } else { format!("\n{}", case.rest) }
    );
    let ours = world.build(&dockerfile).args(case.args).image();
    let (theirs, config) = dockerd.build(world, case.name, case.args);
    let mut differing = Vec::new();
    for field in FIELDS {
        let (our, their) = (settings(&ours.image, field), settings(&config, field));
        if our != their {
            differing.push(format!("{field}\n  lbuild: {our}\n  BuildKit: {their}"));
        }
    }
    if ours.image["author"] != config["author"] {
        differing.push(format!("author: {} and {}", ours.image["author"], config["author"]));
    }
    let (our, their) = (history(&ours.image), history(&config));
    if case.history && our != their {
        differing.push(format!("history\n  lbuild: {our:#?}\n  BuildKit: {their:#?}"));
    }
    let tree = |image: &Image| -> Tree { world.unpack(image).tree.without(&MOUNT_POINTS) };
    differing.extend(tree(&ours).difference(&tree(&theirs), "lbuild", "BuildKit"));
    (!differing.is_empty()).then(|| format!("{}: {}", case.name, differing.join("\n")))
}

/// A field of the configuration; an empty one is an absent one.
fn settings(image: &Value, field: &str) -> Value {
    let value = image["config"][field].clone();
    let empty = value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_str().is_some_and(str::is_empty);
    if empty { Value::Null } else { value }
}

/// What each line says, and whether it has a layer. Since 2020 two are spelt otherwise, and COPY and ADD show flags.
fn history(image: &Value) -> Vec<(String, bool)> {
    let lines = image["history"].as_array().expect("a history");
    let shown = |line: &Value| {
        let text = line["created_by"].as_str().unwrap_or_default();
        let changed = ["EXPOSE", "HEALTHCHECK"].into_iter().find(|name| text.starts_with(name));
        let is_flag = |word: &&str| word.starts_with("--chown=") || word.starts_with("--chmod=");
        let words: Vec<&str> = text.split(' ').filter(|word| !is_flag(word)).collect();
        (changed.map_or_else(|| words.join(" "), str::to_owned), line["empty_layer"] == true)
    };
    lines.iter().map(shown).collect()
}

#[test]
fn buildah_unpacks_the_same_archives() {
    parity::check(
        "ADD a.tar /plain\nADD a.tar.gz a.tar.bz2 /two/\nADD a.tar.xz /xz/\nCOPY a.tar.gz /kept",
        fill,
    );
}

#[test]
fn buildah_selects_the_same_files() {
    parity::check(
        "WORKDIR /w\nCOPY dir/* /stars/\nCOPY ?.txt ./\nCOPY dir dir2 /merged/\nCOPY . /all/",
        fill,
    );
}

#[test]
fn buildah_replaces_the_same_variables() {
    parity::check(
        "ARG A=1\nARG C=$A\nENV D=${C:-none} E=${F:+set} G=${F:-\"a b\"}\nENV H=\\$A I='$A' K=${A}x$A.y\nLABEL l=\"$A $C\"\nRUN echo $A $C $D > /out",
        fill,
    );
}
