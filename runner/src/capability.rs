//! Capabilities by name: Docker's default set, adding and dropping, as capabilities(7) numbers them.
//!
//! What does not live here: applying them to a process (`init::identity`).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

macro_rules! capabilities {
    ($($variant:ident = $number:literal $name:literal,)*) => {
        /// One capability; the discriminant is its number in the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "capabilities(7) documents each")]
        pub enum Capability { $($variant = $number,)* }

        /// Every capability with its name, without the `CAP_` prefix.
        const NAMES: &[(Capability, &str)] = &[$((Capability::$variant, $name),)*];
    };
}

capabilities! {
    Chown = 0 "CHOWN",
    DacOverride = 1 "DAC_OVERRIDE",
    DacReadSearch = 2 "DAC_READ_SEARCH",
    Fowner = 3 "FOWNER",
    Fsetid = 4 "FSETID",
    Kill = 5 "KILL",
    Setgid = 6 "SETGID",
    Setuid = 7 "SETUID",
    Setpcap = 8 "SETPCAP",
    LinuxImmutable = 9 "LINUX_IMMUTABLE",
    NetBindService = 10 "NET_BIND_SERVICE",
    NetBroadcast = 11 "NET_BROADCAST",
    NetAdmin = 12 "NET_ADMIN",
    NetRaw = 13 "NET_RAW",
    IpcLock = 14 "IPC_LOCK",
    IpcOwner = 15 "IPC_OWNER",
    SysModule = 16 "SYS_MODULE",
    SysRawio = 17 "SYS_RAWIO",
    SysChroot = 18 "SYS_CHROOT",
    SysPtrace = 19 "SYS_PTRACE",
    SysPacct = 20 "SYS_PACCT",
    SysAdmin = 21 "SYS_ADMIN",
    SysBoot = 22 "SYS_BOOT",
    SysNice = 23 "SYS_NICE",
    SysResource = 24 "SYS_RESOURCE",
    SysTime = 25 "SYS_TIME",
    SysTtyConfig = 26 "SYS_TTY_CONFIG",
    Mknod = 27 "MKNOD",
    Lease = 28 "LEASE",
    AuditWrite = 29 "AUDIT_WRITE",
    AuditControl = 30 "AUDIT_CONTROL",
    Setfcap = 31 "SETFCAP",
    MacOverride = 32 "MAC_OVERRIDE",
    MacAdmin = 33 "MAC_ADMIN",
    Syslog = 34 "SYSLOG",
    WakeAlarm = 35 "WAKE_ALARM",
    BlockSuspend = 36 "BLOCK_SUSPEND",
    AuditRead = 37 "AUDIT_READ",
    Perfmon = 38 "PERFMON",
    Bpf = 39 "BPF",
    CheckpointRestore = 40 "CHECKPOINT_RESTORE",
}

/// A set of capabilities: bit N is capability number N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CapabilitySet(u64);

impl Default for CapabilitySet {
    /// What Docker gives a container that asks for nothing.
    fn default() -> Self {
        use Capability::{
            AuditWrite, Chown, DacOverride, Fowner, Fsetid, Kill, Mknod, NetBindService, NetRaw, Setfcap,
            Setgid, Setpcap, Setuid, SysChroot,
        };
        [
            Chown,
            DacOverride,
            Fsetid,
            Fowner,
            Mknod,
            NetRaw,
            Setgid,
            Setuid,
            Setfcap,
            Setpcap,
            NetBindService,
            SysChroot,
            Kill,
            AuditWrite,
        ]
        .into_iter()
        .fold(Self::EMPTY, Self::with)
    }
}

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability this crate knows.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// Those of [`CapabilitySet::ALL`] that the calling thread may use and hand on.
    #[must_use]
    pub fn held() -> Self {
        // Of the calling thread the kernel always answers.
        let permitted = rustix::thread::capabilities(None).map_or(0, |sets| sets.permitted.bits());
        Self(Self::ALL.0 & permitted)
    }

    /// Whether the set holds a capability.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u32) != 0
    }

    /// The set and one capability.
    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u32)
    }

    /// The set less one capability.
    #[must_use]
    pub fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability as u32))
    }

    /// The bits as `/proc/PID/status` shows them.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Applies `--cap-add` and `--cap-drop` as Docker does: names with or without `CAP_`, in any case,
    /// `ALL` for every one that lbuild has. `ALL` on one side is the base from which the other side takes or gives; a name
    /// on both sides is dropped only if it is not added.
    pub fn adjusted(self, add: &[String], drop: &[String]) -> Result<Self> {
        let (added, dropped) = (parse_all(add)?, parse_all(drop)?);
        let base = match (added == Self::ALL, dropped == Self::ALL) {
            (true, _) => return Ok(Self(Self::held().0 & !if dropped == Self::ALL { 0 } else { dropped.0 })),
            (false, true) => Self::EMPTY,
            (false, false) => Self(self.0 & !dropped.0),
        };
        Ok(Self(base.0 | added.0))
    }
}

fn parse_all(names: &[String]) -> Result<CapabilitySet> {
    names.iter().try_fold(CapabilitySet::EMPTY, |set, name| Ok(CapabilitySet(set.0 | parse(name)?.0)))
}

/// One name, or `ALL`.
fn parse(name: &str) -> Result<CapabilitySet> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" {
        return Ok(CapabilitySet::ALL);
    }
    match NAMES.iter().find(|(_, known)| *known == bare) {
        Some((capability, _)) => Ok(CapabilitySet::EMPTY.with(*capability)),
        None => Err(Error::UnknownCapability { name: name.to_owned(), suggestion: nearest(bare) }),
    }
}

/// The known name that is a few typing errors away, if there is one.
fn nearest(name: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .map(|(_, known)| (distance(name, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(add: &[&str], drop: &[&str]) -> Result<CapabilitySet> {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        CapabilitySet::default().adjusted(&own(add), &own(drop))
    }

    #[test]
    fn the_default_is_docker_s() {
        assert_eq!(CapabilitySet::default().bits(), 0xa804_25fb);
        assert!(NAMES.iter().enumerate().all(|(at, (capability, _))| *capability as usize == at));
    }

    #[test]
    fn adding_and_dropping() {
        let default = CapabilitySet::default();
        for (add, drop, expected) in [
            (&["sys_admin"][..], &[][..], default.with(Capability::SysAdmin)),
            (&[], &["CAP_MKNOD"], default.without(Capability::Mknod)),
            (&["Cap_Chown"], &["ALL"], CapabilitySet::EMPTY.with(Capability::Chown)),
            (&["ALL"], &["net_raw"], CapabilitySet::held().without(Capability::NetRaw)),
            (&["all"], &["all"], CapabilitySet::held()),
            (&["MKNOD"], &["MKNOD"], default),
        ] {
            assert_eq!(adjusted(add, drop).unwrap(), expected, "+{add:?} -{drop:?}");
        }
    }

    #[test]
    fn unknown_names_are_errors_with_a_suggestion() {
        for (name, text) in [
            ("SYS_ADMN", "unknown capability `SYS_ADMN`; did you mean `SYS_ADMIN`?"),
            ("cap_netraw", "unknown capability `cap_netraw`; did you mean `NET_RAW`?"),
            ("zzzzzzzz", "unknown capability `zzzzzzzz`"),
        ] {
            assert_eq!(adjusted(&[name], &[]).unwrap_err().to_string(), text);
        }
    }
}
