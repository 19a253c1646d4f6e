//! What client, launcher and container say to each other, and how.
//!
//! Each message is one JSON datagram on a `SOCK_SEQPACKET` socket, its descriptors by `SCM_RIGHTS`. A job is
//! too large for a datagram: it travels as a memory file. Both ends are the same binary, so there is no
//! version; neither end is hostile, for the container's program never holds a descriptor of these.

use std::io::{self, IoSlice, IoSliceMut, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::limits::Limits;
use crate::process::{Exit, Io, Process, WindowSize};
use crate::sandbox::{FileMount, MountSource, Network, Sandbox, Security};

/// The most descriptors one message carries (`SCM_MAX_FD`).
const DESCRIPTORS: usize = 253;
/// The longest datagram. The longest real one names two paths.
const DATAGRAM_BYTES: usize = 32 << 10;

/// A container to start. Its descriptors, in order: the job itself, the status socket, the root, the three
/// streams unless there is a terminal, the sources of the bind mounts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) process: Process,
    pub(crate) read_only_root: bool,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) files: Vec<FileMount>,
    pub(crate) files_in_mounts: Vec<FileMount>,
    pub(crate) network: Network,
    pub(crate) limits: Limits,
    pub(crate) cgroup_parent: Option<PathBuf>,
    pub(crate) security: Security,
    pub(crate) hostname: String,
    pub(crate) shm_size_bytes: u64,
    /// The size of the terminal, if there is one.
    pub(crate) terminal: Option<WindowSize>,
}

/// A mount, its descriptor apart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub(crate) target: PathBuf,
    pub(crate) source: SourcePlan,
    pub(crate) read_only: bool,
}

/// What a mount shows, its descriptor apart: the binds take the job's in order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SourcePlan {
    Bind,
    Tmpfs { size_bytes: Option<u64>, mode: u32 },
}

/// What the client adds to a job on the control socket: nothing, the descriptors say it all.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Submission;

/// What the launcher tells the client about its container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It runs. Descriptors: its pidfd, and the terminal's master if there is one.
    Started { pid: u32 },
    /// It could not be started; nothing of it is left.
    Failed(Failure),
    /// It ended; nothing of it is left.
    Exited(Exit),
}

/// What a container being set up tells the launcher. The end of the conversation is the exec.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A mount point was created. Descriptor: the directory it was created in.
    Stub(StubRecord),
    /// The terminal was opened. Descriptor: its master.
    Terminal,
    /// It gave up.
    Failed(Failure),
    /// The trampoline could not execute the program. It knows no JSON: four bytes, the negative error number.
    NotExecuted { errno: i32 },
}

/// A mount point that the sandbox created in the root file system.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StubRecord {
    pub(crate) name: std::ffi::OsString,
    pub(crate) directory: bool,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// The parent's modification time before, and after; seconds and nanoseconds.
    pub(crate) parent_before: (i64, i64),
    pub(crate) parent_after: (i64, i64),
}

/// A job and its descriptors, ready to be sent.
pub(crate) fn pack(sandbox: Sandbox, process: &Process, io: Io) -> io::Result<(OwnedFd, Vec<OwnedFd>)> {
    let mut descriptors = vec![sandbox.root];
    let terminal = match io {
        Io::Streams { stdin, stdout, stderr } => {
            descriptors.extend([stdin, stdout, stderr]);
            None
        }
        Io::Tty { size } => Some(size),
    };
    let mut mounts = Vec::with_capacity(sandbox.mounts.len());
    for mount in sandbox.mounts {
        let source = match mount.source {
            MountSource::Bind(source) => {
                descriptors.push(source);
                SourcePlan::Bind
            }
            MountSource::Tmpfs { size_bytes, mode } => SourcePlan::Tmpfs { size_bytes, mode },
        };
        mounts.push(MountPlan { target: mount.target, source, read_only: mount.read_only });
    }
    let job = Job {
        process: process.clone(),
        read_only_root: sandbox.read_only_root,
        mounts,
        files: sandbox.files,
        files_in_mounts: sandbox.files_in_mounts,
        network: sandbox.network,
        limits: sandbox.limits,
        cgroup_parent: sandbox.cgroup_parent,
        security: sandbox.security,
        hostname: sandbox.hostname,
        shm_size_bytes: sandbox.shm_size_bytes,
        terminal,
    };
    let mut file = std::fs::File::from(memfd_create("job", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(&job)?)?;
    file.rewind()?;
    Ok((file.into(), descriptors))
}

/// A pair of connected sockets that keep message boundaries and tell of the other's end.
pub(crate) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message. A peer that is gone is an error, never a signal.
pub(crate) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(&socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message and its descriptors; none when the other side is gone.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, descriptors)) = receive_datagram(socket)? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&bytes)?, descriptors)))
}

/// Receives one message of a container being set up, or of its trampoline.
pub(crate) fn receive_report(socket: impl AsFd) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
    let Some((bytes, descriptors)) = receive_datagram(socket)? else { return Ok(None) };
    let report = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(number) => Report::NotExecuted { errno: i32::from_ne_bytes(number).wrapping_neg() },
        Err(_) => serde_json::from_slice(&bytes)?,
    };
    Ok(Some((report, descriptors)))
}

fn receive_datagram(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; DATAGRAM_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    match received.bytes {
        0 => Ok(None),
        length => {
            bytes.truncate(length);
            Ok(Some((bytes, descriptors)))
        }
    }
}
