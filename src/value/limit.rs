//! `--ulimit` and `--resource`: how much a step may use.

use std::str::FromStr;

use runner::Resource;

use super::{Bytes, fields};

/// `NAME=SOFT[:HARD]`; -1 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ulimit(pub(crate) runner::Rlimit);

/// The names that `docker run --ulimit` knows, those of getrlimit(2).
const ULIMITS: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

impl FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Ulimit, String> {
        let expected = || format!("expected `NAME=SOFT` or `NAME=SOFT:HARD`, found `{text}`");
        let (name, limits) = text.split_once('=').ok_or_else(expected)?;
        let Some((_, resource)) = ULIMITS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = ULIMITS.iter().map(|(known, _)| *known).collect();
            return Err(format!("unknown limit `{name}`: expected one of {}", known.join(", ")));
        };
        let number = |text: &str| match text {
            "-1" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (Some(soft), Some(hard)) = (number(soft), number(hard)) else { return Err(expected()) };
        // No limit is more than any limit.
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(format!("the soft limit is above the hard one in `{text}`"));
        }
        Ok(Ulimit(runner::Rlimit { resource: *resource, soft, hard }))
    }
}

/// `memory=SIZE,memory-swap=SIZE,cpu-shares=N,cpu-period=N,cpu-quota=N,cpuset-cpus=LIST,cpuset-mems=LIST`, or
/// some of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) memory_swap_bytes: Option<i64>,
    pub(crate) cpu_shares: Option<u64>,
    pub(crate) cpu_period_micros: Option<u64>,
    pub(crate) cpu_quota_micros: Option<i64>,
    pub(crate) cpuset_cpus: Option<String>,
    pub(crate) cpuset_mems: Option<String>,
}

impl FromStr for Resources {
    type Err = String;

    fn from_str(text: &str) -> Result<Resources, String> {
        let mut resources = Resources::default();
        for (key, value) in fields::pairs(text)? {
            let bad = |what: &str| format!("`{key}`: expected {what}, found `{value}`");
            let bytes = || value.parse().map(|Bytes(bytes)| bytes).map_err(|_| bad("a size such as `512m`"));
            let count = || value.parse::<u64>().map_err(|_| bad("a number"));
            match key.as_str() {
                "memory" => resources.memory_bytes = Some(bytes()?),
                "memory-swap" if value == "-1" => resources.memory_swap_bytes = Some(-1),
                "memory-swap" => {
                    resources.memory_swap_bytes = i64::try_from(bytes()?).ok();
                }
                "cpu-shares" => resources.cpu_shares = Some(count()?),
                "cpu-period" => resources.cpu_period_micros = Some(count()?),
                "cpu-quota" => {
                    resources.cpu_quota_micros = Some(value.parse().map_err(|_| bad("microseconds or -1"))?);
                }
                "cpuset-cpus" => resources.cpuset_cpus = Some(value),
                "cpuset-mems" => resources.cpuset_mems = Some(value),
                _ => {
                    return Err(format!(
                        "unknown resource `{key}`: expected memory, memory-swap, cpu-shares, cpu-period, \
                         cpu-quota, cpuset-cpus or cpuset-mems"
                    ));
                }
            }
        }
        Ok(resources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_as_docker_writes_them() {
        for (text, resource, soft, hard) in [
            ("nofile=1024", Resource::Nofile, Some(1024), Some(1024)),
            ("nofile=1024:2048", Resource::Nofile, Some(1024), Some(2048)),
            ("core=0:-1", Resource::Core, Some(0), None),
            ("memlock=-1", Resource::Memlock, None, None),
            ("stack=-1:-1", Resource::Stack, None, None),
        ] {
            assert_eq!(text.parse(), Ok(Ulimit(runner::Rlimit { resource, soft, hard })), "{text}");
        }
        for (text, expected) in [
            ("nofile", "expected `NAME=SOFT`"),
            ("nofile=", "expected `NAME=SOFT`"),
            ("nofile=a", "expected `NAME=SOFT`"),
            ("nofile=-2", "expected `NAME=SOFT`"),
            ("nofile=1:2:3", "expected `NAME=SOFT`"),
            ("nofile=2:1", "above the hard one"),
            ("nofile=-1:1", "above the hard one"),
            ("files=1", "unknown limit `files`"),
            ("", "expected `NAME=SOFT`"),
        ] {
            let error = text.parse::<Ulimit>().expect_err(text);
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn resources_are_a_list() {
        let parsed = "memory=512m,memory-swap=-1,cpu-shares=2,\"cpuset-cpus=0,1\",cpu-quota=-1,cpu-period=5";
        let expected = Resources {
            memory_bytes: Some(512 << 20),
            memory_swap_bytes: Some(-1),
            cpu_shares: Some(2),
            cpu_period_micros: Some(5),
            cpu_quota_micros: Some(-1),
            cpuset_cpus: Some("0,1".into()),
            cpuset_mems: None,
        };
        assert_eq!(parsed.parse(), Ok(expected));
        assert_eq!("memory-swap=1g".parse::<Resources>().unwrap().memory_swap_bytes, Some(1 << 30));
        for (text, expected) in [
            ("memory", "key=value"),
            ("memory=lots", "`memory`: expected a size"),
            ("cpus=2", "unknown resource `cpus`"),
            ("cpu-shares=-1", "`cpu-shares`: expected a number"),
            ("cpu-quota=x", "`cpu-quota`: expected microseconds"),
            ("cpuset-cpus=0,1", "found `1`"),
        ] {
            let error = text.parse::<Resources>().expect_err(text);
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
