//! What a container may use up, and whether that can be meant: Docker's limits, as plain data.
//!
//! What does not live here: enforcing them (`cgroup`), and the limits of one process (`process::Rlimit`).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Limit, Result};

/// What a container may use up. Nothing asked, nothing limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory; swap included, unless `memory_swap_bytes` says otherwise.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory and swap together; -1 for as much swap as there is. Needs `memory_bytes`.
    pub memory_swap_bytes: Option<i64>,
    /// Processor time: billionths of a processor.
    pub nano_cpus: Option<u64>,
    /// The container's part of processors that others want too; 1024 is what any other has.
    pub cpu_shares: Option<u64>,
    /// The time over which `cpu_quota_micros` may be used up; 100000 if none. Not
    /// beside `nano_cpus`.
    pub cpu_period_micros: Option<u64>,
    /// Processor time in each period; -1 for no limit. Not beside `nano_cpus`.
    pub cpu_quota_micros: Option<i64>,
    /// The processors that it may run on, as the kernel writes a list: `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes that it may use, written alike.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Limits {
    /// Whether they can be meant: that no two contradict each other and the kernel could take each. Starting
    /// a container checks this first.
    ///
    /// # Errors
    /// [`Error::InvalidLimit`] for the first that cannot.
    pub fn check(&self) -> Result<()> {
        self.check_memory()?;
        self.check_processor()?;
        for (limit, list) in [(Limit::Processors, &self.cpuset_cpus), (Limit::Nodes, &self.cpuset_mems)] {
            if let Some(list) = list.as_deref().filter(|list| !is_list(list)) {
                return Err(invalid(limit, list, "numbers and ranges such as `0-3,7`"));
            }
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<()> {
        let expected = match (self.memory_swap_bytes, self.memory_bytes) {
            (None | Some(-1), _) => return Ok(()),
            (Some(_), None) => "a limit of memory beside it",
            (Some(sum), Some(memory)) if u64::try_from(sum).is_ok_and(|sum| sum >= memory) => return Ok(()),
            (Some(_), Some(_)) => "-1, or at least the limit of memory, which it includes",
        };
        Err(invalid(Limit::Swap, &self.memory_swap_bytes.unwrap_or_default().to_string(), expected))
    }

    fn check_processor(&self) -> Result<()> {
        let (quota, period) = (self.cpu_quota_micros, self.cpu_period_micros);
        let both = quota.map(|quota| format!("a quota of {quota}"));
        let both = both.or(period.map(|period| format!("a period of {period}")));
        if let (Some(_), Some(found)) = (self.nano_cpus, both) {
            return Err(invalid(Limit::Cpu, &found, "nothing beside a number of processors"));
        }
        if let Some(quota) = quota.filter(|&quota| quota != -1 && quota < LEAST_QUOTA_MICROS) {
            return Err(invalid(Limit::Cpu, &format!("a quota of {quota}"), "-1, or at least 1000"));
        }
        match period.filter(|period| !PERIODS_MICROS.contains(period)) {
            Some(period) => Err(invalid(Limit::Cpu, &format!("a period of {period}"), "1000 to 1000000")),
            None => Ok(()),
        }
    }
}

/// The kernel refuses smaller quotas.
const LEAST_QUOTA_MICROS: i64 = 1_000;
/// The kernel refuses other periods.
const PERIODS_MICROS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;

fn invalid(limit: Limit, text: &str, expected: &'static str) -> Error {
    Error::InvalidLimit { limit, text: text.to_owned(), expected }
}

/// Whether a text is a list of numbers and ascending ranges, cpuset(7)'s "List format". Strides (`0-6:2`)
/// are left out, as Docker has it.
fn is_list(text: &str) -> bool {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits)
    };
    text.split(',').all(|part| match part.split_once('-') {
        None => number(part).is_some(),
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_numbers_and_ranges() {
        for (text, expected) in [
            ("0", true),
            ("0-1", true),
            ("0,2-3,7", true),
            ("3-3", true),
            ("", false),
            (",", false),
            ("0,", false),
            ("1-0", false),
            ("-1", false),
            ("0-", false),
            ("+1", false),
            ("0 1", false),
            ("0\n", false),
            ("a", false),
            ("70000", false),
        ] {
            assert_eq!(is_list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let none = Limits::default;
        for (limits, expected) in [
            (none(), None),
            (Limits { memory_swap_bytes: Some(-1), ..none() }, None),
            (Limits { memory_bytes: Some(8), memory_swap_bytes: Some(8), ..none() }, None),
            (
                Limits { memory_bytes: Some(8), memory_swap_bytes: Some(7), ..none() },
                Some(
                    "cannot limit memory and swap: expected -1, or at least the limit of memory, which it \
                     includes, found `7`",
                ),
            ),
            (
                Limits { memory_swap_bytes: Some(7), ..none() },
                Some("cannot limit memory and swap: expected a limit of memory beside it, found `7`"),
            ),
            (
                Limits { cpu_quota_micros: Some(50_000), nano_cpus: Some(1), ..none() },
                Some(
                    "cannot limit the processor: expected nothing beside a number of processors, found `a quota \
                     of 50000`",
                ),
            ),
            (Limits { cpu_quota_micros: Some(-1), cpu_period_micros: Some(1000), ..none() }, None),
            (
                Limits { cpu_quota_micros: Some(999), ..none() },
                Some("cannot limit the processor: expected -1, or at least 1000, found `a quota of 999`"),
            ),
            (
                Limits { cpu_period_micros: Some(1_000_001), ..none() },
                Some("cannot limit the processor: expected 1000 to 1000000, found `a period of 1000001`"),
            ),
            (Limits { cpuset_cpus: Some("0".into()), cpuset_mems: Some("0".into()), ..none() }, None),
            (
                Limits { cpuset_mems: Some("0-".into()), ..none() },
                Some(
                    "cannot limit the memory nodes: expected numbers and ranges such as `0-3,7`, found `0-`",
                ),
            ),
        ] {
            let found = limits.check().err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), expected, "{limits:?}");
        }
    }
}
