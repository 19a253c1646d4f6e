//! The socket before a real `ssh-agent`, used by the real `ssh-add` and `ssh-keygen`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::{Child, Command, Output, Stdio};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use tempfile::TempDir;

use super::*;

const ACCESS: Access = Access { mode: 0o600, uid: 0, gid: 0 };
const NAME: &str = "ssh_agent.0";

/// A running agent that holds one key, in a directory of its own.
struct Agent {
    folder: TempDir,
    process: Child,
}

impl Agent {
    fn start() -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(folder.path().join("agent"));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("ssh-agent of openssh-client");
        // Its first line comes when it listens.
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        let agent = Agent { folder, process };
        for key in ["key", "other"] {
            let key = agent.path(key);
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-C", "a test's key", "-f"]).arg(key);
            assert!(command.status().unwrap().success());
        }
        assert!(ssh_add(&agent.socket(), &["-q", agent.path("key").to_str().unwrap()]).status.success());
        agent
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn open(folder: &Path) -> OwnedFd {
    fs::File::open(folder).unwrap().into()
}

fn ssh_add(socket: &Path, args: &[&str]) -> Output {
    Command::new("ssh-add").args(args).env("SSH_AUTH_SOCK", socket).stdin(Stdio::null()).output().unwrap()
}

/// What `ssh-add -l` says of the agent: its keys.
fn keys(socket: &Path) -> String {
    let listed = ssh_add(socket, &["-l"]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap()
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_be_bytes(), body].concat()
}

fn session_bind(name: &[u8], rest: &[u8]) -> Vec<u8> {
    [&[kind::EXTENSION], &message(name)[..], rest].concat()
}

/// Nothing comes from this connection any more, and it has ended.
fn has_ended(mut client: &UnixStream) -> bool {
    match client.read(&mut [0; 64]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn only_the_requests_of_a_forwarded_client_pass() {
    let cases: [(&[u8], bool); 15] = [
        (&[11], true),
        (&[13, 0, 0, 0, 0], true),
        (&session_bind(SESSION_BIND, b"the host's key"), true),
        (&session_bind(SESSION_BIND, b""), true),
        (&session_bind(b"session-bind@openssh.co", b"m"), false),
        (&session_bind(b"session-bind@openssh.com\0", b""), false),
        (&session_bind(b"query", b""), false),
        (&[27], false),
        (&[27, 0, 0, 0, 24, b's'], false),
        (&[27, 0xff, 0xff, 0xff, 0xff], false),
        (&[1], false),
        (&[17, 0], false),
        (&[19], false),
        (&[22, 0, 0, 0, 0], false),
        (&[25], false),
    ];
    for (body, passes) in cases {
        assert_eq!(Message(message(body)).passes(), passes, "{body:?}");
    }
}

#[test]
fn keys_are_used_and_never_changed() {
    let agent = Agent::start();
    let socket =
        AgentSocket::serve(&agent.socket(), open(agent.folder.path()).as_fd(), NAME, ACCESS).unwrap();
    let path = agent.path(NAME);
    let direct = keys(&agent.socket());
    assert!(direct.contains("a test's key"), "{direct}");
    assert_eq!(keys(&path), direct);

    let (key, other) = (agent.path("key.pub"), agent.path("other"));
    let refused: [&[&str]; 3] = [&["-D"], &["-d", key.to_str().unwrap()], &["-q", other.to_str().unwrap()]];
    for args in refused {
        let output = ssh_add(&path, args);
        assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(keys(&agent.socket()), direct, "{args:?}");
    }

    // Only the agent has the private half by now.
    fs::remove_file(agent.path("key")).unwrap();
    fs::write(agent.path("text"), "text").unwrap();
    let sign = |socket: &Path| {
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "sign", "-n", "test", "-f"]).arg(&key).arg(agent.path("text"));
        command.env("SSH_AUTH_SOCK", socket).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(sign(&path));
    assert!(fs::read_to_string(agent.path("text.sig")).unwrap().contains("BEGIN SSH SIGNATURE"));

    drop(socket);
    assert!(!path.exists());
    fs::remove_file(agent.path("text.sig")).unwrap();
    assert!(!sign(&path));
    assert_eq!(keys(&agent.socket()), direct);
}

#[test]
fn what_is_refused_leaves_the_connection_usable() {
    let agent = Agent::start();
    let _socket =
        AgentSocket::serve(&agent.socket(), open(agent.folder.path()).as_fd(), NAME, ACCESS).unwrap();
    let client = UnixStream::connect(agent.path(NAME)).unwrap();
    // Requests may follow each other without waiting, and in pieces.
    let requests = [message(&[19]), message(&session_bind(b"query", b"")), message(&[11])].concat();
    for piece in requests.chunks(3) {
        (&client).write_all(piece).unwrap();
    }
    let answers = [(); 3].map(|()| Message::read(&client).unwrap().0);
    assert_eq!(answers[0], message(&[kind::FAILURE]));
    assert_eq!(answers[1], message(&[kind::FAILURE]));
    assert!(answers[2].windows(12).any(|text| text == b"a test's key"));

    let oversized = u32::try_from(MOST_BYTES + 1).unwrap().to_be_bytes();
    for header in [[0; 4], oversized, [0xff; 4]] {
        let client = UnixStream::connect(agent.path(NAME)).unwrap();
        (&client).write_all(&header).unwrap();
        assert!(has_ended(&client), "{header:?}");
    }
}

#[test]
fn connections_end_with_the_socket() {
    // An agent that takes requests and never answers: nobody accepts.
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("agent");
    let _listener = UnixListener::bind(&silent).unwrap();
    let socket = AgentSocket::serve(&silent, open(folder.path()).as_fd(), NAME, ACCESS).unwrap();
    let starts: [&[u8]; 4] = [b"", &[0, 0], &[0, 0, 0, 9, 13], &message(&[11])];
    let clients = starts.map(|start| {
        let client = UnixStream::connect(folder.path().join(NAME)).unwrap();
        (&client).write_all(start).unwrap();
        client
    });
    drop(socket);
    for client in &clients {
        assert!(has_ended(client));
    }
}

#[test]
fn half_open_connections_hold_up_nobody() {
    let agent = Agent::start();
    let socket =
        AgentSocket::serve(&agent.socket(), open(agent.folder.path()).as_fd(), NAME, ACCESS).unwrap();
    let path = agent.path(NAME);
    let mut idle: Vec<UnixStream> =
        (0..MOST_CONNECTIONS - 2).map(|_| UnixStream::connect(&path).unwrap()).collect();
    (&idle[0]).write_all(&[0, 0, 0, 9, 13]).unwrap();
    // The other half ended: what was asked is still answered.
    let client = UnixStream::connect(&path).unwrap();
    (&client).write_all(&message(&[11])).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(Message::read(&client).is_ok());
    assert!(has_ended(&client));
    assert!(keys(&path).contains("a test's key"));

    // They are accepted in order, so that these are too many at the last.
    idle.extend((0..3).map(|_| UnixStream::connect(&path).unwrap()));
    assert!(has_ended(&idle[idle.len() - 1]));
    drop(socket);
    assert!(idle.iter().all(has_ended));
}

#[test]
fn the_file_has_its_owner_and_goes_with_the_socket() {
    let agent = Agent::start();
    let directory = open(agent.folder.path());
    let access = Access { mode: 0o640, uid: 1234, gid: 4321 };
    let socket = AgentSocket::serve(&agent.socket(), directory.as_fd(), NAME, access).unwrap();
    let metadata = fs::symlink_metadata(agent.path(NAME)).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 1234, 4321));

    let taken = AgentSocket::serve(&agent.socket(), directory.as_fd(), NAME, ACCESS);
    assert_eq!(taken.err().unwrap().kind(), io::ErrorKind::AddrInUse);
    assert!(agent.path(NAME).exists());
    drop(socket);
    assert!(!agent.path(NAME).exists());
}

#[test]
fn an_agent_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let refused = folder.path().join("refused");
    drop(UnixListener::bind(&refused).unwrap());
    let cases = [
        (folder.path().join("absent"), io::ErrorKind::NotFound),
        (refused, io::ErrorKind::ConnectionRefused),
    ];
    for (agent, kind) in cases {
        let served = AgentSocket::serve(&agent, open(folder.path()).as_fd(), NAME, ACCESS);
        assert_eq!(served.err().unwrap().kind(), kind, "{}", agent.display());
        assert!(!folder.path().join(NAME).exists());
    }
}

#[test]
fn the_mount_is_the_socket() {
    let agent = Agent::start();
    let descriptor =
        |fd: &OwnedFd| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()));
    let check = |socket: &AgentSocket| {
        let mount = socket.mount()?;
        assert!(keys(&descriptor(&mount)).contains("a test's key"));
        io::Result::Ok(())
    };
    let socket =
        AgentSocket::serve(&agent.socket(), open(agent.folder.path()).as_fd(), NAME, ACCESS).unwrap();
    check(&socket).unwrap();

    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(&tmpfs).unwrap();
    let detached = fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
    let socket = AgentSocket::serve(&agent.socket(), detached.as_fd(), NAME, ACCESS).unwrap();
    assert!(keys(&descriptor(&detached).join(NAME)).contains("a test's key"));
    // Before Linux 6.15 a detached mount cannot be cloned.
    if let Err(error) = check(&socket) {
        assert_eq!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::INVAL), "{error}");
    }
}
