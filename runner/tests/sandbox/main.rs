//! Containers on the real kernel, as root: the launcher is forked before the test threads.
//!
//! Each trial makes a root file system of a static busybox, starts containers in it and looks at what they
//! say, at what they leave in the root, and at the host. One module a topic.

mod cgroups;
mod chroot;
mod containment;
mod emulation;
mod hostile;
mod process;
mod stubs;
mod support;
mod vm;

use std::path::Path;

use libtest_mimic::{Arguments, Trial};
use support::Host;

fn main() -> std::process::ExitCode {
    // Some trials start this program anew, as an lbuild that is killed.
    if let Some(role) = std::env::args().nth(1).and_then(|argument| cgroups::Role::parse(&argument)) {
        return role.play();
    }
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, role, directory, kind] = &arguments[..]
        && role == chroot::ROLE
    {
        return chroot::play(Path::new(directory), kind);
    }
    if let [_, role, busybox] = &arguments[..]
        && role == emulation::ROLE
    {
        return emulation::play(Path::new(busybox));
    }
    let host: &'static Host = Box::leak(Box::new(Host::new()));
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (topic, tests) in [
        ("process", process::TESTS),
        ("containment", containment::TESTS),
        ("hostile", hostile::TESTS),
        ("stubs", stubs::TESTS),
        ("cgroups", cgroups::TESTS),
        ("chroot", chroot::TESTS),
    ] {
        for &(name, test) in tests {
            trials.push(Trial::test(format!("{topic}::{name}"), move || {
                test(host);
                Ok(())
            }));
        }
    }
    for (topic, tests, obstacle) in
        [("vm", vm::TESTS, vm::obstacle()), ("emulation", emulation::TESTS, emulation::obstacle())]
    {
        for &(name, test) in tests {
            let trial = Trial::test(format!("{topic}::{name}"), move || {
                test(host);
                Ok(())
            });
            trials.push(match obstacle {
                None => trial,
                Some(reason) => trial.with_kind(format!("skipped: {reason}")).with_ignored_flag(true),
            });
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
