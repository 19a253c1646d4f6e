//! Values of options that are more than a word: sizes, numbers of processors, pairs, volumes.
//!
//! Each is a type with `FromStr`, whose error is one line for clap to print after the option's name. Nothing
//! is looked up here: whether a path exists is for `request` and the commands. What only a build has is in
//! modules of its own.

mod annotation;
mod attest;
mod build;
mod fields;
mod limit;
mod output;
mod prune;
mod secret;

use std::path::PathBuf;
use std::str::FromStr;

pub(crate) use annotation::Annotation;
pub(crate) use attest::{Attest, ProvenanceArg, SbomArg};
pub(crate) use build::{Act, CacheFilter, Call, ContextArg, Entitlement, ExtraHost, Target};
pub(crate) use limit::{Resources, Ulimit};
pub(crate) use output::{Destination, Export, Files, MethodArg, Output, Push, check_level};
pub(crate) use prune::{PruneFilter, kind_name};
pub(crate) use secret::{Agent, Secret, SecretPlace};

/// A number of bytes, as Docker writes it: `512m`, `1.5g`, `64KiB`, `1024`. Units are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let expected = || "expected a number and a unit: `512m`, `1.5g`, `64k`, `1024`".to_owned();
        let lower = text.trim().to_ascii_lowercase();
        let unit_at = lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len());
        let (number, unit) = lower.split_at(unit_at);
        let shift = match unit {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(expected()),
        };
        decimal(number.trim_end(), 1 << shift).map(Bytes).ok_or_else(expected)
    }
}

/// Billionths of a processor, from a number of processors such as `1.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NanoCpus(pub(crate) u64);

impl FromStr for NanoCpus {
    type Err = String;

    fn from_str(text: &str) -> Result<NanoCpus, String> {
        decimal(text, 1_000_000_000)
            .filter(|nanos| *nanos > 0)
            .map(NanoCpus)
            .ok_or_else(|| "expected a number of processors above 0, such as `1.5`".to_owned())
    }
}

/// `scale` times a decimal number, cut to a whole one; none where the text is no number or the result is large.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let places = u32::try_from(fraction.len()).ok()?;
    let scaled =
        number(whole)? * u128::from(scale) + number(fraction)? * u128::from(scale) / 10_u128.pow(places);
    u64::try_from(scaled).ok().filter(|scaled| *scaled <= i64::MAX as u64)
}

/// `NAME=value`, or `NAME` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Pair, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || name.contains('\0') {
            return Err("expected `NAME=value`".to_owned());
        }
        Ok(Pair { name: name.to_owned(), value })
    }
}

/// A directory or file of the host to show in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) host: PathBuf,
    /// Absolute.
    pub(crate) container: PathBuf,
    pub(crate) read_only: bool,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Volume, String> {
        let mut parts = text.split(':');
        let (Some(host), Some(container), options, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("expected `HOST:CONTAINER` or `HOST:CONTAINER:ro`".to_owned());
        };
        if !host.starts_with(['/', '.']) {
            return Err(format!(
                "named volumes do not exist here: expected a path that begins with `/` or `.`, found `{host}`"
            ));
        }
        if !container.starts_with('/') {
            return Err(format!("expected an absolute path in the container, found `{container}`"));
        }
        let mut read_only = false;
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            match option {
                "ro" | "readonly" => read_only = true,
                "rw" => read_only = false,
                // Docker's: labels of SELinux, which is not used here, hints for other systems, the only kind of
                // propagation that there is, and a choice for named volumes.
                "z" | "Z" | "cached" | "delegated" | "consistent" | "private" | "rprivate" | "nocopy" => {}
                other => return Err(format!("unknown option `{other}`: expected `ro` or `rw`")),
            }
        }
        Ok(Volume { host: host.into(), container: container.into(), read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_writes_them() {
        for (text, expected) in [
            ("1024", Some(1024)),
            ("0", Some(0)),
            ("10b", Some(10)),
            ("64k", Some(64 << 10)),
            ("512m", Some(512 << 20)),
            ("512M", Some(512 << 20)),
            ("512 MiB", Some(512 << 20)),
            ("1.5g", Some(3 << 29)),
            (".5k", Some(512)),
            ("2GB", Some(2 << 30)),
            ("1t", Some(1 << 40)),
            ("", None),
            (".", None),
            ("m", None),
            ("-1m", None),
            ("1x", None),
            ("1e3", None),
            ("1.2.3", None),
            ("99999999999999999999", None),
            ("999999999999999999t", None),
        ] {
            assert_eq!(text.parse::<Bytes>().ok().map(|Bytes(bytes)| bytes), expected, "{text}");
        }
    }

    #[test]
    fn processors_are_positive_decimals() {
        for (text, expected) in [
            ("1", Some(1_000_000_000)),
            ("1.5", Some(1_500_000_000)),
            ("0.000000001", Some(1)),
            ("0", None),
            ("-1", None),
            ("two", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<NanoCpus>().ok().map(|NanoCpus(nanos)| nanos), expected, "{text}");
        }
    }

    #[test]
    fn pairs_keep_later_equals_signs() {
        let pair = |name: &str, value: Option<&str>| Pair { name: name.into(), value: value.map(Into::into) };
        for (text, expected) in
            [("A=b=c", pair("A", Some("b=c"))), ("A=", pair("A", Some(""))), ("A", pair("A", None))]
        {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "=x"] {
            assert!(text.parse::<Pair>().is_err(), "{text}");
        }
    }

    #[test]
    fn volumes_are_paths() {
        let volume = |host: &str, container: &str, read_only| Volume {
            host: host.into(),
            container: container.into(),
            read_only,
        };
        for (text, expected) in [
            ("/a:/b", volume("/a", "/b", false)),
            ("./a:/b:ro", volume("./a", "/b", true)),
            ("..:/b:rw", volume("..", "/b", false)),
            ("/a:/b:ro,z", volume("/a", "/b", true)),
            ("/a:/b:Z,cached", volume("/a", "/b", false)),
            ("/a:/b:delegated,consistent,private,rprivate,nocopy", volume("/a", "/b", false)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["/a", "data:/b", "/a:b", "/a:/b:shared", "/a:/b:ro:x", ":/b", "/a:"] {
            assert!(text.parse::<Volume>().is_err(), "{text}");
        }
    }
}
