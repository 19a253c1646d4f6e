//! The compiled filters, executed by a small interpreter of classic BPF.

use super::*;
use crate::capability::Capability;

/// What the kernel would do with a call: the value a filter returns.
fn execute(program: &[sock_filter], architecture: u32, number: u32, argument: u64) -> u32 {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&number.to_le_bytes());
    data[4..8].copy_from_slice(&architecture.to_le_bytes());
    data[16..24].copy_from_slice(&argument.to_le_bytes());
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let step = program[at];
        at += 1;
        let k = step.k;
        let taken = |condition: bool| usize::from(if condition { step.jt } else { step.jf });
        match u32::from(step.code) {
            0x20 => {
                let word = &data[k as usize..k as usize + 4];
                accumulator = u32::from_le_bytes(word.try_into().unwrap());
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += taken(accumulator == k),
            0x35 => at += taken(accumulator >= k),
            0x45 => at += taken(accumulator & k != 0),
            0x06 => return k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn program(architecture: Architecture, capabilities: CapabilitySet) -> Vec<sock_filter> {
    let mut program = vec![load(NUMBER_OFFSET)];
    program.extend(search(&ranges(architecture, capabilities)));
    program
}

#[test]
fn the_search_agrees_with_the_table_for_every_number_and_architecture() {
    let everything = CapabilitySet::ALL;
    for architecture in [Architecture::X86_64, Architecture::I386, Architecture::X32, Architecture::Aarch64] {
        for capabilities in [CapabilitySet::default(), CapabilitySet::EMPTY, everything] {
            let program = program(architecture, capabilities);
            let table = decisions(architecture, capabilities);
            let known = *table.last_key_value().unwrap().0;
            for number in 0..=known + 50 {
                let expected = match table.get(&number) {
                    Some(Decision::Allow) => ALLOW,
                    Some(Decision::Refuse(errno)) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
                    Some(Decision::AllowIf(_)) => continue,
                    None if number > known => ENOSYS,
                    None => EPERM,
                };
                assert_eq!(execute(&program, 0, number, 0), expected, "{architecture:?} {number}");
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn docker_s_decisions_hold_on_x86() {
    let default = compile(CapabilitySet::default());
    let admin = compile(CapabilitySet::default().with(Capability::SysAdmin));
    let number = |name, architecture| syscalls::number(name, architecture).unwrap();
    let x64 = |name| (AUDIT_X86_64, number(name, Architecture::X86_64));
    let i386 = |name| (AUDIT_I386, number(name, Architecture::I386));
    let x32 = |name| (AUDIT_X86_64, number(name, Architecture::X32) | X32_BIT);
    for ((architecture, number), argument, expected, expected_admin) in [
        (x64("read"), 0, ALLOW, ALLOW),
        (i386("read"), 0, ALLOW, ALLOW),
        (x32("read"), 0, ALLOW, ALLOW),
        (x32("execve"), 0, ALLOW, ALLOW),
        (x64("mount"), 0, EPERM, ALLOW),
        (i386("mount"), 0, EPERM, ALLOW),
        (x32("mount"), 0, EPERM, ALLOW),
        (x64("unshare"), 0, EPERM, ALLOW),
        (x64("chroot"), 0, ALLOW, ALLOW),
        (x64("reboot"), 0, EPERM, EPERM),
        (x64("init_module"), 0, EPERM, EPERM),
        (x64("clone3"), 0, ENOSYS, ALLOW),
        (x64("clone"), 0x11, ALLOW, ALLOW),
        (x64("clone"), 0x1000_0000, EPERM, ALLOW),
        (x64("socket"), 2, ALLOW, ALLOW),
        (x64("socket"), 38, EPERM, EPERM),
        (x64("socket"), 39, ALLOW, ALLOW),
        (x64("socket"), 40, EPERM, EPERM),
        (x64("socket"), 41, ALLOW, ALLOW),
        // The kernel looks at the low word only, so must we.
        (x64("socket"), 0x1_0000_0026, EPERM, EPERM),
        (x64("personality"), 0xffff_ffff, ALLOW, ALLOW),
        (x64("personality"), 0x40000, EPERM, EPERM),
        ((AUDIT_X86_64, 5000), 0, ENOSYS, ENOSYS),
        ((AUDIT_X86_64, 5000 | X32_BIT), 0, ENOSYS, ENOSYS),
        ((AUDIT_X86_64, u32::MAX), 0, ALLOW, ALLOW),
        // io_uring: known to the profile's age, never named by it.
        ((AUDIT_X86_64, 425), 0, EPERM, EPERM),
        ((AUDIT_AARCH64, 63), 0, ENOSYS, ENOSYS),
    ] {
        let got = (
            execute(&default, architecture, number, argument),
            execute(&admin, architecture, number, argument),
        );
        assert_eq!(got, (expected, expected_admin), "{architecture:#x} {number} {argument:#x}");
    }
}

#[test]
fn the_program_fits_what_the_kernel_takes() {
    for capabilities in [CapabilitySet::default(), CapabilitySet::EMPTY, CapabilitySet::ALL] {
        assert!(compile(capabilities).len() < 4096, "BPF_MAXINSNS");
    }
}
