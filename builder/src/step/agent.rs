//! `RUN --mount=type=ssh`: a socket through which one command asks the user's ssh agent.
//!
//! Here: the socket file, its connections, and which requests pass. Not here: which agent, where the command sees the
//! socket (the mounts of [`super::run`]).
//!
//! One thread accepts; each connection has a thread and a connection to the agent of its own, because an agent binds
//! sessions to connections. A request is read whole before any of it goes on, and its answer before the next request.
//! Invariants: an agent sees only what a client of a forwarded agent needs, so a command can use keys but neither add,
//! remove nor lock them; after the drop there is no thread, no connection and no file.
//!
//! The protocol is draft-ietf-sshm-ssh-agent, its extension PROTOCOL.agent of OpenSSH.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use rustix::fs::{AtFlags, Gid, Mode, Uid, chmodat, chownat, unlinkat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

use crate::plan::Access;

/// The longest message, in bytes, its length not counted: what OpenSSH's agent takes.
const MOST_BYTES: usize = 256 * 1024;
/// Connections at once, each of which costs two descriptors and a thread; those above are closed.
const MOST_CONNECTIONS: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// The messages' first bytes (`SSH_AGENT…`).
mod kind {
    pub(super) const FAILURE: u8 = 5;
    pub(super) const REQUEST_IDENTITIES: u8 = 11;
    pub(super) const SIGN_REQUEST: u8 = 13;
    pub(super) const EXTENSION: u8 = 27;
}

/// Tells the agent which host a connection signs for; keys that are bound to hosts need it.
const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// A listening socket that forwards to an agent until it is dropped.
pub(crate) struct AgentSocket {
    listener: Arc<UnixListener>,
    server: Option<JoinHandle<()>>,
    file: SocketFile,
}

impl AgentSocket {
    /// Listens at `name`, one component below `directory`, and forwards to the socket `agent`.
    ///
    /// # Errors
    /// When nobody listens at `agent`, or the file exists, or cannot be made with this owner.
    pub(crate) fn serve(
        agent: &Path,
        directory: BorrowedFd<'_>,
        name: &str,
        access: Access,
    ) -> io::Result<AgentSocket> {
        drop(connect(agent)?);
        let (listener, file) = listen(directory, name, access)?;
        let listener = Arc::new(listener);
        let accepting = Arc::clone(&listener);
        let agent = agent.to_owned();
        let server = thread::Builder::new()
            .name("ssh agent".to_owned())
            .spawn(move || accept_all(&accepting, &agent))?;
        Ok(AgentSocket { listener, server: Some(server), file })
    }

    /// A detached mount of the socket file alone, which can be attached once.
    ///
    /// # Errors
    /// `EINVAL` before Linux 6.15 when the directory is on a detached mount: only the mounts of a namespace can be
    /// cloned there.
    pub(crate) fn mount(&self) -> io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        Ok(open_tree(&self.file.directory, &self.file.name, flags)?)
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        close(self.listener.as_fd());
        if let Some(server) = self.server.take() {
            // A panic has been reported by its thread; a second one would end the process.
            server.join().ok();
        }
    }
}

/// A name in a directory, which goes with this value.
struct SocketFile {
    directory: OwnedFd,
    name: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nobody is left to tell; the directory goes with the step.
        unlinkat(&self.directory, &self.name, AtFlags::empty()).ok();
    }
}

/// The socket and its file. Nobody gets in before the file has its owner: until it listens, connections are refused.
fn listen(directory: BorrowedFd<'_>, name: &str, access: Access) -> io::Result<(UnixListener, SocketFile)> {
    let directory = directory.try_clone_to_owned()?;
    // An address holds 108 bytes and has no form relative to a descriptor.
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    let socket = socket(SocketFlags::empty())?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile { directory, name: name.into() };
    let (uid, gid) = (Uid::from_raw(access.uid), Gid::from_raw(access.gid));
    chownat(&file.directory, &file.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(&file.directory, &file.name, Mode::from_raw_mode(access.mode), AtFlags::empty())?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((UnixListener::from(socket), file))
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// A connection to the agent. It is there at once or not at all: an agent that accepts nobody would hold up the drop.
fn connect(agent: &Path) -> io::Result<UnixStream> {
    let socket = socket(SocketFlags::NONBLOCK)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(agent)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Wakes whoever waits for this socket, and ends it; a socket that has ended stays so.
fn close(socket: BorrowedFd<'_>) {
    rustix::net::shutdown(socket, Shutdown::Both).ok();
}

/// Serves connections until the listener is shut down, then ends those that are left.
fn accept_all(listener: &UnixListener, agent: &Path) {
    thread::scope(|scope| {
        let mut open: Vec<Weak<Connection>> = Vec::new();
        while let Some(client) = accept(listener) {
            open.retain(|connection| connection.strong_count() > 0);
            if open.len() >= MOST_CONNECTIONS {
                continue;
            }
            let Ok(agent) = connect(agent) else { continue };
            let connection = Arc::new(Connection { client, agent });
            open.push(Arc::downgrade(&connection));
            let thread = thread::Builder::new().name("ssh connection".to_owned());
            // Without a thread the connection closes here.
            thread.spawn_scoped(scope, move || connection.relay()).ok();
        }
        // If it is an error that ended the loop, later clients are refused instead of waiting.
        close(listener.as_fd());
        open.iter().filter_map(Weak::upgrade).for_each(|connection| connection.close());
    });
}

fn accept(listener: &UnixListener) -> Option<UnixStream> {
    loop {
        match listener.accept() {
            Ok((client, _)) => return Some(client),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(_) => return None,
        }
    }
}

/// A client and its connection to the agent.
struct Connection {
    client: UnixStream,
    agent: UnixStream,
}

impl Connection {
    /// Answers requests until one side ends or sends what is no message.
    fn relay(&self) {
        while let Ok(request) = Message::read(&self.client) {
            let answer = if request.passes() { self.ask(&request) } else { Ok(Message::failure()) };
            if answer.and_then(|answer| answer.write(&self.client)).is_err() {
                break;
            }
        }
    }

    fn ask(&self, request: &Message) -> io::Result<Message> {
        request.write(&self.agent)?;
        Message::read(&self.agent)
    }

    fn close(&self) {
        close(self.client.as_fd());
        close(self.agent.as_fd());
    }
}

/// A message as it travels: the length of the body (u32, big-endian), then the body, never empty, which begins with its
/// kind.
struct Message(Vec<u8>);

impl Message {
    const HEADER: usize = 4;

    fn read(mut stream: &UnixStream) -> io::Result<Message> {
        let mut header = [0; Message::HEADER];
        stream.read_exact(&mut header)?;
        let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
        if length == 0 || length > MOST_BYTES {
            let text = format!("expected an agent message of 1 to {MOST_BYTES} bytes, found {length}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = vec![0; Message::HEADER + length];
        bytes[..Message::HEADER].copy_from_slice(&header);
        stream.read_exact(&mut bytes[Message::HEADER..])?;
        Ok(Message(bytes))
    }

    fn write(&self, mut stream: &UnixStream) -> io::Result<()> {
        stream.write_all(&self.0)
    }

    /// The answer to what is refused or not known.
    fn failure() -> Message {
        Message(vec![0, 0, 0, 1, kind::FAILURE])
    }

    /// It is a request that a client of a forwarded agent needs.
    fn passes(&self) -> bool {
        match &self.0[Message::HEADER..] {
            [kind::REQUEST_IDENTITIES | kind::SIGN_REQUEST, ..] => true,
            [kind::EXTENSION, rest @ ..] => extension(rest) == Some(SESSION_BIND),
            _ => false,
        }
    }
}

/// The name with which the body of an extension begins: its length (u32, big-endian), then its bytes.
fn extension(body: &[u8]) -> Option<&[u8]> {
    let (length, rest) = body.split_first_chunk()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests;
