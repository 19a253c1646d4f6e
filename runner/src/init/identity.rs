//! Privileges: resource limits, groups, ids, capabilities, the seccomp filter.
//!
//! The order is the kernel's: limits and groups while privileged; the bounding set while CAP_SETPCAP is
//! there; without no_new_privs the filter needs CAP_SYS_ADMIN, so it comes before the ids; with it, last.

use rustix::io::{Errno, Result};
use rustix::process::{Resource as Kernel, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet as KernelSet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::Seed;
use crate::capability::CapabilitySet;
use crate::error::{AtStep, Failure, Step};
use crate::process::Resource;
use crate::sys;
use crate::user::Identity;

/// Sets the resource limits asked for, over the ones lbuild was started with.
pub(super) fn limit_resources(seed: &Seed<'_>) -> std::result::Result<(), Failure> {
    // The launcher has raised its own.
    setrlimit(Kernel::Nofile, seed.nofile).at(|| Step::Detach)?;
    for &limit in &seed.job.process.rlimits {
        let resource = kernel_resource(limit.resource);
        let inherited = getrlimit(resource).maximum;
        setrlimit(resource, Rlimit { current: limit.soft, maximum: limit.hard })
            .map_err(|errno| Failure::Rlimit { limit, inherited, errno: errno.raw_os_error() })?;
    }
    Ok(())
}

fn kernel_resource(resource: Resource) -> Kernel {
    match resource {
        Resource::As => Kernel::As,
        Resource::Core => Kernel::Core,
        Resource::Cpu => Kernel::Cpu,
        Resource::Data => Kernel::Data,
        Resource::Fsize => Kernel::Fsize,
        Resource::Locks => Kernel::Locks,
        Resource::Memlock => Kernel::Memlock,
        Resource::Msgqueue => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::Nofile => Kernel::Nofile,
        Resource::Nproc => Kernel::Nproc,
        Resource::Rss => Kernel::Rss,
        Resource::Rtprio => Kernel::Rtprio,
        Resource::Rttime => Kernel::Rttime,
        Resource::Sigpending => Kernel::Sigpending,
        Resource::Stack => Kernel::Stack,
    }
}

/// Becomes the user, with the capabilities and the filter of the job and nothing else.
pub(super) fn become_user(seed: &Seed<'_>, identity: &Identity) -> std::result::Result<(), Failure> {
    let no_new_privileges = seed.job.security.no_new_privileges;
    let groups: Vec<Gid> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups).at(|| Step::Identity)?;
    bound(seed.capabilities).at(|| Step::Capabilities)?;
    if !no_new_privileges {
        install(seed)?;
    }
    set_keep_capabilities(true).at(|| Step::Identity)?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_res_gid(gid, gid, gid).at(|| Step::Identity)?;
    set_thread_res_uid(uid, uid, uid).at(|| Step::Identity)?;
    let kept = KernelSet::from_bits_retain(seed.capabilities.bits());
    // Inheritable stays empty: CVE-2022-24769. For a user other than root the exec empties the rest.
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: KernelSet::empty() };
    set_capabilities(None, sets).at(|| Step::Capabilities)?;
    clear_ambient_capability_set().at(|| Step::Capabilities)?;
    if no_new_privileges {
        set_no_new_privs(true).at(|| Step::Capabilities)?;
        install(seed)?;
    }
    Ok(())
}

/// Takes every other capability, those younger than this program too, out of reach for good.
fn bound(kept: CapabilitySet) -> Result<()> {
    for bit in (0..u64::BITS).map(|number| 1u64 << number).filter(|bit| kept.bits() & bit == 0) {
        match remove_capability_from_bounding_set(KernelSet::from_bits_retain(bit)) {
            // The kernel knows no such capability, and none above it.
            Err(Errno::INVAL) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn install(seed: &Seed<'_>) -> std::result::Result<(), Failure> {
    match seed.filter {
        Some(filter) => sys::install_filter(filter).at(|| Step::Seccomp),
        None => Ok(()),
    }
}
