//! Seccomp: from the profile and a set of capabilities to a BPF program.
//!
//! Order: collect the decision for each number of an architecture → merge neighbours into ranges → emit a
//! binary search over the ranges → join the architectures behind a test of the audit word. What does not
//! live here: installing the program (`sys`), the profile (`profile`), the numbers (`syscalls`).
//!
//! A tree instead of a list keeps the load cheap: the kernel runs the program once for every number when it
//! is installed. Decisions: allowed; known and forbidden, EPERM; younger than the profile, ENOSYS, so that
//! programs fall back instead of giving up.

mod profile;
mod syscalls;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use libc::sock_filter;

use crate::capability::CapabilitySet;
use profile::Test;
use syscalls::Architecture;

/// Offsets into `struct seccomp_data` (linux/seccomp.h).
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
/// The low word of the first argument on a little-endian machine.
const ARGUMENT_OFFSET: u32 = 16;

/// Words that name an architecture (linux/audit.h).
const AUDIT_X86_64: u32 = 0xC000_003E;
const AUDIT_I386: u32 = 0x4000_0003;
const AUDIT_AARCH64: u32 = 0xC000_00B7;
/// Set in the number of an x32 call.
const X32_BIT: u32 = 0x4000_0000;
/// The number the kernel shows a filter when a tracer has skipped the call: let it pass, it does nothing.
const SKIPPED: u32 = u32::MAX;

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Allow,
    /// With this error number.
    Refuse(i32),
    AllowIf(Test),
}

const FORBIDDEN: Decision = Decision::Refuse(libc::EPERM);
const ABSENT: Decision = Decision::Refuse(libc::ENOSYS);

/// Compiles the default profile for this machine and these capabilities.
pub(crate) fn compile(capabilities: CapabilitySet) -> Vec<sock_filter> {
    let arm = cfg!(target_arch = "aarch64");
    let architectures: &[(u32, Vec<sock_filter>)] = &if arm {
        vec![(AUDIT_AARCH64, search(&ranges(Architecture::Aarch64, capabilities)))]
    } else {
        vec![
            (AUDIT_X86_64, x86_64_and_x32(capabilities)),
            (AUDIT_I386, search(&ranges(Architecture::I386, capabilities))),
        ]
    };
    let mut program = vec![load(ARCHITECTURE_OFFSET)];
    for (word, decide) in architectures {
        let mut body = vec![load(NUMBER_OFFSET)];
        body.extend_from_slice(decide);
        // A body is longer than a conditional jump reaches, so the miss goes by an unconditional one.
        program.push(jump(libc::BPF_JEQ, *word, 1, 0));
        program.push(jump_always(body.len()));
        program.extend(body);
    }
    program.push(ret(ABSENT));
    program
}

/// Splits the calls that share x86_64's audit word by x32's marker bit. Expects the number loaded.
fn x86_64_and_x32(capabilities: CapabilitySet) -> Vec<sock_filter> {
    let native = search(&ranges(Architecture::X86_64, capabilities));
    let mut program = vec![
        jump(libc::BPF_JEQ, SKIPPED, 0, 1),
        ret(Decision::Allow),
        jump(libc::BPF_JGE, X32_BIT, 0, 1),
        jump_always(native.len()),
    ];
    program.extend(native);
    program.push(load(NUMBER_OFFSET));
    program.push(statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, !X32_BIT));
    program.extend(search(&ranges(Architecture::X32, capabilities)));
    program
}

/// The decisions of one architecture as ranges: each from its number up to the next range's.
fn ranges(architecture: Architecture, capabilities: CapabilitySet) -> Vec<(u32, Decision)> {
    let decisions = decisions(architecture, capabilities);
    let known = decisions.last_key_value().map_or(0, |(&number, _)| number);
    let mut ranges: Vec<(u32, Decision)> = Vec::new();
    for number in 0..=known + 1 {
        let gap = if number > known { ABSENT } else { FORBIDDEN };
        let decision = decisions.get(&number).copied().unwrap_or(gap);
        if ranges.last().is_none_or(|&(_, last)| last != decision) {
            ranges.push((number, decision));
        }
    }
    ranges
}

/// What the profile says about each number it names.
fn decisions(architecture: Architecture, capabilities: CapabilitySet) -> BTreeMap<u32, Decision> {
    let mut decisions = BTreeMap::new();
    let mut decide = |name: &str, decision| {
        if let Some(number) = syscalls::number(name, architecture) {
            decisions.insert(number, decision);
        }
    };
    // Named but locked calls are known, hence forbidden rather than absent: said first, overridden below.
    for row in syscalls::SYSCALLS {
        decide(row.name, FORBIDDEN);
    }
    profile::ALWAYS.iter().for_each(|name| decide(name, Decision::Allow));
    if architecture != Architecture::Aarch64 {
        profile::X86.iter().for_each(|name| decide(name, Decision::Allow));
    }
    if matches!(architecture, Architecture::X86_64 | Architecture::X32) {
        profile::X86_64.iter().for_each(|name| decide(name, Decision::Allow));
    }
    for (capability, names) in profile::BY_CAPABILITY {
        if capabilities.has(*capability) {
            names.iter().for_each(|name| decide(name, Decision::Allow));
        }
    }
    for rule in profile::CONDITIONAL {
        let unlocked = rule.unless.is_some_and(|capability| capabilities.has(capability));
        decide(rule.name, if unlocked { Decision::Allow } else { Decision::AllowIf(rule.test) });
    }
    for (name, capability) in profile::ABSENT {
        decide(name, if capabilities.has(*capability) { Decision::Allow } else { ABSENT });
    }
    decisions
}

/// Emits a balanced search for the range that holds the loaded number.
fn search(ranges: &[(u32, Decision)]) -> Vec<sock_filter> {
    let [.., _, _] = ranges else {
        return ranges.first().map_or_else(Vec::new, |&(_, decision)| leaf(decision));
    };
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (low, high) = (search(below), search(above));
    let mut program = Vec::with_capacity(low.len() + high.len() + 2);
    match u8::try_from(low.len()) {
        Ok(distance) => program.push(jump(libc::BPF_JGE, above[0].0, distance, 0)),
        Err(_) => {
            program.push(jump(libc::BPF_JGE, above[0].0, 0, 1));
            program.push(jump_always(low.len()));
        }
    }
    program.extend(low);
    program.extend(high);
    program
}

/// Emits the end of a search.
fn leaf(decision: Decision) -> Vec<sock_filter> {
    let Decision::AllowIf(test) = decision else { return vec![ret(decision)] };
    let argument = load(ARGUMENT_OFFSET);
    let by_values = |values: &[u32], found: Decision, otherwise: Decision| {
        let mut program = vec![argument];
        for value in values {
            program.push(jump(libc::BPF_JEQ, *value, 0, 1));
            program.push(ret(found));
        }
        program.push(ret(otherwise));
        program
    };
    match test {
        Test::OneOf(values) => by_values(values, Decision::Allow, FORBIDDEN),
        Test::NoneOf(values) => by_values(values, FORBIDDEN, Decision::Allow),
        Test::BitsClear(bits) => {
            vec![argument, jump(libc::BPF_JSET, bits, 0, 1), ret(FORBIDDEN), ret(Decision::Allow)]
        }
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    // Every classic BPF opcode fits 8 bits.
    sock_filter { code: (code & 0xff) as u16, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn jump(operation: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { jt: yes, jf: no, ..statement(libc::BPF_JMP | operation | libc::BPF_K, k) }
}

fn jump_always(distance: usize) -> sock_filter {
    let distance = u32::try_from(distance).unwrap_or(u32::MAX);
    statement(libc::BPF_JMP | libc::BPF_JA, distance)
}

fn ret(decision: Decision) -> sock_filter {
    let value = match decision {
        Decision::Refuse(errno) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
        Decision::Allow | Decision::AllowIf(_) => libc::SECCOMP_RET_ALLOW,
    };
    statement(libc::BPF_RET | libc::BPF_K, value)
}
