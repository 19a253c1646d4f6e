//! Values of `prune` and `du`.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use builder::prune::{Kind, Policy};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PruneFilter {
    /// What was last used before.
    Until(SystemTime),
    /// What has an id that begins so.
    Id(String),
    /// What is of this kind.
    Type(Kind),
}

impl FromStr for PruneFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<PruneFilter, String> {
        match text.split_once('=') {
            Some(("until" | "unused-for", value)) => {
                until(value, SystemTime::now()).map(PruneFilter::Until).ok_or_else(|| {
                    format!("`{value}` is no time: expected `24h`, `1h30m`, seconds since 1970 or `2026-01-02T03:04:05Z`")
                })
            }
            Some(("id", value)) if !value.is_empty() => Ok(PruneFilter::Id(value.to_owned())),
            Some(("type", value)) => KINDS
                .iter()
                .find(|(_, name)| *name == value)
                .map(|(kind, _)| PruneFilter::Type(*kind))
                .ok_or_else(|| {
                    let names: Vec<String> = KINDS.iter().map(|(_, name)| format!("`{name}`")).collect();
                    format!("unknown type `{value}`: expected {}", names.join(", "))
                }),
            _ => Err(format!("unknown filter `{text}`: expected `until=AGE`, `id=ID` or `type=TYPE`")),
        }
    }
}

impl PruneFilter {
    /// All of them together.
    pub(crate) fn policy(filters: &[PruneFilter]) -> Policy {
        let mut policy = Policy::default();
        for filter in filters {
            match filter {
                PruneFilter::Until(time) => {
                    policy.until = Some(policy.until.map_or(*time, |other| other.min(*time)));
                }
                PruneFilter::Id(id) => policy.id = Some(id.clone()),
                PruneFilter::Type(kind) => policy.kinds.push(*kind),
            }
        }
        policy
    }
}

/// BuildKit's names.
const KINDS: [(Kind, &str); 3] = [
    (Kind::Regular, "regular"),
    (Kind::CacheMount, "exec.cachemount"),
    (Kind::Repository, "source.git.checkout"),
];

/// What BuildKit calls it.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("regular", |(_, name)| name)
}

/// A time, or an age before `now`.
fn until(text: &str, now: SystemTime) -> Option<SystemTime> {
    if let Some(age) = age(text) {
        return Some(now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    }
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// Go's durations, and days: `1h30m`, `2d`.
fn age(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest[digits..].chars().next()? {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_docker_reads_them() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, expected) in [
            ("24h", at(1_000_000 - 86_400)),
            ("1h30m", at(1_000_000 - 5400)),
            ("2d1s", at(1_000_000 - 172_801)),
            ("1000", at(1000)),
            ("1970-01-01T00:01:00Z", at(60)),
            ("0s", at(1_000_000)),
            ("", None),
            ("h", None),
            ("24", at(24)),
            ("-1h", None),
            ("1y", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(until(text, now), expected, "{text}");
        }
    }

    #[test]
    fn filters_say_what_is_wrong_with_them() {
        for (text, expected) in [
            ("until=x", "`x` is no time: expected `24h`"),
            ("type=x", "unknown type `x`: expected `regular`, `exec.cachemount`, `source.git.checkout`"),
            ("label=x", "unknown filter `label=x`: expected"),
            ("id=", "unknown filter `id=`"),
        ] {
            let error = text.parse::<PruneFilter>().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        assert_eq!("type=exec.cachemount".parse(), Ok(PruneFilter::Type(Kind::CacheMount)));
        let filters = ["id=a", "type=regular"].map(|text| text.parse().unwrap());
        let policy = PruneFilter::policy(&filters);
        assert_eq!((policy.id.as_deref(), &policy.kinds[..]), (Some("a"), &[Kind::Regular][..]));
    }
}
