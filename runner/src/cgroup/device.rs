//! Which devices a container may use: Docker's list, for cgroup v1's files and v2's program.
//!
//! A container may make any node (it has CAP_MKNOD) but open only the harmless ones. On v2 the kernel runs a
//! small eBPF program at each access; see the kernel's cgroup-v2 document, "Device controller".

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::sys::{self, BpfInstruction};

/// Character devices that may be read and written; a minor of none is every minor.
const HARMLESS: &[(u32, Option<u32>)] = &[
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pseudo-terminals
];

/// Restricts a v1 cgroup of the devices controller.
pub(super) fn restrict_v1(directory: &Path) -> io::Result<()> {
    super::write(&directory.join("devices.deny"), "a")?;
    let allow = directory.join("devices.allow");
    super::write(&allow, "c *:* m")?;
    super::write(&allow, "b *:* m")?;
    for (major, minor) in HARMLESS {
        let minor = minor.map_or("*".to_owned(), |minor| minor.to_string());
        super::write(&allow, &format!("c {major}:{minor} rwm"))?;
    }
    Ok(())
}

/// Restricts a v2 cgroup.
pub(super) fn restrict_v2(directory: BorrowedFd<'_>) -> io::Result<()> {
    sys::attach_device_program(directory, &program())
}

/// Making a node, as the kernel encodes an access (linux/bpf.h, BPF_DEVCG_*).
const ACCESS_MKNOD: i32 = 1;
const DEVICE_CHARACTER: i32 = 2;

/// The program: its context in r1 is `{ access << 16 | type, major, minor }`, its result 1 for yes.
fn program() -> Vec<BpfInstruction> {
    const LOAD_WORD: u8 = 0x61;
    const MOVE: u8 = 0xb7;
    const MOVE_REGISTER: u8 = 0xbf;
    const AND: u8 = 0x57;
    const SHIFT_RIGHT: u8 = 0x77;
    const JUMP_EQUAL: u8 = 0x15;
    const JUMP_NOT_EQUAL: u8 = 0x55;
    const EXIT: u8 = 0x95;
    let op = |code, destination: u8, source: u8, offset, immediate| BpfInstruction {
        code,
        registers: source << 4 | destination,
        offset,
        immediate,
    };
    let answer = |yes| [op(MOVE, 0, 0, 0, yes), op(EXIT, 0, 0, 0, 0)];
    let mut program = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(MOVE_REGISTER, 3, 2, 0, 0),
        op(AND, 2, 0, 0, 0xffff),     // r2: type
        op(SHIFT_RIGHT, 3, 0, 0, 16), // r3: access
        op(LOAD_WORD, 4, 1, 4, 0),    // r4: major
        op(LOAD_WORD, 5, 1, 8, 0),    // r5: minor
        op(JUMP_NOT_EQUAL, 3, 0, 2, ACCESS_MKNOD),
    ];
    program.extend(answer(1));
    program.push(op(JUMP_EQUAL, 2, 0, 2, DEVICE_CHARACTER));
    program.extend(answer(0));
    for &(major, minor) in HARMLESS {
        let major = major.cast_signed();
        match minor {
            Some(minor) => {
                program.push(op(JUMP_NOT_EQUAL, 4, 0, 3, major));
                program.push(op(JUMP_NOT_EQUAL, 5, 0, 2, minor.cast_signed()));
            }
            None => program.push(op(JUMP_NOT_EQUAL, 4, 0, 2, major)),
        }
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executes the few instructions the program uses.
    fn allowed(access: u32, kind: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u32; 8];
        let program = program();
        let mut at = 0;
        loop {
            let step = program[at];
            at += 1;
            let (destination, source) = ((step.registers & 15) as usize, (step.registers >> 4) as usize);
            let immediate = step.immediate.cast_unsigned();
            let jump = usize::try_from(step.offset).unwrap();
            match step.code {
                0x61 => registers[destination] = context[jump / 4],
                0xb7 => registers[destination] = immediate,
                0xbf => registers[destination] = registers[source],
                0x57 => registers[destination] &= immediate,
                0x77 => registers[destination] >>= immediate,
                0x15 if registers[destination] == immediate => at += jump,
                0x55 if registers[destination] != immediate => at += jump,
                0x15 | 0x55 => {}
                0x95 => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn nodes_may_be_made_and_only_the_harmless_used() {
        const READ_WRITE: u32 = 6;
        const BLOCK: u32 = 1;
        const CHARACTER: u32 = 2;
        for (access, kind, major, minor, expected) in [
            (1, BLOCK, 8, 0, true),
            (1, CHARACTER, 1, 1, true),
            (READ_WRITE, CHARACTER, 1, 3, true),
            (READ_WRITE, CHARACTER, 136, 77, true),
            (READ_WRITE, CHARACTER, 1, 1, false),
            (READ_WRITE, CHARACTER, 10, 200, false),
            (READ_WRITE, BLOCK, 1, 3, false),
            (READ_WRITE | 1, BLOCK, 8, 0, false),
        ] {
            assert_eq!(allowed(access, kind, major, minor), expected, "{access} {kind} {major}:{minor}");
        }
    }
}
