//! The system calls that no safe wrapper offers, each made safe here: the only unsafe code of the crate.
//!
//! What lives here: `fork` and `clone3` of a single-threaded process, `mount_setattr`, the seccomp and
//! bpf calls, `wait4` with its resource usage, signal actions, the loopback interface, the machine code of
//! the trampoline. What does not: anything rustix or nix already wraps.
#![allow(unsafe_code)]

use std::arch::global_asm;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The result of a `fork`, as seen by each side.
pub(crate) enum Fork {
    /// We are the new process.
    Child,
    /// We are the old one; the child's process id.
    Parent(i32),
}

/// The result of a `clone3`, as seen by each side.
pub(crate) enum Clone {
    /// We are pid 1 of the container.
    Child,
    /// We are the launcher; the child's process id as we see it, and its pidfd.
    Parent { pid: i32, pidfd: OwnedFd },
}

/// Forks the calling process, which must have one thread only.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the caller has checked that the process has a single thread, so no lock is left held in the
    // child and it may go on to run any code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Clones the calling, single-threaded process into new namespaces and, on cgroup v2, into a cgroup.
pub(crate) fn clone_into(namespaces: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Clone> {
    /// `CLONE_INTO_CGROUP` of linux/sched.h; libc's constant is too narrow for it.
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers; all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { zeroed() };
    args.flags = namespaces.cast_unsigned().into();
    args.flags |= u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of memory and stack, as after fork; the launcher
    // is single-threaded, so its allocator is consistent in the child. `args` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Clone::Child),
        pid => Ok(Clone::Parent {
            pid: i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?,
            // SAFETY: the kernel stored a new descriptor that nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Ends the process at once: no destructors, no exit handlers, which belong to the process we forked from.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Ignores signals until an exec, and [`reset_signals`] in a child, say otherwise.
pub(crate) fn ignore_signals(signals: &[libc::c_int]) {
    for &signal in signals {
        // SAFETY: SIG_IGN is a valid action.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Gives every signal its default action and an empty mask, as a fresh program expects.
pub(crate) fn reset_signals() {
    /// At least as large as the kernel's `sigaction`, whose zero is the default action.
    const DEFAULT: [u64; 4] = [0; 4];
    const SET_BYTES: usize = 8;
    for signal in 1..=64 {
        // SAFETY: the kernel only reads the action; signals that refuse it (KILL, STOP) answer EINVAL. Not
        // by way of libc, which refuses the two it keeps to itself, though an exec may have left them ignored.
        unsafe {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), none, SET_BYTES);
        }
    }
    // SAFETY: the set is initialised by sigemptyset before it is read.
    unsafe {
        let mut none: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Closes every descriptor from `first` on that is not in `keep`.
///
/// The owners of the closed descriptors must never be dropped: the callers are forked children that end by
/// exec or [`exit_now`].
pub(crate) fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut next = first;
    for fd in kept.into_iter().filter(|&fd| fd >= first) {
        if fd > next {
            close_range(next, fd - 1, 0)?;
        }
        next = fd + 1;
    }
    close_range(next, u32::MAX, 0)
}

/// Makes `number` another name of a descriptor, one that an exec keeps.
///
/// Nobody may own `number`: the callers are forked children that have closed everything else.
pub(crate) fn place(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: both calls take plain numbers.
    check(unsafe {
        match descriptor.as_raw_fd() {
            same if same == number => libc::fcntl(same, libc::F_SETFD, 0).into(),
            other => libc::dup2(other, number).into(),
        }
    })
}

/// Marks every descriptor from `first` on close-on-exec.
pub(crate) fn cloexec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, last: u32, flags: u32) -> io::Result<()> {
    // SAFETY: see close_all_but: nobody uses the closed descriptors again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
}

/// The attributes `mount_setattr` changes; see mount_setattr(2).
#[derive(Clone, Copy, Default)]
pub(crate) struct MountAttributes {
    /// `MOUNT_ATTR_*` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub(crate) clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, … or 0 to leave it.
    pub(crate) propagation: u64,
    /// Whether the mounts below change too.
    pub(crate) recursive: bool,
}

/// Changes the mount that `mount` is the root of.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, attributes: MountAttributes) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `attr` is a whole mount_attr, both alive for the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Installs a seccomp filter for this thread. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `length` instructions from a slice that long; it writes nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    })
}

/// Joins a new, empty session keyring, so that the container cannot reach ours.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    })
}

/// Reaps a child that has ended: its wait status and what it used.
pub(crate) fn reap(pid: i32) -> io::Result<(i32, libc::rusage)> {
    let mut status = 0;
    // SAFETY: rusage is plain integers; both pointers are valid for the call.
    unsafe {
        let mut usage: libc::rusage = zeroed();
        loop {
            match libc::wait4(pid, &raw mut status, 0, &raw mut usage) {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return Err(io::Error::last_os_error()),
                _ => return Ok((status, usage)),
            }
        }
    }
}

/// Sets the loopback interface of the current network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    /// `IFF_UP | IFF_RUNNING` of linux/if.h.
    const UP_AND_RUNNING: libc::c_short = 0x1 | 0x40;
    // SAFETY: ifreq is plain data; the socket is owned by the OwnedFd; the ioctl reads and writes `request`.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request).into())
    }
}

/// One eBPF instruction, as the kernel lays it out (linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BpfInstruction {
    pub(crate) code: u8,
    /// Destination register in the low four bits, source in the high ones.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// Loads an eBPF program that decides on device access and attaches it to a cgroup.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    instructions: &[BpfInstruction],
) -> io::Result<()> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;

    #[repr(C)]
    #[derive(Default)]
    struct Load {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
    }
    let load = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len())
            .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: every pointer in `load` is valid for the call; the kernel copies what it needs, verifies the
    // program, and returns a new descriptor that nobody else owns.
    let program = unsafe {
        let fd = libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>());
        check(fd)?;
        OwnedFd::from_raw_fd(i32::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?)
    };
    let attach = Attach {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: both descriptors are open for the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<Attach>()) })
}

/// The library's convention for "see errno".
fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends a signal, real-time ones included, to the process of a pidfd.
pub(crate) fn signal_process(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is what kill(2) would send.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
}

// The trampoline (see `init::trampoline`), entered with the stack of a new program: the number of arguments,
// the arguments, a null, the environment. It closes descriptor 3 on exec, which fails if it is not open, then
// executes its first argument with the others. If that fails it writes the negative error number to 3.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.runner_trampoline, \"a\"",
    ".hidden runner_trampoline",
    ".globl runner_trampoline",
    "runner_trampoline:",
    "mov eax, 72", // fcntl(3, F_SETFD, FD_CLOEXEC)
    "mov edi, 3",
    "mov esi, 2",
    "mov edx, 1",
    "syscall",
    "test eax, eax",
    "jnz 2f",
    "mov eax, 59", // execve(argv[0], argv + 1, environment)
    "mov rdi, [rsp + 8]",
    "lea rsi, [rsp + 16]",
    "mov rdx, [rsp]",
    "lea rdx, [rsi + rdx * 8]",
    "syscall",
    "push rax",
    "mov eax, 1", // write(3, result, 4)
    "mov edi, 3",
    "mov rsi, rsp",
    "mov edx, 4",
    "syscall",
    "2: mov eax, 231", // exit_group(126)
    "mov edi, 126",
    "syscall",
    ".hidden runner_trampoline_end",
    ".globl runner_trampoline_end",
    "runner_trampoline_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.runner_trampoline, \"a\"",
    ".balign 4",
    ".hidden runner_trampoline",
    ".globl runner_trampoline",
    "runner_trampoline:",
    "mov x8, #25", // fcntl(3, F_SETFD, FD_CLOEXEC)
    "mov x0, #3",
    "mov x1, #2",
    "mov x2, #1",
    "svc #0",
    "cbnz x0, 2f",
    "mov x8, #221", // execve(argv[0], argv + 1, environment)
    "ldr x0, [sp, #8]",
    "add x1, sp, #16",
    "ldr x2, [sp]",
    "add x2, x1, x2, lsl #3",
    "svc #0",
    "str x0, [sp]",
    "mov x8, #64", // write(3, result, 4)
    "mov x0, #3",
    "mov x1, sp",
    "mov x2, #4",
    "svc #0",
    "2: mov x8, #94", // exit_group(126)
    "mov x0, #126",
    "svc #0",
    ".hidden runner_trampoline_end",
    ".globl runner_trampoline_end",
    "runner_trampoline_end:",
    ".popsection",
);

/// The machine code of the trampoline; it may be loaded anywhere.
pub(crate) fn trampoline() -> &'static [u8] {
    unsafe extern "C" {
        #[link_name = "runner_trampoline"]
        static START: u8;
        #[link_name = "runner_trampoline_end"]
        static END: u8;
    }
    let (start, end) = (&raw const START, &raw const END);
    // SAFETY: the two symbols above bound the bytes of one read-only section.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}
