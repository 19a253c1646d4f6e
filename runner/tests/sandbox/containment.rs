//! Containment: what a process in a sandbox cannot see, reach or do.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use runner::{
    Capability, CapabilitySet, FileMount, Mount, MountSource, Network, Process, Seccomp, Security,
    detached_tree,
};

use crate::support::{Host, Root, Streams, Tests, shell};

pub(crate) const TESTS: Tests = &[
    ("host_processes_are_invisible", host_processes_are_invisible),
    ("namespaces_are_its_own", namespaces_are_its_own),
    ("the_host_s_mounts_are_out_of_reach", the_host_s_mounts_are_out_of_reach),
    ("mounting_is_refused", mounting_is_refused),
    ("privileges_are_docker_s", privileges_are_docker_s),
    ("no_new_privileges", no_new_privileges),
    ("capabilities_can_be_added", capabilities_can_be_added),
    ("forbidden_system_calls", forbidden_system_calls),
    ("devices", devices),
    ("masked_and_read_only_paths", masked_and_read_only_paths),
    ("network_none_has_a_loopback", network_none_has_a_loopback),
    ("read_only_root", read_only_root),
    ("mounts_of_the_user", mounts_of_the_user),
    ("files_given_by_their_contents", files_given_by_their_contents),
    ("secrets", secrets),
    ("a_socket_of_the_host_s", a_socket_of_the_host_s),
    ("insecure", insecure),
    ("host_name_and_shared_memory", host_name_and_shared_memory),
];

fn host_processes_are_invisible(host: &Host) {
    let root = Root::new();
    // The shell looks itself: programs that it started would be seen or not, as they come and go.
    let out = host.sh(&root, "echo $$; set -- /proc/[0-9]*; echo $#; kill -0 2 2>&1").out;
    assert!(out.starts_with("1\n1\n"), "{out}");
    let own = std::process::id();
    let out = host.sh(&root, &format!("kill -9 {own}; ls /proc/{own}")).err;
    assert!(out.contains("No such process"), "{out}");
}

fn namespaces_are_its_own(host: &Host) {
    let root = Root::new();
    for (network, shared) in [(Network::Host, &["net", "user"][..]), (Network::None, &["user"])] {
        let mut sandbox = root.sandbox();
        sandbox.network = network;
        let kinds = ["mnt", "pid", "ipc", "uts", "cgroup", "net", "user"];
        let script = format!("for kind in {}; do readlink /proc/self/ns/$kind; done", kinds.join(" "));
        let out = host.run(sandbox, &shell(&script)).unwrap().success();
        for (kind, inside) in kinds.iter().zip(out.lines()) {
            let outside = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_eq!(outside.to_str() == Some(inside), shared.contains(kind), "{kind}");
        }
    }
}

fn the_host_s_mounts_are_out_of_reach(host: &Host) {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = Root::new();
    let marker = tempfile::Builder::new().prefix("lbuild-marker").tempdir().unwrap();
    let name = marker.path().to_str().unwrap();
    let out = host.sh(
        &root,
        &format!(
            "ls -d {name} /../../..{name} /proc/1/root{name} /proc/1/cwd/../../..{name} 2>/dev/null; \
                  cat /proc/self/mountinfo"
        ),
    );
    let table = out.out;
    assert!(!table.contains("lbuild-marker"), "{table}");
    // The root, /proc and its covers, /dev and below, /sys and below; nothing of the host's.
    for line in table.lines() {
        let point = line.split(' ').nth(4).unwrap();
        let ours = point == "/" || ["/proc", "/dev", "/sys"].iter().any(|top| point.starts_with(top));
        assert!(ours, "{line}");
    }
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    // Nothing covers the root, nothing lies above it.
    let out = host.sh(&root, "stat -c '%d %i' / /..");
    let lines: Vec<&str> = out.out.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{out:?}");
}

fn mounting_is_refused(host: &Host) {
    let root = Root::new();
    fs::create_dir(root.path("mnt")).unwrap();
    for command in [
        "mount -t tmpfs none /mnt",
        "mount --bind /bin /mnt",
        "mount -o remount,rw /sys",
        "umount /proc/kcore",
        "umount -l /dev",
        "unshare -m true",
        "unshare -U true",
        "hostname other",
    ] {
        let outcome = host.sh(&root, command);
        assert!(!outcome.exit.success(), "{command}: {outcome:?}");
        assert!(outcome.err.contains("ermi") || outcome.err.contains("ermitted"), "{command}: {outcome:?}");
    }
}

/// The lines of `/proc/self/status` that tell of privileges.
const STATUS: &str = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\\t' ' '";

fn privileges_are_docker_s(host: &Host) {
    let root = Root::new();
    let all = "CapInh: 0000000000000000\nCapPrm: 00000000a80425fb\nCapEff: 00000000a80425fb\n\
               CapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 2\n";
    assert_eq!(host.sh(&root, STATUS).success(), all);
    let mut process = shell(STATUS);
    process.user = "app".to_owned();
    let none = all.replace("CapPrm: 00000000a80425fb", "CapPrm: 0000000000000000");
    let none = none.replace("CapEff: 00000000a80425fb", "CapEff: 0000000000000000");
    assert_eq!(host.run(root.sandbox(), &process).unwrap().success(), none);
}

fn no_new_privileges(host: &Host) {
    let root = Root::new();
    let mut sandbox = root.sandbox();
    sandbox.security.no_new_privileges = true;
    let out = host.run(sandbox, &shell(STATUS)).unwrap().success();
    assert!(out.ends_with("NoNewPrivs: 1\nSeccomp: 2\n"), "{out}");
}

fn capabilities_can_be_added(host: &Host) {
    let root = Root::new();
    fs::create_dir(root.path("mnt")).unwrap();
    let mut sandbox = root.sandbox();
    // The filter follows the set: mount(2) is allowed with CAP_SYS_ADMIN.
    sandbox.security.capabilities = CapabilitySet::default().with(Capability::SysAdmin);
    let out = host.run(sandbox, &shell("mount -t tmpfs none /mnt && echo mounted")).unwrap().success();
    assert_eq!(out, "mounted\n");
    let mut sandbox = root.sandbox();
    sandbox.security.capabilities = CapabilitySet::EMPTY;
    sandbox.security.seccomp = Seccomp::Unconfined;
    let out = host.run(sandbox, &shell(STATUS)).unwrap().success();
    assert!(out.contains("CapBnd: 0000000000000000\n") && out.ends_with("Seccomp: 0\n"), "{out}");
}

/// Makes forbidden calls and prints their error numbers.
const PAYLOAD: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#define SHOW(name, call) do { errno = 0; long r = (call); printf("%s %d\n", name, r < 0 ? errno : 0); } while (0)
int main(void) {
    SHOW("af_alg", socket(38, SOCK_SEQPACKET, 0));
    SHOW("af_vsock", socket(40, SOCK_STREAM, 0));
    SHOW("af_unix", socket(AF_UNIX, SOCK_STREAM, 0));
    SHOW("clone3", syscall(435, 0, 0));
    SHOW("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    SHOW("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    SHOW("bpf", syscall(SYS_bpf, 0, 0, 0));
    SHOW("io_uring", syscall(425, 1, 0));
    SHOW("userfaultfd", syscall(SYS_userfaultfd, 0));
    SHOW("fsopen", syscall(430, "tmpfs", 0));
    SHOW("open_tree", syscall(428, -100, "/", 1));
    SHOW("perf", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
    SHOW("kexec", syscall(SYS_kexec_load, 0, 0, 0, 0));
    SHOW("swapon", syscall(SYS_swapon, "/x", 0));
    SHOW("clone_newuser", syscall(SYS_clone, 0x10000000 | 17, 0, 0, 0, 0));
    SHOW("unknown", syscall(1000));
    return 0;
}
"#;

/// Compiles [`PAYLOAD`].
pub(crate) fn compile_payload(program: &Path) {
    compile(PAYLOAD, &[], program);
}

/// Compiles [`CLIENT`].
pub(crate) fn compile_client(program: &Path) {
    compile(CLIENT, &[], program);
}

/// Compiles C into a static program.
pub(crate) fn compile(source: &str, flags: &[&str], program: &Path) {
    let mut compiler = Command::new("cc");
    let compiler = compiler.args(["-static", "-x", "c"]).args(flags).arg("-o").arg(program).arg("-");
    let mut running = compiler.stdin(Stdio::piped()).spawn().expect("a C compiler is installed");
    running.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(running.wait().unwrap().success());
}

fn forbidden_system_calls(host: &Host) {
    let root = Root::new();
    // In a virtual machine without a compiler the payload comes along.
    if fs::copy("/payload", root.path("payload")).is_err() {
        compile_payload(&root.path("payload"));
    }
    let out = host.run(root.sandbox(), &runner::Process::new(["/payload"])).unwrap().success();
    let expected = "af_alg 1\naf_vsock 1\naf_unix 0\nclone3 38\nkeyctl 1\nadd_key 1\nbpf 1\nio_uring 1\n\
                    userfaultfd 1\nfsopen 1\nopen_tree 1\nperf 1\nkexec 1\nswapon 1\nclone_newuser 1\nunknown 38\n";
    assert_eq!(out, expected);
}

fn devices(host: &Host) {
    let root = Root::new();
    let script = "mknod /kmsg c 1 11 && echo made; head -c1 /kmsg >/dev/null 2>&1 || echo refused; \
                  for node in null zero full random urandom tty; do test -c /dev/$node && echo $node; done; \
                  head -c 3 /dev/zero | wc -c; echo x > /dev/full || echo full; ls /dev | tr '\\n' ' '";
    let out = host.sh(&root, script).out;
    let expected = "made\nrefused\nnull\nzero\nfull\nrandom\nurandom\ntty\n3\nfull\n\
                    core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(out, expected);
}

fn masked_and_read_only_paths(host: &Host) {
    let root = Root::new();
    let script = "head -c 10 /proc/kcore | wc -c; cat /proc/timer_list | wc -c; ls /sys/firmware | wc -l; \
                  for file in /proc/sys/kernel/domainname /sys/kernel/rcu_expedited; \
                  do (echo x > $file) 2>&1 | tail -n 1 | grep -o '[A-Z][a-z-]* file system'; done";
    let out = host.sh(&root, script).out;
    let read_only = "Read-only file system\n";
    assert_eq!(out, format!("0\n0\n0\n{}", read_only.repeat(2)));
    let mut sandbox = root.sandbox();
    sandbox.security.masked_paths = false;
    let out = host.run(sandbox, &shell("head -c 10 /proc/interrupts | wc -c")).unwrap().success();
    assert_eq!(out, "10\n");
}

fn network_none_has_a_loopback(host: &Host) {
    let root = Root::new();
    let mut sandbox = root.sandbox();
    sandbox.network = Network::None;
    let script = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; cat /sys/class/net/lo/flags";
    // IFF_UP and IFF_LOOPBACK.
    assert_eq!(host.run(sandbox, &shell(script)).unwrap().success(), "lo\n0x9\n");
}

fn read_only_root(host: &Host) {
    let root = Root::new();
    let before = root.listing();
    let mut sandbox = root.sandbox();
    sandbox.read_only_root = true;
    let script = "touch /x || echo refused; touch /dev/shm/x && echo shm; echo > /bin/sh || echo refused";
    let out = host.run(sandbox, &shell(script)).unwrap().out;
    assert_eq!(out, "refused\nshm\nrefused\n");
    assert_eq!(root.listing(), before);
}

fn mounts_of_the_user(host: &Host) {
    let root = Root::new();
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("file"), "content").unwrap();
    let bind = |target: &str, source, read_only| Mount {
        target: target.into(),
        source: MountSource::Bind(detached_tree(source, true).unwrap()),
        read_only,
    };
    let before = root.listing();
    let mut sandbox = root.sandbox();
    sandbox.mounts = vec![
        bind("/data", data.path(), false),
        bind("/deep/er/data", data.path(), true),
        bind("/etc/one", &data.path().join("file"), true),
        Mount {
            target: "/scratch".into(),
            source: MountSource::Tmpfs { size_bytes: Some(1 << 20), mode: 0o1777 },
            read_only: false,
        },
    ];
    let script = "cat /etc/one; echo; echo new > /data/new; cat /deep/er/data/new; \
                  touch /deep/er/data/x || echo refused; (echo > /etc/one) || echo refused; \
                  stat -c %a /scratch; dd if=/dev/zero of=/scratch/big bs=1M count=2 2>/dev/null || echo full";
    let out = host.run(sandbox, &shell(script)).unwrap().out;
    assert_eq!(out, "content\nnew\nrefused\nrefused\n1777\nfull\n");
    assert_eq!(fs::read_to_string(data.path().join("new")).unwrap(), "new\n");
    assert_eq!(root.listing(), before);
}

fn files_given_by_their_contents(host: &Host) {
    let root = Root::new();
    let mut sandbox = root.sandbox();
    let script = b"#!/bin/sh\necho executed\n";
    sandbox.files = [("/dev/pipes/script", 0o755), ("/etc/text", 0o644)]
        .map(|(target, mode)| FileMount::new(target, script).mode(mode))
        .into();
    let script = "/dev/pipes/script; chmod 755 /etc/text; /etc/text 2>/dev/null || echo refused";
    let out = host.run(sandbox, &shell(script)).unwrap().success();
    assert_eq!(out, "executed\nrefused\n");
}

fn secrets(host: &Host) {
    let root = Root::new();
    root.write("etc/token", "of the image\n");
    let before = root.listing();
    let secret = |target: &str| FileMount::new(target, b"hush\n").mode(0o400).owner(1000, 50);
    let files = [secret("/run/secrets/token"), secret("/etc/token"), secret("/root/.netrc")];
    assert!(!format!("{files:?}").contains("104, 117"), "no log tells a secret");
    let script = "for file in /run/secrets/token /etc/token /root/.netrc; do stat -c '%a %u %g' $file; done; \
                  df -T /run/secrets/token | tail -n 1 | grep -o tmpfs; cat /run/secrets/token /etc/token";
    let mut sandbox = root.sandbox();
    sandbox.files = files.to_vec();
    let mut process = shell(script);
    process.user = "1000:1001".to_owned();
    // Parents that are missing are root's, and others may pass.
    let out = host.run(sandbox, &process).unwrap().success();
    assert_eq!(out, "400 1000 50\n400 1000 50\n400 1000 50\ntmpfs\nhush\nhush\n");
    assert_eq!(root.listing(), before);

    let mut sandbox = root.sandbox();
    sandbox.files = vec![secret("/run/token")];
    let mut process = shell("cat /run/token");
    process.user = "1001:50".to_owned();
    let outcome = host.run(sandbox, &process).unwrap();
    assert!(outcome.out.is_empty() && outcome.err.contains("Permission denied"), "{outcome:?}");

    fs::create_dir(root.path("taken")).unwrap();
    let mut sandbox = root.sandbox();
    sandbox.files = vec![secret("/taken")];
    let error = host.run(sandbox, &shell("true")).unwrap_err();
    let text = "cannot mount on `/taken` in the container: expected a file, found a directory";
    assert_eq!(error.to_string(), text);
}

/// Connects to the socket that it is told and copies what comes from there.
const CLIENT: &str = r#"
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int count, char **arguments) {
    struct sockaddr_un address = {AF_UNIX};
    char buffer[64];
    int length, fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(address.sun_path, arguments[1], sizeof address.sun_path - 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) return 1;
    while ((length = read(fd, buffer, sizeof buffer)) > 0) write(1, buffer, length);
    return 0;
}
"#;

fn a_socket_of_the_host_s(host: &Host) {
    let root = Root::new();
    if fs::copy("/client", root.path("client")).is_err() {
        compile_client(&root.path("client"));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    let before = root.listing();
    for (read_only, target) in [(false, "/run/agent.sock"), (true, "/deep/er/agent.0")] {
        let mut sandbox = root.sandbox();
        let source = MountSource::Bind(detached_tree(&path, false).unwrap());
        sandbox.mounts = vec![Mount { target: target.into(), source, read_only }];
        let (io, streams) = Streams::new();
        let process = Process::new(["/client", target]);
        let container = host.launcher.start(sandbox, &process, io).unwrap();
        listener.accept().unwrap().0.write_all(b"from the host").unwrap();
        assert_eq!(streams.finish(&container).success(), "from the host");
    }
    assert_eq!(root.listing(), before);
}

/// What only a container with all of lbuild's privileges may do; each line says how it went.
const PRIVILEGED: &str = "say() { \"$@\" 2>/dev/null && echo yes || echo no; }; \
    mkdir /mnt; say mount -t tmpfs none /mnt; \
    say sh -c 'cat /proc/sys/kernel/domainname > /mnt/x && cat /mnt/x > /proc/sys/kernel/domainname'; \
    say sh -c 'mkdir $(find /sys/fs/cgroup -name cgroup.procs | head -n 1 | sed s,cgroup.procs,,)mine'; \
    say sh -c 'mknod /node c 1 11 && dd if=/node of=/dev/null count=0'; \
    say test -c /dev/kmsg; \
    say sh -c 'head -c 4 /proc/interrupts | grep -q .'; \
    grep -E '^(CapEff|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\\t' ' '; ls -l /proc/self/exe | wc -l";

fn insecure(host: &Host) {
    let caps = |set: CapabilitySet| format!("CapEff: {:016x}", set.bits());
    for (security, answer, capabilities, seccomp) in [
        (Security::insecure(), "yes", CapabilitySet::held(), 0),
        (Security::default(), "no", CapabilitySet::default(), 2),
    ] {
        let root = Root::new();
        let mut sandbox = root.sandbox();
        sandbox.security = security;
        let out = host.run(sandbox, &shell(PRIVILEGED)).unwrap().success();
        let answers = format!("{answer}\n").repeat(6);
        let capabilities = caps(capabilities);
        assert_eq!(out, format!("{answers}{capabilities}\nNoNewPrivs: 0\nSeccomp: {seccomp}\n1\n"));
    }
    // A node for each of the host's.
    let root = Root::new();
    let mut sandbox = root.sandbox();
    sandbox.security = Security::insecure();
    let script = "find /dev -xdev '(' -type c -o -type b ')' | sort";
    let out = host.run(sandbox, &shell(script)).unwrap().success();
    let on_host = Command::new("sh").args(["-c", script]).output().unwrap().stdout;
    let on_host = String::from_utf8(on_host).unwrap();
    // The container's own, by other means.
    let own = ["/dev/console", "/dev/ptmx"];
    for node in on_host.lines().filter(|node| !own.contains(node)) {
        assert!(out.lines().any(|line| line == node), "{node} in {out}");
    }
    assert!(CapabilitySet::held().has(Capability::SysAdmin));
}

fn host_name_and_shared_memory(host: &Host) {
    let root = Root::new();
    let mut sandbox = root.sandbox();
    sandbox.hostname = "box".to_owned();
    sandbox.shm_size_bytes = 1 << 20;
    let script = "hostname; dd if=/dev/zero of=/dev/shm/x bs=1M count=2 2>&1 | grep -c 'No space'";
    assert_eq!(host.run(sandbox, &shell(script)).unwrap().success(), "box\n1\n");

    // 0 is the default, and for a tmpfs none: the kernel would take it for no limit.
    let mut sandbox = root.sandbox();
    sandbox.shm_size_bytes = 0;
    let source = MountSource::Tmpfs { size_bytes: Some(0), mode: 0o755 };
    sandbox.mounts = vec![Mount { target: "/scratch".into(), source, read_only: false }];
    let script =
        "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2; df -k /scratch | grep -c ' 0 *0 *0 '";
    assert_eq!(host.run(sandbox, &shell(script)).unwrap().out, "65536\n0\n");
}
