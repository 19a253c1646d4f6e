//! From a limit asked for to the files that set it, in cgroup v1 and v2.
//!
//! What does not live here: which version has a controller (`hierarchy`), writing the files (the parent
//! module), whether a limit can be meant ([`Limits::check`]).

use super::hierarchy::Controller;
use crate::error::Limit;
use crate::limits::Limits;

/// The period over which processor time is shared out, in microseconds: the kernel's default.
const CPU_PERIOD_MICROS: u64 = 100_000;
/// The kernel refuses smaller quotas.
const LEAST_CPU_QUOTA_MICROS: i64 = 1_000;
/// The kernel's bounds of `cpu.shares`, beyond which it takes the bound itself.
const CPU_SHARES: (u64, u64) = (2, 262_144);

/// A limit asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    MemoryBytes(u64),
    Swap(Swap),
    Cpu { quota_micros: Option<i64>, period_micros: u64 },
    CpuShares(u64),
    Processors(&'a str),
    Nodes(&'a str),
    Pids(u64),
}

/// How much swap there is beside the memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Swap {
    /// Nobody said: none, where the kernel counts swap.
    None { memory_bytes: u64 },
    /// So much that the sum is this.
    Sum { memory_bytes: u64, bytes: u64 },
}

/// A file, what to write to it, and whether a kernel may lack it.
pub(super) type Setting = (&'static str, String, bool);

impl<'a> Asked<'a> {
    /// In the order to set them: a limit with swap cannot be below the one without.
    pub(super) fn of(limits: &'a Limits) -> Vec<Asked<'a>> {
        let swap = match (limits.memory_bytes, limits.memory_swap_bytes) {
            (None, _) => None,
            (Some(memory_bytes), None) => Some(Swap::None { memory_bytes }),
            // -1: a new cgroup is not limited.
            (Some(memory_bytes), Some(sum)) => {
                u64::try_from(sum).ok().map(|bytes| Swap::Sum { memory_bytes, bytes })
            }
        };
        [
            limits.memory_bytes.map(Asked::MemoryBytes),
            swap.map(Asked::Swap),
            cpu(limits),
            limits.cpu_shares.map(Asked::CpuShares),
            limits.cpuset_cpus.as_deref().map(Asked::Processors),
            limits.cpuset_mems.as_deref().map(Asked::Nodes),
            limits.pids.map(Asked::Pids),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The controller that enforces it.
    pub(super) fn controller(&self) -> Controller {
        match self {
            Asked::MemoryBytes(_) | Asked::Swap(_) => Controller::Memory,
            Asked::Cpu { .. } | Asked::CpuShares(_) => Controller::Cpu,
            Asked::Processors(_) | Asked::Nodes(_) => Controller::Cpuset,
            Asked::Pids(_) => Controller::Pids,
        }
    }

    /// What an error calls it.
    pub(super) fn limit(&self) -> Limit {
        match self {
            Asked::MemoryBytes(_) => Limit::Memory,
            Asked::Swap(_) => Limit::Swap,
            Asked::Cpu { .. } | Asked::CpuShares(_) => Limit::Cpu,
            Asked::Processors(_) => Limit::Processors,
            Asked::Nodes(_) => Limit::Nodes,
            Asked::Pids(_) => Limit::Pids,
        }
    }

    /// The files to write, in order.
    pub(super) fn files(&self, v2: bool) -> Vec<Setting> {
        match (self, v2) {
            (Asked::MemoryBytes(bytes), false) => {
                vec![("memory.limit_in_bytes", bytes.to_string(), false)]
            }
            (Asked::MemoryBytes(bytes), true) => {
                vec![("memory.max", bytes.to_string(), false), ("memory.oom.group", "1".to_owned(), true)]
            }
            (Asked::Swap(swap), _) => vec![swap.file(v2)],
            (Asked::Cpu { quota_micros, period_micros }, false) => {
                let period = ("cpu.cfs_period_us", period_micros.to_string(), false);
                let quota = quota_micros.map(|quota| ("cpu.cfs_quota_us", quota.to_string(), false));
                std::iter::once(period).chain(quota).collect()
            }
            (Asked::Cpu { quota_micros, period_micros }, true) => {
                let quota = quota_micros.filter(|&quota| quota >= 0);
                let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                vec![("cpu.max", format!("{quota} {period_micros}"), false)]
            }
            (Asked::CpuShares(shares), false) => vec![("cpu.shares", shares.to_string(), false)],
            (Asked::CpuShares(shares), true) => vec![("cpu.weight", weight(*shares).to_string(), false)],
            (Asked::Processors(list), _) => vec![("cpuset.cpus", (*list).to_owned(), false)],
            (Asked::Nodes(list), _) => vec![("cpuset.mems", (*list).to_owned(), false)],
            (Asked::Pids(pids), _) => vec![("pids.max", pids.to_string(), false)],
        }
    }
}

impl Swap {
    /// Version 1 limits the sum, version 2 the swap alone.
    fn file(self, v2: bool) -> Setting {
        let (sum, swap, optional) = match self {
            Swap::None { memory_bytes } => (memory_bytes, 0, true),
            Swap::Sum { memory_bytes, bytes } => (bytes, bytes.saturating_sub(memory_bytes), false),
        };
        match v2 {
            false => ("memory.memsw.limit_in_bytes", sum.to_string(), optional),
            true => ("memory.swap.max", swap.to_string(), optional),
        }
    }
}

/// Processor time, however it was asked for.
fn cpu(limits: &Limits) -> Option<Asked<'static>> {
    let quota = limits.nano_cpus.map(quota_micros).or(limits.cpu_quota_micros);
    let period = limits.cpu_period_micros;
    (quota.is_some() || period.is_some())
        .then_some(Asked::Cpu { quota_micros: quota, period_micros: period.unwrap_or(CPU_PERIOD_MICROS) })
}

fn quota_micros(nano_cpus: u64) -> i64 {
    let quota = u128::from(nano_cpus) * u128::from(CPU_PERIOD_MICROS) / 1_000_000_000;
    i64::try_from(quota).unwrap_or(i64::MAX).max(LEAST_CPU_QUOTA_MICROS)
}

/// From v1's shares to v2's weight, as the OCI runtimes have agreed (runc 1.3.2, crun 1.23): a curve through
/// the bounds of both and through the defaults, 1024 and 100.
fn weight(shares: u64) -> u64 {
    const WEIGHTS: (f64, f64) = (1.0, 10_000.0);
    #[allow(clippy::cast_precision_loss, reason = "within the bounds every number has its float")]
    let log = (shares.clamp(CPU_SHARES.0, CPU_SHARES.1) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 10000")]
    let weight = 10f64.powf(exponent).ceil().clamp(WEIGHTS.0, WEIGHTS.1) as u64;
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_kernel_s_numbers() {
        let none = Limits::default;
        let memory = || Limits { memory_bytes: Some(4096), ..none() };
        for (limits, v1, v2) in [
            (none(), "", ""),
            (
                memory(),
                "memory.limit_in_bytes=4096 memory.memsw.limit_in_bytes=4096?",
                "memory.max=4096 memory.oom.group=1? memory.swap.max=0?",
            ),
            (
                Limits { memory_swap_bytes: Some(8192), ..memory() },
                "memory.limit_in_bytes=4096 memory.memsw.limit_in_bytes=8192",
                "memory.max=4096 memory.oom.group=1? memory.swap.max=4096",
            ),
            (
                Limits { memory_swap_bytes: Some(-1), ..memory() },
                "memory.limit_in_bytes=4096",
                "memory.max=4096 memory.oom.group=1?",
            ),
            (
                Limits { nano_cpus: Some(1_500_000_000), ..none() },
                "cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000",
                "cpu.max=150000 100000",
            ),
            (
                Limits { nano_cpus: Some(1), ..none() },
                "cpu.cfs_period_us=100000 cpu.cfs_quota_us=1000",
                "cpu.max=1000 100000",
            ),
            (
                Limits { cpu_quota_micros: Some(-1), cpu_period_micros: Some(50_000), ..none() },
                "cpu.cfs_period_us=50000 cpu.cfs_quota_us=-1",
                "cpu.max=max 50000",
            ),
            (
                Limits { cpu_period_micros: Some(50_000), ..none() },
                "cpu.cfs_period_us=50000",
                "cpu.max=max 50000",
            ),
            (
                Limits { cpu_shares: Some(512), pids: Some(20), ..none() },
                "cpu.shares=512 pids.max=20",
                "cpu.weight=59 pids.max=20",
            ),
            (
                Limits { cpuset_cpus: Some("0-1".into()), cpuset_mems: Some("0".into()), ..none() },
                "cpuset.cpus=0-1 cpuset.mems=0",
                "cpuset.cpus=0-1 cpuset.mems=0",
            ),
        ] {
            for (is_v2, expected) in [(false, v1), (true, v2)] {
                let files = Asked::of(&limits).into_iter().flat_map(|asked| asked.files(is_v2));
                let words: Vec<String> = files
                    .map(|(file, value, optional)| {
                        format!("{file}={value}{}", if optional { "?" } else { "" })
                    })
                    .collect();
                assert_eq!(words.join(" "), expected, "{limits:?}");
            }
        }
    }

    #[test]
    fn shares_become_weights() {
        let table = [(0, 1), (2, 1), (10, 4), (100, 17), (512, 59), (1024, 100), (2048, 174)];
        for (shares, expected) in table.into_iter().chain([(262_144, 10_000), (u64::MAX, 10_000)]) {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }
}
