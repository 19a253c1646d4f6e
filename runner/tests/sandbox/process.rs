//! The process: exit codes, environment, user, working directory, streams, terminal, signals.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use runner::{Error, Io, Process, Resource, Rlimit, Status, WindowSize};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::{Host, Root, Streams, Tests, shell};

pub(crate) const TESTS: Tests = &[
    ("exit_codes", exit_codes),
    ("programs_that_cannot_run", programs_that_cannot_run),
    ("lbuild_itself_is_out_of_reach", lbuild_itself_is_out_of_reach),
    ("programs_are_searched_for_as_the_user", programs_are_searched_for_as_the_user),
    ("environment_defaults", environment_defaults),
    ("users_and_groups", users_and_groups),
    ("working_directory_is_created_for_the_user", working_directory_is_created_for_the_user),
    ("limits_umask_and_session", limits_umask_and_session),
    ("limits_that_cannot_be_set", limits_that_cannot_be_set),
    ("streams", streams),
    ("pipes_can_be_opened_again_by_the_user", pipes_can_be_opened_again_by_the_user),
    ("the_host_s_null_device", the_host_s_null_device),
    ("terminal", terminal),
    ("signals", signals),
    ("many_at_once", many_at_once),
    ("orphans_end_with_the_program", orphans_end_with_the_program),
    ("dropping_kills", dropping_kills),
    ("a_large_job", a_large_job),
];

fn exit_codes(host: &Host) {
    let root = Root::new();
    for (script, status, code) in [
        ("true", Status::Code(0), 0),
        ("exit 7", Status::Code(7), 7),
        ("exit 255", Status::Code(255), 255),
        ("sh -c 'kill -TERM $$'; exit $?", Status::Code(143), 143),
    ] {
        let exit = host.sh(&root, script).exit;
        assert_eq!((exit.status, exit.code()), (status, code), "{script}");
    }
    let (io, streams) = Streams::new();
    let container = host.launcher.start(root.sandbox(), &shell("sleep 1000"), io).unwrap();
    container.kill();
    let exit = streams.finish(&container).exit;
    assert_eq!((exit.status, exit.code()), (Status::Signal(9), 137));
    assert_eq!(container.wait().unwrap(), exit, "waiting again gives the same");
}

fn programs_that_cannot_run(host: &Host) {
    let root = Root::new();
    root.write("plain", "not executable");
    root.executable("soup", "\u{1}\u{2}\u{3}");
    root.executable("noshell", "#!/no/such/interpreter\n");
    for (program, code, text) in [
        ("nope", 127, "executable file `nope` not found in `$PATH`"),
        ("/nope", 127, "no such file or directory: `/nope`"),
        ("/bin/sh/x", 127, "no such file or directory: `/bin/sh/x`"),
        ("/noshell", 127, "no such file or directory: `/noshell`"),
        ("", 127, "executable file `` not found in `$PATH`"),
        ("/plain", 126, "cannot execute `/plain`"),
        ("/etc", 126, "cannot execute `/etc`"),
        ("/soup", 126, "cannot execute `/soup`"),
    ] {
        let error = host.run(root.sandbox(), &Process::new([program])).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().as_str()), (code, text));
        assert_eq!(error.is_foreign_program(), program == "/soup");
    }
    let nothing = Process::new(Vec::<String>::new());
    assert_eq!(host.run(root.sandbox(), &nothing).unwrap_err().exit_code(), 127);
}

/// What `/proc/self/exe` leads to on the way to the program is none of lbuild's files, and ends at once.
fn lbuild_itself_is_out_of_reach(host: &Host) {
    let root = Root::new();
    for (name, interpreter) in
        [("one", "/proc/self/exe --list"), ("two", "/one"), ("three", "/two"), ("four", "/proc/1/exe")]
    {
        root.executable(name, &format!("#!{interpreter}\n"));
    }
    for program in ["/proc/self/exe", "/one", "/two", "/three", "/four"] {
        let outcome = host.run(root.sandbox(), &Process::new([program])).unwrap();
        assert_eq!((outcome.out.as_str(), outcome.exit.status), ("", Status::Code(126)), "{program}");
    }
}

fn programs_are_searched_for_as_the_user(host: &Host) {
    let root = Root::new();
    for directory in ["a", "b", "b/tool", "c", "d"] {
        fs::create_dir(root.path(directory)).unwrap();
    }
    root.executable("a/tool", "#!/bin/sh\necho root only\n");
    fs::set_permissions(root.path("a/tool"), fs::Permissions::from_mode(0o700)).unwrap();
    root.write("c/tool", "not executable");
    root.executable("d/tool", "#!/bin/sh\necho everybody\n");
    let mut process = Process::new(["tool"]);
    process.env = vec![("PATH".into(), "/a:/b:/c:/d:/nowhere".into())];
    assert_eq!(host.run(root.sandbox(), &process).unwrap().success(), "root only\n");
    process.user = "app".to_owned();
    assert_eq!(host.run(root.sandbox(), &process).unwrap().success(), "everybody\n");
    process.args = vec!["/a/tool".into()];
    assert_eq!(host.run(root.sandbox(), &process).unwrap_err().exit_code(), 126);
}

fn environment_defaults(host: &Host) {
    let root = Root::new();
    let mut sandbox = root.sandbox();
    sandbox.hostname = "box".to_owned();
    let mut process = Process::new(["env"]);
    process.env = vec![("A".into(), "b=c".into())];
    process.user = "app".to_owned();
    let out = host.run(sandbox, &process).unwrap().success();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["A=b=c", "HOME=/home/app", "HOSTNAME=box", path]);

    process.env.push(("HOME".into(), "/elsewhere".into()));
    let out = host.run(root.sandbox(), &process).unwrap().success();
    assert!(out.lines().any(|line| line == "HOME=/elsewhere"), "{out}");
}

fn users_and_groups(host: &Host) {
    let root = Root::new();
    for (user, expected) in [
        ("", "uid=0(root) gid=0(root) groups=0(root)"),
        ("app", "uid=1000(app) gid=1001(app) groups=1001(app),50(staff)"),
        ("1000:50", "uid=1000(app) gid=50(staff) groups=50(staff)"),
        ("4321", "uid=4321 gid=0(root) groups=0(root)"),
    ] {
        let mut process = Process::new(["id"]);
        process.user = user.to_owned();
        let out = host.run(root.sandbox(), &process).unwrap().success();
        // busybox lists the groups as the kernel holds them: sorted.
        let words = |text: &str| {
            let mut words: Vec<String> = text
                .trim()
                .split([' ', ','])
                .map(|word| word.trim_start_matches("groups=").to_owned())
                .collect();
            words.sort();
            words
        };
        assert_eq!(words(&out), words(expected), "`{user}`");
    }
    let mut process = Process::new(["id"]);
    process.user = "ghost".to_owned();
    let error = host.run(root.sandbox(), &process).unwrap_err();
    assert_eq!(error.to_string(), "cannot run as `ghost`: no such user in the container's `/etc/passwd`");
}

fn working_directory_is_created_for_the_user(host: &Host) {
    let root = Root::new();
    let mut process = shell("pwd; touch here");
    process.cwd = "/srv/app/data".into();
    process.user = "app".to_owned();
    assert_eq!(host.run(root.sandbox(), &process).unwrap().success(), "/srv/app/data\n");
    for inside in ["srv", "srv/app", "srv/app/data"] {
        let stat = fs::metadata(root.path(inside)).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o755, 1000, 1001), "{inside}");
    }
    assert!(root.path("srv/app/data/here").exists());

    process.cwd = "/etc/passwd".into();
    let error = host.run(root.sandbox(), &process).unwrap_err();
    assert_eq!(error.to_string(), "cannot enter the working directory `/etc/passwd` in the container");
}

fn limits_umask_and_session(host: &Host) {
    let root = Root::new();
    let mut process = shell("ulimit -n; ulimit -Hn; umask; cut -d' ' -f5,6 /proc/1/stat");
    process.rlimits = vec![Rlimit { resource: Resource::Nofile, soft: Some(100), hard: Some(200) }];
    process.umask = 0o027;
    let out = host.run(root.sandbox(), &process).unwrap().success();
    assert_eq!(out, "100\n200\n0027\n1 1\n");
    // A shell would ignore signals of its own.
    let signals = Process::new(["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]);
    let out = host.run(root.sandbox(), &signals).unwrap().success();
    assert!(out.lines().all(|line| line.ends_with("0000000000000000")), "{out}");
    let unchanged = host.sh(&root, "ulimit -n; umask").success();
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    assert_eq!(unchanged, format!("{own}\n0022\n"));
}

fn limits_that_cannot_be_set(host: &Host) {
    let root = Root::new();
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap();
    let start = |soft, hard| {
        let mut process = shell("ulimit -n");
        process.rlimits = vec![Rlimit { resource: Resource::Nofile, soft: Some(soft), hard: Some(hard) }];
        host.run(root.sandbox(), &process).map(|outcome| outcome.success())
    };
    // Limits do not bind what the sandbox needs to be set up.
    for least in [10, 4] {
        assert_eq!(start(least, own).unwrap(), format!("{least}\n"));
    }
    let error = start(20, 10).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot set the ulimit `nofile`: expected a soft limit of at most 10, the hard limit, found 20"
    );
    match start(10, own + 1) {
        // Only where lbuild may raise its limits, and then only as far as the kernel goes.
        Ok(out) => assert_eq!(out, "10\n"),
        Err(error) => {
            assert!(matches!(error, Error::Rlimit { inherited, .. } if inherited == Some(own)));
            let text = format!(
                "cannot raise the ulimit `nofile`: expected a hard limit of at most {own}, as lbuild was started \
                 with, found {}",
                own + 1
            );
            assert_eq!(error.to_string(), text);
        }
    }
}

fn streams(host: &Host) {
    let root = Root::new();
    let (io, mut streams) = Streams::new();
    let process = shell("cat; echo oops >&2; ls /proc/self/fd | tr '\\n' ' '");
    let container = host.launcher.start(root.sandbox(), &process, io).unwrap();
    streams.feed("hello\n");
    let outcome = streams.finish(&container);
    // 3 is what `ls` reads the directory with.
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("hello\n0 1 2 3 ", "oops\n"));
}

fn pipes_can_be_opened_again_by_the_user(host: &Host) {
    let root = Root::new();
    let mut process = shell("echo out > /dev/stdout; echo err > /dev/stderr");
    process.user = "app".to_owned();
    let outcome = host.run(root.sandbox(), &process).unwrap();
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("out\n", "err\n"));
}

fn the_host_s_null_device(host: &Host) {
    let root = Root::new();
    // Not the host's real one, in case it is within reach.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("null");
    let mode = Mode::from_bits_truncate(0o666);
    mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let null = || fs::File::options().read(true).write(true).open(&path).unwrap().into();
    let io = Io::Streams { stdin: null(), stdout: null(), stderr: null() };
    let script = "cat; for fd in 0 1 2; do chmod 640 /proc/self/fd/$fd || exit 1; done; \
                  test $(stat -c %a /dev/null) = 640";
    let container = host.launcher.start(root.sandbox(), &shell(script), io).unwrap();
    assert_eq!(container.wait().unwrap().status, Status::Code(0));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
}

fn terminal(host: &Host) {
    let root = Root::new();
    let script =
        "tty; stty size; echo $TERM; test -c /dev/console && echo console; read line; stty size; exit 3";
    let mut process = shell(script);
    process.user = "app".to_owned();
    let io = Io::Tty { size: WindowSize { rows: 24, columns: 80 } };
    let container = host.launcher.start(root.sandbox(), &process, io).unwrap();
    let mut tty = File::from(container.tty().unwrap().unwrap());
    container.resize(WindowSize { rows: 50, columns: 132 }).unwrap();
    tty.write_all(b"go\n").unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    // A terminal whose other side is gone answers EIO, not end of file.
    while let Ok(length @ 1..) = tty.read(&mut buffer) {
        said.extend_from_slice(&buffer[..length]);
    }
    let said = String::from_utf8(said).unwrap().replace("\r\n", "\n");
    for expected in ["/dev/pts/0\n", "xterm\n", "console\n", "50 132\n"] {
        assert!(said.contains(expected), "{expected:?} in {said:?}");
    }
    assert_eq!(container.wait().unwrap().status, Status::Code(3));
}

fn signals(host: &Host) {
    let root = Root::new();
    let (io, mut streams) = Streams::new();
    let process =
        shell("trap 'exit 5' TERM; trap 'echo winch' WINCH; echo ready; while true; do read x; done");
    let container = host.launcher.start(root.sandbox(), &process, io).unwrap();
    let mut ready = [0; 6];
    streams.stdout.read_exact(&mut ready).unwrap();
    assert!(container.signal(1000).is_err(), "there is no such signal");
    // Unhandled by pid 1: no effect.
    container.signal(rustix::process::Signal::USR1.as_raw()).unwrap();
    container.signal(rustix::process::Signal::TERM.as_raw()).unwrap();
    // The shell looks at its traps when `read` comes back.
    streams.feed("\n");
    assert_eq!(streams.finish(&container).exit.status, Status::Code(5));
    container.signal(15).expect("a container that is gone is no error");
}

fn many_at_once(host: &'static Host) {
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                let root = Root::new();
                for round in 0..8 {
                    let out = host.sh(&root, &format!("echo {thread}.{round} $$")).success();
                    assert_eq!(out, format!("{thread}.{round} 1\n"));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn orphans_end_with_the_program(host: &Host) {
    let root = Root::new();
    // The orphan holds the pipes: only its death ends the reading.
    let outcome = host.sh(&root, "sleep 1000 & echo started");
    assert_eq!(outcome.success(), "started\n");
}

fn dropping_kills(host: &Host) {
    let root = Root::new();
    let (io, mut streams) = Streams::new();
    let container = host.launcher.start(root.sandbox(), &shell("sleep 1000"), io).unwrap();
    let pid = container.pid();
    drop(container);
    let mut rest = String::new();
    streams.stdout.read_to_string(&mut rest).unwrap();
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

fn a_large_job(host: &Host) {
    let root = Root::new();
    let mut process = shell("echo ${#BIG0}");
    for at in 0..8 {
        process.env.push((format!("BIG{at}").into(), "x".repeat(100_000).into()));
    }
    assert_eq!(host.run(root.sandbox(), &process).unwrap().success(), "100000\n");
    // More than the kernel takes for one variable.
    process.env.push(("HUGE".into(), "x".repeat(1 << 20).into()));
    let error = host.run(root.sandbox(), &process).unwrap_err();
    assert_eq!(error.exit_code(), 126, "{error}");
}
